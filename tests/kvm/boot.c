/*
 * Boot an image with nothing but the VMM: console on standard output and
 * input, exit counts at the end.
 *
 *	boot [-c CPUS] [-m MIB] [-i INITRD] [-a APPEND] [-t SECONDS]
 *	    [-M SECONDS] [-B FILE] KERNEL
 *
 * With -B, a breakpoint is put at the address (hexadecimal) in FILE once that
 * appears, for ten seconds.  It must be an endbr64, which is stepped over.
 * With -M the guest moves to a new VM, here in this process, that often.
 * The exit status is the test guest's, 0 for a poweroff, 3 for any other end.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "vmm/debug.h"
#include "vmm/vm.h"

static void console(void *opaque, const void *buf, size_t len)
{
	if (write(STDOUT_FILENO, buf, len) < 0)
		exit(4);
}

static struct vm *vm;
static unsigned int moves;
static uint64_t moving_ns;
static pthread_mutex_t vm_lock = PTHREAD_MUTEX_INITIALIZER;

static void *feed(void *arg)
{
	char buf[256];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		for (size_t done = 0; done < (size_t)n; usleep(1000)) {
			pthread_mutex_lock(&vm_lock);
			done += vm_console_in(vm, buf + done, (size_t)n - done);
			pthread_mutex_unlock(&vm_lock);
		}
	return NULL;
}

/* The guest goes on in a new VM; the old one is gone. */
static int move(struct vm_config cfg, struct err *e)
{
	static const char zero[PAGE_SIZE];
	uint64_t t0 = now_ns();
	struct wire_out o;
	struct wire_in in;
	struct vm *to = NULL;
	size_t size;
	void *buf;
	int ret;

	cfg.kernel = NULL;
	ret = vm_create(&to, &cfg, e);
	if (ret)
		return ret;
	size = vm_state_max(vm);
	buf = malloc(size);
	if (!buf)
		return -ENOMEM;
	wire_out_init(&o, buf, size);
	pthread_mutex_lock(&vm_lock);
	ret = vm_pause(vm);
	if (!ret)
		ret = vm_save(vm, &o);
	for (uint64_t p = 0; !ret && p < vm_pages(vm); p++)
		if (memcmp(vm_page_ptr(vm, p), zero, PAGE_SIZE) != 0)
			memcpy(vm_page_ptr(to, p), vm_page_ptr(vm, p),
			       PAGE_SIZE);
	wire_in_init(&in, buf, wire_used(&o));
	if (!ret)
		ret = vm_load(to, &in, e);
	if (!ret) {
		vm_destroy(vm);
		vm = to;
		ret = vm_start(vm, e);
	}
	pthread_mutex_unlock(&vm_lock);
	free(buf);
	moves++;
	moving_ns += now_ns() - t0;
	return ret;
}

static const char *bp_file;
static uint64_t bp_at;
static _Atomic unsigned int bp_hits, bp_odd;

/* The instruction under it does nothing: go on behind it. */
static bool stopped(void *opaque, struct vm *v,
		    const struct vm_debug_stop *stop)
{
	struct kvm_regs r;

	if (!stop->breakpoint || stop->pc != bp_at) {
		bp_odd++;
		return false;
	}
	bp_hits++;
	if (vm_debug_get_regs(v, stop->cpu, &r))
		return false;
	if (r.rip != bp_at)
		bp_odd++;
	r.rip = bp_at + 4;
	return vm_debug_set_regs(v, stop->cpu, &r) == 0;
}

static int patch(const uint8_t *want, const uint8_t *put)
{
	uint8_t now[4];
	int ret;

	vm_pause(vm);
	ret = vm_park(vm);
	if (!ret)
		ret = vm_debug_read(vm, 0, bp_at, now, 4);
	if (!ret && memcmp(now, want, 4) != 0)
		ret = -EBUSY;
	if (!ret)
		ret = vm_debug_write(vm, 0, bp_at, put, 4);
	vm_resume(vm);
	return ret;
}

static void *breakpoint(void *arg)
{
	static const uint8_t endbr[4] = { 0xf3, 0x0f, 0x1e, 0xfa };
	static const uint8_t trap[4] = { 0xe6, VM_DEBUG_PORT, 0x1e, 0xfa };
	static const struct vm_debug_ops ops = { .stop = stopped };
	int ret;
	FILE *f;

	while (!(f = fopen(bp_file, "r")))
		usleep(200000);
	if (fscanf(f, "%lx", &bp_at) != 1)
		bp_at = 0;
	fclose(f);
	ret = vm_debug_attach(vm, &ops, NULL);
	if (!ret)
		ret = patch(endbr, trap);
	fprintf(stderr, "\nboot: breakpoint at %lx: %s\n", bp_at,
		strerror(-ret));
	sleep(10);
	if (!ret)
		ret = patch(trap, endbr);
	vm_debug_detach(vm);
	fprintf(stderr, "\nboot: breakpoint gone: %s: %u hits, %u odd\n",
		strerror(-ret), bp_hits, bp_odd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct vm_config cfg = {
		.name = "boot", .cpus = 1, .mem = 64 << 20, .console = console
	};
	struct err e = { 0 };
	struct vm_exit_counts n;
	uint64_t t0, t1, t2;
	int opt, limit = 60, every = 0, code;
	enum vm_end end;
	pthread_t input, bp;

	while ((opt = getopt(argc, argv, "c:m:i:a:t:M:B:H")) != -1)
		switch (opt) {
		case 'c': cfg.cpus = (unsigned int)atoi(optarg); break;
		case 'm': cfg.mem = (uint64_t)atoi(optarg) << 20; break;
		case 'i': cfg.initrd = optarg; break;
		case 'a': cfg.append = optarg; break;
		case 't': limit = atoi(optarg); break;
		case 'M': every = atoi(optarg); break;
		case 'B': bp_file = optarg; break;
		case 'H': cfg.hugepages = true; break;
		default: return 64;
		}
	if (optind >= argc)
		return 64;
	cfg.kernel = argv[optind];

	t0 = now_ns();
	if (vm_create(&vm, &cfg, &e) || vm_start(vm, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	t1 = now_ns();
	if (pthread_create(&input, NULL, feed, NULL))
		return 1;
	if (bp_file && pthread_create(&bp, NULL, breakpoint, NULL))
		return 1;
	do {
		end = vm_wait(vm, (every ? every : limit) * 1000, &code);
		if (every && end == VM_RUNS && move(cfg, &e)) {
			fprintf(stderr, "%s\n", e.text);
			_exit(5);
		}
	} while (every && end == VM_RUNS &&
		 now_ns() - t1 < limit * 1000000000ul);
	t2 = now_ns();
	vm_exit_counts(vm, -1, &n);
	fprintf(stderr, "\nboot: %s (%d), created in %.1f ms, ran %.1f ms;",
		vm_end_name(end), code, (double)(t1 - t0) / 1e6,
		(double)(t2 - t1) / 1e6);
	for (unsigned int i = 0; i < VM_NEXITS; i++)
		fprintf(stderr, " %s %lu", vm_exit_name(i), n.n[i]);
	fprintf(stderr, "; moved %u times in %.1f ms\n", moves,
		(double)moving_ns / 1e6);
	/* The input thread may be in a read that never ends. */
	_exit(end == VM_END_EXIT ? code : end == VM_END_POWEROFF ? 0 : 3);
}
