/*
 * The eventfds of a vfio-user client.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "pdev/vfio_user_server_priv.h"

static bool is_eventfd(int fd)
{
	char link[64], name[32] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, name, sizeof(name) - 1) > 0 &&
	       !strcmp(name, "anon_inode:[eventfd]");
}

/*
 * A worker will write to it, so it must not be able to block: eventfds only,
 * and non-blocking.  The client shares the flag and can clear it again, which
 * is why signal() looks before it writes.
 */
static int check_eventfd(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (!is_eventfd(fd))
		return -EINVAL;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static void signal_fd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	/* Full means that the client has this and more still to see. */
	if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT)
		eventfd_write(fd, 1);
}

bool vfu_irq_raise(struct vfu_server *s, unsigned int index,
		   unsigned int vector)
{
	struct vfu_irq *i;

	if (index >= PDEV_NIRQS || vector >= s->nirqs[index])
		return false;
	i = &s->irq[index][vector];
	if (i->fd < 0)
		return false;
	if (index == PDEV_INTX) {
		/* Level: one signal, then quiet until it is unmasked. */
		if (atomic_exchange(&i->masked, true)) {
			i->pending = true;
			return true;
		}
	}
	signal_fd(i->fd);
	return true;
}

void vfu_irq_disarm(struct vfu_server *s, unsigned int index)
{
	unsigned int first = index < PDEV_NIRQS ? index : 0;
	unsigned int last = index < PDEV_NIRQS ? index : PDEV_NIRQS - 1;

	vfu_dma_exclude(&s->dma);
	for (unsigned int i = first; i <= last; i++)
		for (unsigned int v = 0; v < s->nirqs[i]; v++) {
			close_fd(&s->irq[i][v].fd);
			s->irq[i][v].masked = false;
			s->irq[i][v].pending = false;
		}
	vfu_dma_admit(&s->dma);
}

/* All or nothing: a descriptor that is no eventfd changes no vector. */
static int arm(struct vfu_server *s, const struct vfio_irq_set *q,
	       struct vfio_user_rx *rx)
{
	if (rx->nfds != 0 && rx->nfds != q->count)
		return -EINVAL;
	for (size_t i = 0; i < rx->nfds; i++) {
		int ret = check_eventfd(rx->fds[i]);

		if (ret < 0)
			return ret;
	}
	vfu_dma_exclude(&s->dma);
	for (uint32_t i = 0; i < q->count; i++) {
		struct vfu_irq *v = &s->irq[q->index][q->start + i];

		close_fd(&v->fd);
		v->masked = false;
		v->pending = false;
		if (rx->nfds)
			v->fd = vfio_user_rx_take(rx, i);
	}
	vfu_dma_admit(&s->dma);
	return 0;
}

static void unmask(struct vfu_server *s, struct vfu_irq *v)
{
	v->masked = false;
	if (v->fd >= 0 && atomic_exchange(&v->pending, false)) {
		v->masked = true;
		signal_fd(v->fd);
	}
}

static void act(struct vfu_server *s, const struct vfio_irq_set *q,
		const uint8_t *bools)
{
	for (uint32_t i = 0; i < q->count; i++) {
		struct vfu_irq *v = &s->irq[q->index][q->start + i];

		if (bools && !bools[i])
			continue;
		if (q->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
			vfu_irq_raise(s, q->index, q->start + i);
		else if (q->flags & VFIO_IRQ_SET_ACTION_MASK)
			v->masked = true;
		else
			unmask(s, v);
	}
}

static bool one_bit(uint32_t v)
{
	return v && !(v & (v - 1));
}

int vfu_set_irqs(struct vfu_server *s, struct vfu_cmd *c)
{
	const uint32_t data = VFIO_IRQ_SET_DATA_TYPE_MASK;
	const uint32_t action = VFIO_IRQ_SET_ACTION_TYPE_MASK;
	const size_t fixed = offsetof(struct vfio_irq_set, data);
	const uint8_t *bools = NULL;
	struct vfio_irq_set q;
	int ret = 0;

	memcpy(&q, c->body, fixed);
	if (q.argsz < fixed || q.flags & ~(data | action) ||
	    !one_bit(q.flags & data) || !one_bit(q.flags & action) ||
	    q.index >= PDEV_NIRQS || q.start > s->nirqs[q.index] ||
	    q.count > s->nirqs[q.index] - q.start)
		return -EINVAL;
	if (!(q.flags & VFIO_IRQ_SET_DATA_EVENTFD) && c->rx->nfds)
		return -EINVAL;
	if (!(q.flags & VFIO_IRQ_SET_ACTION_TRIGGER) &&
	    (q.index != PDEV_INTX || q.flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return -EINVAL;
	if (q.flags & VFIO_IRQ_SET_DATA_BOOL) {
		if (c->len - fixed < q.count)
			return -EINVAL;
		bools = c->body + fixed;
	}

	if (q.flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		if (q.count == 0)
			return -EINVAL;
		ret = arm(s, &q, c->rx);
	} else if (q.count == 0) {
		if (!(q.flags & VFIO_IRQ_SET_DATA_NONE) || q.start != 0 ||
		    !(q.flags & VFIO_IRQ_SET_ACTION_TRIGGER))
			return -EINVAL;
		vfu_irq_disarm(s, q.index);
	} else {
		act(s, &q, bools);
		return 0;
	}
	if (ret == 0 && s->ops->irq_changed)
		s->ops->irq_changed(s->opaque, q.index);
	return ret;
}
