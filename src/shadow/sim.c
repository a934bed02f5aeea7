#include "shadow/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "shadow/priv.h"

#define PAGES (SIM_RAM / PAGE_SIZE)

static void fail(struct sim *s, const char *what, uint64_t a, uint64_t b)
{
	if (s->fault)
		return;
	s->fault = what;
	s->fault_arg[0] = a;
	s->fault_arg[1] = b;
}

/* xorshift64* */
uint32_t sim_rand(struct sim *s, uint32_t below)
{
	s->rnd ^= s->rnd >> 12;
	s->rnd ^= s->rnd << 25;
	s->rnd ^= s->rnd >> 27;
	return (uint32_t)((s->rnd * 0x2545f4914f6cdd1dull) >> 33) % below;
}

/* Byte 'i' of frame 'seq' of one direction. */
static uint8_t frame_byte(bool tx, uint64_t seq, uint32_t i)
{
	return (uint8_t)((seq * 131 + i * 7 + (tx ? 89 : 0)) ^ (seq >> 8));
}

/* Lengths come from the number, so that both ends know them. */
static uint32_t tx_len(uint64_t seq)
{
	return 60 + (uint32_t)(seq * 2654435761u >> 7) % 1400;
}

/* ---- the log ---- */

static void copy_page(struct sim *s, uint64_t page)
{
	memcpy(s->dest + page * PAGE_SIZE,
	       (uint8_t *)s->fh.ram.guest + page * PAGE_SIZE, PAGE_SIZE);
}

static struct seen {
	bool done, eop, bad;
	uint32_t len, hdr;
} look(struct sim *s, uint32_t i);

/*
 * No completion may be seen whose page is not reported.  Marks and stores
 * alternate, so looking at each mark finds the wrong order.
 */
static void check_order(struct sim *s, uint64_t gpa, uint64_t len)
{
	struct sim_guest *g = &s->g;
	uint32_t i;

	for (i = g->rx_clean; i != g->rx_use; i = (i + 1) % s->o.nrx) {
		struct seen d = look(s, i);

		if (d.done && d.len && !d.bad && !g->rx_marked[i])
			fail(s, "a completion seen before its page is reported",
			     i, g->rx_buf[i]);
		if (!d.done && g->rx_buf[i] < gpa + len &&
		    gpa < g->rx_buf[i] + SIM_BSIZE)
			g->rx_marked[i] = true;
	}
}

static void mark_dirty(struct host *h, gpa_t gpa, uint64_t len)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (!s->log)
		return;
	if (!len || gpa.v >= SIM_RAM || len > SIM_RAM - gpa.v) {
		fail(s, "mark outside RAM", gpa.v, len);
		return;
	}
	if (!s->threads)
		check_order(s, gpa.v, len);
	for (uint64_t p = gpa.v / PAGE_SIZE; p <= (gpa.v + len - 1) / PAGE_SIZE;
	     p++) {
		bitmap_set_atomic(s->marked, p);
		copy_page(s, p);
	}
}

/* The guest's own writes: KVM's log would have the page. */
static void wrote(struct sim *s, uint64_t gpa, uint64_t len)
{
	if (!s->log)
		return;
	for (uint64_t p = gpa / PAGE_SIZE; p <= (gpa + len - 1) / PAGE_SIZE;
	     p++)
		copy_page(s, p);
}

static void *guest_ptr(struct sim *s, uint64_t gpa)
{
	return (uint8_t *)s->fh.ram.guest + gpa;
}

/*
 * With threads a pause waits for the end of the guest's turn; from the
 * guest's own thread, that is from a tap, it counts as stopped.
 */
static int sim_pause(struct host *h)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (s->threads && !pthread_equal(pthread_self(), s->guest))
		pthread_mutex_lock(&s->turn);
	return 0;
}

static void sim_resume(struct host *h)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (s->threads && !pthread_equal(pthread_self(), s->guest))
		pthread_mutex_unlock(&s->turn);
}

/* ---- the device ---- */

static uint32_t get(struct sim *s, uint32_t off)
{
	return __atomic_load_n((uint32_t *)(s->fp->bar[0] + off),
			       __ATOMIC_SEQ_CST);
}

static void set(struct sim *s, uint32_t off, uint32_t v)
{
	__atomic_store_n((uint32_t *)(s->fp->bar[0] + off), v,
			 __ATOMIC_SEQ_CST);
}

static uint32_t queue_off(const struct sim_queue *q)
{
	return q->tx ? IGBVF_TDBAL : IGBVF_RDBAL;
}

static bool on_bus(struct sim *s)
{
	return s->fp->config[4] & 4;
}

static uint8_t *dma(struct sim *s, uint64_t iova, uint64_t len, bool write)
{
	uint8_t *p = fake_pdev_dma(s->fp, iova, len);

	if (!p) {
		s->dev.dma_faults++;
		fail(s, "DMA outside guest RAM", iova, len);
		return NULL;
	}
	if (write && s->log)
		bitmap_set_atomic(s->truth, iova / PAGE_SIZE);
	return p;
}

/* Packet bytes; pages that follow each other need not do so in memory. */
static void dma_copy(struct sim *s, uint64_t iova, uint8_t *buf, uint64_t len,
		     bool write)
{
	while (len) {
		uint64_t n = MIN(len, PAGE_SIZE - iova % PAGE_SIZE);
		uint8_t *p = dma(s, iova, n, write);

		if (!p)
			return;
		memcpy(write ? p : buf, write ? buf : p, n);
		buf += n;
		iova += n;
		len -= n;
	}
}

static void *dma_desc(struct sim *s, const struct sim_queue *q, uint32_t i,
		      bool write)
{
	return dma(s, q->base + (uint64_t)i * IGB_DESC_SIZE, IGB_DESC_SIZE,
		   write);
}

static void flush_locked(struct sim *s, unsigned int n)
{
	struct sim_dev *d = &s->dev;
	unsigned int done = 0;

	for (; done < n && done < d->nwb; done++) {
		struct sim_wb *w = &d->wb[done];
		union igb_desc *slot;

		if (!w->rx && s->o.head_words) {
			uint32_t *word = (void *)dma(s, s->head_word, 4, true);

			if (word)
				__atomic_store_n(word, w->idx,
						 __ATOMIC_RELEASE);
			continue;
		}
		slot = dma_desc(s, w->rx ? &d->rx : &d->tx, w->idx, true);
		if (!slot)
			continue;
		__atomic_store_n(&slot->qw[0], w->d.qw[0], __ATOMIC_RELAXED);
		__atomic_store_n(&slot->qw[1], w->d.qw[1], __ATOMIC_RELEASE);
		d->written++;
		if (!s->o.head_first && w->rx)
			set(s, IGBVF_RDH, (w->idx + 1) % d->rx.n);
	}
	memmove(d->wb, d->wb + done, (d->nwb - done) * sizeof(d->wb[0]));
	d->nwb -= done;
}

void sim_dev_flush(struct sim *s, unsigned int n, bool interrupt)
{
	if (!on_bus(s))
		return;
	pthread_mutex_lock(&s->chip);
	flush_locked(s, n);
	pthread_mutex_unlock(&s->chip);
	if (interrupt) {
		fake_pdev_fire(s->fp, 0);
		fake_pdev_fire(s->fp, 1);
	}
}

static void write_back(struct sim *s, struct sim_queue *q, uint32_t idx,
		       const union igb_desc *d)
{
	s->dev.wb[s->dev.nwb++] =
		(struct sim_wb){ .idx = idx, .d = *d, .rx = !q->tx };
	if (s->dev.nwb >= s->o.batch)
		flush_locked(s, s->dev.nwb);
}

static uint32_t avail(const struct sim_queue *q)
{
	return q->on && q->n ? (q->tail + q->n - q->head) % q->n : 0;
}

static uint32_t next(const struct sim_queue *q, uint32_t i)
{
	return (i + 1) % q->n;
}

/* One descriptor's worth of a frame, from its byte 'at'. */
static uint32_t fill(struct sim *s, const union igb_desc *d, uint64_t seq,
		     uint32_t at, uint32_t len, union igb_desc *wb)
{
	uint32_t hdr = 0, body;
	uint8_t part[SIM_BSIZE];

	memset(wb, 0, sizeof(*wb));
	if (s->o.split_hdr && at == 0) {
		hdr = MIN(len, 54u);
		for (uint32_t i = 0; i < hdr; i++)
			part[i] = frame_byte(false, seq, i);
		dma_copy(s, d->qw[1], part, hdr, true);
		wb->dw[0] = hdr << IGB_RXD_HDRLEN_SHIFT | IGB_RXD_SPH;
	}
	body = MIN(len - at - hdr, SIM_BSIZE);
	for (uint32_t i = 0; i < body; i++)
		part[i] = frame_byte(false, seq, at + hdr + i);
	dma_copy(s, d->qw[0], part, body, true);

	if (s->o.legacy) {
		wb->qw[0] = d->qw[0];
		wb->qw[1] = body | 1ull << 32 |
			    (uint64_t)(at + hdr + body == len) << 33;
	} else {
		wb->dw[2] =
			IGB_RXD_DD | (at + hdr + body == len ? IGB_RXD_EOP : 0);
		wb->dw[3] = body;
	}
	return hdr + body;
}

static bool receive(struct sim *s, uint32_t len)
{
	struct sim_dev *d = &s->dev;
	struct sim_queue *q = &d->rx;
	uint32_t need = s->o.split_hdr ? (MAX(len, 55u) - 54 + SIM_BSIZE - 1) /
						 SIM_BSIZE
				       : (len + SIM_BSIZE - 1) / SIM_BSIZE;
	bool gone = !on_bus(s);

	need = MAX(need, 1u);
	if (avail(q) < need || d->nwb + need > ARRAY_SIZE(d->wb))
		return false;
	if (gone) {
		if (!s->o.forget)
			return false;
		/* Emulators: the frame and its write-backs go nowhere. */
		q->head = (q->head + need) % q->n;
		set(s, IGBVF_RDH, q->head);
		d->lost += need;
		return true;
	}
	for (uint32_t at = 0; at < len;) {
		union igb_desc *slot = dma_desc(s, q, q->head, false);
		union igb_desc desc, wb;

		if (!slot)
			return false;
		desc.qw[0] = __atomic_load_n(&slot->qw[0], __ATOMIC_ACQUIRE);
		desc.qw[1] = __atomic_load_n(&slot->qw[1], __ATOMIC_ACQUIRE);
		d->fetched++;
		at += fill(s, &desc, d->rx_seq, at, len, &wb);
		q->head = next(q, q->head);
		if (s->o.head_first)
			set(s, IGBVF_RDH, q->head);
		write_back(s, q, (q->head + q->n - 1) % q->n, &wb);
	}
	d->rx_seq++;
	return true;
}

bool sim_dev_receive(struct sim *s, uint32_t len)
{
	bool ok;

	pthread_mutex_lock(&s->chip);
	ok = receive(s, len);
	pthread_mutex_unlock(&s->chip);
	return ok;
}

static void sent(struct sim *s)
{
	struct sim_dev *d = &s->dev;
	uint64_t seq = d->tx_seq++;

	if (d->part != tx_len(seq)) {
		fail(s, "frame sent with a wrong length or twice", seq,
		     d->part);
		return;
	}
	for (uint32_t i = 0; i < d->part; i++) {
		if (d->frame[i] != frame_byte(true, seq, i)) {
			fail(s, "frame sent with wrong bytes", seq, i);
			return;
		}
	}
}

static bool transmit(struct sim *s)
{
	struct sim_dev *d = &s->dev;
	struct sim_queue *q = &d->tx;
	union igb_desc *slot, desc;
	uint32_t idx = q->head;

	if (!on_bus(s) || !avail(q) || d->nwb + 1 > ARRAY_SIZE(d->wb))
		return false;
	slot = dma_desc(s, q, idx, false);
	if (!slot)
		return false;
	desc.qw[0] = __atomic_load_n(&slot->qw[0], __ATOMIC_ACQUIRE);
	desc.qw[1] = __atomic_load_n(&slot->qw[1], __ATOMIC_ACQUIRE);
	d->fetched++;
	if (!igb_txd_is_ctx(&desc)) {
		uint32_t len = igb_txd_len(&desc);

		if (d->part + len > sizeof(d->frame))
			return false;
		dma_copy(s, desc.qw[0], d->frame + d->part, len, false);
		d->part += len;
		if (desc.dw[2] & IGB_TXD_EOP) {
			sent(s);
			d->part = 0;
		}
	}
	q->head = next(q, idx);
	set(s, IGBVF_TDH, q->head);
	if (s->o.head_words) {
		write_back(s, q, q->head, &desc);
	} else if (desc.dw[2] & IGB_TXD_RS) {
		desc.dw[3] |= IGB_TXD_DD;
		write_back(s, q, idx, &desc);
	}
	return true;
}

bool sim_dev_transmit(struct sim *s)
{
	bool ok;

	pthread_mutex_lock(&s->chip);
	ok = transmit(s);
	pthread_mutex_unlock(&s->chip);
	return ok;
}

static void enable(struct sim *s, struct sim_queue *q)
{
	uint32_t off = queue_off(q);

	q->base = get(s, off + IGB_Q_BAL) | (uint64_t)get(s, off + IGB_Q_BAH)
						    << 32;
	q->n = get(s, off + IGB_Q_LEN) / IGB_DESC_SIZE;
	if (s->o.refuse_heads)
		set(s, off + IGB_Q_HEAD, 0);
	q->head = get(s, off + IGB_Q_HEAD);
	q->tail = q->head;
	set(s, off + IGB_Q_TAIL, q->tail);
	q->on = true;
}

/* Registers are memory; what a write may not do is put back. */
static void write_reg(struct fake_pdev *fp, unsigned int bar, uint32_t off,
		      uint32_t val)
{
	struct sim *s = fp->opaque;
	struct sim_queue *q = off >= IGBVF_TDBAL ? &s->dev.tx : &s->dev.rx;
	uint32_t reg = off - queue_off(q);

	if (bar)
		return;
	if (off == IGBVF_CTRL && val & IGB_CTRL_RST) {
		flush_locked(s, s->dev.nwb);
		s->dev.rx.on = false;
		s->dev.tx.on = false;
		s->dev.part = 0;
		memset(fp->bar[0] + IGBVF_RDBAL, 0, 0x100);
		memset(fp->bar[0] + IGBVF_TDBAL, 0, 0x100);
		return;
	}
	if (off < IGBVF_RDBAL || reg >= IGBVF_QUEUE_STRIDE)
		return;
	switch (reg) {
	case IGB_Q_DCTL:
		if (val & IGB_DCTL_ENABLE && !q->on) {
			enable(s, q);
		} else if (!(val & IGB_DCTL_ENABLE) && q->on) {
			if (on_bus(s))
				flush_locked(s, s->dev.nwb);
			q->on = false;
			if (q->tx)
				s->dev.part = 0;
		}
		break;
	case IGB_Q_TAIL:
		if (q->on && val < q->n)
			q->tail = val;
		else
			set(s, off, q->tail);
		while (s->o.eager && q->tx && sim_dev_transmit(s))
			;
		break;
	case IGB_Q_HEAD:
		if (q->on)
			set(s, off, q->head);
		break;
	}
}

static void on_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
		     uint32_t val)
{
	struct sim *s = fp->opaque;

	pthread_mutex_lock(&s->chip);
	write_reg(fp, bar, off, val);
	pthread_mutex_unlock(&s->chip);
}

/* ---- the driver ---- */

static union igb_desc *rx_slot(struct sim *s, uint32_t i)
{
	return guest_ptr(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE);
}

static union igb_desc *tx_slot(struct sim *s, uint32_t i)
{
	return guest_ptr(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE);
}

static uint64_t take_buf(struct sim *s)
{
	uint32_t i = sim_rand(s, s->g.nfree);
	uint64_t b = s->g.free_buf[i];

	s->g.free_buf[i] = s->g.free_buf[--s->g.nfree];
	return b;
}

static void give_buf(struct sim *s, uint64_t b)
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
		union igb_desc *d = rx_slot(s, i);

		g->rx_buf[i] = take_buf(s);
		g->rx_hdr[i] = s->o.split_hdr ? take_buf(s) : 0;
		g->rx_fill[i] = (uint8_t)sim_rand(s, 256);
		g->rx_marked[i] = false;
		g->rx_used[i] = false;
		memset(guest_ptr(s, g->rx_buf[i]), g->rx_fill[i], SIM_BSIZE);
		wrote(s, g->rx_buf[i], SIM_BSIZE);
		d->qw[0] = g->rx_buf[i];
		d->qw[1] = g->rx_hdr[i];
		wrote(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE,
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
	uint32_t len = tx_len(g->tx_seq), parts = 1 + (uint32_t)g->tx_seq % 3;
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
			p = guest_ptr(s, g->tx_buf[i]);
			for (uint32_t b = 0; b < part; b++)
				p[b] = frame_byte(true, g->tx_seq, at + b);
			wrote(s, g->tx_buf[i], part);
			igb_txd_fill(&d, g->tx_buf[i], (uint16_t)part,
				     left ? 0
					  : IGB_TXD_EOP |
						     (s->o.no_rs ? 0
								 : IGB_TXD_RS));
			at += part;
		}
		g->tx_eop[i] = last + 1;
		*tx_slot(s, i) = d;
		wrote(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE,
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
	return __atomic_load_n(&tx_slot(s, eop)->dw[3], __ATOMIC_ACQUIRE) &
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
		head = __atomic_load_n((uint32_t *)guest_ptr(s, s->head_word),
				       __ATOMIC_ACQUIRE);
	else if (s->o.no_rs)
		head = fake_read(&s->fh, 0, IGBVF_TDH);
	if (head >= s->o.ntx) {
		fail(s, "transmit head outside its ring", head, 0);
		return 0;
	}
	while (g->tx_clean != g->tx_use) {
		uint32_t eop = g->tx_eop[g->tx_clean] - 1, i;

		if (!tx_done(s, eop, head))
			break;
		do {
			i = g->tx_clean;
			if (g->tx_buf[i])
				give_buf(s, g->tx_buf[i]);
			tx_slot(s, i)->dw[3] = 0;
			wrote(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE,
			      IGB_DESC_SIZE);
			g->tx_clean = (i + 1) % s->o.ntx;
		} while (i != eop);
		n++;
	}
	return n;
}

static struct seen look(struct sim *s, uint32_t i)
{
	union igb_desc *d = rx_slot(s, i), c;
	struct seen r = { 0 };

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
static uint32_t verify(struct sim *s, uint32_t i, const struct seen *d,
		       uint32_t at)
{
	struct sim_guest *g = &s->g;
	const uint8_t *p = guest_ptr(s, g->rx_buf[i]);
	const uint8_t *h = d->hdr ? guest_ptr(s, g->rx_hdr[i]) : NULL;

	for (uint32_t k = 0; h && k < d->hdr; k++) {
		if (h[k] != frame_byte(false, g->rx_seq, at + k))
			fail(s, "received header differs", g->rx_seq, k);
	}
	for (uint32_t k = 0; k < d->len; k++) {
		if (p[k] != frame_byte(false, g->rx_seq, at + d->hdr + k)) {
			fail(s, "received frame differs", g->rx_seq, at + k);
			break;
		}
	}
	for (uint32_t k = d->len; k < SIM_BSIZE && !g->rx_used[i]; k++) {
		if (p[k] != g->rx_fill[i]) {
			fail(s, "bytes past a frame changed", g->rx_seq, k);
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
	struct seen d;

	do {
		if (i == g->rx_use)
			return false;
		d = look(s, i);
		if (!d.done)
			return false;
		n++;
		i = (i + 1) % s->o.nrx;
	} while (!d.eop);

	while (n--) {
		union igb_desc *slot;

		i = g->rx_clean;
		slot = rx_slot(s, i);
		d = look(s, i);
		if (d.bad)
			g->lost++;
		else
			at += verify(s, i, &d, at);
		give_buf(s, g->rx_buf[i]);
		if (g->rx_hdr[i])
			give_buf(s, g->rx_hdr[i]);
		slot->qw[1] = 0;
		wrote(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE,
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
	memset(guest_ptr(s, s->foreign + at), v, len);
	memset(s->foreign_ref + at, v, len);
	wrote(s, s->foreign + at, len);
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

void sim_tick(struct sim *s)
{
	bool other;

	vdev_lock(s->v);
	if (s->sh->standing) {
		shadow_stand_look(s->sh, &other);
		if (other)
			shadow_stand_down(s->sh, true);
	}
	vdev_unlock(s->v);
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
			give_buf(s, g->tx_buf[g->tx_clean]);
	}
	for (; g->rx_clean != g->rx_use;
	     g->rx_clean = (g->rx_clean + 1) % s->o.nrx) {
		give_buf(s, g->rx_buf[g->rx_clean]);
		if (g->rx_hdr[g->rx_clean])
			give_buf(s, g->rx_hdr[g->rx_clean]);
	}
	g->rx_use = g->rx_clean = g->tx_use = g->tx_clean = 0;
	g->rx_seq = s->dev.rx_seq;
	g->tx_seq = s->dev.tx_seq;
	memset(guest_ptr(s, s->rx_ring), 0, s->o.nrx * IGB_DESC_SIZE);
	memset(guest_ptr(s, s->tx_ring), 0, s->o.ntx * IGB_DESC_SIZE);
	wrote(s, s->rx_ring, s->o.nrx * IGB_DESC_SIZE);
	wrote(s, s->tx_ring, s->o.ntx * IGB_DESC_SIZE);
	if (s->o.head_words) {
		memset(guest_ptr(s, s->head_word), 0, 4);
		wrote(s, s->head_word, 4);
	}
}

/* ---- judgement ---- */

void sim_log_start(struct sim *s)
{
	memset(s->marked, 0, BITMAP_WORDS(PAGES) * 8);
	memset(s->truth, 0, BITMAP_WORDS(PAGES) * 8);
	s->log = true;
	for (uint32_t i = s->g.rx_clean; i != s->g.rx_use;
	     i = (i + 1) % s->o.nrx)
		s->g.rx_marked[i] = look(s, i).done;
	for (uint64_t p = 0; p < PAGES; p++)
		copy_page(s, p);
}

static void skip(uint8_t *a, const uint8_t *b, uint64_t gpa, uint64_t len)
{
	memcpy(a + gpa, b + gpa, len);
}

void sim_check(struct sim *s)
{
	const uint8_t *ram = s->fh.ram.guest;
	struct sim_guest *g = &s->g;

	if (s->foreign_len &&
	    memcmp(guest_ptr(s, s->foreign), s->foreign_ref, s->foreign_len))
		fail(s, "bytes beside a ring changed", s->foreign, 0);
	if (!s->log)
		return;
	/* Buffers the device may be filling are not yet anybody's. */
	for (uint32_t i = g->rx_clean; i != g->rx_use; i = (i + 1) % s->o.nrx) {
		if (look(s, i).done)
			continue;
		skip(s->dest, ram, g->rx_buf[i], SIM_BSIZE);
		if (g->rx_hdr[i])
			skip(s->dest, ram, g->rx_hdr[i], SIM_HSIZE);
	}
	if (memcmp(s->dest, ram, SIM_RAM)) {
		uint64_t at = 0;

		while (s->dest[at] == ram[at])
			at++;
		fail(s, "a page was not reported, or too early", at,
		     bitmap_test(s->marked, at / PAGE_SIZE));
	}
	/* Written and not yet passed on is neither too much nor too little. */
	bitmap_for_each (p, s->marked, PAGES) {
		s->all_marked++;
		s->all_truth += bitmap_test(s->truth, p);
		bitmap_clear(s->truth, p);
	}
	memset(s->marked, 0, BITMAP_WORDS(PAGES) * 8);
}

void sim_check_rings(struct sim *s)
{
	struct sim_guest *g = &s->g;
	struct sim_queue *q = &s->dev.rx;

	sim_tick(s);
	shadow_sync(s->sh);
	if (s->dev.nwb || shadow_offset(s->sh) || !q->on || s->o.forget)
		return;
	for (uint32_t i = g->rx_clean; i != g->rx_use; i = (i + 1) % s->o.nrx) {
		union igb_desc *v = rx_slot(s, i);
		union igb_desc *d =
			fake_pdev_dma(s->fp,
				      q->base + (uint64_t)i * IGB_DESC_SIZE,
				      IGB_DESC_SIZE);

		if (!d || v->qw[0] != d->qw[0] || v->qw[1] != d->qw[1])
			fail(s, "receive slot differs after sync", i, 0);
	}
	q = &s->dev.tx;
	for (uint32_t i = q->head; q->on && i != q->tail; i = next(q, i)) {
		union igb_desc *v = tx_slot(s, i);
		union igb_desc *d =
			fake_pdev_dma(s->fp,
				      q->base + (uint64_t)i * IGB_DESC_SIZE,
				      IGB_DESC_SIZE);

		if (!d || v->qw[0] != d->qw[0] || v->qw[1] != d->qw[1])
			fail(s, "transmit slot differs after sync", i, 0);
	}
}

void sim_settle(struct sim *s)
{
	struct sim_guest *g = &s->g;

	sim_guest_kick(s);
	for (unsigned int i = 0; i < 8; i++) {
		sim_tick(s);
		while (sim_dev_transmit(s))
			;
		sim_dev_flush(s, 2 * SIM_SLOTS, true);
		shadow_sync(s->sh);
		while (sim_guest_poll(s, 64))
			;
	}
	if (g->tx_seq != s->dev.tx_seq || g->tx_clean != g->tx_use)
		fail(s, "frames were not sent, or the driver not told",
		     g->tx_seq, s->dev.tx_seq);
	if (g->rx_seq != s->dev.rx_seq)
		fail(s, "frames received were lost or doubled", g->rx_seq,
		     s->dev.rx_seq);
}

/* ---- the other host ---- */

/* Frames in the ring that the guest has not looked at yet. */
static unsigned int frames_waiting(struct sim *s)
{
	unsigned int n = 0;

	for (uint32_t i = s->g.rx_clean; i != s->g.rx_use;
	     i = (i + 1) % s->o.nrx) {
		struct seen d = look(s, i);

		if (!d.done)
			break;
		n += d.eop && !d.bad;
	}
	return n;
}

int sim_move(struct sim *src, struct sim *dst, struct shadow_drain *d)
{
	uint8_t vf[IGB_VFSTATE_MAX], fn[4096];
	struct igb_vf_state st;
	struct wire_out o;
	struct wire_in in;
	int ret = shadow_drain(src->sh, 0, &st, d, NULL);

	if (ret)
		return ret;
	sim_check(src);
	wire_out_init(&o, fn, sizeof(fn));
	vdev_save(src->v, &o);
	wire_in_init(&in, fn, wire_used(&o));
	ret = o.err ? o.err : vdev_load(dst->v, &in, NULL);
	wire_out_init(&o, vf, sizeof(vf));
	igb_vf_save(&st, &o);
	wire_in_init(&in, vf, wire_used(&o));
	memset(&st, 0xa5, sizeof(st));
	if (ret == 0)
		ret = o.err ? o.err : igb_vf_load(&st, &in, NULL);
	if (ret)
		return ret;

	memcpy(dst->fh.ram.guest, src->dest, SIM_RAM);
	dst->g = src->g;
	for (uint32_t i = 0; i < SIM_SLOTS; i++)
		dst->g.rx_used[i] = true;
	memcpy(dst->foreign_ref, src->foreign_ref, sizeof(dst->foreign_ref));
	dst->dev.tx_seq = src->dev.tx_seq;
	dst->dev.rx_seq = dst->g.rx_seq + frames_waiting(dst);

	/* The device sees no work before it may: it would act on it. */
	ret = shadow_adopt(dst->sh, &st, NULL);
	if (ret)
		return ret;
	if (sim_dev_receive(dst, 100) || sim_dev_transmit(dst))
		fail(dst, "DMA before the start", 0, 0);
	return shadow_start(dst->sh, NULL);
}

/* ---- set up ---- */

static void layout(struct sim *s)
{
	uint64_t at = 0x10000;
	uint32_t rx = s->o.nrx * IGB_DESC_SIZE, tx = s->o.ntx * IGB_DESC_SIZE;

	if (s->o.tight) {
		/* Rings, words and buffers side by side, pages shared. */
		s->rx_ring = at + 0x400;
		s->tx_ring = ALIGN_UP(s->rx_ring + rx, 128);
		s->foreign = s->tx_ring + tx;
		s->foreign_len = 200;
		s->head_word = ALIGN_UP(s->foreign + s->foreign_len, 16);
		at = ALIGN_UP(s->head_word + 16, 64);
	} else {
		s->rx_ring = at;
		s->tx_ring = ALIGN_UP(at + rx, PAGE_SIZE);
		s->head_word = ALIGN_UP(s->tx_ring + tx, PAGE_SIZE) + 0x40;
		at = ALIGN_UP(s->head_word, PAGE_SIZE);
	}
	for (unsigned int i = 0; i < 3 * SIM_SLOTS; i++, at += SIM_BSIZE)
		give_buf(s, at);
}

int sim_init(struct sim *s, const struct sim_opts *o)
{
	pthread_mutexattr_t attr;
	int ret;

	memset(s, 0, sizeof(*s));
	s->o = *o;
	s->o.batch = MAX(s->o.batch, 1u);
	s->rnd = o->seed * 2 + 88172645463325252ull;
	s->dest = malloc(SIM_RAM);
	s->marked = bitmap_alloc(PAGES);
	s->truth = bitmap_alloc(PAGES);
	if (!s->dest || !s->marked || !s->truth)
		return -ENOMEM;
	ret = fake_host_init(&s->fh, SIM_RAM);
	if (ret)
		return ret;
	if (o->unit)
		s->fh.ram.page = o->unit;
	s->ops = *s->fh.h.ops;
	s->ops.mark_dirty = mark_dirty;
	s->ops.pause = sim_pause;
	s->ops.resume = sim_resume;
	s->fh.h.ops = &s->ops;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&s->turn, &attr);
	pthread_mutex_init(&s->chip, &attr);
	pthread_mutexattr_destroy(&attr);

	ret = fake_pdev_open(&s->fp, IGB_VENDOR_INTEL, IGB_DEV_82576_VF);
	if (ret)
		return ret;
	/* Every access must reach on_write(). */
	s->fp->nomap[0] = 0xf;
	s->fp->on_write = on_write;
	s->fp->opaque = s;
	s->dev.tx.tx = true;
	ret = loop_create(&s->loop);
	if (ret == 0)
		ret = vdev_create(&s->v, "sim", vdev_model_find("igb/82576"),
				  &s->fh.h, s->loop, NULL);
	if (ret)
		return ret;
	fake_plug(&s->fh, vdev_func(s->v));
	ret = vdev_bind(s->v, &s->fp->p, VDEV_SOFTWARE, NULL);
	if (ret == 0)
		fake_msix_on(&s->fh, vdev_model_find("igb/82576"));
	if (ret == 0)
		ret = shadow_create(&s->sh, s->v, &o->shadow, NULL);
	layout(s);
	return ret;
}

void sim_fini(struct sim *s)
{
	shadow_destroy(s->sh);
	vdev_destroy(s->v);
	loop_destroy(s->loop);
	fake_host_fini(&s->fh);
	pthread_mutex_destroy(&s->turn);
	pthread_mutex_destroy(&s->chip);
	free(s->dest);
	free(s->marked);
	free(s->truth);
}
