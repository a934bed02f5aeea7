/*
 * Boot an image with nothing but the VMM: console on standard output and
 * input, exit counts at the end.
 *
 *	boot [-c CPUS] [-m MIB] [-i INITRD] [-a APPEND] [-t SECONDS] KERNEL
 *
 * The exit status is the test guest's, 0 for a poweroff, 3 for any other end.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "vmm/vm.h"

static void console(void *opaque, const void *buf, size_t len)
{
	if (write(STDOUT_FILENO, buf, len) < 0)
		exit(4);
}

static void *feed(void *arg)
{
	char buf[256];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		for (size_t done = 0; done < (size_t)n; usleep(1000))
			done += vm_console_in(arg, buf + done,
					      (size_t)n - done);
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
	int opt, limit = 60, code;
	enum vm_end end;
	pthread_t input;
	struct vm *vm;

	while ((opt = getopt(argc, argv, "c:m:i:a:t:H")) != -1)
		switch (opt) {
		case 'c': cfg.cpus = (unsigned int)atoi(optarg); break;
		case 'm': cfg.mem = (uint64_t)atoi(optarg) << 20; break;
		case 'i': cfg.initrd = optarg; break;
		case 'a': cfg.append = optarg; break;
		case 't': limit = atoi(optarg); break;
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
	if (pthread_create(&input, NULL, feed, vm))
		return 1;
	end = vm_wait(vm, limit * 1000, &code);
	t2 = now_ns();
	vm_exit_counts(vm, -1, &n);
	fprintf(stderr, "\nboot: %s (%d), created in %.1f ms, ran %.1f ms;",
		vm_end_name(end), code, (double)(t1 - t0) / 1e6,
		(double)(t2 - t1) / 1e6);
	for (unsigned int i = 0; i < VM_NEXITS; i++)
		fprintf(stderr, " %s %lu", vm_exit_name(i), n.n[i]);
	fprintf(stderr, "\n");
	/* The input thread may be in a read that never ends. */
	_exit(end == VM_END_EXIT ? code : end == VM_END_POWEROFF ? 0 : 3);
}
