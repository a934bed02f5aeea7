/*
 * The test function: see testdev.h.
 */
#include "vmm/testdev.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "../guest/lib/testdev.h"
#include "base/util.h"

#define BAR_SIZE 0x4000

static struct testdev *of(struct pci_func *f)
{
	return container_of(f, struct testdev, func);
}

static int direct_locked(struct testdev *d, bool direct)
{
	uint64_t start = now_ns();
	int ret = 0;

	if (direct == (d->slot != NULL))
		return 0;
	if (direct && d->bar == PCI_UNMAPPED)
		return -ENXIO;
	if (direct) {
		ret = d->host->ops->slot_add(d->host,
					     (gpa_t){ d->bar + TESTDEV_PAGE },
					     PAGE_SIZE, d->page, &d->slot);
	} else {
		ret = d->host->ops->slot_del(d->host, d->slot);
		if (!ret)
			d->slot = NULL;
	}
	d->toggles++;
	d->toggle_ns += now_ns() - start;
	return ret;
}

int testdev_direct(struct testdev *d, bool direct)
{
	int ret;

	pthread_mutex_lock(&d->lock);
	ret = direct_locked(d, direct);
	pthread_mutex_unlock(&d->lock);
	return ret;
}

static int routes(struct testdev *d)
{
	int ret = 0;

	for (unsigned int i = 0; i < TESTDEV_VECTORS && !ret; i++) {
		const struct pci_msix_entry *e = &d->msix.entry[i];
		struct host_msi m = { e->addr, e->data };

		if (e->addr)
			ret = d->host->ops->irq_route(d->host, d->irq[i], m);
	}
	return ret;
}

/* The bytes at an address as a device reaches them: never the copies. */
static uint64_t *device_word(struct testdev *d, uint64_t gpa)
{
	return host_backing_ptr(d->host, (gpa_t){ gpa }, 8);
}

static int64_t command(struct testdev *d, uint32_t cmd)
{
	uint64_t a = d->arg[0], b = d->arg[1], *w;

	switch (cmd) {
	case CMD_MSI:
		if (a >= TESTDEV_VECTORS)
			return -EINVAL;
		return eventfd_write(d->eventfd[a], 1) < 0 ? -errno : 0;
	case CMD_DIRECT: return direct_locked(d, a);
	case CMD_COUNT: return (int64_t)d->trapped;
	case CMD_SPLIT: return d->host->ops->split(d->host, (gpa_t){ a }, b);
	case CMD_MERGE: return d->host->ops->merge(d->host, (gpa_t){ a }, b);
	case CMD_DEV_WRITE:
	case CMD_DEV_READ:
		w = device_word(d, a);
		if (!w)
			return -EFAULT;
		if (cmd == CMD_DEV_READ)
			return (int64_t)*w;
		*w = b;
		return 0;
	default: return -ENOSYS;
	}
}

static uint64_t bar_read(struct pci_func *f, unsigned int bar, uint64_t off,
			 unsigned int size)
{
	struct testdev *d = of(f);
	uint64_t v = 0;

	pthread_mutex_lock(&d->lock);
	if (off + size <= sizeof(d->scratch))
		memcpy(&v, d->scratch + off, size);
	else if (off == TESTDEV_RESULT)
		v = d->result;
	else if (off >= TESTDEV_PAGE && off < TESTDEV_PAGE + PAGE_SIZE) {
		d->trapped++;
		memcpy(&v, d->page + off - TESTDEV_PAGE, size);
	} else if (pci_msix_covers(&d->msix, bar, off, size))
		v = pci_msix_read(&d->msix, off, size);
	pthread_mutex_unlock(&d->lock);
	return v;
}

static void bar_write(struct pci_func *f, unsigned int bar, uint64_t off,
		      unsigned int size, uint64_t val)
{
	struct testdev *d = of(f);

	pthread_mutex_lock(&d->lock);
	if (off + size <= sizeof(d->scratch))
		memcpy(d->scratch + off, &val, size);
	else if (off == TESTDEV_ARG0 || off == TESTDEV_ARG1)
		d->arg[off == TESTDEV_ARG1] = val;
	else if (off == TESTDEV_CMD && val != CMD_TELL)
		d->result = (uint64_t)command(d, (uint32_t)val);
	else if (off >= TESTDEV_PAGE && off < TESTDEV_PAGE + PAGE_SIZE) {
		d->trapped++;
		memcpy(d->page + off - TESTDEV_PAGE, &val, size);
	} else if (pci_msix_covers(&d->msix, bar, off, size)) {
		pci_msix_write(&d->msix, off, size, val);
		routes(d);
	}
	pthread_mutex_unlock(&d->lock);
	if (off == TESTDEV_CMD && val == CMD_TELL)
		d->result = d->tell ? (uint64_t)d->tell(d->opaque, d->arg[0],
							d->arg[1])
				    : (uint64_t)-ENOSYS;
}

static uint32_t config_read(struct pci_func *f, uint32_t off, unsigned int size)
{
	return pci_config_read(&of(f)->cfg, off, size);
}

static void bar_update(struct testdev *d)
{
	bool direct = d->slot != NULL;
	uint64_t at = pci_config_bar_gpa(&d->cfg, 0);

	if (at == d->bar)
		return;
	direct_locked(d, false);
	d->bar = at;
	d->func.bus_ops->bar_moved(d->func.bus, &d->func, 0, at, BAR_SIZE);
	if (direct && at != PCI_UNMAPPED)
		direct_locked(d, true);
}

static void config_write(struct pci_func *f, uint32_t off, unsigned int size,
			 uint32_t val)
{
	struct testdev *d = of(f);

	pthread_mutex_lock(&d->lock);
	pci_config_write(&d->cfg, off, size, val);
	bar_update(d);
	pthread_mutex_unlock(&d->lock);
}

static const struct pci_func_ops ops = {
	.config_read = config_read,
	.config_write = config_write,
	.bar_read = bar_read,
	.bar_write = bar_write,
};

int testdev_init(struct testdev *d, struct host *host)
{
	static const struct pci_ident id = {
		.vendor = TESTDEV_VENDOR,
		.device = TESTDEV_DEVICE,
		.class_code = 0xff0000,
	};
	int ret;

	memset(d, 0, sizeof(*d));
	d->func.ops = &ops;
	d->func.name = "testdev";
	d->host = host;
	d->bar = PCI_UNMAPPED;
	pthread_mutex_init(&d->lock, NULL);
	pci_config_init(&d->cfg, &id);
	ret = pci_config_bar(&d->cfg, 0, BAR_SIZE, PCI_BAR_64);
	if (!ret)
		ret = pci_msix_init(&d->msix, &d->cfg, 0x40, TESTDEV_VECTORS, 0,
				    TESTDEV_MSIX, TESTDEV_MSIX + 0x800);
	if (ret)
		return ret;
	d->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (d->page == MAP_FAILED)
		return -errno;
	for (unsigned int i = 0; i < TESTDEV_VECTORS && !ret; i++) {
		d->eventfd[i] = eventfd(0, EFD_CLOEXEC);
		ret = host->ops->irq_create(host, &d->irq[i]);
		if (!ret)
			ret = host->ops->irq_bind(host, d->irq[i],
						  d->eventfd[i]);
	}
	return ret;
}

void testdev_fini(struct testdev *d)
{
	testdev_direct(d, false);
	for (unsigned int i = 0; i < TESTDEV_VECTORS; i++) {
		d->host->ops->irq_unbind(d->host, d->irq[i], d->eventfd[i]);
		d->host->ops->irq_destroy(d->host, d->irq[i]);
		close_fd(&d->eventfd[i]);
	}
	munmap(d->page, PAGE_SIZE);
	pthread_mutex_destroy(&d->lock);
}

int testdev_move(struct testdev *to, struct testdev *from)
{
	to->cfg = from->cfg;
	to->msix = from->msix;
	memcpy(to->scratch, from->scratch, sizeof(to->scratch));
	memcpy(to->arg, from->arg, sizeof(to->arg));
	to->result = from->result;
	memcpy(to->page, from->page, PAGE_SIZE);
	bar_update(to);
	return routes(to);
}
