/*
 * pagurus probe: functions of a running program, at entry and at every exit.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/cmd.h"
#include "cli/opt.h"
#include "cli/probe_report.h"
#include "cli/probe_vm.h"
#include "probe/ptrace.h"
#include "probe/select.h"

#define STACK_FRAMES 64

static struct {
	uint64_t pid, seconds, args;
	bool list, entry, exit, both, jumps, children;
	bool ret, hist, count, stack, json;
	const char *file, *vm, *dir, *symbols;
	bool resume;
} a;

static const struct opt opts[] = {
	{ "pid", 'p', "PID", "a running process", OPT_U64, &a.pid },
	{ "vm", 0, "NAME", "the kernel of a running VM's guest", OPT_STR,
	  &a.vm },
	{ "symbols", 's', "FILE",
	  "with --vm: its /proc/kallsyms, System.map or vmlinux", OPT_STR,
	  &a.symbols },
	{ "resume", 0, NULL, "with --vm: go on with probes that came with it",
	  OPT_FLAG, &a.resume },
	{ "dir", 0, "DIR", "with --vm: of control sockets (PAGURUS_DIR)",
	  OPT_STR, &a.dir },
	{ "list", 'l', NULL, "show what would be patched, patch nothing",
	  OPT_FLAG, &a.list },
	{ "file", 'f', "FILE", "with --list: a file instead of a process",
	  OPT_STR, &a.file },
	{ "entry", 0, NULL, "report entries only", OPT_FLAG, &a.entry },
	{ "exit", 0, NULL, "report exits only", OPT_FLAG, &a.exit },
	{ "both", 0, NULL, "report entries and exits (the default)", OPT_FLAG,
	  &a.both },
	{ "jumps", 0, NULL, "report tail calls when they jump, too", OPT_FLAG,
	  &a.jumps },
	{ "args", 0, "N", "print N integer arguments at entry (0-6)", OPT_U64,
	  &a.args },
	{ "ret", 0, NULL, "print the result at exit", OPT_FLAG, &a.ret },
	{ "stack", 0, NULL, "print the callers at entry", OPT_FLAG, &a.stack },
	{ "count", 'c', NULL, "no events: counts and latencies at the end",
	  OPT_FLAG, &a.count },
	{ "hist", 0, NULL, "as --count, with a histogram of latencies",
	  OPT_FLAG, &a.hist },
	{ "children", 0, NULL, "probe forked children too", OPT_FLAG,
	  &a.children },
	{ "json", 0, NULL, "print JSON, an object a line", OPT_FLAG, &a.json },
	{ "duration", 'd', "SECONDS", "stop after that long", OPT_U64,
	  &a.seconds },
	{ 0 },
};

static const struct opt_usage usage = {
	"probe [OPTIONS] -p PID FUNCTION[,GLOB...]\n"
	"       pagurus probe [OPTIONS] FUNCTION[,GLOB...] -- COMMAND [ARGS]\n"
	"       pagurus probe [OPTIONS] --vm NAME --symbols FILE\n"
	"                     [MODULE:]FUNCTION[,GLOB...]\n"
	"       pagurus probe [OPTIONS] --vm NAME --resume\n"
	"       pagurus probe --list {-p PID|-f FILE} FUNCTION[,GLOB...]",
	"Watch functions of a process, or of a guest's kernel, "
	"at entry and at every exit, tail calls included.  A pattern is "
	"[FILE:]FUNCTION, both shell globs; without FILE the program itself "
	"is meant.  Ctrl-C detaches and puts every byte back.",
	"Exit status: that of COMMAND if one was given; else 0; 1 the process\n"
	"cannot be traced, or no function matches; 64 the command line is\n"
	"wrong.\n\n"
	"Examples:\n"
	"  pagurus probe -p 4242 --args 2 --ret 'parse_*'\n"
	"  pagurus probe --hist -d 10 -p 4242 'libc*:malloc'\n"
	"  pagurus probe --count 'main,do_*' -- ./server --once\n"
	"  pagurus probe --list -f /bin/bash 'read*'\n"
	"  pagurus probe --hist --vm web1 -s kallsyms.web1 "
	"'igbvf:igbvf_xmit*'",
};

static volatile int stop;

static void on_signal(int sig)
{
	if (sig != SIGALRM)
		stop++;
}

/* Wakes the wait at times, so that a signal just before it is not missed. */
static void watch_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct itimerval tick = { { 0, 200000 }, { 0, 200000 } };

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
}

struct session {
	struct tracer *t;
	struct report r;
	uint64_t deadline;
};

static void sink(const struct probe_event *ev, void *opaque)
{
	struct engine_frame frames[STACK_FRAMES];
	struct session *s = opaque;
	size_t n = 0;

	if (s->deadline && ev->time > s->deadline)
		stop = 1;
	if (a.stack && ev->kind == EVENT_ENTRY && tracer_thread(s->t))
		n = engine_backtrace(tracer_engine(s->t), tracer_thread(s->t),
				     tracer_regs(s->t), frames, STACK_FRAMES);
	report_event(&s->r, ev, n ? frames : NULL, n, tracer_selection(s->t));
}

static int list_one(struct module *m, struct probe_func *fn, void *opaque,
		    struct err *e)
{
	report_list(stdout, a.json, m->name, fn);
	return 0;
}

static int list(const char *patterns)
{
	struct err e = { 0 };
	struct selection s;
	int ret;

	ret = a.file ? selection_of_file(&s, a.file, &e)
		     : selection_of_process(&s, (int)a.pid, &e);
	if (ret < 0)
		return cmd_fail("probe", &e, ret);
	ret = selection_each(&s, patterns, list_one, NULL, &e);
	selection_close(&s);
	return ret < 0 ? cmd_fail("probe", &e, ret) : 0;
}

static void name_functions(struct session *s)
{
	const struct engine *en = tracer_engine(s->t);

	for (uint32_t i = 0; i < s->r.nfunc; i++)
		report_name(&s->r, i, engine_func(en, i)->name,
			    engine_func(en, i)->module);
}

/* Exit status of the program, as a shell would have it. */
static int program_status(int status)
{
	if (status == -1)
		return 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct report_options how_to_report(bool guest)
{
	return (struct report_options){
		.stream = !a.count && !a.hist,
		.count = a.count,
		.hist = a.hist,
		.json = a.json,
		.ret = a.ret,
		.stack = a.stack,
		.guest = guest,
		.args = (unsigned int)a.args,
	};
}

static int watch_vm(const char *patterns)
{
	const struct probe_vm v = {
		.vm = a.vm,
		.dir = a.dir,
		.symbols = a.symbols,
		.functions = patterns,
		.list = a.list,
		.resume = a.resume,
		.entry = !a.exit,
		.exit = !a.entry,
		.jumps = a.jumps,
		.seconds = a.seconds,
		.report = how_to_report(true),
	};

	watch_signals();
	return probe_vm(&v, &stop);
}

static int start(struct session *s, const char *patterns, char **command,
		 struct err *e)
{
	const struct tracer_options opt = {
		.engine = {
			.entry = !a.exit,
			.exit = !a.entry,
			.jump = a.jumps,
		},
		.children = a.children,
	};

	if (command)
		return tracer_spawn(&s->t, command, patterns, &opt, sink, s, e);
	return tracer_attach(&s->t, (int)a.pid, patterns, &opt, sink, s, e);
}

static int watch(const char *patterns, char **command)
{
	const struct report_options ro = how_to_report(false);
	struct session s = { .t = NULL };
	struct err e = { 0 };
	int ret, status;

	ret = start(&s, patterns, command, &e);
	if (ret < 0)
		return cmd_fail("probe", &e, ret);
	/* Events come from tracer_wait() and nowhere else. */
	ret = report_open(&s.r, &ro,
			  (uint32_t)engine_nfuncs(tracer_engine(s.t)));
	if (ret < 0) {
		tracer_stop(s.t);
		tracer_close(s.t);
		return cmd_fail("probe", &e, ret);
	}
	name_functions(&s);
	watch_signals();
	if (a.seconds)
		s.deadline = now_ns() + a.seconds * 1000000000ull;
	do {
		ret = tracer_wait(s.t, &stop);
	} while (!ret && !stop && (!s.deadline || now_ns() < s.deadline));
	tracer_stop(s.t);
	status = tracer_status(s.t);
	s.r.lost = engine_stats(tracer_engine(s.t))->lost;
	report_end(&s.r);
	tracer_close(s.t);
	report_close(&s.r);
	return command ? program_status(status) : 0;
}

int cmd_probe(int argc, char **argv)
{
	char **command = NULL;
	int n;

	/* What is behind "--" is a command with options of its own. */
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		command = argv + i + 1;
		argv[i] = NULL;
		argc = i;
	}
	n = opt_parse(opts, &usage, argc, argv);
	if (n < 0)
		return opt_exit(n);
	if (n != (a.resume ? 0 : 1))
		return opt_misuse(&usage, n ? "one list of patterns, with"
					      " commas"
					    : "which functions?");
	if (a.args > 6)
		return opt_misuse(&usage, "--args: 0 to 6");
	if ((a.entry && a.exit) || ((a.entry || a.exit) && a.both))
		return opt_misuse(&usage, "--entry, --exit or --both: one");
	if (a.pid > 0x7fffffff)
		return opt_misuse(&usage, "--pid %lu: no such process", a.pid);
	if (a.vm) {
		if (a.pid || command || a.file || a.children)
			return opt_misuse(&usage, "--vm is for a guest's "
						  "kernel and nothing else");
		if (!a.symbols == !a.resume)
			return opt_misuse(&usage, "--vm: --symbols FILE, or "
						  "--resume");
		return watch_vm(argv[1]);
	}
	if (a.symbols || a.resume || a.dir)
		return opt_misuse(&usage, "--symbols, --resume and --dir are "
					  "for --vm");
	if (a.list) {
		if (!a.file == !a.pid)
			return opt_misuse(&usage, "--list: -p PID or -f FILE");
		return list(argv[1]);
	}
	if (a.file)
		return opt_misuse(&usage, "--file is for --list");
	if (!a.pid == !(command && *command))
		return opt_misuse(&usage, "-p PID or -- COMMAND");
	return watch(argv[1], command);
}
