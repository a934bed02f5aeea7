/*
 * How the guest's driver, the PF driver and the NIC get over what happens:
 * a lost PF, a pulled cable, a guest that dies, nobody sending.
 *
 * argv[1] is the guest "net".  Skipped (77) where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "world.h"

#define COMMON "stay=1 stat_ms=100 limit_s=1000 "

static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void two_guests(struct world *w, const char *args)
{
	char a[256], b[256];
	struct world_conf c = { .kernel = kernel,
				.guests = 2,
				.append = { a, b } };

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	snprintf(a, sizeof(a), "id=1 " COMMON "%s", args);
	snprintf(b, sizeof(b), "id=2 " COMMON "%s", args);
	world_create(w, &c);
	world_start(w);
}

#define REQUIRE(w, cond)                                             \
	do {                                                         \
		if (!(cond)) {                                       \
			for (unsigned int i_ = 0; i_ < (w)->n; i_++) \
				world_dump(w, i_);                   \
			fail_msg("%s", #cond);                       \
		}                                                    \
	} while (0)

static void traffic_flows(struct world *w, unsigned int g)
{
	uint64_t got = world_stat(w, g, "T", "got");

	if (got == UINT64_MAX)
		got = 0;
	REQUIRE(w,
		world_reaches(w, g, "T", "got", got + 1000, WORLD_PATIENCE_MS));
}

/* Frames may be lost on the way through; none is doubled or spoilt. */
static void nothing_wrong(struct world *w, unsigned int g)
{
	assert_int_equal(world_stat(w, g, "T", "doubled"), 0);
	assert_int_equal(world_stat(w, g, "T", "reordered"), 0);
	assert_int_equal(world_stat(w, g, "T", "corrupt"), 0);
}

struct kick {
	struct pf *pf;
	unsigned int vf;
};

static void do_kick(void *opaque)
{
	struct kick *k = opaque;

	pf_kick(k->pf, k->vf);
}

/*
 * The PF takes a VF's leave to send away: the guest's watchdog notices, and
 * after its hold-off it resets the VF and builds the same rings again.
 */
static void a_kicked_vf_starts_over(void **state)
{
	static const char *const modes[] = { "mode=poll", "mode=irq" };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char args[128];
		static struct world w;
		struct kick k;

		snprintf(args, sizeof(args),
			 "%s tick_ms=100 holdoff_ms=300 rate=2000", modes[i]);
		two_guests(&w, args);
		traffic_flows(&w, 0);
		traffic_flows(&w, 1);
		usleep(400000);
		k = (struct kick){ w.pf, 0 };
		world_call(&w, w.loop, do_kick, &k);
		REQUIRE(&w, world_reaches(&w, 0, "V", "reinits", 1,
					  WORLD_PATIENCE_MS));
		REQUIRE(&w,
			world_reaches(&w, 0, "V", "ups", 2, WORLD_PATIENCE_MS));
		traffic_flows(&w, 0);
		traffic_flows(&w, 1);
		assert_int_equal(world_stat(&w, 0, "V", "fails"), 0);
		assert_int_equal(world_stat(&w, 0, "V", "timeouts"), 0);
		assert_int_equal(world_stat(&w, 0, "V", "macs"), 0);
		assert_int_equal(world_stat(&w, 1, "V", "reinits"), 0);
		nothing_wrong(&w, 0);
		nothing_wrong(&w, 1);
		world_destroy(&w);
	}
}

/* As ndo_tx_timeout would: at any moment, under load, five times. */
static void reinit_under_load(void **state)
{
	static struct world w;

	two_guests(&w, "mode=poll");
	traffic_flows(&w, 0);
	for (unsigned int i = 1; i <= 5; i++) {
		world_say(&w, 0, "reinit");
		REQUIRE(&w, world_reaches(&w, 0, "V", "reinits", i,
					  WORLD_PATIENCE_MS));
		REQUIRE(&w, world_reaches(&w, 0, "V", "ups", i + 1,
					  WORLD_PATIENCE_MS));
		traffic_flows(&w, 0);
		traffic_flows(&w, 1);
	}
	nothing_wrong(&w, 0);
	nothing_wrong(&w, 1);
	/* What was in the rings is gone, and is known to be gone. */
	assert_true(world_stat(&w, 0, "T", "lost") +
			    world_stat(&w, 1, "T", "lost") >
		    0);
	world_destroy(&w);
}

static void carrier(void *opaque, bool up)
{
	nic_set_carrier(((struct world *)opaque)->nic, up);
}

static void cable_out(void *opaque)
{
	carrier(opaque, false);
}

static void cable_in(void *opaque)
{
	carrier(opaque, true);
}

/* With interrupts the guest learns of it at once, by the PF's word. */
static void the_cable_is_pulled(void **state)
{
	static struct world w;

	two_guests(&w, "mode=irq tick_ms=200 rate=1000");
	traffic_flows(&w, 0);
	world_call(&w, w.nic_loop, cable_out, &w);
	REQUIRE(&w, world_reaches(&w, 0, "V", "downs", 1, WORLD_PATIENCE_MS));
	REQUIRE(&w, world_reaches(&w, 1, "V", "downs", 1, WORLD_PATIENCE_MS));
	world_call(&w, w.nic_loop, cable_in, &w);
	REQUIRE(&w, world_reaches(&w, 0, "V", "ups", 2, WORLD_PATIENCE_MS));
	REQUIRE(&w, world_reaches(&w, 1, "V", "ups", 2, WORLD_PATIENCE_MS));
	traffic_flows(&w, 0);
	traffic_flows(&w, 1);
	nothing_wrong(&w, 0);
	nothing_wrong(&w, 1);
	world_destroy(&w);
}

static void a_guest_dies(void **state)
{
	struct nic_counts before, after;
	static struct world w;
	uint64_t probes;

	two_guests(&w, "mode=poll");
	traffic_flows(&w, 1);
	world_kill(&w, 0);
	/* The other one is well: it asks for what it has not heard. */
	nic_get_counts(w.nic, &before);
	probes = world_stat(&w, 1, "C", "probes");
	REQUIRE(&w, probes != UINT64_MAX);
	REQUIRE(&w, world_reaches(&w, 1, "C", "probes", probes + 3,
				  WORLD_PATIENCE_MS));
	for (int i = 0; i < WORLD_PATIENCE_MS / 10; i++) {
		nic_get_counts(w.nic, &after);
		if (after.tx_frames > before.tx_frames)
			break;
		usleep(10000);
	}
	assert_true(after.tx_frames > before.tx_frames);
	assert_int_equal(world_stat(&w, 1, "V", "downs"), 0);
	nothing_wrong(&w, 1);
	world_destroy(&w);
}

/* Instrumented code is that much slower. */
#ifdef __SANITIZE_ADDRESS__
#define LAX 3
#else
#define LAX 1
#endif

static uint64_t cpu_ns(pthread_t t)
{
	struct timespec ts;
	clockid_t c;

	assert_int_equal(pthread_getcpuclockid(t, &c), 0);
	clock_gettime(c, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* With the rings of two guests mapped and nobody sending. */
static void an_idle_nic_sleeps(void **state)
{
	struct serve_counts c0, c1;
	static struct world w;
	uint64_t cpu, t;

	two_guests(&w, "mode=irq send=0 hello_ms=0 stat_ms=0");
	for (unsigned int i = 0; i < 2; i++)
		REQUIRE(&w, world_says(&w, i, "L up", WORLD_PATIENCE_MS));
	/* After a PF reset the NIC is alert for two seconds. */
	sleep(3);
	serve_get_counts(w.serve, &c0);
	cpu = cpu_ns(w.nic_thread);
	t = now_ns();
	sleep(4);
	cpu = cpu_ns(w.nic_thread) - cpu;
	t = now_ns() - t;
	serve_get_counts(w.serve, &c1);
	printf("idle NIC: %.2f %% of a CPU, %.0f sleeps/s\n",
	       100.0 * (double)cpu / (double)t,
	       1e9 * (double)(c1.sleeps - c0.sleeps) / (double)t);
	world_destroy(&w);
	assert_true(cpu * 100 < t * LAX);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_kicked_vf_starts_over,
					  world_clean_up),
		cmocka_unit_test_teardown(reinit_under_load, world_clean_up),
		cmocka_unit_test_teardown(the_cable_is_pulled, world_clean_up),
		cmocka_unit_test_teardown(a_guest_dies, world_clean_up),
		cmocka_unit_test_teardown(an_idle_nic_sleeps, world_clean_up),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
