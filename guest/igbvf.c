#include "igbvf_int.h"

#define REFILL	   16u	/* receive buffers given back at once */
#define BUDGET	   64u	/* packets of one poll */
#define ITR_START  648u /* moderation at the start */
#define EIMS_TX	   (1u << 0)
#define EIMS_RX	   (1u << 1)
#define EIMS_OTHER (1u << 2)
#define EIMS_ALL   (EIMS_TX | EIMS_RX | EIMS_OTHER)
#define SPIN_NS	   50000ull
#define NAP_NS	   200000ull
#define NO_PACKET  0xffffu

/* --- rings -------------------------------------------------------------- */

static void ring_alloc(struct igbvf_ring *r, uint32_t n)
{
	r->n = n;
	r->desc = dma_alloc(n * sizeof(*r->desc), PAGE);
	r->buf = dma_alloc((size_t)n * IGBVF_BUF, PAGE);
	r->eop = dma_alloc(n * sizeof(*r->eop), 8);
}

/* What was queued is forgotten; base and size stay for ever. */
static void ring_clean(struct igbvf_ring *r)
{
	memset(r->desc, 0, r->n * sizeof(*r->desc));
	for (uint32_t i = 0; i < r->n; i++)
		r->eop[i] = NO_PACKET;
	r->use = r->clean = 0;
}

static uint32_t unused(const struct igbvf_ring *r)
{
	return (r->clean > r->use ? 0 : r->n) + r->clean - r->use - 1;
}

static uint32_t next(const struct igbvf_ring *r, uint32_t i)
{
	return i + 1 == r->n ? 0 : i + 1;
}

static void refill(struct igbvf *v, uint32_t count)
{
	struct igbvf_ring *r = &v->rx;

	if (!count)
		return;
	for (; count; count--) {
		igb_rxd_fill(&r->desc[r->use],
			     (uint64_t)(r->buf + (size_t)r->use * IGBVF_BUF),
			     0);
		r->use = next(r, r->use);
	}
	barrier();
	/* The last one filled: a full ring is one short. */
	vf_write(v, r->tail, (r->use ? r->use : r->n) - 1);
	v->refills++;
}

/* --- up and down -------------------------------------------------------- */

static void queue_base(struct igbvf *v, uint32_t q, const struct igbvf_ring *r)
{
	vf_write(v, q + IGB_Q_BAL, (uint32_t)(uint64_t)r->desc);
	vf_write(v, q + IGB_Q_BAH, (uint32_t)((uint64_t)r->desc >> 32));
}

static void configure_tx(struct igbvf *v)
{
	uint32_t ctl = vf_read(v, IGBVF_TXDCTL);

	vf_write(v, IGBVF_TXDCTL, ctl & ~IGB_DCTL_ENABLE);
	vf_read(v, IGBVF_STATUS);
	delay_ns(10000000);
	vf_write(v, IGBVF_TDLEN, v->tx.n * IGB_DESC_SIZE);
	queue_base(v, IGBVF_TDBAL, &v->tx);
	vf_write(v, IGBVF_TDH, 0);
	vf_write(v, IGBVF_TDT, 0);
	/* No relaxed ordering: DD must not overtake what it tells of. */
	vf_write(v, IGBVF_DCA_TXCTRL,
		 vf_read(v, IGBVF_DCA_TXCTRL) & ~(1u << 11));
	vf_write(v, IGBVF_TXDCTL, ctl | IGB_DCTL_ENABLE);
}

static void configure_rx(struct igbvf *v)
{
	uint32_t ctl = vf_read(v, IGBVF_RXDCTL);

	vf_write(v, IGBVF_RXDCTL, ctl & ~IGB_DCTL_ENABLE);
	vf_read(v, IGBVF_STATUS);
	delay_ns(10000000);
	queue_base(v, IGBVF_RDBAL, &v->rx);
	vf_write(v, IGBVF_RDLEN, v->rx.n * IGB_DESC_SIZE);
	vf_write(v, IGBVF_RDH, 0);
	vf_write(v, IGBVF_RDT, 0);
	igbvf_set_frame(v);
	vf_write(v, IGBVF_RXDCTL,
		 (ctl & 0xfff00000) | IGB_DCTL_ENABLE |
			 16u << IGB_DCTL_PTHRESH_SHIFT |
			 8u << IGB_DCTL_HTHRESH_SHIFT |
			 v->conf.wthresh << IGB_DCTL_WTHRESH_SHIFT);
}

static void configure_irqs(struct igbvf *v)
{
	vf_write(v, IGBVF_IVAR0, 0x8081);
	vf_write(v, IGBVF_EITR0, ITR_START & 0x7ffc);
	vf_write(v, IGBVF_EITR1, ITR_START & 0x7ffc);
	vf_write(v, IGBVF_IVAR_MISC, 0x82);
}

static void irq_enable(struct igbvf *v)
{
	/* Who polls the rings still wants to hear from the PF. */
	uint32_t all = v->conf.irq ? EIMS_ALL : EIMS_OTHER;

	vf_read(v, IGBVF_EICR);
	vf_write(v, IGBVF_EIAC, all);
	vf_write(v, IGBVF_EIAM, all);
	vf_write(v, IGBVF_EIMS, all);
}

static void up(struct igbvf *v)
{
	igbvf_set_filters(v);
	configure_tx(v);
	vf_write(v, IGBVF_SRRCTL,
		 IGB_SRRCTL_DROP_EN | IGB_SRRCTL_ONEBUF | IGBVF_BUF / 1024);
	configure_rx(v);
	refill(v, unused(&v->rx));
	configure_irqs(v);
	irq_enable(v);
	v->get_link = true;
	v->next_tick = now_ns();
}

static void print_mac(const uint8_t *m)
{
	printf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
	       m[5]);
}

static void print_link(struct igbvf *v, const char *what)
{
	printf("L %s mac=", what);
	print_mac(v->mac);
	printf(" t=%lu\n", now_ns() / 1000000);
}

static void set_link(struct igbvf *v, bool on)
{
	if (v->link == on)
		return;
	v->link = on;
	v->links_up += on;
	v->links_down += !on;
	print_link(v, on ? "up" : "down");
}

static void down(struct igbvf *v)
{
	vf_write(v, IGBVF_RXDCTL, vf_read(v, IGBVF_RXDCTL) & ~IGB_DCTL_ENABLE);
	set_link(v, false);
	vf_write(v, IGBVF_TXDCTL, vf_read(v, IGBVF_TXDCTL) & ~IGB_DCTL_ENABLE);
	vf_read(v, IGBVF_STATUS);
	delay_ns(10000000);
	vf_write(v, IGBVF_EIMC, ~0u);
	vf_write(v, IGBVF_EIAC, 0);
	v->napi = false;
}

static bool mac_valid(const uint8_t *mac)
{
	static const uint8_t none[6];

	return memcmp(mac, none, 6) && !(mac[0] & 1);
}

static void reset(struct igbvf *v)
{
	uint8_t was[6];

	if (!igbvf_reset_hw(v)) {
		v->reset_fails++;
		printf("R failed t=%lu\n", now_ns() / 1000000);
	}
	memcpy(was, v->mac, 6);
	igbvf_set_mac(v);
	/* Refused by a PF that gave us none: the stack keeps what it had. */
	if (!mac_valid(v->mac))
		memcpy(v->mac, was, 6);
	v->mac_changes += memcmp(was, v->mac, 6) != 0;
	v->last_reset = now_ns();
}

void igbvf_reinit(struct igbvf *v)
{
	v->reinits++;
	printf("R reinit=%lu t=%lu\n", v->reinits, now_ns() / 1000000);
	down(v);
	reset(v);
	ring_clean(&v->tx);
	ring_clean(&v->rx);
	v->last_head = 0;
	vf_write(v, IGBVF_TDH, 0);
	vf_write(v, IGBVF_TDT, 0);
	vf_write(v, IGBVF_RDH, 0);
	vf_write(v, IGBVF_RDT, 0);
	up(v);
}

static void read_stats(struct igbvf *v, uint32_t *out)
{
	static const uint16_t regs[9] = {
		IGBVF_VFGPRC,	IGBVF_VFGPTC,	IGBVF_VFGORC,
		IGBVF_VFGOTC,	IGBVF_VFMPRC,	IGBVF_VFGOTLBC,
		IGBVF_VFGPTLBC, IGBVF_VFGORLBC, IGBVF_VFGPRLBC,
	};

	for (unsigned int i = 0; i < 9; i++)
		out[i] = vf_read(v, regs[i]);
}

/* A counter that went down has gone round: that is what igbvf believes. */
static void update_stats(struct igbvf *v)
{
	uint32_t now[9];

	read_stats(v, now);
	for (unsigned int i = 0; i < 9; i++) {
		v->stat[i] += now[i] - v->last_stat[i];
		v->last_stat[i] = now[i];
	}
}

static const uint16_t vf_ids[] = { IGB_DEV_82576_VF, IGB_DEV_I350_VF };

/* The nth of the VFs, 82576 before I350; negative: there are fewer. */
static int find(unsigned int nth)
{
	int devfn = -1;

	for (unsigned int i = 0; i < ARRAY_SIZE(vf_ids); i++) {
		for (unsigned int k = 0;; k++) {
			devfn = pci_find(IGB_VENDOR_INTEL, vf_ids[i], k);
			if (devfn < 0)
				break;
			if (!nth--)
				return devfn;
		}
	}
	return devfn;
}

/* The PF's choice, or any local one if it made none. */
static void choose_mac(struct igbvf *v)
{
	uint64_t r = rdtsc() * 0x9e3779b97f4a7c15ull;

	memcpy(v->mac, v->perm, 6);
	if (mac_valid(v->mac))
		return;
	memcpy(v->mac, &r, 6);
	v->mac[0] = (uint8_t)((v->mac[0] & 0xfe) | 2);
}

bool igbvf_open(struct igbvf *v, const struct igbvf_conf *conf)
{
	memset(v, 0, sizeof(*v));
	v->conf = *conf;
	v->devfn = find(conf->nth);
	if (v->devfn < 0)
		return false;
	v->lb_swap = pci_read16(v->devfn, 2) == IGB_DEV_I350_VF;
	v->irq = IGBVF_IRQ + 4 * conf->nth;
	pci_enable(v->devfn);
	v->bar = pci_bar(v->devfn, 0, IGBVF_BAR0_SIZE);
	msix_set(v->devfn, 0, (uint8_t)(v->irq + IGBVF_IRQ_TX), 0);
	msix_set(v->devfn, 1, (uint8_t)(v->irq + IGBVF_IRQ_RX), 0);
	msix_set(v->devfn, 2, (uint8_t)(v->irq + IGBVF_IRQ_OTHER), 0);
	msix_enable(v->devfn);
	/* As probe does: the address first, then rings. */
	if (!igbvf_reset_hw(v)) {
		v->reset_fails++;
		printf("R failed t=%lu\n", now_ns() / 1000000);
	}
	choose_mac(v);
	igbvf_set_mac(v);
	read_stats(v, v->last_stat);
	ring_alloc(&v->tx, conf->tx_n);
	ring_alloc(&v->rx, conf->rx_n);
	v->tx.tail = conf->compact ? IGBVF_COMPACT_TDT : IGBVF_TDT;
	v->rx.tail = conf->compact ? IGBVF_COMPACT_RDT : IGBVF_RDT;
	ring_clean(&v->tx);
	ring_clean(&v->rx);
	v->last_reset = now_ns();
	up(v);
	return true;
}

/* --- transmit ----------------------------------------------------------- */

bool igbvf_tx_pending(const struct igbvf *v)
{
	return v->tx.clean != v->tx.use;
}

/* Two descriptors a packet at most, and igbvf keeps two more in hand. */
uint8_t *igbvf_tx_buf(struct igbvf *v)
{
	struct igbvf_ring *r = &v->tx;
	uint32_t i = v->conf.vlan ? next(r, r->use) : r->use;

	if (!v->link || unused(r) < 4)
		return NULL;
	return r->buf + (size_t)i * IGBVF_BUF;
}

void igbvf_send(struct igbvf *v, uint32_t len)
{
	struct igbvf_ring *r = &v->tx;
	uint32_t first = r->use, i = first;
	uint32_t cmd = IGB_TXD_EOP | IGB_TXD_RS;

	if (v->conf.vlan) {
		union igb_desc *c = &r->desc[i];

		igb_txd_fill_noop(c);
		c->dw[0] = (uint32_t)v->conf.vlan << IGB_CTX_VLAN_SHIFT |
			   14u << IGB_CTX_MACLEN_SHIFT;
		cmd |= IGB_TXD_VLE;
		i = next(r, i);
	}
	igb_txd_fill(&r->desc[i], (uint64_t)(r->buf + (size_t)i * IGBVF_BUF),
		     (uint16_t)len, cmd);
	r->eop[first] = (uint16_t)i;
	r->use = next(r, i);
	barrier();
	vf_write(v, r->tail, r->use);
	v->tails++;
}

static unsigned int clean_tx(struct igbvf *v)
{
	struct igbvf_ring *r = &v->tx;
	unsigned int n = 0;

	/* Progress by register; it may lag behind DD, but never goes back. */
	if (v->conf.compact && r->clean != r->use) {
		uint32_t head = vf_read(v, IGBVF_COMPACT_TDH);

		v->heads++;
		v->bad_heads += (head - v->last_head) % r->n > r->n / 2;
		v->last_head = head;
	}
	for (; r->clean != r->use && n < r->n; n++) {
		uint16_t eop = r->eop[r->clean];
		volatile union igb_desc *d = &r->desc[eop];

		if (eop == NO_PACKET || !(d->dw[3] & IGB_TXD_DD))
			break;
		barrier();
		r->eop[r->clean] = NO_PACKET;
		d->dw[3] = 0;
		r->clean = next(r, eop);
	}
	return n;
}

/* --- receive ------------------------------------------------------------ */

/*
 * The tag as igbvf has it from the descriptor (IGBVF_FLAG_RX_LB_VLAN_BSWAP,
 * fixed when it probed), or as a stack takes it out of the frame.
 */
static void deliver(struct igbvf *v, uint8_t *f, uint32_t status, uint32_t dw3,
		    igbvf_rx_fn fn, void *opaque)
{
	uint32_t len = dw3 & 0xffff;
	uint16_t tag = 0;

	if (status & IGB_RXD_VP) {
		bool swap = v->lb_swap && status & IGB_RXD_LB;

		tag = (uint16_t)(dw3 >> 16);
		if (swap)
			tag = (uint16_t)(tag << 8 | tag >> 8);
		v->tags[!!(status & IGB_RXD_LB)]++;
	} else if (len > 18 && f[12] == 0x81 && f[13] == 0x00) {
		tag = (uint16_t)(f[14] << 8 | f[15]);
		for (unsigned int i = 12; i--;)
			f[i + 4] = f[i];
		f += 4;
		len -= 4;
		v->tags[2]++;
	}
	fn(opaque, f, len, tag & 0xfff);
}

static unsigned int clean_rx(struct igbvf *v, igbvf_rx_fn fn, void *opaque)
{
	struct igbvf_ring *r = &v->rx;
	unsigned int n = 0;
	uint32_t owed = 0;

	while (n < BUDGET) {
		volatile union igb_desc *d = &r->desc[r->clean];
		uint32_t status = d->dw[2], dw3;

		if (!(status & IGB_RXD_DD))
			break;
		barrier();
		dw3 = d->dw[3];
		if (status & IGB_RXD_EOP && !(status & IGB_RXD_RXE))
			deliver(v, r->buf + (size_t)r->clean * IGBVF_BUF,
				status, dw3, fn, opaque);
		d->dw[2] = 0;
		r->clean = next(r, r->clean);
		n++;
		if (++owed >= REFILL) {
			refill(v, owed);
			owed = 0;
		}
	}
	refill(v, unused(r));
	return n;
}

/* --- the watchdog ------------------------------------------------------- */

/*
 * e1000_check_for_link_vf: false is an error, which asks for a re-init.  A
 * word in the mailbox is looked at only when something made us look.
 */
static bool check_link(struct igbvf *v)
{
	uint32_t w;

	if (igbvf_mbx_rst(v) || !v->timeout)
		v->get_link = true;
	if (!v->get_link || !(vf_read(v, IGBVF_STATUS) & IGB_STATUS_LU))
		return true;
	if (!igbvf_mbx_read(v, &w, 1))
		return true;
	if (!(w & MBX_CTS))
		return !(w & MBX_NACK);
	if (!v->timeout)
		return false;
	v->get_link = false;
	return true;
}

static void watchdog(struct igbvf *v)
{
	bool ok = check_link(v);
	uint64_t now = now_ns();

	v->next_tick = now + v->conf.tick_ns;
	if (!v->get_link) {
		set_link(v, true);
		update_stats(v);
		if (v->conf.irq)
			vf_write(v, IGBVF_EICS, EIMS_RX);
		if (!ok && now - v->last_reset > v->conf.holdoff_ns)
			igbvf_reinit(v);
		return;
	}
	set_link(v, false);
	clean_tx(v);
	/* Packets that nobody will send any more: at once, no hold-off. */
	if (igbvf_tx_pending(v) ||
	    (!ok && now - v->last_reset > v->conf.holdoff_ns))
		igbvf_reinit(v);
}

/* --- one round ---------------------------------------------------------- */

static bool fired(struct igbvf *v, unsigned int i)
{
	uint32_t n = irq_count[v->irq + i];

	if (n == v->seen[i])
		return false;
	v->irqs[i] += n - v->seen[i];
	v->seen[i] = n;
	return true;
}

static unsigned int poll_irqs(struct igbvf *v, igbvf_rx_fn fn, void *opaque)
{
	unsigned int n = 0, got;

	if (fired(v, 0)) {
		n += clean_tx(v);
		vf_write(v, IGBVF_EIMS, EIMS_TX);
	}
	if (fired(v, 1))
		v->napi = true;
	if (v->napi) {
		got = clean_rx(v, fn, opaque);
		n += got;
		if (got < BUDGET) {
			v->napi = false;
			vf_write(v, IGBVF_EIMS, EIMS_RX);
		}
	}
	return n;
}

static void poll_other(struct igbvf *v)
{
	if (!fired(v, 2))
		return;
	v->get_link = true;
	v->next_tick = now_ns();
	vf_write(v, IGBVF_EIMS, EIMS_OTHER);
}

unsigned int igbvf_poll(struct igbvf *v, igbvf_rx_fn fn, void *opaque)
{
	unsigned int n;

	if (v->conf.irq)
		n = poll_irqs(v, fn, opaque);
	else
		n = clean_tx(v) + clean_rx(v, fn, opaque);
	poll_other(v);
	if (n)
		v->busy_at = now_ns();
	if (now_ns() >= v->next_tick)
		watchdog(v);
	return n;
}

/*
 * Polling forever would take the host's CPU from the very device that is
 * waited for, so a poller with nothing to do for long halts for a while.
 */
void igbvf_idle(struct igbvf *v, uint64_t ns)
{
	uint64_t now = now_ns();

	if (!v->conf.irq) {
		if (now - v->busy_at < SPIN_NS)
			cpu_relax();
		else
			irq_wait(v->irq + IGBVF_IRQ_OTHER,
				 irq_count[v->irq + IGBVF_IRQ_OTHER], NAP_NS);
		return;
	}
	/* Any of the three ends it: they differ only in their count. */
	if (!v->napi && irq_count[v->irq + IGBVF_IRQ_TX] == v->seen[0] &&
	    irq_count[v->irq + IGBVF_IRQ_OTHER] == v->seen[2])
		irq_wait(v->irq + IGBVF_IRQ_RX, v->seen[1], ns);
}
