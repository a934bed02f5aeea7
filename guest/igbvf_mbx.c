/*
 * igbvf's side of the mailbox, and the messages of a reset.
 */
#include "igbvf_int.h"

#define LOCK_TRIES 11	 /* of 1 ms */
#define POLLS	   2000u /* of 500 us: one second a phase */
#define POLL_NS	   500000ull
#define RST_TRIES  200 /* of 5 us */

static uint32_t read_v2p(struct igbvf *v)
{
	uint32_t val = vf_read(v, IGBVF_V2PMAILBOX) | v->v2p;

	v->v2p |= val & IGB_V2P_R2C;
	return val;
}

static bool take(struct igbvf *v, uint32_t bits)
{
	bool set = read_v2p(v) & bits;

	v->v2p &= ~bits;
	return set;
}

bool igbvf_mbx_rst(struct igbvf *v)
{
	return take(v, IGB_V2P_RSTD | IGB_V2P_RSTI);
}

static bool lock(struct igbvf *v)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
		if (read_v2p(v) & IGB_V2P_VFU)
			return true;
		delay_ns(1000000);
	}
	return false;
}

static bool write_msg(struct igbvf *v, const uint32_t *w, unsigned int n)
{
	if (!lock(v))
		return false;
	/* Whatever answer is still there belongs to nobody now. */
	take(v, IGB_V2P_PFSTS);
	take(v, IGB_V2P_PFACK);
	for (unsigned int i = 0; i < n; i++)
		vf_write(v, IGBVF_VMBMEM + 4 * i, w[i]);
	/* Sends, and drops the lock. */
	vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	return true;
}

bool igbvf_mbx_read(struct igbvf *v, uint32_t *w, unsigned int n)
{
	if (!lock(v))
		return false;
	for (unsigned int i = 0; i < n; i++)
		w[i] = vf_read(v, IGBVF_VMBMEM + 4 * i);
	vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	return true;
}

/* A phase without an end silences the mailbox until the next reset. */
static bool wait_for(struct igbvf *v, uint32_t bit)
{
	unsigned int left = v->timeout;

	while (left && !take(v, bit)) {
		left--;
		delay_ns(POLL_NS);
	}
	if (!left) {
		v->timeout = 0;
		v->mbx_timeouts++;
	} else if (v->timeout - left > v->mbx_polls) {
		v->mbx_polls = v->timeout - left;
	}
	return left;
}

bool igbvf_mbx_send(struct igbvf *v, const uint32_t *w, unsigned int n)
{
	if (!v->timeout || !write_msg(v, w, n))
		return false;
	return wait_for(v, IGB_V2P_PFACK);
}

bool igbvf_mbx_answer(struct igbvf *v, uint32_t *w, unsigned int n)
{
	return v->timeout && wait_for(v, IGB_V2P_PFSTS) &&
	       igbvf_mbx_read(v, w, n);
}

/* A request and its reply's first word; 0 if there was none. */
static uint32_t ask(struct igbvf *v, uint32_t *w, unsigned int n)
{
	if (!igbvf_mbx_send(v, w, n) || !igbvf_mbx_answer(v, w, n))
		return 0;
	return w[0] & ~MBX_CTS;
}

/* VF reset, then the handshake with the PF.  The address comes with it. */
bool igbvf_reset_hw(struct igbvf *v)
{
	unsigned int tries = RST_TRIES;
	uint32_t w[3] = { MBX_VF_RESET };

	vf_write(v, IGBVF_CTRL, vf_read(v, IGBVF_CTRL) | IGB_CTRL_RST);
	while (igbvf_mbx_rst(v) && tries) {
		tries--;
		delay_ns(5000);
	}
	if (!tries) {
		printf("E reset: PF is in reset, mailbox %x\n", read_v2p(v));
		return false;
	}
	v->timeout = POLLS;
	igbvf_mbx_send(v, w, 1);
	delay_ns(10000000);
	if (!igbvf_mbx_answer(v, w, 3))
		return false;
	if (w[0] == (MBX_VF_RESET | MBX_ACK)) {
		memcpy(v->perm, &w[1], 6);
		return true;
	}
	if (w[0] == (MBX_VF_RESET | MBX_NACK)) {
		memset(v->perm, 0, 6);
		return true;
	}
	printf("E reset: answer %x\n", w[0]);
	return false;
}

static void put_mac(uint32_t *w, const uint8_t *mac)
{
	w[1] = w[2] = 0;
	memcpy(&w[1], mac, 6);
}

/* Where the PF refuses our address, its own holds, whether we like it. */
void igbvf_set_mac(struct igbvf *v)
{
	uint32_t w[3] = { MBX_SET_MAC };

	put_mac(w, v->mac);
	if (ask(v, w, 3) == (MBX_SET_MAC | MBX_NACK))
		memcpy(v->mac, v->perm, 6);
}

static uint16_t hash_of(const uint8_t *mac)
{
	return (uint16_t)(0xfff & (mac[4] >> 4 | mac[5] << 4));
}

/* Sixteen words always; the reply is left for the next message to drop. */
static void set_multicast(struct igbvf *v)
{
	uint32_t w[IGBVF_MBX_WORDS] = { MBX_SET_MULTICAST };

	if (v->conf.mcast) {
		w[0] |= 1u << MBX_INFO_SHIFT;
		w[1] = hash_of(v->conf.mcast);
	}
	igbvf_mbx_send(v, w, IGBVF_MBX_WORDS);
}

uint32_t igbvf_vlan(struct igbvf *v, uint16_t vid, bool add)
{
	uint32_t w[2] = { MBX_SET_VLAN | (uint32_t)add << MBX_INFO_SHIFT, vid };

	return ask(v, w, 2);
}

void igbvf_set_filters(struct igbvf *v)
{
	uint32_t mac[3] = { MBX_SET_MAC | MBX_MAC_CLEAR << MBX_INFO_SHIFT };

	set_multicast(v);
	ask(v, mac, 3);
	if (v->conf.vlan && igbvf_vlan(v, v->conf.vlan, true) & MBX_NACK)
		printf("E vlan %u refused\n", v->conf.vlan);
}

const char *igbvf_request(struct igbvf *v)
{
	uint32_t w[2] = { MBX_SET_LPE, v->conf.frame };

	switch (ask(v, w, 2)) {
	case MBX_SET_LPE | MBX_ACK: return "granted";
	case 0: return "unanswered";
	default: return "refused";
	}
}

void igbvf_set_frame(struct igbvf *v)
{
	uint32_t w[2] = { MBX_SET_LPE, v->conf.frame };

	igbvf_mbx_send(v, w, 2);
}
