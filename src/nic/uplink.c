/*
 * Batches both ways: frames to send are collected and go out with one
 * sendmmsg() at the end of the nic's round, received ones come by
 * recvmmsg().  A TAP device knows neither and gets a call a frame.
 */
#include "nic/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "nic/vnet.h"

#define BATCH	   32u
#define FRAME_MAX  10240u
#define IN_MAX	   (65536u + 64)
#define ROUNDS	   4u		/* of receiving, before others get a turn */
#define RETRY_NS   100000000ull /* between tries to reach a missing peer */
#define SOCK_BYTES (4 << 20)

enum kind { UP_NONE, UP_UNIX, UP_TAP, UP_PACKET };

struct ring {
	uint8_t buf[BATCH][FRAME_MAX];
	uint32_t len[BATCH];
	unsigned int first, n;
};

/* A packet socket brings what the kernel merged, up to 64 KiB. */
struct in_ring {
	uint8_t buf[BATCH][IN_MAX];
	struct virtio_net_hdr hdr[BATCH];
	uint32_t len[BATCH];
	unsigned int first, n;
	uint32_t frame; /* of the first one, to go on with */
	struct vnet v;	/* the first one, looked at; v.n 0: not yet */
};

struct uplink {
	enum kind kind;
	int fd;
	struct sockaddr_un peer;
	char bound[108];       /* to unlink; "" if none */
	uint64_t absent_until; /* the peer was not there; no try before */
	struct ring out;
	struct in_ring in;
	uint8_t seg[IN_MAX];
	struct log_limit limit;
};

static int set_up_socket(struct uplink *u)
{
	int size = SOCK_BYTES;

	/* Best effort: the limits of the host win. */
	setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(u->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return 0;
}

static int unix_name(struct sockaddr_un *sa, const char *path, size_t len,
		     struct err *e)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (!len || len >= sizeof(sa->sun_path))
		return err_set(e, -ENAMETOOLONG,
			       "uplink socket '%.*s': must have 1 to %zu "
			       "bytes; use a shorter directory",
			       (int)len, path, sizeof(sa->sun_path) - 1);
	memcpy(sa->sun_path, path, len);
	return 0;
}

/* Whether somebody receives at this name. */
static bool unix_alive(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool alive;

	if (fd < 0)
		return false;
	alive = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;
	close(fd);
	return alive;
}

static int unix_bind(struct uplink *u, const struct sockaddr_un *sa,
		     struct err *e)
{
	mode_t old;
	int ret;

	if (unix_alive(sa))
		return -EADDRINUSE;
	unlink(sa->sun_path);
	/* Never open to others: who can write here is on our wire. */
	old = umask(0177);
	ret = bind(u->fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? -errno
									: 0;
	umask(old);
	if (ret)
		return err_sys(e, ret, "uplink socket %s", sa->sun_path);
	strcpy(u->bound, sa->sun_path);
	return 0;
}

static int open_unix(struct uplink *u, const char *path, struct err *e)
{
	const char *comma = strchr(path, ',');
	struct sockaddr_un a, b;
	char peer[sizeof(a.sun_path) + 8];
	size_t len = comma ? (size_t)(comma - path) : strlen(path);
	int ret;

	ret = unix_name(&a, path, len, e);
	if (ret)
		return ret;
	if (comma) {
		ret = unix_name(&b, comma + 1, strlen(comma + 1), e);
	} else {
		snprintf(peer, sizeof(peer), "%s.peer", path);
		ret = unix_name(&b, peer, strlen(peer), e);
	}
	if (ret)
		return ret;

	u->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd < 0)
		return err_sys(e, -errno, "uplink socket");
	set_up_socket(u);
	ret = unix_bind(u, &a, e);
	u->peer = b;
	if (ret == -EADDRINUSE && !comma) {
		ret = unix_bind(u, &b, e);
		u->peer = a;
	}
	if (ret == -EADDRINUSE)
		return err_set(e, ret,
			       "uplink socket %s is in use by a running "
			       "process; a wire has two ends",
			       a.sun_path);
	return ret;
}

static int interface_name(char *out, const char *name, struct err *e)
{
	if (!name[0] || strlen(name) >= IFNAMSIZ)
		return err_set(e, -EINVAL,
			       "uplink interface '%s': a name has 1 to %d "
			       "bytes",
			       name, IFNAMSIZ - 1);
	strcpy(out, name);
	return 0;
}

static int open_tap(struct uplink *u, const char *name, struct err *e)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int ret = interface_name(ifr.ifr_name, name, e);

	if (ret)
		return ret;
	u->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (u->fd < 0)
		return err_sys(e, -errno,
			       "uplink tap:%s: /dev/net/tun (needs "
			       "CAP_NET_ADMIN, or a TAP that is yours)",
			       name);
	if (ioctl(u->fd, TUNSETIFF, &ifr) < 0)
		return err_sys(e, -errno, "uplink tap:%s", name);
	return 0;
}

static int open_packet(struct uplink *u, const char *name, struct err *e)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL) };
	struct packet_mreq promisc = { .mr_type = PACKET_MR_PROMISC };
	int one = 1, ret;
	char ifname[IFNAMSIZ];

	ret = interface_name(ifname, name, e);
	if (ret)
		return ret;
	sa.sll_ifindex = (int)if_nametoindex(ifname);
	if (!sa.sll_ifindex)
		return err_sys(e, -errno, "uplink packet:%s", name);
	u->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd < 0)
		return err_sys(e, -errno,
			       "uplink packet:%s (needs CAP_NET_RAW)", name);
	set_up_socket(u);
	promisc.mr_ifindex = sa.sll_ifindex;
	if (setsockopt(u->fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one)) ||
	    setsockopt(u->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(u->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one,
		       sizeof(one)) ||
	    setsockopt(u->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc,
		       sizeof(promisc)) ||
	    bind(u->fd, (struct sockaddr *)&sa, sizeof(sa)))
		return err_sys(e, -errno, "uplink packet:%s", name);
	return 0;
}

static const struct {
	const char *prefix;
	enum kind kind;
	int (*open)(struct uplink *u, const char *arg, struct err *e);
} kinds[] = {
	{ "unix:", UP_UNIX, open_unix },
	{ "tap:", UP_TAP, open_tap },
	{ "packet:", UP_PACKET, open_packet },
};

int uplink_open(struct uplink **out, const char *spec, struct err *e)
{
	struct uplink *u = calloc(1, sizeof(*u));
	int ret = -EINVAL;

	if (!u)
		return err_sys(e, -ENOMEM, "uplink");
	u->fd = -1;
	if (!strcmp(spec, "none")) {
		*out = u;
		return 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].prefix);

		if (strncmp(spec, kinds[i].prefix, n))
			continue;
		u->kind = kinds[i].kind;
		ret = kinds[i].open(u, spec + n, e);
		if (ret)
			uplink_close(u);
		else
			*out = u;
		return ret;
	}
	free(u);
	return err_set(e, ret,
		       "uplink '%s': use unix:PATH, tap:IF, packet:IF or none",
		       spec);
}

void uplink_close(struct uplink *u)
{
	if (!u)
		return;
	close_fd(&u->fd);
	if (u->bound[0])
		unlink(u->bound);
	free(u);
}

int uplink_fd(const struct uplink *u)
{
	return u->fd;
}

static void sent(struct uplink *u, unsigned int n)
{
	u->out.first += n;
	u->out.n -= n;
	if (!u->out.n)
		u->out.first = 0;
}

static void drop_all(struct uplink *u, const char *why)
{
	log_limited(&u->limit, LOG_INFO, "uplink: %u frames lost: %s", u->out.n,
		    why);
	sent(u, u->out.n);
}

/* One frame a call; returns frames gone, or -errno with none. */
static int send_tap(struct uplink *u)
{
	int n = 0;

	while ((unsigned int)n < u->out.n) {
		unsigned int i = u->out.first + (unsigned int)n;

		if (write(u->fd, u->out.buf[i], u->out.len[i]) < 0)
			return n ? n : -errno;
		n++;
	}
	return n;
}

static int send_batch(struct uplink *u)
{
	struct virtio_net_hdr plain = { 0 };
	struct mmsghdr m[BATCH] = { 0 };
	struct iovec v[BATCH][2];
	int n;

	for (unsigned int k = 0; k < u->out.n; k++) {
		unsigned int i = u->out.first + k;
		struct msghdr *h = &m[k].msg_hdr;

		v[k][0] = (struct iovec){ &plain, sizeof(plain) };
		v[k][1] = (struct iovec){ u->out.buf[i], u->out.len[i] };
		h->msg_iov = u->kind == UP_PACKET ? v[k] : v[k] + 1;
		h->msg_iovlen = u->kind == UP_PACKET ? 2 : 1;
		if (u->kind == UP_UNIX) {
			h->msg_name = &u->peer;
			h->msg_namelen = sizeof(u->peer);
		}
	}
	n = sendmmsg(u->fd, m, u->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static void flush(void *opaque)
{
	struct uplink *u = opaque;

	while (u->out.n) {
		int n;

		if (u->absent_until && now_ns() < u->absent_until) {
			sent(u, u->out.n);
			return;
		}
		u->absent_until = 0;
		n = u->kind == UP_TAP ? send_tap(u) : send_batch(u);
		if (n > 0) {
			sent(u, (unsigned int)n);
			continue;
		}
		switch (n) {
		case -EAGAIN:
		case -ENOBUFS:
		case -EINTR: return; /* kept; the nic waits a little */
		case -ENOENT:
		case -ECONNREFUSED:
			/* A cable with nobody at the other end. */
			u->absent_until = now_ns() + RETRY_NS;
			drop_all(u, "nobody at the other end");
			return;
		default: drop_all(u, strerror(-n)); return;
		}
	}
}

static int wire_send(void *opaque, const uint8_t *frame, size_t len)
{
	struct uplink *u = opaque;
	unsigned int i;

	if (u->kind == UP_NONE)
		return -ENETDOWN;
	if (len > FRAME_MAX)
		return -EMSGSIZE;
	if (u->out.first + u->out.n == BATCH)
		flush(u);
	if (u->out.first + u->out.n == BATCH)
		return -EAGAIN;
	i = u->out.first + u->out.n++;
	memcpy(u->out.buf[i], frame, len);
	u->out.len[i] = (uint32_t)len;
	return 0;
}

const struct nic_wire_ops uplink_wire_ops = {
	.send = wire_send,
	.flush = flush,
};

/* AF_PACKET takes the tag out of the frame; the switch wants it in. */
static void restore_tag(struct uplink *u, unsigned int i, struct msghdr *h)
{
	struct tpacket_auxdata aux;
	uint8_t *p = u->in.buf[i];

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_PACKET ||
		    c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(c), sizeof(aux));
		if (!(aux.tp_status & TP_STATUS_VLAN_VALID) ||
		    u->in.len[i] < 12)
			continue;
		memmove(p + 16, p + 12, u->in.len[i] - 12);
		p[12] = 0x81;
		p[13] = 0x00;
		p[14] = (uint8_t)(aux.tp_vlan_tci >> 8);
		p[15] = (uint8_t)aux.tp_vlan_tci;
		u->in.len[i] += 4;
		u->in.hdr[i].csum_start += 4;
	}
}

static int receive_batch(struct uplink *u)
{
	union {
		char space[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct cmsghdr align;
	} ctl[BATCH];
	const uint32_t head = sizeof(struct virtio_net_hdr);
	bool packet = u->kind == UP_PACKET;
	struct mmsghdr m[BATCH] = { 0 };
	struct iovec v[BATCH][2];
	int n;

	memset(u->in.hdr, 0, sizeof(u->in.hdr));
	for (unsigned int i = 0; i < BATCH; i++) {
		struct msghdr *h = &m[i].msg_hdr;

		v[i][0] = (struct iovec){ &u->in.hdr[i], head };
		v[i][1] = (struct iovec){ u->in.buf[i], IN_MAX - 4 };
		h->msg_iov = packet ? v[i] : v[i] + 1;
		h->msg_iovlen = packet ? 2 : 1;
		if (packet) {
			h->msg_control = ctl[i].space;
			h->msg_controllen = sizeof(ctl[i].space);
		}
	}
	n = recvmmsg(u->fd, m, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		uint32_t len = m[i].msg_len;

		u->in.len[i] = !packet ? len : len > head ? len - head : 0;
		if (packet)
			restore_tag(u, (unsigned int)i, &m[i].msg_hdr);
	}
	return n;
}

static int receive_tap(struct uplink *u)
{
	unsigned int n = 0;

	memset(u->in.hdr, 0, sizeof(u->in.hdr));
	while (n < BATCH) {
		ssize_t len = read(u->fd, u->in.buf[n], FRAME_MAX);

		if (len < 0)
			break;
		u->in.len[n++] = (uint32_t)len;
	}
	return (int)n;
}

static int refill(struct uplink *u)
{
	int n = u->kind == UP_NONE  ? 0
		: u->kind == UP_TAP ? receive_tap(u)
				    : receive_batch(u);

	u->in.first = 0;
	u->in.n = n > 0 ? (unsigned int)n : 0;
	u->in.v.n = 0;
	return n;
}

/* All frames of what came first; -EAGAIN: go on with u->in.frame. */
static int hand_over(struct uplink *u, struct nic *nic)
{
	unsigned int i = u->in.first;

	if (!u->in.v.n) {
		u->in.frame = 0;
		vnet_open(&u->in.v, &u->in.hdr[i], u->in.buf[i], u->in.len[i]);
	}
	for (; u->in.frame < u->in.v.n; u->in.frame++) {
		uint32_t len;
		const uint8_t *p =
			vnet_frame(&u->in.v, u->in.frame, u->seg, &len);

		if (nic_wire_input(nic, p, len) == -EAGAIN)
			return -EAGAIN;
	}
	u->in.v.n = 0;
	return 0;
}

unsigned int uplink_receive(struct uplink *u, struct nic *nic)
{
	unsigned int done = 0;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		if (!u->in.n && refill(u) <= 0)
			break;
		while (u->in.n && hand_over(u, nic) == 0) {
			u->in.first++;
			u->in.n--;
			done++;
		}
		if (u->in.n)
			break;
	}
	if (done)
		nic_flush(nic);
	return done;
}

bool uplink_holds(const struct uplink *u)
{
	return u->in.n != 0;
}
