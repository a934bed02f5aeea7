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
#include "shadow/sim.h"
#include "world.h"

#define DEVICES 8 /* of two rings each: 16 queues */
#define ROUNDS	300
#define FRAMES	50000u
#define TURNS	5 /* of a second each way */

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

static void print_times(const char *what, uint64_t *ns, unsigned int n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("%-44s median %8.1f us   p99 %8.1f us\n", what,
	       (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3);
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
	snprintf(what, sizeof(what), "%s, %u queues: engage", name,
		 2 * devices);
	print_times(what, in, ROUNDS);
	snprintf(what, sizeof(what), "%s, %u queues: of it vCPUs stopped", name,
		 2 * devices);
	print_times(what, pause, ROUNDS);
	snprintf(what, sizeof(what), "%s, %u queues: release", name,
		 2 * devices);
	print_times(what, out, ROUNDS);
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
	printf("%-24s frames/s direct %6llu (%llu..%llu), shadowed %6llu "
	       "(%llu..%llu): %.2f; doorbells %llu times without exits\n",
	       args, (unsigned long long)direct[TURNS / 2],
	       (unsigned long long)direct[0],
	       (unsigned long long)direct[TURNS - 1],
	       (unsigned long long)shadowed[TURNS / 2],
	       (unsigned long long)shadowed[0],
	       (unsigned long long)shadowed[TURNS - 1],
	       (double)shadowed[TURNS / 2] / (double)direct[TURNS / 2],
	       (unsigned long long)st.stand_ins);
	for (unsigned int i = 0; i < 2; i++)
		shadow_destroy(sh[i]);
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
	static const char *const rows[] = { "mode=poll size=1500",
					    "mode=irq size=1500",
					    "mode=irq size=82" };

	if (!only)
		without_vcpus();
	if (!kernel || !world_possible())
		return;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!only || strstr(rows[i], only))
			traffic(rows[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	kernel = argc > 1 ? argv[1] : SHADOW_BENCH_GUEST;
	only = argc > 2 ? argv[2] : NULL;
	log_set_sink(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
