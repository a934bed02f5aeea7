/*
 * One descriptor ring that exists twice, and the rules that keep the two in
 * step.
 *
 *	     done            sub
 *	      |   in flight   |
 *	  ----#################---------   slots, guest numbering
 *	  guest's    device's    guest's
 *
 * A slot in flight is the device's, all others are the guest's; the two
 * marks move forward only.  ring_submit() hands slots over (vCPU -> device
 * buffer), ring_complete() hands them back.  One slot always stays out, so
 * that full and empty differ.
 *
 * Rules kept here, by the numbers of docs/shadow.md: S1 dirty before
 * visible, S2 whole before owned, S3 one writer a field, S4 full is not
 * empty, S5 nothing unchecked reaches the device.
 *
 * All calls under the vdev's lock.
 */
#ifndef SHADOW_RING_H
#define SHADOW_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "igb/desc.h"
#include "igb/vfstate.h"
#include "shadow/smem.h"

/* What was submitted: the write-back overwrites the descriptor. */
struct ring_slot {
	uint64_t pkt, hdr; /* RX: buffers; hdr 0: none */
	uint64_t qw[2];	   /* watched slots: as the guest has them */
	uint8_t flags;
};

#define RING_RS	   0x1 /* TX: status wanted */
#define RING_EOP   0x2 /* TX: last of its packet */
#define RING_WATCH 0x4 /* fetched before we came, write-back may follow */

struct ring_stats {
	uint64_t submitted, completed, bytes_written, bad, holes;
	uint64_t marked_pages, marked_bytes, copied_bytes;
};

struct ring {
	bool tx;
	unsigned int idx; /* of its kind */
	const char *name; /* for the log: the vdev's */

	/* Valid while attached. */
	struct smem *mem;
	struct host *host;
	bool full;	     /* split packet buffers too */
	uint64_t base;	     /* gpa */
	uint32_t n;	     /* slots */
	uint32_t sub;	     /* first slot not handed to the device */
	uint32_t done;	     /* first slot in flight */
	uint32_t late;	     /* slots before 'done' still watched */
	uint32_t off;	     /* device's index = guest's index - off */
	uint32_t hole;	     /* slots from 'done' the device may have lost */
	uint64_t hole_until; /* after this, they are (now_ns) */
	uint32_t settled;    /* slots before 'done', by ring_tx_settle() */
	uint32_t unseen;     /* TX: slots done since a head was seen; n: many */
	uint32_t tail;	     /* what the guest wrote last */
	bool stalled;	     /* at a descriptor the device must not see */
	bool mid;	     /* RX: the guest has seen a part of a frame */
	uint32_t bsize;	     /* RX: bytes of a packet buffer */
	uint32_t hbsize;     /* RX: of a header buffer; 0: one-buffer mode */
	bool legacy;	     /* RX: legacy descriptors */
	union igb_desc *vcpu, *dev;
	struct ring_slot *slot; /* NULL: not attached */
	union igb_desc ctx[2];	/* TX: contexts the device holds */

	uint64_t marked; /* ring page marked last in this round */

	/* Head write-back word (TX), 0: none. */
	uint64_t wb;
	uint32_t *wb_vcpu, *wb_dev;

	struct ring_stats stats;
	struct log_limit limit;
};

/* -EINVAL with the reason in 'e' if it cannot be kept in step. */
int ring_check(const struct smem *m, bool tx, const struct igb_ring *regs,
	       struct err *e);

/*
 * Attach to the ring of 'regs', whose pages ring_split() has split.  Nothing
 * is in flight, the guest's head is 'head', the device's is head - off.
 */
int ring_attach(struct ring *r, struct smem *m, struct host *h, bool full,
		const struct igb_ring *regs, uint32_t head, uint32_t off);
/* Memory of a ring, of what was in flight: free()d, nothing is merged. */
void ring_detach(struct ring *r);

/* Split the pages of a ring checked before, and of its head word. */
int ring_split(struct smem *m, bool tx, const struct igb_ring *regs);
/* Whether these pages hold nothing but the ring. */
bool ring_exclusive(const struct smem *m, bool tx, const struct igb_ring *regs);
/* SRRCTL was written. */
void ring_srrctl(struct ring *r, uint32_t srrctl);
/* Whether a page is this ring's. */
bool ring_needs(const struct ring *r, uint64_t gpa, uint64_t len);

/*
 * Take over a ring the device works on.  The vCPUs are paused.  The vCPU
 * buffer is a copy of the device buffer taken, while the device wrote to it,
 * before 'head' was read; what else lies in its pages was copied after it.
 */
int ring_reconcile(struct ring *r, uint32_t head, uint32_t tail);

/*
 * The guest moved its tail.  Returns true if the device's tail has to be
 * written, *tail being its value; false: nothing new, or nonsense.
 */
bool ring_submit(struct ring *r, uint32_t guest_tail, uint32_t *tail);

/* Pass on what is written back; returns the slots that were. */
unsigned int ring_complete(struct ring *r);

/* Whether a tail goes no further than the slots the guest has. */
bool ring_fits(const struct ring *r, uint32_t guest_tail);

/*
 * TX: the device's head says this much is fetched.  'asked': it is the
 * device's word; what a mapping shows may be older than 'done'.
 */
void ring_tx_head(struct ring *r, uint32_t dev_head, bool asked);

/* What the guest may see as head; 'dev_head' is the register's value. */
uint32_t ring_guest_head(const struct ring *r, uint32_t dev_head);
uint32_t ring_dev_index(const struct ring *r, uint32_t guest);

static inline uint32_t ring_inflight(const struct ring *r)
{
	return r->sub >= r->done ? r->sub - r->done : r->sub + r->n - r->done;
}

/*
 * TX, device off the bus: complete what was fetched whole but has no
 * write-back yet, so that nothing is sent twice; 'done' becomes the start of
 * the first packet that was not.  Returns the slots completed so.
 */
unsigned int ring_tx_settle(struct ring *r, uint32_t dev_head);

/*
 * The device goes on after all: the guest, which has not run since, is not
 * told before the write-backs have come.  A slot used again before that
 * would be overwritten by them.
 */
void ring_tx_unsettle(struct ring *r);

/* Slots of 'done' up to the device's head may never be written back. */
void ring_expect_holes(struct ring *r, uint32_t dev_head);

/*
 * What the device owns of this ring: slots and split buffers in flight, and
 * its head word.  'out' has room for ring_owned_max(); returns the number.
 */
size_t ring_owned_max(const struct ring *r);
size_t ring_owned(const struct ring *r, struct smem_range *out);

#endif
