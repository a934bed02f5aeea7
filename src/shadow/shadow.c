#include "shadow/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "shadow/priv.h"

/* Mailbox and reset, receive and transmit registers. */
static const unsigned int pages[] = { IGBVF_PAGE_MBX, IGBVF_PAGE_RX,
				      IGBVF_PAGE_TX };

int shadow_parse_opts(struct shadow_opts *o, const char *text, struct err *e)
{
	struct shadow_opts n = { 0 };
	char word[32];

	while (*text) {
		size_t len = strcspn(text, ",");
		char *end;

		if (len >= sizeof(word))
			len = sizeof(word) - 1;
		memcpy(word, text, len);
		word[len] = '\0';
		if (!strcmp(word, "cpu")) {
			n.method = SHADOW_CPU;
		} else if (!strcmp(word, "iommu")) {
			n.method = SHADOW_IOMMU;
		} else if (!strcmp(word, "full")) {
			n.full = true;
		} else if (!strcmp(word, "trap")) {
			n.trap = true;
		} else if (!strcmp(word, "poll=off")) {
			n.poll_ns = SHADOW_POLL_OFF;
		} else if (!strncmp(word, "poll=", 5)) {
			unsigned long us = strtoul(word + 5, &end, 10);

			if (*end || !us || us > 1000000)
				return err_set(e, -EINVAL,
					       "shadow: '%s': poll takes 1 to "
					       "1000000 microseconds, or off",
					       word);
			n.poll_ns = us * 1000;
		} else {
			return err_set(
				e, -EINVAL,
				"shadow: '%s': know cpu, iommu, full, trap, "
				"poll=MICROSECONDS, poll=off",
				word);
		}
		text += strcspn(text, ",");
		text += *text == ',';
	}
	*o = n;
	return 0;
}

static void on_reset(void *opaque);

int shadow_create(struct shadow **out, struct vdev *v,
		  const struct shadow_opts *o, struct err *e)
{
	struct shadow *s = calloc(1, sizeof(*s));
	pthread_condattr_t attr;

	if (!s)
		return err_set(e, -ENOMEM, "%s: no memory to shadow with",
			       vdev_name(v));
	s->v = v;
	s->host = vdev_host(v);
	if (o)
		s->opts = *o;
	for (unsigned int k = 0; k < NRINGS; k++) {
		s->ring[k].tx = k >= IGB_VF_QPAIRS;
		s->ring[k].idx = k % IGB_VF_QPAIRS;
		s->ring[k].name = vdev_name(v);
	}
	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++)
		s->vec[i] = (struct shadow_vector){ .s = s, .n = i };
	s->watch.reset = on_reset;
	s->watch.opaque = s;
	shadow_taps_init(s);
	pthread_mutex_init(&s->poll.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->poll.wake, &attr);
	pthread_condattr_destroy(&attr);
	*out = s;
	return 0;
}

void shadow_destroy(struct shadow *s)
{
	if (!s)
		return;
	/*
	 * Drained and not taken back: the guest is elsewhere.  The device stays
	 * off the bus, or what it still has to send would be sent twice.
	 */
	if (s->drained)
		shadow_leave(s, NULL);
	shadow_poll_stop(s);
	s->host->ops->pause(s->host);
	vdev_lock(s->v);
	/* Who destroys it has no guest to lose any more. */
	if (s->up)
		shadow_drop(s, shadow_held(s), false);
	if (s->up)
		shadow_release_locked(s);
	vdev_unlock(s->v);
	s->host->ops->resume(s->host);
	shadow_poll_stop(s);
	if (s->stand_in)
		munmap(s->stand_in, 2 * PAGE_SIZE);
	pthread_cond_destroy(&s->poll.wake);
	pthread_mutex_destroy(&s->poll.lock);
	free(s);
}

void shadow_set_shared(struct shadow *s, bool shared)
{
	vdev_lock(s->v);
	s->opts.shared = shared;
	vdev_unlock(s->v);
}

uint32_t shadow_engaged(const struct shadow *s)
{
	return s->engaged;
}

uint32_t shadow_offset(const struct shadow *s)
{
	uint32_t set = 0;

	for (unsigned int k = 0; k < NRINGS; k++) {
		if (s->ring[k].slot && s->ring[k].off)
			set |= shadow_bit(k);
	}
	return set;
}

uint32_t shadow_held(const struct shadow *s)
{
	uint32_t set = shadow_offset(s);

	for (unsigned int k = 0; k < NRINGS; k++) {
		if (s->ring[k].slot && s->ring[k].hole)
			set |= shadow_bit(k);
	}
	return set;
}

/* ---- traps, taps, interrupts ---- */

/* Whatever the device completed is the guest's before its interrupt is. */
static void on_irq(void *opaque)
{
	struct shadow_vector *c = opaque;

	shadow_sync_locked(c->s);
	c->s->stats.irqs++;
	vdev_irq_inject(c->s->v, c->n);
}

int shadow_take_vectors(struct shadow *s)
{
	const struct igb_vf_state st = {
		.ivar0 = vdev_reg_read(s->v, IGBVF_IVAR0),
	};
	uint32_t want = igb_vf_vectors(&st);

	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++) {
		int ret;

		if (!(want >> i & 1) || s->vec[i].taken)
			continue;
		ret = vdev_irq_take(s->v, i, on_irq, &s->vec[i]);
		if (ret < 0)
			return ret;
		s->vec[i].taken = true;
	}
	return 0;
}

void shadow_inject_all(struct shadow *s)
{
	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++) {
		if (s->vec[i].taken)
			vdev_irq_inject(s->v, i);
	}
}

int shadow_up(struct shadow *s, struct err *e)
{
	size_t n = 0;
	int ret;

	if (s->up)
		return 0;
	ret = smem_create(&s->mem, s->host, vdev_pdev(s->v), s->opts.method, e);
	if (ret)
		return ret;
	for (size_t i = 0; i < ARRAY_SIZE(s->tap); i++)
		vdev_tap_add(s->v, &s->tap[i]);
	for (; n < ARRAY_SIZE(pages); n++) {
		ret = vdev_trap(s->v, 0, pages[n], VDEV_TRAP_SHADOW);
		if (ret < 0)
			goto untrap;
	}
	vdev_watch_add(s->v, &s->watch);
	s->unfit = false;
	s->up = true;
	return 0;

untrap:
	while (n--)
		vdev_untrap(s->v, 0, pages[n], VDEV_TRAP_SHADOW);
	for (size_t i = 0; i < ARRAY_SIZE(s->tap); i++)
		vdev_tap_del(s->v, &s->tap[i]);
	smem_destroy(s->mem);
	s->mem = NULL;
	return err_sys(e, ret, "%s: doorbells cannot be trapped",
		       vdev_name(s->v));
}

void shadow_down(struct shadow *s)
{
	if (!s->up)
		return;
	vdev_watch_del(s->v, &s->watch);
	for (size_t n = ARRAY_SIZE(pages); n--;)
		vdev_untrap(s->v, 0, pages[n], VDEV_TRAP_SHADOW);
	for (size_t i = 0; i < ARRAY_SIZE(s->tap); i++)
		vdev_tap_del(s->v, &s->tap[i]);
	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++) {
		if (!s->vec[i].taken)
			continue;
		vdev_irq_release(s->v, i);
		s->vec[i].taken = false;
		/* Between two owners one may have been missed. */
		vdev_irq_inject(s->v, i);
	}
	smem_destroy(s->mem);
	s->mem = NULL;
	s->up = false;
}

/* ---- rings ---- */

unsigned int shadow_sync_locked(struct shadow *s)
{
	unsigned int n = 0;

	if (!s->up || s->drained)
		return 0;
	for (unsigned int k = 0; k < NRINGS; k++) {
		if (s->ring[k].slot)
			n += ring_complete(&s->ring[k]);
	}
	return n;
}

void shadow_sync(struct shadow *s)
{
	vdev_lock(s->v);
	shadow_sync_locked(s);
	vdev_unlock(s->v);
}

uint32_t shadow_get(void *opaque, uint32_t off)
{
	struct shadow *s = opaque;

	return vdev_reg_read(s->v, off);
}

static bool keep_page(void *opaque, uint64_t gpa, uint64_t len)
{
	struct shadow *s = opaque;

	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		if (ring_needs(r, gpa, len) || (r->slot && r->full && !r->tx))
			return true;
	}
	return false;
}

int shadow_drop(struct shadow *s, uint32_t queues, bool live)
{
	struct smem_range *owned;
	size_t max = 0, n = 0;
	int ret;

	for (unsigned int k = 0; k < NRINGS; k++)
		max += ring_owned_max(&s->ring[k]);
	owned = calloc(max + 1, sizeof(*owned));
	if (!owned)
		return -ENOMEM;
	/*
	 * For the whole of the merge: what a vCPU stores beside a ring after
	 * that was copied, and before the page is one again, would be lost.
	 */
	ret = s->host->ops->pause(s->host);
	if (ret < 0)
		goto free;
	for (unsigned int k = 0; k < NRINGS; k++) {
		if (live || !(queues & shadow_bit(k)))
			n += ring_owned(&s->ring[k], owned + n);
	}
	for (unsigned int k = 0; k < NRINGS; k++) {
		if (queues & shadow_bit(k))
			ring_detach(&s->ring[k]);
	}
	ret = smem_merge(s->mem, keep_page, s, owned, n);
	s->host->ops->resume(s->host);
free:
	free(owned);
	if (ret)
		log_error("%s: split pages stay split: %s", vdev_name(s->v),
			  strerror(-ret));
	return ret;
}

/* A function-level reset: the device has forgotten its queues. */
static void on_reset(void *opaque)
{
	struct shadow *s = opaque;

	/* Whatever it had written, the reset came after it. */
	shadow_stand_down(s, false);
	shadow_drop(s, IGB_ALLQ, false);
	s->stats.resets++;
}

int shadow_layout(struct shadow *s, const struct igb_vf_state *st,
		  uint32_t queues, struct err *e)
{
	uint32_t on = igb_vf_enabled(st);
	/* What is engaged already has other data of its own to look after. */
	bool more = queues & ~s->engaged && s->engaged;
	bool alone = !s->opts.shared && !more && !(on & ~(s->engaged | queues));

	if (s->opts.full && !alone)
		return err_set(e, -EOPNOTSUPP,
			       "%s: packet buffers can only be split if no "
			       "other queue or device runs beside",
			       vdev_name(s->v));
	for (unsigned int k = 0; k < NRINGS; k++) {
		const struct ring *r = &s->ring[k];
		const struct igb_ring *regs = shadow_regs(st, r);
		int ret;

		if (!(on & queues & shadow_bit(k)))
			continue;
		ret = ring_check(s->mem, r->tx, regs, e);
		if (ret)
			return err_prefix(e, "%s", vdev_name(s->v));
		if (!alone && !ring_exclusive(s->mem, r->tx, regs))
			return err_set(e, -EOPNOTSUPP,
				       "%s: the pages of %s ring %u hold other "
				       "data, which another queue or device "
				       "may write to; use 4 KiB guest pages",
				       vdev_name(s->v),
				       r->tx ? "transmit" : "receive", r->idx);
	}
	return 0;
}

/* Split the buffers the device may fill right now. */
static int split_buffers(struct shadow *s, struct ring *r)
{
	for (uint32_t i = r->done; i != r->sub; i = i + 1 == r->n ? 0 : i + 1) {
		const struct ring_slot *b = &r->slot[i];
		uint64_t len = smem_clip(s->mem, b->pkt, r->bsize);
		int ret = len ? smem_split(s->mem, b->pkt, len) : 0;

		len = smem_clip(s->mem, b->hdr, r->hbsize);
		if (ret == 0 && len)
			ret = smem_split(s->mem, b->hdr, len);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Take over one running queue whose pages are split; vCPUs are paused. */
static int attach_live(struct shadow *s, struct ring *r,
		       const struct igb_ring *regs)
{
	uint32_t head, tail;
	int ret = ring_attach(r, s->mem, s->host, s->opts.full && !r->tx, regs,
			      0, 0);

	if (ret)
		return ret;
	/* The head after the copy: what is beyond it was not yet done then. */
	tail = vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_TAIL));
	head = vdev_reg_ask(s->v, shadow_reg(r, IGB_Q_HEAD));
	ret = ring_reconcile(r, head, tail);
	if (ret == 0 && r->full)
		ret = split_buffers(s, r);
	return ret;
}

/*
 * Split the pages of all, slots first: of a slot that is done in the copy,
 * the packet was written before, and is there after the refresh.
 */
static int split_live(struct shadow *s, const struct igb_vf_state *st,
		      uint32_t queues)
{
	struct smem_range slots[NRINGS];
	size_t n = 0;

	for (unsigned int k = 0; k < NRINGS; k++) {
		const struct ring *r = &s->ring[k];
		const struct igb_ring *regs = shadow_regs(st, r);
		int ret;

		if (!(queues & shadow_bit(k)))
			continue;
		ret = ring_split(s->mem, r->tx, regs);
		if (ret)
			return ret;
		slots[n++] = (struct smem_range){ regs->base, regs->len };
	}
	/* To rings engaged before, pages of these were never other data. */
	if (!s->engaged)
		smem_refresh(s->mem, slots, n);
	return 0;
}

/* vCPUs are paused, so registers hold still. */
static int engage_paused(struct shadow *s, uint32_t queues, struct err *e)
{
	struct igb_vf_state st = { 0 };
	uint32_t done = 0;
	int ret;

	igb_vf_read_queues(shadow_get, s, &st);
	ret = shadow_layout(s, &st, queues, e);
	if (ret)
		return ret;
	queues &= igb_vf_enabled(&st);
	ret = split_live(s, &st, queues);
	for (unsigned int k = 0; k < NRINGS && ret == 0; k++) {
		if (!(queues & shadow_bit(k)))
			continue;
		done |= shadow_bit(k);
		ret = attach_live(s, &s->ring[k],
				  shadow_regs(&st, &s->ring[k]));
	}
	shadow_sync_locked(s);
	if (ret) {
		err_sys(e, ret, "%s: rings cannot be taken over",
			vdev_name(s->v));
		shadow_drop(s, done, true);
	}
	return ret;
}

int shadow_engage(struct shadow *s, uint32_t queues, struct err *e)
{
	uint64_t start = now_ns(), paused;
	int ret;

	vdev_lock(s->v);
	shadow_stand_down(s, true);
	queues &= IGB_ALLQ & ~s->engaged;
	if (!vdev_pdev(s->v))
		ret = err_set(e, -ENODEV, "%s: no device behind it to shadow",
			      vdev_name(s->v));
	else if (!queues && !s->leave)
		ret = err_set(e, -EALREADY, "%s: shadowed already",
			      vdev_name(s->v));
	else if (s->drained)
		ret = err_set(e, -EBUSY, "%s: is being switched over",
			      vdev_name(s->v));
	else
		ret = shadow_up(s, e);
	if (ret == 0) {
		s->leave = false;
		ret = shadow_take_vectors(s);
		if (ret < 0)
			err_sys(e, ret, "%s: interrupts cannot be taken over",
				vdev_name(s->v));
	}
	vdev_unlock(s->v);
	if (ret)
		goto down;

	ret = s->host->ops->pause(s->host);
	if (ret < 0) {
		err_sys(e, ret, "%s: vCPUs do not pause", vdev_name(s->v));
		goto down;
	}
	paused = now_ns();
	vdev_lock(s->v);
	ret = engage_paused(s, queues, e);
	if (ret == 0)
		s->engaged |= queues;
	vdev_unlock(s->v);
	s->host->ops->resume(s->host);
	paused = now_ns() - paused;
	if (ret)
		goto down;

	vdev_lock(s->v);
	s->stats.paused_ns = paused;
	shadow_inject_all(s);
	s->stats.engages++;
	s->stats.engage_ns = now_ns() - start;
	vdev_unlock(s->v);
	ret = shadow_poll_start(s);
	if (ret == 0)
		return 0;
	err_sys(e, ret, "%s: no thread to poll with", vdev_name(s->v));
	shadow_release(s, NULL);
	return ret;

down:
	vdev_lock(s->v);
	if (!s->engaged)
		shadow_down(s);
	vdev_unlock(s->v);
	return ret;
}

int shadow_release_locked(struct shadow *s)
{
	uint32_t held;
	int ret;

	shadow_stand_down(s, true);
	shadow_sync_locked(s);
	held = shadow_held(s);
	ret = shadow_drop(s, IGB_ALLQ & ~held, true);
	if (ret)
		return ret;
	s->engaged &= held;
	if (s->engaged) {
		s->leave = true;
		return -EBUSY;
	}
	shadow_poll_quit(s);
	shadow_down(s);
	s->leave = false;
	s->stats.releases++;
	return 0;
}

int shadow_release(struct shadow *s, struct err *e)
{
	uint64_t start = now_ns(), paused;
	uint32_t offset = 0;
	int ret;

	ret = s->host->ops->pause(s->host);
	if (ret < 0)
		return err_sys(e, ret, "%s: vCPUs do not pause",
			       vdev_name(s->v));
	paused = now_ns();
	vdev_lock(s->v);
	if (s->drained) {
		ret = err_set(e, -EBUSY, "%s: is being switched over",
			      vdev_name(s->v));
	} else if (s->up) {
		ret = shadow_release_locked(s);
		offset = shadow_offset(s);
	}
	s->stats.paused_ns = now_ns() - paused;
	s->stats.release_ns = now_ns() - start;
	vdev_unlock(s->v);
	s->host->ops->resume(s->host);

	if (ret == 0)
		shadow_poll_stop(s);
	else if (ret == -EBUSY)
		err_set(e, ret, "%s: stays shadowed until %s", vdev_name(s->v),
			offset ? "the guest resets its rings"
			       : "the device has passed what it lost");
	else
		err_sys(e, ret, "%s: cannot be made direct again",
			vdev_name(s->v));
	return ret;
}

int shadow_leave(struct shadow *s, struct err *e)
{
	int ret = s->host->ops->pause(s->host);

	if (ret < 0)
		return err_sys(e, ret, "%s: vCPUs do not pause",
			       vdev_name(s->v));
	vdev_lock(s->v);
	if (!s->drained) {
		ret = err_set(e, -EINVAL, "%s: is not drained",
			      vdev_name(s->v));
	} else {
		/* Nothing of the device's own is kept: what counts has been
		 * passed on. */
		ret = shadow_drop(s, IGB_ALLQ, false);
		if (ret < 0)
			err_sys(e, ret, "%s: pages stay split",
				vdev_name(s->v));
	}
	if (ret == 0) {
		s->engaged = 0;
		s->drained = s->leave = false;
		shadow_poll_quit(s);
		shadow_down(s);
		s->stats.releases++;
	}
	vdev_unlock(s->v);
	s->host->ops->resume(s->host);
	if (ret == 0)
		shadow_poll_stop(s);
	return ret;
}

static void queue_stats(const struct ring *r, struct shadow_queue_stats *q)
{
	q->submitted = r->stats.submitted;
	q->completed = r->stats.completed;
	q->bytes_written = r->stats.bytes_written;
	q->bad = r->stats.bad;
	q->inflight = r->slot ? ring_inflight(r) : 0;
	q->stalled = r->slot && r->stalled;
}

void shadow_get_stats(struct shadow *s, struct shadow_stats *out)
{
	vdev_lock(s->v);
	*out = s->stats;
	for (unsigned int k = 0; k < NRINGS; k++) {
		const struct ring *r = &s->ring[k];

		queue_stats(r, r->tx ? &out->tx[r->idx] : &out->rx[r->idx]);
		out->marked_pages += r->stats.marked_pages;
		out->marked_bytes += r->stats.marked_bytes;
		out->copied_bytes += r->stats.copied_bytes;
		out->holes += r->stats.holes;
	}
	out->split_pages = s->mem ? smem_split_bytes(s->mem) / PAGE_SIZE : 0;
	out->poll_ns = s->engaged && s->opts.poll_ns != SHADOW_POLL_OFF
			       ? s->poll.interval
			       : 0;
	vdev_unlock(s->v);
}
