/*
 * Messages out of a stream: what both sides of vfio-user receive with.
 *
 * Descriptors travel with bytes of the stream, so a message is read by
 * itself, header and then exactly its payload: what arrives with any of its
 * bytes is this message's and nobody else's.
 */
#ifndef PDEV_VFIO_USER_MSG_H
#define PDEV_VFIO_USER_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "base/sock.h"
#include "pdev/vfio_user_proto.h"

struct vfio_user_rx {
	struct vfio_user_hdr hdr;
	uint8_t *body; /* payload, 8-aligned */
	size_t len;    /* of the payload; hdr.size - 16 */
	int fds[SOCK_FDS_MAX];
	size_t nfds;

	size_t got, room; /* bytes so far; body's allocation */
};

/*
 * Receive from a non-blocking socket.  1: a message is complete; take what
 * is needed and call _next.  0: nothing more for now.  Else the stream is
 * over: -EPIPE at its end, -EBADMSG for a size no message has, -errno.
 */
int vfio_user_rx(struct vfio_user_rx *rx, int fd);

/* Forget the message; closes descriptors that nobody took (set to -1). */
void vfio_user_rx_next(struct vfio_user_rx *rx);
void vfio_user_rx_free(struct vfio_user_rx *rx);

/* Take descriptor i out of the message: the caller's from now on. */
int vfio_user_rx_take(struct vfio_user_rx *rx, size_t i);

#endif
