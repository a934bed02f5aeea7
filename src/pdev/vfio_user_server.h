/*
 * A device served over vfio-user: the server's half of the protocol.
 *
 * A server is one device on one unix socket, run by one loop.  The library
 * speaks the protocol, holds the client's memory (the DMA table) and its
 * eventfds, and calls the device through vfu_ops.  One client at a time:
 * a second one is turned away, and after a disconnect the next may come.
 * The device's own state survives a disconnect (specification, "Client
 * Disconnection"); memory and eventfds do not.
 *
 * Threads: create, destroy and every op run in the loop's thread.  The
 * device's worker threads may call what stands under "any thread", and
 * reach client memory and eventfds only between vfu_enter() and
 * vfu_leave(): an unmap, a change of eventfds or a disconnect waits until
 * every worker has left.  So stay inside for a batch, never for a wait.
 *
 * The client is hostile.  What it sends is checked before a device sees it;
 * what lies in its memory is the device's to check.  A client that shrinks
 * the file behind its memory gets zeroes in its place, not a dead server
 * (see vfio_user_dma.c).
 *
 * Source: "vfio-user Protocol Specification", QEMU docs/interop.
 */
#ifndef PDEV_VFIO_USER_SERVER_H
#define PDEV_VFIO_USER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "pdev/pdev.h"

struct vfu_server;

/*
 * A region as the client will see it: see struct pdev_region for size,
 * flags (PDEV_READ | _WRITE | _MMAP) and areas.  With PDEV_MMAP the client
 * is handed 'fd' and maps area.off + fd_offset of it; make it with
 * vfu_memfd(), because clients refuse a file that could shrink.  The fd
 * stays the device's.  A mappable region must still serve read and write.
 */
struct vfu_region {
	struct pdev_region info;
	int fd;
	uint64_t fd_offset;
};

/* Ops marked "may be NULL" may; 'dev' is vfu_config.opaque. */
struct vfu_ops {
	/*
	 * All of [off, off + len), which lies in the region, and len is not 0
	 * and not above VFU_XFER_MAX; 0 or -errno, which the client is told.
	 * Any len and alignment may come: a device that wants 4 says -EINVAL.
	 */
	int (*read)(void *dev, unsigned int region, uint64_t off, void *buf,
		    size_t len);
	int (*write)(void *dev, unsigned int region, uint64_t off,
		     const void *buf, size_t len);

	/* Function-level reset; NULL: the device says it has none. */
	int (*reset)(void *dev);

	/* A client has agreed on a version.  May be NULL. */
	void (*attached)(void *dev);

	/*
	 * The client is gone; its memory and eventfds already are.
	 * May be NULL.
	 */
	void (*detached)(void *dev);

	/*
	 * [iova, iova + size) is about to go: forget pointers into it.  Called
	 * with all workers outside, for each mapping at a disconnect too.
	 * Not allowed in it: vfu_enter().  May be NULL.
	 */
	void (*dma_unmap)(void *dev, uint64_t iova, uint64_t size);

	/* [iova, iova + size) has become reachable.  May be NULL. */
	void (*dma_map)(void *dev, uint64_t iova, uint64_t size);

	/* The client armed or disarmed eventfds of this index.  May be NULL. */
	void (*irq_changed)(void *dev, unsigned int index);
};

struct vfu_config {
	const char *name; /* for the log; copied */
	const struct vfu_ops *ops;
	void *opaque;
	struct vfu_region region[PDEV_NREGIONS];
	unsigned int nirqs[PDEV_NIRQS]; /* at most VFU_IRQS_MAX */
};

#define VFU_XFER_MAX (1u << 20) /* bytes in one region or DMA message */
#define VFU_MAPS_MAX 1024	/* DMA mappings of one client */
#define VFU_IRQS_MAX 2048	/* vectors of an index: MSI-X has no more */

/* Listens on 'path'; NULL: no socket, connections come by vfu_server_adopt. */
int vfu_server_create(struct vfu_server **out, struct loop *l, const char *path,
		      const struct vfu_config *c, struct err *e);

/*
 * Ends the connection as a disconnect would, without 'detached', and removes
 * the socket.  Workers must have stopped.  NULL is fine.  Not from an op.
 */
void vfu_server_destroy(struct vfu_server *s);

/* Serve this connected stream socket; owns it if 0.  -EBUSY: has a client. */
int vfu_server_adopt(struct vfu_server *s, int fd);

/* A memfd that cannot shrink, for region memory; returns the fd. */
int vfu_memfd(const char *name, uint64_t size);

/*
 * Any thread, never nested: between the two, mappings and eventfds stay.
 * A worker may be inside several servers at once only if no other worker
 * ever is (two of them in opposite order could wait for each other).
 */
void vfu_enter(struct vfu_server *s);
void vfu_leave(struct vfu_server *s);

/*
 * Inside: the bytes at 'iova' if all of [iova, iova + len) is in one mapping
 * we could map and that allows 'prot' (PDEV_READ | PDEV_WRITE), or NULL and
 * a counted fault, as an IOMMU would give.  len 0 is NULL.
 */
void *vfu_dma_find(struct vfu_server *s, uint64_t iova, uint64_t len,
		   uint32_t prot);

/*
 * Inside: these bytes were written by the device.  Call it after the write
 * and before the client can learn of it; costs a load when nobody logs.
 */
void vfu_dma_mark(struct vfu_server *s, uint64_t iova, uint64_t len);

/*
 * Outside, any thread but the loop's: copy, by messages where the client
 * gave no file (up to a second).  Marks what it wrote.  0, or -EFAULT for an
 * unmapped address, -EPIPE for a client that went, -ETIMEDOUT.
 * In the loop's thread only memory that is mapped works; else -EDEADLK.
 */
int vfu_dma_read(struct vfu_server *s, uint64_t iova, void *buf, size_t len);
int vfu_dma_write(struct vfu_server *s, uint64_t iova, const void *buf,
		  size_t len);

/* Inside: signal the vector; false if the client armed no eventfd for it. */
bool vfu_irq_raise(struct vfu_server *s, unsigned int index,
		   unsigned int vector);

struct vfu_counts {
	uint64_t connects, refused; /* clients; turned away, busy */
	uint64_t messages;	    /* commands understood */
	uint64_t errors;	    /* of them answered with an error */
	uint64_t broken;	    /* connections ended by us */
	uint64_t faults;	    /* accesses outside the table */
	uint64_t holes;		    /* client memory that was not there */
};
void vfu_server_counts(struct vfu_server *s, struct vfu_counts *out);

#endif
