/*
 * Vectors: MSI-X as the guest programs it, eventfds underneath.
 *
 *	pdev --fd--> KVM irqfd			live, not taken: no exit
 *	pdev --fd--> (counter stays)		masked: pending when looked at
 *	pdev --fd--> loop --fn--> inject --> KVM irqfd		taken
 *
 * An eventfd keeps what fired while nobody was bound, so nothing is lost
 * between two states: whoever becomes responsible drains it first.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "vdev/vdev_priv.h"

static unsigned int number(const struct vdev_vec *c)
{
	return (unsigned int)(c - c->v->vec);
}

static bool live(const struct vdev_vec *c)
{
	return pci_msix_live(&c->v->msix, &c->v->cfg, number(c));
}

static void fire(struct vdev_vec *c)
{
	if (eventfd_write(c->inject, 1) < 0)
		log_limited(&c->v->nonsense, LOG_WARN,
			    "%s: interrupt %u not delivered: %s", c->v->name,
			    number(c), strerror(errno));
}

static void on_fd(int fd, uint32_t events, void *opaque)
{
	struct vdev_vec *c = opaque;
	eventfd_t n;

	vdev_lock(c->v);
	/* Released meanwhile: the counter belongs to the irqfd again. */
	if (c->taken && eventfd_read(fd, &n) == 0)
		c->fn(c->opaque);
	vdev_unlock(c->v);
}

/* What fired while nobody listened becomes a pending bit. */
static void collect(struct vdev_vec *c)
{
	eventfd_t n;

	if (!c->taken && !c->fd_bound && eventfd_read(c->fd, &n) == 0)
		c->v->msix.pending |= 1ull << number(c);
}

void vdev_irqs_collect(struct vdev *v)
{
	for (unsigned int i = 0; i < v->nvec; i++)
		collect(&v->vec[i]);
}

void vdev_irqs_clear(struct vdev *v)
{
	vdev_irqs_collect(v);
	v->msix.pending = 0;
}

static int bind_fd(struct vdev_vec *c, int fd, bool *bound, bool want)
{
	const struct host_ops *ops = c->v->host->ops;
	int ret;

	if (*bound == want)
		return 0;
	ret = want ? ops->irq_bind(c->v->host, c->irq, fd)
		   : ops->irq_unbind(c->v->host, c->irq, fd);
	if (ret == 0)
		*bound = want;
	return ret;
}

static int route(struct vdev_vec *c)
{
	const struct pci_msix_entry *e = &c->v->msix.entry[number(c)];
	const struct host_msi msi = { e->addr, e->data };
	int ret;

	if (c->routed && c->msi.addr == msi.addr && c->msi.data == msi.data)
		return 0;
	ret = c->v->host->ops->irq_route(c->v->host, c->irq, msi);
	if (ret == 0) {
		c->routed = true;
		c->msi = msi;
	}
	return ret;
}

static void update(struct vdev_vec *c)
{
	uint64_t bit = 1ull << number(c);
	bool on = live(c);
	int ret = 0;

	if (!on || c->taken)
		ret = bind_fd(c, c->fd, &c->fd_bound, false);
	if (on && ret == 0) {
		ret = route(c);
		if (ret == 0)
			ret = bind_fd(c, c->inject, &c->inject_bound, true);
		if (ret == 0 && !c->taken) {
			collect(c);
			ret = bind_fd(c, c->fd, &c->fd_bound, true);
		}
		if (ret == 0 && (c->v->msix.pending & bit)) {
			c->v->msix.pending &= ~bit;
			fire(c);
		}
	}
	if (ret < 0)
		log_limited(&c->v->nonsense, LOG_WARN,
			    "%s: interrupt %u cannot be routed: %s", c->v->name,
			    number(c), strerror(-ret));
}

void vdev_irqs_update(struct vdev *v)
{
	for (unsigned int i = 0; i < v->nvec; i++)
		update(&v->vec[i]);
}

int vdev_irqs_init(struct vdev *v)
{
	int ret;

	for (unsigned int i = 0; i < v->model->vectors; i++) {
		struct vdev_vec *c = &v->vec[i];

		*c = (struct vdev_vec){ .v = v, .fd = -1, .inject = -1 };
		ret = v->host->ops->irq_create(v->host, &c->irq);
		if (ret < 0)
			return ret;
		v->nvec++;
		c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		c->inject = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (c->fd < 0 || c->inject < 0)
			return -errno;
		ret = loop_add_fd(v->loop, c->fd, 0, on_fd, c, &c->src);
		if (ret < 0)
			return ret;
	}
	return 0;
}

void vdev_irqs_fini(struct vdev *v)
{
	while (v->nvec) {
		struct vdev_vec *c = &v->vec[--v->nvec];

		loop_remove(c->src);
		bind_fd(c, c->fd, &c->fd_bound, false);
		bind_fd(c, c->inject, &c->inject_bound, false);
		v->host->ops->irq_destroy(v->host, c->irq);
		close_fd(&c->fd);
		close_fd(&c->inject);
	}
}

int vdev_irqs_arm(struct vdev *v)
{
	int fds[VDEV_VECTORS_MAX];

	for (unsigned int i = 0; i < v->nvec; i++)
		fds[i] = v->vec[i].fd;
	return pdev_irq_set(v->pdev, PDEV_MSIX, 0, v->nvec, fds);
}

void vdev_irqs_disarm(struct vdev *v)
{
	pdev_irq_set(v->pdev, PDEV_MSIX, 0, 0, NULL);
}

int vdev_irq_take(struct vdev *v, unsigned int vector, void (*fn)(void *opaque),
		  void *opaque)
{
	struct vdev_vec *c;
	int ret = 0;

	if (vector >= v->nvec || !fn)
		return -EINVAL;
	c = &v->vec[vector];
	vdev_lock(v);
	if (c->taken) {
		ret = -EBUSY;
		goto unlock;
	}
	ret = bind_fd(c, c->fd, &c->fd_bound, false);
	if (ret < 0)
		goto unlock;
	c->fn = fn;
	c->opaque = opaque;
	c->taken = true;
	ret = loop_mod_fd(c->src, EPOLLIN);
	if (ret < 0) {
		c->taken = false;
		update(c);
	}
unlock:
	vdev_unlock(v);
	return ret;
}

int vdev_irq_release(struct vdev *v, unsigned int vector)
{
	struct vdev_vec *c;
	int ret;

	if (vector >= v->nvec)
		return -EINVAL;
	c = &v->vec[vector];
	vdev_lock(v);
	ret = c->taken ? loop_mod_fd(c->src, 0) : -EALREADY;
	if (ret == 0) {
		c->taken = false;
		update(c);
	}
	vdev_unlock(v);
	return ret;
}

void vdev_irq_inject(struct vdev *v, unsigned int vector)
{
	struct vdev_vec *c;

	if (vector >= v->nvec)
		return;
	c = &v->vec[vector];
	vdev_lock(v);
	if (live(c) && c->inject_bound)
		fire(c);
	else if (pci_msix_enabled(&v->msix, &v->cfg))
		v->msix.pending |= 1ull << vector;
	/* MSI-X off: the device has no other way to interrupt. */
	vdev_unlock(v);
}
