#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/sock.h"
#include "base/util.h"
#include "machine/console.h"

#define RING (64u << 10)

struct bench {
	struct loop *l;
	struct console *c;
	char in[1024];
	size_t in_len, room; /* what the guest's port still takes */
};

static size_t take(void *opaque, const void *buf, size_t len)
{
	struct bench *b = opaque;
	size_t n = MIN(len, b->room);

	memcpy(b->in + b->in_len, buf, n);
	b->in_len += n;
	b->room -= n;
	return n;
}

static int setup(void **state)
{
	static struct bench b;

	b = (struct bench){ .room = sizeof(b.in) };
	*state = &b;
	if (loop_create(&b.l) < 0 ||
	    console_create(&b.c, b.l, NULL, NULL, NULL, NULL) < 0)
		return -1;
	console_connect(b.c, take, &b);
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	console_destroy(b->c);
	loop_destroy(b->l);
	return 0;
}

static int join(struct bench *b)
{
	int fd[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(console_attach(b->c, fd[0]), 0);
	return fd[1];
}

static void turn(struct bench *b)
{
	for (int i = 0; i < 5; i++)
		loop_once(b->l, 5);
}

static void all_read_and_all_type(void **state)
{
	struct bench *b = *state;
	int one, two, late;
	char buf[64] = "";

	one = join(b);
	two = join(b);
	console_output(b->c, "hello", 5);
	turn(b);
	assert_int_equal(read(one, buf, sizeof(buf)), 5);
	assert_int_equal(read(two, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);

	/* What was said before is not repeated. */
	late = join(b);
	turn(b);
	assert_int_equal(read(late, buf, sizeof(buf)), -1);
	assert_int_equal(errno, EAGAIN);

	assert_int_equal(write(one, "ab", 2), 2);
	turn(b);
	assert_int_equal(write(late, "c", 1), 1);
	turn(b);
	assert_int_equal(b->in_len, 3);
	assert_memory_equal(b->in, "abc", 3);

	/* One that leaves is in nobody's way. */
	close(one);
	turn(b);
	console_output(b->c, "x", 1);
	turn(b);
	assert_int_equal(read(two, buf, sizeof(buf)), 1);
	close(two);
	close(late);
	for (int i = 0; i < 20; i++) {
		turn(b);
		close(join(b));
	}
}

static void a_slow_reader_misses_some(void **state)
{
	struct bench *b = *state;
	static char big[8 * RING], got[8 * RING];
	int slow = join(b), quick = join(b);
	size_t n = 0;
	ssize_t r;

	for (size_t i = 0; i < sizeof(big); i += 4)
		snprintf(big + i, 5 <= sizeof(big) - i ? 5 : sizeof(big) - i,
			 "%03zx.", i / 4 & 0xfff);
	for (size_t i = 0; i < sizeof(big); i += RING / 2) {
		console_output(b->c, big + i, RING / 2);
		loop_once(b->l, 0);
		while ((r = read(quick, got + n, sizeof(got) - n)) > 0)
			n += (size_t)r;
	}
	for (int i = 0; i < 10; i++) {
		turn(b);
		while ((r = read(quick, got + n, sizeof(got) - n)) > 0)
			n += (size_t)r;
	}
	/* The quick one has it all, whatever the slow one does. */
	assert_int_equal(n, sizeof(big));
	assert_memory_equal(got, big, sizeof(big) - 1);

	/* The slow one has less, and has the end. */
	n = 0;
	for (int i = 0; i < 60; i++) {
		while ((r = read(slow, got + n, sizeof(got) - n)) > 0)
			n += (size_t)r;
		loop_once(b->l, 5);
	}
	assert_true(n >= RING && n < sizeof(big));
	assert_memory_equal(got + n - 64, big + sizeof(big) - 64, 63);
	close(slow);
	close(quick);
}

static void input_waits_for_room(void **state)
{
	struct bench *b = *state;
	int fd = join(b);

	b->room = 2;
	assert_int_equal(write(fd, "abcdef", 6), 6);
	turn(b);
	assert_int_equal(b->in_len, 2);
	b->room = 3;
	turn(b);
	assert_int_equal(b->in_len, 5);
	b->room = 100;
	turn(b);
	assert_int_equal(b->in_len, 6);
	assert_memory_equal(b->in, "abcdef", 6);
	assert_int_equal(write(fd, "g", 1), 1);
	turn(b);
	assert_int_equal(b->in_len, 7);
	close(fd);
}

static void a_socket_is_listened_on(void **state)
{
	struct bench *b = *state;
	char path[64], buf[8];
	struct console *c;
	struct err e = { 0 };
	int fd;

	snprintf(path, sizeof(path), "/tmp/console-test-%d", (int)getpid());
	assert_int_equal(console_create(&c, b->l, path, NULL, NULL, &e), 0);
	fd = sock_connect(path, SOCK_STREAM, NULL);
	assert_true(fd >= 0);
	turn(b);
	console_output(c, "y", 1);
	console_flush(c);
	assert_int_equal(read(fd, buf, sizeof(buf)), 1);
	console_destroy(c);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	close(fd);

	assert_true(console_create(&c, b->l, "/nonexistent/x", NULL, NULL, &e) <
		    0);
	assert_non_null(strstr(e.text, "/nonexistent/x"));
}

#define WITH(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(all_read_and_all_type),
		WITH(a_slow_reader_misses_some),
		WITH(input_waits_for_room),
		WITH(a_socket_is_listened_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
