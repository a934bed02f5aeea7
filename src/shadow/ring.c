#include "shadow/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "igb/mbx.h"
#include "igb/regs.h"
#include "shadow/ring_priv.h"

#define NOWHERE UINT64_MAX /* no RAM is there */

#define BSIZE_DEFAULT 2048 /* SRRCTL.BSIZEPKT 0: RCTL's reset value */

uint32_t ring_dev_index(const struct ring *r, uint32_t guest)
{
	return ring_before(r, guest, r->off);
}

/* ---- layout ---- */

static uint64_t head_word(bool tx, const struct igb_ring *regs)
{
	return tx && regs->wb & IGB_TDWBAL_EN ? regs->wb & ~3ull : 0;
}

int ring_check(const struct smem *m, bool tx, const struct igb_ring *regs,
	       struct err *e)
{
	const char *kind = tx ? "transmit" : "receive";
	uint64_t wb = head_word(tx, regs);

	if (!regs->len || regs->len % IGB_RING_ALIGN ||
	    regs->len > IGB_RING_MAX * IGB_DESC_SIZE)
		return err_set(e, -EINVAL, "%s ring of %u bytes", kind,
			       regs->len);
	if (regs->base % IGB_RING_ALIGN ||
	    !smem_is_ram(m, regs->base, regs->len))
		return err_set(e, -EINVAL,
			       "%s ring at %#llx is not in guest RAM", kind,
			       (unsigned long long)regs->base);
	if (wb && !smem_is_ram(m, wb, sizeof(uint32_t)))
		return err_set(e, -EINVAL,
			       "head write-back to %#llx is not to guest RAM",
			       (unsigned long long)wb);
	return 0;
}

int ring_split(struct smem *m, bool tx, const struct igb_ring *regs)
{
	uint64_t wb = head_word(tx, regs);
	int ret = smem_split(m, regs->base, regs->len);

	if (ret == 0 && wb)
		ret = smem_split(m, wb, sizeof(uint32_t));
	return ret;
}

bool ring_needs(const struct ring *r, uint64_t gpa, uint64_t len)
{
	uint64_t bytes = (uint64_t)r->n * IGB_DESC_SIZE;

	if (!r->slot)
		return false;
	if (gpa < r->base + bytes && r->base < gpa + len)
		return true;
	return r->wb && r->wb >= gpa && r->wb < gpa + len;
}

bool ring_exclusive(const struct smem *m, bool tx, const struct igb_ring *regs)
{
	struct smem_range u;

	if (head_word(tx, regs))
		return false;
	smem_unit(m, regs->base, &u);
	return regs->base % u.len == 0 && regs->len % u.len == 0;
}

void ring_srrctl(struct ring *r, uint32_t srrctl)
{
	uint32_t type = srrctl & IGB_SRRCTL_DESCTYPE;

	r->bsize = (srrctl & IGB_SRRCTL_BSIZEPKT) * 1024;
	if (!r->bsize)
		r->bsize = BSIZE_DEFAULT;
	r->hbsize = 0;
	if (type >= IGB_SRRCTL_SPLIT)
		r->hbsize = ((srrctl & IGB_SRRCTL_BSIZEHDR) >>
			     IGB_SRRCTL_BSIZEHDR_SHIFT) *
			    64;
	r->legacy = type == IGB_SRRCTL_LEGACY;
}

int ring_attach(struct ring *r, struct smem *m, struct host *h, bool full,
		const struct igb_ring *regs, uint32_t head, uint32_t off)
{
	r->n = regs->len / IGB_DESC_SIZE;
	r->slot = calloc(r->n, sizeof(*r->slot));
	if (!r->slot)
		return -ENOMEM;
	r->mem = m;
	r->host = h;
	r->full = full;
	r->base = regs->base;
	r->vcpu = smem_vcpu(m, r->base);
	r->dev = smem_dev(m, r->base);
	r->off = off;
	r->sub = head;
	r->done = head;
	r->tail = head;
	r->late = 0;
	r->hole = 0;
	r->settled = 0;
	r->unseen = 0;
	r->stalled = false;
	r->mid = false;
	memset(r->ctx, 0, sizeof(r->ctx));
	ring_srrctl(r, regs->srrctl);
	r->wb = head_word(r->tx, regs);
	r->wb_vcpu = r->wb ? smem_vcpu(m, r->wb) : NULL;
	r->wb_dev = r->wb ? smem_dev(m, r->wb) : NULL;
	return 0;
}

void ring_detach(struct ring *r)
{
	free(r->slot);
	r->slot = NULL;
	r->vcpu = NULL;
	r->dev = NULL;
	r->wb_vcpu = NULL;
	r->wb_dev = NULL;
	r->late = 0;
	r->off = 0;
}

/* ---- submission ---- */

static uint8_t tx_flags(const union igb_desc *d)
{
	uint8_t f = 0;

	if (d->dw[2] & IGB_TXD_RS)
		f |= RING_RS;
	if (!igb_txd_is_ctx(d) && d->dw[2] & IGB_TXD_EOP)
		f |= RING_EOP;
	return f;
}

/* What the guest posts in slot 'i', as it is now. */
static void note(struct ring *r, uint32_t i, const union igb_desc *d)
{
	struct ring_slot *s = &r->slot[i];

	s->flags = 0;
	s->pkt = d->qw[0];
	s->hdr = 0;
	if (r->tx)
		s->flags = tx_flags(d);
	else if (r->hbsize)
		s->hdr = d->qw[1] & ~1ull;
}

/*
 * Whether the device may have this descriptor, and its data with it.  A
 * transmit descriptor of a type we do not know is not let through: there is
 * no telling what in it is an address.
 */
static int check_tx(struct ring *r, const union igb_desc *d)
{
	bool ext = d->dw[2] & IGB_TXD_DEXT;
	uint32_t len = igb_txd_len(d);

	if (igb_txd_is_ctx(d)) {
		r->ctx[!!(d->dw[3] & IGB_CTX_IDX)] = *d;
		return 0;
	}
	if (ext && !igb_txd_is_data(d))
		return -EINVAL;
	if (!len)
		return 0;
	if (!smem_is_ram(r->mem, d->qw[0], len))
		return -EFAULT;
	r->stats.copied_bytes += smem_to_dev(r->mem, d->qw[0], len);
	return 0;
}

/*
 * A buffer as large as SRRCTL says, in whose KiB a driver has to round up:
 * igbvf's 1522 bytes are told as 2 KiB, and RAM may end before those do.
 */
static int check_buffer(struct ring *r, uint64_t gpa, uint32_t room)
{
	uint64_t len = smem_clip(r->mem, gpa, room);

	if (len < MIN(room, (uint32_t)MBX_FRAME_DEFAULT))
		return -EFAULT;
	if (r->full) {
		int ret = smem_split(r->mem, gpa, len);

		if (ret < 0)
			return ret;
	}
	/*
	 * The device's buffer is whole, so that what it leaves alone reads
	 * as the guest left it, whichever of the two is kept.
	 */
	r->stats.copied_bytes += smem_to_dev(r->mem, gpa, len);
	return 0;
}

static int check_rx(struct ring *r, const union igb_desc *d)
{
	int ret = check_buffer(r, d->qw[0], r->bsize);

	if (ret == 0 && r->hbsize)
		ret = check_buffer(r, d->qw[1] & ~1ull, r->hbsize);
	return ret;
}

bool ring_fits(const struct ring *r, uint32_t guest_tail)
{
	return guest_tail < r->n &&
	       ring_inflight(r) + ring_dist(r, r->sub, guest_tail) <= r->n - 1;
}

bool ring_submit(struct ring *r, uint32_t guest_tail, uint32_t *tail)
{
	if (guest_tail >= r->n) {
		r->stats.bad++;
		log_limited(&r->limit, LOG_WARN,
			    "%s: %s queue %u: tail %u in a ring of %u", r->name,
			    r->tx ? "transmit" : "receive", r->idx, guest_tail,
			    r->n);
		return false;
	}
	if (!ring_fits(r, guest_tail)) {
		r->stats.bad++;
		log_limited(&r->limit, LOG_WARN,
			    "%s: %s queue %u: tail %u passes the head", r->name,
			    r->tx ? "transmit" : "receive", r->idx, guest_tail);
		return false;
	}
	r->tail = guest_tail;
	if (r->stalled)
		return false;

	while (r->sub != guest_tail) {
		uint32_t i = r->sub;
		union igb_desc d, *dev = ring_dev_slot(r, i);
		int ret;

		d.qw[0] = ring_load(&r->vcpu[i].qw[0]);
		d.qw[1] = ring_without_dd(r, ring_load(&r->vcpu[i].qw[1]));
		ret = r->tx ? check_tx(r, &d) : check_rx(r, &d);
		if (ret < 0) {
			/*
			 * As a queue whose DMA was refused by the root
			 * complex: it stops, until it is enabled anew.
			 */
			r->stalled = true;
			r->stats.bad++;
			log_limited(&r->limit, LOG_WARN,
				    "%s: %s queue %u stops at slot %u: "
				    "descriptor %016llx %016llx refused: %s",
				    r->name, r->tx ? "transmit" : "receive",
				    r->idx, i, (unsigned long long)d.qw[0],
				    (unsigned long long)d.qw[1],
				    strerror(-ret));
			break;
		}
		note(r, i, &d);
		ring_store(&dev->qw[0], d.qw[0]);
		ring_store(&dev->qw[1], d.qw[1]);
		r->sub = ring_next(r, i);
		r->stats.submitted++;
	}
	if (ring_inflight(r) + r->late > r->n - 1)
		r->late = r->n - 1 - ring_inflight(r);
	/* Whole before owned: the tail is what hands a slot over. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*tail = ring_dev_index(r, r->sub);
	return true;
}

/* ---- taking over, giving back ---- */

/*
 * What was posted in slot 'i', of a ring whose copy was taken while the
 * device wrote to it.  The copy may hold a slot, or one half of it, from
 * before or after the write-back.  Where the buffers of a slot cannot be told
 * any more, its packet was there before the copy was complete.
 */
static void found(struct ring *r, uint32_t i)
{
	union igb_desc *v = &r->vcpu[i], d;
	const union igb_desc *dev = ring_dev_slot(r, i);
	bool done;

	d.qw[1] = ring_load(&dev->qw[1]);
	d.qw[0] = ring_load(&dev->qw[0]);
	done = ring_is_done(r, d.qw[1]);
	if (!done) {
		note(r, i, &d);
	} else if (ring_is_done(r, v->qw[1])) {
		note(r, i, v);
		r->slot[i].pkt = NOWHERE;
		r->slot[i].hdr = NOWHERE;
		ring_store(&v->qw[0], d.qw[0]);
		ring_store(&v->qw[1], d.qw[1]);
	} else {
		note(r, i, v);
		/* The second half came late: the first is no address. */
		if (!r->tx && !r->legacy && v->qw[0] == d.qw[0])
			r->slot[i].pkt = NOWHERE;
	}
}

int ring_reconcile(struct ring *r, uint32_t head, uint32_t tail)
{
	uint32_t i;

	if (head >= r->n || tail >= r->n)
		return -EIO;
	r->off = 0;
	r->done = head;
	r->sub = tail;
	r->tail = tail;
	for (i = 0; i < r->n; i++)
		found(r, i);

	/*
	 * The device may write back before it moves its head: what is
	 * complete in both buffers already is the guest's.
	 */
	for (i = head; i != tail; i = ring_next(r, i)) {
		if (r->tx && !(r->slot[i].flags & RING_RS))
			continue;
		if (!ring_is_done(r, r->vcpu[i].qw[1]))
			break;
		r->done = ring_next(r, i);
	}
	r->unseen = ring_dist(r, head, r->done);

	i = ring_before(r, r->done, 1);
	r->mid = !r->tx && i != tail && ring_is_done(r, r->vcpu[i].qw[1]) &&
		 !ring_is_eop(r, r->vcpu[i].qw[1]);

	/*
	 * Or after: of what lies before the head, slots that are not done
	 * may be the guest's or may still be written back.  If the device
	 * writes one, it was the device's.  (One may even lie before one
	 * that is done: the copy took its time.)
	 */
	r->late = r->wb ? 0 : r->n - 1 - ring_inflight(r);
	for (uint32_t k = 1; k <= r->late; k++) {
		i = ring_before(r, r->done, k);
		if (ring_is_done(r, r->vcpu[i].qw[1]))
			continue;
		r->slot[i].qw[0] = r->vcpu[i].qw[0];
		r->slot[i].qw[1] = r->vcpu[i].qw[1];
		r->slot[i].flags |= RING_WATCH;
	}
	if (r->wb)
		ring_complete_wb(r);
	return 0;
}

static size_t own(struct smem_range *out, size_t n, uint64_t gpa, uint64_t len)
{
	out[n] = (struct smem_range){ gpa, len };
	return n + 1;
}

static size_t own_buffer(const struct ring *r, struct smem_range *out, size_t n,
			 uint64_t gpa, uint64_t len)
{
	len = smem_clip(r->mem, gpa, len);
	return len && smem_any_split(r->mem, gpa, len) ? own(out, n, gpa, len)
						       : n;
}

size_t ring_owned_max(const struct ring *r)
{
	return r->slot ? r->late + 3 * (size_t)ring_inflight(r) + 1 : 0;
}

/*
 * A watched slot is the device's as long as the guest has left it as it was
 * found.  What the device buffer holds says nothing: its write-back may come
 * at this very moment, and must not be overwritten.
 */
static bool untouched(const struct ring *r, uint32_t i)
{
	const union igb_desc *v = &r->vcpu[i];
	const struct ring_slot *s = &r->slot[i];

	return s->flags & RING_WATCH && v->qw[0] == s->qw[0] &&
	       v->qw[1] == s->qw[1];
}

size_t ring_owned(const struct ring *r, struct smem_range *out)
{
	size_t n = 0;
	uint32_t i;

	if (!r->slot)
		return 0;
	for (i = ring_before(r, r->done, r->late); i != r->done;
	     i = ring_next(r, i)) {
		if (untouched(r, i))
			n = own(out, n, r->base + (uint64_t)i * IGB_DESC_SIZE,
				IGB_DESC_SIZE);
	}
	for (i = r->done; i != r->sub; i = ring_next(r, i)) {
		n = own(out, n, r->base + (uint64_t)i * IGB_DESC_SIZE,
			IGB_DESC_SIZE);
		if (r->tx)
			continue;
		n = own_buffer(r, out, n, r->slot[i].pkt, r->bsize);
		n = own_buffer(r, out, n, r->slot[i].hdr, r->hbsize);
	}
	if (r->wb)
		n = own(out, n, r->wb, sizeof(uint32_t));
	return n;
}
