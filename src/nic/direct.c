/*
 * Pages of a VF's BAR 0 that a guest reaches without us: plain memory.
 *
 * A register there is a word that both sides write.  We remember what we
 * put into it (pub); a different value is a write by the guest.  It is
 * taken, acted upon as a write by message would be, and the register's
 * new value is put back.  Putting is a compare-and-exchange against 'pub',
 * so a guest's write is never overwritten unseen.
 *
 * What memory cannot do, and what is done instead:
 * - Read-to-clear bits (PFSTS, PFACK, RSTD) stay until the guest writes the
 *   mailbox register, which every driver does to take the buffer before it
 *   starts an exchange.  RSTD also goes at the second write, at a VF reset,
 *   and after RSTD_NS: stock igbvf waits at most 1 ms for it to be gone.
 * - The VFU lock: a guest that writes VFU reads it back at once, even when
 *   the PF holds the buffer.  Counted as a conflict.
 * - Two writes between two looks are one.  That is harmless for tails and
 *   ring registers, but not for the set-and-clear registers of page 1: an
 *   EIMS write lost is an interrupt lost.  Hence page 1 is never direct.
 * - Disable and enable between two looks: seen by a changed base or length.
 *
 * Order.  A guest may be anywhere in its program while we look, and on a
 * busy host we may stand still in the middle of a look.  So a look first
 * reads, the register that a driver writes last first, and only then acts,
 * in the driver's order: reset, mailbox, rings, enable, tail.  Memory keeps
 * the guest's order, hence whoever sees a tail sees the enable before it,
 * and whoever sees a request sees the reset before that.  Ring registers
 * found together with a reset are taken as written after it; written before
 * they do no harm, for a VF that was reset moves nothing until the PF has
 * answered it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "nic/nic_int.h"

#define SLOW_NS 20000ull      /* between looks at control registers */
#define RSTD_NS 2200000000ull /* igbvf looks every 2 s */

static const uint16_t counters[] = {
	IGBVF_VFGPRC,	IGBVF_VFGPTC,	IGBVF_VFGORC,
	IGBVF_VFGOTC,	IGBVF_VFMPRC,	IGBVF_VFGPRLBC,
	IGBVF_VFGPTLBC, IGBVF_VFGORLBC, IGBVF_VFGOTLBC,
};
static const uint16_t page0[] = { IGBVF_CTRL, IGBVF_V2PMAILBOX, IGBVF_PBACL,
				  IGBVF_PSRTYPE };
/* In the order a driver writes them: the enable is the last. */
static const uint8_t ring[] = { IGB_Q_BAL,  IGB_Q_BAH,	IGB_Q_LEN,
				IGB_Q_HEAD, IGB_Q_DCA,	IGB_Q_SRRCTL,
				IGB_Q_WBAL, IGB_Q_WBAH, IGB_Q_DCTL };

/*
 * All that a guest can write, numbered in the order drivers write it, so
 * that a set of them is a bit mask.  A ring is a queue's one direction; all
 * that receive come first, for a word that is sent may tell of room in any.
 */
#define RX_RINGS   2u
#define RINGS	   (2 * RX_RINGS)
#define RING_REGS  (ARRAY_SIZE(ring) + 1) /* and the compact head */
#define RING(r)	   (ARRAY_SIZE(page0) + (r)*RING_REGS)
#define RING_DCTL  (ARRAY_SIZE(ring) - 1)
#define TAIL(r)	   (RING(RINGS) + 2 * (r)) /* and the compact one */
#define REGS	   TAIL(RINGS)
#define PAGE0_MASK (BIT(ARRAY_SIZE(page0)) - 1)
#define RING_MASK  (BIT(RING_REGS) - 1)
#define TAILS_MASK ((BIT(2 * RINGS) - 1) << TAIL(0))

_Static_assert(REGS <= NIC_DIRECT_REGS && REGS <= 64, "a mask holds them all");

/* What one look found: values that the guest wrote. */
struct look {
	uint64_t fresh;
	uint32_t val[REGS];
};

static bool direct(const struct nic *nic, uint32_t off)
{
	return nic->conf.direct_pages >> (off / PAGE_SIZE) & 1;
}

static void put(struct nic_vf *v, uint32_t off, uint32_t val)
{
	uint32_t was = v->pub[off / 4];

	v->pub[off / 4] = val;
	/* On failure the guest has written; the next look finds it. */
	__atomic_compare_exchange_n(&v->shm[off / 4], &was, val, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static uint32_t ring_off(bool tx, unsigned int local)
{
	return (tx ? 0x3800u : 0x2800u) + local * IGBVF_QUEUE_STRIDE;
}

static uint32_t compact_off(bool tx, unsigned int local, bool tail)
{
	return IGBVF_COMPACT_RDH + local * IGBVF_COMPACT_STRIDE +
	       (tx ? 8u : 0u) + (tail ? 4u : 0u);
}

/* The other name of a head or tail in the compact layout, or 0. */
static uint32_t alias(const struct nic *nic, uint32_t off)
{
	uint32_t in_block = off % IGBVF_QUEUE_STRIDE;
	unsigned int local = off / IGBVF_QUEUE_STRIDE & 1;

	if (!nic->conf.compact || off < 0x2800 ||
	    (in_block != IGB_Q_HEAD && in_block != IGB_Q_TAIL))
		return 0;
	return compact_off(off >= 0x3000, local, in_block == IGB_Q_TAIL);
}

void nic_publish(struct nic *nic, unsigned int vf, uint32_t off)
{
	struct nic_vf *v = &nic->vf[vf];
	uint32_t val = nic_vf_peek(nic, vf, off), other;

	if (off >= IGBVF_COMPACT_RDH && off < IGBVF_COMPACT_RDH + 0x20) {
		bool tx = off & 8;

		if (nic->conf.compact)
			nic_publish(nic, vf,
				    ring_off(tx, (off & 0x10) / 0x10) +
					    (off & 4 ? IGB_Q_TAIL
						     : IGB_Q_HEAD));
		return;
	}
	if (direct(nic, off))
		put(v, off, val);
	other = alias(nic, off);
	if (other && direct(nic, other))
		put(v, other, val);
}

void nic_publish_all(struct nic *nic, unsigned int vf)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(page0); i++)
		nic_publish(nic, vf, page0[i]);
	nic_publish(nic, vf, IGBVF_STATUS);
	for (unsigned int i = 0; i < ARRAY_SIZE(counters); i++)
		nic_publish(nic, vf, counters[i]);
	for (unsigned int l = 0; l < nic->m->queues_per_vf; l++) {
		for (int tx = 0; tx < 2; tx++) {
			for (unsigned int i = 0; i < ARRAY_SIZE(ring); i++)
				nic_publish(nic, vf, ring_off(tx, l) + ring[i]);
			nic_publish(nic, vf, ring_off(tx, l) + IGB_Q_TAIL);
		}
	}
}

static unsigned int ring_of(bool tx, unsigned int local)
{
	return (tx ? RX_RINGS : 0) + local;
}

static bool is_tx(unsigned int r)
{
	return r >= RX_RINGS;
}

static void add_reg(struct nic *nic, unsigned int reg, uint32_t off)
{
	nic->direct_off[reg] = (uint16_t)off;
	if (direct(nic, off))
		nic->direct_regs |= BIT(reg);
}

void nic_direct_init(struct nic *nic)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(page0); i++)
		add_reg(nic, i, page0[i]);
	for (unsigned int r = 0; r < RINGS; r++) {
		unsigned int local = r % RX_RINGS;
		bool tx = is_tx(r);

		if (local >= nic->m->queues_per_vf)
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(ring); i++)
			add_reg(nic, RING(r) + i,
				ring_off(tx, local) + ring[i]);
		add_reg(nic, TAIL(r), ring_off(tx, local) + IGB_Q_TAIL);
		if (!nic->conf.compact)
			continue;
		add_reg(nic, RING(r) + ARRAY_SIZE(ring),
			compact_off(tx, local, false));
		add_reg(nic, TAIL(r) + 1, compact_off(tx, local, true));
	}
}

/* Read 'which' of the VF's registers, the last in order first. */
static void look_at(const struct nic *nic, unsigned int vf, struct look *k,
		    uint64_t which)
{
	const struct nic_vf *v = &nic->vf[vf];

	which &= nic->direct_regs;
	while (which) {
		unsigned int i = 63u - (unsigned int)__builtin_clzll(which);
		uint32_t at = nic->direct_off[i] / 4;

		which &= ~BIT(i);
		k->val[i] = __atomic_load_n(&v->shm[at], __ATOMIC_ACQUIRE);
		if (k->val[i] != v->pub[at])
			k->fresh |= BIT(i);
	}
}

/* What must have been looked at before the tails in 'k' may count. */
static uint64_t before_tails(const struct look *k)
{
	uint64_t which = 0;

	for (unsigned int r = 0; r < RINGS; r++)
		if (k->fresh >> TAIL(r) & 3)
			which |= PAGE0_MASK | RING_MASK << RING(r);
	return which;
}

/* The guest's word becomes a write. */
static bool take(struct nic *nic, unsigned int vf, const struct look *k,
		 unsigned int reg)
{
	struct nic_vf *v = &nic->vf[vf];
	uint32_t off = nic->direct_off[reg];

	if (!(k->fresh >> reg & 1))
		return false;
	v->pub[off / 4] = k->val[reg];
	if (off == IGBVF_V2PMAILBOX) {
		/* Whoever writes has read: bits shown before are consumed. */
		v->v2p &= ~(IGB_V2P_PFSTS | IGB_V2P_PFACK);
		if (v->v2p & IGB_V2P_RSTD && ++v->rstd_age >= 2)
			v->v2p &= ~IGB_V2P_RSTD;
	}
	nic_vf_write(nic, vf, off, k->val[reg]);
	nic->counts.direct_writes++;
	return true;
}

/* Not shown to the guest, which has already written what comes next. */
static void queue_ctl(struct nic *nic, unsigned int vf, unsigned int r,
		      uint32_t v)
{
	unsigned int q = nic_vf_queue(nic, vf, r % RX_RINGS);

	if (is_tx(r))
		nic_txq_write(nic, q, IGB_Q_DCTL, v);
	else
		nic_rxq_write(nic, q, IGB_Q_DCTL, v);
}

static unsigned int take_ring(struct nic *nic, unsigned int vf,
			      const struct look *k, unsigned int r)
{
	unsigned int dctl = RING(r) + RING_DCTL, n = 0;
	uint32_t off = nic->direct_off[dctl], ctl;
	uint64_t moved = k->fresh >> RING(r) & 7; /* base and length */

	if (!(k->fresh >> RING(r) & RING_MASK))
		return 0;
	ctl = nic_vf_peek(nic, vf, off);
	/* Disabled, perhaps enabled again since: both, in order. */
	if (nic->direct_regs >> dctl & 1 && ctl & IGB_DCTL_ENABLE &&
	    (moved || !(k->val[dctl] & IGB_DCTL_ENABLE)))
		queue_ctl(nic, vf, r, ctl & ~IGB_DCTL_ENABLE);
	n += take(nic, vf, k, RING(r) + ARRAY_SIZE(ring));
	for (unsigned int i = 0; i < RING_DCTL; i++)
		n += take(nic, vf, k, RING(r) + i);
	if (moved && !(k->fresh >> dctl & 1))
		nic_vf_write(nic, vf, off, k->val[dctl]);
	return n + take(nic, vf, k, dctl);
}

static unsigned int act(struct nic *nic, unsigned int vf, const struct look *k)
{
	unsigned int n = 0;

	if (!k->fresh)
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(page0); i++)
		n += take(nic, vf, k, i);
	for (unsigned int r = 0; r < RINGS; r++)
		n += take_ring(nic, vf, k, r);
	for (unsigned int i = TAIL(0); i < REGS; i++)
		n += take(nic, vf, k, i);
	return n;
}

/* What only we write there: bits that wait to be read, statistics. */
static void refresh(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];

	if (v->v2p & IGB_V2P_RSTD && direct(nic, IGBVF_V2PMAILBOX) &&
	    nic->now >= nic->urgent_until) {
		v->v2p &= ~IGB_V2P_RSTD;
		nic_publish(nic, vf, IGBVF_V2PMAILBOX);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(counters); i++) {
		uint32_t off = counters[i];

		if (v->pub[off / 4] != nic_vf_peek(nic, vf, off))
			nic_publish(nic, vf, off);
	}
}

void nic_direct_sync(struct nic *nic, unsigned int vf)
{
	struct look k = { 0 };

	if (!nic->vf[vf].in_use)
		return;
	look_at(nic, vf, &k, UINT64_MAX);
	act(nic, vf, &k);
	refresh(nic, vf);
}

unsigned int nic_direct_poll(struct nic *nic)
{
	bool slow = nic->now >= nic->direct_next;
	unsigned int n = 0;

	if (slow)
		nic->direct_next = nic->now + SLOW_NS;
	for (unsigned int vf = 0; vf < nic->num_vfs; vf++) {
		struct look k;

		if (!nic->vf[vf].in_use)
			continue;
		k.fresh = 0;
		look_at(nic, vf, &k, TAILS_MASK);
		look_at(nic, vf, &k, slow ? ~TAILS_MASK : before_tails(&k));
		n += act(nic, vf, &k);
		if (slow)
			refresh(nic, vf);
	}
	return n;
}

/* In the middle of other work: not if anything else would come first. */
void nic_direct_tail(struct nic *nic, struct nic_queue *q, bool tx)
{
	unsigned int vf = nic_fn_vf(q->fn), r = ring_of(tx, q->local);
	struct look k;

	if (!nic_is_vf(q->fn) || !nic->vf[vf].in_use)
		return;
	k.fresh = 0;
	look_at(nic, vf, &k, 3ull << TAIL(r));
	look_at(nic, vf, &k, before_tails(&k));
	if (k.fresh & ~TAILS_MASK)
		return;
	take(nic, vf, &k, TAIL(r));
	take(nic, vf, &k, TAIL(r) + 1);
}

void nic_publish_head(struct nic *nic, struct nic_queue *q, bool tx)
{
	if (!q->head_moved)
		return;
	q->head_moved = false;
	if (nic_is_vf(q->fn))
		nic_publish(nic, nic_fn_vf(q->fn),
			    ring_off(tx, q->local) + IGB_Q_HEAD);
}

void nic_publish_moved(struct nic *nic)
{
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		nic_publish_head(nic, &nic->rx[i].q, false);
		nic_publish_head(nic, &nic->tx[i].q, true);
	}
}

void nic_rstd_shown(struct nic *nic)
{
	nic->urgent_until = nic->now + RSTD_NS;
}

bool nic_needs_polling(const struct nic *nic)
{
	for (unsigned int vf = 0; vf < nic->num_vfs; vf++)
		if (nic->vf[vf].in_use)
			return true;
	return false;
}

bool nic_poll_urgent(const struct nic *nic)
{
	return nic_needs_polling(nic) && nic->now < nic->urgent_until;
}

int nic_direct_create(struct nic *nic, unsigned int vf, struct err *e)
{
	struct nic_vf *v = &nic->vf[vf];
	void *p;
	int ret;

	v->fd = memfd_create("pagurus-vf-bar0",
			     MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (v->fd < 0)
		return err_sys(e, -errno, "cannot make memory for VF %u", vf);
	if (ftruncate(v->fd, IGBVF_BAR0_SIZE) ||
	    fcntl(v->fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = err_sys(e, -errno, "cannot size memory for VF %u", vf);
		goto close;
	}
	p = mmap(NULL, IGBVF_BAR0_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		 v->fd, 0);
	if (p == MAP_FAILED) {
		ret = err_sys(e, -errno, "cannot map memory for VF %u", vf);
		goto close;
	}
	v->shm = p;
	return 0;

close:
	close_fd(&v->fd);
	return ret;
}

void nic_direct_destroy(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];

	if (v->shm)
		munmap(v->shm, IGBVF_BAR0_SIZE);
	v->shm = NULL;
	if (v->fd > 0)
		close_fd(&v->fd);
}
