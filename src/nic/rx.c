/*
 * Receive: frames into a queue's buffers (82576 7.1).
 *
 * Per descriptor: payload, then the first quadword, then the second with
 * DD in one release store, so that a guest that sees DD sees all of it.
 * The head and the interrupt come after.
 */
#include <string.h>

#include "nic/nic_int.h"

/* How long a sender inside the switch waits for a slow receiver. */
#define RX_WAIT_NS 2000000ull

static uint32_t buffer_size(const struct nic *nic, const struct nic_rxq *r)
{
	uint32_t kib = r->srrctl & IGB_SRRCTL_BSIZEPKT;

	if (kib)
		return kib * 1024;
	return 2048u >> (nic->reg[IGB_RCTL / 4] >> IGB_RCTL_BSIZE_SHIFT & 3);
}

static uint32_t available(const struct nic_queue *q)
{
	return q->tail >= q->head ? q->tail - q->head
				  : q->tail + q->n - q->head;
}

bool nic_rx_room(struct nic *nic, struct nic_rxq *r, uint32_t len, bool *wait)
{
	uint32_t size = buffer_size(nic, r);
	uint32_t need = (len + NIC_FCS + size - 1) / size;
	unsigned int i = r->q.index;

	*wait = false;
	if (available(&r->q) < need)
		nic_direct_tail(nic, &r->q, false);
	if (available(&r->q) >= need) {
		r->full = (struct nic_patience){ 0 };
		return true;
	}
	/*
	 * Without drop enable the frame stays in the packet buffer and holds
	 * up its sender, for a time: a VM that has stopped must not stop the
	 * others.
	 */
	if (!(r->srrctl & IGB_SRRCTL_DROP_EN) && !(REG(nic, IGB_QDE) >> i & 1))
		*wait = nic_waits(&r->full, nic->now, RX_WAIT_NS);
	if (!*wait) {
		r->rqdpc++;
		nic->counts.no_buffer++;
		nic_stat(nic, IGB_RNBC, 1);
	}
	return false;
}

static void hash(struct nic *nic, const struct nic_frame *f,
		 struct nic_rss *rss)
{
	uint32_t mrqc = REG(nic, IGB_MRQC);
	const struct pkt *p = &f->p;
	bool tcp = p->payload && p->proto == 6;
	bool udp = p->payload && p->proto == 17;
	/* MRQC bit and type code, 82576 7.1.1.7. */
	const struct {
		bool is;
		uint8_t bit, type;
		bool ports;
	} rule[] = {
		{ p->ip4 && tcp, 16, 1, true }, { p->ip4 && udp, 22, 7, true },
		{ p->ip4, 17, 2, false },	{ p->ip6 && tcp, 21, 3, true },
		{ p->ip6 && udp, 23, 8, true }, { p->ip6, 20, 5, false },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rule); i++) {
		if (!rule[i].is || !(mrqc >> rule[i].bit & 1))
			continue;
		rss->type = rule[i].type;
		rss->hash = pkt_rss(p, f->data,
				    (const uint8_t *)&REG(nic, IGB_RSSRK(0)),
				    rule[i].ports);
		return;
	}
}

struct nic_rxq *nic_rx_queue(struct nic *nic, const struct nic_frame *f,
			     unsigned int pool, struct nic_rss *rss)
{
	uint32_t mode = REG(nic, IGB_MRQC) & IGB_MRQC_MODE, entry;
	unsigned int q = nic_pooled(nic) ? pool : 0;
	struct nic_rxq *r;

	*rss = (struct nic_rss){ 0 };
	if (mode == IGB_MRQC_RSS ||
	    (mode == IGB_MRQC_VMDQ_RSS && nic->m->queues > IGB_POOLS &&
	     REG(nic, IGB_VMOLR(pool)) & IGB_VMOLR_RSSE)) {
		hash(nic, f, rss);
		entry = REG(nic, IGB_RETA((rss->hash & 0x7f) / 4)) >>
			(rss->hash & 3) * 8;
		if (rss->type && mode == IGB_MRQC_RSS)
			q = entry & (nic->m->queues - 1);
		else if (rss->type)
			q = pool + (entry & 1) * IGB_POOLS;
	}
	if (q >= nic->m->queues)
		return NULL;

	r = &nic->rx[q];
	if (!r->q.on || r->q.stuck || !r->q.n || !r->q.fn->master ||
	    !(REG(nic, IGB_RCTL) & IGB_RCTL_EN))
		return NULL;
	if (nic_is_vf(r->q.fn) &&
	    !(REG(nic, IGB_VFRE) >> nic_fn_vf(r->q.fn) & 1))
		return NULL;
	return r;
}

static bool strips_tag(struct nic *nic, const struct nic_rxq *r,
		       const struct nic_frame *f)
{
	if (!nic_pooled(nic))
		return REG(nic, IGB_CTRL) & IGB_CTRL_VME;
	if (nic->m->strvlan_in_dvmolr)
		return r->dvmolr & IGB_DVMOLR_STRVLAN;
	/* What may be for several pools goes by a register of its own. */
	if (f->data[0] & 1 && REG(nic, IGB_VT_CTL) & IGB_VT_CTL_REPL)
		return REG(nic, IGB_RPLOLR) & IGB_RPLOLR_STRVLAN;
	return REG(nic, IGB_VMOLR(r->q.pool)) & IGB_VMOLR_STRVLAN;
}

static bool strips_fcs(struct nic *nic, const struct nic_rxq *r)
{
	if (REG(nic, IGB_RCTL) & IGB_RCTL_SECRC)
		return true;
	return nic_pooled(nic) &&
	       REG(nic, IGB_VMOLR(r->q.pool)) & IGB_VMOLR_STRCRC;
}

/* Length of the header to split off, 0: none that PSRTYPE asks for. */
static uint32_t split_at(struct nic *nic, const struct nic_rxq *r,
			 const struct pkt *p)
{
	uint32_t types = REG(nic, IGB_PSRTYPE(r->q.pool));
	bool tcp = p->payload && p->proto == 6;
	bool udp = p->payload && p->proto == 17;

	if ((tcp && types & IGB_PSRTYPE_TCP) ||
	    (udp && types & IGB_PSRTYPE_UDP))
		return p->payload;
	if ((p->ip4 && types & IGB_PSRTYPE_IPV4) ||
	    (p->ip6 && types & IGB_PSRTYPE_IPV6))
		return p->l4;
	return types & IGB_PSRTYPE_L2 ? p->l3 : 0;
}

static uint32_t packet_type(const struct pkt *p)
{
	uint32_t v = 0;

	if (p->ip4)
		v = p->ip_ext ? IGB_RXD_PTYPE_IP4E : IGB_RXD_PTYPE_IP4;
	else if (p->ip6)
		v = p->ip_ext ? IGB_RXD_PTYPE_IP6E : IGB_RXD_PTYPE_IP6;
	if (p->payload)
		v |= p->proto == 6    ? IGB_RXD_PTYPE_TCP
		     : p->proto == 17 ? IGB_RXD_PTYPE_UDP
				      : IGB_RXD_PTYPE_SCTP;
	return v;
}

static uint32_t sum_status(struct nic *nic, const struct nic_frame *f)
{
	uint32_t ctl = REG(nic, IGB_RXCSUM), v = 0;
	int ok;

	if (ctl & IGB_RXCSUM_IPOFL && f->p.ip4) {
		v |= IGB_RXD_IPCS;
		if (!pkt_ip_sum_ok(&f->p, f->data))
			v |= IGB_RXD_IPE;
	}
	if (ctl & IGB_RXCSUM_TUOFL && f->p.payload) {
		ok = f->sums_ok ? 1 : pkt_l4_sum_ok(&f->p, f->data);
		if (ok >= 0)
			v |= IGB_RXD_L4CS |
			     (f->p.proto == 17 ? IGB_RXD_UDPCS : 0);
		if (!ok)
			v |= IGB_RXD_L4E;
	}
	return v;
}

/* What is put into buffers: the frame in up to three pieces. */
struct pieces {
	struct {
		const uint8_t *p;
		uint32_t n;
	} v[3];
	uint32_t total;
	uint8_t fcs[NIC_FCS];
};

static void cut(struct nic *nic, const struct nic_rxq *r,
		const struct nic_frame *f, bool strip, struct pieces *c)
{
	memset(c, 0, sizeof(*c));
	c->v[0].p = f->data;
	c->v[0].n = f->len;
	if (strip) {
		c->v[0].n = 12;
		c->v[1].p = f->data + 12 + PKT_VLAN_LEN;
		c->v[1].n = f->len - 12 - PKT_VLAN_LEN;
	}
	c->v[2].p = c->fcs;
	if (!strips_fcs(nic, r)) {
		uint32_t crc = pkt_crc32(f->data, f->len);

		memcpy(c->fcs, &crc, NIC_FCS);
		c->v[2].n = NIC_FCS;
	}
	c->total = c->v[0].n + c->v[1].n + c->v[2].n;
}

/* Write [from, from + n) of the pieces; faults are counted where they are. */
static void put_bytes_at(struct nic *nic, struct nic_rxq *r, uint64_t iova,
			 const struct pieces *c, uint32_t from, uint32_t n)
{
	for (unsigned int i = 0; i < 3 && n; i++) {
		uint32_t k;

		if (from >= c->v[i].n) {
			from -= c->v[i].n;
			continue;
		}
		k = MIN(n, c->v[i].n - from);
		nic_dma_write(nic, r->q.fn, iova, c->v[i].p + from, k);
		iova += k;
		n -= k;
		from = 0;
	}
}

static void complete(struct nic_rxq *r, union igb_desc *d, uint64_t lo,
		     uint64_t hi)
{
	nic_dma_wrote(r->q.fn, r->q.base + (uint64_t)r->q.head * IGB_DESC_SIZE,
		      IGB_DESC_SIZE);
	__atomic_store_n(&d->qw[0], lo, __ATOMIC_RELAXED);
	__atomic_store_n(&d->qw[1], hi, __ATOMIC_RELEASE);
	r->q.head = r->q.head + 1 == r->q.n ? 0 : r->q.head + 1;
	r->q.head_moved = true;
}

/* What the write-back of a frame says, and how it is laid out. */
struct layout {
	uint32_t type; /* SRRCTL.DESCTYPE */
	uint32_t dw0, dw1, status, tag;
	uint32_t hdr; /* bytes for the header buffer */
};

static void describe(struct nic *nic, const struct nic_frame *f, bool strip,
		     const struct nic_rss *rss, struct layout *l)
{
	bool looped = f->from != NIC_POOL_WIRE;

	l->status = IGB_RXD_DD | sum_status(nic, f);
	if (looped)
		l->status |= IGB_RXD_LB;
	if (strip) {
		l->status |= IGB_RXD_VP;
		l->tag = f->p.tci;
		if (looped && nic->m->lb_vlan_swapped)
			l->tag = __builtin_bswap16(f->p.tci);
	}
	l->dw0 = packet_type(&f->p) | rss->type;
	l->dw1 = rss->hash;
	if (!(REG(nic, IGB_RXCSUM) & IGB_RXCSUM_PCSD))
		l->dw1 = f->p.ip4 ? pkt_get16(f->data + f->p.l3 + 4) : 0;
}

static uint32_t hdr_len_field(uint32_t n)
{
	return n << IGB_RXD_HDRLEN_SHIFT & IGB_RXD_HDRLEN;
}

static void split(struct nic *nic, const struct nic_rxq *r,
		  const struct nic_frame *f, bool strip, uint32_t total,
		  struct layout *l)
{
	uint32_t room, hdr = split_at(nic, r, &f->p);

	room = (r->srrctl & IGB_SRRCTL_BSIZEHDR) >> IGB_SRRCTL_BSIZEHDR_SHIFT;
	room *= 64;
	if (hdr && strip)
		hdr -= PKT_VLAN_LEN;
	if (hdr)
		l->dw0 |= IGB_RXD_SPH;
	if (hdr > room) { /* stays with the packet */
		l->status |= IGB_RXD_HBO;
		l->dw0 |= hdr_len_field(hdr);
		hdr = 0;
	} else if (!hdr && l->type == IGB_SRRCTL_SPLIT_ALWAYS) {
		hdr = MIN(room, total);
	}
	l->hdr = hdr;
}

/* One descriptor's worth from byte 'done' on; returns where it got to. */
static uint32_t put_one(struct nic *nic, struct nic_rxq *r,
			const struct pieces *c, const struct layout *l,
			union igb_desc *at, uint32_t done)
{
	uint64_t pkt_at = __atomic_load_n(&at->qw[0], __ATOMIC_RELAXED);
	uint64_t hdr_at = __atomic_load_n(&at->qw[1], __ATOMIC_RELAXED);
	uint64_t lo = l->dw0 | (uint64_t)l->dw1 << 32, hi;
	uint32_t n, status = l->status;

	if (l->hdr && !done) {
		put_bytes_at(nic, r, hdr_at & ~1ull, c, 0, l->hdr);
		lo |= hdr_len_field(l->hdr);
		done = l->hdr;
	}
	n = MIN(buffer_size(nic, r), c->total - done);
	put_bytes_at(nic, r, pkt_at, c, done, n);
	done += n;
	if (done == c->total)
		status |= IGB_RXD_EOP;
	else
		status &= IGB_RXD_DD; /* the rest is for the last one */

	hi = status | (uint64_t)n << 32;
	if (l->type == IGB_SRRCTL_LEGACY) {
		lo = pkt_at;
		hi = n | (uint64_t)(status & 0xff) << 32;
	}
	complete(r, at, lo, hi | (uint64_t)l->tag << 48);
	return done;
}

void nic_rx_put(struct nic *nic, struct nic_rxq *r, const struct nic_frame *f,
		const struct nic_rss *rss)
{
	struct layout l = { .type = r->srrctl & IGB_SRRCTL_DESCTYPE };
	bool strip = f->p.vlan && strips_tag(nic, r, f);
	uint32_t done = 0;
	struct pieces c;

	cut(nic, r, f, strip, &c);
	describe(nic, f, strip, rss, &l);
	if (l.type == IGB_SRRCTL_SPLIT || l.type == IGB_SRRCTL_SPLIT_ALWAYS)
		split(nic, r, f, strip, c.total, &l);
	do {
		union igb_desc *at = nic_dma_desc(nic, &r->q, r->q.head, true);

		if (!at) {
			r->q.stuck = true;
			return;
		}
		done = put_one(nic, r, &c, &l, at, done);
	} while (done < c.total);

	nic->counts.rx_frames++;
	nic->counts.rx_bytes += f->len;
	r->q.cause = true;
}
