#include "dirty.h"

#define WORDS  (PAGE / 8)
#define STRIDE 64u /* words between two that are written: a cache line in 8 */

static uint64_t word(uint64_t page, uint64_t round, uint64_t i)
{
	uint64_t x = page << 40 ^ round << 16 ^ i;

	x *= 0x9e3779b97f4a7c15ull;
	return x ^ x >> 31;
}

static bool as_left(const struct dirty *d, uint64_t page, uint64_t round)
{
	const uint64_t *p = (const uint64_t *)(d->ram + page * PAGE);

	for (uint64_t i = 0; i < WORDS; i += STRIDE)
		if (p[i] != (round ? word(page, round, i) : 0))
			return false;
	return true;
}

static void step(struct dirty *d)
{
	uint64_t *p = (uint64_t *)(d->ram + d->at * PAGE);

	if (!as_left(d, d->at, d->round))
		d->bad++;
	for (uint64_t i = 0; i < WORDS; i += STRIDE)
		p[i] = word(d->at, d->round + 1, i);
	if (++d->at == d->pages) {
		d->at = 0;
		d->round++;
	}
}

void dirty_set_rate(struct dirty *d, uint64_t mib)
{
	d->rate = d->pages ? mib * (1048576 / PAGE) : 0;
	d->start = now_ns();
	d->done = 0;
}

void dirty_run(struct dirty *d)
{
	uint64_t due;

	if (!d->rate)
		return;
	due = (now_ns() - d->start) / 1000 * d->rate / 1000000;
	if (due > d->done + d->rate / 10) {
		/* We were stopped for longer: that is not made good. */
		d->start = now_ns();
		d->done = 0;
		return;
	}
	for (unsigned int n = 0; d->done < due && n < 16; n++, d->done++)
		step(d);
}

uint64_t dirty_verify(struct dirty *d)
{
	uint64_t bad = 0;

	for (uint64_t i = 0; i < d->pages; i++)
		bad += !as_left(d, i, d->round + (i < d->at));
	d->bad += bad;
	return bad;
}

void dirty_print(const struct dirty *d)
{
	printf("D pages=%lu rounds=%lu at=%lu rate=%lu bad=%lu\n", d->pages,
	       d->round, d->at, d->rate, d->bad);
}

void dirty_init(struct dirty *d)
{
	uint64_t mib = arg_u64("dirty_mb", 0);

	memset(d, 0, sizeof(*d));
	if (mib) {
		d->ram = dma_alloc(mib << 20, PAGE);
		d->pages = mib * (1048576 / PAGE);
	}
	dirty_set_rate(d, arg_u64("dirty_rate", 0));
}
