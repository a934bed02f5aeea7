/*
 * Switch-over: the last word of the source, the first of the destination.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "shadow/priv.h"

#define MID_FRAME_NS 2000000ull /* a jumbo frame at 100 Mbit/s: 0.8 ms */

/* Let queued transmits out, as long as that gets somewhere. */
static void drain_tx(struct shadow *s, uint64_t budget_ns)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	uint64_t start = now_ns();

	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		if (!r->slot || !r->tx)
			continue;
		for (;;) {
			uint32_t head =
				vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD));

			ring_complete(r);
			ring_tx_head(r, head, true);
			if (r->done == r->sub || now_ns() - start >= budget_ns)
				break;
			nanosleep(&pause, NULL);
		}
	}
}

/* A frame the guest has seen the beginning of has to end here. */
static bool mid_frame(struct shadow *s, uint64_t budget_ns)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	uint64_t start = now_ns();

	for (;;) {
		bool mid = false;

		shadow_sync_locked(s);
		for (unsigned int k = 0; k < NRINGS; k++)
			mid |= s->ring[k].slot && s->ring[k].mid;
		if (!mid || now_ns() - start >= budget_ns)
			return mid;
		nanosleep(&pause, NULL);
	}
}

/*
 * Queues that went off unseen (a reset by the PF) have no more to tell; what
 * is in their rings is the guest's.
 */
static void drop_dead(struct shadow *s, const struct igb_vf_state *st)
{
	uint32_t dead = 0;

	for (unsigned int k = 0; k < NRINGS; k++) {
		if (s->ring[k].slot)
			dead |= shadow_bit(k) & ~igb_vf_enabled(st);
	}
	if (!dead)
		return;
	shadow_sync_locked(s);
	shadow_drop(s, dead, false);
	s->stats.resets++;
}

/* Why the state of this VF cannot be told, or 0. */
static int check(struct shadow *s, const struct igb_vf_state *st, struct err *e)
{
	uint32_t on = igb_vf_enabled(st);

	if (s->unfit || on & ~s->engaged)
		return err_set(e, -EOPNOTSUPP,
			       "%s: a queue runs beside the shadow: what its "
			       "device has written is not known",
			       vdev_name(s->v));
	for (unsigned int k = 0; k < NRINGS; k++) {
		if (on & shadow_bit(k) && !s->ring[k].slot)
			return err_set(e, -EOPNOTSUPP,
				       "%s: a queue was switched on unseen",
				       vdev_name(s->v));
	}
	return 0;
}

int shadow_drain(struct shadow *s, uint64_t budget_ns, struct igb_vf_state *st,
		 struct shadow_drain *out, struct err *e)
{
	struct shadow_drain d = { 0 };
	struct pdev *p;
	uint64_t start;
	int ret;

	vdev_lock(s->v);
	p = vdev_pdev(s->v);
	if (!p || !s->up || s->drained) {
		ret = err_set(e, -EINVAL, "%s: is not shadowed",
			      vdev_name(s->v));
		goto unlock;
	}
	shadow_stand_down(s, true);
	igb_vf_read_by(shadow_get, s, st);
	ret = check(s, st, e);
	if (ret)
		goto unlock;
	drop_dead(s, st);

	start = now_ns();
	shadow_sync_locked(s);
	drain_tx(s, budget_ns);
	d.tx_wait_ns = now_ns() - start;
	if (mid_frame(s, MID_FRAME_NS)) {
		ret = err_set(e, -EAGAIN,
			      "%s: the device does not end a frame it has "
			      "begun; try again",
			      vdev_name(s->v));
		goto unlock;
	}

	/* From here on memory is what it is. */
	ret = igb_vf_bus_master(p, false);
	if (ret < 0) {
		err_sys(e, ret, "%s: does not leave the bus", vdev_name(s->v));
		goto unlock;
	}
	shadow_sync_locked(s);
	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];
		struct igb_ring *q = r->tx ? &st->tx[r->idx] : &st->rx[r->idx];

		if (!r->slot)
			continue;
		if (r->tx) {
			d.tx_unsure += ring_tx_settle(
				r,
				vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD)));
			d.tx_unsent += ring_inflight(r);
			memcpy(q->ctx, r->ctx, sizeof(q->ctx));
		} else {
			d.rx_inflight += ring_inflight(r);
		}
		q->head = r->done;
		q->tail = r->sub;
	}
	s->drained = true;
	ret = 0;
	if (out)
		*out = d;
unlock:
	vdev_unlock(s->v);
	return ret;
}

int shadow_undrain(struct shadow *s, struct err *e)
{
	int ret = 0;

	vdev_lock(s->v);
	if (!s->drained)
		goto unlock;
	ret = igb_vf_bus_master(vdev_pdev(s->v), true);
	if (ret < 0) {
		err_sys(e, ret, "%s: does not return to the bus",
			vdev_name(s->v));
		goto unlock;
	}
	ret = 0;
	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		if (r->slot && r->tx)
			ring_tx_unsettle(r);
		else if (r->slot)
			ring_expect_holes(
				r,
				vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD)));
	}
	s->drained = false;
	shadow_sync_locked(s);
	shadow_inject_all(s);
unlock:
	vdev_unlock(s->v);
	return ret;
}

/* ---- destination ---- */

/*
 * A ring whose head the device refused runs from zero behind an offset, in
 * a device buffer of its own.  Its neighbours come along: they might write
 * to the pages it shares with other data.
 */
static int adopt_offset(struct shadow *s, struct err *e)
{
	uint32_t on = igb_vf_enabled(&s->adopted);
	int ret = shadow_up(s, e);

	if (ret)
		return ret;
	ret = shadow_layout(s, &s->adopted, on, e);
	for (unsigned int k = 0; k < NRINGS && ret == 0; k++) {
		struct ring *r = &s->ring[k];
		struct igb_ring *q =
			(struct igb_ring *)shadow_regs(&s->adopted, r);
		uint32_t set = shadow_bit(k), tail;

		if (!(on & set))
			continue;
		ret = shadow_attach_idle(s, r, q, q->head,
					 s->refused & set ? q->head : 0);
		if (ret) {
			err_sys(e, ret, "%s: rings cannot be offset",
				vdev_name(s->v));
			break;
		}
		if (!ring_submit(r, q->tail, &tail))
			tail = ring_dev_index(r, q->head);
		q->tail = tail; /* now the device's */
	}
	if (ret == 0)
		ret = shadow_take_vectors(s);
	if (ret) {
		shadow_drop(s, on, false);
		shadow_down(s);
		return ret;
	}
	s->engaged = on;
	s->leave = true;
	log_info("%s: the device does not take ring heads: shadowed until "
		 "the guest resets its rings",
		 vdev_name(s->v));
	return 0;
}

int shadow_adopt(struct shadow *s, const struct igb_vf_state *st, struct err *e)
{
	int ret;

	vdev_lock(s->v);
	if (!vdev_pdev(s->v))
		ret = err_set(e, -ENODEV, "%s: no device behind it to program",
			      vdev_name(s->v));
	else if (s->up)
		ret = err_set(e, -EBUSY, "%s: shadowed already",
			      vdev_name(s->v));
	else
		ret = igb_vf_program(vdev_pdev(s->v), st, 0, &s->refused, e);
	if (ret == 0) {
		s->adopted = *st;
		if (s->refused)
			ret = adopt_offset(s, e);
	}
	vdev_unlock(s->v);
	return ret;
}

int shadow_start(struct shadow *s, struct err *e)
{
	struct pdev *p;
	int ret;

	vdev_lock(s->v);
	p = vdev_pdev(s->v);
	ret = p ? MIN(igb_vf_bus_master(p, true), 0) : -ENODEV;
	/* Off until now; head and tail are both zero. */
	for (unsigned int k = 0; k < NRINGS && ret == 0; k++) {
		struct ring *r = &s->ring[k];

		if (s->refused & shadow_bit(k))
			ret = igb_vf_queue_enable(
				p, r->tx, r->idx,
				shadow_regs(&s->adopted, r)->ctl, true);
	}
	if (ret == 0)
		ret = igb_vf_start(p, &s->adopted, IGB_ALLQ);
	if (ret)
		err_sys(e, ret, "%s: the VF does not start", vdev_name(s->v));
	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++) {
		if (igb_vf_vectors(&s->adopted) >> i & 1)
			vdev_irq_inject(s->v, i);
	}
	vdev_unlock(s->v);
	if (ret == 0 && s->engaged)
		ret = shadow_poll_start(s);
	return ret;
}
