/*
 * A physical function: what stands behind a virtual device.
 *
 * One ops struct, two back ends: kernel VFIO (vfio.c) and vfio-user
 * (vfio_user_client.c).  Region and interrupt numbers, and the meaning of
 * the calls, are VFIO's.  The wrappers below check every argument against
 * what the device said of itself, so that a back end need not.
 *
 * A pdev is created by pdev_open() and belongs to the caller.  Calls may
 * come from several threads; a back end that needs a lock has its own.
 */
#ifndef PDEV_PDEV_H
#define PDEV_PDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Regions, numbered as VFIO_PCI_*_REGION_INDEX. */
enum {
	PDEV_BAR0,
	PDEV_BAR1,
	PDEV_BAR2,
	PDEV_BAR3,
	PDEV_BAR4,
	PDEV_BAR5,
	PDEV_ROM,
	PDEV_CONFIG,
	PDEV_NREGIONS,
};

/* Interrupt indexes, numbered as VFIO_PCI_*_IRQ_INDEX. */
enum { PDEV_INTX, PDEV_MSI, PDEV_MSIX, PDEV_NIRQS = 5 };

#define PDEV_READ  (1u << 0)
#define PDEV_WRITE (1u << 1)
#define PDEV_MMAP  (1u << 2)

#define PDEV_AREAS_MAX 8

struct pdev_area {
	uint64_t off, len; /* bytes, page aligned */
};

struct pdev_region {
	uint64_t size;	 /* bytes; 0: not there */
	uint32_t flags;	 /* PDEV_READ | _WRITE | _MMAP */
	uint32_t nareas; /* what may be mmapped; with MMAP and */
	struct pdev_area area[PDEV_AREAS_MAX]; /* no areas: all of it */
};

/*
 * A stretch of memory the device may reach at 'iova'.  'fd' and 'fd_offset'
 * name the same memory for a device in another process; fd -1: it can only
 * be reached by messages.
 */
struct pdev_dma {
	uint64_t iova, size;
	void *va;
	int fd;
	uint64_t fd_offset;
	uint32_t prot; /* PDEV_READ | PDEV_WRITE */
};

struct pdev;

struct pdev_ops {
	const char *name; /* "vfio", "vfio-user" */

	void (*close)(struct pdev *p);

	/*
	 * Exactly 'len' bytes, or -errno; a device that has gone is -ENODEV
	 * and reads as all ones, as an empty slot does.  Writes to a BAR may
	 * be posted, as on the bus: a read of the same device flushes them.
	 * What is written through an mmap may overtake them: pdev_flush().
	 */
	int (*read)(struct pdev *p, unsigned int region, uint64_t off,
		    void *buf, size_t len);
	int (*write)(struct pdev *p, unsigned int region, uint64_t off,
		     const void *buf, size_t len);

	/* Posted writes have arrived.  NULL: they are in order with mmaps. */
	int (*flush)(struct pdev *p);

	/* -ENOTSUP: not mappable, access it by read and write. */
	int (*mmap)(struct pdev *p, unsigned int region, uint64_t off,
		    uint64_t len, void **va);

	/*
	 * Signal fds[i] on vector start + i; -1 disarms one vector.
	 * count 0 turns the whole index off.  fds stay the caller's.
	 */
	int (*irq_set)(struct pdev *p, unsigned int index, unsigned int start,
		       unsigned int count, const int *fds);

	/*
	 * Mappings never overlap.  When dma_unmap returns, the device makes
	 * no further access to that range.
	 */
	int (*dma_map)(struct pdev *p, const struct pdev_dma *m);
	int (*dma_unmap)(struct pdev *p, uint64_t iova, uint64_t size);

	/* Function-level reset. */
	int (*reset)(struct pdev *p);

	/*
	 * fn is called once, from a thread of the back end's, when the device
	 * has gone for good (its server died, it was pulled out); at once if
	 * it has already.  It may wake somebody (loop_call), but call nothing
	 * of the pdev.  fn NULL takes it back.  NULL where nothing can tell.
	 */
	void (*on_gone)(struct pdev *p, void (*fn)(void *opaque), void *opaque);

	/*
	 * Pages the device itself says it wrote, for checks against the
	 * shadow's log; NULL where the device cannot (all real igb VFs).
	 * Bit n of 'bitmap' is the page at iova + n * page size; report
	 * clears what it reports.
	 */
	int (*dma_log_start)(struct pdev *p, uint64_t iova, uint64_t size);
	int (*dma_log_stop)(struct pdev *p);
	int (*dma_log_report)(struct pdev *p, uint64_t iova, uint64_t size,
			      uint64_t *bitmap);
};

/* Back ends embed it as their first member and fill all of it. */
struct pdev {
	const struct pdev_ops *ops;
	char name[128]; /* as given by the user */
	struct pdev_region region[PDEV_NREGIONS];
	unsigned int nirqs[PDEV_NIRQS];
};

/*
 * 'spec' is "0000:01:10.0", "0000:01:10.0,vf-token=UUID" or
 * "vfio-user:/path/to/socket".
 */
/* Whether a spec can name a device at all; nothing is looked at. */
int pdev_check_spec(const char *spec, struct err *e);
int pdev_open(struct pdev **out, const char *spec, struct err *e);
void pdev_close(struct pdev *p); /* NULL is fine */

int pdev_read(struct pdev *p, unsigned int region, uint64_t off, void *buf,
	      size_t len);
int pdev_write(struct pdev *p, unsigned int region, uint64_t off,
	       const void *buf, size_t len);
int pdev_read32(struct pdev *p, unsigned int region, uint64_t off, uint32_t *v);
int pdev_write32(struct pdev *p, unsigned int region, uint64_t off, uint32_t v);
/*
 * To be called before somebody else writes to the same registers through a
 * mapping, or goes on doing so: an old tail that arrives after a new one is
 * a ring full of work to the device.
 */
int pdev_flush(struct pdev *p);
int pdev_mmap(struct pdev *p, unsigned int region, uint64_t off, uint64_t len,
	      void **va);
int pdev_irq_set(struct pdev *p, unsigned int index, unsigned int start,
		 unsigned int count, const int *fds);
int pdev_dma_map(struct pdev *p, const struct pdev_dma *m);
int pdev_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size);
int pdev_reset(struct pdev *p);
void pdev_on_gone(struct pdev *p, void (*fn)(void *opaque), void *opaque);

#endif
