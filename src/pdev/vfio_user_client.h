/*
 * The vfio-user back end of a pdev: the client's half of the protocol.
 *
 * Calls are thread-safe.  A server that does not answer in time, breaks the
 * protocol or closes the socket is gone for good: every call fails with
 * -ENODEV, reads are all ones, and ops->on_gone is told.  There is no
 * reconnect; the owner opens a new pdev and binds that.
 *
 * The server is hostile: what it says of itself is bounded, descriptors it
 * hands over are mapped only if they are sealed against shrinking, and its
 * DMA messages reach nothing but what dma_map() named.
 */
#ifndef PDEV_VFIO_USER_CLIENT_H
#define PDEV_VFIO_USER_CLIENT_H

#include "pdev/pdev.h"

/* 'path' names the server's socket.  pdev_close() ends the connection. */
int vfio_user_open(struct pdev **out, const char *path, struct err *e);

/* As above on a connected stream socket, which it owns even on failure. */
int vfio_user_open_fd(struct pdev **out, int fd, const char *name,
		      struct err *e);

#endif
