/*
 * Two virtual machines, each with a VF of one software NIC, exchange frames
 * that are all accounted for.
 *
 * argv[1] is the guest "net".  Skipped (77) where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "world.h"

#define FRAMES 1000000ull /* each way */

static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void check_clean(struct world *w, unsigned int g, uint64_t frames)
{
	assert_int_equal(world_stat(w, g, "T", "sent"), frames);
	assert_int_equal(world_stat(w, g, "T", "acked"), frames);
	assert_int_equal(world_stat(w, g, "T", "got"), frames);
	assert_int_equal(world_stat(w, g, "T", "lost"), 0);
	assert_int_equal(world_stat(w, g, "T", "doubled"), 0);
	assert_int_equal(world_stat(w, g, "T", "reordered"), 0);
	assert_int_equal(world_stat(w, g, "T", "corrupt"), 0);
	assert_int_equal(world_stat(w, g, "D", "bad"), 0);
}

/* Both send 'frames' to each other with these further arguments. */
static void exchange(uint64_t frames, const char *args, int limit_s)
{
	struct world_conf c = { .kernel = kernel, .guests = 2 };
	char append[2][256];
	struct nic_counts n;
	struct world w;
	uint64_t t;
	int code[2];

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u count=%llu limit_s=%d %s", i + 1,
			 (unsigned long long)frames, limit_s, args);
		c.append[i] = append[i];
	}
	world_create(&w, &c);
	t = now_ns();
	world_start(&w);
	for (unsigned int i = 0; i < 2; i++)
		code[i] = world_wait(&w, i, (limit_s + 10) * 1000);
	t = now_ns() - t;
	for (unsigned int i = 0; i < 2; i++)
		if (code[i])
			world_dump(&w, i);
	assert_int_equal(code[0], 0);
	assert_int_equal(code[1], 0);
	check_clean(&w, 0, frames);
	check_clean(&w, 1, frames);
	nic_get_counts(w.nic, &n);
	/* The NIC's own books agree: it moved at least what we counted. */
	assert_true(n.tx_frames >= 2 * frames);
	assert_int_equal(n.dma_faults, 0);
	assert_int_equal(n.tx_bad, 0);
	assert_int_equal(n.spoofed, 0);
	printf("%s: 2 x %llu frames in %.1f s (%.0f frames/s), nic: %llu tx, "
	       "%llu no buffer, %llu irqs\n",
	       args, (unsigned long long)frames, (double)t / 1e9,
	       2e9 * (double)frames / (double)t,
	       (unsigned long long)n.tx_frames, (unsigned long long)n.no_buffer,
	       (unsigned long long)n.irqs);
	world_destroy(&w);
}

static void a_million_polled(void **state)
{
	exchange(FRAMES, "mode=poll size=256", 400);
}

static void all_sizes_with_interrupts(void **state)
{
	exchange(20000, "mode=irq size_min=82 size=1500", 60);
}

static void with_a_vlan(void **state)
{
	exchange(20000, "mode=poll vlan=100 size=400", 60);
}

static void while_memory_changes(void **state)
{
	exchange(50000, "mode=poll size=128 dirty_mb=16 dirty_rate=50", 60);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_sizes_with_interrupts),
		cmocka_unit_test(with_a_vlan),
		cmocka_unit_test(while_memory_changes),
		cmocka_unit_test(a_million_polled),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
