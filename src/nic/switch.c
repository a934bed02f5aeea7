/*
 * The switch between pools and the wire: filters, anti-spoofing, copies.
 * 82576 7.10.3; what the data sheet leaves open is said in docs/nic.md.
 */
#include <errno.h>
#include <string.h>

#include "nic/nic_int.h"

#define WIRE_WAIT_NS 10000000ull

static uint64_t mac_of(const uint8_t *p)
{
	uint64_t v = 0;

	memcpy(&v, p, 6);
	return v;
}

/* The valid entries of RAL/RAH, packed: most frames look at all of them. */
static void rebuild_rars(struct nic *nic)
{
	nic->nrars = 0;
	nic->rars_stale = false;
	for (unsigned int i = 0; i < nic->m->rars; i++) {
		uint32_t hi = REG(nic, IGB_RAH(i));

		if (!(hi & IGB_RAH_AV))
			continue;
		nic->rar[nic->nrars++] = (struct nic_rar){
			.mac = (uint64_t)(hi & 0xffff) << 32 |
			       REG(nic, IGB_RAL(i)),
			.pools = (uint8_t)((hi & IGB_RAH_POOLS) >>
					   IGB_RAH_POOL_SHIFT),
		};
	}
}

static uint32_t rar_pools(struct nic *nic, uint64_t mac, bool *hit)
{
	uint32_t pools = 0;

	if (nic->rars_stale)
		rebuild_rars(nic);
	*hit = false;
	for (unsigned int i = 0; i < nic->nrars; i++) {
		if (nic->rar[i].mac != mac)
			continue;
		*hit = true;
		pools |= nic->rar[i].pools;
	}
	return pools;
}

/* MTA and UTA: twelve bits of the address, which twelve RCTL.MO says. */
static bool in_table(const struct nic *nic, uint32_t table, const uint8_t *mac)
{
	static const uint8_t shift[4] = { 4, 3, 2, 0 };
	uint32_t mo =
		(nic->reg[IGB_RCTL / 4] & IGB_RCTL_MO) >> IGB_RCTL_MO_SHIFT;
	uint32_t h = (uint32_t)(mac[5] << 8 | mac[4]) >> shift[mo] & 0xfff;

	return nic->reg[table / 4 + h / 32] >> h % 32 & 1;
}

static uint32_t pools_with(const struct nic *nic, uint32_t bits)
{
	uint32_t pools = 0;

	for (unsigned int i = 0; i < IGB_POOLS; i++)
		if (nic->reg[IGB_VMOLR(i) / 4] & bits)
			pools |= 1u << i;
	return pools;
}

static uint32_t vlan_pools(struct nic *nic, uint16_t vid, bool *found,
			   bool *local)
{
	uint32_t pools = 0;

	*found = *local = false;
	for (unsigned int i = 0; i < IGB_VLVF_ENTRIES; i++) {
		uint32_t e = REG(nic, IGB_VLVF(i));

		if (!(e & IGB_VLVF_EN) || (e & IGB_VLVF_VID) != vid)
			continue;
		*found = true;
		*local |= e & IGB_VLVF_LVLAN;
		pools |= (e & IGB_VLVF_POOLS) >> IGB_VLVF_POOL_SHIFT;
	}
	return pools;
}

static bool vfta_has(const struct nic *nic, uint16_t vid)
{
	return nic->reg[IGB_VFTA(vid / 32) / 4] >> vid % 32 & 1;
}

static uint32_t too_long(const struct nic *nic, const struct nic_frame *f)
{
	uint32_t len = f->len + NIC_FCS, pools = 0;
	uint32_t standard = f->p.vlan ? 1522 : 1518;

	if (len <= standard)
		return 0;
	for (unsigned int i = 0; i < IGB_POOLS; i++) {
		uint32_t v = nic->reg[IGB_VMOLR(i) / 4];

		if (!(v & IGB_VMOLR_LPE) || len > (v & IGB_VMOLR_RLPML))
			pools |= 1u << i;
	}
	return pools;
}

/* Pools by address; *passed: the PF's own filters let the frame in. */
static uint32_t by_address(struct nic *nic, const struct nic_frame *f,
			   bool *passed, bool *exact)
{
	uint32_t rctl = REG(nic, IGB_RCTL), pools;
	uint64_t mac = mac_of(f->data);

	*exact = false;
	if (mac == 0xffffffffffffull) {
		*passed = rctl & IGB_RCTL_BAM;
		return pools_with(nic, IGB_VMOLR_BAM);
	}
	pools = rar_pools(nic, mac, passed);
	if (f->data[0] & 1) {
		if (in_table(nic, IGB_MTA(0), f->data)) {
			*passed = true;
			pools |= pools_with(nic, IGB_VMOLR_ROMPE);
		}
		*passed |= rctl & IGB_RCTL_MPE;
		return pools | pools_with(nic, IGB_VMOLR_MPME);
	}
	*exact = *passed;
	if (!pools && in_table(nic, IGB_UTA(0), f->data)) {
		*passed = true;
		pools = pools_with(nic, IGB_VMOLR_ROPE);
	}
	*passed |= rctl & IGB_RCTL_UPE;
	return pools;
}

/* Without pools: everything or nothing, for "pool 0". */
static uint32_t filter_plain(struct nic *nic, const struct nic_frame *f,
			     bool passed)
{
	uint32_t rctl = REG(nic, IGB_RCTL), len = f->len + NIC_FCS;
	uint32_t max = f->p.vlan ? 1522 : 1518;

	if (rctl & IGB_RCTL_LPE)
		max = REG(nic, IGB_RLPML);
	if (len > max)
		return 0;
	if (f->p.vlan && rctl & IGB_RCTL_VFE &&
	    !vfta_has(nic, f->p.tci & 0xfff))
		return 0;
	return passed;
}

uint32_t nic_filter(struct nic *nic, const struct nic_frame *f, bool *local)
{
	uint32_t pools, vt = REG(nic, IGB_VT_CTL);
	bool passed, exact, found, lvlan = false;

	pools = by_address(nic, f, &passed, &exact);
	*local = exact && pools;
	if (!nic_pooled(nic))
		return filter_plain(nic, f, passed);

	if (!pools && passed && !(vt & IGB_VT_CTL_DIS_DEFAULT))
		pools = 1u << ((vt & IGB_VT_CTL_POOL) >> IGB_VT_CTL_POOL_SHIFT);

	if (f->p.vlan) {
		uint16_t vid = f->p.tci & 0xfff;
		uint32_t members = vlan_pools(nic, vid, &found, &lvlan);
		bool filters = REG(nic, IGB_RCTL) & IGB_RCTL_VFE;

		if (filters && !vfta_has(nic, vid))
			pools = 0;
		if (found || filters)
			pools &= members;
	} else {
		pools &= pools_with(nic, IGB_VMOLR_AUPE);
	}
	*local |= lvlan;
	pools &= ~too_long(nic, f);
	if (!(vt & IGB_VT_CTL_REPL) && pools)
		pools &= ~pools + 1; /* one copy, lowest pool */
	return pools;
}

static void count_rx(struct nic *nic, const struct nic_rxq *r,
		     const struct nic_frame *f)
{
	struct nic_vf *v = nic_queue_vf(nic, &r->q);
	uint32_t octets = f->len + NIC_FCS;

	if (!v)
		return;
	v->gprc++;
	v->gorc += octets;
	if (f->data[0] & 1)
		v->mprc++;
	if (f->from != NIC_POOL_WIRE) {
		v->gprlbc++;
		v->gorlbc += octets;
	}
}

static void deliver(struct nic *nic, struct nic_rxq *r,
		    const struct nic_frame *f, const struct nic_rss *rss)
{
	nic_rx_put(nic, r, f, rss);
	count_rx(nic, r, f);
	if (f->from != NIC_POOL_WIRE)
		nic->counts.loopback++;
}

/*
 * Copies to all of 'pools'.  Only a frame for one receiver and nobody else
 * ('may_wait') is held back when that one has no buffer.
 */
static int fan_out(struct nic *nic, const struct nic_frame *f, uint32_t pools,
		   bool may_wait)
{
	may_wait = may_wait && !(pools & (pools - 1));
	for (; pools; pools &= pools - 1) {
		unsigned int pool = (unsigned int)__builtin_ctz(pools);
		struct nic_rss rss;
		struct nic_rxq *r = nic_rx_queue(nic, f, pool, &rss);
		bool wait;

		if (!r) {
			nic->counts.filtered++;
			continue;
		}
		if (nic_rx_room(nic, r, f->len, &wait))
			deliver(nic, r, f, &rss);
		else if (wait && may_wait)
			return -EAGAIN;
		else if (wait)
			nic->counts.no_buffer++;
	}
	return 0;
}

/* 82576 7.10.3.9: the source must be an address, a VLAN, of its pool. */
static bool spoofed(struct nic *nic, const struct nic_frame *f)
{
	uint32_t ctl = REG(nic, nic->m->txswc);
	unsigned int pool = f->from;
	bool hit, found, local;

	if (ctl >> (IGB_TXSWC_MAC_AS_SHIFT + pool) & 1 &&
	    !(rar_pools(nic, mac_of(f->data + 6), &hit) >> pool & 1))
		return true;
	return ctl >> (IGB_TXSWC_VLAN_AS_SHIFT + pool) & 1 && f->p.vlan &&
	       !(vlan_pools(nic, f->p.tci & 0xfff, &found, &local) >> pool & 1);
}

/* To which of two counters a frame to several belongs, if to any. */
static void count_group(struct nic *nic, const struct nic_frame *f,
			uint32_t broadcast, uint32_t multicast)
{
	if (f->data[0] & 1)
		nic_stat(nic,
			 mac_of(f->data) == 0xffffffffffffull ? broadcast
							      : multicast,
			 1);
}

static int to_wire(struct nic *nic, const struct nic_frame *f)
{
	int ret;

	if (!(REG(nic, IGB_STATUS) & IGB_STATUS_LU) || !nic->wire) {
		nic->counts.wire_lost++;
		return 0;
	}
	ret = nic->wire->send(nic->wire_opaque, f->data, f->len);
	/* As a receiver that stands still: wait, but not for ever. */
	if (ret == -EAGAIN &&
	    nic_waits(&nic->wire_full, nic->now, WIRE_WAIT_NS))
		return ret;
	if (ret) {
		nic->counts.wire_lost++;
		return 0;
	}
	nic->wire_full = (struct nic_patience){ 0 };
	nic->counts.wire_out++;
	nic_stat(nic, IGB_GPTC, 1);
	nic_stat(nic, IGB_TPT, 1);
	nic_stat_wide(nic, IGB_GOTCL, f->len + NIC_FCS);
	nic_stat_wide(nic, IGB_TOTL, f->len + NIC_FCS);
	count_group(nic, f, IGB_BPTC, IGB_MPTC);
	return 0;
}

static void count_tx(struct nic *nic, const struct nic_txq *t,
		     const struct nic_frame *f, bool looped)
{
	struct nic_vf *v = nic_queue_vf(nic, &t->q);

	nic->counts.tx_frames++;
	nic->counts.tx_bytes += f->len;
	if (!v)
		return;
	v->gptc++;
	v->gotc += f->len + NIC_FCS;
	if (looped) {
		v->gptlbc++;
		v->gotlbc += f->len + NIC_FCS;
	}
}

int nic_switch_tx(struct nic *nic, struct nic_txq *t, const struct nic_frame *f)
{
	uint32_t ctl = REG(nic, nic->m->txswc), pools = 0;
	bool local = false;
	int ret;

	if (nic_pooled(nic) && ctl & 0xffff && spoofed(nic, f)) {
		nic->counts.spoofed++;
		REG(nic, IGB_WVBR) |= 1u << f->from;
		return 0;
	}
	if (REG(nic, IGB_RCTL) & IGB_RCTL_LBM) {
		pools = nic_filter(nic, f, &local);
		local = true; /* MAC loopback: nothing leaves */
	} else if (nic_pooled(nic) && ctl & IGB_TXSWC_LOOPBACK) {
		pools = nic_filter(nic, f, &local);
		if (!(ctl >> (IGB_TXSWC_LLE_SHIFT + f->from) & 1))
			pools &= ~(1u << f->from);
	}

	/* The wire first: it may ask to wait, and then nobody has it yet. */
	if (!local) {
		ret = to_wire(nic, f);
		if (ret)
			return ret;
	}
	ret = fan_out(nic, f, pools, local);
	if (!ret)
		count_tx(nic, t, f, pools);
	return ret;
}

static void count_wire_rx(struct nic *nic, const struct nic_frame *f)
{
	nic_stat(nic, IGB_GPRC, 1);
	nic_stat_wide(nic, IGB_GORCL, f->len + NIC_FCS);
	count_group(nic, f, IGB_BPRC, IGB_MPRC);
}

/* "Good" frames are those that a filter wanted; TPR and TOR count all. */
int nic_switch_rx(struct nic *nic, const struct nic_frame *f)
{
	bool local;
	uint32_t pools = nic_filter(nic, f, &local);
	int ret;

	if (!pools) {
		nic->counts.filtered++;
		return 0;
	}
	ret = fan_out(nic, f, pools, true);
	if (!ret)
		count_wire_rx(nic, f);
	return ret;
}

int nic_wire_input(struct nic *nic, const uint8_t *frame, size_t len)
{
	struct nic_frame f = { .data = frame,
			       .len = (uint32_t)len,
			       .from = NIC_POOL_WIRE };
	int ret;

	if (!(REG(nic, IGB_STATUS) & IGB_STATUS_LU) ||
	    !(REG(nic, IGB_RCTL) & IGB_RCTL_EN) || len < PKT_ETH_LEN ||
	    len > IGB_FRAME_MAX - NIC_FCS) {
		nic->counts.wire_lost++;
		return 0;
	}
	if (len < NIC_FRAME_MIN) {
		memcpy(nic->seg, frame, len);
		memset(nic->seg + len, 0, NIC_FRAME_MIN - len);
		f.data = nic->seg;
		f.len = NIC_FRAME_MIN;
	}
	pkt_parse(&f.p, f.data, f.len);
	ret = nic_switch_rx(nic, &f);
	if (ret)
		return ret;

	nic->counts.wire_in++;
	nic_stat(nic, IGB_TPR, 1);
	nic_stat_wide(nic, IGB_TORL, f.len + NIC_FCS);
	return 0;
}
