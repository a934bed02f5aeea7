/*
 * Completions: what the device has written back, on its way to the guest.
 */
#include "igb/regs.h"
#include "shadow/ring_priv.h"

#define HOLE_NS 50000000ull /* EITR's longest interval is 10 ms */

void ring_mark(struct ring *r, uint64_t gpa, uint64_t len)
{
	r->host->ops->mark_dirty(r->host, (gpa_t){ gpa }, len);
	r->stats.marked_pages +=
		(gpa + len - 1) / PAGE_SIZE - gpa / PAGE_SIZE + 1;
	r->stats.marked_bytes += len;
}

void ring_mark_slots(struct ring *r, uint32_t from, uint32_t count)
{
	uint32_t first = MIN(count, r->n - from);

	if (first)
		ring_mark(r, r->base + (uint64_t)from * IGB_DESC_SIZE,
			  (uint64_t)first * IGB_DESC_SIZE);
	if (count > first)
		ring_mark(r, r->base,
			  (uint64_t)(count - first) * IGB_DESC_SIZE);
}

/* The device wrote 'len' bytes at 'gpa', or so it says. */
static void written(struct ring *r, uint64_t gpa, uint32_t len, uint32_t room)
{
	/* A slot seen only half on arrival may hold anything. */
	len = (uint32_t)smem_clip(r->mem, gpa, MIN(len, room));
	if (!len)
		return;
	r->stats.copied_bytes += smem_to_vcpu(r->mem, gpa, len);
	r->stats.bytes_written += len;
	ring_mark(r, gpa, len);
}

static void written_rx(struct ring *r, const struct ring_slot *s,
		       const union igb_desc *d)
{
	if (r->legacy) {
		written(r, s->pkt, (uint16_t)d->qw[1], r->bsize);
		return;
	}
	/* A length that an error makes doubtful counts as a full buffer. */
	written(r, s->pkt, d->dw[2] & IGB_RXD_RXE ? r->bsize : igb_rxd_len(d),
		r->bsize);
	if (r->hbsize)
		written(r, s->hdr, igb_rxd_hdr_len(d), r->hbsize);
}

/*
 * Ring pages are marked before the guest can see anything in them, and
 * again after the last store of a round: a log fetched in between would
 * have the page copied without it.
 */
static void mark_slot_once(struct ring *r, uint32_t i)
{
	uint64_t gpa = r->base + (uint64_t)i * IGB_DESC_SIZE;

	if (gpa / PAGE_SIZE == r->marked)
		return;
	r->marked = gpa / PAGE_SIZE;
	ring_mark(r, gpa, IGB_DESC_SIZE);
}

/* Slot 'i' is written back: to the guest with it. */
static void hand_back(struct ring *r, uint32_t i, const union igb_desc *d)
{
	struct ring_slot *s = &r->slot[i];
	union igb_desc *v = &r->vcpu[i];

	if (!r->tx)
		written_rx(r, s, d);
	s->flags &= (uint8_t)~RING_WATCH;
	/* What counts is the last that the guest has, not the last to come. */
	if (ring_next(r, i) == r->done || i == r->done)
		r->mid = !r->tx && !ring_is_eop(r, d->qw[1]);
	mark_slot_once(r, i);
	ring_store(&v->qw[0], d->qw[0]);
	ring_store(&v->qw[1], d->qw[1]);
}

/* Copy slot 'i' out if it is written back. */
static bool fetch(const struct ring *r, uint32_t i, union igb_desc *d)
{
	const union igb_desc *dev = ring_dev_slot(r, i);

	d->qw[1] = ring_load(&dev->qw[1]);
	if (!ring_is_done(r, d->qw[1]))
		return false;
	d->qw[0] = ring_load(&dev->qw[0]);
	return true;
}

/* Slots the device had taken before we came. */
static unsigned int complete_late(struct ring *r)
{
	uint32_t i = ring_before(r, r->done, r->late);
	unsigned int n = 0;
	union igb_desc d;

	for (; i != r->done; i = ring_next(r, i)) {
		if (!(r->slot[i].flags & RING_WATCH) || !fetch(r, i, &d))
			continue;
		hand_back(r, i, &d);
		ring_mark_slots(r, i, 1);
		n++;
	}
	return n;
}

/*
 * The device went past slot 'i' without a word, which it does only if it was
 * off the bus for a moment and did not wait.  To the guest it is the end of
 * a frame with a receive error: dropped, and the buffer is used again.
 *
 * A later slot written back tells at once.  If the device has none left, time
 * has to: moderation never holds a write-back this long.
 */
static bool lost(struct ring *r, uint32_t i, union igb_desc *d)
{
	uint32_t last = (r->done + r->hole) % r->n;
	bool passed = false;
	union igb_desc other;

	if (ring_dist(r, r->done, i) >= r->hole)
		return false;
	for (uint32_t k = i; k != last && !passed;) {
		k = ring_next(r, k);
		passed = k != r->sub && fetch(r, k, &other);
		if (k == r->sub)
			break;
	}
	if (!passed && now_ns() < r->hole_until)
		return false;
	d->qw[0] = 0;
	d->qw[1] = r->legacy ? LEGACY_DD | LEGACY_EOP | LEGACY_RXE
			     : IGB_RXD_DD | IGB_RXD_EOP | IGB_RXD_RXE;
	return true;
}

static void advance(struct ring *r, uint32_t to)
{
	uint32_t by = ring_dist(r, r->done, to);

	r->done = to;
	/* The watch reaches back as far as it did. */
	if (r->late)
		r->late += by;
	r->hole -= MIN(r->hole, by);
	r->unseen = MIN(r->unseen + by, r->n);
	r->stats.completed += by;
}

/*
 * The slot behind the frame that begins at 'done', or 'done' if it is not
 * whole yet.  Frames are handed back whole, so that none is cut in two by a
 * switch-over; but if the device has no slot left to go on with, the guest
 * has to see what there is, to post more.
 */
static uint32_t frame_end(struct ring *r)
{
	uint32_t i = r->done;
	union igb_desc d;

	while (i != r->sub) {
		if (!fetch(r, i, &d) && !(r->hole && lost(r, i, &d)))
			return r->done;
		i = ring_next(r, i);
		if (ring_is_eop(r, d.qw[1]))
			break;
	}
	return i;
}

static unsigned int complete_rx(struct ring *r)
{
	uint32_t from = r->done, end;
	unsigned int n = 0;
	union igb_desc d;

	while ((end = frame_end(r)) != r->done) {
		if (r->late) {
			/* It writes in order: the early ones are all here. */
			n += complete_late(r);
			r->late = 0;
		}
		while (r->done != end) {
			if (!fetch(r, r->done, &d) && lost(r, r->done, &d))
				r->stats.holes++;
			hand_back(r, r->done, &d);
			advance(r, ring_next(r, r->done));
			n++;
		}
	}
	ring_mark_slots(r, from, ring_dist(r, from, r->done));
	return n;
}

/*
 * The end of the last packet before 'head'.  Nothing ends within a packet:
 * it is sent whole, here or elsewhere.
 */
static uint32_t packet_end(const struct ring *r, uint32_t head)
{
	uint32_t end = r->done;

	if (head == r->sub)
		return head;
	for (uint32_t i = r->done; i != head; i = ring_next(r, i)) {
		if (r->slot[i].flags & RING_EOP)
			end = ring_next(r, i);
	}
	return end;
}

/* Slots that ask for no status are done when a later one is. */
static unsigned int complete_tx(struct ring *r)
{
	uint32_t from = r->done, i = r->done;
	unsigned int n = 0;
	union igb_desc d;

	while (i != r->sub) {
		if (r->slot[i].flags & RING_RS) {
			if (!fetch(r, i, &d))
				break;
			if (r->late) {
				complete_late(r);
				r->late = 0;
			}
			hand_back(r, i, &d);
			n += ring_dist(r, r->done, ring_next(r, i));
			advance(r, ring_next(r, i));
		}
		i = ring_next(r, i);
	}
	ring_mark_slots(r, from, ring_dist(r, from, r->done));
	return n;
}

static void show_head(struct ring *r)
{
	ring_mark(r, r->wb, sizeof(uint32_t));
	__atomic_store_n(r->wb_vcpu, r->done, __ATOMIC_RELEASE);
	ring_mark(r, r->wb, sizeof(uint32_t));
}

/* The device writes its head to memory in place of descriptors. */
unsigned int ring_complete_wb(struct ring *r)
{
	uint32_t head = __atomic_load_n(r->wb_dev, __ATOMIC_ACQUIRE);
	unsigned int n;

	if (head >= r->n)
		return 0;
	head = ring_guest_index(r, head);
	if (ring_dist(r, r->done, head) > ring_inflight(r))
		return 0;
	head = packet_end(r, head);
	n = ring_dist(r, r->done, head);
	if (!n)
		return 0;
	advance(r, head);
	show_head(r);
	return n;
}

unsigned int ring_complete(struct ring *r)
{
	unsigned int n = 0;

	r->marked = UINT64_MAX;
	if (r->late)
		n = complete_late(r);
	if (r->wb)
		return n + ring_complete_wb(r);
	return n + (r->tx ? complete_tx(r) : complete_rx(r));
}

void ring_tx_head(struct ring *r, uint32_t dev_head, bool asked)
{
	uint32_t head, ahead, i = r->done;

	if (dev_head >= r->n || r->wb)
		return;
	head = ring_guest_index(r, dev_head);
	ahead = ring_dist(r, i, head);
	if (ahead > ring_inflight(r))
		return;
	/*
	 * Shown late, it may lie behind what has been written back since one
	 * was seen last.  In a full ring that looks like far ahead.
	 */
	if (!asked && ahead + r->unseen >= r->n)
		return;
	while (i != head && !(r->slot[i].flags & RING_RS))
		i = ring_next(r, i);
	advance(r, packet_end(r, i));
	r->unseen = 0;
}

uint32_t ring_guest_head(const struct ring *r, uint32_t dev_head)
{
	/* The guest's receive head is what it has been given, no more. */
	if (!r->tx || dev_head >= r->n)
		return r->done;
	return ring_guest_index(r, dev_head);
}

unsigned int ring_tx_settle(struct ring *r, uint32_t dev_head)
{
	uint32_t i, end;
	unsigned int n;

	if (dev_head >= r->n)
		return 0;
	end = ring_guest_index(r, dev_head);
	if (ring_dist(r, r->done, end) > ring_inflight(r))
		return 0;
	end = packet_end(r, end);
	n = ring_dist(r, r->done, end);
	if (!n)
		return 0;

	ring_mark_slots(r, r->done, n);
	for (i = r->done; i != end; i = ring_next(r, i)) {
		if (!r->wb && r->slot[i].flags & RING_RS)
			__atomic_fetch_or(&r->vcpu[i].dw[3], IGB_TXD_DD,
					  __ATOMIC_RELEASE);
	}
	ring_mark_slots(r, r->done, n);
	advance(r, end);
	r->settled = n;
	if (r->wb)
		show_head(r);
	return n;
}

void ring_tx_unsettle(struct ring *r)
{
	uint32_t end = r->done, i = ring_before(r, r->done, r->settled);

	if (!r->settled)
		return;
	r->done = i;
	if (r->late)
		r->late -= r->settled;
	r->stats.completed -= r->settled;
	for (; i != end; i = ring_next(r, i)) {
		if (!r->wb && r->slot[i].flags & RING_RS)
			__atomic_fetch_and(&r->vcpu[i].dw[3], ~IGB_TXD_DD,
					   __ATOMIC_RELEASE);
	}
	ring_mark_slots(r, r->done, r->settled);
	if (r->wb)
		show_head(r);
	r->settled = 0;
}

void ring_expect_holes(struct ring *r, uint32_t dev_head)
{
	uint32_t k;

	if (dev_head >= r->n)
		return;
	k = ring_dist(r, r->done, ring_guest_index(r, dev_head));
	r->hole = k > ring_inflight(r) ? 0 : k;
	r->hole_until = now_ns() + HOLE_NS;
}
