#include "pdev/vfio_user_dma.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "pdev/pdev.h"
#include "pdev/vfio_user_guard.h"

int vfu_dma_init(struct vfu_dma *d, size_t max)
{
	pthread_rwlockattr_t a;

	memset(d, 0, sizeof(*d));
	d->map = calloc(max, sizeof(*d->map));
	if (!d->map)
		return -ENOMEM;
	d->max = max;
	pthread_rwlockattr_init(&a);
	/* The default prefers readers: a polling worker would starve us. */
	pthread_rwlockattr_setkind_np(
		&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&d->lock, &a);
	pthread_rwlockattr_destroy(&a);
	return 0;
}

void vfu_dma_fini(struct vfu_dma *d)
{
	vfu_dma_del_all(d, NULL, NULL);
	pthread_rwlock_destroy(&d->lock);
	free(d->map);
}

void vfu_dma_enter(struct vfu_dma *d)
{
	pthread_rwlock_rdlock(&d->lock);
}

void vfu_dma_leave(struct vfu_dma *d)
{
	pthread_rwlock_unlock(&d->lock);
}

void vfu_dma_exclude(struct vfu_dma *d)
{
	pthread_rwlock_wrlock(&d->lock);
}

void vfu_dma_admit(struct vfu_dma *d)
{
	pthread_rwlock_unlock(&d->lock);
}

/* Index of the first mapping that ends above 'iova'. */
static size_t slot_of(const struct vfu_dma *d, uint64_t iova)
{
	size_t lo = 0, hi = d->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct vfu_map *m = &d->map[mid];

		if (m->iova + (m->size - 1) < iova)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct vfu_map *vfu_dma_at(struct vfu_dma *d, uint64_t iova)
{
	size_t i = slot_of(d, iova);

	return i < d->n && d->map[i].iova <= iova ? &d->map[i] : NULL;
}

void *vfu_dma_ptr(struct vfu_dma *d, uint64_t iova, uint64_t len, uint32_t prot)
{
	struct vfu_map *m = len ? vfu_dma_at(d, iova) : NULL;

	if (!m || !m->va || (m->prot & prot) != prot ||
	    len > m->size - (iova - m->iova)) {
		d->faults++;
		return NULL;
	}
	return m->va + (iova - m->iova);
}

void vfu_dma_log(struct vfu_dma *d, uint64_t iova, uint64_t len)
{
	if (!d->logging)
		return;
	while (len) {
		struct vfu_map *m = vfu_dma_at(d, iova);
		uint64_t off, n;

		if (!m)
			return;
		off = iova - m->iova;
		n = MIN(len, m->size - off);
		if (m->log)
			bitmap_set_range_atomic(m->log, off / PAGE_SIZE,
						(off + n - 1) / PAGE_SIZE -
							off / PAGE_SIZE + 1);
		iova += n;
		len -= n;
	}
}

/*
 * Only memory: a page of a file on a network or in a user's own file system
 * could keep whoever touches it waiting for ever.
 */
static int check_file(int fd, uint64_t offset, uint64_t size)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) ||
	    (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC))
		return -EINVAL;
	if (st.st_size < 0 || size > (uint64_t)st.st_size ||
	    offset > (uint64_t)st.st_size - size)
		return -EINVAL;
	return 0;
}

static int map_file(struct vfu_map *m, int fd, uint64_t offset)
{
	int prot = (m->prot & PDEV_READ ? PROT_READ : 0) |
		   (m->prot & PDEV_WRITE ? PROT_READ | PROT_WRITE : 0);
	int ret = check_file(fd, offset, m->size);
	void *va;

	if (ret < 0)
		return ret;
	va = mmap(NULL, m->size, prot, MAP_SHARED | MAP_NORESERVE, fd,
		  (off_t)offset);
	if (va == MAP_FAILED)
		return -errno;
	m->guard = vfu_guard_add(va, m->size);
	if (!m->guard) {
		munmap(va, m->size);
		return -ENOSPC;
	}
	/* A fork of ours has no business in the client's memory. */
	madvise(va, m->size, MADV_DONTFORK);
	m->va = va;
	return 0;
}

static void drop(struct vfu_dma *d, struct vfu_map *m)
{
	if (vfu_guard_hole(m->guard))
		d->holes++;
	vfu_guard_del(m->guard);
	if (m->va)
		munmap(m->va, m->size);
	free(m->log);
}

int vfu_dma_add(struct vfu_dma *d, uint64_t iova, uint64_t size, uint32_t prot,
		int fd, uint64_t offset)
{
	struct vfu_map m = { .iova = iova, .size = size, .prot = prot };
	size_t i;
	int ret;

	if (size == 0 || (iova | size | offset) % PAGE_SIZE ||
	    iova + (size - 1) < iova || prot == 0 || offset > INT64_MAX ||
	    size > INT64_MAX)
		return -EINVAL;
	if (d->n == d->max || size > VFU_BYTES_MAX - d->bytes)
		return -ENOSPC;
	i = slot_of(d, iova);
	if (i < d->n && d->map[i].iova <= iova + (size - 1))
		return -EEXIST;
	if (fd >= 0) {
		ret = map_file(&m, fd, offset);
		if (ret < 0)
			return ret;
	}
	if (d->logging) {
		m.log = bitmap_alloc(size / PAGE_SIZE);
		if (!m.log) {
			drop(d, &m);
			return -ENOMEM;
		}
	}
	vfu_dma_exclude(d);
	memmove(&d->map[i + 1], &d->map[i], (d->n - i) * sizeof(m));
	d->map[i] = m;
	d->n++;
	d->bytes += size;
	vfu_dma_admit(d);
	return 0;
}

int vfu_dma_del(struct vfu_dma *d, uint64_t iova, uint64_t size,
		vfu_unmap_fn fn, void *opaque)
{
	struct vfu_map *m = vfu_dma_at(d, iova);

	if (!m || m->iova != iova || m->size != size)
		return -ENOENT;
	vfu_dma_exclude(d);
	if (fn)
		fn(opaque, iova, size);
	drop(d, m);
	d->bytes -= size;
	d->n--;
	memmove(m, m + 1, (size_t)(&d->map[d->n] - m) * sizeof(*m));
	vfu_dma_admit(d);
	return 0;
}

void vfu_dma_del_all(struct vfu_dma *d, vfu_unmap_fn fn, void *opaque)
{
	vfu_dma_exclude(d);
	for (size_t i = 0; i < d->n; i++) {
		if (fn)
			fn(opaque, d->map[i].iova, d->map[i].size);
		drop(d, &d->map[i]);
	}
	d->n = 0;
	d->bytes = 0;
	d->logging = false;
	vfu_dma_admit(d);
}

int vfu_dma_log_start(struct vfu_dma *d)
{
	int ret = 0;

	vfu_dma_exclude(d);
	for (size_t i = 0; i < d->n; i++) {
		struct vfu_map *m = &d->map[i];

		free(m->log);
		m->log = bitmap_alloc(m->size / PAGE_SIZE);
		if (!m->log)
			ret = -ENOMEM;
	}
	d->logging = ret == 0;
	vfu_dma_admit(d);
	return ret;
}

int vfu_dma_log_stop(struct vfu_dma *d)
{
	if (!d->logging)
		return -EINVAL;
	vfu_dma_exclude(d);
	d->logging = false;
	for (size_t i = 0; i < d->n; i++) {
		free(d->map[i].log);
		d->map[i].log = NULL;
	}
	vfu_dma_admit(d);
	return 0;
}

static void clear_atomic(uint64_t *log, size_t bit)
{
	__atomic_fetch_and(&log[bit / 64], ~(1ull << (bit % 64)),
			   __ATOMIC_ACQ_REL);
}

/* [first, last] of one mapping into a bitmap that starts at 'iova'. */
static void report_map(struct vfu_map *m, uint64_t first, uint64_t last,
		       uint64_t iova, uint64_t page, uint64_t *bitmap)
{
	size_t end = (last - m->iova) / PAGE_SIZE + 1;
	size_t bit = (first - m->iova) / PAGE_SIZE;

	while ((bit = bitmap_next(m->log, end, bit)) < end) {
		uint64_t a = MAX(m->iova + bit * PAGE_SIZE, first);

		clear_atomic(m->log, bit);
		bitmap_set(bitmap, (a - iova) / page);
		bit++;
	}
}

int vfu_dma_log_report(struct vfu_dma *d, uint64_t iova, uint64_t len,
		       uint64_t page, uint64_t *bitmap)
{
	uint64_t end = iova + (len - 1);

	if (!d->logging || len == 0 || end < iova || page < PAGE_SIZE ||
	    (page & (page - 1)))
		return -EINVAL;
	for (size_t i = slot_of(d, iova); i < d->n; i++) {
		struct vfu_map *m = &d->map[i];
		uint64_t first = MAX(m->iova, iova);
		uint64_t last = MIN(m->iova + (m->size - 1), end);

		if (m->iova > end)
			break;
		report_map(m, first, last, iova, page, bitmap);
	}
	return 0;
}
