#include "machine/console.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <termios.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"

#define RING	 (64u << 10) /* bytes kept for slow readers */
#define PEERS	 8
#define CHUNK	 512u /* a pipe or terminal that polls writable takes it */
#define ESCAPE	 0x1d /* Ctrl-] */
#define RETRY_NS 10000000ull

struct peer {
	struct console *c;
	int in, out; /* -1: none; both -1: this place is free */
	bool stdio, terminal;
	struct loop_source *src;
	uint64_t pos; /* in all output, of what it has got */
	unsigned char buf[256];
	size_t len; /* input that found no room yet */
};

struct console {
	struct loop *loop;
	int listen_fd, wake_fd;
	struct loop_source *listen_src, *wake_src, *retry;
	char *path;
	struct peer peer[PEERS];
	console_in_fn fn;
	void *fn_opaque;
	void (*escape)(void *opaque);
	void *escape_opaque;
	struct termios saved;

	pthread_mutex_t lock; /* the ring */
	char ring[RING];
	uint64_t head; /* bytes ever written */
};

static void pump(struct console *c);

static void on_retry(void *opaque)
{
	struct console *c = opaque;

	loop_remove(c->retry);
	c->retry = NULL;
	pump(c);
}

static void later(struct console *c)
{
	if (!c->retry)
		loop_add_timer(c->loop, RETRY_NS, 0, on_retry, c, &c->retry);
}

static void leave(struct peer *p)
{
	loop_remove(p->src);
	p->src = NULL;
	if (!p->stdio)
		close_fd(&p->in);
	p->in = p->out = -1;
}

static ssize_t put(struct peer *p, const void *buf, size_t len)
{
	struct pollfd pfd = { .fd = p->out, .events = POLLOUT };

	if (!p->stdio)
		return send(p->out, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	/* Standard output may be shared: it is not ours to make it O_NONBLOCK. */
	if (poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT))
		return write(p->out, buf, MIN(len, CHUNK));
	errno = pfd.revents & (POLLERR | POLLHUP) ? EPIPE : EAGAIN;
	return -1;
}

/* Give a reader what it has not got; false: it did not take all. */
static bool drain(struct peer *p)
{
	struct console *c = p->c;
	char buf[4096];

	while (p->out >= 0) {
		size_t n, at;
		ssize_t did;

		pthread_mutex_lock(&c->lock);
		if (c->head - p->pos > RING)
			p->pos = c->head - RING;
		at = p->pos % RING;
		n = MIN(MIN(c->head - p->pos, RING - at), sizeof(buf));
		memcpy(buf, c->ring + at, n);
		pthread_mutex_unlock(&c->lock);
		if (!n)
			return true;
		did = put(p, buf, n);
		if (did > 0) {
			p->pos += (uint64_t)did;
		} else if (did < 0 && errno == EAGAIN) {
			return false;
		} else if (did < 0 && errno != EINTR) {
			if (p->stdio)
				p->out = -1;
			else
				leave(p);
		}
	}
	return true;
}

/* Input that waits, to the guest; false: some still waits. */
static bool feed(struct peer *p)
{
	struct console *c = p->c;
	size_t did = p->len;

	if (!p->len)
		return true;
	if (c->fn)
		did = c->fn(c->fn_opaque, p->buf, p->len);
	p->len -= did;
	memmove(p->buf, p->buf + did, p->len);
	if (p->src)
		loop_mod_fd(p->src, p->len ? 0 : EPOLLIN);
	return !p->len;
}

static void pump(struct console *c)
{
	bool done = true;

	for (unsigned int i = 0; i < PEERS; i++) {
		done &= drain(&c->peer[i]);
		done &= feed(&c->peer[i]);
	}
	if (!done)
		later(c);
}

static void on_wake(int fd, uint32_t events, void *opaque)
{
	eventfd_t n;

	eventfd_read(fd, &n);
	pump(opaque);
}

static void on_input(int fd, uint32_t events, void *opaque)
{
	struct peer *p = opaque;
	struct console *c = p->c;
	unsigned char *esc;
	ssize_t n;

	n = read(fd, p->buf + p->len, sizeof(p->buf) - p->len);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		/* A script's input may end before the guest's output does. */
		if (p->stdio) {
			loop_remove(p->src);
			p->src = NULL;
			p->in = -1;
		} else {
			leave(p);
		}
		return;
	}
	esc = p->terminal ? memchr(p->buf + p->len, ESCAPE, (size_t)n) : NULL;
	if (esc)
		n = esc - (p->buf + p->len);
	p->len += (size_t)n;
	if (!feed(p))
		later(c);
	if (esc)
		c->escape(c->escape_opaque);
}

static struct peer *join(struct console *c, int in, int out)
{
	for (unsigned int i = 0; i < PEERS; i++) {
		struct peer *p = &c->peer[i];

		if (p->in >= 0 || p->out >= 0)
			continue;
		*p = (struct peer){ .c = c, .in = in, .out = out };
		pthread_mutex_lock(&c->lock);
		p->pos = c->head;
		pthread_mutex_unlock(&c->lock);
		return p;
	}
	return NULL;
}

bool console_full(const struct console *c)
{
	for (unsigned int i = 0; i < PEERS; i++)
		if (c->peer[i].in < 0 && c->peer[i].out < 0)
			return false;
	return true;
}

int console_attach(struct console *c, int fd)
{
	struct peer *p = join(c, fd, fd);
	int ret;

	if (!p) {
		close(fd);
		return -EBUSY;
	}
	ret = loop_add_fd(c->loop, fd, EPOLLIN, on_input, p, &p->src);
	if (ret < 0)
		leave(p);
	return ret;
}

static void on_listen(int fd, uint32_t events, void *opaque)
{
	struct console *c = opaque;
	int new = sock_accept(fd);

	if (new >= 0 && console_attach(c, new) < 0)
		log_warn("console: more than %d connections", PEERS);
}

static int open_stdio(struct console *c, struct err *e)
{
	struct peer *p = join(c, STDIN_FILENO, STDOUT_FILENO);
	struct termios raw;
	int ret;

	p->stdio = true;
	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &c->saved) == 0) {
		raw = c->saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		p->terminal = true;
	}
	/* A file or /dev/null cannot be waited for, and has no keyboard. */
	ret = loop_add_fd(c->loop, STDIN_FILENO, EPOLLIN, on_input, p, &p->src);
	if (ret < 0 && ret != -EPERM)
		return err_sys(e, ret, "console: standard input");
	return 0;
}

int console_create(struct console **out, struct loop *l, const char *spec,
		   void (*escape)(void *opaque), void *opaque, struct err *e)
{
	struct console *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->loop = l;
	c->escape = escape;
	c->escape_opaque = opaque;
	c->listen_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	for (unsigned int i = 0; i < PEERS; i++)
		c->peer[i] = (struct peer){ .c = c, .in = -1, .out = -1 };
	c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret = c->wake_fd < 0 ? -errno
			     : loop_add_fd(l, c->wake_fd, EPOLLIN, on_wake, c,
					   &c->wake_src);
	if (ret < 0) {
		err_sys(e, ret, "console");
		goto fail;
	}
	if (spec && !strcmp(spec, "stdio")) {
		ret = open_stdio(c, e);
	} else if (spec) {
		ret = c->listen_fd = sock_listen(spec, SOCK_STREAM, e);
		if (ret >= 0) {
			c->path = strdup(spec);
			ret = loop_add_fd(l, c->listen_fd, EPOLLIN, on_listen,
					  c, &c->listen_src);
		}
	}
	if (ret < 0)
		goto fail;
	*out = c;
	return 0;

fail:
	console_destroy(c);
	return ret;
}

void console_flush(struct console *c)
{
	/* A reader that does not read shall not keep us from ending. */
	for (int i = 0; i < 50; i++) {
		bool done = true;

		for (unsigned int n = 0; n < PEERS; n++)
			done &= drain(&c->peer[n]);
		if (done)
			return;
		poll(NULL, 0, 10);
	}
}

void console_destroy(struct console *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < PEERS; i++) {
		if (c->peer[i].terminal)
			tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
		leave(&c->peer[i]);
	}
	loop_remove(c->retry);
	loop_remove(c->wake_src);
	loop_remove(c->listen_src);
	close_fd(&c->wake_fd);
	close_fd(&c->listen_fd);
	if (c->path)
		unlink(c->path);
	free(c->path);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void console_connect(struct console *c, console_in_fn fn, void *opaque)
{
	c->fn = fn;
	c->fn_opaque = opaque;
}

void console_output(struct console *c, const void *buf, size_t len)
{
	const char *p = buf;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < len; i++)
		c->ring[c->head++ % RING] = p[i];
	pthread_mutex_unlock(&c->lock);
	eventfd_write(c->wake_fd, 1);
}
