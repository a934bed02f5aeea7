/*
 * Memory with something in it, and a writer that keeps a pace: what a
 * migration without devices has to carry.  Arguments: mb, rate (MiB/s of
 * pages touched, 0: none).
 */
#include "guest.h"

#define START	 (16ull << 20)
#define SLICE_NS 200000ull

static volatile uint32_t never;

int guest_main(void)
{
	uint64_t bytes = arg_u64("mb", 32) << 20, at = START, done = 0, t0;
	uint64_t rate = (arg_u64("rate", 0) << 20) / PAGE; /* pages a second */

	for (uint64_t i = 0; i < bytes; i += 8)
		*(uint64_t *)(START + i) = i * 0x9e3779b97f4a7c15ull | 1;
	printf("G filled mb=%lu\n", bytes >> 20);
	t0 = now_ns();
	while (!rate)
		halt_if(&never, 0);
	for (;;) {
		uint64_t due = (now_ns() - t0) / 1000 * rate / 1000000;

		for (; done < due; done++) {
			++*(uint64_t *)at;
			at += PAGE;
			if (at == START + bytes)
				at = START;
		}
		delay_ns(SLICE_NS);
	}
}
