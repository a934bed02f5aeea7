/*
 * What the guest does at the trapped registers while its queues are
 * engaged: tails are submissions, and a queue that is disabled, moved and
 * enabled again is followed.
 */
#include <errno.h>
#include <time.h>

#include "base/util.h"
#include "shadow/priv.h"

#define DISABLE_TRIES 50 /* of 20 us; silicon takes up to 100 us */

static struct ring *ring_at(struct shadow *s, uint32_t off, uint32_t *reg)
{
	bool tx = off >= IGBVF_TDBAL;
	uint32_t base = igb_vf_queue_base(tx, 0);
	uint32_t q = (off - base) / IGBVF_QUEUE_STRIDE;

	if (off < base || q >= IGB_VF_QPAIRS)
		return NULL;
	*reg = (off - base) % IGBVF_QUEUE_STRIDE;
	return &s->ring[tx ? IGB_VF_QPAIRS + q : q];
}

/* Heads and tails in the mailbox page, where the software NIC has them. */
static struct ring *compact_at(struct shadow *s, uint32_t off, uint32_t *reg)
{
	static const struct {
		bool tx;
		uint32_t reg;
	} at[] = {
		{ false, IGB_Q_HEAD },
		{ false, IGB_Q_TAIL },
		{ true, IGB_Q_HEAD },
		{ true, IGB_Q_TAIL },
	};
	uint32_t q = (off - IGBVF_COMPACT_RDH) / IGBVF_COMPACT_STRIDE;
	uint32_t i = (off - IGBVF_COMPACT_RDH) % IGBVF_COMPACT_STRIDE / 4;

	if (off < IGBVF_COMPACT_RDH || q >= IGB_VF_QPAIRS)
		return NULL;
	*reg = at[i].reg;
	return &s->ring[at[i].tx ? IGB_VF_QPAIRS + q : q];
}

static bool wait_off(struct shadow *s, const struct ring *r)
{
	const struct timespec pause = { .tv_nsec = 20000 };

	for (int i = 0; i < DISABLE_TRIES; i++) {
		if (!(vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_DCTL)) &
		      IGB_DCTL_ENABLE))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

static void bad(struct shadow *s, struct ring *r, const char *what)
{
	r->stats.bad++;
	log_limited(&s->limit, LOG_WARN, "%s: %s queue %u: %s while it is on",
		    vdev_name(s->v), r->tx ? "transmit" : "receive", r->idx,
		    what);
}

/*
 * The queue is switched off: what the device still completes is passed on,
 * then the ring is the guest's.
 */
static void disable(struct shadow *s, struct ring *r, uint32_t ctl)
{
	uint32_t set = shadow_bit((unsigned int)(r - s->ring));

	vdev_reg_write(s->v, shadow_reg(r, IGB_Q_DCTL), ctl);
	if (!wait_off(s, r))
		log_limited(&s->limit, LOG_WARN,
			    "%s: %s queue %u does not switch off",
			    vdev_name(s->v), r->tx ? "transmit" : "receive",
			    r->idx);
	shadow_sync_locked(s);
	shadow_drop(s, set, false);
	s->stats.resets++;
	/* The last ring that had an offset: nothing keeps us here. */
	if (s->leave && !shadow_held(s))
		shadow_release_locked(s);
}

int shadow_attach_idle(struct shadow *s, struct ring *r,
		       const struct igb_ring *regs, uint32_t head, uint32_t off)
{
	int ret = ring_split(s->mem, r->tx, regs);

	return ret ? ret
		   : ring_attach(r, s->mem, s->host, s->opts.full && !r->tx,
				 regs, head, off);
}

static int enable(struct shadow *s, struct ring *r, struct err *e)
{
	uint32_t set = shadow_bit((unsigned int)(r - s->ring));
	struct igb_vf_state st = { 0 };
	struct igb_ring *regs = r->tx ? &st.tx[r->idx] : &st.rx[r->idx];
	int ret;

	igb_vf_read_queues(shadow_get, s, &st);
	/* Where registers are memory, the guest's zero may not count yet. */
	regs->head = vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD));
	regs->ctl |= IGB_DCTL_ENABLE;
	ret = shadow_layout(s, &st, set, e);
	if (ret == 0 && regs->head >= regs->len / IGB_DESC_SIZE)
		ret = err_set(e, -EINVAL, "head %u outside its ring",
			      regs->head);
	if (ret == 0)
		ret = shadow_attach_idle(s, r, regs, regs->head, 0);
	return ret;
}

/*
 * The queue is switched on.  One that cannot be followed runs on directly,
 * as it would have, and the switch-over will be refused.
 */
static void on_enable(struct shadow *s, struct ring *r, uint32_t ctl)
{
	struct err e = { 0 };
	int ret = enable(s, r, &e);
	uint32_t tail;

	vdev_reg_write(s->v, shadow_reg(r, IGB_Q_DCTL), ctl);
	if (ret) {
		shadow_drop(s, shadow_bit((unsigned int)(r - s->ring)), false);
		s->unfit = true;
		log_limited(&s->limit, LOG_WARN,
			    "%s: %s queue %u is not followed any more: %s",
			    vdev_name(s->v), r->tx ? "transmit" : "receive",
			    r->idx, err_text(&e, ret));
		return;
	}
	/*
	 * A tail written while the queue was off counts on some devices and
	 * not on others; now the device says which.
	 */
	tail = vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_TAIL));
	if (tail != r->sub && ring_submit(r, tail, &tail))
		vdev_reg_write(s->v, shadow_reg(r, IGB_Q_TAIL), tail);
}

void shadow_tail(struct shadow *s, struct ring *r, uint32_t val)
{
	uint32_t tail;

	/* First what it has completed: that is room for what is new. */
	shadow_sync_locked(s);
	if (r->tx)
		ring_tx_head(r, vdev_reg_read(s->v, shadow_reg(r, IGB_Q_HEAD)),
			     false);
	/* A guest that goes by heads may know more than that shows. */
	if (r->tx && !ring_fits(r, val))
		ring_tx_head(r, vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD)),
			     true);
	if (ring_submit(r, val, &tail))
		vdev_reg_write(s->v, shadow_reg(r, IGB_Q_TAIL), tail);
}

/* Returns true if the write has been dealt with. */
static bool ring_write(struct shadow *s, struct ring *r, uint32_t reg,
		       uint32_t val)
{
	uint32_t set = shadow_bit((unsigned int)(r - s->ring));

	if (!r->slot) {
		/* Off; if it comes on, we come along. */
		if (reg != IGB_Q_DCTL || !(val & IGB_DCTL_ENABLE) ||
		    !(s->engaged & set) || s->leave)
			return false;
		on_enable(s, r, val);
		return true;
	}
	switch (reg) {
	case IGB_Q_TAIL:
		s->tails++;
		shadow_tail(s, r, val);
		return true;
	case IGB_Q_DCTL:
		if (val & IGB_DCTL_ENABLE)
			return false;
		disable(s, r, val);
		return true;
	case IGB_Q_BAL:
	case IGB_Q_BAH:
	case IGB_Q_LEN: bad(s, r, "base or length written"); return true;
	case IGB_Q_HEAD: bad(s, r, "head written"); return true;
	case IGB_Q_SRRCTL:
		if (r->tx)
			return false;
		bad(s, r, "buffer size written");
		return true;
	case IGB_Q_WBAL:
	case IGB_Q_WBAH:
		if (!r->tx)
			return false;
		bad(s, r, "head write-back written");
		return true;
	default: return false;
	}
}

static bool ring_read(struct shadow *s, struct ring *r, uint32_t reg,
		      uint64_t *val)
{
	uint32_t head;

	if (!r->slot)
		return false;
	switch (reg) {
	case IGB_Q_TAIL: *val = r->tail; return true;
	case IGB_Q_HEAD:
		head = vdev_reg_read(s->v, shadow_reg(r, IGB_Q_HEAD));
		shadow_sync_locked(s);
		if (r->tx)
			ring_tx_head(r, head, false);
		*val = ring_guest_head(r, head);
		return true;
	default: return false;
	}
}

uint32_t shadow_ring_read(struct shadow *s, struct ring *r, uint32_t reg)
{
	uint64_t v;

	return ring_read(s, r, reg, &v)
		       ? (uint32_t)v
		       : vdev_reg_read(s->v, shadow_reg(r, reg));
}

void shadow_ring_write(struct shadow *s, struct ring *r, uint32_t reg,
		       uint32_t val)
{
	if (!ring_write(s, r, reg, val))
		vdev_reg_write(s->v, shadow_reg(r, reg), val);
}

/*
 * Writes are posted and an access that exits is not: on a bus it comes after
 * all of them.  So what lies in memory that stands in is done before it.
 */
static void flush(struct shadow *s)
{
	bool other;

	if (!s->standing)
		return;
	shadow_stand_look(s, &other);
	if (other)
		shadow_stand_down(s, true);
}

static bool queue_read(void *opaque, uint32_t off, unsigned int size,
		       uint64_t *val)
{
	struct shadow *s = opaque;
	uint32_t reg;
	struct ring *r = ring_at(s, off, &reg);

	flush(s);
	return r && size == 4 && ring_read(s, r, reg, val);
}

static bool queue_write(void *opaque, uint32_t off, unsigned int size,
			uint64_t val)
{
	struct shadow *s = opaque;
	uint32_t reg;
	struct ring *r = ring_at(s, off, &reg);

	flush(s);
	return r && size == 4 && ring_write(s, r, reg, (uint32_t)val);
}

static bool mbx_read(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val)
{
	struct shadow *s = opaque;
	uint32_t reg;
	struct ring *r = compact_at(s, off, &reg);

	flush(s);
	return r && size == 4 && ring_read(s, r, reg, val);
}

/* A reset of the VF: its queues go off before it, so that we see them do. */
static void reset(struct shadow *s)
{
	shadow_stand_down(s, true);
	for (unsigned int k = 0; k < NRINGS; k++) {
		if (s->ring[k].slot)
			disable(s, &s->ring[k], 0);
	}
}

static bool mbx_write(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val)
{
	struct shadow *s = opaque;
	uint32_t reg;
	struct ring *r = compact_at(s, off, &reg);

	flush(s);
	if (size != 4)
		return false;
	if (off == IGBVF_CTRL && val & IGB_CTRL_RST) {
		reset(s);
		return false;
	}
	return r && ring_write(s, r, reg, (uint32_t)val);
}

void shadow_taps_init(struct shadow *s)
{
	s->tap[0] = (struct vdev_tap){
		.off = IGBVF_PAGE_MBX * PAGE_SIZE,
		.len = PAGE_SIZE,
		.read = mbx_read,
		.write = mbx_write,
		.opaque = s,
	};
	for (unsigned int i = 1; i < ARRAY_SIZE(s->tap); i++) {
		s->tap[i] = (struct vdev_tap){
			.off = (i == 1 ? IGBVF_PAGE_RX : IGBVF_PAGE_TX) *
			       PAGE_SIZE,
			.len = PAGE_SIZE,
			.read = queue_read,
			.write = queue_write,
			.opaque = s,
		};
	}
}
