#include "igb/mbx.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static const char *const op_names[MBX_OPS] = {
	[MBX_OP_NONE] = "unknown",	  [MBX_OP_RESET] = "reset",
	[MBX_OP_SET_MAC] = "set-mac",	  [MBX_OP_MAC_CLEAR] = "mac-clear",
	[MBX_OP_MAC_ADD] = "mac-add",	  [MBX_OP_MULTICAST] = "multicast",
	[MBX_OP_VLAN] = "vlan",		  [MBX_OP_LPE] = "frame-size",
	[MBX_OP_PROMISC] = "promiscuous",
};

const char *mbx_op_name(enum mbx_op op)
{
	return (unsigned int)op < MBX_OPS ? op_names[op] : "unknown";
}

bool mbx_mac_ok(const uint8_t *mac)
{
	static const uint8_t zero[6];

	return !(mac[0] & 1) && memcmp(mac, zero, 6) != 0;
}

/* Two words, the bytes in memory order on a little-endian machine. */
static void mac_of(const uint32_t *w, uint8_t *mac)
{
	for (unsigned int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(w[i / 4] >> 8 * (i % 4));
}

static void words_of(const uint8_t *mac, uint32_t *w)
{
	w[0] = w[1] = 0;
	for (unsigned int i = 0; i < 6; i++)
		w[i / 4] |= (uint32_t)mac[i] << 8 * (i % 4);
}

/*
 * Type and info select a meaning.  A pair without a line here has none, and
 * what has none is refused.
 */
static const struct meaning {
	uint16_t type;
	bool any_info; /* the info is a number, not a choice */
	uint8_t info;
	enum mbx_op op;
} meanings[] = {
	{ MBX_VF_RESET, false, 0, MBX_OP_RESET },
	{ MBX_SET_MAC, false, 0, MBX_OP_SET_MAC },
	{ MBX_SET_MAC, false, MBX_MAC_CLEAR, MBX_OP_MAC_CLEAR },
	{ MBX_SET_MAC, false, MBX_MAC_ADD, MBX_OP_MAC_ADD },
	{ MBX_SET_MULTICAST, true, 0, MBX_OP_MULTICAST },
	{ MBX_SET_VLAN, false, 0, MBX_OP_VLAN },
	{ MBX_SET_VLAN, false, 1, MBX_OP_VLAN },
	{ MBX_SET_LPE, false, 0, MBX_OP_LPE },
	{ MBX_SET_PROMISC, true, 0, MBX_OP_PROMISC },
};

int mbx_decode(const struct mbx_msg *m, struct mbx_req *r)
{
	uint32_t w0 = m->w[0];
	uint8_t info = (w0 & MBX_INFO) >> MBX_INFO_SHIFT;
	const struct meaning *k = NULL;

	*r = (struct mbx_req){ .op = MBX_OP_NONE };
	/* igb does not answer these either: the VF rang over an old answer. */
	if (w0 & (MBX_ACK | MBX_NACK) || (w0 & MBX_TYPE) == MBX_PF_CONTROL)
		return -EALREADY;
	for (size_t i = 0; i < ARRAY_SIZE(meanings) && !k; i++)
		if (meanings[i].type == (w0 & MBX_TYPE) &&
		    (meanings[i].any_info || meanings[i].info == info))
			k = &meanings[i];
	if (!k)
		return -ENOENT;

	r->op = k->op;
	switch (k->op) {
	case MBX_OP_SET_MAC:
	case MBX_OP_MAC_ADD:
		mac_of(&m->w[1], r->mac);
		return mbx_mac_ok(r->mac) ? 0 : -EINVAL;
	case MBX_OP_MULTICAST:
		if (info > MBX_HASHES_MAX)
			return -EINVAL;
		r->nhashes = info;
		for (unsigned int i = 0; i < info; i++)
			r->hash[i] = m->w[1 + i / 2] >> 16 * (i % 2) & 0xfff;
		return 0;
	case MBX_OP_VLAN:
		if (m->w[1] > 4095)
			return -EINVAL;
		r->add = info;
		r->vid = (uint16_t)m->w[1];
		return 0;
	case MBX_OP_LPE:
		if (m->w[1] < MBX_FRAME_MIN || m->w[1] > MBX_FRAME_MAX)
			return -EINVAL;
		r->frame = (uint16_t)m->w[1];
		return 0;
	case MBX_OP_PROMISC:
		if (info & ~(MBX_PROMISC_UNICAST | MBX_PROMISC_MULTICAST))
			return -EINVAL;
		r->promisc = info;
		return 0;
	case MBX_OP_NONE:
	case MBX_OP_RESET:
	case MBX_OP_MAC_CLEAR:
	case MBX_OPS: break;
	}
	return 0;
}

void mbx_encode(const struct mbx_req *r, struct mbx_msg *m)
{
	uint32_t info = 0;

	*m = (struct mbx_msg){ .len = 1 };
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++)
		if (meanings[i].op == r->op) {
			m->w[0] = meanings[i].type;
			info = meanings[i].info;
			break;
		}
	switch (r->op) {
	case MBX_OP_SET_MAC:
	case MBX_OP_MAC_ADD:
		words_of(r->mac, &m->w[1]);
		m->len = 3;
		break;
	case MBX_OP_MULTICAST:
		info = MIN(r->nhashes, MBX_HASHES_MAX);
		for (unsigned int i = 0; i < info; i++)
			m->w[1 + i / 2] |= (uint32_t)r->hash[i] << 16 * (i % 2);
		m->len = MBX_WORDS; /* the drivers always send all */
		break;
	case MBX_OP_VLAN:
		info = r->add;
		m->w[1] = r->vid;
		m->len = 2;
		break;
	case MBX_OP_LPE:
		m->w[1] = r->frame;
		m->len = 2;
		break;
	case MBX_OP_PROMISC: info = r->promisc; break;
	case MBX_OP_NONE:
	case MBX_OP_RESET:
	case MBX_OP_MAC_CLEAR:
	case MBX_OPS: break;
	}
	m->w[0] |= info << MBX_INFO_SHIFT;
}

void mbx_answer(const struct mbx_msg *req, bool ok, bool cts,
		const uint8_t *mac, struct mbx_msg *out)
{
	uint32_t w0 = req->w[0] & ~MBX_FLAGS;

	*out = (struct mbx_msg){ .len = 1 };
	if ((w0 & MBX_TYPE) == MBX_VF_RESET) {
		if (ok && mac && mbx_mac_ok(mac)) {
			out->w[0] = MBX_VF_RESET | MBX_ACK;
			words_of(mac, &out->w[1]);
		} else {
			out->w[0] = MBX_VF_RESET | MBX_NACK;
		}
		out->len = 3;
		return;
	}
	out->w[0] = w0 | (ok ? MBX_ACK : MBX_NACK) | (cts ? MBX_CTS : 0);
}

void mbx_state_init(struct mbx_state *s, const uint8_t *mac)
{
	*s = (struct mbx_state){ .frame = MBX_FRAME_DEFAULT };
	if (mac)
		memcpy(s->mac, mac, 6);
}

void mbx_state_reset(struct mbx_state *s)
{
	uint8_t mac[6];

	memcpy(mac, s->mac, 6);
	mbx_state_init(s, mac);
}

static int filter_add(struct mbx_state *s, const uint8_t *mac)
{
	for (unsigned int i = 0; i < s->nfilters; i++)
		if (!memcmp(s->filter[i], mac, 6))
			return 0;
	if (s->nfilters == MBX_FILTERS)
		return -ENOSPC;
	memcpy(s->filter[s->nfilters++], mac, 6);
	return 0;
}

int mbx_state_apply(struct mbx_state *s, const struct mbx_req *r)
{
	switch (r->op) {
	case MBX_OP_RESET:
		mbx_state_reset(s);
		s->cts = true;
		return 0;
	case MBX_OP_SET_MAC: memcpy(s->mac, r->mac, 6); return 0;
	case MBX_OP_MAC_CLEAR:
		memset(s->filter, 0, sizeof(s->filter));
		s->nfilters = 0;
		return 0;
	case MBX_OP_MAC_ADD: return filter_add(s, r->mac);
	case MBX_OP_MULTICAST:
		memset(s->hash, 0, sizeof(s->hash));
		memcpy(s->hash, r->hash, r->nhashes * sizeof(r->hash[0]));
		s->nhashes = r->nhashes;
		return 0;
	case MBX_OP_VLAN:
		if (r->add)
			s->vlan[r->vid / 64] |= 1ull << r->vid % 64;
		else
			s->vlan[r->vid / 64] &= ~(1ull << r->vid % 64);
		return 0;
	case MBX_OP_LPE: s->frame = r->frame; return 0;
	case MBX_OP_PROMISC: s->promisc = r->promisc; return 0;
	case MBX_OP_NONE:
	case MBX_OPS: break;
	}
	return -EINVAL;
}

void mbx_state_save(const struct mbx_state *s, struct wire_out *o)
{
	put_u8(o, MBX_STATE_VERSION);
	put_u8(o, s->api);
	put_u8(o, s->cts);
	put_bytes(o, s->mac, 6);
	put_u8(o, s->promisc);
	put_u16(o, s->frame);
	put_u8(o, s->nfilters);
	put_u8(o, s->nhashes);
	put_bytes(o, s->filter, sizeof(s->filter));
	for (size_t i = 0; i < MBX_HASHES_MAX; i++)
		put_u16(o, s->hash[i]);
	for (size_t i = 0; i < MBX_VLAN_WORDS; i++)
		put_u64(o, s->vlan[i]);
}

/* Could any run of granted requests have left this? */
static bool possible(const struct mbx_state *s, uint8_t cts)
{
	static const uint8_t zero[6];

	if (s->api != 0 || cts > 1 || s->nfilters > MBX_FILTERS ||
	    s->nhashes > MBX_HASHES_MAX || s->frame < MBX_FRAME_MIN ||
	    s->frame > MBX_FRAME_MAX ||
	    s->promisc & ~(MBX_PROMISC_UNICAST | MBX_PROMISC_MULTICAST))
		return false;
	if (!mbx_mac_ok(s->mac) && memcmp(s->mac, zero, 6) != 0)
		return false;
	for (size_t i = 0; i < MBX_FILTERS; i++)
		if (i < s->nfilters ? !mbx_mac_ok(s->filter[i])
				    : memcmp(s->filter[i], zero, 6) != 0)
			return false;
	for (size_t i = 0; i < MBX_HASHES_MAX; i++)
		if (s->hash[i] > (i < s->nhashes ? 0xfff : 0))
			return false;
	return true;
}

int mbx_state_load(struct mbx_state *s, struct wire_in *in)
{
	struct mbx_state n = { 0 };
	uint8_t cts;

	if (get_u8(in) != MBX_STATE_VERSION)
		wire_fail(in, -EPROTO);
	n.api = get_u8(in);
	cts = get_u8(in);
	get_bytes(in, n.mac, 6);
	n.promisc = get_u8(in);
	n.frame = get_u16(in);
	n.nfilters = get_u8(in);
	n.nhashes = get_u8(in);
	get_bytes(in, n.filter, sizeof(n.filter));
	for (size_t i = 0; i < MBX_HASHES_MAX; i++)
		n.hash[i] = get_u16(in);
	for (size_t i = 0; i < MBX_VLAN_WORDS; i++)
		n.vlan[i] = get_u64(in);
	if (!in->err && !possible(&n, cts))
		wire_fail(in, -EBADMSG);
	if (in->err)
		return in->err;
	n.cts = cts;
	*s = n;
	return 0;
}
