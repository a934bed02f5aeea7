/*
 * The checker checked: two traffic ends joined by hand, with frames dropped,
 * doubled, swapped and spoilt on the way.  A checker that cannot complain
 * proves nothing.
 */
#include "traffic.h"

static struct igbvf dev[2];
static struct traffic end[2];
static struct {
	uint8_t data[IGBVF_BUF];
	uint32_t len;
} box[64];

static void make(unsigned int i)
{
	struct igbvf *v = &dev[i];

	memset(v, 0, sizeof(*v));
	v->bar = dma_alloc(0x4000, PAGE);
	v->link = true;
	v->mac[0] = 2;
	v->mac[5] = (uint8_t)i;
	v->tx.n = 256;
	v->tx.desc = dma_alloc(v->tx.n * sizeof(*v->tx.desc), PAGE);
	v->tx.buf = dma_alloc((size_t)v->tx.n * IGBVF_BUF, PAGE);
	v->tx.eop = dma_alloc(v->tx.n * sizeof(*v->tx.eop), 8);
	traffic_init(&end[i], v, i + 1);
	end[i].epoch = 7 + i;
	end[i].size = 300;
	end[i].wanted = 1;
	end[i].window = 24;
	end[i].ack_every = 4;
}

/* All that end 'i' has queued, taken off its ring. */
static unsigned int collect(unsigned int i)
{
	struct igbvf_ring *r = &dev[i].tx;
	unsigned int n = 0;

	for (; r->clean != r->use; r->clean = (r->clean + 1) % r->n) {
		union igb_desc *d = &r->desc[r->clean];

		check(n < ARRAY_SIZE(box));
		box[n].len = igb_txd_len(d);
		memcpy(box[n].data, (void *)d->qw[0], box[n].len);
		n++;
	}
	return n;
}

static void give(unsigned int i, unsigned int k)
{
	traffic_rx(&end[i], box[k].data, box[k].len, 0);
}

static void deliver(unsigned int from)
{
	unsigned int n = collect(from);

	for (unsigned int k = 0; k < n; k++)
		give(!from, k);
}

static void meet(void)
{
	make(0);
	make(1);
	end[0].on = end[1].on = false;
	for (int i = 0; i < 3; i++) {
		end[0].next_hello = end[1].next_hello = 0;
		traffic_send(&end[0]);
		deliver(0);
		traffic_send(&end[1]);
		deliver(1);
	}
	/* The answers that are still owed. */
	end[0].next_hello = end[1].next_hello = ~0ull;
	for (unsigned int i = 0; i < 2; i++) {
		traffic_send(&end[i]);
		deliver(i);
	}
	check(end[0].npeers == 1 && end[1].npeers == 1);
	check(end[0].peer[0].knows && end[1].peer[0].knows);
}

/* A batch of data frames from end 0 in the box; returns how many. */
static unsigned int batch(void)
{
	unsigned int n;

	end[0].next_hello = ~0ull;
	end[0].on = true;
	traffic_send(&end[0]);
	end[0].on = false;
	n = collect(0);
	check(n >= 8);
	return n;
}

static void expect(uint64_t lost, uint64_t doubled, uint64_t reordered,
		   uint64_t corrupt)
{
	const struct peer *p = &end[1].peer[0];

	check(p->lost == lost);
	check(p->doubled == doubled);
	check(p->reordered == reordered);
	check(p->corrupt == corrupt);
	check(traffic_clean(&end[1]) ==
	      !(lost | doubled | reordered | corrupt));
}

static void all_is_well(void)
{
	meet();
	end[0].count = end[1].count = 1000;
	end[0].on = end[1].on = true;
	end[0].next_hello = end[1].next_hello = ~0ull;
	for (int i = 0; i < 10000 && !traffic_done(&end[1]); i++) {
		traffic_send(&end[0]);
		deliver(0);
		traffic_send(&end[1]);
		deliver(1);
	}
	check(traffic_done(&end[0]) || end[0].peer[0].acked >= 990);
	check(end[1].peer[0].got == 1000 && end[0].peer[0].got == 1000);
	expect(0, 0, 0, 0);
}

static void one_is_dropped(void)
{
	unsigned int n;

	meet();
	n = batch();
	for (unsigned int k = 0; k < n; k++)
		if (k != 3)
			give(1, k);
	expect(1, 0, 0, 0);
	check(end[1].peer[0].got == n - 1);
}

static void one_comes_twice(void)
{
	unsigned int n;

	meet();
	n = batch();
	for (unsigned int k = 0; k < n; k++)
		give(1, k);
	give(1, 2);
	give(1, n - 1);
	expect(0, 2, 0, 0);
	check(end[1].peer[0].got == n);
}

static void one_overtakes(void)
{
	unsigned int n;

	meet();
	n = batch();
	for (unsigned int k = 0; k < n; k++)
		give(1, k == 4 ? 5 : k == 5 ? 4 : k);
	expect(0, 0, 1, 0);
	check(end[1].peer[0].got == n);
}

/* Each byte in turn: none may be wrong unnoticed. */
static void one_is_spoilt(void)
{
	uint64_t bad = 0;
	uint32_t len;

	meet();
	batch();
	len = box[0].len;
	for (uint32_t i = 0; i < len; i++) {
		const struct peer *p = &end[1].peer[0];
		uint64_t got = p->got;

		box[0].data[i] ^= 0x10;
		give(1, 0);
		box[0].data[i] ^= 0x10;
		check(p->got == got);
		bad = p->corrupt + end[1].strangers;
		check(bad == i + 1);
	}
	traffic_rx(&end[1], box[0].data, len - 1, 0);
	traffic_rx(&end[1], box[0].data, len, 5);
	check(end[1].peer[0].corrupt + end[1].strangers == bad + 2);
	check(end[1].peer[0].got == 0);
	give(1, 0);
	check(end[1].peer[0].got == 1);
}

/* The last frames are lost: asking finds it out. */
static void the_tail_is_lost(void)
{
	unsigned int n;

	meet();
	n = batch();
	end[0].count = end[0].peer[0].sent;
	for (unsigned int k = 0; k + 2 < n; k++)
		give(1, k);
	expect(0, 0, 0, 0);
	delay_ns(250000000);
	end[0].on = true;
	traffic_send(&end[0]);
	deliver(0);
	expect(2, 0, 0, 0);
	end[1].on = true;
	traffic_send(&end[1]);
	deliver(1);
	check(end[0].peer[0].acked == end[0].count);
}

/* Who is quiet has no other way to say that it knows us. */
static void an_answer_is_lost(void)
{
	meet();
	end[0].peer[0].knows = false;
	end[0].next_hello = 0;
	traffic_send(&end[0]);
	deliver(0);
	traffic_send(&end[1]);
	deliver(1);
	check(end[0].peer[0].knows);
}

/* A frame out and its acknowledgement back is one round trip. */
static void round_trips(void)
{
	static struct rtt r;

	for (uint64_t i = 1; i <= 1000; i++)
		rtt_add(&r, i * 1000);
	check(r.n == 1000);
	check(rtt_permille(&r, 500) >= 500000);
	check(rtt_permille(&r, 500) <= 500000 + 500000 / 256);
	check(rtt_permille(&r, 990) >= 990000);
	check(rtt_permille(&r, 990) <= 990000 + 990000 / 256);
	rtt_clear(&r);
	check(rtt_permille(&r, 990) == 0);

	meet();
	end[0].ping = end[0].on = true;
	end[0].window = end[1].ack_every = 1;
	end[0].next_hello = end[1].next_hello = ~0ull;
	for (int i = 0; i < 10; i++) {
		traffic_send(&end[0]);
		deliver(0);
		delay_ns(20000);
		traffic_send(&end[1]);
		deliver(1);
	}
	check(end[0].rtt.n == 10);
	check(rtt_permille(&end[0].rtt, 1) >= 20000);
}

int checker(void)
{
	all_is_well();
	one_is_dropped();
	one_comes_twice();
	one_overtakes();
	one_is_spoilt();
	the_tail_is_lost();
	an_answer_is_lost();
	round_trips();
	printf("O checker\n");
	return 0;
}
