#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/sock.h"

static char dir[64], path[96];

static int setup(void **state)
{
	strcpy(dir, "/tmp/pagurus-sock-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void only_the_owner_may_connect(void **state)
{
	struct stat st;
	int fd = sock_listen(path, SOCK_STREAM, NULL);

	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(fd);
}

static void a_live_name_is_refused_and_a_dead_one_taken(void **state)
{
	struct err e = { 0 };
	int fd = sock_listen(path, SOCK_STREAM, NULL);

	assert_int_equal(sock_listen(path, SOCK_STREAM, &e), -EADDRINUSE);
	assert_non_null(strstr(e.text, path));
	close(fd); /* as after kill -9: the name stays */
	fd = sock_listen(path, SOCK_STREAM, NULL);
	assert_true(fd >= 0);
	close(fd);
}

enum { RACERS = 4 };

struct racer {
	pthread_barrier_t *start;
	int fd;
};

static void *race(void *opaque)
{
	struct racer *r = opaque;

	pthread_barrier_wait(r->start);
	r->fd = sock_listen(path, SOCK_STREAM, NULL);
	return NULL;
}

/* Several at once after a kill -9: one gets the name. */
static void a_dead_name_is_taken_once(void **state)
{
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, RACERS);
	for (int round = 0; round < 500; round++) {
		int fd = sock_listen(path, SOCK_STREAM, NULL), won = 0;
		struct racer r[RACERS];
		pthread_t t[RACERS];

		assert_true(fd >= 0);
		close(fd);
		for (int i = 0; i < RACERS; i++) {
			r[i] = (struct racer){ &start, -1 };
			assert_int_equal(
				pthread_create(&t[i], NULL, race, &r[i]), 0);
		}
		for (int i = 0; i < RACERS; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < RACERS; i++) {
			won += r[i].fd >= 0;
			if (r[i].fd >= 0)
				close(r[i].fd);
			else
				assert_int_equal(r[i].fd, -EADDRINUSE);
		}
		assert_int_equal(won, 1);
	}
	pthread_barrier_destroy(&start);
}

static void *listens(void *opaque)
{
	*(int *)opaque = sock_listen(path, SOCK_STREAM, NULL);
	return NULL;
}

/* Whoever waits for a name to appear may connect to it at once. */
static void a_name_that_is_there_answers(void **state)
{
	for (int i = 0; i < 500; i++) {
		int fd = -1, to;
		struct stat st;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, listens, &fd), 0);
		while (stat(path, &st) < 0)
			;
		to = sock_connect(path, SOCK_STREAM, NULL);
		pthread_join(t, NULL);
		assert_true(fd >= 0);
		if (to < 0)
			fail_msg("connection %d: %s", i, strerror(-to));
		close(to);
		close(fd);
		unlink(path);
	}
}

static void a_file_is_not_removed(void **state)
{
	struct err e = { 0 };
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	assert_int_equal(sock_listen(path, SOCK_STREAM, &e), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
}

static void who_accepts_nothing_is_given_up_on(void **state)
{
	int fd = sock_listen(path, SOCK_STREAM, NULL), c[200], n = 0;

	assert_true(fd >= 0);
	do
		c[n] = sock_connect(path, SOCK_STREAM, NULL);
	while (c[n] >= 0 && ++n < 200);
	assert_in_range(n, 1, 199);
	assert_int_equal(c[n], -ETIMEDOUT);
	while (n)
		close(c[--n]);
	close(fd);
}

static void long_paths_are_named(void **state)
{
	char big[300];
	struct err e = { 0 };

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(sock_connect(big, SOCK_STREAM, &e), -ENAMETOOLONG);
	assert_int_equal(sock_listen("", SOCK_STREAM, NULL), -ENAMETOOLONG);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void descriptors_travel_and_do_not_leak(void **state)
{
	int sv[2], p[2], send[3], got[2], before;
	size_t n = 2;
	char buf[8];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(pipe(p), 0);
	send[0] = send[1] = send[2] = p[1];
	before = open_fds();
	assert_int_equal(sock_send(sv[0], "hey", 3, send, 3), 0);
	assert_int_equal(sock_recv(sv[1], buf, sizeof(buf), got, &n), 3);
	assert_int_equal(n, 2);
	assert_int_equal(open_fds(), before + 2); /* the third is closed */
	assert_int_equal(write(got[1], "x", 1), 1);
	assert_int_equal(read(p[0], buf, 1), 1);
	close(got[0]);
	close(got[1]);
	close(p[0]);
	close(p[1]);
	close(sv[0]);
	assert_int_equal(sock_recv(sv[1], buf, sizeof(buf), NULL, NULL), 0);
	assert_int_equal(sock_send(sv[1], "x", 1, NULL, 0), -EPIPE);
	close(sv[1]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(only_the_owner_may_connect),
		T(a_live_name_is_refused_and_a_dead_one_taken),
		T(a_dead_name_is_taken_once),
		T(a_name_that_is_there_answers),
		T(a_file_is_not_removed),
		T(who_accepts_nothing_is_given_up_on),
		T(long_paths_are_named),
		T(descriptors_travel_and_do_not_leak),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
