/*
 * Unix sockets: names in the file system, messages with descriptors.
 *
 * A listening socket is mode 0600 and is made safely: a name left behind by
 * a process that was killed is taken over, a name somebody still listens on
 * is refused with -EADDRINUSE.
 */
#ifndef BASE_SOCK_H
#define BASE_SOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define SOCK_FDS_MAX 16

/* 'type' is SOCK_STREAM or SOCK_SEQPACKET; fds are CLOEXEC.  Returns the fd. */
int sock_listen(const char *path, int type, struct err *e);
/* -ETIMEDOUT after seconds where somebody listens and accepts nothing. */
int sock_connect(const char *path, int type, struct err *e);
int sock_accept(int fd);

/* All of it, or -errno; a peer that is gone is -EPIPE, never a signal. */
int sock_send(int fd, const void *buf, size_t len, const int *fds, size_t nfds);

/* As sock_send; -ETIMEDOUT when not all of it is gone by now_ns() time 'end'. */
int sock_send_until(int fd, const void *buf, size_t len, const int *fds,
		    size_t nfds, uint64_t end);

/*
 * One send that does not wait, on a socket of any mode.  Returns the bytes
 * taken (the descriptors travel with the first), -EAGAIN, or -errno.
 */
ssize_t sock_try_send(int fd, const void *buf, size_t len, const int *fds,
		      size_t nfds);

/*
 * One receive.  *nfds is the room in 'fds' going in and the number received
 * coming out; descriptors that find no room are closed, never leaked.
 * Returns the bytes, 0 at the end, -errno.
 */
ssize_t sock_recv(int fd, void *buf, size_t len, int *fds, size_t *nfds);

#endif
