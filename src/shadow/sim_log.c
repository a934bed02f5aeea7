/*
 * The dirty log and the judge.
 */
#include <string.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "shadow/sim_priv.h"

void sim_fail(struct sim *s, const char *what, uint64_t a, uint64_t b)
{
	if (s->fault)
		return;
	s->fault = what;
	s->fault_arg[0] = a;
	s->fault_arg[1] = b;
}

static void copy_page(struct sim *s, uint64_t page)
{
	memcpy(s->dest + page * PAGE_SIZE,
	       (uint8_t *)s->fh.ram.guest + page * PAGE_SIZE, PAGE_SIZE);
}

/*
 * No completion may be seen whose page is not reported.  Marks and stores
 * alternate, so looking at each mark finds the wrong order.
 */
static void check_order(struct sim *s, uint64_t gpa, uint64_t len)
{
	struct sim_guest *g = &s->g;
	uint32_t i;

	for (i = g->rx_clean; i != g->rx_use; i = (i + 1) % s->o.nrx) {
		struct sim_seen d = sim_look(s, i);

		if (d.done && d.len && !d.bad && !g->rx_marked[i])
			sim_fail(
				s,
				"a completion seen before its page is reported",
				i, g->rx_buf[i]);
		if (!d.done && g->rx_buf[i] < gpa + len &&
		    gpa < g->rx_buf[i] + SIM_BSIZE)
			g->rx_marked[i] = true;
	}
}

void sim_mark_dirty(struct host *h, gpa_t gpa, uint64_t len)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (!s->log)
		return;
	if (!len || gpa.v >= SIM_RAM || len > SIM_RAM - gpa.v) {
		sim_fail(s, "mark outside RAM", gpa.v, len);
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
void sim_wrote(struct sim *s, uint64_t gpa, uint64_t len)
{
	if (!s->log)
		return;
	for (uint64_t p = gpa / PAGE_SIZE; p <= (gpa + len - 1) / PAGE_SIZE;
	     p++)
		copy_page(s, p);
}

void sim_log_start(struct sim *s)
{
	memset(s->marked, 0, BITMAP_WORDS(PAGES) * 8);
	memset(s->truth, 0, BITMAP_WORDS(PAGES) * 8);
	s->log = true;
	for (uint32_t i = s->g.rx_clean; i != s->g.rx_use;
	     i = (i + 1) % s->o.nrx)
		s->g.rx_marked[i] = sim_look(s, i).done;
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
	    memcmp(sim_ptr(s, s->foreign), s->foreign_ref, s->foreign_len))
		sim_fail(s, "bytes beside a ring changed", s->foreign, 0);
	if (!s->log)
		return;
	/* Buffers the device may be filling are not yet anybody's. */
	for (uint32_t i = g->rx_clean; i != g->rx_use; i = (i + 1) % s->o.nrx) {
		if (sim_look(s, i).done)
			continue;
		skip(s->dest, ram, g->rx_buf[i], SIM_BSIZE);
		if (g->rx_hdr[i])
			skip(s->dest, ram, g->rx_hdr[i], SIM_HSIZE);
	}
	if (memcmp(s->dest, ram, SIM_RAM)) {
		uint64_t at = 0;

		while (s->dest[at] == ram[at])
			at++;
		sim_fail(s, "a page was not reported, or too early", at,
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
		union igb_desc *v = sim_rx_slot(s, i);
		union igb_desc *d =
			fake_pdev_dma(s->fp,
				      q->base + (uint64_t)i * IGB_DESC_SIZE,
				      IGB_DESC_SIZE);

		if (!d || v->qw[0] != d->qw[0] || v->qw[1] != d->qw[1])
			sim_fail(s, "receive slot differs after sync", i, 0);
	}
	q = &s->dev.tx;
	for (uint32_t i = q->head; q->on && i != q->tail; i = sim_next(q, i)) {
		union igb_desc *v = sim_tx_slot(s, i);
		union igb_desc *d =
			fake_pdev_dma(s->fp,
				      q->base + (uint64_t)i * IGB_DESC_SIZE,
				      IGB_DESC_SIZE);

		if (!d || v->qw[0] != d->qw[0] || v->qw[1] != d->qw[1])
			sim_fail(s, "transmit slot differs after sync", i, 0);
	}
}
