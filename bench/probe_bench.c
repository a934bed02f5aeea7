/*
 * What a hit costs: each way of probing the same functions, in one run, as ns
 * a call and as a multiple of the bare call.  uprobes are measured beside
 * ours where the kernel lets us have them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/inproc.h"
#include "probe/ptrace.h"

#define NOINLINE __attribute__((noinline, noclone, noipa))
#define SPAN	 100000000ull /* ns each figure is measured for */

long bench_ret(long x);
long bench_tail(long x);
long bench_three(long x);
long bench_two(long x);

NOINLINE long bench_ret(long x)
{
	__asm__ volatile("" : "+r"(x));
	return x * 3 + 1;
}

NOINLINE long bench_two(long x)
{
	__asm__ volatile("" : "+r"(x));
	return bench_ret(x * 2 + 1);
}

NOINLINE long bench_tail(long x)
{
	__asm__ volatile("" : "+r"(x));
	return bench_ret(x * 5 + 2);
}

NOINLINE long bench_three(long x)
{
	__asm__ volatile("" : "+r"(x));
	return bench_two(x * 7 + 3);
}

/* A hundred functions, for the time it takes to detach from them. */
#define MANY1(n)                                \
	long many_##n(long x);                  \
	NOINLINE long many_##n(long x)          \
	{                                       \
		__asm__ volatile("" : "+r"(x)); \
		return x + 0x##n;               \
	}
#define MANY10(n)    \
	MANY1(n##0); \
	MANY1(n##1); \
	MANY1(n##2); \
	MANY1(n##3); \
	MANY1(n##4); \
	MANY1(n##5); \
	MANY1(n##6); \
	MANY1(n##7); \
	MANY1(n##8); \
	MANY1(n##9)
MANY10(1);
MANY10(2);
MANY10(3);
MANY10(4);
MANY10(5);
MANY10(6);
MANY10(7);
MANY10(8);
MANY10(9);
MANY10(a);

static volatile long result;

/*
 * The best of many short batches: others use the machine too, and what they
 * take is not ours.
 */
static double best(long (*volatile fn)(long), uint64_t span, int batch)
{
	uint64_t start = now_ns(), from, now, least = UINT64_MAX;

	do {
		from = now_ns();
		for (int i = 0; i < batch; i++)
			result += fn(i);
		now = now_ns();
		least = MIN(least, now - from);
	} while (now - start < span);
	return (double)least / batch;
}

/* With traps, and without. */
static double loop(long (*volatile fn)(long), uint64_t span)
{
	return best(fn, span, 32);
}

static double tight(long (*volatile fn)(long), uint64_t span)
{
	return best(fn, span, 5000);
}

static double base;

static void say(const char *what, double ns)
{
	printf("%-52s %10.1f ns %8.1fx\n", what, ns, ns / base);
}

static uint64_t seen;

static void sink(const struct probe_event *ev, void *opaque)
{
	seen++;
}

static struct inproc *begin(const char *patterns, struct engine_options opt,
			    bool jump)
{
	struct err e = { 0 };
	struct inproc *ip;
	int ret = inproc_start(&ip, patterns, &opt, jump, sink, NULL, &e);

	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", patterns, err_text(&e, ret));
		exit(1);
	}
	return ip;
}

static double probed(const char *what, const char *patterns,
		     struct engine_options opt, bool jump, long (*fn)(long))
{
	struct inproc *ip = begin(patterns, opt, jump);
	double ns;

	loop(fn, 1000000); /* return addresses learnt */
	ns = jump ? tight(fn, SPAN) : loop(fn, SPAN);
	inproc_stop(ip);
	say(what, ns);
	return ns;
}

static int uprobe_type(void)
{
	char text[16] = { 0 };
	int fd = open("/sys/bus/event_source/devices/uprobe/type",
		      O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	close_fd(&fd);
	return n > 0 ? atoi(text) : -1;
}

static int uprobe(uint64_t offset, bool ret)
{
	struct perf_event_attr at = {
		.type = (uint32_t)uprobe_type(),
		.size = sizeof(at),
		.config = ret,
		.uprobe_path = (uint64_t) "/proc/self/exe",
		.probe_offset = offset,
	};

	return (int)syscall(SYS_perf_event_open, &at, 0, -1, -1,
			    PERF_FLAG_FD_CLOEXEC);
}

/* The address as an offset in the file: what uprobes want. */
static uint64_t file_offset(const void *fn)
{
	struct err e = { 0 };
	struct selection s;
	uint64_t addr, off = 0;

	if (selection_of_process(&s, 0, &e) < 0)
		return 0;
	addr = (uint64_t)fn - s.mod[0].bias;
	for (size_t i = 0; i < s.mod[0].im->nseg; i++) {
		const struct image_segment *g = &s.mod[0].im->seg[i];

		if (addr >= g->addr && addr - g->addr < g->filesz)
			off = addr - g->addr + g->offset;
	}
	selection_close(&s);
	return off;
}

static void uprobes(void)
{
	int in, out;

	if (uprobe_type() < 0) {
		printf("uprobes: skipped, the kernel has none for us\n");
		return;
	}
	in = uprobe(file_offset(bench_ret), false);
	if (in < 0) {
		printf("uprobes: skipped: %s\n", strerror(errno));
		return;
	}
	say("uprobe, counting: entry", loop(bench_ret, SPAN));
	out = uprobe(file_offset(bench_ret), true);
	if (out >= 0)
		say("uprobe + uretprobe, counting", loop(bench_ret, SPAN));
	close_fd(&in);
	close_fd(&out);
}

static struct {
	uint64_t n, first, last;
} remote;

static void remote_sink(const struct probe_event *ev, void *opaque)
{
	if (!remote.n++)
		remote.first = ev->time;
	remote.last = ev->time;
}

static int under_ptrace(const char *self)
{
	char *argv[] = { (char *)self, (char *)"--loop", NULL };
	const struct tracer_options opt = {
		.engine = { .entry = true, .exit = true },
	};
	struct err e = { 0 };
	volatile int stop = 0;
	struct tracer *t;
	uint64_t before;
	cpu_set_t one;
	int ret;

	/* A stop that wakes another core costs ten times as much. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	memset(&remote, 0, sizeof(remote));
	ret = tracer_spawn(&t, argv, "bench_ret", &opt, remote_sink, NULL, &e);
	if (ret < 0) {
		printf("ptrace: skipped: %s\n", err_text(&e, ret));
		return 0;
	}
	while (!tracer_wait(t, &stop))
		;
	if (remote.n > 2)
		say("ptrace: entry + return, two stops",
		    2 * (double)(remote.last - remote.first) /
			    (double)(remote.n - 1));
	tracer_close(t);

	memset(&remote, 0, sizeof(remote));
	ret = tracer_spawn(&t, argv, "many_*", &opt, remote_sink, NULL, &e);
	if (ret < 0)
		return 1;
	before = now_ns();
	tracer_stop(t);
	printf("%-52s %10.1f ms\n", "ptrace: 100 functions detached in",
	       (double)(now_ns() - before) / 1e6);
	tracer_close(t);
	return 0;
}

int main(int argc, char **argv)
{
	const struct engine_options both = { .entry = true, .exit = true };
	struct engine_options entry = { .entry = true };
	struct engine_options count = both, lean = both;
	double ret, three, tail;
	struct inproc *ip;
	uint64_t before;

	if (argc > 1 && !strcmp(argv[1], "--loop")) {
		for (int i = 0; i < 2000; i++)
			result += bench_ret(i);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	count.count_only = true;
	lean.count_only = lean.no_latency = true;

	base = tight(bench_ret, SPAN);
	say("a bare call", base);
	say("a bare chain of three", tight(bench_three, SPAN));
	probed("exception, in-process: entry", "bench_ret", entry, false,
	       bench_ret);
	ret = probed("exception: entry + return", "bench_ret", both, false,
		     bench_ret);
	tail = probed("exception: entry + tail exit (target not probed)",
		      "bench_tail", both, false, bench_tail);
	three = probed("exception: chain of three, all probed",
		       "bench_ret,bench_two,bench_three", both, false,
		       bench_three);
	printf("%-52s %10.2fx %s\n", "   a tail exit against a return exit",
	       tail / ret, "(goal 2)");
	printf("%-52s %10.2fx\n", "   chain of three against one", three / ret);
	ret = probed("jump, counts: entry + return", "bench_ret", lean, true,
		     bench_ret);
	probed("jump, counts and latency: entry + return", "bench_ret", count,
	       true, bench_ret);
	tail = probed("jump, counts: entry + tail exit", "bench_tail", lean,
		      true, bench_tail);
	three = probed("jump, counts: chain of three",
		       "bench_ret,bench_two,bench_three", lean, true,
		       bench_three);
	printf("%-52s %10.2fx %s\n", "   a tail exit against a return exit",
	       tail / ret, "(goal 2)");
	printf("%-52s %10.2fx\n", "   chain of three against one", three / ret);
	probed("jump, events with vector state saved", "bench_ret", both, true,
	       bench_ret);
	uprobes();

	ip = begin("many_*", both, false);
	before = now_ns();
	inproc_stop(ip);
	printf("%-52s %10.1f ms %s\n", "in-process: 100 functions detached in",
	       (double)(now_ns() - before) / 1e6, "(goal 50)");
	return under_ptrace(argv[0]);
}
