/*
 * DMA shadowing: passing through every request of a device that runs on.
 *
 * While a queue is engaged its descriptor ring exists twice: the guest
 * reaches the *vCPU buffer*, the device the *device buffer*.  A tail write
 * exits; the new descriptors are checked and copied across, then the real
 * tail is written.  What the device writes back is copied the other way,
 * after the pages its DMA wrote were marked dirty in host->mark_dirty.
 * Packet buffers are not copied, except with 'full'.
 *
 * Neither engage nor release resets a queue.  With SHADOW_CPU, the default,
 * the device and its IOMMU are not touched at all.
 *
 * One shadow per vdev, made when the vdev is and idle until engaged: no
 * thread, no tap, no trap.  Everything here runs under vdev_lock(), which
 * it takes itself; callers must not hold it and must not be a vCPU.
 * Contents of a page that migrates: the *guest view* of it, always.
 *
 * docs/shadow.md numbers the invariants and names who keeps each.
 */
#ifndef SHADOW_SHADOW_H
#define SHADOW_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "igb/vfstate.h"
#include "vdev/vdev.h"

struct shadow;

enum shadow_method {
	SHADOW_CPU,   /* the copy is the vCPU buffer: host->split */
	SHADOW_IOMMU, /* the copy is the device buffer: DMA remapped */
};

#define SHADOW_POLL_OFF UINT64_MAX

struct shadow_opts {
	enum shadow_method method;
	bool full;	  /* split packet buffers as well */
	bool shared;	  /* the VM has other devices that do DMA */
	bool trap;	  /* doorbells always exit, see docs/shadow.md */
	uint64_t poll_ns; /* shortest poll; 0: default */
};

/* "cpu", "iommu", "full", "trap", "poll=MICROSECONDS|off", with commas. */
int shadow_parse_opts(struct shadow_opts *o, const char *text, struct err *e);

int shadow_create(struct shadow **out, struct vdev *v,
		  const struct shadow_opts *o, struct err *e);
/* Releases; a drained device stays off the bus.  NULL is fine. */
void shadow_destroy(struct shadow *s);

/* Whether other devices may write to the VM's memory; counts from engage. */
void shadow_set_shared(struct shadow *s, bool shared);

/*
 * Engage 'queues' (IGB_RXQ | IGB_TXQ bits; IGB_ALLQ in most uses) on the
 * live device.  A queue that is off now is followed from its next enable.
 * Pauses the vCPUs for the split only.  What was to leave by itself stays.
 * -EALREADY, -ENODEV (no pdev), -EOPNOTSUPP (a layout that cannot be kept in
 * step; the text says which).
 * On failure everything is as before.
 *
 * Every page the device wrote *after* this returns is reported; what it
 * wrote before is not: start the first full pass over RAM afterwards.
 */
int shadow_engage(struct shadow *s, uint32_t queues, struct err *e);
/*
 * Back to direct.  -EBUSY: some queue has to stay, and goes by itself later:
 * one with an index offset (see shadow_adopt) when the guest resets its
 * rings; one whose device lost frames off the bus (shadow_undrain; emulators
 * do) when the next ones have shown which.
 */
int shadow_release(struct shadow *s, struct err *e);

uint32_t shadow_engaged(const struct shadow *s); /* queues */
uint32_t shadow_offset(const struct shadow *s);	 /* those offset */

/* Pass on what the device has completed until now. */
void shadow_sync(struct shadow *s);

/*
 * Switch-over, source: the caller has paused the vCPUs.  Waits up to
 * 'budget_ns' for queued transmits, takes the device off the bus (bus
 * master enable, which resets nothing), passes on the last completions and
 * reads the VF's registers into *st.  Heads in *st are where the guest's
 * view ends: a request has both completed and had its pages marked, or
 * neither.  All marks have been made when this returns.  After a failure
 * the device runs on as before; -EAGAIN: it was in the middle of a frame.
 */
struct shadow_drain {
	uint64_t tx_wait_ns;
	uint32_t rx_inflight; /* empty buffers, simply remain */
	uint32_t tx_unsent;   /* travel, sent at the destination */
	uint32_t tx_unsure;   /* fetched, no write-back: not resent */
};
int shadow_drain(struct shadow *s, uint64_t budget_ns, struct igb_vf_state *st,
		 struct shadow_drain *out, struct err *e);
/*
 * Drained, and the guest goes on here but on another device: the rings are
 * one again, as the vCPUs see them, and the shadow is idle.  The device it
 * was on stays off the bus.
 */
int shadow_leave(struct shadow *s, struct err *e);
/* Migration failed or was cancelled: the device goes on, still engaged. */
int shadow_undrain(struct shadow *s, struct err *e);

/*
 * Switch-over, destination: RAM is loaded, vCPUs are paused, a VF just
 * reset is bound.  Programs it; queues whose head it refuses are engaged
 * with an index offset, all others are direct.  No DMA happens before
 * shadow_start(), which also injects every vector once.
 */
int shadow_adopt(struct shadow *s, const struct igb_vf_state *st,
		 struct err *e);
int shadow_start(struct shadow *s, struct err *e);

struct shadow_queue_stats {
	uint64_t submitted, completed; /* descriptors */
	uint64_t bytes_written;	       /* by the device's DMA */
	uint64_t bad;		       /* refused descriptors, tails */
	uint32_t inflight;
	bool stalled; /* at a bad one, until re-enabled */
};

struct shadow_stats {
	struct shadow_queue_stats rx[IGB_VF_QPAIRS], tx[IGB_VF_QPAIRS];
	uint64_t engages, releases;
	uint64_t engage_ns, release_ns; /* the last ones */
	uint64_t paused_ns;	   /* vCPUs stopped in the last of either */
	uint64_t marked_pages;	   /* pages named to mark_dirty, repeats in */
	uint64_t marked_bytes;	   /* bytes of them the device wrote */
	uint64_t split_pages;	   /* now */
	uint64_t copied_bytes;	   /* packet bytes bounced */
	uint64_t irqs;		   /* interrupts passed on */
	uint64_t polls, polls_hit; /* rounds; rounds that found work */
	uint64_t poll_ns;	   /* the interval now; 0: no poller */
	uint64_t resets;	   /* guest ring resets followed */
	uint64_t stand_ins;	   /* times doorbells stopped to exit */
	uint64_t holes;		   /* slots the device lost (undrain) */
};
void shadow_get_stats(struct shadow *s, struct shadow_stats *out);

#endif
