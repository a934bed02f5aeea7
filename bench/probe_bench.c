/*
 * What a hit costs: each way of probing the same functions, in one run, as ns
 * a call, as a multiple of the bare call, and as a share of what uprobes cost
 * for the same, where the kernel lets us have them.  Goals are printed with
 * whether they are reached.  The guest kernel's cost is the lab's to measure.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "goal.h"
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

/* Its first instruction cannot be moved, its tail call can be turned. */
__asm__(".pushsection .text\n"
	".p2align 4\n.globl bench_turn\n.type bench_turn, @function\n"
	"bench_turn: .cfi_startproc\n"
	"call bench_nothing\n"
	"lea 2(%rdi,%rdi,4), %rdi\n"
	".byte 0xe9\n.long bench_ret - . - 4\n"
	".cfi_endproc\n.size bench_turn, . - bench_turn\n"
	".p2align 4\n.type bench_nothing, @function\n"
	"bench_nothing: .cfi_startproc\nret\n.cfi_endproc\n"
	".size bench_nothing, . - bench_nothing\n"
	/* Its first instruction the kernel emulates for a uprobe. */
	".p2align 4\n.globl bench_nop\n.type bench_nop, @function\n"
	"bench_nop: .cfi_startproc\nnop\nlea 1(%rdi,%rdi,2), %rax\nret\n"
	".cfi_endproc\n.size bench_nop, . - bench_nop\n"
	".popsection\n");
long bench_turn(long x);
long bench_nop(long x);

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
static double by_uprobe, by_uretprobe; /* 0: not to be had */

static void head(void)
{
	printf("%-52s %10s    %9s %10s\n", "", "a call", "of bare",
	       "of uprobe");
}

/* 'uprobe': what the same costs by uprobes, or 0. */
static void say(const char *what, double ns, double uprobe)
{
	printf("%-52s %10.1f ns %8.1fx", what, ns, ns / base);
	if (uprobe > 0)
		printf(" %9.4fx", ns / uprobe);
	printf("\n");
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
	double uprobe = opt.entry && opt.exit ? by_uretprobe
			: opt.entry	      ? by_uprobe
					      : 0;

	struct inproc *ip = begin(patterns, opt, jump);
	double ns;

	loop(fn, 1000000); /* return addresses learnt */
	ns = jump ? tight(fn, SPAN) : loop(fn, SPAN);
	inproc_stop(ip);
	/* One function entered and left is what uprobes were measured on. */
	say(what, ns, strchr(patterns, ',') ? 0 : uprobe);
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

/* Entry, and entry with return; 0 where they are not to be had. */
static void uprobed(long (*fn)(long), double *entry, double *both)
{
	int in = uprobe(file_offset((const void *)fn), false), out;

	*entry = *both = 0;
	if (in < 0) {
		printf("uprobes: skipped: %s\n", strerror(errno));
		return;
	}
	*entry = loop(fn, SPAN);
	out = uprobe(file_offset((const void *)fn), true);
	if (out >= 0)
		*both = loop(fn, SPAN);
	close_fd(&in);
	close_fd(&out);
}

/* What ours are held against is uprobes at their best. */
static void uprobes(void)
{
	double entry, both;

	if (uprobe_type() < 0) {
		printf("uprobes: skipped, the kernel has none for us\n");
		return;
	}
	uprobed(bench_nop, &by_uprobe, &by_uretprobe);
	if (!by_uprobe)
		return;
	say("uprobe, counting, on an emulated nop: entry", by_uprobe, 0);
	say("uprobe + uretprobe there", by_uretprobe, 0);
	uprobed(bench_ret, &entry, &both);
	say("uprobe on the function the others are on: entry", entry, 0);
	say("uprobe + uretprobe there", both, 0);
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

static long child_switches(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return u.ru_nvcsw;
}

/* ns an activation, 'which' of the functions in --loop; 0: not to be had. */
static double traced(const char *self, const char *function, const char *which,
		     double *stops)
{
	char *argv[] = { (char *)self, (char *)"--loop", (char *)which, NULL };
	const struct tracer_options opt = {
		.engine = { .entry = true, .exit = true },
	};
	long switches = child_switches();
	struct err e = { 0 };
	volatile int stop = 0;
	struct tracer *t;
	int ret;

	memset(&remote, 0, sizeof(remote));
	ret = tracer_spawn(&t, argv, function, &opt, remote_sink, NULL, &e);
	if (ret < 0) {
		printf("ptrace: skipped: %s\n", err_text(&e, ret));
		return 0;
	}
	while (!tracer_wait(t, &stop))
		;
	tracer_close(t);
	if (remote.n < 3)
		return 0;
	/* A stopped thread sleeps: its switches are its stops, but for a few
	 * at the program's start. */
	*stops = (double)(child_switches() - switches) / (double)remote.n;
	return 2 * (double)(remote.last - remote.first) /
	       (double)(remote.n - 1);
}

static int detached(const char *self)
{
	char *argv[] = { (char *)self, (char *)"--loop", NULL };
	const struct tracer_options opt = {
		.engine = { .entry = true, .exit = true },
	};
	struct err e = { 0 };
	struct tracer *t;
	uint64_t before;

	if (tracer_spawn(&t, argv, "many_*", &opt, remote_sink, NULL, &e) < 0)
		return 1;
	before = now_ns();
	tracer_stop(t);
	goal_most("ptrace: 100 functions detached in",
		  (double)(now_ns() - before) / 1e6, 50, "ms");
	tracer_close(t);
	return 0;
}

static int under_ptrace(const char *self)
{
	double ret, tail, stops = 0, more = 0;
	cpu_set_t one;

	/* A stop that wakes another core costs ten times as much. */
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	ret = tail = 0;
	/* The least of several, as others use the machine too. */
	for (int i = 0; i < 5; i++) {
		double ns = traced(self, "bench_ret", "ret", &stops);

		if (!ns)
			return 0;
		ret = i ? MIN(ret, ns) : ns;
		ns = traced(self, "bench_tail", "tail", &more);
		tail = i ? MIN(tail, ns) : ns;
	}
	say("ptrace: entry + return, two events", ret, by_uretprobe);
	say("ptrace: entry + tail exit, two events", tail, 0);
	goal_most("ptrace stops an event", stops, 1.1, "");
	printf("   %-49s %10.2f\n",
	       "stops an event of a function left by a tail call", more);
	goal_most("ptrace: a tail exit against a return exit", tail / ret, 2,
		  "x");
	return detached(self);
}

static double detach_time(struct engine_options opt, bool jump)
{
	struct inproc *ip = begin("many_*", opt, jump);
	uint64_t before = now_ns();

	inproc_stop(ip);
	return (double)(now_ns() - before) / 1e6;
}

static void by_exception(struct engine_options both)
{
	struct engine_options entry = { .entry = true };
	double ret, tail, three;

	probed("exception, in process: entry", "bench_ret", entry, false,
	       bench_ret);
	ret = probed("exception: entry + return", "bench_ret", both, false,
		     bench_ret);
	tail = probed("exception: entry + tail exit (target not probed)",
		      "bench_tail", both, false, bench_tail);
	three = probed("exception: chain of three, all probed",
		       "bench_ret,bench_two,bench_three", both, false,
		       bench_three);
	goal_most("exception: a tail exit against a return exit", tail / ret, 2,
		  "x");
	printf("   %-49s %10.2f x\n", "chain of three against one",
	       three / ret);
}

static void by_jump(struct engine_options both)
{
	struct engine_options lean = both, latency = both, entry, tails;
	double ret, tail, three;

	latency.count_only = true;
	lean.count_only = lean.no_latency = true;
	entry = lean;
	entry.exit = false;
	tails = lean;
	tails.entry = false;
	probed("jump, counts: entry", "bench_ret", entry, true, bench_ret);
	ret = probed("jump, counts: entry + return", "bench_ret", lean, true,
		     bench_ret);
	goal_most("in process, entry + exit, all registers saved", ret, 30,
		  "ns");
	goal_most("in process, entry + exit, against the bare call", ret / base,
		  15, "x");
	probed("jump, counts and latency: entry + return", "bench_ret", latency,
	       true, bench_ret);
	tail = probed("jump, counts: entry + tail exit", "bench_tail", lean,
		      true, bench_tail);
	three = probed("jump, counts: chain of three",
		       "bench_ret,bench_two,bench_three", lean, true,
		       bench_three);
	goal_most("jump: a tail exit against a return exit", tail / ret, 2,
		  "x");
	printf("   %-49s %10.2f x\n", "chain of three against one",
	       three / ret);
	tail = probed("jump at the tail call alone: exit", "bench_turn", tails,
		      true, bench_turn);
	goal_most("jump at a tail call alone against a return exit", tail / ret,
		  2, "x");
	probed("   with an exception in its place", "bench_turn", tails, false,
	       bench_turn);
	probed("jump, events with vector state saved", "bench_ret", both, true,
	       bench_ret);
}

int main(int argc, char **argv)
{
	const struct engine_options both = { .entry = true, .exit = true };

	if (argc > 1 && !strcmp(argv[1], "--loop")) {
		bool tail = argc > 2 && !strcmp(argv[2], "tail");

		for (int i = 0; i < 2000; i++)
			result += tail ? bench_tail(i) : bench_ret(i);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	head();
	base = tight(bench_ret, SPAN);
	say("a bare call", base, 0);
	say("a bare chain of three", tight(bench_three, SPAN), 0);
	uprobes();
	by_exception(both);
	by_jump(both);
	goal_most("exceptions: 100 functions detached in",
		  detach_time(both, false), 50, "ms");
	goal_most("jumps: 100 functions detached in", detach_time(both, true),
		  50, "ms");
	return under_ptrace(argv[0]);
}
