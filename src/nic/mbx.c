/*
 * The mailbox between a VF and the PF, 82576 7.10.2.9 and NIC-FACTS 2.2.
 *
 * One buffer for both directions and one owner at a time: a side takes it
 * by writing VFU or PFU while the other has not, and any write without its
 * own bit gives it back.  So "REQ" alone is "send and unlock".
 */
#include "nic/nic_int.h"

static void interrupt_pf(struct nic *nic, unsigned int vf)
{
	if (REG(nic, IGB_MBVFIMR) & BIT(vf))
		nic_raise_other(nic, IGB_ICR_VMMB);
}

uint32_t nic_mbx_vf_read(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];
	uint32_t val = v->v2p;

	v->v2p &= ~IGB_V2P_R2C;
	if (val != v->v2p)
		nic_publish(nic, vf, IGBVF_V2PMAILBOX);
	return val;
}

void nic_mbx_vf_write(struct nic *nic, unsigned int vf, uint32_t val)
{
	struct nic_vf *v = &nic->vf[vf];

	if (!(val & IGB_V2P_VFU))
		v->v2p &= ~IGB_V2P_VFU;
	else if (!(v->v2p & IGB_V2P_PFU))
		v->v2p |= IGB_V2P_VFU;
	else
		nic->counts.mbx_conflicts++;

	if (val & IGB_V2P_REQ) {
		REG(nic, IGB_MBVFICR) |= 1u << (IGB_MBVFICR_REQ_SHIFT + vf);
		nic->counts.mbx_requests++;
	}
	if (val & IGB_V2P_ACK) {
		REG(nic, IGB_MBVFICR) |= 1u << (IGB_MBVFICR_ACK_SHIFT + vf);
		nic->counts.mbx_acks++;
	}
	nic_publish(nic, vf, IGBVF_V2PMAILBOX);
	if (val & (IGB_V2P_REQ | IGB_V2P_ACK))
		interrupt_pf(nic, vf);
}

uint32_t nic_mbx_pf_read(struct nic *nic, unsigned int vf)
{
	return nic->vf[vf].v2p & (IGB_V2P_VFU | IGB_V2P_PFU);
}

void nic_mbx_pf_write(struct nic *nic, unsigned int vf, uint32_t val)
{
	struct nic_vf *v = &nic->vf[vf];

	if (val & IGB_P2V_RVFU)
		v->v2p &= ~IGB_V2P_VFU;
	if (!(val & IGB_P2V_PFU))
		v->v2p &= ~IGB_V2P_PFU;
	else if (!(v->v2p & IGB_V2P_VFU))
		v->v2p |= IGB_V2P_PFU;
	else
		nic->counts.mbx_conflicts++;

	if (val & IGB_P2V_STS)
		v->v2p |= IGB_V2P_PFSTS;
	if (val & IGB_P2V_ACK)
		v->v2p |= IGB_V2P_PFACK;
	nic_publish(nic, vf, IGBVF_V2PMAILBOX);
	if (val & (IGB_P2V_STS | IGB_P2V_ACK))
		nic_raise_mailbox(nic, vf);
}

void nic_mbx_pf_resets(struct nic *nic)
{
	for (unsigned int i = 0; i < NIC_VFS_MAX; i++) {
		nic->vf[i].v2p = IGB_V2P_RSTI;
		nic_publish(nic, i, IGBVF_V2PMAILBOX);
	}
}

void nic_mbx_pf_ready(struct nic *nic)
{
	for (unsigned int i = 0; i < NIC_VFS_MAX; i++) {
		struct nic_vf *v = &nic->vf[i];

		v->v2p &= ~IGB_V2P_RSTI;
		v->v2p |= IGB_V2P_RSTD;
		v->rstd_age = 0;
		nic_publish(nic, i, IGBVF_V2PMAILBOX);
		if (i < nic->num_vfs)
			nic_raise_mailbox(nic, i);
	}
	nic_rstd_shown(nic);
}

void nic_mbx_vf_event(struct nic *nic, unsigned int vf)
{
	/* The buffer is nobody's now; an unread answer is void. */
	nic->vf[vf].v2p &= IGB_V2P_RSTI;
	nic_publish(nic, vf, IGBVF_V2PMAILBOX);
	REG(nic, IGB_VFLRE) |= 1u << vf;
	nic_raise_other(nic, IGB_ICR_VMMB);
}
