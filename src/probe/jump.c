#include "probe/jump.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/engine_priv.h"
#include "probe/insn.h"

struct jump *jump_current;
uint64_t probe_xsave_size;

void probe_jump_leave_asm(void);

/* The same instruction, led to the stub: jmp, or jcc for what is one. */
static void jump_bytes(const struct jump_patch *f, uint8_t *out)
{
	int32_t rel = (int32_t)(f->stub - (f->at + f->len));
	unsigned int op = f->len - 4u;

	if (op == 1)
		out[0] = 0xe9;
	else
		memcpy(out, f->orig, op);
	memcpy(out + op, &rel, 4);
}

static void calibrate(struct jump *j)
{
	uint64_t ns = now_ns(), tsc = __builtin_ia32_rdtsc(), span;

	do
		span = now_ns() - ns;
	while (span < 2000000);
	tsc = __builtin_ia32_rdtsc() - tsc;
	j->mult = (uint64_t)(((unsigned __int128)span << 32) / tsc);
	j->base_tsc = __builtin_ia32_rdtsc();
	j->base_ns = now_ns();
}

static uint64_t xsave_size(void)
{
	unsigned int a, b = 0, c, d;

	__cpuid_count(0xd, 0, a, b, c, d);
	/* Room for what the kernel enabled, header included. */
	return ALIGN_UP(MAX(b, 832u), 64ul);
}

static int set_pointers(struct jump *j)
{
	uint64_t leave = (uint64_t)probe_jump_leave_asm;
	struct engine *en = j->en;

	j->tramp = en->tramp;
	for (unsigned int c = 0; c < TRAMP_CLASSES; c++) {
		j->entry[c] = tramp_entry(en->tramp, c, TRAMP_JUMP);
		j->frame[c] = tramp_frame(c);
	}
	return en->ops->patch(en->t, en->tramp + TRAMP_LEAVE, &leave, 8);
}

static void sync_cores(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0,
		0);
}

/* Bytes [from, to) of each patch, as they are to be: ours or the file's. */
static int write_part(struct jump *j, unsigned int from, unsigned int to,
		      bool ours)
{
	uint8_t bytes[JCC_BYTES];
	unsigned int end;
	int ret = 0;

	for (size_t i = 0; i < j->npatch && !ret; i++) {
		const struct jump_patch *f = &j->patch[i];

		if (!f->at)
			continue;
		if (ours)
			jump_bytes(f, bytes);
		else
			memcpy(bytes, f->orig, f->len);
		end = MIN(to, (unsigned int)f->len);
		ret = j->en->ops->patch(j->en->t, f->at + from, bytes + from,
					end - from);
	}
	return ret;
}

static int write_int3(struct jump *j)
{
	const uint8_t int3 = 0xcc;
	int ret = 0;

	for (size_t i = 0; i < j->npatch && !ret; i++)
		if (j->patch[i].at)
			ret = j->en->ops->patch(j->en->t, j->patch[i].at, &int3,
						1);
	return ret;
}

/*
 * The bytes behind the first are only written while the first is a
 * breakpoint, and every core has seen that; a thread that meets it is sent
 * around the patch by its handler.  All patches go through each step
 * together: a step costs a third of a millisecond.
 */
static int write_all(struct jump *j, bool ours, bool alone)
{
	int ret;

	if (alone)
		return write_part(j, 0, JCC_BYTES, ours);
	ret = write_int3(j);
	sync_cores();
	if (!ret)
		ret = write_part(j, 1, JCC_BYTES, ours);
	sync_cores();
	if (!ret)
		ret = write_part(j, 0, 1, ours);
	sync_cores();
	return ret;
}

/* The breakpoint of a moment: run the copy of what it displaced. */
int jump_pass(struct probe_regs *r)
{
	const struct jump *j = jump_current;

	for (size_t i = 0; j && i < j->npatch; i++) {
		const struct jump_patch *f = &j->patch[i];

		if (f->at != r->rip)
			continue;
		r->rip = insn_cond_holds(f->cond, r) ? f->body : f->at + f->len;
		return 0;
	}
	return -ENOENT;
}

int jump_arm(struct jump *j, bool alone)
{
	int ret = set_pointers(j);

	if (ret < 0)
		return ret;
	probe_xsave_size = xsave_size();
	if (j->time)
		calibrate(j);
	syscall(SYS_membarrier,
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
	jump_current = j;
	return write_all(j, true, alone);
}

/* The stubs stay: a thread may be in one, or have one on its stack. */
void jump_disarm(struct jump *j)
{
	write_all(j, false, false);
}

/* The registers the engine asks for, as they were at the entry. */
static void to_regs(const struct jump_save_all *a, uint64_t sp,
		    struct probe_regs *r)
{
	const struct jump_save *s = &a->s;

	*r = (struct probe_regs){
		.gpr = { [X86_RAX] = s->rax,
			 [X86_RCX] = s->rcx,
			 [X86_RDX] = s->rdx,
			 [X86_RBX] = s->rbx,
			 [X86_RSP] = sp,
			 [X86_RBP] = a->rbp,
			 [X86_RSI] = s->rsi,
			 [X86_RDI] = s->rdi,
			 [X86_R8] = s->r8,
			 [X86_R9] = s->r9,
			 [X86_R10] = s->r10,
			 [X86_R11] = s->r11,
			 [X86_R12] = a->r12,
			 [X86_R13] = a->r13,
			 [X86_R14] = a->r14,
			 [X86_R15] = a->r15 },
	};
}

/* The fast path may do it alone from now on. */
static void remember(struct jump *j, uint64_t ra, uint64_t cls)
{
	j->cache[(ra ^ ra >> 12) % JUMP_CACHE].value = cls;
	j->cache[(ra ^ ra >> 12) % JUMP_CACHE].key = cls ^ ra;
}

void probe_jump_enter_slow(struct jump_save_all *a)
{
	struct jump_save *s = &a->s;
	struct jump *j = jump_current;
	const struct jump_patch *f = &j->patch[s->word];
	uint64_t slot = (uint64_t)&s->word + 32, ra = *(uint64_t *)slot;
	struct engine_thread *th;
	struct probe_regs r;
	int saved_errno = errno, cls;

	th = jump_self();
	if (probe_inside || !j->en->armed || !th) {
		s->word = f->bypass;
		return;
	}
	probe_inside = true;
	to_regs(a, slot, &r);
	cls = engine_enter(j->en, th, &r, (uint16_t)s->word, f->body);
	if (cls >= 0) {
		remember(j, ra, (uint64_t)cls);
		s->word = j->entry[cls];
	} else {
		s->word = f->bypass;
	}
	probe_inside = false;
	errno = saved_errno;
}

void probe_jump_tail_slow(struct jump_save_all *a)
{
	struct jump_save *s = &a->s;
	struct jump *j = jump_current;
	const struct jump_patch *f = &j->patch[s->word];
	uint64_t slot = (uint64_t)&s->word + 32, ra = *(uint64_t *)slot, to;
	struct engine_thread *th = jump_self();
	struct probe_regs r;
	int saved_errno = errno;

	if (probe_inside || !j->en->armed || !th) {
		s->word = f->bypass;
		return;
	}
	probe_inside = true;
	to_regs(a, slot, &r);
	to = engine_tail(j->en, th, &r, f->func, f->body);
	if (to == f->body) {
		s->word = f->bypass;
	} else {
		remember(j, ra,
			 ((to - j->tramp) / TRAMP_STRIDE - 1) / TRAMP_FORMS);
		s->word = to;
	}
	probe_inside = false;
	errno = saved_errno;
}

void probe_jump_leave_slow(struct jump_save_all *a)
{
	struct jump_save *s = &a->s;
	struct jump *j = jump_current;
	uint64_t sp = (uint64_t)&s->word + 16;
	uint64_t from = *((const uint64_t *)sp - 1) - j->tramp;
	unsigned int cls =
		(unsigned int)((from / TRAMP_STRIDE - 1) / TRAMP_FORMS);
	int saved_errno = errno;
	struct probe_regs r;
	struct engine_thread *th;

	th = jump_self();
	to_regs(a, sp, &r);
	if (probe_inside || !th) {
		s->word = sp + tramp_frame(cls) + TRAMP_HEADER;
		return;
	}
	probe_inside = true;
	s->word = engine_leave(j->en, th, &r, cls);
	probe_inside = false;
	errno = saved_errno;
}
