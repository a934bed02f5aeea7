#include "shadow/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "igb/regs.h"

#define LEGACY_DD  (1ull << 32)
#define LEGACY_EOP (1ull << 33)
#define LEGACY_RXE (1ull << 47)

#define BSIZE_DEFAULT 2048 /* SRRCTL.BSIZEPKT 0: RCTL's reset value */

static uint32_t next(const struct ring *r, uint32_t i)
{
	return ++i == r->n ? 0 : i;
}

static uint32_t before(const struct ring *r, uint32_t i, uint32_t by)
{
	return i >= by ? i - by : i + r->n - by;
}

/* Steps from 'from' to 'to', forward. */
static uint32_t dist(const struct ring *r, uint32_t from, uint32_t to)
{
	return to >= from ? to - from : to + r->n - from;
}

uint32_t ring_dev_index(const struct ring *r, uint32_t guest)
{
	return before(r, guest, r->off);
}

static uint32_t guest_index(const struct ring *r, uint32_t dev)
{
	uint32_t g = dev + r->off;

	return g >= r->n ? g - r->n : g;
}

static union igb_desc *dev_slot(const struct ring *r, uint32_t i)
{
	return &r->dev[ring_dev_index(r, i)];
}

/* The other side writes these words while we look: each is read once. */
static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static bool is_done(const struct ring *r, uint64_t qw1)
{
	if (r->tx)
		return qw1 >> 32 & IGB_TXD_DD;
	return qw1 & (r->legacy ? LEGACY_DD : IGB_RXD_DD);
}

static uint64_t without_dd(const struct ring *r, uint64_t qw1)
{
	if (r->tx)
		return qw1 & ~((uint64_t)IGB_TXD_DD << 32);
	return qw1 & ~(r->legacy ? LEGACY_DD : IGB_RXD_DD);
}

static void mark(struct ring *r, uint64_t gpa, uint64_t len)
{
	r->host->ops->mark_dirty(r->host, (gpa_t){ gpa }, len);
	r->stats.marked_pages +=
		(gpa + len - 1) / PAGE_SIZE - gpa / PAGE_SIZE + 1;
	r->stats.marked_bytes += len;
}

/* Slots [from, from + count), which may wrap. */
static void mark_slots(struct ring *r, uint32_t from, uint32_t count)
{
	uint32_t first = MIN(count, r->n - from);

	if (first)
		mark(r, r->base + (uint64_t)from * IGB_DESC_SIZE,
		     (uint64_t)first * IGB_DESC_SIZE);
	if (count > first)
		mark(r, r->base, (uint64_t)(count - first) * IGB_DESC_SIZE);
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
	r->stalled = false;
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

static int check_buffer(struct ring *r, uint64_t gpa, uint32_t len)
{
	if (!smem_is_ram(r->mem, gpa, len))
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

bool ring_submit(struct ring *r, uint32_t guest_tail, uint32_t *tail)
{
	uint32_t count;

	if (guest_tail >= r->n) {
		r->stats.bad++;
		log_limited(&r->limit, LOG_WARN,
			    "%s: %s queue %u: tail %u in a ring of %u", r->name,
			    r->tx ? "transmit" : "receive", r->idx, guest_tail,
			    r->n);
		return false;
	}
	count = dist(r, r->sub, guest_tail);
	if (ring_inflight(r) + count > r->n - 1) {
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
		union igb_desc d, *dev = dev_slot(r, i);
		int ret;

		d.qw[0] = load(&r->vcpu[i].qw[0]);
		d.qw[1] = without_dd(r, load(&r->vcpu[i].qw[1]));
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
		store(&dev->qw[0], d.qw[0]);
		store(&dev->qw[1], d.qw[1]);
		r->sub = next(r, i);
		r->stats.submitted++;
	}
	if (ring_inflight(r) + r->late > r->n - 1)
		r->late = r->n - 1 - ring_inflight(r);
	/* Whole before owned: the tail is what hands a slot over. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*tail = ring_dev_index(r, r->sub);
	return true;
}

/* ---- completion ---- */

/* The device wrote 'len' bytes at 'gpa', or so it says. */
static void written(struct ring *r, uint64_t gpa, uint32_t len, uint32_t room)
{
	len = MIN(len, room);
	/* A slot seen only half on arrival may hold anything. */
	if (!len || !smem_is_ram(r->mem, gpa, len))
		return;
	r->stats.copied_bytes += smem_to_vcpu(r->mem, gpa, len);
	r->stats.bytes_written += len;
	mark(r, gpa, len);
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
	mark(r, gpa, IGB_DESC_SIZE);
}

/* Slot 'i' is written back: to the guest with it. */
static void hand_back(struct ring *r, uint32_t i, const union igb_desc *d)
{
	struct ring_slot *s = &r->slot[i];
	union igb_desc *v = &r->vcpu[i];

	if (!r->tx)
		written_rx(r, s, d);
	s->flags &= (uint8_t)~RING_WATCH;
	mark_slot_once(r, i);
	store(&v->qw[0], d->qw[0]);
	store(&v->qw[1], d->qw[1]);
}

/* Copy slot 'i' out if it is written back. */
static bool fetch(const struct ring *r, uint32_t i, union igb_desc *d)
{
	const union igb_desc *dev = dev_slot(r, i);

	d->qw[1] = load(&dev->qw[1]);
	if (!is_done(r, d->qw[1]))
		return false;
	d->qw[0] = load(&dev->qw[0]);
	return true;
}

/* Slots the device had taken before we came. */
static unsigned int complete_late(struct ring *r)
{
	uint32_t i = before(r, r->done, r->late);
	unsigned int n = 0;
	union igb_desc d;

	for (; i != r->done; i = next(r, i)) {
		if (!(r->slot[i].flags & RING_WATCH) || !fetch(r, i, &d))
			continue;
		hand_back(r, i, &d);
		mark_slots(r, i, 1);
		n++;
	}
	return n;
}

/*
 * The device went past slot 'done' without a word, which it does only if it
 * was off the bus for a moment and did not wait.  To the guest it is a frame
 * with a receive error: dropped, and the buffer is used again.
 */
static bool lost(struct ring *r, union igb_desc *d)
{
	uint32_t i = r->done;
	bool passed = false;
	union igb_desc other;

	if (r->tx)
		return false;
	for (uint32_t k = 0; k < r->hole && i != r->sub; k++) {
		i = next(r, i);
		if (i != r->sub && fetch(r, i, &other)) {
			passed = true;
			break;
		}
	}
	if (!passed)
		return false;
	d->qw[0] = 0;
	d->qw[1] = r->legacy ? LEGACY_DD | LEGACY_EOP | LEGACY_RXE
			     : IGB_RXD_DD | IGB_RXD_EOP | IGB_RXD_RXE;
	r->stats.holes++;
	return true;
}

static void advance(struct ring *r, uint32_t to)
{
	uint32_t by = dist(r, r->done, to);

	r->done = to;
	r->hole -= MIN(r->hole, by);
	r->stats.completed += by;
}

static unsigned int complete_rx(struct ring *r)
{
	uint32_t from = r->done;
	unsigned int n = 0;
	union igb_desc d;

	while (r->done != r->sub) {
		if (!fetch(r, r->done, &d) && !(r->hole && lost(r, &d)))
			break;
		if (r->late) {
			/* It writes in order: the early ones are all here. */
			n += complete_late(r);
			r->late = 0;
		}
		hand_back(r, r->done, &d);
		advance(r, next(r, r->done));
		n++;
	}
	mark_slots(r, from, dist(r, from, r->done));
	return n;
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
			n += dist(r, r->done, next(r, i));
			advance(r, next(r, i));
		}
		i = next(r, i);
	}
	mark_slots(r, from, dist(r, from, r->done));
	return n;
}

static void show_head(struct ring *r)
{
	mark(r, r->wb, sizeof(uint32_t));
	__atomic_store_n(r->wb_vcpu, r->done, __ATOMIC_RELEASE);
	mark(r, r->wb, sizeof(uint32_t));
}

/* The device writes its head to memory in place of descriptors. */
static unsigned int complete_wb(struct ring *r)
{
	uint32_t head = __atomic_load_n(r->wb_dev, __ATOMIC_ACQUIRE);
	unsigned int n;

	if (head >= r->n)
		return 0;
	head = guest_index(r, head);
	n = dist(r, r->done, head);
	if (!n || n > ring_inflight(r))
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
		return n + complete_wb(r);
	return n + (r->tx ? complete_tx(r) : complete_rx(r));
}

void ring_tx_head(struct ring *r, uint32_t dev_head)
{
	uint32_t head, from = r->done;

	if (dev_head >= r->n || r->wb)
		return;
	head = guest_index(r, dev_head);
	if (dist(r, from, head) > ring_inflight(r))
		return;
	while (from != head && !(r->slot[from].flags & RING_RS))
		from = next(r, from);
	advance(r, from);
}

uint32_t ring_guest_head(const struct ring *r, uint32_t dev_head)
{
	/* The guest's receive head is what it has been given, no more. */
	if (!r->tx || dev_head >= r->n)
		return r->done;
	return guest_index(r, dev_head);
}

unsigned int ring_tx_settle(struct ring *r, uint32_t dev_head)
{
	uint32_t head, i, end = r->done;
	unsigned int n;

	if (dev_head >= r->n)
		return 0;
	head = guest_index(r, dev_head);
	if (dist(r, r->done, head) > ring_inflight(r))
		return 0;
	for (i = r->done; i != head; i = next(r, i)) {
		if (r->slot[i].flags & RING_EOP)
			end = next(r, i);
	}
	if (head == r->sub)
		end = head;
	n = dist(r, r->done, end);
	if (!n)
		return 0;

	mark_slots(r, r->done, n);
	for (i = r->done; i != end; i = next(r, i)) {
		if (!r->wb && r->slot[i].flags & RING_RS)
			__atomic_fetch_or(&r->vcpu[i].dw[3], IGB_TXD_DD,
					  __ATOMIC_RELEASE);
	}
	mark_slots(r, r->done, n);
	advance(r, end);
	if (r->wb)
		show_head(r);
	return n;
}

void ring_expect_holes(struct ring *r, uint32_t dev_head)
{
	uint32_t k;

	if (dev_head >= r->n)
		return;
	k = dist(r, r->done, guest_index(r, dev_head));
	r->hole = k > ring_inflight(r) ? 0 : k;
}

/* ---- taking over, giving back ---- */

int ring_reconcile(struct ring *r, uint32_t head, uint32_t tail)
{
	uint32_t i, others;

	if (head >= r->n || tail >= r->n)
		return -EIO;
	r->off = 0;
	r->done = head;
	r->sub = tail;
	r->tail = tail;
	for (i = head; i != tail; i = next(r, i))
		note(r, i, &r->vcpu[i]);

	/*
	 * The device may write back before it moves its head: what is
	 * complete in both buffers already is the guest's.
	 */
	for (i = head; i != tail; i = next(r, i)) {
		if (r->tx && !(r->slot[i].flags & RING_RS))
			continue;
		if (!is_done(r, r->vcpu[i].qw[1]))
			break;
		r->done = next(r, i);
	}

	/*
	 * Or after: of what lies before the head, slots that are not done
	 * may be the guest's or may still be written back.  If the device
	 * writes one, it was the device's.  None such lies before one that
	 * is done, for both sides go in order.
	 */
	others = r->n - 1 - ring_inflight(r);
	for (r->late = 0; r->late < others; r->late++) {
		const union igb_desc *d;

		i = before(r, r->done, r->late + 1);
		d = &r->vcpu[i];
		if (is_done(r, d->qw[1]))
			break;
		note(r, i, d);
		r->slot[i].flags |= RING_WATCH;
	}
	if (r->wb) {
		r->late = 0;
		complete_wb(r);
	}
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
	return len && smem_any_split(r->mem, gpa, len) ? own(out, n, gpa, len)
						       : n;
}

size_t ring_owned_max(const struct ring *r)
{
	return r->slot ? r->late + 3 * (size_t)ring_inflight(r) + 1 : 0;
}

/*
 * A watched slot is the device's as long as the guest has not touched it;
 * then both buffers agree, and if the device writes meanwhile, it counts.
 */
static bool untouched(const struct ring *r, uint32_t i)
{
	const union igb_desc *v = &r->vcpu[i], *d = dev_slot(r, i);

	return r->slot[i].flags & RING_WATCH && v->qw[0] == d->qw[0] &&
	       v->qw[1] == d->qw[1];
}

size_t ring_owned(const struct ring *r, struct smem_range *out)
{
	size_t n = 0;
	uint32_t i;

	if (!r->slot)
		return 0;
	for (i = before(r, r->done, r->late); i != r->done; i = next(r, i)) {
		if (untouched(r, i))
			n = own(out, n, r->base + (uint64_t)i * IGB_DESC_SIZE,
				IGB_DESC_SIZE);
	}
	for (i = r->done; i != r->sub; i = next(r, i)) {
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
