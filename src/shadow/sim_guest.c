/*
 * The driver.
 */
#include <string.h>

#include "base/util.h"
#include "shadow/sim_priv.h"

static uint64_t take_buf(struct sim *s)
{
	uint32_t i = sim_rand(s, s->g.nfree);
	uint64_t b = s->g.free_buf[i];

	s->g.free_buf[i] = s->g.free_buf[--s->g.nfree];
	return b;
}

void sim_give_buf(struct sim *s, uint64_t b)
{
	s->g.free_buf[s->g.nfree++] = b;
}

static void reg(struct sim *s, uint32_t off, uint32_t v)
{
	fake_write(&s->fh, 0, off, v);
}

void sim_guest_post(struct sim *s, uint32_t max)
{
	struct sim_guest *g = &s->g;
	uint32_t n = 0;

	for (; n < max && (g->rx_use + 1) % s->o.nrx != g->rx_clean; n++) {
		uint32_t i = g->rx_use;
		union igb_desc *d = sim_rx_slot(s, i);

		g->rx_buf[i] = take_buf(s);
		g->rx_hdr[i] = s->o.split_hdr ? take_buf(s) : 0;
		g->rx_fill[i] = (uint8_t)sim_rand(s, 256);
		g->rx_marked[i] = false;
		g->rx_used[i] = false;
		memset(sim_ptr(s, g->rx_buf[i]), g->rx_fill[i], SIM_BSIZE);
		sim_wrote(s, g->rx_buf[i], SIM_BSIZE);
		d->qw[0] = g->rx_buf[i];
		d->qw[1] = g->rx_hdr[i];
		sim_wrote(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE,
			  IGB_DESC_SIZE);
		g->rx_use = (i + 1) % s->o.nrx;
	}
	if (n) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		reg(s, IGBVF_RDT, g->rx_use);
	}
}

bool sim_guest_send(struct sim *s)
{
	struct sim_guest *g = &s->g;
	uint32_t len = sim_tx_len(g->tx_seq),
		 parts = 1 + (uint32_t)g->tx_seq % 3;
	bool ctx = g->tx_seq % 5 == 0;
	uint32_t free = (g->tx_clean + s->o.ntx - g->tx_use - 1) % s->o.ntx;
	uint32_t at = 0, first = g->tx_use, last;

	/* A part must fit its buffer. */
	parts = MAX(parts, (len + SIM_BSIZE - 1) / SIM_BSIZE);
	if (free < parts + ctx)
		return false;
	last = (first + parts + ctx - 1) % s->o.ntx;
	for (uint32_t k = 0; k < parts + ctx; k++) {
		uint32_t i = g->tx_use;
		union igb_desc d;
		uint8_t *p;

		g->tx_buf[i] = 0;
		if (ctx && k == 0) {
			igb_txd_fill_noop(&d);
			d.dw[0] = (uint32_t)g->tx_seq << 16;
		} else {
			uint32_t left = parts + ctx - 1 - k;
			uint32_t part =
				left ? (len - at) / (left + 1) : len - at;

			g->tx_buf[i] = take_buf(s);
			p = sim_ptr(s, g->tx_buf[i]);
			for (uint32_t b = 0; b < part; b++)
				p[b] = sim_frame_byte(true, g->tx_seq, at + b);
			sim_wrote(s, g->tx_buf[i], part);
			igb_txd_fill(&d, g->tx_buf[i], (uint16_t)part,
				     left ? 0
					  : IGB_TXD_EOP |
						     (s->o.no_rs ? 0
								 : IGB_TXD_RS));
			at += part;
		}
		g->tx_eop[i] = last + 1;
		*sim_tx_slot(s, i) = d;
		sim_wrote(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE,
			  IGB_DESC_SIZE);
		g->tx_use = (i + 1) % s->o.ntx;
	}
	g->tx_seq++;
	return true;
}

void sim_guest_kick(struct sim *s)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	reg(s, IGBVF_TDT, s->g.tx_use);
}

static bool tx_done(struct sim *s, uint32_t eop, uint32_t head)
{
	struct sim_guest *g = &s->g;
	uint32_t ahead = (head + s->o.ntx - g->tx_clean) % s->o.ntx;
	uint32_t need = (eop + 1 + s->o.ntx - g->tx_clean) % s->o.ntx;

	if (s->o.no_rs || s->o.head_words)
		return need && ahead >= need;
	return __atomic_load_n(&sim_tx_slot(s, eop)->dw[3], __ATOMIC_ACQUIRE) &
	       IGB_TXD_DD;
}

static unsigned int clean_tx(struct sim *s)
{
	struct sim_guest *g = &s->g;
	uint32_t head = 0;
	unsigned int n = 0;

	if (g->tx_clean == g->tx_use)
		return 0;
	if (s->o.head_words)
		head = __atomic_load_n((uint32_t *)sim_ptr(s, s->head_word),
				       __ATOMIC_ACQUIRE);
	else if (s->o.no_rs)
		head = fake_read(&s->fh, 0, IGBVF_TDH);
	if (head >= s->o.ntx) {
		sim_fail(s, "transmit head outside its ring", head, 0);
		return 0;
	}
	while (g->tx_clean != g->tx_use) {
		uint32_t eop = g->tx_eop[g->tx_clean] - 1, i;

		if (!tx_done(s, eop, head))
			break;
		do {
			i = g->tx_clean;
			if (g->tx_buf[i])
				sim_give_buf(s, g->tx_buf[i]);
			sim_tx_slot(s, i)->dw[3] = 0;
			sim_wrote(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE,
				  IGB_DESC_SIZE);
			g->tx_clean = (i + 1) % s->o.ntx;
		} while (i != eop);
		n++;
	}
	return n;
}

struct sim_seen sim_look(struct sim *s, uint32_t i)
{
	union igb_desc *d = sim_rx_slot(s, i), c;
	struct sim_seen r = { 0 };

	c.qw[1] = __atomic_load_n(&d->qw[1], __ATOMIC_ACQUIRE);
	c.qw[0] = d->qw[0];
	if (s->o.legacy) {
		r.done = c.qw[1] >> 32 & 1;
		r.eop = c.qw[1] >> 33 & 1;
		r.bad = c.qw[1] >> 47 & 1;
		r.len = (uint16_t)c.qw[1];
		return r;
	}
	r.done = igb_rxd_done(&c);
	r.eop = c.dw[2] & IGB_RXD_EOP;
	r.bad = c.dw[2] & IGB_RXD_RXE;
	r.len = igb_rxd_len(&c);
	r.hdr = igb_rxd_hdr_len(&c);
	return r;
}

/* Bytes of one descriptor against those of the frame, from 'at'. */
static uint32_t verify(struct sim *s, uint32_t i, const struct sim_seen *d,
		       uint32_t at)
{
	struct sim_guest *g = &s->g;
	const uint8_t *p = sim_ptr(s, g->rx_buf[i]);
	const uint8_t *h = d->hdr ? sim_ptr(s, g->rx_hdr[i]) : NULL;

	for (uint32_t k = 0; h && k < d->hdr; k++) {
		if (h[k] != sim_frame_byte(false, g->rx_seq, at + k))
			sim_fail(s, "received header differs", g->rx_seq, k);
	}
	for (uint32_t k = 0; k < d->len; k++) {
		if (p[k] != sim_frame_byte(false, g->rx_seq, at + d->hdr + k)) {
			sim_fail(s, "received frame differs", g->rx_seq,
				 at + k);
			break;
		}
	}
	for (uint32_t k = d->len; k < SIM_BSIZE && !g->rx_used[i]; k++) {
		if (p[k] != g->rx_fill[i]) {
			sim_fail(s, "bytes past a frame changed", g->rx_seq, k);
			break;
		}
	}
	return d->hdr + d->len;
}

/* One frame, if all of it is there. */
static bool clean_rx(struct sim *s)
{
	struct sim_guest *g = &s->g;
	uint32_t i = g->rx_clean, n = 0, at = 0;
	struct sim_seen d;

	do {
		if (i == g->rx_use)
			return false;
		d = sim_look(s, i);
		if (!d.done)
			return false;
		n++;
		i = (i + 1) % s->o.nrx;
	} while (!d.eop);

	while (n--) {
		union igb_desc *slot;

		i = g->rx_clean;
		slot = sim_rx_slot(s, i);
		d = sim_look(s, i);
		if (d.bad)
			g->lost++;
		else
			at += verify(s, i, &d, at);
		sim_give_buf(s, g->rx_buf[i]);
		if (g->rx_hdr[i])
			sim_give_buf(s, g->rx_hdr[i]);
		slot->qw[1] = 0;
		sim_wrote(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE,
			  IGB_DESC_SIZE);
		g->rx_clean = (i + 1) % s->o.nrx;
	}
	g->rx_seq += !d.bad;
	return true;
}

unsigned int sim_guest_poll(struct sim *s, unsigned int budget)
{
	unsigned int n = clean_tx(s);

	while (budget-- && clean_rx(s))
		n++;
	return n;
}

/* The guest uses what lies beside its rings. */
void sim_guest_scribble(struct sim *s)
{
	uint32_t at, len;
	uint8_t v = (uint8_t)sim_rand(s, 256);

	if (!s->foreign_len)
		return;
	at = sim_rand(s, (uint32_t)s->foreign_len);
	len = 1 + sim_rand(s, (uint32_t)s->foreign_len - at);
	memset(sim_ptr(s, s->foreign + at), v, len);
	memset(s->foreign_ref + at, v, len);
	sim_wrote(s, s->foreign + at, len);
}

void sim_guest_up(struct sim *s)
{
	uint32_t type = s->o.split_hdr ? IGB_SRRCTL_SPLIT
			: s->o.legacy  ? IGB_SRRCTL_LEGACY
				       : IGB_SRRCTL_ONEBUF;

	reg(s, IGBVF_TDLEN, s->o.ntx * IGB_DESC_SIZE);
	reg(s, IGBVF_TDBAL, (uint32_t)s->tx_ring);
	reg(s, IGBVF_TDBAH, 0);
	reg(s, IGBVF_TDWBAL,
	    s->o.head_words ? (uint32_t)s->head_word | IGB_TDWBAL_EN : 0);
	reg(s, IGBVF_TDH, 0);
	reg(s, IGBVF_TDT, 0);
	reg(s, IGBVF_TXDCTL, IGB_DCTL_ENABLE);
	reg(s, IGBVF_RDBAL, (uint32_t)s->rx_ring);
	reg(s, IGBVF_RDBAH, 0);
	reg(s, IGBVF_RDLEN, s->o.nrx * IGB_DESC_SIZE);
	reg(s, IGBVF_SRRCTL,
	    type | SIM_BSIZE / 1024 |
		    SIM_HSIZE / 64 << IGB_SRRCTL_BSIZEHDR_SHIFT);
	reg(s, IGBVF_RDH, 0);
	reg(s, IGBVF_RDT, 0);
	reg(s, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	reg(s, IGBVF_IVAR0, 0x8081);
	reg(s, IGBVF_IVAR_MISC, 0x82);
}

void sim_guest_down(struct sim *s)
{
	struct sim_guest *g = &s->g;

	if (sim_rand(s, 2)) {
		reg(s, IGBVF_RXDCTL, 0);
		reg(s, IGBVF_TXDCTL, 0);
	}
	if (sim_rand(s, 4))
		reg(s, IGBVF_CTRL, IGB_CTRL_RST);
	reg(s, IGBVF_RXDCTL, 0);
	reg(s, IGBVF_TXDCTL, 0);
	/* The 10 ms a driver waits here. */
	sim_tick(s);
	/* What was queued and not sent, received and not taken, is gone. */
	for (; g->tx_clean != g->tx_use;
	     g->tx_clean = (g->tx_clean + 1) % s->o.ntx) {
		if (g->tx_buf[g->tx_clean])
			sim_give_buf(s, g->tx_buf[g->tx_clean]);
	}
	for (; g->rx_clean != g->rx_use;
	     g->rx_clean = (g->rx_clean + 1) % s->o.nrx) {
		sim_give_buf(s, g->rx_buf[g->rx_clean]);
		if (g->rx_hdr[g->rx_clean])
			sim_give_buf(s, g->rx_hdr[g->rx_clean]);
	}
	g->rx_use = g->rx_clean = g->tx_use = g->tx_clean = 0;
	g->rx_seq = s->dev.rx_seq;
	g->tx_seq = s->dev.tx_seq;
	memset(sim_ptr(s, s->rx_ring), 0, s->o.nrx * IGB_DESC_SIZE);
	memset(sim_ptr(s, s->tx_ring), 0, s->o.ntx * IGB_DESC_SIZE);
	sim_wrote(s, s->rx_ring, s->o.nrx * IGB_DESC_SIZE);
	sim_wrote(s, s->tx_ring, s->o.ntx * IGB_DESC_SIZE);
	if (s->o.head_words) {
		memset(sim_ptr(s, s->head_word), 0, 4);
		sim_wrote(s, s->head_word, 4);
	}
}
