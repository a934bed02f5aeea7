/*
 * Inside of a shadow; for the files of this folder only.
 *
 * All of it is under vdev_lock() but what says otherwise.
 */
#ifndef SHADOW_PRIV_H
#define SHADOW_PRIV_H

#include <pthread.h>

#include "base/log.h"
#include "igb/regs.h"
#include "shadow/ring.h"
#include "shadow/shadow.h"
#include "shadow/smem.h"

#define NRINGS (2 * IGB_VF_QPAIRS)

/* A vector of the guest while we stand before it. */
struct shadow_vector {
	struct shadow *s;
	unsigned int n;
	bool taken;
};

struct poller {
	pthread_mutex_t lock; /* of these; innermost */
	pthread_cond_t wake;
	pthread_t thread;
	bool started, stop;
	uint64_t interval; /* ns, under vdev_lock */
	uint64_t irqs;	   /* seen at the last round */
	uint64_t looked;   /* when registers were looked at last */
	uint64_t tails;	   /* seen when the rate was looked at last */
	uint64_t rated;	   /* when */
	uint64_t busy;	   /* when a bell was found rung last */
};

struct shadow {
	struct vdev *v;
	struct host *host;
	struct shadow_opts opts;

	bool up;	  /* taps, traps and memory are in place */
	uint32_t engaged; /* queues; some of them may be off */
	bool drained;	  /* off the bus, waiting for the outcome */
	bool leave;	  /* release as soon as no queue is held */
	bool unfit;	  /* the guest made a layout we cannot follow */

	struct smem *mem;
	struct ring ring[NRINGS]; /* receive first */
	struct vdev_tap tap[3];
	struct vdev_watch watch;
	struct shadow_vector vec[IGB_VF_VECTORS];
	struct poller poll;
	/* Memory in place of the doorbell pages, and what it showed. */
	uint8_t *stand_in;
	bool standing;
	uint32_t seen[NRINGS][16];
	uint64_t tails; /* that exited */

	struct igb_vf_state adopted; /* between adopt and start */
	uint32_t refused;	     /* of these, heads not taken */
	struct shadow_stats stats;
	struct log_limit limit;
};

static inline uint32_t shadow_bit(unsigned int k)
{
	return k < IGB_VF_QPAIRS ? IGB_RXQ(k) : IGB_TXQ(k - IGB_VF_QPAIRS);
}

static inline uint32_t shadow_reg(const struct ring *r, uint32_t reg)
{
	return igb_vf_queue_base(r->tx, r->idx) + reg;
}

static inline const struct igb_ring *shadow_regs(const struct igb_vf_state *st,
						 const struct ring *r)
{
	return r->tx ? &st->tx[r->idx] : &st->rx[r->idx];
}

/* shadow.c; under the lock */
int shadow_up(struct shadow *s, struct err *e);
void shadow_down(struct shadow *s);
/* Whether pages with other data in them may be split for 'queues'. */
int shadow_layout(struct shadow *s, const struct igb_vf_state *st,
		  uint32_t queues, struct err *e);
unsigned int shadow_sync_locked(struct shadow *s);
/* An igb_vf_get; 'opaque' is the shadow. */
uint32_t shadow_get(void *opaque, uint32_t off);
/*
 * Give up rings and merge what no other ring needs.  'live': the device goes
 * on with what is in flight; otherwise it has stopped, and all is the
 * guest's.
 */
int shadow_drop(struct shadow *s, uint32_t queues, bool live);
/* All of it, vCPUs paused; the poller is told to stop, not waited for. */
int shadow_release_locked(struct shadow *s);
/* Queues that cannot be direct yet. */
uint32_t shadow_held(const struct shadow *s);
void shadow_inject_all(struct shadow *s);
int shadow_take_vectors(struct shadow *s);

/* follow.c */
void shadow_taps_init(struct shadow *s);
/* Attach to a queue that is off and about to be enabled. */
int shadow_attach_idle(struct shadow *s, struct ring *r,
		       const struct igb_ring *regs, uint32_t head,
		       uint32_t off);

/* A register of a queue, as a trapped access of the guest's would have it. */
uint32_t shadow_ring_read(struct shadow *s, struct ring *r, uint32_t reg);
void shadow_ring_write(struct shadow *s, struct ring *r, uint32_t reg,
		       uint32_t val);
void shadow_tail(struct shadow *s, struct ring *r, uint32_t val);

/*
 * standin.c: put memory in place of the doorbell pages; look at it (returns
 * the bells rung, *other: something else was written); take it away, 'keep':
 * and do what the guest wrote there last.
 */
int shadow_stand_in(struct shadow *s);
unsigned int shadow_stand_look(struct shadow *s, bool *other);
void shadow_stand_down(struct shadow *s, bool keep);

/* poll.c; start and stop without the lock */
int shadow_poll_start(struct shadow *s);
void shadow_poll_quit(struct shadow *s); /* from anywhere, does not wait */
void shadow_poll_stop(struct shadow *s);

#endif
