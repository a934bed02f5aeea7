/*
 * What the VMM costs: boot, exits, pauses, toggles, splits, the dirty log.
 *
 * A guest of two busy CPUs runs all the while; the figures are medians, with
 * the slowest beside them, because other load on the machine shows there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "vmm/testdev.h"
#include "vmm/vm.h"

#define MEM	   (256ul << 20)
#define LIMIT_MS   60000
#define ROUNDS	   101
#define BUF	   (128ul << 20) /* nothing of the guest is there */
#define SPLIT_MOST 256u

static struct vm *vm;
static struct testdev dev;
static volatile int talked;

static void console(void *opaque, const void *buf, size_t len)
{
	talked = 1;
	if (opaque)
		fwrite(buf, 1, len, stdout);
}

static void must(int ret, const char *what, const struct err *e)
{
	if (!ret)
		return;
	fprintf(stderr, "%s: %s\n", what,
		e && e->text[0] ? e->text : strerror(-ret));
	exit(1);
}

static void boot(const char *append, unsigned int cpus, bool echo)
{
	struct vm_config cfg = {
		.name = "bench",
		.mem = MEM,
		.cpus = cpus,
		.kernel = VMM_BENCH_GUEST,
		.append = append,
		.console = console,
		.opaque = echo ? &cfg : NULL,
	};
	struct err e = { 0 };

	talked = 0;
	must(vm_create(&vm, &cfg, &e), "vm_create", &e);
	must(testdev_init(&dev, vm_host(vm)), "test device", NULL);
	must(vm_pci_add(vm, &dev.func, -1, &e), "vm_pci_add", &e);
	must(vm_start(vm, &e), "vm_start", &e);
}

static void end(void)
{
	testdev_fini(&dev);
	vm_destroy(vm);
}

static int order(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void report(const char *what, uint64_t *ns, unsigned int n,
		   unsigned int per)
{
	qsort(ns, n, sizeof(*ns), order);
	printf("  %-18s %14.1f us, slowest %.1f us", what,
	       (double)ns[n / 2] / 1e3, (double)ns[n - 1] / 1e3);
	if (per > 1)
		printf(", %.2f us a page", (double)ns[n / 2] / 1e3 / per);
	printf("\n");
}

static void toggle_on(unsigned int n)
{
	must(testdev_direct(&dev, true), "direct", NULL);
}

static void toggle_off(unsigned int n)
{
	must(testdev_direct(&dev, false), "trapped", NULL);
}

static void pause_it(unsigned int n)
{
	must(vm_pause(vm), "pause", NULL);
}

static void resume_it(unsigned int n)
{
	vm_resume(vm);
}

static void split(unsigned int n)
{
	struct host *h = vm_host(vm);

	must(h->ops->split(h, (gpa_t){ BUF }, n * PAGE_SIZE), "split", NULL);
}

static void merge(unsigned int n)
{
	struct host *h = vm_host(vm);

	must(h->ops->merge(h, (gpa_t){ BUF }, n * PAGE_SIZE), "merge", NULL);
}

static void measure(const char *a, void (*fa)(unsigned int n), const char *b,
		    void (*fb)(unsigned int n), unsigned int pages)
{
	static uint64_t na[ROUNDS], nb[ROUNDS];

	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t t0 = now_ns(), t1;

		fa(pages);
		t1 = now_ns();
		fb(pages);
		na[i] = t1 - t0;
		nb[i] = now_ns() - t1;
		usleep(500);
	}
	report(a, na, ROUNDS, pages);
	report(b, nb, ROUNDS, pages);
}

static void dirty_log(void)
{
	static uint64_t map[BITMAP_WORDS(MEM >> PAGE_SHIFT)], ns[ROUNDS];

	must(vm_dirty_start(vm), "dirty log", NULL);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t t0 = now_ns();

		must(vm_dirty_fetch(vm, map), "dirty log", NULL);
		ns[i] = now_ns() - t0;
		usleep(500);
	}
	/* The guest writes 256 pages round and round: it must show. */
	for (uint64_t t0 = now_ns(); bitmap_count(map, MEM >> PAGE_SHIFT) < 256;
	     usleep(1000)) {
		must(vm_dirty_fetch(vm, map), "dirty log", NULL);
		if (now_ns() - t0 > LIMIT_MS * 1000000ull)
			must(-EIO, "the guest does not run", NULL);
	}
	vm_dirty_stop(vm);
	report("dirty fetch 256 MiB", ns, ROUNDS, 1);
}

int main(void)
{
	uint64_t t0, ns[21];
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("/dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	close(fd);

	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		t0 = now_ns();
		boot("test=hello", 1, false);
		vm_wait(vm, LIMIT_MS, NULL);
		ns[i] = now_ns() - t0;
		end();
	}
	report("boot to exit", ns, ARRAY_SIZE(ns), 1);

	boot("test=cost", 1, true);
	vm_wait(vm, LIMIT_MS, NULL);
	end();

	boot("test=busy cpus=2", 2, false);
	while (!talked)
		usleep(1000);
	measure("pause", pause_it, "resume", resume_it, 1);
	measure("page direct", toggle_on, "page trapped", toggle_off, 1);
	for (unsigned int n = 1; n <= SPLIT_MOST; n *= 16) {
		printf(" %u pages:\n", n);
		measure("split", split, "merge", merge, n);
	}
	dirty_log();
	end();
	return 0;
}
