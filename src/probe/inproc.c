#include "probe/inproc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/jump.h"
#include "probe/maps.h"
#include "probe/select.h"

struct probe_target {
	int mem; /* /proc/self/mem: writes to code pages too */
};

struct inproc {
	struct probe_target target;
	struct engine *en;
	struct selection sel;
	struct sigaction before;
	struct jump *jump; /* NULL: breakpoints only */
	pthread_key_t key;
	bool armed, stopped;
	struct inproc *before_us; /* stopped, still answering */
};

static struct inproc *_Atomic the_one;

/* Of each thread: its state in the session, and whether a hit is under way. */
JUMP_TLS struct engine_thread *probe_self;
JUMP_TLS bool probe_inside;
static JUMP_TLS struct inproc *self_in;

/* In libgcc_s; a program without an unwinder has no need of them. */
extern void __register_frame(void *) __attribute__((weak));
extern void __deregister_frame(void *) __attribute__((weak));

static int op_read(struct probe_target *t, uint64_t addr, void *buf, size_t len)
{
	memcpy(buf, (const void *)addr, len);
	return 0;
}

static int op_write(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	memcpy((void *)addr, buf, len);
	return 0;
}

static int op_patch(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	ssize_t n = pwrite(t->mem, buf, len, (off_t)addr);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int op_alloc(struct probe_target *t, uint64_t near, size_t size,
		    uint64_t *addr)
{
	int ret = maps_gap(0, near, size, addr);
	void *p;

	if (ret < 0)
		return ret;
	p = mmap((void *)*addr, size, PROT_READ | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	*addr = (uint64_t)p;
	return 0;
}

static void op_free(struct probe_target *t, uint64_t addr, size_t size)
{
	munmap((void *)addr, size);
}

static uint64_t fs_base(void)
{
	uint64_t v;

	/* The control block starts with its own address (x86-64 TLS ABI). */
	__asm__("mov %%fs:0, %0" : "=r"(v));
	return v;
}

/*
 * A thread's own stack is the mapping its control block is in too, or, for
 * the first thread, the one the kernel made.
 */
static int op_stack(struct probe_target *t, int tid, uint64_t sp,
		    struct probe_extent *x)
{
	struct maps_line l;
	uint64_t prev, fs = fs_base();
	int ret = maps_find(0, sp, &l, &prev);

	if (ret < 0)
		return ret;
	x->lo = l.lo;
	x->hi = l.hi;
	x->native = fs >= l.lo && fs < l.hi;
	if (tid == getpid() && !strcmp(l.path, "[stack]")) {
		x->native = true;
		x->lo = prev; /* it grows */
	}
	return 0;
}

static bool op_exec(struct probe_target *t, uint64_t addr)
{
	struct maps_line l;
	uint64_t prev;

	return !maps_find(0, addr, &l, &prev) && l.exec;
}

static int op_unwind_add(struct probe_target *t, uint64_t eh)
{
	if (__register_frame)
		__register_frame((void *)eh);
	return 0;
}

static void op_unwind_del(struct probe_target *t, uint64_t eh)
{
	if (__deregister_frame)
		__deregister_frame((void *)eh);
}

static const struct probe_target_ops inproc_ops = {
	.name = "in-process",
	.read = op_read,
	.write = op_write,
	.patch = op_patch,
	.alloc = op_alloc,
	.free = op_free,
	.stack = op_stack,
	.exec = op_exec,
	.unwind_add = op_unwind_add,
	.unwind_del = op_unwind_del,
	.red_zone = true,
};

static const int greg_of[X86_GPRS] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8,	 REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static struct engine_thread *me(struct inproc *ip)
{
	if (!probe_self || self_in != ip) {
		self_in = ip;
		probe_self = engine_thread(ip->en, (int)syscall(SYS_gettid), 0);
		/* For a thread's end; keys below 32 need no memory. */
		if (probe_self)
			pthread_setspecific(ip->key, probe_self);
	}
	return probe_self;
}

struct engine_thread *jump_self(void)
{
	return me(the_one);
}

/* Not ours: whoever had the signal before us gets it, or it kills. */
static void pass_on(struct inproc *ip, int sig, siginfo_t *si, void *uc)
{
	const struct sigaction *a = &ip->before;

	if (a->sa_flags & SA_SIGINFO) {
		a->sa_sigaction(sig, si, uc);
	} else if (a->sa_handler != SIG_DFL && a->sa_handler != SIG_IGN) {
		a->sa_handler(sig);
	} else if (a->sa_handler == SIG_DFL) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

static void on_trap(int sig, siginfo_t *si, void *context)
{
	struct inproc *ip = the_one, *old;
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	int saved_errno = errno, ret = -ENOENT;
	struct engine_thread *th;
	struct probe_regs r;

	if (!ip || si->si_code != SI_KERNEL)
		goto not_ours;
	for (int i = 0; i < X86_GPRS; i++)
		r.gpr[i] = (uint64_t)g[greg_of[i]];
	r.rip = (uint64_t)g[REG_RIP] - 1;
	r.rflags = (uint64_t)g[REG_EFL];
	r.fs_base = fs_base();
	r.gs_base = 0;

	if (probe_inside) {
		ret = engine_pass(ip->en, &r);
	} else {
		probe_inside = true;
		th = me(ip);
		ret = th ? engine_hit(ip->en, th, &r) : -ENOMEM;
		probe_inside = false;
	}
	if (ret == -ENOENT)
		ret = jump_pass(&r);
	/* A breakpoint somebody met while an earlier session was ending. */
	for (old = ip->before_us; ret == -ENOENT && old; old = old->before_us)
		ret = engine_pass(old->en, &r);
	if (ret == -ENOENT || ret == -EFAULT)
		goto not_ours;
	for (int i = 0; i < X86_GPRS; i++)
		g[greg_of[i]] = (greg_t)r.gpr[i];
	g[REG_RIP] = (greg_t)r.rip;
	errno = saved_errno;
	return;

not_ours:
	errno = saved_errno;
	if (ip)
		pass_on(ip, sig, si, context);
}

/* Of the parent's threads only this one goes on in the child. */
static void in_child(void)
{
	if (probe_self)
		probe_self->tid = (int)syscall(SYS_gettid);
}

static void thread_ends(void *p)
{
	struct inproc *ip = the_one;

	probe_self = NULL;
	if (!ip || ip->stopped)
		return;
	probe_inside = true;
	engine_reap(ip->en, p, NULL);
	engine_thread_gone(ip->en, p);
	probe_inside = false;
}

/* Is this the only thread? */
static bool alone(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n == 3; /* with "." and ".." */
}

int inproc_prepare(struct inproc **out, const char *patterns,
		   const struct engine_options *opt, bool jump_form,
		   probe_sink sink, void *opaque, struct err *e)
{
	struct inproc *ip;
	int ret;

	ip = calloc(1, sizeof(*ip));
	if (!ip)
		return -ENOMEM;
	ip->target.mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (ip->target.mem < 0) {
		ret = err_sys(e, -errno, "/proc/self/mem");
		goto free_ip;
	}
	ret = engine_create(&ip->en, &inproc_ops, &ip->target, opt, sink,
			    opaque);
	if (ret < 0)
		goto close_mem;
	ret = selection_of_process(&ip->sel, 0, e);
	if (ret < 0)
		goto destroy;
	ret = selection_apply(&ip->sel, patterns, ip->en, e);
	/* With other threads about, one may be between the instructions that
	 * a jump would replace: then breakpoints serve. */
	if (!ret && jump_form && alone())
		ret = jump_prepare(&ip->jump, ip->en, e);
	if (ret < 0)
		goto close_selection;
	*out = ip;
	return 0;

close_selection:
	selection_close(&ip->sel);
destroy:
	engine_destroy(ip->en);
close_mem:
	close_fd(&ip->target.mem);
free_ip:
	free(ip);
	return ret;
}

int inproc_arm(struct inproc *ip, struct err *e)
{
	struct sigaction act = { .sa_sigaction = on_trap,
				 .sa_flags = SA_SIGINFO | SA_NODEFER };
	struct inproc *none = NULL;
	static bool forks_watched;
	bool in_flight;
	int ret;

	if (the_one && the_one->stopped)
		none = ip->before_us = the_one;
	ret = -pthread_key_create(&ip->key, thread_ends);
	if (ret < 0)
		return err_sys(e, ret, "a key for threads' ends");
	if (!atomic_compare_exchange_strong(&the_one, &none, ip)) {
		ret = err_set(e, -EBUSY,
			      "probes are set in this process already");
		goto delete_key;
	}
	if (!forks_watched)
		pthread_atfork(NULL, NULL, in_child);
	forks_watched = true;
	sigfillset(&act.sa_mask);
	sigdelset(&act.sa_mask, SIGTRAP);
	if (sigaction(SIGTRAP, &act, &ip->before) < 0) {
		ret = err_sys(e, -errno, "SIGTRAP");
		goto not_one;
	}
	ret = engine_arm(ip->en, e);
	if (!ret && ip->jump)
		ret = jump_arm(ip->jump, alone());
	if (ret < 0)
		goto restore;
	ip->armed = true;
	return 0;

restore:
	engine_disarm(ip->en, 0, &in_flight);
	sigaction(SIGTRAP, &ip->before, NULL);
not_one:
	the_one = ip->before_us;
delete_key:
	pthread_key_delete(ip->key);
	return ret;
}

static void release(struct inproc *ip)
{
	selection_close(&ip->sel);
	engine_destroy(ip->en);
	close_fd(&ip->target.mem);
	free(ip);
}

int inproc_start(struct inproc **out, const char *patterns,
		 const struct engine_options *opt, bool jump_form,
		 probe_sink sink, void *opaque, struct err *e)
{
	struct inproc *ip;
	int ret =
		inproc_prepare(&ip, patterns, opt, jump_form, sink, opaque, e);

	if (ret < 0)
		return ret;
	ret = inproc_arm(ip, e);
	if (ret < 0) {
		release(ip);
		return ret;
	}
	*out = ip;
	return 0;
}

/* The caller's registers, as far as unwinding wants them. */
static inline __attribute__((always_inline)) void here(struct probe_regs *r)
{
	__asm__ volatile("mov %%rsp, %0; mov %%rbp, %1; lea 0(%%rip), %2"
			 : "=r"(r->gpr[X86_RSP]), "=r"(r->gpr[X86_RBP]),
			   "=r"(r->rip));
}

/*
 * The handler, the tables and the trampolines stay: a thread may be in the
 * middle of any of them, and there is no moment at which none can be.
 */
void inproc_stop(struct inproc *ip)
{
	struct probe_regs r = { .rip = 0 };
	bool in_flight;

	if (!ip || ip->stopped)
		return;
	if (!ip->armed) {
		release(ip);
		return;
	}
	probe_inside = true;
	if (probe_self && self_in == ip) {
		here(&r);
		engine_reap(ip->en, probe_self, &r);
	}
	ip->stopped = true;
	if (ip->jump)
		jump_disarm(ip->jump);
	engine_disarm(ip->en, 0, &in_flight);
	probe_inside = false;
}

bool inproc_next_handler(struct inproc *ip, const struct sigaction *act,
			 struct sigaction *old)
{
	if (!ip->armed || ip->stopped)
		return false;
	if (old)
		*old = ip->before;
	ip->before = *act;
	return true;
}

struct engine *inproc_engine(struct inproc *ip)
{
	return ip->en;
}
