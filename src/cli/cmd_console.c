/*
 * pagurus console: this terminal is the guest's.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"

#define ESCAPE 0x1d /* Ctrl-] */

static const struct opt_usage usage = {
	.synopsis = "console [OPTIONS] NAME",
	.about = "Connect this terminal to the serial console of a running "
		 "virtual machine. Ctrl-] disconnects.",
	.after = "Exit status: 0 disconnected, or the VM has ended; 1 no such "
		 "VM; 64 the command\nline is wrong.",
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

/*
 * Signals that end us come as bytes, so that the terminal is put right first;
 * a reader of ours that has gone shows in write().
 */
static int open_signals(sigset_t *before)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, before);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* From the keyboard to the guest; false: that was the end. */
static bool type(struct pollfd *in, int fd, bool terminal)
{
	char buf[4096], *esc;
	ssize_t n = read(in->fd, buf, sizeof(buf));

	if (n <= 0) {
		in->fd = -1; /* a script may still wait for output */
		return !terminal;
	}
	esc = terminal ? memchr(buf, ESCAPE, (size_t)n) : NULL;
	return put_all(fd, buf, esc ? (size_t)(esc - buf) : (size_t)n) == 0 &&
	       !esc;
}

/* Until either side has had enough; the signal that ended it, or 0. */
static int relay(int fd, int signals, bool terminal)
{
	struct pollfd p[3] = { { .fd = STDIN_FILENO, .events = POLLIN },
			       { .fd = fd, .events = POLLIN },
			       { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo si;
	char buf[4096];
	ssize_t n;

	for (;;) {
		if (poll(p, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			return 0;
		}
		if (p[2].revents && read(signals, &si, sizeof(si)) > 0)
			return (int)si.ssi_signo;
		if (p[1].revents) {
			n = recv(fd, buf, sizeof(buf), 0);
			if (n <= 0 ||
			    put_all(STDOUT_FILENO, buf, (size_t)n) < 0)
				return 0;
		}
		if (p[0].revents && !type(&p[0], fd, terminal))
			return 0;
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
	sigset_t before;
	bool terminal;
	int n = opt_parse(opts, &usage, argc, argv), ret, signals, end;

	if (n < 0)
		return opt_exit(n);
	if (n != 1)
		return opt_misuse(&usage, "which VM?");
	ret = ctl_connect(&c, dir, argv[1], &e);
	if (ret < 0)
		return cmd_fail("console", &e, ret);
	ctl_patience(c, CTL_PATIENCE_MS);
	ret = ctl_ask(c, "console", NULL, NULL, NULL, NULL, &e);
	if (ret < 0) {
		ctl_close(c);
		return cmd_fail("console", &e, ret);
	}

	signals = open_signals(&before);
	terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
	if (terminal) {
		fprintf(stderr, "connected to %s; Ctrl-] disconnects\n",
			argv[1]);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	end = relay(ctl_fd(c), signals, terminal);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
		fputs("\ndisconnected\n", stderr);
	}
	ctl_close(c);
	close_fd(&signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (end)
		raise(end);
	return 0;
}
