/*
 * Boot a kernel and probe it.
 *
 *	probe-guest [-c CPUS] [-m MIB] [-i INITRD] [-a APPEND] [-t SECONDS]
 *	    KALLSYMS PATTERNS KERNEL
 *
 * As soon as the file KALLSYMS appears (what /proc/kallsyms says in the
 * guest) the probes are set, for as long as it is there; then they are taken
 * away and counts are printed, a line a function.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "probe/guest.h"
#include "vmm/vm.h"

#define FUNCS 256

static struct vm *vm;
static const char *symbols, *patterns;
static unsigned long counts[FUNCS][EVENT_KINDS];
static unsigned long latency[FUNCS];

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
			done += vm_console_in(vm, buf + done, (size_t)n - done);
	return NULL;
}

static void sink(const struct probe_event *ev, void *opaque)
{
	if (ev->func >= FUNCS)
		return;
	counts[ev->func][ev->kind]++;
	latency[ev->func] += ev->latency;
}

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t n = 0, room = 1 << 24;
	char *text;

	if (!f)
		return NULL;
	text = malloc(room);
	if (text)
		n = fread(text, 1, room - 1, f);
	if (text)
		text[n] = '\0';
	fclose(f);
	return text;
}

static void report(struct guest_probe *g)
{
	const struct engine *en = guest_probe_engine(g);

	for (unsigned int i = 0; i < engine_nfuncs(en) && i < FUNCS; i++)
		fprintf(stderr,
			"\nprobe: %s entries %lu exits %lu jumps %lu"
			" abandoned %lu mean %lu\n",
			engine_func(en, i)->name, counts[i][EVENT_ENTRY],
			counts[i][EVENT_EXIT], counts[i][EVENT_JUMP],
			counts[i][EVENT_ABANDONED],
			counts[i][EVENT_EXIT]
				? latency[i] / counts[i][EVENT_EXIT]
				: 0);
	fprintf(stderr, "\nprobe: lost %lu swapped %lu\n",
		engine_stats(en)->lost, engine_stats(en)->swapped);
}

static void *probes(void *arg)
{
	const struct engine_options opt = { .entry = true,
					    .exit = true,
					    .jump = true };
	struct guest_probe *g;
	struct err e = { 0 };
	char *text;
	int ret;

	while (!(text = slurp(symbols)))
		usleep(200000);
	ret = guest_probe_start(&g, vm, text, patterns, &opt, sink, NULL, &e);
	fprintf(stderr, "\nprobe: start: %s\n", ret ? e.text : "done");
	while (!ret && !access(symbols, F_OK))
		usleep(200000);
	if (!ret) {
		report(g);
		guest_probe_stop(g);
		fprintf(stderr, "\nprobe: gone\n");
	}
	free(text);
	return NULL;
}

int main(int argc, char **argv)
{
	struct vm_config cfg = { .name = "probed",
				 .cpus = 1,
				 .mem = 160 << 20,
				 .console = console };
	struct err e = { 0 };
	pthread_t input, prober;
	int opt, limit = 60, code;

	while ((opt = getopt(argc, argv, "c:m:i:a:t:")) != -1)
		switch (opt) {
		case 'c': cfg.cpus = (unsigned int)atoi(optarg); break;
		case 'm': cfg.mem = (uint64_t)atoi(optarg) << 20; break;
		case 'i': cfg.initrd = optarg; break;
		case 'a': cfg.append = optarg; break;
		case 't': limit = atoi(optarg); break;
		default: return 64;
		}
	if (argc - optind != 3)
		return 64;
	symbols = argv[optind];
	patterns = argv[optind + 1];
	cfg.kernel = argv[optind + 2];
	if (vm_create(&vm, &cfg, &e) || vm_start(vm, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	if (pthread_create(&input, NULL, feed, NULL) ||
	    pthread_create(&prober, NULL, probes, NULL))
		return 1;
	vm_wait(vm, limit * 1000, &code);
	/* The input thread may be in a read that never ends. */
	_exit(0);
}
