#include "pdev/vfio_user_msg.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

/* Larger payload buffers are given back once the message is done. */
#define BODY_KEEP 65536u

static int body_room(struct vfio_user_rx *rx, size_t len)
{
	uint8_t *p;

	if (len <= rx->room)
		return 0;
	p = realloc(rx->body, ALIGN_UP(len, 4096));
	if (!p)
		return -ENOMEM;
	rx->body = p;
	rx->room = ALIGN_UP(len, 4096);
	return 0;
}

/* 1: [p, p + want) is full from message byte 'base' on. */
static int fill(struct vfio_user_rx *rx, int fd, uint8_t *p, size_t base,
		size_t want)
{
	while (rx->got < base + want) {
		size_t nfds = SOCK_FDS_MAX - rx->nfds;
		size_t at = rx->got - base;
		ssize_t n = sock_recv(fd, p + at, want - at, rx->fds + rx->nfds,
				      &nfds);

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		rx->nfds += nfds;
		if (n == 0)
			return -EPIPE;
		rx->got += (size_t)n;
	}
	return 1;
}

int vfio_user_rx(struct vfio_user_rx *rx, int fd)
{
	const size_t hdr = sizeof(rx->hdr);
	int ret;

	if (rx->got < hdr) {
		ret = fill(rx, fd, (uint8_t *)&rx->hdr, 0, hdr);
		if (ret <= 0)
			return ret;
		if (rx->hdr.size < hdr ||
		    rx->hdr.size - hdr > VFIO_USER_PAYLOAD_MAX)
			return -EBADMSG;
		rx->len = rx->hdr.size - hdr;
		ret = body_room(rx, rx->len);
		if (ret < 0)
			return ret;
	}
	return fill(rx, fd, rx->body, hdr, rx->len);
}

int vfio_user_rx_take(struct vfio_user_rx *rx, size_t i)
{
	int fd = rx->fds[i];

	rx->fds[i] = -1;
	return fd;
}

void vfio_user_rx_next(struct vfio_user_rx *rx)
{
	for (size_t i = 0; i < rx->nfds; i++)
		close_fd(&rx->fds[i]);
	rx->nfds = 0;
	rx->got = 0;
	if (rx->room > BODY_KEEP) {
		free(rx->body);
		rx->body = NULL;
		rx->room = 0;
	}
}

void vfio_user_rx_free(struct vfio_user_rx *rx)
{
	vfio_user_rx_next(rx);
	free(rx->body);
	rx->body = NULL;
	rx->room = 0;
}
