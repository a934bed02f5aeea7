/*
 * What the mailbox costs: toggling its page under a running vCPU, a whole
 * exchange as the guest's driver sees it, and nothing in steady state.
 *
 * Run with the test guest; skipped (77) where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "goal.h"
#include "world.h"

#define TOGGLES 2000
#define REINITS 100
#define FRAMES	1200000ull
#define WAIT_MS 60000
#define EVENTS	65536

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double us(const uint64_t *ns, size_t n)
{
	return (double)ns[n] / 1e3;
}

/* Returns the 99th percentile in us. */
static double print(const char *what, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("%-28s n %zu  median %7.1f us  p99 %8.1f us  max %8.1f us\n",
	       what, n, us(ns, n / 2), us(ns, n * 99 / 100), us(ns, n - 1));
	return us(ns, n * 99 / 100);
}

/* The guest polls its rings and never leaves guest mode by itself. */
static void toggle(struct vdev *v)
{
	static uint64_t trap[TOGGLES], untrap[TOGGLES];
	double in, out;

	for (size_t i = 0; i < TOGGLES; i++) {
		uint64_t t0 = now_ns(), t1, t2;

		assert_int_equal(vdev_trap(v, 0, 0, VDEV_TRAP_STATS), 0);
		t1 = now_ns();
		assert_int_equal(vdev_untrap(v, 0, 0, VDEV_TRAP_STATS), 0);
		t2 = now_ns();
		trap[i] = t1 - t0;
		untrap[i] = t2 - t1;
	}
	in = print("trap, vCPU running", trap, TOGGLES);
	out = print("untrap, vCPU running", untrap, TOGGLES);
	goal_most("p99 of the mailbox page trapped, and of it direct",
		  MAX(in, out), 100, "us");
}

/* From the PF driver's interrupt to the page direct, by the trace. */
static void exchanges(struct world *w, struct trace *t)
{
	static struct trace_event ev[EVENTS];
	static uint64_t whole[EVENTS], answer[EVENTS];
	uint64_t rung = 0, ups = world_stat(w, 0, "V", "ups"), mark;
	size_t n, nw = 0, na = 0;

	mark = trace_last(t);
	for (uint64_t i = 1; i <= REINITS; i++) {
		world_say(w, 0, "reinit");
		if (!world_reaches(w, 0, "V", "ups", ups + i, WAIT_MS))
			fail_msg("the link does not come back");
	}
	n = trace_read(t, mark, ev, EVENTS, NULL);
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(ev[i].what, "pf-request"))
			rung = ev[i].ns;
		else if (rung && !strcmp(ev[i].what, "publish"))
			answer[na++] = ev[i].ns - rung;
		else if (rung && !strcmp(ev[i].what, "ack")) {
			whole[nw++] = ev[i].ns - rung;
			rung = 0;
		}
	}
	/* The least patience a stock driver has, with a reset. */
	goal_most("p99 of an exchange, rung to answered",
		  print("rung to answered", answer, na), 1000, "us");
	print("rung to acknowledged", whole, nw);
}

static void steady(struct world *w)
{
	struct vdev_counts a, b;
	uint64_t tails = world_stat(w, 0, "V", "tails") +
			 world_stat(w, 0, "V", "refills");
	uint64_t hits;

	vdev_get_counts(w->g[0].v, &a);
	world_say(w, 0, "start");
	world_say(w, 1, "start");
	if (!world_reaches(w, 0, "T", "acked", FRAMES, 2 * WAIT_MS))
		printf("(not all frames in time)\n");
	vdev_get_counts(w->g[0].v, &b);
	tails = world_stat(w, 0, "V", "tails") +
		world_stat(w, 0, "V", "refills") - tails;
	hits = b.mbx_page + b.doorbell - a.mbx_page - a.doorbell;
	printf("steady state: %llu hot-register accesses, %llu intercepts\n",
	       (unsigned long long)tails, (unsigned long long)hits);
	goal_most("intercepts per million hot-register accesses",
		  (double)hits * 1e6 / (double)tails, 0, "");
}

static void run(void **state)
{
	static struct nic_conf nic = { .model = NIC_82576,
				       .vfs = WORLD_GUESTS,
				       .direct_pages = 0xd,
				       .mac = { 2, 0x70, 0x67, 0, 0, 1 } };
	struct world_conf c = {
		.kernel = BENCH_GUEST, .guests = 2, .nic = &nic, .mailbox = true
	};
	struct trace *t;
	struct world w;

	log_set_sink(no_log, NULL);
	assert_int_equal(trace_create(&t, EVENTS), 0);
	c.trace = t;
	c.append[0] = "id=1 stay=1 send=0 stat_ms=200 tick_ms=500 "
		      "holdoff_ms=300 mode=poll size=200 count=1200000";
	c.append[1] = "id=2 stay=1 send=0 stat_ms=200 tick_ms=500 "
		      "holdoff_ms=300 mode=poll size=200 count=1200000";
	world_create(&w, &c);
	world_start(&w);
	for (unsigned int g = 0; g < 2; g++)
		if (!world_reaches(&w, g, "V", "link", 1, WAIT_MS))
			fail_msg("no link");
	usleep(200000);
	toggle(w.g[0].v);
	exchanges(&w, t);
	steady(&w);
	world_destroy(&w);
	trace_destroy(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(run) };

	if (!world_possible())
		return 77;
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
