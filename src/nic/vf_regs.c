/*
 * A VF's BAR 0 as registers.  The layout is the PF's, folded: NIC-FACTS 1.1.
 * The VF names its own vectors 0..2 and its queues 0 and 1.
 */
#include "nic/nic_int.h"

/* Page 2 and 3, and the compact layout: which queue register is it? */
struct qreg {
	bool tx, ok;
	unsigned int queue; /* of the device */
	uint32_t off;	    /* within its block */
};

static struct qreg queue_reg(const struct nic *nic, unsigned int vf,
			     uint32_t off)
{
	static const uint32_t compact[4] = { IGB_Q_HEAD, IGB_Q_TAIL, IGB_Q_HEAD,
					     IGB_Q_TAIL };
	struct qreg r = { 0 };
	unsigned int local;

	if (off >= 0x2000) {
		uint32_t in_page = off & 0xfff;

		if (in_page < 0x800 || in_page >= 0xa00)
			return r;
		r.tx = off >= 0x3000;
		local = (in_page - 0x800) / IGBVF_QUEUE_STRIDE;
		r.off = in_page % IGBVF_QUEUE_STRIDE;
		/* The I350's DVMOLR is in this block, but the PF's. */
		if (r.off >= 0x40 || (!r.tx && r.off >= IGB_Q_WBAL))
			return r;
	} else {
		uint32_t at = off - IGBVF_COMPACT_RDH;

		if (!nic->conf.compact || off < IGBVF_COMPACT_RDH ||
		    at >= 2 * IGBVF_COMPACT_STRIDE)
			return r;
		local = at / IGBVF_COMPACT_STRIDE;
		r.tx = at % IGBVF_COMPACT_STRIDE >= 8;
		r.off = compact[at % IGBVF_COMPACT_STRIDE / 4];
	}
	if (local >= nic->m->queues_per_vf)
		return r;
	r.queue = nic_vf_queue(nic, vf, local);
	r.ok = true;
	return r;
}

static uint32_t *counter(struct nic_vf *v, uint32_t off)
{
	switch (off) {
	case IGBVF_VFGPRC: return &v->gprc;
	case IGBVF_VFGPTC: return &v->gptc;
	case IGBVF_VFGORC: return &v->gorc;
	case IGBVF_VFGOTC: return &v->gotc;
	case IGBVF_VFMPRC: return &v->mprc;
	case IGBVF_VFGPRLBC: return &v->gprlbc;
	case IGBVF_VFGPTLBC: return &v->gptlbc;
	case IGBVF_VFGORLBC: return &v->gorlbc;
	case IGBVF_VFGOTLBC: return &v->gotlbc;
	default: return NULL;
	}
}

static bool is_vmbmem(uint32_t off)
{
	return off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 4 * IGBVF_MBX_WORDS;
}

uint32_t nic_vf_peek(struct nic *nic, unsigned int vf, uint32_t off)
{
	struct nic_vf *v = &nic->vf[vf];
	struct qreg q;
	uint32_t *c;

	if (is_vmbmem(off))
		return __atomic_load_n(&v->shm[off / 4], __ATOMIC_RELAXED);
	switch (off) {
	case IGBVF_CTRL: return 0;
	case IGBVF_STATUS:
		return REG(nic, IGB_STATUS) &
		       (IGB_STATUS_FD | IGB_STATUS_LU | 0xc0u);
	case IGBVF_V2PMAILBOX: return v->v2p;
	case IGBVF_PBACL: return v->pbacl;
	case IGBVF_PSRTYPE: return REG(nic, IGB_PSRTYPE(vf));
	case IGBVF_FRTIMER: return (uint32_t)(nic->now / 1000);
	case IGBVF_EIMS:
	case IGBVF_EIAC:
	case IGBVF_EIAM: return nic_intr_read(nic, &nic->fn[NIC_VF(vf)], off);
	case IGBVF_EICR: return v->intr.eicr;
	case IGBVF_EITR0:
	case IGBVF_EITR1:
	case IGBVF_EITR2: return v->intr.eitr[(off - IGBVF_EITR0) / 4];
	case IGBVF_IVAR0: return v->ivar;
	case IGBVF_IVAR_MISC: return v->ivar_misc;
	default: break;
	}
	c = counter(v, off);
	if (c)
		return *c;
	q = queue_reg(nic, vf, off);
	if (!q.ok)
		return 0;
	if (!q.tx && q.off == IGB_Q_RQDPC)
		return nic->rx[q.queue].rqdpc;
	return q.tx ? nic_txq_read(nic, q.queue, q.off)
		    : nic_rxq_read(nic, q.queue, q.off);
}

uint32_t nic_vf_read(struct nic *nic, unsigned int vf, uint32_t off)
{
	struct qreg q;

	switch (off) {
	case IGBVF_V2PMAILBOX: return nic_mbx_vf_read(nic, vf);
	case IGBVF_EICR: return nic_intr_read(nic, &nic->fn[NIC_VF(vf)], off);
	default: break;
	}
	q = queue_reg(nic, vf, off);
	if (q.ok && !q.tx && q.off == IGB_Q_RQDPC)
		return nic_rxq_read(nic, q.queue, q.off);
	return nic_vf_peek(nic, vf, off);
}

void nic_vf_write(struct nic *nic, unsigned int vf, uint32_t off, uint32_t val)
{
	struct nic_vf *v = &nic->vf[vf];
	struct qreg q;

	if (is_vmbmem(off)) {
		__atomic_store_n(&v->shm[off / 4], val, __ATOMIC_RELAXED);
		return;
	}
	switch (off) {
	case IGBVF_CTRL:
		if (val & IGB_CTRL_RST)
			nic_vf_reset(nic, vf, false);
		break;
	case IGBVF_V2PMAILBOX: nic_mbx_vf_write(nic, vf, val); return;
	case IGBVF_PBACL: v->pbacl = val & 7; break;
	case IGBVF_PSRTYPE: REG(nic, IGB_PSRTYPE(vf)) = val; break;
	case IGBVF_EICS:
	case IGBVF_EIMS:
	case IGBVF_EIMC:
	case IGBVF_EIAC:
	case IGBVF_EIAM:
	case IGBVF_EICR:
		nic_intr_write(nic, &nic->fn[NIC_VF(vf)], off, val);
		return;
	case IGBVF_EITR0:
	case IGBVF_EITR1:
	case IGBVF_EITR2:
		v->intr.eitr[(off - IGBVF_EITR0) / 4] = val & IGB_EITR_INTERVAL;
		return;
	case IGBVF_IVAR0: v->ivar = val & 0x83838383u; return;
	case IGBVF_IVAR_MISC: v->ivar_misc = val & 0x83u; return;
	default: break;
	}
	q = queue_reg(nic, vf, off);
	if (q.ok && q.tx)
		nic_txq_write(nic, q.queue, q.off, val);
	else if (q.ok)
		nic_rxq_write(nic, q.queue, q.off, val);
	nic_publish(nic, vf, off);
}
