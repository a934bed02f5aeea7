#include "plain_func.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/util.h"
#include "pci/config.h"
#include "pci/msix.h"

struct area {
	uint64_t off, len;
	void *va;
	struct host_slot *slot;
};

struct vector {
	unsigned int irq;
	int fd;
	bool bound;
};

struct plain {
	struct pci_func func; /* first */
	struct pdev *pdev;
	struct host *host;
	pthread_mutex_t lock;
	struct pci_config cfg;
	struct pci_msix msix;
	uint64_t at[6]; /* where the BARs are */
	struct area area[PDEV_AREAS_MAX];
	unsigned int nareas;
	struct vector vec[PCI_MSIX_MAX];
	unsigned int nvec; /* made so far */
	size_t ndma;	   /* RAM regions mapped */
};

/* The guest's pages of BAR 0 follow the BAR. */
static void place_areas(struct plain *f)
{
	const struct host_ops *ops = f->host->ops;

	for (unsigned int i = 0; i < f->nareas; i++) {
		struct area *a = &f->area[i];
		gpa_t at = { f->at[0] + a->off };

		if (a->slot && ops->slot_del(f->host, a->slot) == 0)
			a->slot = NULL;
		if (f->at[0] != PCI_UNMAPPED)
			ops->slot_add(f->host, at, a->len, a->va, &a->slot);
	}
}

static void move_bars(struct plain *f)
{
	for (unsigned int i = 0; i < 6; i++) {
		uint64_t at = pci_config_bar_gpa(&f->cfg, i);

		if (!f->cfg.bar_size[i] || at == f->at[i])
			continue;
		f->at[i] = at;
		f->func.bus_ops->bar_moved(f->func.bus, &f->func, i, at,
					   f->cfg.bar_size[i]);
		if (i == 0)
			place_areas(f);
	}
}

/* A vector that is not bound keeps what fired in its eventfd. */
static void bind_vectors(struct plain *f)
{
	const struct host_ops *ops = f->host->ops;

	for (unsigned int i = 0; i < f->nvec; i++) {
		struct vector *v = &f->vec[i];
		bool live = pci_msix_live(&f->msix, &f->cfg, i);
		struct host_msi m = { f->msix.entry[i].addr,
				      f->msix.entry[i].data };

		if (live)
			ops->irq_route(f->host, v->irq, m);
		if (live == v->bound)
			continue;
		if ((live ? ops->irq_bind(f->host, v->irq, v->fd)
			  : ops->irq_unbind(f->host, v->irq, v->fd)) == 0)
			v->bound = live;
	}
}

static struct plain *of(struct pci_func *f)
{
	return (struct plain *)f;
}

static uint32_t config_read(struct pci_func *func, uint32_t off,
			    unsigned int size)
{
	struct plain *f = of(func);
	uint32_t v;

	pthread_mutex_lock(&f->lock);
	v = pci_config_read(&f->cfg, off, size);
	pthread_mutex_unlock(&f->lock);
	return v;
}

static void command(struct plain *f)
{
	uint16_t v = pci_config_get16(&f->cfg, PCI_COMMAND);

	v = htole16((v & PCI_COMMAND_MASTER) | PCI_COMMAND_MEMORY);
	pdev_write(f->pdev, PDEV_CONFIG, PCI_COMMAND, &v, sizeof(v));
}

static void config_write(struct pci_func *func, uint32_t off, unsigned int size,
			 uint32_t val)
{
	struct plain *f = of(func);

	pthread_mutex_lock(&f->lock);
	pci_config_write(&f->cfg, off, size, val);
	command(f);
	move_bars(f);
	bind_vectors(f);
	pthread_mutex_unlock(&f->lock);
}

static uint64_t bar_read(struct pci_func *func, unsigned int bar, uint64_t off,
			 unsigned int size)
{
	struct plain *f = of(func);
	uint32_t v = 0xffffffff;

	if (pci_msix_covers(&f->msix, bar, off, size)) {
		pthread_mutex_lock(&f->lock);
		v = (uint32_t)pci_msix_read(&f->msix, off, size);
		pthread_mutex_unlock(&f->lock);
	} else {
		pdev_read32(f->pdev, bar, off, &v);
	}
	return v;
}

static void bar_write(struct pci_func *func, unsigned int bar, uint64_t off,
		      unsigned int size, uint64_t val)
{
	struct plain *f = of(func);

	if (pci_msix_covers(&f->msix, bar, off, size)) {
		pthread_mutex_lock(&f->lock);
		pci_msix_write(&f->msix, off, size, val);
		bind_vectors(f);
		pthread_mutex_unlock(&f->lock);
	} else {
		pdev_write32(f->pdev, bar, off, (uint32_t)val);
	}
}

static const struct pci_func_ops ops = {
	.config_read = config_read,
	.config_write = config_write,
	.bar_read = bar_read,
	.bar_write = bar_write,
};

static int open_config(struct plain *f)
{
	struct pci_config real = { 0 };
	unsigned int bar, n;
	uint16_t cap;
	uint32_t w;
	int ret = pdev_read(f->pdev, PDEV_CONFIG, 0, real.val, 256);

	if (ret < 0)
		return ret;
	cap = pci_config_find(&real, PCI_CAP_ID_MSIX);
	if (!cap)
		return -ENODEV;
	n = (pci_config_get16(&real, cap + PCI_MSIX_FLAGS) &
	     PCI_MSIX_FLAGS_QSIZE) +
	    1u;
	w = pci_config_get32(&real, cap + PCI_MSIX_TABLE);
	bar = w & PCI_MSIX_TABLE_BIR;
	if (!bar || bar > 5)
		return -ENODEV;
	pci_config_init(
		&f->cfg,
		&(struct pci_ident){
			.vendor = pci_config_get16(&real, PCI_VENDOR_ID),
			.device = pci_config_get16(&real, PCI_DEVICE_ID),
			.class_code =
				pci_config_get32(&real, PCI_REVISION_ID) >> 8,
		});
	ret = pci_config_bar(&f->cfg, 0, f->pdev->region[0].size, PCI_BAR_64);
	if (ret == 0)
		ret = pci_config_bar(&f->cfg, bar, f->pdev->region[bar].size,
				     PCI_BAR_64);
	if (ret == 0)
		ret = pci_msix_init(&f->msix, &f->cfg, cap, n, bar,
				    w & PCI_MSIX_TABLE_OFFSET,
				    pci_config_get32(&real,
						     cap + PCI_MSIX_PBA) &
					    PCI_MSIX_PBA_OFFSET);
	return ret;
}

static int open_areas(struct plain *f)
{
	const struct pdev_region *r = &f->pdev->region[0];
	struct pdev_area whole = { 0, r->size };
	const struct pdev_area *from = r->nareas ? r->area : &whole;
	unsigned int n = r->nareas ? r->nareas : 1;

	if (!(r->flags & PDEV_MMAP))
		return 0;
	for (unsigned int i = 0; i < n; i++) {
		struct area *a = &f->area[f->nareas];
		int ret =
			pdev_mmap(f->pdev, 0, from[i].off, from[i].len, &a->va);

		if (ret < 0)
			return ret;
		a->off = from[i].off;
		a->len = from[i].len;
		f->nareas++;
	}
	return 0;
}

static int open_vectors(struct plain *f)
{
	int fds[PCI_MSIX_MAX], ret;

	for (unsigned int i = 0; i < f->msix.n; i++) {
		struct vector *v = &f->vec[i];

		ret = f->host->ops->irq_create(f->host, &v->irq);
		if (ret < 0)
			return ret;
		v->fd = fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f->nvec++;
	}
	return pdev_irq_set(f->pdev, PDEV_MSIX, 0, f->nvec, fds);
}

static int open_dma(struct plain *f)
{
	const struct host_ram *r;
	size_t n = f->host->ops->ram(f->host, &r);
	int ret = 0;

	for (; f->ndma < n && ret == 0; r++) {
		const struct pdev_dma m = {
			.iova = r->gpa.v,
			.size = r->size,
			.va = r->backing,
			.fd = r->fd,
			.fd_offset = r->fd_offset,
			.prot = PDEV_READ | PDEV_WRITE,
		};

		ret = pdev_dma_map(f->pdev, &m);
		if (ret == 0)
			f->ndma++;
	}
	return ret;
}

/* All that plain_open() has made, but not the pdev. */
static void undo(struct plain *f)
{
	const struct host_ram *r;

	f->at[0] = PCI_UNMAPPED;
	place_areas(f);
	f->host->ops->ram(f->host, &r);
	pdev_irq_set(f->pdev, PDEV_MSIX, 0, 0, NULL);
	for (; f->ndma; f->ndma--, r++)
		pdev_dma_unmap(f->pdev, r->gpa.v, r->size);
	for (unsigned int i = 0; i < f->nareas; i++)
		munmap(f->area[i].va, f->area[i].len);
	for (unsigned int i = 0; i < f->nvec; i++) {
		struct vector *v = &f->vec[i];

		if (v->bound)
			f->host->ops->irq_unbind(f->host, v->irq, v->fd);
		f->host->ops->irq_destroy(f->host, v->irq);
		close_fd(&v->fd);
	}
	pthread_mutex_destroy(&f->lock);
}

int plain_open(struct plain **out, struct pdev *p, struct host *host)
{
	struct plain *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->func.ops = &ops;
	f->func.name = "plain";
	f->pdev = p;
	f->host = host;
	for (unsigned int i = 0; i < 6; i++)
		f->at[i] = PCI_UNMAPPED;
	pthread_mutex_init(&f->lock, NULL);
	ret = open_config(f);
	if (ret == 0)
		ret = open_areas(f);
	if (ret == 0)
		ret = open_vectors(f);
	if (ret == 0)
		ret = open_dma(f);
	if (ret < 0) {
		undo(f);
		free(f);
		return ret;
	}
	command(f);
	*out = f;
	return 0;
}

void plain_close(struct plain *f)
{
	if (!f)
		return;
	undo(f);
	pdev_close(f->pdev);
	free(f);
}

struct pci_func *plain_func(struct plain *f)
{
	return &f->func;
}
