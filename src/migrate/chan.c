#include "migrate/chan.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/sock.h"
#include "base/util.h"
#include "migrate/tls.h"

#define CONNECT_TIMEOUT_MS   10000
#define HANDSHAKE_TIMEOUT_MS 10000
#define USER_TIMEOUT_MS	     10000
#define MS_NS		     1000000ull
#define UNIX_BUFFER	     (256u << 10)
#define AHEAD		     64

struct chan {
	struct chan_listener *from; /* accepted there; NULL: it is closed */
	struct chan *next;	    /* of the same listener */
	int fd;
	unsigned int ms;	 /* a call may take; 0: any time */
	struct tls_session *tls; /* NULL: plain */
	_Atomic uint64_t sent;
	/* The receiver's: what came along with what was asked for. */
	size_t ahead_at, ahead_end;
	char ahead[AHEAD];
	char text[96];
	char peer[CHAN_PEER_MAX];
};

struct chan_listener {
	struct chan *accepted;
	_Atomic bool aborted;
	int fd;
	const struct chan_tls *tls;
	char addr[160];
	const char *unlink_path; /* into addr */
};

/* The lists of accepted channels: touched once a connection. */
static pthread_mutex_t accepted_lock = PTHREAD_MUTEX_INITIALIZER;

static const char unix_prefix[] = "unix:";

bool chan_is_unix(const char *addr)
{
	return !strncmp(addr, unix_prefix, sizeof(unix_prefix) - 1);
}

/* Split "HOST:PORT" or "[V6]:PORT" into its halves. */
static int split_addr(const char *addr, char *host, size_t size,
		      const char **port, struct err *e)
{
	const char *colon;
	size_t n;

	if (!strncmp(addr, "tcp:", 4))
		addr += 4;
	colon = strrchr(addr, ':');
	if (!colon || !colon[1])
		return err_set(e, -EINVAL,
			       "address '%s': write HOST:PORT, [V6]:PORT or "
			       "unix:PATH",
			       addr);
	n = (size_t)(colon - addr);
	if (n >= 2 && addr[0] == '[' && addr[n - 1] == ']') {
		addr++;
		n -= 2;
	}
	if (n >= size)
		return err_set(e, -EINVAL, "address '%s': host name too long",
			       addr);
	memcpy(host, addr, n);
	host[n] = '\0';
	*port = colon + 1;
	/* getaddrinfo() would take it, less a multiple of 65536. */
	if (strspn(*port, "0123456789") == strlen(*port) &&
	    (strlen(*port) > 5 || atoi(*port) > UINT16_MAX))
		return err_set(e, -EINVAL, "port %s: there are 0 to 65535",
			       *port);
	return 0;
}

static int resolve(const char *addr, bool passive, char *host, size_t size,
		   struct addrinfo **out, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = passive ? AI_PASSIVE : 0 };
	const char *port = NULL;
	int ret = split_addr(addr, host, size, &port, e);

	if (ret < 0)
		return ret;
	ret = getaddrinfo(host[0] ? host : NULL, port, &hints, out);
	if (ret)
		return err_set(e, -EHOSTUNREACH, "address '%s': %s", addr,
			       gai_strerror(ret));
	return 0;
}

/* A dead peer is noticed in seconds; nothing waits for Nagle. */
static void tune_tcp(int fd)
{
	int one = 1, ms = USER_TIMEOUT_MS, idle = 3, n = 3;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &n, sizeof(n));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

static int set_timeout(int fd, unsigned int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000,
			      .tv_usec = (int)(ms % 1000) * 1000 };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return -errno;
	return 0;
}

/* Whom to look for where nobody listens. */
static int nobody(struct err *e, int ret, const char *addr)
{
	if (ret == -ECONNREFUSED || ret == -ENOENT)
		return err_set(e, ret,
			       "connect to %s: %s; is 'pagurus receive' "
			       "waiting there?",
			       addr, strerror(-ret));
	return err_sys(e, ret, "connect to %s", addr);
}

static int connect_tcp(const char *addr, char *host, size_t size, struct err *e)
{
	struct addrinfo *list, *a;
	int ret = resolve(addr, false, host, size, &list, e), fd = -1;

	if (ret < 0)
		return ret;
	ret = -EHOSTUNREACH;
	for (a = list; a; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			ret = -errno;
			continue;
		}
		/* SO_SNDTIMEO bounds connect() too. */
		set_timeout(fd, CONNECT_TIMEOUT_MS);
		if (!connect(fd, a->ai_addr, a->ai_addrlen))
			break;
		ret = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
		close_fd(&fd);
	}
	freeaddrinfo(list);
	if (fd < 0)
		return nobody(e, ret, addr);
	set_timeout(fd, 0);
	tune_tcp(fd);
	return fd;
}

/* Takes the descriptor, also when it fails. */
static int wrap(struct chan **out, int fd, const struct chan_tls *tls,
		bool server, const char *host, struct err *e)
{
	struct chan *c = calloc(1, sizeof(*c));
	int ret = 0;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	snprintf(c->text, sizeof(c->text), "plain");
	if (tls) {
		set_timeout(fd, HANDSHAKE_TIMEOUT_MS);
		ret = tls_session_open(&c->tls, tls, fd, server, host,
				       now_ns() + HANDSHAKE_TIMEOUT_MS * MS_NS,
				       e);
		set_timeout(fd, 0);
	}
	if (ret < 0) {
		chan_close(c);
		return ret;
	}
	if (c->tls)
		tls_session_describe(c->tls, c->text, sizeof(c->text));
	*out = c;
	return 0;
}

/* The kernel's own choice holds less than a chunk: the ends take turns. */
static void tune_unix(int fd)
{
	int size = UNIX_BUFFER;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* An address in numbers, as chan_connect() reads it. */
static void in_numbers(const struct sockaddr_storage *sa, socklen_t len,
		       char *text, size_t size)
{
	char host[128] = "", port[16] = "";

	getnameinfo((const struct sockaddr *)sa, len, host, sizeof(host), port,
		    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(text, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
		 port);
}

static void note_peer(struct chan *c, const char *addr)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	if (!chan_is_unix(addr) &&
	    getpeername(c->fd, (struct sockaddr *)&sa, &len) == 0)
		in_numbers(&sa, len, c->peer, sizeof(c->peer));
	else
		snprintf(c->peer, sizeof(c->peer), "%s", addr);
}

int chan_connect_again(struct chan **out, const char *peer, const char *addr,
		       const struct chan_tls *tls, struct err *e)
{
	char host[128] = "", number[128];
	const char *port;
	int fd, ret;

	if (chan_is_unix(addr)) {
		fd = sock_connect(peer + sizeof(unix_prefix) - 1, SOCK_STREAM,
				  NULL);
		if (fd < 0)
			nobody(e, fd, peer);
	} else {
		/* The certificate is for the name, not for the number. */
		ret = split_addr(addr, host, sizeof(host), &port, e);
		if (ret < 0)
			return ret;
		fd = connect_tcp(peer, number, sizeof(number), e);
	}
	if (fd < 0)
		return fd;
	if (chan_is_unix(addr))
		tune_unix(fd);
	ret = wrap(out, fd, tls, false, host, e);
	if (ret == 0)
		note_peer(*out, peer);
	return ret;
}

int chan_connect(struct chan **out, const char *addr,
		 const struct chan_tls *tls, struct err *e)
{
	return chan_connect_again(out, addr, addr, tls, e);
}

const char *chan_peer(const struct chan *c)
{
	return c->peer;
}

int chan_end(const struct chan *c, bool mine, struct sockaddr_storage *sa)
{
	socklen_t len = sizeof(*sa);
	struct sockaddr *p = (struct sockaddr *)sa;
	int ret = mine ? getsockname(c->fd, p, &len)
		       : getpeername(c->fd, p, &len);

	return ret < 0 ? -errno : 0;
}

static int listen_tcp(const char *addr, char *text, size_t size, struct err *e)
{
	char host[128];
	struct sockaddr_storage sa;
	socklen_t salen = sizeof(sa);
	struct addrinfo *list;
	int one = 1, fd, ret;

	ret = resolve(addr, true, host, sizeof(host), &list, e);
	if (ret < 0)
		return ret;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    0);
	if (fd < 0) {
		ret = err_sys(e, -errno, "socket");
		goto free;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, list->ai_addr, list->ai_addrlen) < 0 ||
	    listen(fd, 64) < 0) {
		ret = err_sys(e, -errno, "listen on %s", addr);
		goto close;
	}
	getsockname(fd, (struct sockaddr *)&sa, &salen);
	in_numbers(&sa, salen, text, size);
	freeaddrinfo(list);
	return fd;

close:
	close(fd);
free:
	freeaddrinfo(list);
	return ret;
}

int chan_listen(struct chan_listener **out, const char *addr,
		const struct chan_tls *tls, struct err *e)
{
	struct chan_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->tls = tls;
	if (chan_is_unix(addr)) {
		snprintf(l->addr, sizeof(l->addr), "%s", addr);
		l->unlink_path = l->addr + sizeof(unix_prefix) - 1;
		l->fd = sock_listen(l->unlink_path, SOCK_STREAM, e);
	} else {
		l->fd = listen_tcp(addr, l->addr, sizeof(l->addr), e);
	}
	if (l->fd < 0) {
		int ret = l->fd;

		free(l);
		return ret;
	}
	*out = l;
	return 0;
}

int chan_listener_fd(const struct chan_listener *l)
{
	return l->fd;
}

const char *chan_listener_addr(const struct chan_listener *l)
{
	return l->addr;
}

int chan_accept(struct chan_listener *l, struct chan **out, int timeout_ms,
		struct err *e)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	int fd, n;

	n = poll(&p, 1, timeout_ms);
	if (n < 0)
		return err_sys(e, -errno, "poll");
	if (n == 0)
		return err_set(e, -ETIMEDOUT, "nobody connected to %s",
			       l->addr);
	/* What accept() says of a listener that was shut down differs. */
	if (l->aborted)
		return err_set(e, -ESHUTDOWN, "%s is closed", l->addr);
	fd = sock_accept(l->fd);
	if (fd < 0)
		return err_sys(e, fd, "accept on %s", l->addr);
	if (!l->unlink_path)
		tune_tcp(fd);
	n = wrap(out, fd, l->tls, true, NULL, e);
	if (n < 0)
		return n;
	pthread_mutex_lock(&accepted_lock);
	(*out)->from = l;
	(*out)->next = l->accepted;
	l->accepted = *out;
	if (l->aborted)
		chan_abort(*out);
	pthread_mutex_unlock(&accepted_lock);
	return 0;
}

static void forget(struct chan *c)
{
	pthread_mutex_lock(&accepted_lock);
	if (c->from) {
		struct chan **at = &c->from->accepted;

		while (*at != c)
			at = &(*at)->next;
		*at = c->next;
	}
	pthread_mutex_unlock(&accepted_lock);
}

void chan_listener_abort(struct chan_listener *l)
{
	pthread_mutex_lock(&accepted_lock);
	l->aborted = true;
	shutdown(l->fd, SHUT_RDWR);
	for (struct chan *c = l->accepted; c; c = c->next)
		chan_abort(c);
	pthread_mutex_unlock(&accepted_lock);
}

void chan_listener_close(struct chan_listener *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&accepted_lock);
	for (struct chan *c = l->accepted; c; c = c->next)
		c->from = NULL;
	pthread_mutex_unlock(&accepted_lock);
	close(l->fd);
	if (l->unlink_path)
		unlink(l->unlink_path);
	free(l);
}

/* What errno means when SO_SNDTIMEO or SO_RCVTIMEO may have struck. */
static int io_error(int err)
{
	switch (err) {
	case EAGAIN: return -ETIMEDOUT;
	case ECONNRESET: return -EPIPE;
	default: return -err;
	}
}

/* When a call that begins now has to end. */
static uint64_t limit(const struct chan *c)
{
	return c->ms ? now_ns() + c->ms * MS_NS : 0;
}

int chan_send(struct chan *c, const void *buf, size_t len)
{
	uint64_t until = limit(c);
	const char *p = buf;
	size_t left = len;
	ssize_t n;

	if (c->tls) {
		int ret = tls_session_send(c->tls, buf, len, until);

		if (ret < 0)
			return ret;
		left = 0;
	}
	while (left) {
		n = send(c->fd, p, left, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_error(errno);
		p += n;
		left -= (size_t)n;
		if (left && until && now_ns() > until)
			return -ETIMEDOUT;
	}
	atomic_fetch_add_explicit(&c->sent, len, memory_order_relaxed);
	return 0;
}

/*
 * A section's head is short and its payload is long: the next head is taken
 * along with the end of the payload, one call and perhaps one sleep less.
 */
int chan_recv(struct chan *c, void *buf, size_t len)
{
	uint64_t until = limit(c);
	size_t had = MIN(len, c->ahead_end - c->ahead_at);
	char *p = buf;

	if (c->tls)
		return tls_session_recv(c->tls, buf, len, until);
	memcpy(p, c->ahead + c->ahead_at, had);
	c->ahead_at += had;
	p += had;
	len -= had;
	while (len) {
		struct iovec v[] = { { p, len }, { c->ahead, AHEAD } };
		ssize_t n = readv(c->fd, v, ARRAY_SIZE(v));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_error(errno);
		if (n == 0)
			return -EPIPE;
		c->ahead_at = 0;
		c->ahead_end = (size_t)n - MIN(len, (size_t)n);
		p += (size_t)n - c->ahead_end;
		len -= (size_t)n - c->ahead_end;
		if (len && until && now_ns() > until)
			return -ETIMEDOUT;
	}
	return 0;
}

int chan_timeout(struct chan *c, unsigned int ms)
{
	c->ms = ms;
	return set_timeout(c->fd, ms);
}

int chan_err(const struct chan *c, int ret, struct err *e)
{
	switch (ret) {
	case -EKEYREJECTED:
		return err_set(e, ret, "%s", tls_session_why(c->tls));
	case -EPIPE:
		return err_set(e, ret, "the other side closed the connection");
	case -ETIMEDOUT:
		return err_set(e, ret, "the other side does not answer");
	default: return err_sys(e, ret, "migration channel");
	}
}

void chan_abort(struct chan *c)
{
	shutdown(c->fd, SHUT_RDWR);
}

void chan_abort_recv(struct chan *c)
{
	shutdown(c->fd, SHUT_RD);
}

void chan_close(struct chan *c)
{
	if (!c)
		return;
	forget(c);
	tls_session_close(c->tls);
	close(c->fd);
	free(c);
}

const char *chan_describe(const struct chan *c)
{
	return c->text;
}

uint64_t chan_bytes_sent(const struct chan *c)
{
	return atomic_load_explicit(&c->sent, memory_order_relaxed);
}

int64_t chan_unsent(const struct chan *c)
{
	socklen_t len = sizeof(int);
	int n, mss;

	if (ioctl(c->fd, SIOCOUTQ, &n) < 0)
		return -errno;
	if (n && !getsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len) &&
	    n <= mss)
		return 0;
	return n;
}
