/*
 * Reading, writing and running code in a traced process.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "probe/maps.h"
#include "probe/ptrace_priv.h"

void ptrace_to_regs(const struct user_regs_struct *u, struct probe_regs *r)
{
	uint64_t *g = r->gpr;

	g[X86_RAX] = u->rax;
	g[X86_RCX] = u->rcx;
	g[X86_RDX] = u->rdx;
	g[X86_RBX] = u->rbx;
	g[X86_RSP] = u->rsp;
	g[X86_RBP] = u->rbp;
	g[X86_RSI] = u->rsi;
	g[X86_RDI] = u->rdi;
	g[X86_R8] = u->r8;
	g[X86_R9] = u->r9;
	g[X86_R10] = u->r10;
	g[X86_R11] = u->r11;
	g[X86_R12] = u->r12;
	g[X86_R13] = u->r13;
	g[X86_R14] = u->r14;
	g[X86_R15] = u->r15;
	r->rip = u->rip;
	r->rflags = u->eflags;
	r->fs_base = u->fs_base;
	r->gs_base = u->gs_base;
}

/* What a hit may change: registers a jump, a call or a push moves. */
void ptrace_from_regs(const struct probe_regs *r, struct user_regs_struct *u)
{
	u->rsp = r->gpr[X86_RSP];
	u->rcx = r->gpr[X86_RCX];
	u->r11 = r->gpr[X86_R11];
	u->rip = r->rip;
}

static int op_read(struct probe_target *t, uint64_t addr, void *buf, size_t len)
{
	struct iovec to = { buf, len }, from = { (void *)addr, len };
	ssize_t n = process_vm_readv(t->pid, &to, 1, &from, 1, 0);

	if (n == (ssize_t)len)
		return 0;
	n = pread(t->mem, buf, len, (off_t)addr);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

static int op_patch(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	ssize_t n = pwrite(t->mem, buf, len, (off_t)addr);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EFAULT;
}

static int op_write(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	struct iovec from = { (void *)buf, len }, to = { (void *)addr, len };

	if (process_vm_writev(t->pid, &from, 1, &to, 1, 0) == (ssize_t)len)
		return 0;
	return op_patch(t, addr, buf, len);
}

int target_switch(struct probe_target *t, int pid, int tid)
{
	char path[64];

	t->tid = tid;
	if (t->pid == pid && t->mem >= 0)
		return 0;
	close_fd(&t->mem);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	t->mem = open(path, O_RDWR | O_CLOEXEC);
	t->pid = pid;
	return t->mem < 0 ? -errno : 0;
}

/* Let the task run until the int3 behind our code; signals wait. */
static int run_to_trap(struct probe_target *t, uint64_t end)
{
	struct user_regs_struct u;
	int status, pending = 0;

	for (;;) {
		if (ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
			return -errno;
		if (waitpid(t->tid, &status, __WALL) < 0 || !WIFSTOPPED(status))
			return -ESRCH;
		if (ptrace(PTRACE_GETREGS, t->tid, 0, &u) < 0)
			return -errno;
		if (WSTOPSIG(status) == SIGTRAP && !(status >> 16) &&
		    u.rip == end)
			break;
		if (!(status >> 16) && WSTOPSIG(status) != SIGTRAP)
			pending = WSTOPSIG(status);
		if (u.rip == end)
			break;
	}
	if (pending)
		syscall(SYS_tgkill, t->pid, t->tid, pending);
	return 0;
}

/*
 * Have the stopped task run 'code' (which ends in int3) with these registers
 * and give its rax.  The code stands for a moment where the program starts,
 * which no thread executes any more; all others are stopped.
 */
static int run_code(struct probe_target *t, const uint8_t *code, size_t len,
		    struct user_regs_struct *want, uint64_t *rax)
{
	struct user_regs_struct saved, u;
	uint8_t old[16];
	int ret, undo;

	if (ptrace(PTRACE_GETREGS, t->tid, 0, &saved) < 0)
		return -errno;
	ret = op_read(t, t->entry, old, len);
	if (!ret)
		ret = op_patch(t, t->entry, code, len);
	if (ret < 0)
		return ret;
	u = saved;
	u.rip = t->entry;
	/* Below what a leaf function may be using. */
	u.rsp = ALIGN_DOWN(saved.rsp - 512, 64ul);
	u.rax = want->rax;
	u.rdi = want->rdi;
	u.rsi = want->rsi;
	u.rdx = want->rdx;
	u.r10 = want->r10;
	u.r8 = want->r8;
	u.r9 = want->r9;
	/* It is in no system call while it runs ours: nothing to restart. */
	u.orig_rax = (unsigned long long)-1;
	ret = ptrace(PTRACE_SETREGS, t->tid, 0, &u) < 0 ? -errno : 0;
	if (!ret)
		ret = run_to_trap(t, t->entry + len);
	if (!ret && ptrace(PTRACE_GETREGS, t->tid, 0, &u) < 0)
		ret = -errno;
	*rax = u.rax;
	undo = op_patch(t, t->entry, old, len);
	if (ptrace(PTRACE_SETREGS, t->tid, 0, &saved) < 0 && !undo)
		undo = -errno;
	return ret ? ret : undo;
}

static int remote_syscall(struct probe_target *t, struct user_regs_struct *want,
			  uint64_t *rax)
{
	static const uint8_t code[] = { 0x0f, 0x05, 0xcc };
	int ret = run_code(t, code, sizeof(code), want, rax);

	if (!ret && *rax > -4096ull)
		ret = (int)(int64_t)*rax;
	return ret;
}

static int remote_mmap(struct probe_target *t, uint64_t at, size_t size,
		       int prot, uint64_t *addr)
{
	struct user_regs_struct u = {
		.rax = SYS_mmap,
		.rdi = at,
		.rsi = size,
		.rdx = (unsigned int)prot,
		.r8 = ~0ull,
		.r10 = MAP_PRIVATE | MAP_ANONYMOUS |
		       (at ? MAP_FIXED_NOREPLACE : 0),
	};

	return remote_syscall(t, &u, addr);
}

static int op_alloc(struct probe_target *t, uint64_t near, size_t size,
		    uint64_t *addr)
{
	uint64_t at;
	int ret = maps_gap(t->pid, near, size, &at);

	if (ret < 0)
		return ret;
	return remote_mmap(t, at, size, PROT_READ | PROT_EXEC, addr);
}

static void op_free(struct probe_target *t, uint64_t addr, size_t size)
{
	struct user_regs_struct u = { .rax = SYS_munmap,
				      .rdi = addr,
				      .rsi = size };
	uint64_t rax;
	int ret = remote_syscall(t, &u, &rax);

	if (ret < 0)
		log_debug("process %d: munmap 0x%lx: %d", t->pid, addr, ret);
}

static int op_stack(struct probe_target *t, int tid, uint64_t sp,
		    struct probe_extent *x)
{
	struct maps_line l;
	uint64_t prev;
	int ret = maps_find(t->pid, sp, &l, &prev);

	if (ret < 0)
		return ret;
	x->lo = l.lo;
	x->hi = l.hi;
	x->native = t->fs_base >= l.lo && t->fs_base < l.hi;
	if (tid == t->pid && !strcmp(l.path, "[stack]")) {
		x->native = true;
		x->lo = prev;
	}
	return 0;
}

static bool op_exec(struct probe_target *t, uint64_t addr)
{
	struct maps_line l;
	uint64_t prev;

	return !maps_find(t->pid, addr, &l, &prev) && l.exec;
}

/* A function of the target, by name, in whichever file defines it. */
static uint64_t remote_symbol(struct probe_target *t, const char *name)
{
	const struct selection *s = &t->tracer->sel;

	for (size_t i = 0; i < s->nmod; i++) {
		const struct image_symbol *sym =
			image_symbol_named(s->mod[i].im, name);

		if (sym && sym->func)
			return sym->addr + s->mod[i].bias;
	}
	return 0;
}

/*
 * __register_frame_info() takes the storage from us and allocates nothing, so
 * it may be called while another thread holds the allocator's lock.
 */
static int op_unwind_add(struct probe_target *t, uint64_t eh)
{
	static const uint8_t call_rax[] = { 0xff, 0xd0, 0xcc };
	struct user_regs_struct u = { .rdi = eh };
	uint64_t fn = remote_symbol(t, "__register_frame_info"), rax;
	int ret;

	if (!fn)
		return 0; /* no unwinder, no exceptions */
	ret = remote_mmap(t, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			  &t->unwind_obj);
	if (ret < 0)
		return ret;
	u.rax = fn;
	u.rsi = t->unwind_obj;
	return run_code(t, call_rax, sizeof(call_rax), &u, &rax);
}

static void op_unwind_del(struct probe_target *t, uint64_t eh)
{
	static const uint8_t call_rax[] = { 0xff, 0xd0, 0xcc };
	struct user_regs_struct u = { .rdi = eh };
	uint64_t rax;

	u.rax = remote_symbol(t, "__deregister_frame_info");
	if (!t->unwind_obj || !u.rax)
		return;
	if (!run_code(t, call_rax, sizeof(call_rax), &u, &rax))
		op_free(t, t->unwind_obj, PAGE_SIZE);
	t->unwind_obj = 0;
}

const struct probe_target_ops ptrace_ops = {
	.name = "ptrace",
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
