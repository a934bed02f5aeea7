/*
 * The device.
 */
#include <string.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "shadow/sim_priv.h"

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
		sim_fail(s, "DMA outside guest RAM", iova, len);
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
			part[i] = sim_frame_byte(false, seq, i);
		dma_copy(s, d->qw[1], part, hdr, true);
		wb->dw[0] = hdr << IGB_RXD_HDRLEN_SHIFT | IGB_RXD_SPH;
	}
	body = MIN(len - at - hdr, SIM_BSIZE);
	for (uint32_t i = 0; i < body; i++)
		part[i] = sim_frame_byte(false, seq, at + hdr + i);
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
		q->head = sim_next(q, q->head);
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

	if (d->part != sim_tx_len(seq)) {
		sim_fail(s, "frame sent with a wrong length or twice", seq,
			 d->part);
		return;
	}
	for (uint32_t i = 0; i < d->part; i++) {
		if (d->frame[i] != sim_frame_byte(true, seq, i)) {
			sim_fail(s, "frame sent with wrong bytes", seq, i);
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
	q->head = sim_next(q, idx);
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

void sim_on_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
		  uint32_t val)
{
	struct sim *s = fp->opaque;

	pthread_mutex_lock(&s->chip);
	write_reg(fp, bar, off, val);
	pthread_mutex_unlock(&s->chip);
}
