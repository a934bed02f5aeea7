#include "pdev/pdev.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "pdev/backend.h"
#include "pdev/vfio_user_client.h"

static const char vfio_user[] = "vfio-user:";

/* Which back end a spec names: the first whose prefix fits; it gets the rest. */
static const struct {
	const char *prefix;
	int (*open)(struct pdev **out, const char *rest, struct err *e);
} backends[] = {
	{ vfio_user, vfio_user_open },
	{ "", pdev_vfio_open },
	{ NULL, NULL },
};

int pdev_check_spec(const char *spec, struct err *e)
{
	struct pdev_vfio_spec parts;

	if (!strncmp(spec, vfio_user, strlen(vfio_user)) &&
	    spec[strlen(vfio_user)])
		return 0;
	return pdev_vfio_parse(&parts, spec, e);
}

int pdev_open(struct pdev **out, const char *spec, struct err *e)
{
	struct pdev *p;
	int ret;

	if (!*spec || strlen(spec) >= sizeof(p->name))
		return err_set(e, -EINVAL,
			       "'%s' names no device: give a PCI address as "
			       "0000:01:10.0 or vfio-user:SOCKET",
			       spec);
	for (size_t i = 0; backends[i].open; i++) {
		size_t len = strlen(backends[i].prefix);

		if (strncmp(spec, backends[i].prefix, len))
			continue;
		ret = backends[i].open(&p, spec + len, e);
		if (ret < 0)
			return ret;
		snprintf(p->name, sizeof(p->name), "%s", spec);
		*out = p;
		return 0;
	}
	return err_set(e, -EINVAL, "no kind of device is named '%s'", spec);
}

void pdev_close(struct pdev *p)
{
	if (p)
		p->ops->close(p);
}

static int check(const struct pdev *p, unsigned int region, uint64_t off,
		 uint64_t len, uint32_t flag)
{
	const struct pdev_region *r;

	if (region >= PDEV_NREGIONS)
		return -EINVAL;
	r = &p->region[region];
	if (!(r->flags & flag))
		return flag == PDEV_MMAP ? -ENOTSUP : -EACCES;
	if (!len || len > r->size || off > r->size - len)
		return -EINVAL;
	return 0;
}

int pdev_read(struct pdev *p, unsigned int region, uint64_t off, void *buf,
	      size_t len)
{
	int ret = check(p, region, off, len, PDEV_READ);

	return ret < 0 ? ret : p->ops->read(p, region, off, buf, len);
}

int pdev_write(struct pdev *p, unsigned int region, uint64_t off,
	       const void *buf, size_t len)
{
	int ret = check(p, region, off, len, PDEV_WRITE);

	return ret < 0 ? ret : p->ops->write(p, region, off, buf, len);
}

int pdev_read32(struct pdev *p, unsigned int region, uint64_t off, uint32_t *v)
{
	uint32_t le;
	int ret = pdev_read(p, region, off, &le, sizeof(le));

	if (ret == 0)
		*v = le32toh(le);
	return ret;
}

int pdev_write32(struct pdev *p, unsigned int region, uint64_t off, uint32_t v)
{
	uint32_t le = htole32(v);

	return pdev_write(p, region, off, &le, sizeof(le));
}

int pdev_flush(struct pdev *p)
{
	return p->ops->flush ? p->ops->flush(p) : 0;
}

int pdev_mmap(struct pdev *p, unsigned int region, uint64_t off, uint64_t len,
	      void **va)
{
	int ret = check(p, region, off, len, PDEV_MMAP);
	const struct pdev_region *r;

	if (ret < 0)
		return ret;
	if (off % PAGE_SIZE || len % PAGE_SIZE)
		return -EINVAL;

	r = &p->region[region];
	if (!r->nareas)
		return p->ops->mmap(p, region, off, len, va);
	for (uint32_t i = 0; i < MIN(r->nareas, PDEV_AREAS_MAX); i++)
		if (len <= r->area[i].len && off >= r->area[i].off &&
		    off - r->area[i].off <= r->area[i].len - len)
			return p->ops->mmap(p, region, off, len, va);
	return -ENOTSUP;
}

int pdev_irq_set(struct pdev *p, unsigned int index, unsigned int start,
		 unsigned int count, const int *fds)
{
	if (index >= PDEV_NIRQS || (count && !fds) || start > p->nirqs[index] ||
	    count > p->nirqs[index] - start)
		return -EINVAL;
	return p->ops->irq_set(p, index, start, count, fds);
}

static int check_iova(uint64_t iova, uint64_t size)
{
	return !size || iova % PAGE_SIZE || size % PAGE_SIZE ||
			       iova + size - 1 < iova
		       ? -EINVAL
		       : 0;
}

int pdev_dma_map(struct pdev *p, const struct pdev_dma *m)
{
	int ret = check_iova(m->iova, m->size);

	if (ret < 0)
		return ret;
	if (!m->va || (uintptr_t)m->va % PAGE_SIZE ||
	    !(m->prot & (PDEV_READ | PDEV_WRITE)))
		return -EINVAL;
	return p->ops->dma_map(p, m);
}

int pdev_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	int ret = check_iova(iova, size);

	return ret < 0 ? ret : p->ops->dma_unmap(p, iova, size);
}

int pdev_reset(struct pdev *p)
{
	return p->ops->reset ? p->ops->reset(p) : -ENOTSUP;
}

void pdev_on_gone(struct pdev *p, void (*fn)(void *opaque), void *opaque)
{
	if (p->ops->on_gone)
		p->ops->on_gone(p, fn, opaque);
}
