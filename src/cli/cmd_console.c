/*
 * pagurus console: this terminal is the guest's.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"

#define ESCAPE 0x1d /* Ctrl-] */

static const struct opt_usage usage = {
	.synopsis = "console [OPTIONS] NAME",
	.about = "Connect this terminal to the serial console of a running "
		 "virtual machine. Ctrl-] disconnects.",
	.after = "Exit status: 0 disconnected, or the VM has ended; 1 no such "
		 "VM.",
};

static int put_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Until either side has had enough. */
static void relay(int fd, bool terminal)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .fd = fd, .events = POLLIN } };
	char buf[4096], *esc;
	ssize_t n;

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents) {
			n = recv(fd, buf, sizeof(buf), 0);
			if (n <= 0 ||
			    put_all(STDOUT_FILENO, buf, (size_t)n) < 0)
				return;
		}
		if (!p[0].revents)
			continue;
		n = read(STDIN_FILENO, buf, sizeof(buf));
		if (n <= 0) {
			p[0].fd = -1; /* a script may still wait for output */
			continue;
		}
		esc = terminal ? memchr(buf, ESCAPE, (size_t)n) : NULL;
		if (put_all(fd, buf, esc ? (size_t)(esc - buf) : (size_t)n) < 0)
			return;
		if (esc)
			return;
	}
}

int cmd_console(int argc, char **argv)
{
	const char *dir = NULL;
	const struct opt opts[] = {
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &dir },
		{ 0 },
	};
	struct termios saved, raw;
	struct ctl_client *c;
	struct err e = { 0 };
	bool terminal;
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n == OPT_HELP)
		return 0;
	if (n == OPT_BAD)
		return EXIT_USAGE;
	if (n != 1)
		return opt_misuse(&usage, "which VM?");
	ret = ctl_connect(&c, dir, argv[1], &e);
	if (ret < 0)
		return cmd_fail("console", &e, ret);
	ret = ctl_ask(c, "console", NULL, NULL, NULL, NULL, &e);
	if (ret < 0) {
		ctl_close(c);
		return cmd_fail("console", &e, ret);
	}

	terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
	if (terminal) {
		fprintf(stderr, "connected to %s; Ctrl-] disconnects\n",
			argv[1]);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	relay(ctl_fd(c), terminal);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
		fputs("\ndisconnected\n", stderr);
	}
	ctl_close(c);
	return 0;
}
