/*
 * The broker is asked by a process that a guest may have taken over: what it
 * refuses, and that it goes on and ends when it should.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "igb/hostpf.h"

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };

static void *serve(void *arg)
{
	hostpf_serve(*(int *)arg);
	return NULL;
}

/* What it answers to these bytes. */
static int32_t answer(int fd, const void *buf, size_t len)
{
	char back[1024];
	int32_t ret;

	assert_int_equal(send(fd, buf, len, 0), len);
	assert_true(recv(fd, back, sizeof(back), 0) > (ssize_t)sizeof(ret));
	memcpy(&ret, back, sizeof(ret));
	return ret;
}

static void only_addresses_of_guests_vfs(void **state)
{
	static const struct {
		const char *bdf;
		uint8_t first; /* byte of the address */
		int32_t ret;
	} row[] = {
		{ "0000:ff:1f.7", 2, -EPERM }, /* no such device */
		{ "0000:ff:1f.7", 3, -EINVAL }, { "../../../etc", 2, -EINVAL },
		{ "0000:00:1f", 2, -EINVAL },	{ "", 2, -EINVAL },
	};
	char ask[38] = { 0 };
	pthread_t t;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	assert_int_equal(pthread_create(&t, NULL, serve, &sv[1]), 0);
	for (unsigned int i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		memset(ask, 0, sizeof(ask));
		strcpy(ask, row[i].bdf);
		ask[32] = (char)row[i].first;
		assert_int_equal(answer(sv[0], ask, sizeof(ask)), row[i].ret);
	}
	memset(ask, 'x', 32); /* no end */
	assert_int_equal(answer(sv[0], ask, sizeof(ask)), -EINVAL);
	assert_int_equal(answer(sv[0], ask, 1), -EPROTO);
	assert_int_equal(answer(sv[0], ask, sizeof(ask) - 1), -EPROTO);
	close(sv[0]);
	pthread_join(t, NULL);
	close(sv[1]);
}

static int drop(struct err *e)
{
	return 0;
}

static int refuses(struct err *e)
{
	return err_set(e, -EPERM, "no");
}

/* In processes of their own: there is one broker a process. */
static int child(int (*fn)(struct err *e), const char *want)
{
	struct err e = { 0 };

	if (hostpf_broker_start(fn, &e) < 0)
		return 1;
	if (hostpf_set_mac("0000:ff:1f.7,vf-token=x", mac, &e) >= 0)
		return 2;
	return strstr(e.text, want) ? 0 : 3;
}

static void as(int (*fn)(struct err *e), const char *want)
{
	pid_t pid = fork();
	int st;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(fn, want));
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(st, 0);
}

static void asked_through_the_broker(void **state)
{
	as(drop, "0000:ff:1f.7 is not bound to vfio-pci");
	/* One that cannot give up its rights does nothing with them. */
	as(refuses, "sets addresses any more");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_addresses_of_guests_vfs),
		cmocka_unit_test(asked_through_the_broker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
