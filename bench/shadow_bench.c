/*
 * What shadowing costs: getting in and out, a frame passed through, and the
 * same with real vCPUs where there is /dev/kvm.
 *
 * usage: shadow_bench [GUEST [ROW]], ROW a part of a traffic row's name: only
 * that one
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
#include "shadow/sim.h"
#include "world.h"

#define DEVICES 8 /* of two rings each: 16 queues */
#define ROUNDS	300
#define FRAMES	50000u
#define TURNS	7  /* of a second each way */
#define TRIPS	21 /* turns for latency */
#define TRIP_US 300000

static struct sim dev[DEVICES];
static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double us(const uint64_t *ns, size_t n)
{
	return (double)ns[n] / 1e3;
}

/* Returns the 99th percentile in us. */
static double print_times(const char *what, uint64_t *ns, unsigned int n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("%-44s median %8.1f us   p99 %8.1f us\n", what, us(ns, n / 2),
	       us(ns, n * 99 / 100));
	return us(ns, n * 99 / 100);
}

static double print_toggle(const char *name, unsigned int queues,
			   const char *part, uint64_t *ns)
{
	char what[64];

	snprintf(what, sizeof(what), "%s, %u queues: %s", name, queues, part);
	return print_times(what, ns, ROUNDS);
}

static void start(struct sim *s, enum shadow_method method, bool full)
{
	struct sim_opts o = { .seed = 1,
			      .nrx = 256,
			      .ntx = 256,
			      .shadow = { .method = method,
					  .full = full,
					  .poll_ns = SHADOW_POLL_OFF } };

	assert_int_equal(sim_init(s, &o), 0);
	sim_guest_up(s);
	sim_guest_post(s, o.nrx);
}

static void toggle(enum shadow_method method, unsigned int devices,
		   const char *name)
{
	static uint64_t in[ROUNDS], out[ROUNDS], pause[ROUNDS];
	struct shadow_stats st;
	double most_in, most_out;
	char what[64];

	for (unsigned int i = 0; i < devices; i++)
		start(&dev[i], method, false);
	for (unsigned int n = 0; n < ROUNDS; n++) {
		in[n] = out[n] = pause[n] = 0;
		for (unsigned int i = 0; i < devices; i++) {
			shadow_engage(dev[i].sh, IGB_ALLQ, NULL);
			shadow_get_stats(dev[i].sh, &st);
			in[n] += st.engage_ns;
			pause[n] += st.paused_ns;
		}
		for (unsigned int i = 0; i < devices; i++) {
			shadow_release(dev[i].sh, NULL);
			shadow_get_stats(dev[i].sh, &st);
			out[n] += st.release_ns;
		}
	}
	for (unsigned int i = 0; i < devices; i++)
		sim_fini(&dev[i]);
	most_in = print_toggle(name, 2 * devices, "engage", in);
	print_toggle(name, 2 * devices, "of it vCPUs stopped", pause);
	most_out = print_toggle(name, 2 * devices, "release", out);
	if (method != SHADOW_CPU)
		return; /* the goal is the default's */
	snprintf(what, sizeof(what), "p99 of engage and release, %u queues",
		 2 * devices);
	goal_most(what, MAX(most_in, most_out), 1000, "us");
}

/*
 * A frame out and one in; only the time between the guest's tail write and
 * the device's, and between the device's write-back and the guest's, counts.
 */
static double frames(bool full, bool engaged)
{
	struct sim *s = &dev[0];
	uint64_t t, sum = 0;

	start(s, SHADOW_CPU, full);
	if (engaged)
		shadow_engage(s->sh, IGB_ALLQ, NULL);
	for (unsigned int i = 0; i < FRAMES; i++) {
		sim_guest_send(s);
		t = now_ns();
		sim_guest_kick(s);
		sum += now_ns() - t;
		while (sim_dev_transmit(s))
			;
		sim_dev_receive(s, 1000);
		if (i % 8 == 7) {
			t = now_ns();
			shadow_sync(s->sh);
			sum += now_ns() - t;
			sim_guest_poll(s, 16);
			sim_guest_post(s, 16);
		}
	}
	sim_settle(s);
	if (s->fault)
		printf("FAULT: %s\n", s->fault);
	sim_fini(s);
	return (double)sum / FRAMES;
}

static void frame_cost(void)
{
	double direct = frames(false, false);

	printf("a frame out and one in, without exits: +%.0f ns shadowed, "
	       "+%.0f ns full\n",
	       frames(false, true) - direct, frames(true, true) - direct);
}

/* ---- with vCPUs ---- */

/* Frames a second that both guests got, over a second. */
static uint64_t rate(struct world *w)
{
	uint64_t a, b, t;

	a = world_stat(w, 0, "T", "got") + world_stat(w, 1, "T", "got");
	t = now_ns();
	sleep(1);
	b = world_stat(w, 0, "T", "got") + world_stat(w, 1, "T", "got");
	return (b - a) * 1000000000ull / (now_ns() - t);
}

/* Under traffic, the vCPUs in guest mode and the NIC at work. */
static void toggle_live(struct shadow *sh, const char *args)
{
	static uint64_t in[ROUNDS], out[ROUNDS], pause[ROUNDS];
	struct shadow_stats st;
	double most_in, most_out;
	char what[64];

	for (unsigned int n = 0; n < ROUNDS; n++) {
		assert_int_equal(shadow_engage(sh, IGB_ALLQ, NULL), 0);
		shadow_get_stats(sh, &st);
		in[n] = st.engage_ns;
		pause[n] = st.paused_ns;
		usleep(1000 + n % 7 * 300);
		assert_int_equal(shadow_release(sh, NULL), 0);
		shadow_get_stats(sh, &st);
		out[n] = st.release_ns;
		usleep(1000 + n % 5 * 300);
	}
	most_in = print_toggle("live", 2, "engage", in);
	print_toggle("live", 2, "of it vCPUs stopped", pause);
	most_out = print_toggle("live", 2, "release", out);
	snprintf(what, sizeof(what), "p99 of engage and release, live, %s",
		 args);
	if (!goal_most(what, MAX(most_in, most_out), 1000, "us"))
		goal_limit("two vCPUs and the NIC share %ld CPUs: the median "
			   "engage is %.0f us, of them %.0f with the vCPUs "
			   "stopped, the median release %.0f us",
			   sysconf(_SC_NPROCESSORS_ONLN), us(in, ROUNDS / 2),
			   us(pause, ROUNDS / 2), us(out, ROUNDS / 2));
}

/*
 * Turn by turn, and the middle of the turns: what else the machine does is
 * then in both.
 */
static void traffic(const char *args)
{
	struct world_conf c = { .kernel = kernel, .guests = 2 };
	uint64_t direct[TURNS], shadowed[TURNS];
	struct shadow_opts o = { 0 };
	struct shadow_stats st;
	struct shadow *sh[2];
	char append[2][160];
	struct world w;
	double ratio;

	for (unsigned int i = 0; i < 2; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u stay=1 stat_ms=100 limit_s=120 %s", i + 1,
			 args);
		c.append[i] = append[i];
	}
	world_create(&w, &c);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(shadow_create(&sh[i], w.g[i].v, &o, NULL), 0);
	world_start(&w);
	for (unsigned int i = 0; i < 2; i++)
		assert_true(world_reaches(&w, i, "T", "got", 1000, 30000));
	for (unsigned int n = 0; n < TURNS; n++) {
		direct[n] = rate(&w);
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(shadow_engage(sh[i], IGB_ALLQ, NULL),
					 0);
		shadowed[n] = rate(&w);
		for (unsigned int i = 0; i < 2; i++)
			assert_int_equal(shadow_release(sh[i], NULL), 0);
	}
	shadow_get_stats(sh[0], &st);
	qsort(direct, TURNS, sizeof(*direct), by_value);
	qsort(shadowed, TURNS, sizeof(*shadowed), by_value);
	ratio = us(shadowed, TURNS / 2) / us(direct, TURNS / 2);
	printf("%-24s frames/s direct %6llu (%llu..%llu), shadowed %6llu "
	       "(%llu..%llu): %.2f; doorbells %llu times without exits\n",
	       args, (unsigned long long)direct[TURNS / 2],
	       (unsigned long long)direct[0],
	       (unsigned long long)direct[TURNS - 1],
	       (unsigned long long)shadowed[TURNS / 2],
	       (unsigned long long)shadowed[0],
	       (unsigned long long)shadowed[TURNS - 1], ratio,
	       (unsigned long long)st.stand_ins);
	if (strstr(args, "size=1500")) {
		char what[64];

		snprintf(what, sizeof(what), "frames/s shadowed to direct, %s",
			 args);
		goal_least(what, ratio, 0.9, "");
		toggle_live(sh[0], args);
	}
	for (unsigned int i = 0; i < 2; i++)
		shadow_destroy(sh[i]);
	world_destroy(&w);
}

/* ---- latency ---- */

/* The guest prints when it is asked, for printing costs exits. */
static void ask(struct world *w)
{
	uint64_t t = world_stat(w, 0, "S", "t");

	for (unsigned int i = 0; i < 15; i++) {
		world_say(w, 0, "stat");
		if (world_reaches(w, 0, "S", "t", t == UINT64_MAX ? 0 : t + 1,
				  2000))
			return;
	}
	fail_msg("the guest is silent");
}

struct trips {
	double p50, p99; /* us */
};

static struct trips trips(struct world *w)
{
	uint64_t n;

	world_say(w, 0, "fresh");
	usleep(TRIP_US);
	ask(w);
	n = world_stat(w, 0, "Q", "n");
	assert_true(n != UINT64_MAX && n > 0);
	return (struct trips){
		.p50 = (double)world_stat(w, 0, "Q", "p50_ns") / 1e3,
		.p99 = (double)world_stat(w, 0, "Q", "p99_ns") / 1e3,
	};
}

static int by_double(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double middle(double *v)
{
	qsort(v, TRIPS, sizeof(*v), by_double);
	return v[TRIPS / 2];
}

static void shadow_trips(struct world *w, struct shadow *sh, const char *args)
{
	/* Direct, shadowed, what the second adds in each pair of turns. */
	double p50[3][TRIPS], p99[3][TRIPS], added;
	struct shadow_stats st = { 0 };
	char what[64];

	for (unsigned int n = 0; n < TRIPS; n++) {
		struct trips d = trips(w), s;

		assert_int_equal(shadow_engage(sh, IGB_ALLQ, NULL), 0);
		s = trips(w);
		shadow_get_stats(sh, &st);
		assert_int_equal(shadow_release(sh, NULL), 0);
		p50[0][n] = d.p50;
		p50[1][n] = s.p50;
		p50[2][n] = s.p50 - d.p50;
		p99[0][n] = d.p99;
		p99[1][n] = s.p99;
		p99[2][n] = s.p99 - d.p99;
	}
	printf("%-24s round trip p50 %.1f us direct, %.1f shadowed; p99 %.1f, "
	       "%.1f\n",
	       args, middle(p50[0]), middle(p50[1]), middle(p99[0]),
	       middle(p99[1]));
	added = middle(p99[2]);
	printf("%-24s shadowed to direct: p50 %.2f (%+.1f us), p99 %.2f "
	       "(%+.1f us); polled each %.0f us\n",
	       args, p50[1][TRIPS / 2] / p50[0][TRIPS / 2], middle(p50[2]),
	       p99[1][TRIPS / 2] / p99[0][TRIPS / 2], added,
	       (double)st.poll_ns / 1e3);
	snprintf(what, sizeof(what), "p99 of a round trip, added, %s", args);
	if (!goal_most(what, added, 50, "us"))
		goal_limit("its median rises by %.1f us; direct, the p99 is "
			   "%.1f us above the median already",
			   p50[2][TRIPS / 2],
			   p99[0][TRIPS / 2] - p50[0][TRIPS / 2]);
}

/*
 * A frame to the peer and its answer.  The end that measures is shadowed, as
 * in a migration; the other sleeps until interrupted, so that two CPUs do for
 * two guests and a NIC.
 */
static void latency(const char *args)
{
	struct world_conf c = { .kernel = kernel, .guests = 2 };
	struct shadow_opts o = { 0 };
	char append[2][160];
	uint64_t end = now_ns() + 30000000000ull;
	struct shadow *sh;
	struct world w;

	for (unsigned int i = 0; i < 2; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u stay=1 console_ms=50 limit_s=120 %s %s", i + 1,
			 i ? "send=0 window=1 mode=irq" : "ping=1", args);
		c.append[i] = append[i];
	}
	world_create(&w, &c);
	assert_int_equal(shadow_create(&sh, w.g[0].v, &o, NULL), 0);
	world_start(&w);
	do
		ask(&w);
	while (!world_reaches(&w, 0, "Q", "n", 1000, 100) && now_ns() < end);
	shadow_trips(&w, sh, args);
	shadow_destroy(sh);
	world_destroy(&w);
}

static void without_vcpus(void)
{
	toggle(SHADOW_CPU, 1, "cpu");
	toggle(SHADOW_CPU, DEVICES, "cpu");
	toggle(SHADOW_IOMMU, 1, "iommu");
	frame_cost();
}

static const char *only; /* rows with this in their names */

static void all(void **state)
{
	/* The second: each way what 1 Gbit/s, the family's wire, carries. */
	static const char *const rows[] = { "mode=poll size=1500",
					    "mode=irq size=1500 rate=81274",
					    "mode=irq size=1500",
					    "mode=irq size=82" };
	static const char *const trips[] = { "mode=poll size=100",
					     "mode=irq size=100" };

	if (!only)
		without_vcpus();
	if (!kernel || !world_possible())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!only || strstr(rows[i], only))
			traffic(rows[i]);
	for (size_t i = 0; i < ARRAY_SIZE(trips); i++)
		if (!only || strstr(trips[i], only))
			latency(trips[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	kernel = argc > 1 ? argv[1] : SHADOW_BENCH_GUEST;
	only = argc > 2 ? argv[2] : NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_set_sink(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
