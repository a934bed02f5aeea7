#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/rights.h"

static void *thread(void *opaque)
{
	*(int *)opaque = 1;
	return NULL;
}

/* In a child, since there is no way back; returns the line that failed. */
#define WANT(cond)                                 \
	do {                                       \
		if (!(cond))                       \
			_exit(__LINE__ % 250 + 1); \
	} while (0)

static void inside(enum rights_role role)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct cap[2];
	char *argv[] = { "/bin/true", NULL };
	pthread_t t;
	int ran = 0, fd = -1;

	(void)argv;
	(void)fd;
	WANT(rights_drop(role, NULL) == 0);
	WANT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
#ifndef __SANITIZE_ADDRESS__ /* see rights.c */
	WANT(execve(argv[0], argv, NULL) < 0 && errno == EPERM);
	WANT(syscall(SYS_fork) < 0 && errno == EPERM);
	WANT(fork() < 0);
	WANT(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == EPERM);
	WANT(mount("x", "/", "tmpfs", 0, NULL) < 0 && errno == EPERM);
	WANT(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM);
	WANT(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM);

	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (role == RIGHTS_NIC)
		WANT(fd >= 0 || errno == EPERM);
	else
		WANT(fd < 0 && errno == EAFNOSUPPORT);
#endif
	WANT(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
	WANT(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	WANT(eventfd(0, 0) >= 0);

	WANT(syscall(SYS_capget, &head, cap) == 0);
	WANT(!(cap[0].permitted & 1u << CAP_SYS_ADMIN));
	WANT(!(cap[0].permitted & 1u << CAP_SYS_PTRACE));
	WANT(!(cap[0].permitted & 1u << CAP_SETUID));
	WANT(role == RIGHTS_NIC || !(cap[0].permitted & 1u << CAP_NET_ADMIN));
	WANT(geteuid() != 0 || (cap[0].effective & 1u << CAP_IPC_LOCK) ||
	     !(cap[0].permitted & 1u << CAP_IPC_LOCK));

	WANT(pthread_create(&t, NULL, thread, &ran) == 0);
	pthread_join(t, NULL);
	WANT(ran);
	_exit(0);
}

static void roles_keep_what_they_need(void **state)
{
	for (int role = RIGHTS_VM; role <= RIGHTS_NIC; role++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			inside((enum rights_role)role);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(roles_keep_what_they_need),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
