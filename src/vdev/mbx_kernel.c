/*
 * Mode KERNEL: the host's own driver has the PF and calls nobody.
 *
 * The page stays trapped.  A request that passes the rules is written into
 * the hardware's mailbox, and its answer is collected when the guest polls
 * for it: the guest's own time-outs are the only clock this needs.
 */
#include <string.h>

#include "vdev/mbx_priv.h"

/* The lock is the hardware's: the host's driver takes it too. */
uint32_t mbx_lock_kernel(struct vdev_mbx *m, uint32_t val)
{
	if (m->quiesced || !(val & IGB_V2P_VFU))
		return val;
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	if (!(mbx_hw_read(m, IGBVF_V2PMAILBOX) & IGB_V2P_VFU))
		val &= ~IGB_V2P_VFU;
	return val;
}

void mbx_release_kernel(struct vdev_mbx *m, uint32_t val)
{
	/* A forwarded request let go of the lock itself. */
	if (m->quiesced || val & IGB_V2P_VFU ||
	    (val & IGB_V2P_REQ && m->st == ST_ASKED))
		return;
	mbx_hw_write(m, IGBVF_V2PMAILBOX,
		     val & IGB_V2P_ACK && m->hw_msg ? IGB_V2P_ACK : 0);
	if (val & IGB_V2P_ACK)
		m->hw_msg = false;
}

bool mbx_forward(struct vdev_mbx *m)
{
	/* The guest's VFU write took the lock; its REQ has not freed it yet. */
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	if (!(mbx_hw_read(m, IGBVF_V2PMAILBOX) & IGB_V2P_VFU))
		return false;
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		mbx_hw_write(m, IGBVF_VMBMEM + 4 * i, m->req.w[i]);
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	mbx_trace(m, "forward", IGBVF_VMBMEM, m->req.w[0]);
	return true;
}

/* Is w0 the PF's answer to the request we forwarded? */
static bool answers(const struct vdev_mbx *m, uint32_t w0)
{
	return m->st == ST_ASKED && w0 & (MBX_ACK | MBX_NACK) &&
	       (w0 & ~MBX_FLAGS) == (m->req.w[0] & ~MBX_FLAGS);
}

static void judge(struct vdev_mbx *m)
{
	uint32_t w0 = m->mem[0];

	if (w0 & MBX_ACK) {
		uint8_t mac[6];

		m->counts.granted++;
		for (unsigned int i = 0; i < 6; i++)
			mac[i] = (uint8_t)(m->mem[1 + i / 4] >> 8 * (i % 4));
		mbx_granted(m, m->meaning.op == MBX_OP_RESET ? mac : NULL);
	} else {
		m->counts.refused++;
	}
	/* A reset without an address is refused, and still a reset. */
	if (m->meaning.op == MBX_OP_RESET)
		m->state.cts = true;
}

void mbx_collect(struct vdev_mbx *m)
{
	uint32_t hw;

	if (m->quiesced)
		return; /* what the PF says now is not for the guest */
	hw = mbx_hw_read(m, IGBVF_V2PMAILBOX);
	m->bits =
		(m->bits & ~IGB_V2P_RSTI) | (hw & (IGB_V2P_R2C | IGB_V2P_RSTI));
	if (!(hw & IGB_V2P_PFSTS))
		return;
	/* A message: the guest reads our copy. */
	mbx_hw_words(m, m->mem);
	m->hw_msg = true;
	mbx_trace(m, "collect", IGBVF_VMBMEM, m->mem[0]);
	if (answers(m, m->mem[0])) {
		judge(m);
		mbx_event(m, EV_VERDICT);
	} else if (m->mem[0] == MBX_NACK) {
		m->state.cts = false; /* the PF wants a reset */
	}
}
