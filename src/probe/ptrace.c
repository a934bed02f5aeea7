#include "probe/ptrace.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "probe/ptrace_priv.h"

#define OPTIONS                                                           \
	(PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
	 PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

static struct tracee *find_task(struct tracer *t, int tid)
{
	for (struct tracee *k = t->tasks; k; k = k->next)
		if (k->tid == tid)
			return k;
	return NULL;
}

static struct tracee *add_task(struct tracer *t, int tid, int process)
{
	struct tracee *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->tid = tid;
	k->process = process;
	k->next = t->tasks;
	t->tasks = k;
	return k;
}

static void remove_task(struct tracer *t, struct tracee *gone)
{
	for (struct tracee **k = &t->tasks; *k; k = &(*k)->next) {
		if (*k != gone)
			continue;
		*k = gone->next;
		free(gone);
		return;
	}
}

static void resume(struct tracer *t, struct tracee *k)
{
	int sig = k->signal;

	k->signal = 0;
	k->stopped = false;
	/* -ESRCH: killed meanwhile; waitpid will tell. */
	ptrace(PTRACE_CONT, k->tid, 0, sig);
}

/* int3, not a SIGTRAP somebody sent. */
static bool is_breakpoint(int tid)
{
	siginfo_t si;

	return ptrace(PTRACE_GETSIGINFO, tid, 0, &si) == 0 &&
	       (si.si_code == SI_KERNEL || si.si_code == TRAP_BRKPT);
}

static void hit(struct tracer *t, struct tracee *k)
{
	struct user_regs_struct u;
	int ret = -ENOENT;

	if (!is_breakpoint(k->tid) ||
	    ptrace(PTRACE_GETREGS, k->tid, 0, &u) < 0 ||
	    target_switch(&t->target, k->process, k->tid) < 0)
		goto not_ours;
	u.rip--;
	ptrace_to_regs(&u, &t->regs);
	t->target.fs_base = u.fs_base;
	if (!k->th)
		k->th = engine_thread(t->en, k->tid, k->process);
	t->current = k;
	if (k->quiet)
		ret = engine_pass(t->en, &t->regs);
	else if (k->th)
		ret = engine_hit(t->en, k->th, &t->regs);
	t->current = NULL;
	if (ret == -ENOENT || ret == -EFAULT)
		goto not_ours;
	ptrace_from_regs(&t->regs, &u);
	if (ptrace(PTRACE_SETREGS, k->tid, 0, &u) < 0)
		log_debug("thread %d: registers: %m", k->tid);
	k->signal = 0;
	return;

not_ours:
	k->signal = SIGTRAP;
}

/* A fork that is not to be probed gets its bytes back and goes its way. */
static void let_go(struct tracer *t, struct tracee *k)
{
	bool in_flight;

	if (t->armed && !target_switch(&t->target, k->process, k->tid))
		engine_disarm(t->en, k->process, &in_flight);
	ptrace(PTRACE_DETACH, k->tid, 0, k->signal);
	if (k->th)
		engine_thread_gone(t->en, k->th);
	remove_task(t, k);
}

static void new_task(struct tracer *t, struct tracee *parent, int event)
{
	bool same = event == PTRACE_EVENT_CLONE;
	unsigned long msg = 0;
	struct tracee *k;
	int tid;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &msg) < 0)
		return;
	tid = (int)msg;
	k = find_task(t, tid);
	if (!k)
		k = add_task(t, tid, tid);
	if (!k)
		return;
	/* A clone() without CLONE_THREAD that shares memory has a process
	 * number of its own and no memory of its own: the parent's will do. */
	k->process = same ? parent->process : tid;
	if (!same && parent->th)
		k->th = engine_fork(t->en, parent->th, tid, tid);
	if (event == PTRACE_EVENT_VFORK) {
		/* It runs in the parent's memory until it execs: its
		 * breakpoints are the parent's and must stay. */
		k->quiet = parent->quiet || !t->opt.children;
	} else {
		k->quiet = parent->quiet;
	}
	if (!k->early)
		return; /* its first stop is to come */
	k->early = false;
	if (event == PTRACE_EVENT_FORK && !t->opt.children && t->armed)
		let_go(t, k);
	else
		resume(t, k);
}

/* The first stop of a new task, which may come before its parent's event. */
static void first_stop(struct tracer *t, int tid)
{
	struct tracee *k = add_task(t, tid, tid);

	if (!k)
		return;
	k->early = true;
	k->stopped = true;
}

/* Another program now runs in this process: nothing of ours is in it. */
static void on_exec(struct tracer *t, struct tracee *k)
{
	if (k->tid == t->pid && !t->armed)
		return; /* the one we started it with */
	if (k->tid == t->pid)
		t->ended = true;
	if (k->th)
		engine_thread_gone(t->en, k->th);
	ptrace(PTRACE_DETACH, k->tid, 0, 0);
	remove_task(t, k);
}

/* It is about to end, its stack still there: what was on it never returns. */
static void on_exit_stop(struct tracer *t, struct tracee *k)
{
	struct user_regs_struct u;
	struct probe_regs r;
	bool last = k->tid == k->process;

	if (!k->th || k->quiet || ptrace(PTRACE_GETREGS, k->tid, 0, &u) < 0 ||
	    target_switch(&t->target, k->process, k->tid) < 0)
		return;
	ptrace_to_regs(&u, &r);
	t->target.fs_base = u.fs_base;
	/* A thread's functions are abandoned by pthread_exit; a process that
	 * exits leaves those that called exit() unfinished. */
	engine_reap(t->en, k->th, last ? &r : NULL);
}

static void task_ended(struct tracer *t, struct tracee *k, int status)
{
	if (k->tid == t->pid) {
		t->ended = true;
		t->status = status;
	}
	if (k->th)
		engine_thread_gone(t->en, k->th);
	remove_task(t, k);
}

/* Returns true if the task was left stopped on purpose. */
static void one_stop(struct tracer *t, int tid, int status)
{
	struct tracee *k = find_task(t, tid);
	int event = status >> 16, sig = WSTOPSIG(status);

	if (!k) {
		first_stop(t, tid);
		return;
	}
	k->stopped = true;
	switch (event) {
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK: new_task(t, k, event); break;
	case PTRACE_EVENT_EXEC:
		on_exec(t, k);
		if (!find_task(t, tid))
			return;
		break;
	case PTRACE_EVENT_EXIT: on_exit_stop(t, k); break;
	case PTRACE_EVENT_STOP:
		if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN ||
		    sig == SIGTTOU) {
			/* Job control: stay stopped until it is continued. */
			k->stopped = false;
			ptrace(PTRACE_LISTEN, tid, 0, 0);
			return;
		}
		/* A fork's first stop, after its parent's event. */
		if (k->process == tid && tid != t->pid && !k->quiet &&
		    !t->opt.children && t->armed && !t->detaching) {
			let_go(t, k);
			return;
		}
		break;
	case 0:
		if (sig == SIGTRAP && t->armed)
			hit(t, k);
		else
			k->signal = sig;
		break;
	default: break;
	}
	if (!t->detaching)
		resume(t, k);
}

/* One report from the kernel; false if there is none to wait for. */
static bool wait_one(struct tracer *t, int flags)
{
	struct tracee *k;
	int status;
	int tid = waitpid(-1, &status, __WALL | flags);

	if (tid <= 0)
		return false;
	if (WIFSTOPPED(status)) {
		one_stop(t, tid, status);
		return true;
	}
	k = find_task(t, tid);
	if (k)
		task_ended(t, k, status);
	return true;
}

int tracer_wait(struct tracer *t, const volatile int *stop)
{
	while (!*stop && t->tasks && !(t->ended && !t->opt.children)) {
		errno = 0;
		if (!wait_one(t, 0))
			return errno != EINTR;
	}
	return !*stop;
}

/* Is a breakpoint's signal on its way to a task that stopped for us? */
static bool trap_queued(int tid)
{
	struct __ptrace_peeksiginfo_args a = { .off = 0, .nr = 16 };
	siginfo_t si[16];
	long n = ptrace(PTRACE_PEEKSIGINFO, tid, &a, si);

	for (long i = 0; i < n; i++)
		if (si[i].si_signo == SIGTRAP && si[i].si_code == SI_KERNEL)
			return true;
	return false;
}

static bool all_stopped(struct tracer *t)
{
	for (struct tracee *k = t->tasks; k; k = k->next)
		if (!k->stopped)
			return false;
	return true;
}

/*
 * Stop every task, with no breakpoint of ours half taken: one that has been
 * hit but not yet reported would kill the program once we are gone.
 */
static void stop_all(struct tracer *t)
{
	struct tracee *k;

	t->detaching = true;
	for (k = t->tasks; k; k = k->next)
		if (!k->stopped)
			ptrace(PTRACE_INTERRUPT, k->tid, 0, 0);
	while (t->tasks) {
		while (t->tasks && !all_stopped(t))
			if (!wait_one(t, 0) && errno != EINTR)
				return;
		for (k = t->tasks; k; k = k->next) {
			if (k->signal || !trap_queued(k->tid))
				continue;
			resume(t, k);
			break;
		}
		if (!k)
			return;
	}
}

static struct tracee *main_task(struct tracer *t)
{
	struct tracee *k = find_task(t, t->pid);

	for (; !k && t->tasks; k = NULL) {
		for (k = t->tasks; k && k->process != t->pid; k = k->next)
			;
		break;
	}
	return k;
}

/* Does any task stand in memory of ours? */
static bool in_use(struct tracer *t)
{
	struct user_regs_struct u;

	for (struct tracee *k = t->tasks; k; k = k->next)
		if (ptrace(PTRACE_GETREGS, k->tid, 0, &u) < 0 ||
		    engine_owns(t->en, u.rip))
			return true;
	return false;
}

static void disarm_process(struct tracer *t, int process)
{
	struct user_regs_struct u;
	struct probe_regs r;
	bool in_flight = false;
	struct tracee *k;

	for (k = t->tasks; k && k->process != process; k = k->next)
		;
	if (!k || target_switch(&t->target, process, k->tid) < 0)
		return;
	for (struct tracee *i = t->tasks; i; i = i->next) {
		if (i->process != process || !i->th || i->quiet ||
		    ptrace(PTRACE_GETREGS, i->tid, 0, &u) < 0)
			continue;
		ptrace_to_regs(&u, &r);
		engine_reap(t->en, i->th, &r);
	}
	if (engine_disarm(t->en, process, &in_flight) < 0)
		log_warn("process %d: not all of its bytes could be restored",
			 process);
	if (process == t->pid && !in_flight && !in_use(t))
		engine_unmap(t->en);
}

void tracer_stop(struct tracer *t)
{
	struct tracee *k;

	if (t->tasks)
		stop_all(t);
	if (t->armed && t->tasks) {
		for (k = t->tasks; k; k = k->next)
			if (k->tid == k->process && k->tid != t->pid &&
			    !k->quiet)
				disarm_process(t, k->process);
		if (main_task(t))
			disarm_process(t, t->pid);
	}
	while ((k = t->tasks)) {
		t->tasks = k->next;
		ptrace(PTRACE_DETACH, k->tid, 0, k->signal);
		free(k);
	}
	t->armed = false;
}

void tracer_close(struct tracer *t)
{
	if (!t)
		return;
	tracer_stop(t);
	engine_destroy(t->en);
	selection_close(&t->sel);
	close_fd(&t->target.mem);
	free(t);
}

static uint64_t entry_point(int pid)
{
	uint64_t pair[2], entry = 0;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && read(fd, pair, sizeof(pair)) == sizeof(pair))
		if (pair[0] == AT_ENTRY)
			entry = pair[1];
	close_fd(&fd);
	return entry;
}

static int seize(struct tracer *t, int tid, struct err *e)
{
	struct tracee *k;

	if (find_task(t, tid))
		return 0;
	if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS) < 0) {
		if (errno == ESRCH)
			return 0; /* it ended meanwhile */
		return err_sys(e, -errno, "process %d: cannot be traced%s", tid,
			       errno == EPERM ? " (another tracer has it, or"
						" it is not yours)"
					      : "");
	}
	k = add_task(t, tid, t->pid);
	if (!k)
		return -ENOMEM;
	ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	return 1;
}

/* Threads may start while we look: until a look finds no new one. */
static int seize_all(struct tracer *t, struct err *e)
{
	char path[64];
	int found, ret;

	snprintf(path, sizeof(path), "/proc/%d/task", t->pid);
	do {
		DIR *d = opendir(path);
		struct dirent *de;

		found = 0;
		if (!d)
			return err_set(e, -ESRCH, "no process %d", t->pid);
		while ((de = readdir(d))) {
			ret = atoi(de->d_name) ? seize(t, atoi(de->d_name), e)
					       : 0;
			if (ret < 0) {
				closedir(d);
				return ret;
			}
			found += ret;
		}
		closedir(d);
		t->detaching = true; /* stopped ones are to stay so */
		while (t->tasks && !all_stopped(t))
			if (!wait_one(t, 0) && errno != EINTR)
				return err_set(e, -ESRCH, "process %d ended",
					       t->pid);
		t->detaching = false;
	} while (found);
	return t->tasks ? 0 : err_set(e, -ESRCH, "process %d ended", t->pid);
}

static int tracer_create(struct tracer **out, const struct tracer_options *opt,
			 probe_sink sink, void *opaque)
{
	struct tracer *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->target.mem = -1;
	t->target.tracer = t;
	t->opt = *opt;
	t->status = -1;
	*out = t;
	ret = engine_create(&t->en, &ptrace_ops, &t->target, &opt->engine, sink,
			    opaque);
	if (ret < 0)
		free(t);
	return ret;
}

static int arm(struct tracer *t, const char *patterns, struct err *e)
{
	int ret;

	ret = target_switch(&t->target, t->pid, main_task(t)->tid);
	if (ret < 0)
		return err_sys(e, ret, "process %d: memory", t->pid);
	t->target.entry = entry_point(t->pid);
	engine_set_process(t->en, t->pid);
	ret = selection_of_process(&t->sel, t->pid, e);
	if (!ret)
		ret = selection_apply(&t->sel, patterns, t->en, e);
	if (!ret)
		ret = engine_arm(t->en, e);
	t->armed = !ret;
	return ret;
}

int tracer_attach(struct tracer **out, int pid, const char *patterns,
		  const struct tracer_options *opt, probe_sink sink,
		  void *opaque, struct err *e)
{
	struct tracer *t;
	int ret = tracer_create(&t, opt, sink, opaque);

	if (ret < 0)
		return ret;
	t->pid = pid;
	ret = seize_all(t, e);
	if (!ret)
		ret = arm(t, patterns, e);
	if (ret < 0) {
		tracer_close(t);
		return ret;
	}
	for (struct tracee *k = t->tasks; k; k = k->next)
		resume(t, k);
	*out = t;
	return 0;
}

/*
 * To where the program itself begins: by then the loader has mapped all its
 * libraries, whose unwind data callers in them are looked up in.
 */
static int run_to_entry(struct tracer *t, struct err *e)
{
	uint64_t entry = entry_point(t->pid);
	struct user_regs_struct u;
	long word;
	int status;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, t->pid, entry, 0);
	if (errno ||
	    ptrace(PTRACE_POKETEXT, t->pid, entry, (word & ~0xffl) | 0xcc) < 0)
		return err_sys(e, -errno, "the program's first instruction");
	ptrace(PTRACE_CONT, t->pid, 0, 0);
	if (waitpid(t->pid, &status, __WALL) < 0 || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != SIGTRAP)
		return err_set(e, -ECHILD,
			       "the program ended before its own code ran");
	ptrace(PTRACE_POKETEXT, t->pid, entry, word);
	ptrace(PTRACE_GETREGS, t->pid, 0, &u);
	u.rip = entry;
	ptrace(PTRACE_SETREGS, t->pid, 0, &u);
	return 0;
}

static int start(struct tracer *t, char *const argv[], struct err *e)
{
	int pipes[2], status, error = 0;
	ssize_t n;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, -errno, "pipe");
	t->pid = fork();
	if (t->pid < 0)
		return err_sys(e, -errno, "fork");
	if (!t->pid) {
		raise(SIGSTOP);
		execvp(argv[0], argv);
		error = errno;
		n = write(pipes[1], &error, sizeof(error));
		_exit(n < 0 ? 126 : 127);
	}
	close(pipes[1]);
	if (waitpid(t->pid, &status, WUNTRACED) < 0 || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_SEIZE, t->pid, 0, OPTIONS | PTRACE_O_EXITKILL) < 0 ||
	    !add_task(t, t->pid, t->pid)) {
		close(pipes[0]);
		return err_sys(e, -errno, "tracing a child");
	}
	kill(t->pid, SIGCONT);
	/* To the event of its exec; it may fail to get there. */
	for (;;) {
		if (waitpid(t->pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
			break;
		if (status >> 16 == PTRACE_EVENT_EXEC)
			break;
		ptrace(PTRACE_CONT, t->pid, 0,
		       status >> 16 ? 0 : WSTOPSIG(status));
	}
	n = read(pipes[0], &error, sizeof(error));
	close(pipes[0]);
	if (n == sizeof(error))
		return err_sys(e, -error, "%s", argv[0]);
	if (!WIFSTOPPED(status))
		return err_set(e, -ECHILD, "%s: ended at once", argv[0]);
	t->tasks->stopped = true;
	return 0;
}

int tracer_spawn(struct tracer **out, char *const argv[], const char *patterns,
		 const struct tracer_options *opt, probe_sink sink,
		 void *opaque, struct err *e)
{
	struct tracer *t;
	int ret = tracer_create(&t, opt, sink, opaque);

	if (ret < 0)
		return ret;
	ret = start(t, argv, e);
	if (!ret)
		ret = run_to_entry(t, e);
	if (!ret)
		ret = arm(t, patterns, e);
	if (ret < 0) {
		if (t->pid > 0)
			kill(t->pid, SIGKILL);
		tracer_close(t);
		return ret;
	}
	/* From now on it may outlive us, its bytes restored. */
	ptrace(PTRACE_SETOPTIONS, t->pid, 0, OPTIONS);
	resume(t, t->tasks);
	*out = t;
	return 0;
}

struct engine *tracer_engine(struct tracer *t)
{
	return t->en;
}

const struct selection *tracer_selection(const struct tracer *t)
{
	return &t->sel;
}

int tracer_pid(const struct tracer *t)
{
	return t->pid;
}

int tracer_status(const struct tracer *t)
{
	return t->status;
}

const struct probe_regs *tracer_regs(const struct tracer *t)
{
	return &t->regs;
}

struct engine_thread *tracer_thread(const struct tracer *t)
{
	return t->current ? t->current->th : NULL;
}
