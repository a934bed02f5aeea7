/*
 * The DMA table of a vfio-user server: what of the client's memory the
 * device may reach, and the log of what it wrote.
 *
 * One writer (the loop's thread), any number of readers between _enter and
 * _leave.  A writer waits for the readers to leave and is preferred to new
 * ones, so a worker that is busy without end cannot hold up an unmap.
 */
#ifndef PDEV_VFIO_USER_DMA_H
#define PDEV_VFIO_USER_DMA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keeps the log of a client that maps all there is below 1 GiB. */
#define VFU_BYTES_MAX (1ull << 44)

struct vfu_map {
	uint64_t iova, size; /* bytes, page multiples */
	uint32_t prot;	     /* PDEV_READ | PDEV_WRITE */
	uint8_t *va;	     /* NULL: reached by messages */
	struct vfu_guard *guard;
	uint64_t *log; /* a bit a page while logging */
};

struct vfu_dma {
	pthread_rwlock_t lock;
	struct vfu_map *map; /* sorted, never overlapping */
	size_t n, max;
	uint64_t bytes; /* mapped in all */
	_Atomic bool logging;
	_Atomic uint64_t faults;
	uint64_t holes;
};

typedef void (*vfu_unmap_fn)(void *opaque, uint64_t iova, uint64_t size);

int vfu_dma_init(struct vfu_dma *d, size_t max);
void vfu_dma_fini(struct vfu_dma *d);

void vfu_dma_enter(struct vfu_dma *d);
void vfu_dma_leave(struct vfu_dma *d);
/* All workers out, none gets in: for whatever else they rely on inside. */
void vfu_dma_exclude(struct vfu_dma *d);
void vfu_dma_admit(struct vfu_dma *d);

/*
 * Add a mapping of 'fd' (-1: by messages), which stays the caller's.
 * -EEXIST: overlaps one there is.  -EINVAL: not whole pages, wraps round,
 * reaches past the end of the file, or not memory (tmpfs, hugetlbfs).
 */
int vfu_dma_add(struct vfu_dma *d, uint64_t iova, uint64_t size, uint32_t prot,
		int fd, uint64_t offset);
/* Exactly one mapping, or -ENOENT; fn is called just before it goes. */
int vfu_dma_del(struct vfu_dma *d, uint64_t iova, uint64_t size,
		vfu_unmap_fn fn, void *opaque);
void vfu_dma_del_all(struct vfu_dma *d, vfu_unmap_fn fn, void *opaque);

/* Inside. */
struct vfu_map *vfu_dma_at(struct vfu_dma *d, uint64_t iova);
void *vfu_dma_ptr(struct vfu_dma *d, uint64_t iova, uint64_t len,
		  uint32_t prot);
void vfu_dma_log(struct vfu_dma *d, uint64_t iova, uint64_t len);

/* From the writer's thread, outside. */
int vfu_dma_log_start(struct vfu_dma *d);
int vfu_dma_log_stop(struct vfu_dma *d); /* -EINVAL: not started */
/*
 * Set bit n of 'bitmap' for a page of 'page' bytes (a power of two, not
 * below PAGE_SIZE) at iova + n * page that was written; forget what is told.
 */
int vfu_dma_log_report(struct vfu_dma *d, uint64_t iova, uint64_t len,
		       uint64_t page, uint64_t *bitmap);

#endif
