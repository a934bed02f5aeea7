/*
 * Mode KERNEL: the host's own driver has the PF and calls nobody.
 *
 * The page stays trapped.  A request that passes the rules is written into
 * the hardware's mailbox, and its answer is collected when the guest polls
 * for it: the guest's own time-outs are the only clock this needs.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "igb/hostpf.h"
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

/* ---- giving a host's driver what was granted elsewhere ---- */

#define PHASE_NS 1000000000ull /* as long as a guest would wait */
#define POLL_NS	 200000

static int wait_bit(struct vdev_mbx *m, uint32_t *seen, uint32_t bit)
{
	const struct timespec ts = { .tv_nsec = POLL_NS };
	uint64_t end = now_ns() + PHASE_NS;

	for (;;) {
		*seen |= mbx_hw_read(m, IGBVF_V2PMAILBOX) & IGB_V2P_R2C;
		if (*seen & bit)
			return 0;
		if (now_ns() > end)
			return -ETIMEDOUT;
		nanosleep(&ts, NULL);
	}
}

static int lock_hw(struct vdev_mbx *m)
{
	const struct timespec ts = { .tv_nsec = 5 * POLL_NS };

	for (unsigned int i = 0; i < 11; i++) {
		mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
		if (mbx_hw_read(m, IGBVF_V2PMAILBOX) & IGB_V2P_VFU)
			return 0;
		nanosleep(&ts, NULL);
	}
	return -EBUSY;
}

/* What a guest's driver would do; 0, -EACCES for a NACK, -ETIMEDOUT. */
static int request(struct vdev_mbx *m, const struct mbx_req *r, uint32_t *w)
{
	struct mbx_msg msg;
	uint32_t seen = 0;
	int ret = lock_hw(m);

	if (ret < 0)
		return ret;
	mbx_encode(r, &msg);
	/* Whatever was there before this request is not about it. */
	mbx_hw_read(m, IGBVF_V2PMAILBOX);
	for (unsigned int i = 0; i < msg.len; i++)
		mbx_hw_write(m, IGBVF_VMBMEM + 4 * i, msg.w[i]);
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	ret = wait_bit(m, &seen, IGB_V2P_PFSTS);
	if (ret == 0)
		ret = lock_hw(m);
	if (ret < 0)
		return ret;
	mbx_hw_words(m, w);
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	mbx_trace(m, "replay", IGBVF_VMBMEM, w[0]);
	return w[0] & MBX_ACK ? 0 : -EACCES;
}

static int replay_mac(struct vdev_mbx *m, const struct mbx_state *s,
		      const uint32_t *answer)
{
	struct mbx_req r = { .op = MBX_OP_SET_MAC };
	uint32_t w[MBX_WORDS];
	uint8_t has[6];

	for (unsigned int i = 0; i < 6; i++)
		has[i] = (uint8_t)(answer[1 + i / 4] >> 8 * (i % 4));
	if (!mbx_mac_ok(s->mac) ||
	    (answer[0] & MBX_ACK && !memcmp(has, s->mac, 6)))
		return 0;
	memcpy(r.mac, s->mac, 6);
	return request(m, &r, w);
}

static int replay_vlans(struct vdev_mbx *m, const struct mbx_state *s)
{
	uint32_t w[MBX_WORDS];
	int ret = 0;

	for (unsigned int vid = 0; ret == 0 && vid < 4096; vid++) {
		const struct mbx_req r = { .op = MBX_OP_VLAN,
					   .vid = (uint16_t)vid,
					   .add = true };

		if (s->vlan[vid / 64] >> vid % 64 & 1)
			ret = request(m, &r, w);
	}
	return ret;
}

static int replay_rest(struct vdev_mbx *m, const struct mbx_state *s)
{
	struct mbx_req mc = { .op = MBX_OP_MULTICAST, .nhashes = s->nhashes };
	const struct mbx_req lpe = { .op = MBX_OP_LPE, .frame = s->frame };
	const struct mbx_req promisc = { .op = MBX_OP_PROMISC,
					 .promisc = s->promisc };
	uint32_t w[MBX_WORDS];
	int ret;

	memcpy(mc.hash, s->hash, sizeof(mc.hash));
	ret = request(m, &mc, w);
	if (ret == 0)
		ret = request(m, &lpe, w);
	if (ret == 0 && s->promisc)
		ret = request(m, &promisc, w);
	for (unsigned int i = 0; ret == 0 && i < s->nfilters; i++) {
		struct mbx_req r = { .op = MBX_OP_MAC_ADD };

		memcpy(r.mac, s->filter[i], 6);
		ret = request(m, &r, w);
	}
	return ret;
}

int mbx_replay(struct vdev_mbx *m)
{
	const struct mbx_req reset = { .op = MBX_OP_RESET };
	const struct mbx_state *s = &m->state;
	uint32_t w[MBX_WORDS];
	struct err e = { 0 };
	int ret;

	/* Never asked for anything: it will, from the beginning. */
	if (!s->cts)
		return 0;
	if (mbx_mac_ok(s->mac) && vdev_pdev(m->v) &&
	    hostpf_set_mac(vdev_pdev(m->v)->name, s->mac, &e) < 0)
		log_info("%s: %s; the VF asks for it itself", vdev_name(m->v),
			 e.text);
	ret = request(m, &reset, w);
	/* A reset without an address is refused, and still a reset. */
	if (ret == 0 || ret == -EACCES)
		ret = replay_mac(m, s, w);
	if (ret == 0)
		ret = replay_vlans(m, s);
	if (ret == 0)
		ret = replay_rest(m, s);
	if (ret < 0)
		log_warn("%s: the host's PF driver does not grant what the "
			 "guest had (%d, answer %08x)",
			 vdev_name(m->v), ret, w[0]);
	return ret;
}
