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

/* Exits to us in all, for trapped registers. */
static uint64_t mmio_exits(struct world *w, unsigned int g)
{
	struct vm_exit_counts n;

	vm_exit_counts(w->g[g].vm, -1, &n);
	return n.n[VM_EXIT_MMIO];
}

/* All guests send 'frames' to each other with these further arguments. */
static void exchange(const struct nic_conf *nic, unsigned int guests,
		     uint64_t frames, const char *args, int limit_s)
{
	struct world_conf c = { .nic = nic,
				.kernel = kernel,
				.guests = guests };
	char append[WORLD_GUESTS][256];
	int code[WORLD_GUESTS];
	struct nic_counts n;
	static struct world w;
	uint64_t t, pairs = guests * (guests - 1);

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	for (unsigned int i = 0; i < guests; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u peers=%u count=%llu limit_s=%d %s", i + 1,
			 guests - 1, (unsigned long long)frames, limit_s, args);
		c.append[i] = append[i];
	}
	world_create(&w, &c);
	t = now_ns();
	world_start(&w);
	for (unsigned int i = 0; i < guests; i++)
		code[i] = world_wait(&w, i, (limit_s + 10) * 1000);
	t = now_ns() - t;
	for (unsigned int i = 0; i < guests; i++)
		if (code[i])
			world_dump(&w, i);
	for (unsigned int i = 0; i < guests; i++) {
		assert_int_equal(code[i], 0);
		check_clean(&w, i, frames);
	}
	nic_get_counts(w.nic, &n);
	/* The NIC's own books agree: it moved at least what we counted. */
	assert_true(n.tx_frames >= pairs * frames);
	assert_int_equal(n.no_buffer, 0);
	assert_int_equal(n.dma_faults, 0);
	assert_int_equal(n.tx_bad, 0);
	assert_int_equal(n.spoofed, 0);
	printf("%s: %llu x %llu frames in %.1f s (%.0f frames/s), %llu mmio "
	       "exits, nic: %llu tx, %llu irqs\n",
	       args, (unsigned long long)pairs, (unsigned long long)frames,
	       (double)t / 1e9, (double)(pairs * frames) * 1e9 / (double)t,
	       (unsigned long long)mmio_exits(&w, 0),
	       (unsigned long long)n.tx_frames, (unsigned long long)n.irqs);
	/*
	 * Doorbells and rings are direct: what is left is the handshake, and
	 * some ten registers each two seconds.
	 */
	if (strstr(args, "mode=poll"))
		assert_true(mmio_exits(&w, 0) <
			    5000 + 20 * (t / 1000000000ull));
	world_destroy(&w);
}

static const struct nic_conf i350 = {
	.model = NIC_I350,
	.vfs = 4,
	.direct_pages = 0xc,
	.mac = { 2, 0x70, 0x67, 0, 0, 1 },
};

static void a_million_polled(void **state)
{
	exchange(NULL, 2, FRAMES, "mode=poll size=256", 1000);
}

static void all_sizes_with_interrupts(void **state)
{
	exchange(NULL, 2, 20000, "mode=irq size_min=82 size=1500", 300);
}

static void with_a_vlan(void **state)
{
	exchange(NULL, 2, 20000, "mode=poll vlan=100 size=400", 300);
}

static void while_memory_changes(void **state)
{
	exchange(NULL, 2, 50000, "mode=poll size=128 dirty_mb=16 dirty_rate=50",
		 300);
}

static void three_on_an_i350(void **state)
{
	exchange(&i350, 3, 20000, "mode=poll size_min=82 size=1514", 300);
}

/* The guest finds each fault put into its frames by itself. */
static void the_checker_complains(void **state)
{
	struct vm_config vc = { .name = "checker",
				.mem = 64ull << 20,
				.cpus = 1,
				.kernel = kernel,
				.append = "test=checker" };
	struct err e = { 0 };
	struct vm *vm;
	int code = -1;

	if (vm_create(&vm, &vc, &e) || vm_start(vm, &e))
		fail_msg("%s", e.text);
	assert_int_equal(vm_wait(vm, WORLD_PATIENCE_MS, &code), VM_END_EXIT);
	assert_int_equal(code, 0);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_checker_complains,
					  world_clean_up),
		cmocka_unit_test_teardown(all_sizes_with_interrupts,
					  world_clean_up),
		cmocka_unit_test_teardown(three_on_an_i350, world_clean_up),
		cmocka_unit_test_teardown(with_a_vlan, world_clean_up),
		cmocka_unit_test_teardown(while_memory_changes, world_clean_up),
		cmocka_unit_test_teardown(a_million_polled, world_clean_up),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
