/*
 * The VMM on a real /dev/kvm, with the ring-3 guest's scenarios.
 *
 * argv[1] is the guest.  Skipped (77) where /dev/kvm cannot be opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "vmm/debug.h"
#include "vmm/testdev.h"
#include "vmm/vm.h"

#define LIMIT_MS 60000
#define MEM	 (64ul << 20)

static const char *guest;

struct rig {
	struct vm *vm;
	struct testdev dev;
	char out[4096];
	size_t len;
	uint64_t dirty[BITMAP_WORDS(MEM >> PAGE_SHIFT)];
	uint64_t buf; /* what the guest told */
	unsigned int stops, steps, traps;
};

static void console(void *opaque, const void *buf, size_t len)
{
	struct rig *r = opaque;

	len = MIN(len, sizeof(r->out) - 1 - r->len);
	memcpy(r->out + r->len, buf, len);
	r->len += len;
}

static void set_up(struct rig *r, const char *append, unsigned int cpus,
		   bool load)
{
	struct vm_config cfg = {
		.name = "test",
		.mem = MEM,
		.cpus = cpus,
		.kernel = load ? NULL : guest,
		.append = append,
		.console = console,
		.opaque = r,
	};
	struct err e = { 0 };

	memset(r, 0, sizeof(*r));
	if (vm_create(&r->vm, &cfg, &e))
		fail_msg("%s", e.text);
	assert_int_equal(testdev_init(&r->dev, vm_host(r->vm)), 0);
	assert_int_equal(vm_pci_add(r->vm, &r->dev.func, -1, &e), 0);
	r->dev.opaque = r;
}

static void start(struct rig *r)
{
	struct err e = { 0 };

	if (vm_start(r->vm, &e))
		fail_msg("%s", e.text);
}

static void tear_down(struct rig *r)
{
	testdev_fini(&r->dev);
	vm_destroy(r->vm);
}

/* Until the guest exits; its status must be 'want'. */
static void finish(struct rig *r, int want)
{
	int code = -1;
	enum vm_end end = vm_wait(r->vm, LIMIT_MS, &code);

	if (end != VM_END_EXIT || code != want)
		fail_msg("%s (%d) instead of exit (%d); it said: %s",
			 vm_end_name(end), code, want, r->out);
}

static void run(const char *append, unsigned int cpus, int want, struct rig *r)
{
	set_up(r, append, cpus, false);
	start(r);
	finish(r, want);
}

static struct rig rig;

static void boots_at_once(void **state)
{
	uint64_t t0 = now_ns(), t1;

	run("test=hello word=given", 1, 42, &rig);
	t1 = now_ns();
	assert_string_equal(rig.out,
			    "hello from ring 3, 100% ok 0000beef given\n");
	print_message("from nothing to the guest's exit: %.1f ms\n",
		      (double)(t1 - t0) / 1e6);
	assert_true(t1 - t0 < 1000000000);
	tear_down(&rig);
}

static void reads_its_console(void **state)
{
	set_up(&rig, "test=input", 1, false);
	assert_int_equal(vm_console_in(rig.vm, "x", 1), 1);
	start(&rig);
	finish(&rig, 0);
	assert_string_equal(rig.out, "got x\n");
	tear_down(&rig);
}

static void timer_interrupts(void **state)
{
	run("test=timer", 1, 0, &rig);
	tear_down(&rig);
}

static void msis_arrive(void **state)
{
	run("test=msi", 1, 0, &rig);
	tear_down(&rig);
}

static void cpus_wake(void **state)
{
	run("test=smp cpus=2", 2, 0, &rig);
	tear_down(&rig);
	run("test=smp cpus=4", 4, 0, &rig);
	tear_down(&rig);
}

static void mmio_is_trapped_and_counted(void **state)
{
	struct vm_exit_counts n;

	run("test=mmio", 1, 0, &rig);
	vm_exit_counts(rig.vm, 0, &n);
	assert_int_equal(n.n[VM_EXIT_MMIO], 11);
	assert_int_equal(n.n[VM_EXIT_MMIO_NONE], 2);
	tear_down(&rig);
}

static void pages_toggle(void **state)
{
	run("test=toggle n=50", 1, 0, &rig);
	/* Three accesses a round while it is trapped, none while direct. */
	assert_int_equal(rig.dev.trapped, 150);
	print_message("a toggle: %.1f us\n", (double)rig.dev.toggle_ns / 1e3 /
						     (double)rig.dev.toggles);
	tear_down(&rig);
}

static void *toggler(void *arg)
{
	struct rig *r = arg;

	for (unsigned int i = 0; vm_wait(r->vm, 0, NULL) == VM_RUNS; i++) {
		testdev_direct(&r->dev, i % 2);
		usleep(500);
	}
	return NULL;
}

/* No write and no read goes astray, whichever way it takes. */
static void pages_toggle_in_a_race(void **state)
{
	pthread_t t;

	set_up(&rig, "test=hammer ms=500", 2, false);
	start(&rig);
	assert_int_equal(pthread_create(&t, NULL, toggler, &rig), 0);
	finish(&rig, 0);
	pthread_join(t, NULL);
	print_message("%lu toggles, %lu accesses were trapped\n",
		      rig.dev.toggles, rig.dev.trapped);
	assert_true(rig.dev.toggles > 20 && rig.dev.trapped > 20);
	tear_down(&rig);
}

static void buffers_split_and_merge(void **state)
{
	run("test=split n=30", 1, 0, &rig);
	tear_down(&rig);
	run("test=split n=1 cpus=2", 2, 0, &rig);
	tear_down(&rig);
}

#define HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static long huge_before = -1; /* what give_back() puts back */

static long huge_get(const char *what)
{
	char path[128];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), HUGE_DIR "%s", what);
	f = fopen(path, "re");
	if (f && fscanf(f, "%ld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static void huge_set(long n)
{
	FILE *f = fopen(HUGE_DIR "nr_hugepages", "we");

	if (f) {
		fprintf(f, "%ld", n);
		fclose(f);
	}
}

/* So many free ones, for this test only; root may, others need them there. */
static void huge_reserve(long n)
{
	long free = huge_get("free_hugepages") - huge_get("resv_hugepages");

	if (free >= n)
		return;
	huge_before = huge_get("nr_hugepages");
	huge_set(huge_before + n - free);
}

static int give_back(void **state)
{
	if (huge_before >= 0)
		huge_set(huge_before);
	huge_before = -1;
	return 0;
}

/* With huge pages the unit is 2 MiB. */
static void huge_pages_split(void **state)
{
	struct vm_config cfg = { .name = "huge",
				 .mem = MEM,
				 .hugepages = true,
				 .cpus = 1,
				 .kernel = guest,
				 .append = "test=split n=5 unit=0x200000",
				 .console = console,
				 .opaque = &rig };
	const struct host_ram *ram;
	struct err e = { 0 };

	memset(&rig, 0, sizeof(rig));
	huge_reserve(MEM >> 21);
	if (vm_create(&rig.vm, &cfg, &e)) {
		assert_non_null(strstr(e.text, "huge pages"));
		print_message("skipped: %s\n", e.text);
		skip();
	}
	assert_int_equal(vm_host(rig.vm)->ops->ram(vm_host(rig.vm), &ram), 1);
	assert_int_equal(ram->page, 2 << 20);
	assert_int_equal(testdev_init(&rig.dev, vm_host(rig.vm)), 0);
	assert_int_equal(vm_pci_add(rig.vm, &rig.dev.func, -1, &e), 0);
	start(&rig);
	finish(&rig, 0);
	tear_down(&rig);
}

static void splits_are_checked(void **state)
{
	struct host *h;

	set_up(&rig, "", 1, false);
	h = vm_host(rig.vm);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x1001 }, 4096), -EINVAL);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x1000 }, 4095), -EINVAL);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x1000 }, 0), -EINVAL);
	assert_int_equal(h->ops->split(h, (gpa_t){ MEM - 4096 }, 8192),
			 -EINVAL);
	assert_int_equal(h->ops->split(h, (gpa_t){ UINT64_MAX - 4095 }, 4096),
			 -EINVAL);
	assert_int_equal(h->ops->merge(h, (gpa_t){ 0x1000 }, 4096), -EALREADY);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x1000 }, 4096), 0);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0 }, 12288), -EALREADY);
	assert_int_equal(h->ops->merge(h, (gpa_t){ 0 }, 12288), -EALREADY);
	assert_int_equal(h->ops->merge(h, (gpa_t){ 0x1000 }, 4096), 0);
	tear_down(&rig);
}

/* On the vCPU's thread, between the guest's writes. */
static int told(void *opaque, uint64_t buf, uint64_t round)
{
	struct rig *r = opaque;
	uint64_t n = 64, step = 3, want = 0;

	if (buf) {
		r->buf = buf;
		if (round == 1 && vm_dirty_start(r->vm))
			return -EIO;
		memset(r->dirty, 0, sizeof(r->dirty));
		if (vm_dirty_fetch(r->vm, r->dirty))
			return -EIO;
		memset(r->dirty, 0, sizeof(r->dirty));
		return 0;
	}
	/* And one page that a device wrote, on top of another. */
	vm_host(r->vm)->ops->mark_dirty(
		vm_host(r->vm), (gpa_t){ r->buf + PAGE_SIZE + 4090 }, 10);
	if (vm_dirty_fetch(r->vm, r->dirty))
		return -EIO;
	for (uint64_t p = 0; p < n * step; p++) {
		uint64_t page = (r->buf >> PAGE_SHIFT) + p;
		bool wrote = p % step == 0 && p / step % round == 0;
		bool marked = p == 1 || p == 2;

		want += wrote || marked;
		if (bitmap_test(r->dirty, page) != (wrote || marked))
			return -EBADMSG;
	}
	/* Its stack and the like on top, no more. */
	if (bitmap_count(r->dirty, vm_pages(r->vm)) > want + 8)
		return -E2BIG;
	return 0;
}

static void dirty_pages_are_logged(void **state)
{
	set_up(&rig, "test=dirty pages=64 step=3", 1, false);
	rig.dev.tell = told;
	start(&rig);
	finish(&rig, 0);
	vm_dirty_stop(rig.vm);
	tear_down(&rig);
}

static void pause_stops_and_nests(void **state)
{
	uint64_t *ram, t0, took, all = 0, worst = 0;

	set_up(&rig, "test=move cpus=2 steps=100000", 2, false);
	start(&rig);
	while (!strstr(rig.out, "moving"))
		usleep(1000);
	ram = vm_page_ptr(rig.vm, 0);
	for (int i = 0; i < 50; i++) {
		uint64_t sum[2] = { 0, 0 };

		t0 = now_ns();
		vm_pause(rig.vm);
		took = now_ns() - t0;
		worst = MAX(worst, took);
		all += took;
		vm_pause(rig.vm);
		assert_true(vm_paused(rig.vm));
		vm_resume(rig.vm);
		assert_int_equal(vm_park(rig.vm), 0);
		for (int k = 0; k < 2; k++) {
			for (size_t w = 0; w < MEM / 8; w += 64)
				sum[k] += ram[w];
			usleep(k ? 0 : 2000);
		}
		assert_true(sum[0] == sum[1]);
		vm_resume(rig.vm);
		usleep(1000);
	}
	print_message("50 pauses: %.1f us each, the slowest %.1f us\n",
		      (double)all / 50e3, (double)worst / 1e3);
	tear_down(&rig);
}

static void copy_ram(struct vm *to, struct vm *from)
{
	for (uint64_t p = 0; p < vm_pages(from); p++)
		memcpy(vm_page_ptr(to, p), vm_page_ptr(from, p), PAGE_SIZE);
}

/* From 'from' into a new VM 'to'; the old one is gone when this returns. */
static void move(struct rig *to, struct rig *from, unsigned int cpus)
{
	struct err e = { 0 };
	struct wire_out o;
	struct wire_in in;
	size_t size;
	void *buf;

	assert_int_equal(vm_pause(from->vm), 0);
	size = vm_state_max(from->vm);
	buf = malloc(size);
	wire_out_init(&o, buf, size);
	assert_int_equal(vm_save(from->vm, &o), 0);

	set_up(to, NULL, cpus, true);
	copy_ram(to->vm, from->vm);
	assert_int_equal(testdev_move(&to->dev, &from->dev), 0);
	wire_in_init(&in, buf, wire_used(&o));
	if (vm_load(to->vm, &in, &e))
		fail_msg("%s", e.text);
	assert_int_equal(wire_done(&in), 0);
	free(buf);
	tear_down(from);
	start(to);
}

static struct rig other;

/* Again and again, back and forth, until the guest is through. */
static void moves_while_running(void **state)
{
	static const char *const append[] = {
		[1] = "test=move steps=150",
		[2] = "test=move steps=150 cpus=2",
	};

	for (unsigned int cpus = 1; cpus <= 2; cpus++) {
		struct rig *from = &rig, *to = &other;
		unsigned int moves = 0;

		set_up(from, append[cpus], cpus, false);
		start(from);
		while (vm_wait(from->vm, 37, NULL) == VM_RUNS && moves < 40) {
			struct rig *t = to;

			move(to, from, cpus);
			to = from;
			from = t;
			moves++;
		}
		finish(from, 7);
		assert_true(moves > 2);
		assert_non_null(strstr(from->out, "sum 1\n"));
		print_message("%u CPUs: moved %u times\n", cpus, moves);
		tear_down(from);
	}
}

/* A state that is cut off or foreign leaves the new VM as it was. */
static void bad_states_are_refused(void **state)
{
	struct err e = { 0 };
	struct wire_out o;
	struct wire_in in;
	uint8_t *buf;
	size_t size, len;

	set_up(&rig, "test=move steps=5 cpus=2", 2, false);
	start(&rig);
	vm_wait(rig.vm, 20, NULL);
	vm_pause(rig.vm);
	size = vm_state_max(rig.vm);
	buf = malloc(size);
	wire_out_init(&o, buf, 100);
	assert_int_equal(vm_save(rig.vm, &o), -ENOSPC);
	wire_out_init(&o, buf, size);
	assert_int_equal(vm_save(rig.vm, &o), 0);
	len = wire_used(&o);
	print_message("state of 2 vCPUs: %zu bytes of at most %zu\n", len,
		      size);

	wire_in_init(&in, buf + 12, len - 12);
	if (vm_cpu_check(&in, &e))
		fail_msg("%s", e.text);

	set_up(&other, NULL, 2, true);
	for (size_t cut = 0; cut < len; cut += cut < 64 ? 1 : 97) {
		wire_in_init(&in, buf, cut);
		assert_true(vm_load(other.vm, &in, &e) < 0);
		err_clear(&e);
	}
	buf[0]++;
	wire_in_init(&in, buf, len);
	assert_int_equal(vm_load(other.vm, &in, &e), -EPROTO);
	buf[0]--;
	err_clear(&e);
	buf[2]--;
	wire_in_init(&in, buf, len);
	assert_int_equal(vm_load(other.vm, &in, &e), -EINVAL);
	assert_non_null(strstr(e.text, "vCPUs"));
	buf[2]++;
	err_clear(&e);
	memset(buf + 14 + 4 * 4, 0x5a, 4); /* the maker of the CPU */
	wire_in_init(&in, buf, len);
	assert_int_equal(vm_load(other.vm, &in, &e), -ENOTSUP);
	free(buf);
	tear_down(&other);
	vm_resume(rig.vm);
	finish(&rig, 7);
	tear_down(&rig);
}

/* Another MSR than the guest wants, then a single step. */
static bool stopped(void *opaque, struct vm *vm,
		    const struct vm_debug_stop *stop)
{
	struct rig *r = opaque;
	struct kvm_regs regs;

	assert_int_equal(stop->cpu, 0);
	assert_int_equal(vm_debug_get_regs(vm, 0, &regs), 0);
	assert_int_equal(regs.rip, stop->pc);
	if (stop->breakpoint) {
		static const uint8_t trap[] = VM_DEBUG_TRAP;
		uint8_t code[2];

		assert_int_equal(vm_debug_read(vm, 0, stop->pc, code, 2), 0);
		assert_memory_equal(code, trap, 2);
		assert_int_equal(regs.rax, r->traps);
		if (r->traps++ == 4)
			return false; /* the last one: let it have it */
		regs.rip += 2;
		regs.rax += 100;
		assert_int_equal(vm_debug_set_regs(vm, 0, &regs), 0);
		return true;
	}
	if (stop->hw) {
		assert_int_equal(stop->hw, 2);
		assert_int_equal(stop->pc, r->buf);
		assert_int_equal(regs.rdi, 0xc0000080);
		regs.rdi = 0x1b;
		assert_int_equal(vm_debug_set_regs(vm, 0, &regs), 0);
		r->stops++;
		assert_int_equal(vm_debug_step(vm, 0, true), 0);
	} else {
		assert_true(stop->step);
		assert_int_equal(stop->pc, r->buf + 2);
		assert_int_equal(regs.rcx, 0x1b);
		r->steps++;
		assert_int_equal(vm_debug_step(vm, 0, false), 0);
	}
	return true;
}

static int debug_told(void *opaque, uint64_t fn, uint64_t arg)
{
	static const struct vm_debug_ops dops = { .stop = stopped };
	uint64_t old = 1, word = 0x1122334455667788;
	struct rig *r = opaque;
	uint8_t code[16];
	gpa_t gpa;

	if (!fn) {
		vm_debug_detach(r->vm);
		return 0;
	}
	r->buf = fn;
	if (vm_debug_read(r->vm, 0, fn, code, sizeof(code)) ||
	    memcmp(code, host_guest_ptr(vm_host(r->vm), (gpa_t){ fn }, 16), 16))
		return -EIO;
	if (vm_debug_read(r->vm, 0, arg, &old, 8) || old ||
	    vm_debug_write(r->vm, 0, arg, &word, 8))
		return -EIO;
	if (vm_debug_translate(r->vm, 0, false, 1ull << 46, &gpa) != -EFAULT ||
	    vm_debug_read(r->vm, 0, 1ull << 46, &old, 8) != -EFAULT ||
	    vm_debug_read(r->vm, 0, MEM - 4, &old, 8) != -EFAULT)
		return -EIO;
	if (vm_debug_attach(r->vm, &dops, r))
		return -EIO;
	return vm_debug_hw(r->vm, 1, fn);
}

static void breakpoints_stop_the_guest(void **state)
{
	set_up(&rig, "test=debug", 1, false);
	rig.dev.tell = debug_told;
	start(&rig);
	finish(&rig, 0);
	assert_int_equal(rig.stops, 5);
	assert_int_equal(rig.steps, 5);
	assert_int_equal(rig.traps, 5);
	tear_down(&rig);
}

static void ends_are_told_apart(void **state)
{
	static const struct {
		const char *append;
		enum vm_end end;
	} t[] = {
		{ "test=end how=0", VM_END_POWEROFF },
		{ "test=end how=1", VM_END_REBOOT },
		{ "test=end how=2", VM_END_REBOOT },
	};
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		set_up(&rig, t[i].append, 1, false);
		start(&rig);
		assert_int_equal(vm_wait(rig.vm, LIMIT_MS, &code), t[i].end);
		tear_down(&rig);
	}
	run("test=fault", 1, 0xef, &rig);
	assert_non_null(strstr(rig.out, "FAULT vector 14"));
	tear_down(&rig);
}

static void power_button_is_seen(void **state)
{
	set_up(&rig, "test=button", 1, false);
	start(&rig);
	while (!strstr(rig.out, "waiting"))
		usleep(1000);
	vm_power_button(rig.vm);
	finish(&rig, 0);
	tear_down(&rig);
}

static void is_destroyed_at_any_time(void **state)
{
	for (useconds_t us = 0; us < 30000; us += 3000) {
		set_up(&rig, "test=move cpus=2 steps=100000", 2, false);
		start(&rig);
		usleep(us);
		tear_down(&rig);
	}
	set_up(&rig, "test=hello", 2, false);
	tear_down(&rig);
}

static void bad_configurations_are_refused(void **state)
{
	static const struct {
		struct vm_config cfg;
		const char *say;
	} t[] = {
		{ { .mem = MEM, .cpus = 0 }, "CPUs" },
		{ { .mem = MEM, .cpus = VM_CPUS_MAX + 1 }, "CPUs" },
		{ { .mem = MEM + 4096, .cpus = 1 }, "multiple of 2 MiB" },
		{ { .mem = 0, .cpus = 1 }, "multiple of 2 MiB" },
		{ { .mem = 1ul << 52, .cpus = 1 }, "address bits" },
		{ { .mem = MEM, .cpus = 1, .kernel = "/nonexistent" },
		  "/nonexistent" },
		{ { .mem = MEM, .cpus = 1, .kernel = "/dev/null" },
		  "not a file" },
		{ { .mem = MEM, .cpus = 1, .kernel = "/proc/version" },
		  "not a file" },
	};
	struct vm_config huge = { .mem = 1ul << 46,
				  .cpus = 1,
				  .hugepages = true };
	struct err e;
	struct vm *vm;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		err_clear(&e);
		assert_true(vm_create(&vm, &t[i].cfg, &e) < 0);
		if (!strstr(e.text, t[i].say))
			fail_msg("\"%s\" lacks \"%s\"", e.text, t[i].say);
	}
	err_clear(&e);
	assert_true(vm_create(&vm, &huge, &e) < 0);
	assert_non_null(strstr(e.text, "huge pages"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boots_at_once),
		cmocka_unit_test(reads_its_console),
		cmocka_unit_test(timer_interrupts),
		cmocka_unit_test(msis_arrive),
		cmocka_unit_test(cpus_wake),
		cmocka_unit_test(mmio_is_trapped_and_counted),
		cmocka_unit_test(pages_toggle),
		cmocka_unit_test(pages_toggle_in_a_race),
		cmocka_unit_test(buffers_split_and_merge),
		cmocka_unit_test_teardown(huge_pages_split, give_back),
		cmocka_unit_test(splits_are_checked),
		cmocka_unit_test(dirty_pages_are_logged),
		cmocka_unit_test(pause_stops_and_nests),
		cmocka_unit_test(moves_while_running),
		cmocka_unit_test(bad_states_are_refused),
		cmocka_unit_test(breakpoints_stop_the_guest),
		cmocka_unit_test(ends_are_told_apart),
		cmocka_unit_test(power_button_is_seen),
		cmocka_unit_test(is_destroyed_at_any_time),
		cmocka_unit_test(bad_configurations_are_refused),
	};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	close(fd);
	if (argc < 2)
		return 64;
	guest = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
