#include "rtt.h"

#include "guest.h"

void rtt_clear(struct rtt *r)
{
	memset(r, 0, sizeof(*r));
}

/* Below RTT_PARTS a class a nanosecond, then RTT_PARTS for each octave. */
static uint32_t class_of(uint64_t ns)
{
	uint32_t octave = 0, c;

	while (ns >> octave >= 2 * RTT_PARTS)
		octave++;
	c = octave * RTT_PARTS + (uint32_t)(ns >> octave);
	return c < RTT_CLASSES ? c : RTT_CLASSES - 1;
}

static uint64_t end_of(uint32_t c)
{
	uint32_t octave = c < 2 * RTT_PARTS ? 0 : c / RTT_PARTS - 1;

	return ((uint64_t)(c - octave * RTT_PARTS) + 1) << octave;
}

void rtt_add(struct rtt *r, uint64_t ns)
{
	r->count[class_of(ns)]++;
	r->n++;
}

uint64_t rtt_permille(const struct rtt *r, uint64_t permille)
{
	uint64_t want = (r->n * permille + 999) / 1000, sum = 0;

	for (uint32_t c = 0; c < RTT_CLASSES && r->n; c++) {
		sum += r->count[c];
		if (sum >= want)
			return end_of(c);
	}
	return 0;
}

void rtt_print(const struct rtt *r, char letter)
{
	printf("%c n=%lu p50_ns=%lu p90_ns=%lu p99_ns=%lu p999_ns=%lu\n",
	       letter, r->n, rtt_permille(r, 500), rtt_permille(r, 900),
	       rtt_permille(r, 990), rtt_permille(r, 999));
}
