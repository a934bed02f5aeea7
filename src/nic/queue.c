/*
 * The registers of a queue and what they do (82576 8.10, 8.12).
 *
 * Base and length are latched at the enable.  The head is the device's:
 * software may write it only between a reset and the first enable after it
 * (NIC-FACTS 4.5), or never when the model is told so.  Tail writes to a
 * queue that is not enabled are ignored.
 */
#include "nic/nic_int.h"

#define BAL_MASK (~(IGB_RING_ALIGN - 1))
#define LEN_MASK 0x000fff80u
#define IDX_MASK 0x0000ffffu
/* Thresholds, ENABLE; SWFLSH acts and reads as 0. */
#define DCTL_MASK 0x021f1f1fu

unsigned int nic_vf_queue(const struct nic *nic, unsigned int vf,
			  unsigned int local)
{
	return vf + local * NIC_VFS_MAX;
}

static void queue_on(struct nic *nic, struct nic_queue *q)
{
	q->base = (uint64_t)q->bah << 32 | q->bal;
	q->n = q->len / IGB_DESC_SIZE;
	q->on = true;
	q->pristine = false;
	q->stuck = false;
	if (q->head >= q->n)
		q->head = 0; /* where a counter that wraps would go */
	q->head_moved = true;
	if (!q->fn->master)
		log_limited(&q->fn->limit, LOG_WARN,
			    "function %u: queue %u enabled with bus mastering "
			    "off: nothing will move",
			    q->fn->index, q->index);
}

static void queue_off(struct nic_queue *q)
{
	q->on = false;
	q->n = 0;
}

static uint32_t common_read(const struct nic_queue *q, uint32_t off)
{
	switch (off) {
	case IGB_Q_BAL: return q->bal;
	case IGB_Q_BAH: return q->bah;
	case IGB_Q_LEN: return q->len;
	case IGB_Q_HEAD: return q->head;
	case IGB_Q_TAIL: return q->tail;
	case IGB_Q_DCA: return q->dca;
	case IGB_Q_DCTL: return q->dctl;
	default: return 0;
	}
}

static void common_write(struct nic *nic, struct nic_queue *q, uint32_t off,
			 uint32_t v)
{
	switch (off) {
	case IGB_Q_BAL: q->bal = v & BAL_MASK; break;
	case IGB_Q_BAH: q->bah = v; break;
	case IGB_Q_LEN: q->len = v & LEN_MASK; break;
	case IGB_Q_DCA: q->dca = v; break;
	case IGB_Q_HEAD:
		if (q->pristine && !nic->conf.heads_ro)
			q->head = v & IDX_MASK;
		break;
	case IGB_Q_TAIL:
		if (q->on && (v & IDX_MASK) < q->n)
			q->tail = v & IDX_MASK;
		else if (q->on)
			nic->counts.bad_access++;
		break;
	case IGB_Q_DCTL:
		q->dctl = v & DCTL_MASK;
		if (q->dctl & IGB_DCTL_ENABLE && !q->on)
			queue_on(nic, q);
		else if (!(q->dctl & IGB_DCTL_ENABLE))
			queue_off(q);
		break;
	default: break;
	}
}

uint32_t nic_rxq_read(struct nic *nic, unsigned int i, uint32_t off)
{
	struct nic_rxq *r = &nic->rx[i];
	uint32_t v;

	switch (off) {
	case IGB_Q_SRRCTL: return r->srrctl;
	case IGB_Q_RQDPC:
		v = r->rqdpc;
		r->rqdpc = 0;
		return v;
	case IGB_Q_WBAL: return nic->m->strvlan_in_dvmolr ? r->dvmolr : 0;
	default: return common_read(&r->q, off);
	}
}

void nic_rxq_write(struct nic *nic, unsigned int i, uint32_t off, uint32_t v)
{
	struct nic_rxq *r = &nic->rx[i];
	bool was_on = r->q.on;

	switch (off) {
	case IGB_Q_SRRCTL: r->srrctl = v & 0xcf003f7fu; break;
	case IGB_Q_WBAL:
		if (nic->m->strvlan_in_dvmolr)
			r->dvmolr = v & 0xe0000000u;
		break;
	default: common_write(nic, &r->q, off, v);
	}
	if (r->q.on != was_on)
		r->full = (struct nic_patience){ 0 };
}

uint32_t nic_txq_read(struct nic *nic, unsigned int i, uint32_t off)
{
	struct nic_txq *t = &nic->tx[i];

	switch (off) {
	case IGB_Q_WBAL: return t->wbal;
	case IGB_Q_WBAH: return t->wbah;
	default: return common_read(&t->q, off);
	}
}

void nic_txq_write(struct nic *nic, unsigned int i, uint32_t off, uint32_t v)
{
	struct nic_txq *t = &nic->tx[i];
	bool was_on = t->q.on;

	switch (off) {
	case IGB_Q_WBAL: t->wbal = v & ~2u; break;
	case IGB_Q_WBAH: t->wbah = v; break;
	default: common_write(nic, &t->q, off, v);
	}
	if (t->q.on != was_on)
		nic_tx_abort(t);
}

static void common_reset(struct nic_queue *q)
{
	q->bal = q->bah = q->len = q->head = q->tail = q->dctl = q->dca = 0;
	q->pristine = true;
	q->stuck = q->cause = false;
	q->head_moved = true;
	queue_off(q);
}

void nic_rxq_reset(struct nic *nic, unsigned int i)
{
	struct nic_rxq *r = &nic->rx[i];

	common_reset(&r->q);
	r->q.dctl = 1u << IGB_DCTL_WTHRESH_SHIFT;
	r->srrctl = 0x00000400u;
	r->full = (struct nic_patience){ 0 };
}

/* Head write-back addresses stay: no reset of a VF clears them. */
void nic_txq_reset(struct nic *nic, unsigned int i)
{
	struct nic_txq *t = &nic->tx[i];

	common_reset(&t->q);
	t->ctx[0] = t->ctx[1] = (union igb_desc){ 0 };
	nic_tx_abort(t);
}
