/*
 * Engage and release on live devices: two virtual machines exchange frames
 * through a software NIC while their queues are shadowed and let go again.
 *
 * argv[1] is the guest "net".  Skipped (77) where /dev/kvm cannot be opened.
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
#include "shadow/shadow.h"
#include "world.h"

#define TOGGLES 1000u

static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void begin(struct world *w, const char *args)
{
	struct world_conf c = { .kernel = kernel, .guests = 2 };
	static char append[2][256];

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u stay=1 stat_ms=100 limit_s=1000 %s", i + 1,
			 args);
		c.append[i] = append[i];
	}
	world_create(w, &c);
	world_start(w);
	for (unsigned int i = 0; i < 2; i++) {
		if (!world_reaches(w, i, "T", "got", 100, WORLD_PATIENCE_MS)) {
			world_dump(w, i);
			fail_msg("no traffic");
		}
	}
}

/* 'may_lose': the device was off the bus for moments, and drops then. */
static void check_clean(struct world *w, unsigned int g, bool may_lose)
{
	bool clean = (may_lose || world_stat(w, g, "T", "lost") == 0) &&
		     world_stat(w, g, "T", "doubled") == 0 &&
		     world_stat(w, g, "T", "reordered") == 0 &&
		     world_stat(w, g, "T", "corrupt") == 0;

	if (!clean)
		world_dump(w, g);
	assert_true(clean);
}

/* Traffic goes on from here for another 'n' frames. */
static void goes_on(struct world *w, uint64_t n)
{
	for (unsigned int g = 0; g < 2; g++) {
		uint64_t got = world_stat(w, g, "T", "got");

		if (!world_reaches(w, g, "T", "got", got + n,
				   WORLD_PATIENCE_MS)) {
			world_dump(w, g);
			fail_msg("guest %u: traffic has stopped", g);
		}
	}
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void print_times(const char *what, uint64_t *ns, unsigned int n)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("  %s: median %.0f us, p99 %.0f us, max %.0f us\n", what,
	       (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3,
	       (double)ns[n - 1] / 1e3);
}

/* At times it stays engaged until the device has written something back. */
static void wait_completed(struct shadow *sh, uint64_t n)
{
	uint64_t end = now_ns() + WORLD_PATIENCE_MS * 1000000ull;
	struct shadow_stats st;

	do {
		usleep(1000);
		shadow_get_stats(sh, &st);
		assert_true(now_ns() < end);
	} while (st.rx[0].completed < n);
}

static void toggles(const char *args, const struct shadow_opts *o,
		    unsigned int n)
{
	static uint64_t engage[TOGGLES], release[TOGGLES], paused[TOGGLES];
	struct shadow_stats st;
	struct shadow *sh;
	struct err e = { 0 };
	static struct world w;
	uint64_t t = now_ns();

	begin(&w, args);
	assert_int_equal(shadow_create(&sh, w.g[0].v, o, NULL), 0);
	for (unsigned int i = 0; i < n; i++) {
		if (shadow_engage(sh, IGB_ALLQ, &e))
			fail_msg("%s", e.text);
		shadow_get_stats(sh, &st);
		engage[i] = st.engage_ns;
		paused[i] = st.paused_ns;
		if (i % 10 == 0)
			wait_completed(sh, i / 10 + 2);
		else
			usleep((useconds_t)(1000 + i % 7 * 500));
		if (shadow_release(sh, &e))
			fail_msg("%s", e.text);
		shadow_get_stats(sh, &st);
		release[i] = st.release_ns;
		usleep((useconds_t)(1000 + i % 5 * 500));
	}
	goes_on(&w, 200);
	for (unsigned int i = 0; i < 2; i++)
		check_clean(&w, i, o->method == SHADOW_IOMMU);
	t = now_ns() - t;
	printf("%s: %u toggles in %.1f s, %llu frames received, %llu "
	       "submitted and %llu completed while engaged\n",
	       args, n, (double)t / 1e9,
	       (unsigned long long)(world_stat(&w, 0, "T", "got") +
				    world_stat(&w, 1, "T", "got")),
	       (unsigned long long)(st.rx[0].submitted + st.tx[0].submitted),
	       (unsigned long long)(st.rx[0].completed + st.tx[0].completed));
	print_times("engage", engage, n);
	print_times("vCPUs paused by it", paused, n);
	print_times("release", release, n);
	assert_int_equal(st.rx[0].bad + st.tx[0].bad, 0);
	assert_true(st.rx[0].completed > n / 10);
	shadow_destroy(sh);
	world_destroy(&w);
}

static void a_thousand_toggles_polled(void **state)
{
	struct shadow_opts o = { .method = SHADOW_CPU };

	toggles("mode=poll size=256", &o, TOGGLES);
}

static void toggles_with_interrupts(void **state)
{
	struct shadow_opts o = { .method = SHADOW_CPU };

	toggles("mode=irq size_min=82 size=1500", &o, 200);
}

static void toggles_full(void **state)
{
	struct shadow_opts o = { .method = SHADOW_CPU, .full = true };

	toggles("mode=irq size=512", &o, 20);
}

static void toggles_iommu(void **state)
{
	struct shadow_opts o = { .method = SHADOW_IOMMU };

	toggles("mode=poll size=256", &o, 50);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(toggles_with_interrupts,
					  world_clean_up),
		cmocka_unit_test_teardown(toggles_full, world_clean_up),
		cmocka_unit_test_teardown(toggles_iommu, world_clean_up),
		cmocka_unit_test_teardown(a_thousand_toggles_polled,
					  world_clean_up),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
