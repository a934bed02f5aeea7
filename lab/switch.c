/*
 * The switch between lab hosts: learning, counting, and bad on request.
 *
 *	lab-switch CONTROL PORT=SOCKET...
 *
 * Each port listens on a unix socket; what connects (QEMU's -netdev stream)
 * sends and takes frames with their length in front, four bytes, big endian.
 * CONTROL takes one command a line and answers each with one line:
 *
 *	stat			counters and addresses, as JSON
 *	set PORT cut 0|1	no frame crosses the port
 *	set PORT delay MS	each frame crossing it is that late
 *	set PORT drop PERMILLE	that many of 1000 are lost, at random
 *	set PORT rate MBITS	no faster than that to the port; 0: no limit
 *
 * A frame crosses two ports, so cut, delay and drop of both count.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/sock.h"
#include "base/util.h"

#define PORTS_MAX      16
#define MACS_MAX       256
#define FRAME_MIN      14
#define FRAME_MAX      69632	    /* QEMU's NET_BUFSIZE */
#define QUEUE_MAX      (32ul << 20) /* bytes waiting for a port */
#define NS_PER_MS      1000000ull
#define ETHERTYPE_RARP 0x8035

struct frame {
	struct frame *next;
	uint64_t due; /* not to be sent before */
	size_t len;   /* with the length in front */
	uint8_t data[];
};

struct port {
	const char *name;
	struct loop *loop;
	struct loop_source *listener, *io, *timer;
	int listen_fd, fd;
	uint8_t in[4 + FRAME_MAX];
	size_t got; /* bytes in 'in' */
	struct frame *first, **last;
	size_t queued, sent; /* bytes; of the first */
	uint64_t last_due;

	uint64_t cut, delay, drop, rate; /* as set */
	uint64_t rx, rx_bytes, tx, tx_bytes;
	uint64_t dropped, overflow, rarp;
};

static struct port *port[PORTS_MAX];
static unsigned int nports;
static struct {
	uint8_t addr[6];
	struct port *at;
} macs[MACS_MAX];
static unsigned int nmacs;
static uint64_t dice = 0x9e3779b97f4a7c15ull; /* the same in each run */

static void port_flush(void *opaque);

/* xorshift64: good enough to lose frames with. */
static bool unlucky(const struct port *p)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice % 1000 < p->drop;
}

static struct port *find_mac(const uint8_t *addr)
{
	for (unsigned int i = 0; i < nmacs; i++)
		if (!memcmp(macs[i].addr, addr, 6))
			return macs[i].at;
	return NULL;
}

static void learn(const uint8_t *addr, struct port *at)
{
	unsigned int i;

	if (addr[0] & 1) /* a group is nobody's address */
		return;
	for (i = 0; i < nmacs; i++)
		if (!memcmp(macs[i].addr, addr, 6))
			break;
	if (i == nmacs) {
		if (nmacs == MACS_MAX)
			return;
		memcpy(macs[nmacs++].addr, addr, 6);
	}
	macs[i].at = at;
}

/* Put a frame into the queue of the port it leaves by. */
static void enqueue(struct port *p, const struct port *from,
		    const uint8_t *data, size_t len)
{
	uint64_t due = now_ns() + (from->delay + p->delay) * NS_PER_MS;
	uint32_t be = htonl((uint32_t)len);
	struct frame *f;

	if (p->fd < 0 || p->cut || unlucky(p)) {
		p->dropped++;
		return;
	}
	if (p->queued + len > QUEUE_MAX) {
		p->overflow++;
		return;
	}
	f = malloc(sizeof(*f) + 4 + len);
	if (!f) {
		p->overflow++;
		return;
	}
	/* In order always, also when the delay has just become shorter. */
	if (due < p->last_due)
		due = p->last_due;
	if (p->rate)
		due += len * 8 * 1000 / p->rate;
	p->last_due = due;
	f->due = due;
	f->next = NULL;
	f->len = 4 + len;
	memcpy(f->data, &be, 4);
	memcpy(f->data + 4, data, len);
	*p->last = f;
	p->last = &f->next;
	p->queued += f->len;
	if (p->first == f)
		port_flush(p);
}

static void forward(struct port *from, const uint8_t *data, size_t len)
{
	struct port *to;

	if (len < FRAME_MIN)
		return;
	from->rx++;
	from->rx_bytes += len;
	if (from->cut || unlucky(from)) {
		from->dropped++;
		return;
	}
	if ((data[12] << 8 | data[13]) == ETHERTYPE_RARP)
		from->rarp++;
	learn(data + 6, from);
	to = data[0] & 1 ? NULL : find_mac(data);
	for (unsigned int i = 0; i < nports; i++)
		if (port[i] != from && (!to || to == port[i]))
			enqueue(port[i], from, data, len);
}

static void port_drop_first(struct port *p)
{
	struct frame *f = p->first;

	p->first = f->next;
	if (!p->first)
		p->last = &p->first;
	p->queued -= f->len;
	p->sent = 0;
	free(f);
}

static void port_close(struct port *p)
{
	loop_remove(p->io);
	p->io = NULL;
	close_fd(&p->fd);
	p->got = 0;
	while (p->first)
		port_drop_first(p);
}

/* Send what is due; then wait for room or for the time of the next. */
static void port_flush(void *opaque)
{
	struct port *p = opaque;

	while (p->first && p->fd >= 0) {
		struct frame *f = p->first;
		uint64_t now = now_ns();
		ssize_t n;

		if (f->due > now) {
			loop_mod_timer(p->timer, f->due - now, 0);
			return;
		}
		n = send(p->fd, f->data + p->sent, f->len - p->sent,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EAGAIN)
				loop_mod_fd(p->io, EPOLLIN | EPOLLOUT);
			else
				port_close(p);
			return;
		}
		p->sent += (size_t)n;
		if (p->sent < f->len)
			continue;
		p->tx++;
		p->tx_bytes += f->len - 4;
		port_drop_first(p);
	}
}

static void port_read(struct port *p)
{
	size_t off = 0;
	ssize_t n;

	n = recv(p->fd, p->in + p->got, sizeof(p->in) - p->got, MSG_DONTWAIT);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			port_close(p);
		return;
	}
	p->got += (size_t)n;
	while (p->got - off >= 4) {
		uint32_t len;

		memcpy(&len, p->in + off, 4);
		len = ntohl(len);
		if (len > FRAME_MAX) {
			log_warn("port %s: a frame of %u bytes; closed",
				 p->name, len);
			port_close(p);
			return;
		}
		if (p->got - off < 4 + len)
			break;
		forward(p, p->in + off + 4, len);
		off += 4 + len;
	}
	memmove(p->in, p->in + off, p->got - off);
	p->got -= off;
}

static void port_io(int fd, uint32_t events, void *opaque)
{
	struct port *p = opaque;

	if (events & EPOLLOUT) {
		loop_mod_fd(p->io, EPOLLIN);
		port_flush(p);
	}
	if (p->fd == fd && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		port_read(p);
}

/* A host that starts again connects again: the newest one is the port. */
static void port_accept(int fd, uint32_t events, void *opaque)
{
	struct port *p = opaque;
	int room = 1 << 20;
	int new = sock_accept(fd);

	if (new < 0)
		return;
	port_close(p);
	setsockopt(new, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	p->fd = new;
	if (loop_add_fd(p->loop, new, EPOLLIN, port_io, p, &p->io) < 0)
		port_close(p);
}

static int port_add(struct loop *l, char *arg, struct err *e)
{
	char *path = strchr(arg, '=');
	struct port *p;
	int ret;

	if (!path || nports == PORTS_MAX)
		return err_set(e, -EINVAL, "bad port '%s'", arg);
	*path++ = '\0';
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->name = arg;
	p->loop = l;
	p->fd = -1;
	p->last = &p->first;
	port[nports++] = p;
	p->listen_fd = sock_listen(path, SOCK_STREAM, e);
	if (p->listen_fd < 0)
		return p->listen_fd;
	ret = loop_add_fd(l, p->listen_fd, EPOLLIN, port_accept, p,
			  &p->listener);
	if (ret < 0)
		return ret;
	/* Armed when a frame has to wait; the first expiry does nothing. */
	return loop_add_timer(l, 0, 0, port_flush, p, &p->timer);
}

/* The control socket. */

struct text {
	char buf[16384];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t,
						      const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len = MIN(t->len + (size_t)n, sizeof(t->buf) - 1);
}

static void stat_json(struct text *t)
{
	put(t, "{\"ports\":{");
	for (unsigned int i = 0; i < nports; i++) {
		const struct port *p = port[i];

		put(t,
		    "%s\"%s\":{\"connected\":%s,\"cut\":%lu,\"delay\":%lu,"
		    "\"drop\":%lu,\"rate\":%lu,\"rx\":%lu,\"rx_bytes\":%lu,"
		    "\"tx\":%lu,\"tx_bytes\":%lu,\"dropped\":%lu,"
		    "\"overflow\":%lu,\"rarp\":%lu}",
		    i ? "," : "", p->name, p->fd >= 0 ? "true" : "false",
		    p->cut, p->delay, p->drop, p->rate, p->rx, p->rx_bytes,
		    p->tx, p->tx_bytes, p->dropped, p->overflow, p->rarp);
	}
	put(t, "},\"macs\":{");
	for (unsigned int i = 0; i < nmacs; i++) {
		const uint8_t *a = macs[i].addr;

		put(t, "%s\"%02x:%02x:%02x:%02x:%02x:%02x\":\"%s\"",
		    i ? "," : "", a[0], a[1], a[2], a[3], a[4], a[5],
		    macs[i].at->name);
	}
	put(t, "}}\n");
}

static bool set(const char *name, const char *key, uint64_t value)
{
	for (unsigned int i = 0; i < nports; i++) {
		struct port *p = port[i];
		const struct {
			const char *key;
			uint64_t *where, max;
		} keys[] = {
			{ "cut", &p->cut, 1 },
			{ "delay", &p->delay, 60000 },
			{ "drop", &p->drop, 1000 },
			{ "rate", &p->rate, 100000 },
		};

		if (strcmp(p->name, name))
			continue;
		for (unsigned int k = 0; k < ARRAY_SIZE(keys); k++) {
			if (strcmp(keys[k].key, key) || value > keys[k].max)
				continue;
			*keys[k].where = value;
			return true;
		}
	}
	return false;
}

static void command(int fd, char *line)
{
	char name[32], key[16];
	struct text t = { .len = 0 };
	unsigned long value;

	if (!strcmp(line, "stat"))
		stat_json(&t);
	else if (sscanf(line, "set %31s %15s %lu", name, key, &value) == 3 &&
		 set(name, key, value))
		put(&t, "ok\n");
	else
		put(&t, "error: '%s'\n", line);
	sock_send(fd, t.buf, t.len, NULL, 0);
}

/* One command a connection round; lines are short and come whole. */
static void control_io(int fd, uint32_t events, void *opaque)
{
	struct loop_source **self = opaque;
	char buf[512], *save, *line;
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	if (n <= 0) {
		loop_remove(*self);
		free(self);
		close(fd);
		return;
	}
	buf[n] = '\0';
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		command(fd, line);
}

static void control_accept(int fd, uint32_t events, void *opaque)
{
	struct loop_source **self = calloc(1, sizeof(*self));
	int new = sock_accept(fd);

	if (new < 0 || !self ||
	    loop_add_fd(opaque, new, EPOLLIN, control_io, self, self) < 0) {
		close_fd(&new);
		free(self);
	}
}

static void on_term(int signo, void *opaque)
{
	loop_stop(opaque);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	struct loop *l;
	int fd, ret;

	if (argc < 3) {
		fprintf(stderr, "usage: lab-switch CONTROL PORT=SOCKET...\n");
		return 2;
	}
	ret = loop_create(&l);
	if (ret < 0)
		goto out;
	ret = loop_add_signal(l, SIGTERM, on_term, l, NULL);
	for (int i = 2; i < argc && ret >= 0; i++)
		ret = port_add(l, argv[i], &e);
	if (ret < 0)
		goto out;
	fd = ret = sock_listen(argv[1], SOCK_STREAM, &e);
	if (ret >= 0)
		ret = loop_add_fd(l, fd, EPOLLIN, control_accept, l, NULL);
	if (ret >= 0)
		ret = loop_run(l);
out:
	if (ret < 0)
		log_error("%s", err_text(&e, ret));
	return ret < 0;
}
