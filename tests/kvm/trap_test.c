/*
 * Pages of a VF's BAR go from direct to trapped and back while the guest
 * works on them: no frame may notice.
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
#include "igb/regs.h"
#include "world.h"

#define FRAMES	  200000
#define TOGGLE_US 2000

static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void two_guests(struct world *w, const struct nic_conf *nic,
		       const char *args)
{
	char a[256], b[256];
	struct world_conf c = {
		.nic = nic, .kernel = kernel, .guests = 2, .append = { a, b }
	};

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	snprintf(a, sizeof(a), "id=1 limit_s=1000 %s", args);
	snprintf(b, sizeof(b), "id=2 limit_s=1000 %s", args);
	world_create(w, &c);
	world_start(w);
}

struct toggle {
	struct vdev *v;
	unsigned int page;
	bool trap;
	int ret;
};

static void do_toggle(void *opaque)
{
	struct toggle *t = opaque;

	vdev_lock(t->v);
	t->ret = t->trap ? vdev_trap(t->v, 0, t->page, VDEV_TRAP_MBX)
			 : vdev_untrap(t->v, 0, t->page, VDEV_TRAP_MBX);
	vdev_unlock(t->v);
}

static void set_trap(struct world *w, unsigned int g, unsigned int page,
		     bool trap)
{
	struct toggle t = { w->g[g].v, page, trap, 0 };

	world_call(w, w->loop, do_toggle, &t);
	assert_int_equal(t.ret, 0);
}

/* Back and forth until both are done; returns how often. */
static unsigned int toggle_until_done(struct world *w, unsigned int page)
{
	unsigned int n = 0;
	int code[2];

	while (world_wait(w, 0, 0) < 0 || world_wait(w, 1, 0) < 0) {
		for (unsigned int g = 0; g < 2; g++)
			set_trap(w, g, page, n % 2 == 0);
		n++;
		usleep(TOGGLE_US);
		if (n == 600000) {
			world_dump(w, 0);
			world_dump(w, 1);
			fail_msg("the guests do not come to an end");
		}
	}
	for (unsigned int g = 0; g < 2; g++) {
		code[g] = world_wait(w, g, 0);
		if (code[g])
			world_dump(w, g);
	}
	assert_int_equal(code[0], 0);
	assert_int_equal(code[1], 0);
	return n;
}

static void check_clean(struct world *w)
{
	struct nic_counts n;

	for (unsigned int g = 0; g < 2; g++) {
		assert_int_equal(world_stat(w, g, "T", "got"), FRAMES);
		assert_int_equal(world_stat(w, g, "T", "lost"), 0);
		assert_int_equal(world_stat(w, g, "T", "doubled"), 0);
		assert_int_equal(world_stat(w, g, "T", "reordered"), 0);
		assert_int_equal(world_stat(w, g, "T", "corrupt"), 0);
	}
	nic_get_counts(w->nic, &n);
	assert_int_equal(n.dma_faults, 0);
	assert_int_equal(n.tx_bad, 0);
}

static void run(const struct nic_conf *nic, const char *args, unsigned int page,
		const char *what)
{
	struct vdev_counts n;
	char all[256];
	static struct world w;
	unsigned int toggles;

	snprintf(all, sizeof(all), "mode=poll count=%d %s", FRAMES, args);
	two_guests(&w, nic, all);
	toggles = toggle_until_done(&w, page);
	check_clean(&w);
	vdev_get_counts(w.g[0].v, &n);
	printf("%s: %u toggles, %llu accesses trapped of %llu tail writes\n",
	       what, toggles,
	       (unsigned long long)(page ? n.doorbell : n.mbx_page),
	       (unsigned long long)(world_stat(&w, 0, "V", "tails") +
				    world_stat(&w, 0, "V", "refills")));
	/* Both ways were really gone. */
	assert_true(toggles > 20);
	assert_true((page ? n.doorbell : n.mbx_page) > 50);
	world_destroy(&w);
}

static void the_doorbell_page(void **state)
{
	run(NULL, "size=200", IGBVF_PAGE_TX, "transmit page");
	run(NULL, "size=200", IGBVF_PAGE_RX, "receive page");
}

/* Mailbox, tails and heads in one page: work goes on while it is trapped. */
static void the_compact_page(void **state)
{
	static const struct nic_conf compact = {
		.model = NIC_82576,
		.vfs = 2,
		.compact = true,
		.direct_pages = 0xd,
		.mac = { 2, 0x70, 0x67, 0, 0, 1 },
	};

	run(&compact, "size=200 compact=1", IGBVF_PAGE_MBX, "compact page");
}

static void reaches(struct world *w, uint64_t got)
{
	if (world_reaches(w, 0, "T", "got", got, WORLD_PATIENCE_MS))
		return;
	world_dump(w, 0);
	world_dump(w, 1);
	fail_msg("no traffic");
}

/* Direct means direct: nothing of it comes to us. */
static void no_exit_when_direct(void **state)
{
	struct vdev_counts a, b;
	static struct world w;
	uint64_t got;

	two_guests(&w, NULL, "mode=poll stay=1 stat_ms=300 tick_ms=600000");
	reaches(&w, 1000);
	vdev_get_counts(w.g[0].v, &a);
	got = world_stat(&w, 0, "T", "got");
	reaches(&w, got + 20000);
	vdev_get_counts(w.g[0].v, &b);
	assert_int_equal(b.reads + b.writes, a.reads + a.writes);
	world_destroy(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(no_exit_when_direct, world_clean_up),
		cmocka_unit_test_teardown(the_doorbell_page, world_clean_up),
		cmocka_unit_test_teardown(the_compact_page, world_clean_up),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
