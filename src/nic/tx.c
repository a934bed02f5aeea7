/*
 * Transmit: descriptors to packets (82576 7.2).
 *
 * A packet's bytes are copied out of guest memory once and everything else
 * happens on the copy: the guest can change its buffers at any time, and
 * what anti-spoofing judged must be what is sent.
 *
 * Completion in the order of a PCIe device: the data was read, then DD is
 * written (release), then the head moves, then the interrupt.
 */
#include <errno.h>
#include <string.h>

#include "nic/nic_int.h"

/*
 * Segments of one queue in a round: one request of 64 KiB may ask for that
 * many segments of a byte, and others want their turn.
 */
#define SEGMENTS 128u

void nic_tx_abort(struct nic_txq *t)
{
	t->len = 0;
	t->frame = NULL;
	t->open = t->bad = t->held = false;
	t->seg_next = 0;
}

static void write_back(struct nic *nic, struct nic_txq *t, uint32_t i)
{
	union igb_desc *d;

	t->q.cause = true;
	if (t->wbal & IGB_TDWBAL_EN) {
		uint64_t at = (uint64_t)t->wbah << 32 | (t->wbal & ~3u);
		uint32_t head = t->q.head;

		nic_dma_write(nic, t->q.fn, at, &head, sizeof(head));
		return;
	}
	d = nic_dma_desc(nic, &t->q, i, true);
	if (!d)
		return;
	nic_dma_wrote(t->q.fn, t->q.base + (uint64_t)i * IGB_DESC_SIZE,
		      IGB_DESC_SIZE);
	__atomic_store_n(&d->dw[3], IGB_TXD_DD, __ATOMIC_RELEASE);
}

static void offload_of(const struct nic_txq *t, struct pkt_offload *o)
{
	const union igb_desc *c = &t->ctx[!!(t->olinfo & IGB_TXD_IDX)];

	*o = (struct pkt_offload){
		.maclen = (c->dw[0] & IGB_CTX_MACLEN) >> IGB_CTX_MACLEN_SHIFT,
		.iplen = c->dw[0] & IGB_CTX_IPLEN,
		.l4len = (c->dw[3] & IGB_CTX_L4LEN) >> IGB_CTX_L4LEN_SHIFT,
		.mss = c->dw[3] >> IGB_CTX_MSS_SHIFT,
		.l4t = (uint8_t)((c->dw[2] & IGB_CTX_L4T) >> 11),
		.ip4 = c->dw[2] & IGB_CTX_IPV4,
		.ip_sum = t->olinfo & IGB_TXD_IXSM,
		.l4_sum = t->olinfo & IGB_TXD_TXSM,
		.tso = t->cmd & IGB_TXD_TSE,
	};
}

/* The tag to insert, or -1: VMVIR overrides what the descriptor says. */
static int32_t tag_of(struct nic *nic, const struct nic_txq *t)
{
	uint32_t vmvir = nic_pooled(nic) ? REG(nic, IGB_VMVIR(t->q.pool)) : 0;

	if (vmvir & IGB_VMVIR_DEFAULT)
		return (int32_t)(vmvir & IGB_VMVIR_VID);
	if (vmvir & IGB_VMVIR_NEVER || !(t->cmd & IGB_TXD_VLE))
		return -1;
	if (!(t->cmd & IGB_TXD_DEXT)) /* legacy: in the descriptor */
		return (int32_t)(t->olinfo >> 16);
	return (int32_t)(t->ctx[!!(t->olinfo & IGB_TXD_IDX)].dw[0] >>
			 IGB_CTX_VLAN_SHIFT);
}

/* Tag and pad, both in the room around the frame. */
static void dress(struct nic *nic, const struct nic_txq *t, uint8_t **data,
		  uint32_t *len)
{
	int32_t tag = tag_of(nic, t);

	if (tag >= 0) {
		memmove(*data - PKT_VLAN_LEN, *data, 12);
		*data -= PKT_VLAN_LEN;
		*len += PKT_VLAN_LEN;
		pkt_put16(*data + 12, 0x8100);
		pkt_put16(*data + 14, (uint16_t)tag);
	}
	if (*len < NIC_FRAME_MIN) {
		memset(*data + *len, 0, NIC_FRAME_MIN - *len);
		*len = NIC_FRAME_MIN;
	}
}

static int send_frame(struct nic *nic, struct nic_txq *t, const uint8_t *data,
		      uint32_t len, bool sums_ok)
{
	struct nic_frame f = {
		.data = data, .len = len, .from = t->q.pool, .sums_ok = sums_ok
	};

	pkt_parse(&f.p, data, len);
	return nic_switch_tx(nic, t, &f);
}

static int send_segments(struct nic *nic, struct nic_txq *t,
			 const struct pkt_offload *o)
{
	const uint8_t *data = t->buf + NIC_HEADROOM;
	uint32_t n = pkt_segments(t->len, o), hdr;

	hdr = o->maclen + o->iplen + o->l4len;
	if (!n || hdr + MIN(o->mss, t->len) > IGB_FRAME_MAX) {
		nic->counts.tx_bad++;
		return 0;
	}
	if (!t->seg_next)
		nic_stat(nic, IGB_TSCTC, 1);
	while (t->seg_next < n) {
		if (!t->budget)
			return -EAGAIN;
		t->budget--;
		uint8_t *out = nic->seg + NIC_HEADROOM;
		uint32_t len = pkt_segment(out, data, t->len, o, t->seg_next);

		dress(nic, t, &out, &len);
		if (send_frame(nic, t, out, len, true) == -EAGAIN)
			return -EAGAIN;
		t->seg_next++;
	}
	return 0;
}

/* Make one frame of t->buf; false: no hardware would send it. */
static bool prepare(struct nic *nic, struct nic_txq *t,
		    const struct pkt_offload *o)
{
	/* Without IFCS the guest brought its own FCS; the wire makes ours. */
	if (!(t->cmd & IGB_TXD_IFCS))
		t->len = t->len > NIC_FCS ? t->len - NIC_FCS : 0;
	if (t->len < PKT_ETH_LEN || t->len > IGB_FRAME_MAX - NIC_FCS)
		return false;
	t->frame = t->buf + NIC_HEADROOM;
	if ((o->ip_sum || o->l4_sum) && !pkt_finish(t->frame, t->len, o))
		return false;
	dress(nic, t, &t->frame, &t->len);
	return true;
}

/* A packet is complete in t->buf.  -EAGAIN: keep it, nobody took it. */
static int send_packet(struct nic *nic, struct nic_txq *t)
{
	struct pkt_offload o;

	offload_of(t, &o);
	if (t->bad || (!o.tso && !t->frame && !prepare(nic, t, &o))) {
		nic->counts.tx_bad++;
		return 0;
	}
	if (o.tso)
		return send_segments(nic, t, &o);
	return send_frame(nic, t, t->frame, t->len, o.l4_sum);
}

static void packet_done(struct nic *nic, struct nic_txq *t)
{
	if (t->cmd & IGB_TXD_RS)
		write_back(nic, t, t->last);
	nic_tx_abort(t);
}

static void add_data(struct nic *nic, struct nic_txq *t,
		     const union igb_desc *d)
{
	bool legacy = !(d->dw[2] & IGB_TXD_DEXT);
	uint32_t len = igb_txd_len(d), max;

	if (!t->open) {
		t->open = true;
		t->cmd = d->dw[2];
		t->olinfo = d->dw[3];
		if (legacy) {
			t->cmd &= ~IGB_TXD_TSE; /* there: interrupt delay */
			t->olinfo &= 0xffff0000u;
			t->bad = d->dw[2] & 0x04000000u; /* IC: unknown */
		}
	}
	max = t->cmd & IGB_TXD_TSE ? NIC_TSO_MAX : IGB_FRAME_MAX;
	if (len > max - t->len)
		t->bad = true;
	if (t->bad || !len)
		return;
	if (!nic_dma_read(nic, t->q.fn, d->qw[0],
			  t->buf + NIC_HEADROOM + t->len, len))
		t->bad = true;
	t->len += len;
}

/* One descriptor; false: stop here for now. */
static bool one(struct nic *nic, struct nic_txq *t)
{
	union igb_desc *at = nic_dma_desc(nic, &t->q, t->q.head, true);
	uint32_t i = t->q.head;
	union igb_desc d;

	if (!at) {
		t->q.stuck = true;
		return false;
	}
	d.qw[0] = __atomic_load_n(&at->qw[0], __ATOMIC_RELAXED);
	d.qw[1] = __atomic_load_n(&at->qw[1], __ATOMIC_RELAXED);
	t->q.head = i + 1 == t->q.n ? 0 : i + 1;
	t->q.head_moved = true;

	if (igb_txd_is_ctx(&d)) {
		t->ctx[!!(d.dw[3] & IGB_CTX_IDX)] = d;
		if (d.dw[2] & IGB_TXD_RS)
			write_back(nic, t, i);
		return true;
	}
	if (d.dw[2] & IGB_TXD_DEXT && !igb_txd_is_data(&d)) {
		nic->counts.tx_bad++; /* reserved type: nothing to send */
		return true;
	}

	add_data(nic, t, &d);
	if (!(d.dw[2] & IGB_TXD_EOP)) {
		if (d.dw[2] & IGB_TXD_RS)
			write_back(nic, t, i);
		return true;
	}
	/* RS counts on the last descriptor, whatever the first one said. */
	t->cmd = (t->cmd & ~IGB_TXD_RS) | (d.dw[2] & IGB_TXD_RS);
	t->last = i;
	if (send_packet(nic, t) == -EAGAIN) {
		t->held = true;
		return false;
	}
	packet_done(nic, t);
	return true;
}

static bool may_send(const struct nic *nic, const struct nic_txq *t)
{
	if (!t->q.on || t->q.stuck || !t->q.n || !t->q.fn->master ||
	    !(nic->reg[IGB_TCTL / 4] & IGB_TCTL_EN))
		return false;
	return !nic_is_vf(t->q.fn) ||
	       nic->reg[IGB_VFTE / 4] >> nic_fn_vf(t->q.fn) & 1;
}

unsigned int nic_tx_run(struct nic *nic, struct nic_txq *t, unsigned int max)
{
	unsigned int n = 0;

	if (!may_send(nic, t))
		return 0;
	t->budget = SEGMENTS;
	if (t->held) {
		uint32_t was = t->seg_next;

		if (send_packet(nic, t) == -EAGAIN)
			return t->seg_next != was;
		packet_done(nic, t);
		n++;
	}
	while (n < max && t->q.head != t->q.tail) {
		n++;
		if (!one(nic, t))
			break;
	}
	if (t->q.cause) {
		t->q.cause = false;
		nic_publish_head(nic, &t->q, true);
		nic_raise_queue(nic, &t->q, true);
	}
	return n;
}
