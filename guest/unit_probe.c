/*
 * Functions to put probes on, which count their own calls: what the probes
 * say is held against that.  They end in all the ways optimised code does.
 *
 * It waits for a line on the console, calls them all over and over on each
 * CPU until another comes, waits for those under way, and prints what they
 * counted.
 */
#include "guest.h"
#include "unit.h"

/* Each is called from outside, as far as the compiler knows. */
#define PROBED static __attribute__((noipa))

enum fn {
	LEAF,
	TAIL,
	CHAIN,
	EVEN,
	ODD,
	POINTER,
	COND,
	ARGS,
	SUM8,
	SLOW,
	SWITCH,
	FNS
};

static const char *const names[FNS] = {
	"p_leaf", "p_tail", "p_chain", "p_even", "p_odd",    "p_pointer",
	"p_cond", "p_args", "p_sum8",  "p_slow", "p_switch",
};

static uint64_t calls[FNS];
static volatile uint32_t stop, busy;
static volatile uint64_t wrong;

static void called(enum fn f)
{
	__atomic_fetch_add(&calls[f], 1, __ATOMIC_RELAXED);
}

PROBED uint64_t p_leaf(uint64_t x)
{
	called(LEAF);
	return x * 3 + 1;
}

PROBED uint64_t p_tail(uint64_t x)
{
	called(TAIL);
	return p_leaf(x + 1);
}

PROBED uint64_t p_chain(uint64_t x)
{
	called(CHAIN);
	return p_tail(x + 1);
}

PROBED uint64_t p_odd(uint64_t n);

PROBED uint64_t p_even(uint64_t n)
{
	called(EVEN);
	return n ? p_odd(n - 1) : 1;
}

PROBED uint64_t p_odd(uint64_t n)
{
	called(ODD);
	return n ? p_even(n - 1) : 0;
}

static uint64_t (*const volatile table[2])(uint64_t) = { p_leaf, p_tail };

PROBED uint64_t p_pointer(uint64_t x)
{
	called(POINTER);
	return table[x & 1](x);
}

PROBED uint64_t p_cond(uint64_t x)
{
	called(COND);
	if (x & 4)
		return p_leaf(x);
	return x;
}

PROBED uint64_t p_sum8(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		       uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
	called(SUM8);
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

/* The last two arguments are on the stack, where the jump leaves them. */
PROBED uint64_t p_args(uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		       uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
	called(ARGS);
	return p_sum8(b, a, c, d, e, f, h, g);
}

/* Long enough for a migration to find it half done. */
PROBED uint64_t p_slow(uint64_t x)
{
	uint64_t end = now_ns() + 20000000;

	called(SLOW);
	while (now_ns() < end)
		cpu_relax();
	return p_leaf(x);
}

/* A jump table and no tail call, but for one case. */
PROBED uint64_t p_switch(uint64_t x)
{
	called(SWITCH);
	switch (x % 8) {
	case 0: return x + 11;
	case 1: return x * 5;
	case 2: return x ^ 77;
	case 3: return p_leaf(x);
	case 4: return x - 9;
	case 5: return x << 3;
	case 6: return ~x;
	default: return x / 3;
	}
}

static uint64_t leaf(uint64_t x)
{
	return x * 3 + 1;
}

static void one_round(uint64_t i)
{
	static const uint8_t parity[2] = { 1, 0 };
	bool ok = p_chain(i) == leaf(i + 2) &&
		  p_even(i % 7) == parity[i % 7 & 1] &&
		  p_pointer(i) == leaf(i + (i & 1)) &&
		  p_cond(i) == (i & 4 ? leaf(i) : i) &&
		  p_args(1, 2, 3, 4, 5, 6, 7, i) ==
			  2 + 2 * 1 + 9 + 16 + 25 + 36 + 7 * i + 56 &&
		  p_switch(i | 3) ==
			  ((i | 3) % 8 == 3 ? leaf(i | 3) : (i | 3) / 3) &&
		  (i % 64 || p_slow(i) == leaf(i));

	if (!ok)
		wrong = i + 1;
}

static void worker(void *p)
{
	__atomic_fetch_add(&busy, 1, __ATOMIC_SEQ_CST);
	for (uint64_t i = 0; !stop; i++) {
		uint64_t end = now_ns() + 200000;

		/* The first is in one call or between two, all the time. */
		if (p == &calls[SLOW])
			wrong += p_slow(i) != leaf(i);
		else
			one_round(i);
		while (now_ns() < end)
			cpu_relax();
	}
	__atomic_fetch_sub(&busy, 1, __ATOMIC_SEQ_CST);
}

static void stopper(void)
{
	while (getbyte() != '\n')
		delay_ns(1000000);
}

int test_probe(void)
{
	unsigned int n = (unsigned int)arg_u64("cpus", 1);

	printf("ready\n");
	stopper();
	/* This CPU listens; work is for the others, if there are any. */
	for (unsigned int i = 1; i < n; i++)
		check(cpu_start(i, worker, i == 1 ? &calls[SLOW] : NULL));
	while (n > 1 && busy < n - 1)
		cpu_relax();
	printf("working\n");
	if (n == 1)
		for (uint64_t i = 0; getbyte() != '\n'; i++)
			one_round(i);
	else
		stopper();
	stop = 1;
	while (busy)
		cpu_relax();
	for (unsigned int i = 0; i < FNS; i++)
		printf("calls %s %lu\n", names[i], calls[i]);
	printf("wrong %lu\n", wrong);
	/* Work without probes, if they have been taken away: for a crash. */
	stopper();
	for (uint64_t i = 0; i < 200; i++)
		one_round(i);
	printf("done\n");
	return wrong != 0;
}
