#include "base/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"

#define LOCK_TRIES 1000 /* of a millisecond */

static int address(const char *path, struct sockaddr_un *sa, struct err *e)
{
	if (!path[0] || strlen(path) >= sizeof(sa->sun_path))
		return err_set(e, -ENAMETOOLONG,
			       "socket path '%s': must have 1 to %zu bytes; "
			       "use a shorter directory",
			       path, sizeof(sa->sun_path) - 1);
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	strcpy(sa->sun_path, path);
	return 0;
}

static int connect_once(const char *path, int type, struct err *e)
{
	static const struct timeval patience = { .tv_sec = 5 }, forever;
	struct sockaddr_un sa;
	int fd, ret;

	ret = address(path, &sa, e);
	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, -errno, "socket");
	/* Whoever accepts nothing any more has a queue, which gets full. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
		err_sys(e, ret, "connect to %s", path);
		close(fd);
		return ret;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever));
	return fd;
}

/* Remove a socket nobody listens on any more. */
static int clear_stale(const char *path, int type, struct err *e)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST,
			       "%s exists and is not a socket; remove it or "
			       "choose another name",
			       path);
	fd = connect_once(path, type, NULL);
	if (fd != -ECONNREFUSED) {
		close_fd(&fd);
		return err_set(e, -EADDRINUSE,
			       "%s is in use by a running process", path);
	}
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(e, -errno, "remove stale %s", path);
	return 0;
}

/*
 * Between finding a name dead and having taken it nobody else may do the
 * same: each would remove what the other has just bound.  The directory is
 * locked for that long, since a file of its own for the lock would stay
 * behind.  Whoever holds that lock for longer is not one of us, and not
 * waited for; nor does a directory that cannot be read matter to bind().
 */
static int lock_names(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)], *slash;
	int fd;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		poll(NULL, 0, 1);
	}
	return fd;
}

/* Who has just bound the name may not listen yet; it has the lock till then. */
int sock_connect(const char *path, int type, struct err *e)
{
	int fd = connect_once(path, type, NULL), lock;

	if (fd >= 0)
		return fd;
	if (fd == -ECONNREFUSED) {
		lock = lock_names(path);
		close_fd(&lock);
	}
	return connect_once(path, type, e);
}

int sock_listen(const char *path, int type, struct err *e)
{
	struct sockaddr_un sa;
	mode_t old;
	int fd, ret, lock;

	ret = address(path, &sa, e);
	if (ret < 0)
		return ret;
	lock = lock_names(path);
	ret = clear_stale(path, type, e);
	if (ret < 0)
		goto unlock;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		ret = err_sys(e, -errno, "socket");
		goto unlock;
	}

	/* Never open to others, not even between bind and chmod. */
	old = umask(0177);
	ret = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
	umask(old);
	if (ret < 0) {
		err_sys(e, ret, "bind %s", path);
		goto close;
	}
	if (listen(fd, 64) < 0) {
		ret = err_sys(e, -errno, "listen on %s", path);
		goto unlink;
	}
	close_fd(&lock);
	return fd;

unlink:
	unlink(path);
close:
	close(fd);
unlock:
	close_fd(&lock);
	return ret;
}

int sock_accept(int fd)
{
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	return c < 0 ? -errno : c;
}

ssize_t sock_try_send(int fd, const void *buf, size_t len, const int *fds,
		      size_t nfds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds > SOCK_FDS_MAX)
		return -E2BIG;
	if (nfds) {
		struct cmsghdr *c;

		memset(&ctl, 0, sizeof(ctl));
		m.msg_control = ctl.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do {
		n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Milliseconds until 'end' for poll(), rounded up; -1 for ever. */
static int wait_ms(uint64_t end)
{
	uint64_t now = now_ns();

	if (end == UINT64_MAX)
		return -1;
	if (now >= end)
		return 0;
	return (int)MIN((end - now + 999999) / 1000000, (uint64_t)INT_MAX);
}

int sock_send_until(int fd, const void *buf, size_t len, const int *fds,
		    size_t nfds, uint64_t end)
{
	const char *p = buf;

	do {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		ssize_t n = sock_try_send(fd, p, len, fds, nfds);

		if (n == -EAGAIN) {
			int ms = wait_ms(end);

			if (ms == 0)
				return -ETIMEDOUT;
			poll(&pfd, 1, ms);
			continue;
		}
		if (n < 0)
			return (int)n;
		nfds = 0; /* they travel with the first byte */
		p += n;
		len -= (size_t)n;
	} while (len);
	return 0;
}

int sock_send(int fd, const void *buf, size_t len, const int *fds, size_t nfds)
{
	return sock_send_until(fd, buf, len, fds, nfds, UINT64_MAX);
}

ssize_t sock_recv(int fd, void *buf, size_t len, int *fds, size_t *nfds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	size_t room = nfds ? *nfds : 0, got = 0;
	ssize_t n;

	do {
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (nfds)
		*nfds = 0;
	if (n < 0)
		return -errno;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int x;

			memcpy(&x, CMSG_DATA(c) + i * sizeof(int), sizeof(x));
			if (got < room)
				fds[got++] = x;
			else
				close(x);
		}
	}
	if (nfds)
		*nfds = got;
	return n;
}
