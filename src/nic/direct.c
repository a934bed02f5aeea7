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
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "nic/nic_int.h"

#define SLOW_NS 20000ull      /* between looks at control registers */
#define RSTD_NS 2200000000ull /* igbvf looks every 2 s */

static const uint16_t page0[] = { IGBVF_CTRL, IGBVF_V2PMAILBOX, IGBVF_PBACL,
				  IGBVF_PSRTYPE };
static const uint16_t counters[] = {
	IGBVF_VFGPRC,	IGBVF_VFGPTC,	IGBVF_VFGORC,
	IGBVF_VFGOTC,	IGBVF_VFMPRC,	IGBVF_VFGPRLBC,
	IGBVF_VFGPTLBC, IGBVF_VFGORLBC, IGBVF_VFGOTLBC,
};
static const uint8_t ring[] = {
	IGB_Q_BAL, IGB_Q_BAH,	 IGB_Q_LEN,  IGB_Q_HEAD,
	IGB_Q_DCA, IGB_Q_SRRCTL, IGB_Q_WBAL, IGB_Q_WBAH
};

static bool direct(const struct nic *nic, uint32_t off)
{
	return nic->conf.direct_pages >> (off / PAGE_SIZE) & 1;
}

static bool fresh(const struct nic_vf *v, uint32_t off, uint32_t *val)
{
	*val = __atomic_load_n(&v->shm[off / 4], __ATOMIC_ACQUIRE);
	return *val != v->pub[off / 4];
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
			nic_publish(nic, vf, ring_off(tx, l) + IGB_Q_DCTL);
		}
	}
}

/* The guest's word at 'off' becomes a write, if it is one. */
static bool take(struct nic *nic, unsigned int vf, uint32_t off)
{
	struct nic_vf *v = &nic->vf[vf];
	uint32_t val;

	if (!direct(nic, off) || !fresh(v, off, &val))
		return false;
	v->pub[off / 4] = val;
	if (off == IGBVF_V2PMAILBOX) {
		/* Whoever writes has read: bits shown before are consumed. */
		v->v2p &= ~(IGB_V2P_PFSTS | IGB_V2P_PFACK);
		if (v->v2p & IGB_V2P_RSTD && ++v->rstd_age >= 2)
			v->v2p &= ~IGB_V2P_RSTD;
	}
	nic_vf_write(nic, vf, off, val);
	nic->counts.direct_writes++;
	return true;
}

static unsigned int take_tail(struct nic *nic, unsigned int vf, bool tx,
			      unsigned int local)
{
	unsigned int n = take(nic, vf, ring_off(tx, local) + IGB_Q_TAIL);

	if (nic->conf.compact)
		n += take(nic, vf, compact_off(tx, local, true));
	return n;
}

static void queue_ctl(struct nic *nic, unsigned int i, bool tx, uint32_t v)
{
	if (tx)
		nic_txq_write(nic, i, IGB_Q_DCTL, v);
	else
		nic_rxq_write(nic, i, IGB_Q_DCTL, v);
}

static unsigned int take_ring(struct nic *nic, unsigned int vf, bool tx,
			      unsigned int local)
{
	struct nic_vf *v = &nic->vf[vf];
	unsigned int i = nic_vf_queue(nic, vf, local), n = 0;
	struct nic_queue *q = tx ? &nic->tx[i].q : &nic->rx[i].q;
	uint32_t b = ring_off(tx, local), ctl, val;
	bool moved;

	if (!direct(nic, b))
		return nic->conf.compact
			       ? take(nic, vf, compact_off(tx, local, false))
			       : 0;

	n = fresh(v, b + IGB_Q_DCTL, &ctl);
	moved = fresh(v, b + IGB_Q_BAL, &val);
	moved |= fresh(v, b + IGB_Q_BAH, &val);
	moved |= fresh(v, b + IGB_Q_LEN, &val);
	/* Disabled, perhaps enabled again since: both, in order. */
	if (q->on && (moved || !(ctl & IGB_DCTL_ENABLE)))
		queue_ctl(nic, i, tx, ctl & ~IGB_DCTL_ENABLE);
	for (unsigned int k = 0; k < ARRAY_SIZE(ring); k++)
		n += take(nic, vf, b + ring[k]);
	if (nic->conf.compact)
		n += take(nic, vf, compact_off(tx, local, false));
	if (n) {
		v->pub[(b + IGB_Q_DCTL) / 4] = ctl;
		queue_ctl(nic, i, tx, ctl);
		nic_publish(nic, vf, b + IGB_Q_DCTL);
	}
	return n;
}

static unsigned int take_slow(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];
	unsigned int n = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(page0); i++)
		n += take(nic, vf, page0[i]);
	for (unsigned int l = 0; l < nic->m->queues_per_vf; l++) {
		n += take_ring(nic, vf, false, l);
		n += take_ring(nic, vf, true, l);
	}
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
	return n;
}

static unsigned int take_tails(struct nic *nic, unsigned int vf)
{
	unsigned int n = 0;

	for (unsigned int l = 0; l < nic->m->queues_per_vf; l++) {
		n += take_tail(nic, vf, false, l);
		n += take_tail(nic, vf, true, l);
	}
	return n;
}

void nic_direct_sync(struct nic *nic, unsigned int vf)
{
	if (!nic->vf[vf].in_use)
		return;
	take_slow(nic, vf);
	take_tails(nic, vf);
}

/*
 * A tail for a queue that is not enabled may belong to an enable we have
 * not seen: look at the control registers first.
 */
static bool tail_of_disabled(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];
	uint32_t val;

	for (unsigned int l = 0; l < nic->m->queues_per_vf; l++) {
		unsigned int i = nic_vf_queue(nic, vf, l);

		if ((!nic->rx[i].q.on &&
		     fresh(v, ring_off(false, l) + IGB_Q_TAIL, &val)) ||
		    (!nic->tx[i].q.on &&
		     fresh(v, ring_off(true, l) + IGB_Q_TAIL, &val)))
			return true;
	}
	return false;
}

unsigned int nic_direct_poll(struct nic *nic)
{
	bool slow = nic->now >= nic->direct_next;
	unsigned int n = 0;

	if (slow)
		nic->direct_next = nic->now + SLOW_NS;
	for (unsigned int vf = 0; vf < nic->num_vfs; vf++) {
		if (!nic->vf[vf].in_use)
			continue;
		if (slow || tail_of_disabled(nic, vf))
			n += take_slow(nic, vf);
		n += take_tails(nic, vf);
	}
	return n;
}

void nic_direct_tail(struct nic *nic, struct nic_queue *q, bool tx)
{
	struct nic_vf *v = nic_queue_vf(nic, q);

	if (v && v->in_use)
		take_tail(nic, nic_fn_vf(q->fn), tx, q->local);
}

static void publish_head(struct nic *nic, struct nic_queue *q, bool tx)
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
		publish_head(nic, &nic->rx[i].q, false);
		publish_head(nic, &nic->tx[i].q, true);
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
