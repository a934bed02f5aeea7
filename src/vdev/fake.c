#include "vdev/fake.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/bitmap.h"
#include "base/util.h"

static bool fails(unsigned int *in)
{
	return *in && --*in == 0;
}

static struct fake_host *fh(struct host *h)
{
	return (struct fake_host *)h;
}

static size_t fh_ram(struct host *h, const struct host_ram **out)
{
	*out = &fh(h)->ram;
	return 1;
}

static bool in_ram(struct fake_host *f, gpa_t gpa, uint64_t len)
{
	return len && gpa.v % f->ram.page == 0 && len % f->ram.page == 0 &&
	       gpa.v < f->ram.size && len <= f->ram.size - gpa.v;
}

/* All of it is split, or none: as the caller wants it. */
static int may_turn(struct fake_host *f, gpa_t gpa, uint64_t len, bool split)
{
	for (uint64_t o = 0; o < len; o += PAGE_SIZE)
		if (bitmap_test(f->split, (gpa.v + o) / PAGE_SIZE) != split)
			return -EALREADY;
	return fails(&f->fail_in) ? -EIO : 0;
}

static int fh_split(struct host *h, gpa_t gpa, uint64_t len)
{
	struct fake_host *f = fh(h);
	char *at = (char *)f->ram.guest + gpa.v;
	int ret;

	if (!in_ram(f, gpa, len))
		return -EINVAL;
	pthread_mutex_lock(&f->lock);
	ret = may_turn(f, gpa, len, false);
	if (ret == 0 &&
	    mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		ret = -errno;
	if (ret == 0) {
		memcpy(at, (char *)f->ram.backing + gpa.v, len);
		bitmap_set_range(f->split, gpa.v / PAGE_SIZE, len / PAGE_SIZE);
		f->splits++;
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static int fh_merge(struct host *h, gpa_t gpa, uint64_t len)
{
	struct fake_host *f = fh(h);
	char *at = (char *)f->ram.guest + gpa.v;
	int ret;

	if (!in_ram(f, gpa, len))
		return -EINVAL;
	pthread_mutex_lock(&f->lock);
	ret = may_turn(f, gpa, len, true);
	if (ret == 0 &&
	    mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 f->ram.fd, (off_t)gpa.v) == MAP_FAILED)
		ret = -errno;
	if (ret == 0) {
		bitmap_clear_range(f->split, gpa.v / PAGE_SIZE,
				   len / PAGE_SIZE);
		f->merges++;
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static int fh_slot_add(struct host *h, gpa_t gpa, uint64_t len, void *va,
		       struct host_slot **out)
{
	struct fake_host *f = fh(h);
	struct host_slot *room = NULL;
	int ret = 0;

	pthread_mutex_lock(&f->lock);
	for (unsigned int i = 0; i < FAKE_SLOTS; i++) {
		struct host_slot *s = &f->slot[i];

		if (!s->va)
			room = s;
		else if (gpa.v < s->gpa + s->len && s->gpa < gpa.v + len)
			ret = -EEXIST;
	}
	if (gpa.v < f->ram.size)
		ret = -EEXIST;
	if (ret == 0 && !room)
		ret = -ENOSPC;
	if (ret == 0 && fails(&f->fail_in))
		ret = -EIO;
	if (ret == 0) {
		*room = (struct host_slot){ gpa.v, len, va };
		*out = room;
		f->slot_adds++;
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static int fh_slot_del(struct host *h, struct host_slot *s)
{
	struct fake_host *f = fh(h);
	int ret = 0;

	pthread_mutex_lock(&f->lock);
	assert(s->va);
	if (fails(&f->fail_in))
		ret = -EIO;
	else
		s->va = NULL;
	f->slot_dels += ret == 0;
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static int fh_irq_create(struct host *h, unsigned int *irq)
{
	struct fake_host *f = fh(h);
	int ret = -ENOSPC;

	pthread_mutex_lock(&f->lock);
	for (unsigned int i = 0; i < FAKE_IRQS && ret < 0; i++) {
		if (f->irq[i].used)
			continue;
		if (fails(&f->fail_in)) {
			ret = -EIO;
			break;
		}
		f->irq[i] = (struct fake_irq){ .used = true,
					       .fd = { -1, -1, -1, -1 } };
		*irq = i;
		ret = 0;
	}
	pthread_mutex_unlock(&f->lock);
	return ret;
}

static void fh_irq_destroy(struct host *h, unsigned int irq)
{
	fh(h)->irq[irq].used = false;
}

static int fh_irq_route(struct host *h, unsigned int irq, struct host_msi m)
{
	struct fake_host *f = fh(h);

	if (irq >= FAKE_IRQS || !f->irq[irq].used)
		return -EINVAL;
	if (fails(&f->fail_in))
		return -EIO;
	f->irq[irq].msi = m;
	f->irq[irq].routed = true;
	return 0;
}

static int fh_irq_bind(struct host *h, unsigned int irq, int fd)
{
	struct fake_host *f = fh(h);
	int *room = NULL;

	if (irq >= FAKE_IRQS || !f->irq[irq].used)
		return -EINVAL;
	if (fails(&f->fail_in))
		return -EIO;
	for (unsigned int i = 0; i < FAKE_FDS; i++) {
		if (f->irq[irq].fd[i] == fd)
			return -EBUSY;
		if (f->irq[irq].fd[i] < 0)
			room = &f->irq[irq].fd[i];
	}
	if (!room)
		return -ENOSPC;
	*room = fd;
	return 0;
}

static int fh_irq_unbind(struct host *h, unsigned int irq, int fd)
{
	struct fake_host *f = fh(h);

	if (irq >= FAKE_IRQS || !f->irq[irq].used)
		return -EINVAL;
	fake_host_fired(f, irq); /* the kernel would have by now */
	for (unsigned int i = 0; i < FAKE_FDS; i++)
		if (f->irq[irq].fd[i] == fd) {
			f->irq[irq].fd[i] = -1;
			return 0;
		}
	return -ENOENT;
}

static int fh_pause(struct host *h)
{
	struct fake_host *f = fh(h);

	pthread_mutex_lock(&f->lock);
	f->paused++;
	f->pauses++;
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void fh_resume(struct host *h)
{
	struct fake_host *f = fh(h);

	pthread_mutex_lock(&f->lock);
	assert(f->paused > 0);
	f->paused--;
	pthread_mutex_unlock(&f->lock);
}

static void fh_mark_dirty(struct host *h, gpa_t gpa, uint64_t len)
{
	struct fake_host *f = fh(h);

	if (!len || gpa.v >= f->ram.size || len > f->ram.size - gpa.v)
		return;
	bitmap_set_range_atomic(f->dirty, gpa.v / PAGE_SIZE,
				(gpa.v + len - 1) / PAGE_SIZE -
					gpa.v / PAGE_SIZE + 1);
}

static const struct host_ops host_ops = {
	.ram = fh_ram,
	.split = fh_split,
	.merge = fh_merge,
	.slot_add = fh_slot_add,
	.slot_del = fh_slot_del,
	.irq_create = fh_irq_create,
	.irq_destroy = fh_irq_destroy,
	.irq_route = fh_irq_route,
	.irq_bind = fh_irq_bind,
	.irq_unbind = fh_irq_unbind,
	.pause = fh_pause,
	.resume = fh_resume,
	.mark_dirty = fh_mark_dirty,
};

int fake_host_init(struct fake_host *f, uint64_t mem)
{
	memset(f, 0, sizeof(*f));
	f->h.ops = &host_ops;
	pthread_mutex_init(&f->lock, NULL);
	f->ram.size = mem;
	f->ram.page = PAGE_SIZE;
	f->ram.fd = memfd_create("fake-ram", MFD_CLOEXEC);
	f->dirty = bitmap_alloc(mem / PAGE_SIZE);
	f->split = bitmap_alloc(mem / PAGE_SIZE);
	if (f->ram.fd < 0 || !f->dirty || !f->split ||
	    ftruncate(f->ram.fd, (off_t)mem) < 0)
		return -ENOMEM;
	f->ram.guest = mmap(NULL, mem, PROT_READ | PROT_WRITE, MAP_SHARED,
			    f->ram.fd, 0);
	f->ram.backing = mmap(NULL, mem, PROT_READ | PROT_WRITE, MAP_SHARED,
			      f->ram.fd, 0);
	for (unsigned int i = 0; i < 6; i++)
		f->bar_gpa[i] = PCI_UNMAPPED;
	return f->ram.guest == MAP_FAILED || f->ram.backing == MAP_FAILED
		       ? -ENOMEM
		       : 0;
}

void fake_host_fini(struct fake_host *f)
{
	munmap(f->ram.guest, f->ram.size);
	munmap(f->ram.backing, f->ram.size);
	close_fd(&f->ram.fd);
	free(f->dirty);
	free(f->split);
	pthread_mutex_destroy(&f->lock);
}

unsigned int fake_host_fired(struct fake_host *f, unsigned int irq)
{
	struct fake_irq *q = &f->irq[irq];
	eventfd_t n;

	for (unsigned int i = 0; i < FAKE_FDS; i++)
		if (q->fd[i] >= 0 && eventfd_read(q->fd[i], &n) == 0)
			q->fired += (unsigned int)n;
	return q->fired;
}

unsigned int fake_host_fired_data(struct fake_host *f, uint32_t data)
{
	for (unsigned int i = 0; i < FAKE_IRQS; i++)
		if (f->irq[i].used && f->irq[i].routed &&
		    f->irq[i].msi.data == data)
			return fake_host_fired(f, i);
	return 0;
}

bool fake_host_dirty(struct fake_host *f, uint64_t gpa)
{
	return bitmap_test(f->dirty, gpa / PAGE_SIZE);
}

void *fake_host_direct(struct fake_host *f, uint64_t gpa)
{
	for (unsigned int i = 0; i < FAKE_SLOTS; i++) {
		struct host_slot *s = &f->slot[i];

		if (s->va && gpa >= s->gpa && gpa < s->gpa + s->len)
			return (char *)s->va + (gpa - s->gpa);
	}
	return NULL;
}

static void bar_moved(void *bus, struct pci_func *func, unsigned int bar,
		      uint64_t gpa, uint64_t size)
{
	struct fake_host *f = bus;

	f->bar_gpa[bar] = gpa;
	f->bar_moves++;
}

static const struct pci_bus_ops bus_ops = { .bar_moved = bar_moved };

void fake_plug(struct fake_host *f, struct pci_func *func)
{
	f->func = func;
	func->bus_ops = &bus_ops;
	func->bus = f;
	for (unsigned int i = 0; i < 6; i++) {
		uint32_t at = PCI_BASE_ADDRESS_0 + 4 * i, low;

		func->ops->config_write(func, at, 4, 0xffffffff);
		low = func->ops->config_read(func, at, 4);
		if (!(low & ~0xfu))
			continue;
		func->ops->config_write(func, at, 4,
					0xe0000000u + i * 0x100000);
		if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) !=
		    PCI_BASE_ADDRESS_MEM_TYPE_64)
			continue;
		func->ops->config_write(func, at + 4, 4, 0);
		i++;
	}
	func->ops->config_write(func, PCI_COMMAND, 2,
				PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void fake_msix_on(struct fake_host *f, const struct vdev_model *m)
{
	uint32_t cap =
		f->func->ops->config_read(f->func, PCI_CAPABILITY_LIST, 1);

	while (cap &&
	       f->func->ops->config_read(f->func, cap, 1) != PCI_CAP_ID_MSIX)
		cap = f->func->ops->config_read(f->func, cap + 1, 1);
	for (uint32_t i = 0; i < m->vectors; i++) {
		uint32_t at = m->msix_table + 16 * i;

		fake_write(f, m->msix_bar, at, 0xfee00000);
		fake_write(f, m->msix_bar, at + 4, 0);
		fake_write(f, m->msix_bar, at + 8, 0x4000 + i);
		fake_write(f, m->msix_bar, at + 12, 0);
	}
	f->func->ops->config_write(f->func, cap + PCI_MSIX_FLAGS, 2,
				   PCI_MSIX_FLAGS_ENABLE);
}

static uint32_t *direct_reg(struct fake_host *f, unsigned int bar, uint32_t off)
{
	return f->bar_gpa[bar] == PCI_UNMAPPED
		       ? NULL
		       : fake_host_direct(f, f->bar_gpa[bar] + off);
}

bool fake_exits(struct fake_host *f, unsigned int bar, uint32_t off)
{
	return !direct_reg(f, bar, off);
}

uint32_t fake_read(struct fake_host *f, unsigned int bar, uint32_t off)
{
	volatile uint32_t *reg = direct_reg(f, bar, off);

	return reg ? *reg
		   : (uint32_t)f->func->ops->bar_read(f->func, bar, off, 4);
}

void fake_write(struct fake_host *f, unsigned int bar, uint32_t off,
		uint32_t val)
{
	volatile uint32_t *reg = direct_reg(f, bar, off);

	if (reg)
		*reg = val;
	else
		f->func->ops->bar_write(f->func, bar, off, 4, val);
}

/* ---- the device ---- */

static struct fake_pdev *fp_of(struct pdev *p)
{
	return (struct fake_pdev *)p;
}

static void fp_close(struct pdev *p)
{
	struct fake_pdev *fp = fp_of(p);

	for (unsigned int i = 0; i < 6; i++) {
		if (fp->bar[i])
			munmap(fp->bar[i], p->region[i].size);
		close_fd(&fp->barfd[i]);
	}
	if (fp->closed)
		*fp->closed = true;
	free(fp);
}

static int fp_read(struct pdev *p, unsigned int region, uint64_t off, void *buf,
		   size_t len)
{
	struct fake_pdev *fp = fp_of(p);

	if (fp->gone) {
		memset(buf, 0xff, len);
		return -ENODEV;
	}
	if (fails(&fp->fail_in))
		return -EIO;
	if (region == PDEV_CONFIG) {
		memcpy(buf, fp->config + off, len);
		return 0;
	}
	fp->reads++;
	if (fp->on_read)
		fp->on_read(fp, region, (uint32_t)off);
	memcpy(buf, fp->bar[region] + off, len);
	return 0;
}

static int fp_write(struct pdev *p, unsigned int region, uint64_t off,
		    const void *buf, size_t len)
{
	struct fake_pdev *fp = fp_of(p);
	uint32_t val = 0;

	if (fp->gone)
		return -ENODEV;
	if (fails(&fp->fail_in))
		return -EIO;
	if (region == PDEV_CONFIG) {
		memcpy(fp->config + off, buf, len);
		return 0;
	}
	fp->writes++;
	memcpy(fp->bar[region] + off, buf, len);
	memcpy(&val, buf, MIN(len, sizeof(val)));
	if (fp->on_write)
		fp->on_write(fp, region, (uint32_t)off, val);
	return 0;
}

static int fp_mmap(struct pdev *p, unsigned int region, uint64_t off,
		   uint64_t len, void **va)
{
	struct fake_pdev *fp = fp_of(p);
	void *at;

	if (fails(&fp->fail_in))
		return -EIO;
	for (uint64_t n = off / PAGE_SIZE; n < (off + len) / PAGE_SIZE; n++)
		if (fp->nomap[region] >> n & 1)
			return -ENOTSUP;
	at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
		  fp->barfd[region], (off_t)off);
	if (at == MAP_FAILED)
		return -errno;
	*va = at;
	return 0;
}

static int fp_irq_set(struct pdev *p, unsigned int index, unsigned int start,
		      unsigned int count, const int *fds)
{
	struct fake_pdev *fp = fp_of(p);

	if (count && fails(&fp->fail_in))
		return -EIO;
	for (unsigned int i = 0; i < p->nirqs[index]; i++)
		if (!count)
			fp->irqfd[i] = -1;
		else if (i >= start && i - start < count)
			fp->irqfd[i] = fds[i - start];
	return 0;
}

static int fp_dma_map(struct pdev *p, const struct pdev_dma *m)
{
	struct fake_pdev *fp = fp_of(p);
	struct pdev_dma *room = NULL;

	if (fails(&fp->fail_in))
		return -EIO;
	for (unsigned int i = 0; i < FAKE_DMA; i++) {
		struct pdev_dma *d = &fp->dma[i];

		if (!d->size)
			room = d;
		else if (m->iova < d->iova + d->size &&
			 d->iova < m->iova + m->size)
			return -EEXIST;
	}
	if (!room)
		return -ENOSPC;
	*room = *m;
	return 0;
}

static int fp_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	struct fake_pdev *fp = fp_of(p);

	for (unsigned int i = 0; i < FAKE_DMA; i++)
		if (fp->dma[i].size == size && fp->dma[i].iova == iova) {
			fp->dma[i].size = 0;
			return 0;
		}
	return -ENOENT;
}

static int fp_reset(struct pdev *p)
{
	struct fake_pdev *fp = fp_of(p);

	fp->resets++;
	for (unsigned int i = 0; i < 6; i++)
		if (fp->bar[i])
			memset(fp->bar[i], 0, p->region[i].size);
	return 0;
}

static void fp_on_gone(struct pdev *p, void (*fn)(void *opaque), void *opaque)
{
	struct fake_pdev *fp = fp_of(p);

	fp->gone_fn = fn;
	fp->gone_opaque = opaque;
	if (fn && fp->gone)
		fn(opaque);
}

void fake_pdev_pull(struct fake_pdev *fp)
{
	fp->gone = true;
	if (fp->gone_fn)
		fp->gone_fn(fp->gone_opaque);
}

static int fp_flush(struct pdev *p)
{
	fp_of(p)->flushes++;
	return 0;
}

static const struct pdev_ops pdev_ops = {
	.name = "fake",
	.close = fp_close,
	.read = fp_read,
	.write = fp_write,
	.flush = fp_flush,
	.mmap = fp_mmap,
	.irq_set = fp_irq_set,
	.dma_map = fp_dma_map,
	.dma_unmap = fp_dma_unmap,
	.reset = fp_reset,
	.on_gone = fp_on_gone,
};

int fake_pdev_open(struct fake_pdev **out, uint16_t vendor, uint16_t device)
{
	static const unsigned int bars[] = { 0, 3 };
	struct fake_pdev *fp = calloc(1, sizeof(*fp));

	if (!fp)
		return -ENOMEM;
	fp->p.ops = &pdev_ops;
	strcpy(fp->p.name, "fake");
	for (unsigned int i = 0; i < 6; i++)
		fp->barfd[i] = -1;
	for (unsigned int i = 0; i < VDEV_VECTORS_MAX; i++)
		fp->irqfd[i] = -1;
	for (unsigned int i = 0; i < ARRAY_SIZE(bars); i++) {
		struct pdev_region *r = &fp->p.region[bars[i]];
		int fd = memfd_create("fake-bar", MFD_CLOEXEC);
		void *va;

		r->size = 16384;
		r->flags = PDEV_READ | PDEV_WRITE | PDEV_MMAP;
		fp->barfd[bars[i]] = fd;
		if (fd < 0 || ftruncate(fd, 16384) < 0)
			goto fail;
		va = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			  0);
		if (va == MAP_FAILED)
			goto fail;
		fp->bar[bars[i]] = va;
	}
	fp->p.region[PDEV_CONFIG].size = sizeof(fp->config);
	fp->p.region[PDEV_CONFIG].flags = PDEV_READ | PDEV_WRITE;
	fp->p.nirqs[PDEV_MSIX] = 3;
	memcpy(fp->config, &vendor, 2);
	memcpy(fp->config + 2, &device, 2);
	*out = fp;
	return 0;

fail:
	fp_close(&fp->p);
	return -ENOMEM;
}

bool fake_pdev_fire(struct fake_pdev *fp, unsigned int vector)
{
	return vector < VDEV_VECTORS_MAX && fp->irqfd[vector] >= 0 &&
	       eventfd_write(fp->irqfd[vector], 1) == 0;
}

void *fake_pdev_dma(struct fake_pdev *fp, uint64_t iova, uint64_t len)
{
	for (unsigned int i = 0; i < FAKE_DMA; i++) {
		struct pdev_dma *d = &fp->dma[i];

		if (d->size && iova >= d->iova && len <= d->size &&
		    iova - d->iova <= d->size - len)
			return (char *)d->va + (iova - d->iova);
	}
	return NULL;
}

uint32_t fake_pdev_get(struct fake_pdev *fp, uint32_t off)
{
	uint32_t val;

	memcpy(&val, fp->bar[0] + off, sizeof(val));
	return val;
}

void fake_pdev_set(struct fake_pdev *fp, uint32_t off, uint32_t val)
{
	memcpy(fp->bar[0] + off, &val, sizeof(val));
}
