/*
 * The one right a VM's process needs after it has given up all others: to
 * have its own VFs' addresses set by the host's PF driver.  It stays with a
 * process that does nothing else, and that a hostile VM can ask for no more
 * than a unicast address on a VF which is bound to vfio-pci.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "igb/hostpf.h"
#include "igb/hostpf_priv.h"

struct ask {
	char bdf[32]; /* ends in a zero */
	uint8_t mac[6];
};

struct answer {
	int32_t ret;
	char text[480];
};

static int broker = -1;

/* 0000:01:10.0 and nothing else: it becomes part of a path. */
static bool is_bdf(const char *s)
{
	return strlen(s) == 12 && strspn(s, "0123456789abcdefABCDEF:.") == 12 &&
	       s[4] == ':' && s[7] == ':' && s[10] == '.';
}

static bool is_for_guests(const char *bdf)
{
	char path[80], link[256];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", bdf);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	slash = strrchr(link, '/');
	return slash && !strcmp(slash + 1, "vfio-pci");
}

static int judge(const struct ask *a, struct err *e)
{
	static const uint8_t none[6];

	if (!memchr(a->bdf, 0, sizeof(a->bdf)) || !is_bdf(a->bdf))
		return err_set(e, -EINVAL, "that is no PCI address");
	if (a->mac[0] & 1 || !memcmp(a->mac, none, 6))
		return err_set(e, -EINVAL, "%s: not a unicast address", a->bdf);
	if (!is_for_guests(a->bdf))
		return err_set(e, -EPERM, "%s is not bound to vfio-pci",
			       a->bdf);
	return hostpf_set_mac_here(a->bdf, a->mac, e);
}

void hostpf_serve(int fd)
{
	struct ask a;
	ssize_t n;

	while ((n = recv(fd, &a, sizeof(a), 0)) > 0) {
		struct answer back = { 0 };
		struct err e = { 0 };

		if (n == sizeof(a))
			back.ret = judge(&a, &e);
		else
			back.ret = err_set(&e, -EPROTO, "that is no request");
		snprintf(back.text, sizeof(back.text), "%s", e.text);
		if (send(fd, &back, sizeof(back), MSG_NOSIGNAL) < 0)
			break;
	}
}

int hostpf_broker_start(int (*drop)(struct err *e), struct err *e)
{
	int sv[2];
	pid_t pid;

	if (broker >= 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_sys(e, -errno, "socketpair");
	pid = fork();
	if (pid < 0) {
		close(sv[0]);
		close(sv[1]);
		return err_sys(e, -errno, "fork");
	}
	if (pid == 0) {
		close(sv[0]);
		prctl(PR_SET_NAME, "pagurus-hostpf");
		/* A terminal's Ctrl-C is for the VM, which then closes. */
		signal(SIGINT, SIG_IGN);
		if (drop(e) == 0)
			hostpf_serve(sv[1]);
		_exit(0);
	}
	close(sv[1]);
	broker = sv[0];
	return 0;
}

int hostpf_set_mac(const char *spec, const uint8_t mac[6], struct err *e)
{
	struct answer back;
	struct ask a = { .bdf = "" };

	hostpf_bdf(a.bdf, sizeof(a.bdf), spec);
	memcpy(a.mac, mac, sizeof(a.mac));
	if (broker < 0)
		return hostpf_set_mac_here(a.bdf, mac, e);
	/* Gone before it is asked, or before it has answered: all one. */
	if (send(broker, &a, sizeof(a), MSG_NOSIGNAL) < 0 ||
	    recv(broker, &back, sizeof(back), 0) != sizeof(back))
		return err_set(e, -EPIPE, "%s: nobody sets addresses any more",
			       a.bdf);
	back.text[sizeof(back.text) - 1] = '\0';
	return back.ret < 0 ? err_set(e, back.ret, "%s", back.text) : 0;
}
