#include "shadow/smem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "igb/vfstate.h"

struct region {
	const struct host_ram *ram;
	size_t units;
	size_t nsplit;
	uint64_t *split; /* a bit a unit */
	uint8_t *dev;	 /* device view: of split units with SHADOW_IOMMU */
	int fd;		 /* memory behind it, or -1 */
};

struct smem {
	struct host *host;
	struct pdev *pdev;
	enum shadow_method method;
	size_t nregions;
	struct region region[];
};

static struct region *find(const struct smem *m, uint64_t gpa, uint64_t len)
{
	for (size_t i = 0; i < m->nregions; i++) {
		const struct host_ram *r = m->region[i].ram;

		if (gpa >= r->gpa.v && gpa - r->gpa.v < r->size)
			return len <= r->size - (gpa - r->gpa.v)
				       ? (struct region *)&m->region[i]
				       : NULL;
	}
	return NULL;
}

static size_t unit_of(const struct region *r, uint64_t gpa)
{
	return (gpa - r->ram->gpa.v) / r->ram->page;
}

static uint64_t unit_gpa(const struct region *r, size_t unit)
{
	return r->ram->gpa.v + unit * r->ram->page;
}

/* The device's copies live in a sparse file: only split units use memory. */
static int copy_area(struct region *r)
{
	int fd = memfd_create("pagurus-device-buffer", MFD_CLOEXEC);
	void *va;
	int ret;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)r->ram->size) < 0)
		goto fail;
	va = mmap(NULL, r->ram->size, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (va == MAP_FAILED)
		goto fail;
	r->dev = va;
	r->fd = fd;
	return 0;

fail:
	ret = -errno;
	close(fd);
	return ret;
}

int smem_create(struct smem **out, struct host *h, struct pdev *p,
		enum shadow_method method, struct err *e)
{
	const struct host_ram *ram;
	size_t n = h->ops->ram(h, &ram);
	struct smem *m;
	int ret;

	m = calloc(1, sizeof(*m) + n * sizeof(m->region[0]));
	if (!m)
		return err_set(e, -ENOMEM, "no memory to shadow with");
	m->host = h;
	m->pdev = p;
	m->method = method;
	for (size_t i = 0; i < n; i++) {
		struct region *r = &m->region[m->nregions++];

		r->ram = &ram[i];
		r->fd = -1;
		r->units = ram[i].size / ram[i].page;
		r->dev = ram[i].backing;
		r->split = bitmap_alloc(r->units);
		ret = r->split ? 0 : -ENOMEM;
		if (!ret && method == SHADOW_IOMMU) {
			r->dev = NULL;
			ret = copy_area(r);
		}
		if (ret) {
			smem_destroy(m);
			return err_sys(e, ret, "no room for device buffers");
		}
	}
	*out = m;
	return 0;
}

void smem_destroy(struct smem *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->nregions; i++) {
		struct region *r = &m->region[i];

		if (m->method == SHADOW_IOMMU && r->dev)
			munmap(r->dev, r->ram->size);
		close_fd(&r->fd);
		free(r->split);
	}
	free(m);
}

bool smem_is_ram(const struct smem *m, uint64_t gpa, uint64_t len)
{
	return len && find(m, gpa, len);
}

uint64_t smem_clip(const struct smem *m, uint64_t gpa, uint64_t len)
{
	const struct region *r = find(m, gpa, 1);

	return r ? MIN(len, r->ram->gpa.v + r->ram->size - gpa) : 0;
}

void smem_unit(const struct smem *m, uint64_t gpa, struct smem_range *out)
{
	const struct region *r = find(m, gpa, 1);

	out->gpa = unit_gpa(r, unit_of(r, gpa));
	out->len = r->ram->page;
}

/* Take away the mappings of the runs in [first, last). */
static int unmap_runs(struct smem *m, struct region *r, size_t first,
		      size_t last)
{
	while (first < last) {
		size_t end =
			bitmap_test(r->split, first)
				? bitmap_next_clear(r->split, r->units, first)
				: bitmap_next(r->split, r->units, first);
		int ret;

		end = MIN(end, last);
		ret = pdev_dma_unmap(m->pdev, unit_gpa(r, first),
				     (end - first) * r->ram->page);
		if (ret < 0)
			return ret;
		first = end;
	}
	return 0;
}

/*
 * Map for DMA the stretch of units [first, last) as it now is: runs of split
 * units onto their copies, runs of others onto guest RAM.  All or nothing.
 */
static int map_runs(struct smem *m, struct region *r, size_t first, size_t last)
{
	size_t start = first;

	while (first < last) {
		bool split = bitmap_test(r->split, first);
		size_t end =
			split ? bitmap_next_clear(r->split, r->units, first)
			      : bitmap_next(r->split, r->units, first);
		struct pdev_dma d = { .prot = PDEV_READ | PDEV_WRITE };
		uint64_t off = first * r->ram->page;
		int ret;

		end = MIN(end, last);
		d.iova = r->ram->gpa.v + off;
		d.size = (end - first) * r->ram->page;
		if (split) {
			d.va = r->dev + off;
			d.fd = r->fd;
			d.fd_offset = off;
		} else {
			d.va = (uint8_t *)r->ram->backing + off;
			d.fd = r->ram->fd;
			d.fd_offset = r->ram->fd_offset + off;
		}
		ret = pdev_dma_map(m->pdev, &d);
		if (ret < 0) {
			unmap_runs(m, r, start, first);
			return ret;
		}
		first = end;
	}
	return 0;
}

/* The run of equal state that holds 'unit', and its end. */
static size_t run_start(const struct region *r, size_t unit)
{
	bool split = bitmap_test(r->split, unit);

	while (unit > 0 && bitmap_test(r->split, unit - 1) == split)
		unit--;
	return unit;
}

static size_t run_end(const struct region *r, size_t unit)
{
	return bitmap_test(r->split, unit)
		       ? bitmap_next_clear(r->split, r->units, unit)
		       : bitmap_next(r->split, r->units, unit);
}

/*
 * Change [first, last) to 'split' by remapping.  IOMMU mappings can neither
 * be cut nor joined (VFIO type 1 v2; vfio-user), so the whole runs that
 * border the change go and come back.  The device must be off the bus.
 */
static int remap(struct smem *m, struct region *r, size_t first, size_t last,
		 bool split)
{
	size_t lo = run_start(r, first), hi = run_end(r, last - 1);
	int ret, again;

	/* Neighbours of the other state will be joined with these. */
	if (lo == first && lo > 0)
		lo = run_start(r, lo - 1);
	if (hi == last && hi < r->units)
		hi = run_end(r, hi);

	ret = unmap_runs(m, r, lo, hi);
	if (ret < 0)
		return ret;
	if (split)
		bitmap_set_range(r->split, first, last - first);
	else
		bitmap_clear_range(r->split, first, last - first);
	ret = map_runs(m, r, lo, hi);
	if (ret == 0)
		return 0;

	/* Back to what it was. */
	if (split)
		bitmap_clear_range(r->split, first, last - first);
	else
		bitmap_set_range(r->split, first, last - first);
	again = map_runs(m, r, lo, hi);
	return again < 0 ? -ENOTRECOVERABLE : ret;
}

static int split_run(struct smem *m, struct region *r, size_t first,
		     size_t last)
{
	uint64_t off = first * r->ram->page;
	uint64_t len = (last - first) * r->ram->page;
	int ret;

	if (m->method == SHADOW_CPU) {
		ret = m->host->ops->split(m->host,
					  (gpa_t){ r->ram->gpa.v + off }, len);
		if (ret < 0)
			return ret;
		bitmap_set_range(r->split, first, last - first);
	} else {
		memcpy(r->dev + off, (uint8_t *)r->ram->guest + off, len);
		ret = remap(m, r, first, last, true);
		if (ret < 0)
			return ret;
	}
	r->nsplit += last - first;
	return 0;
}

/* Back on the bus if it was there; the first failure is what counts. */
static int rejoin(struct smem *m, int was, int ret)
{
	int again = was > 0 ? igb_vf_bus_master(m->pdev, true) : 0;

	return ret < 0 ? ret : MIN(again, 0);
}

int smem_split(struct smem *m, uint64_t gpa, uint64_t len)
{
	struct region *r = find(m, gpa, len);
	int was = -1;
	size_t u, end;
	int ret = 0;

	if (!r || !len)
		return -EFAULT;
	u = unit_of(r, gpa);
	end = unit_of(r, gpa + len - 1) + 1;
	while (ret == 0) {
		size_t last;

		u = bitmap_next_clear(r->split, r->units, u);
		if (u >= end)
			break;
		last = MIN(bitmap_next(r->split, r->units, u), end);
		if (m->method == SHADOW_IOMMU && was < 0) {
			was = igb_vf_bus_master(m->pdev, false);
			if (was < 0)
				return was;
		}
		ret = split_run(m, r, u, last);
		u = last;
	}
	return rejoin(m, was, ret);
}

static int range_cmp(const void *a, const void *b)
{
	const struct smem_range *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

void smem_refresh(struct smem *m, struct smem_range *skip, size_t nskip)
{
	/* A remap is done with the device off the bus. */
	if (m->method == SHADOW_IOMMU)
		return;
	qsort(skip, nskip, sizeof(*skip), range_cmp);
	for (size_t i = 0; i < m->nregions; i++) {
		struct region *r = &m->region[i];

		bitmap_for_each (u, r->split, r->units) {
			uint64_t at = unit_gpa(r, u), end = at + r->ram->page;

			for (size_t k = 0; k < nskip && at < end; k++) {
				if (skip[k].gpa >= end ||
				    skip[k].gpa + skip[k].len <= at)
					continue;
				if (skip[k].gpa > at)
					smem_to_vcpu(m, at, skip[k].gpa - at);
				at = skip[k].gpa + skip[k].len;
			}
			if (at < end)
				smem_to_vcpu(m, at, end - at);
		}
	}
}

/* Both buffers of [gpa, gpa + len) get the bytes of one of them. */
static void settle(struct smem *m, struct region *r, uint64_t gpa, uint64_t len,
		   bool device_owns)
{
	uint64_t off = gpa - r->ram->gpa.v;
	uint8_t *vcpu = (uint8_t *)r->ram->guest + off;
	uint8_t *dev = r->dev + off;

	/* The device's bytes of an original page are in place already. */
	if (device_owns && m->method == SHADOW_IOMMU)
		memcpy(vcpu, dev, len);
	else if (!device_owns && m->method == SHADOW_CPU)
		memcpy(dev, vcpu, len);
}

static int merge_run(struct smem *m, struct region *r, size_t first,
		     size_t last, const struct smem_range *owned, size_t n)
{
	uint64_t at = unit_gpa(r, first), end = unit_gpa(r, last);
	uint64_t gpa = at;
	int ret;

	for (size_t i = 0; i < n && at < end; i++) {
		uint64_t lo = MAX(owned[i].gpa, at);
		uint64_t hi = MIN(owned[i].gpa + owned[i].len, end);

		if (lo >= hi)
			continue;
		settle(m, r, at, lo - at, false);
		settle(m, r, lo, hi - lo, true);
		at = hi;
	}
	settle(m, r, at, end - at, false);

	if (m->method == SHADOW_CPU) {
		ret = m->host->ops->merge(m->host, (gpa_t){ gpa }, end - gpa);
		if (ret < 0)
			return ret;
		bitmap_clear_range(r->split, first, last - first);
	} else {
		ret = remap(m, r, first, last, false);
		if (ret < 0)
			return ret;
		/* The copy's memory goes back to the system. */
		fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)(first * r->ram->page),
			  (off_t)((last - first) * r->ram->page));
	}
	r->nsplit -= last - first;
	return 0;
}

int smem_merge(struct smem *m,
	       bool (*keep)(void *opaque, uint64_t gpa, uint64_t len),
	       void *opaque, struct smem_range *owned, size_t nowned)
{
	int was = -1;
	int ret = 0;

	qsort(owned, nowned, sizeof(*owned), range_cmp);
	for (size_t i = 0; i < m->nregions && ret == 0; i++) {
		struct region *r = &m->region[i];
		size_t u = 0;

		while (ret == 0 &&
		       (u = bitmap_next(r->split, r->units, u)) < r->units) {
			size_t last = u;

			while (last < r->units && bitmap_test(r->split, last) &&
			       !(keep &&
				 keep(opaque, unit_gpa(r, last), r->ram->page)))
				last++;
			if (last == u) {
				u++;
				continue;
			}
			if (m->method == SHADOW_IOMMU && was < 0) {
				was = igb_vf_bus_master(m->pdev, false);
				if (was < 0)
					return was;
			}
			ret = merge_run(m, r, u, last, owned, nowned);
			u = last;
		}
	}
	return rejoin(m, was, ret);
}

bool smem_any_split(const struct smem *m, uint64_t gpa, uint64_t len)
{
	const struct region *r = find(m, gpa, len);
	size_t first;

	if (!r || !len || !r->nsplit)
		return false;
	first = unit_of(r, gpa);
	return bitmap_next(r->split, unit_of(r, gpa + len - 1) + 1, first) <=
	       unit_of(r, gpa + len - 1);
}

uint64_t smem_split_bytes(const struct smem *m)
{
	uint64_t n = 0;

	for (size_t i = 0; i < m->nregions; i++)
		n += m->region[i].nsplit * m->region[i].ram->page;
	return n;
}

void *smem_vcpu(const struct smem *m, uint64_t gpa)
{
	const struct region *r = find(m, gpa, 1);

	return (uint8_t *)r->ram->guest + (gpa - r->ram->gpa.v);
}

void *smem_dev(const struct smem *m, uint64_t gpa)
{
	const struct region *r = find(m, gpa, 1);

	return r->dev + (gpa - r->ram->gpa.v);
}

static uint64_t carry(struct smem *m, uint64_t gpa, uint64_t len, bool to_dev)
{
	struct region *r = find(m, gpa, len);
	uint64_t end = gpa + len, copied = 0;

	if (!r || !r->nsplit)
		return 0;
	while (gpa < end) {
		size_t u = unit_of(r, gpa);
		uint64_t stop = MIN(unit_gpa(r, u + 1), end);
		uint64_t off = gpa - r->ram->gpa.v;
		uint8_t *vcpu = (uint8_t *)r->ram->guest + off;

		if (bitmap_test(r->split, u)) {
			if (to_dev)
				memcpy(r->dev + off, vcpu, stop - gpa);
			else
				memcpy(vcpu, r->dev + off, stop - gpa);
			copied += stop - gpa;
		}
		gpa = stop;
	}
	return copied;
}

uint64_t smem_to_dev(struct smem *m, uint64_t gpa, uint64_t len)
{
	return carry(m, gpa, len, true);
}

uint64_t smem_to_vcpu(struct smem *m, uint64_t gpa, uint64_t len)
{
	return carry(m, gpa, len, false);
}
