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

/*
 * A stub:  0 lea -24(rsp), rsp	make room for the header
 *	    5 push $number
 *	   10 jmp *56(rip)	to jump_asm.S
 *	   16 lea 24(rsp), rsp	the bypass
 *	   21 the displaced instructions, and a jump behind them
 *	   56 the address jumped to
 */
#define STUB_SIZE   64
#define STUB_BYPASS 16
#define STUB_BODY   21
#define STUB_ENTER  56

struct jump *jump_current;
uint64_t probe_xsave_size;

void probe_jump_enter_asm(void);
void probe_jump_leave_asm(void);

/* They return twice, the second time into a frame that is gone. */
static bool returns_twice(const char *name)
{
	static const char *const names[] = { "setjmp",	     "_setjmp",
					     "__setjmp",     "sigsetjmp",
					     "__sigsetjmp",  "vfork",
					     "__vfork",	     "getcontext",
					     "__getcontext", "savectx" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* Where jumps of all the functions lead, sorted: none may land in a patch. */
struct landings {
	uint64_t *at;
	size_t n;
};

static int by_address(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int find_landings(const struct engine *en, struct landings *l)
{
	size_t most = 0;

	for (size_t i = 0; i < en->nfunc; i++)
		most += en->func[i].fn->nsite;
	l->n = 0;
	l->at = calloc(most + 1, sizeof(*l->at));
	if (!l->at)
		return -ENOMEM;
	for (size_t i = 0; i < en->nfunc; i++) {
		const struct engine_func *f = &en->func[i];

		for (size_t k = 0; k < f->fn->nsite; k++) {
			const struct probe_site *s = &f->fn->site[k];

			/* A function that runs on into the next keeps a
			 * breakpoint of its own there. */
			if (s->kind == SITE_FALL)
				l->at[l->n++] = s->addr + f->bias + 1;
			else if (s->target && !s->to_entry)
				l->at[l->n++] = s->target + f->bias;
		}
	}
	qsort(l->at, l->n, sizeof(*l->at), by_address);
	return 0;
}

/* Does anything land beyond lo and before hi? */
static bool lands_in(const struct landings *l, uint64_t lo, uint64_t hi)
{
	size_t from = 0, to = l->n;

	while (from < to) {
		size_t mid = (from + to) / 2;

		if (l->at[mid] <= lo)
			from = mid + 1;
		else
			to = mid;
	}
	return from < l->n && l->at[from] < hi;
}

/* Length of the instructions a patch at 'at' displaces, or 0 if it may not. */
static unsigned int displaced(const struct landings *l,
			      const struct engine_func *f, uint64_t *at)
{
	uint64_t lo = f->fn->addr + f->bias, end = lo + f->fn->room;
	unsigned int len = 0;
	uint8_t code[SITE_INSN_MAX];
	struct insn in;

	if (!f->track || !f->fn->nsite || f->fn->self_jump ||
	    f->fn->outermost || f->fn->site[0].kind != SITE_ENTRY ||
	    f->fn->site[0].verdict == SITE_REFUSED || returns_twice(f->name))
		return 0;
	/* An indirect call must still find its endbr64. */
	if (!memcmp((const void *)lo, "\xf3\x0f\x1e\xfa", 4))
		lo += 4;
	*at = lo;
	while (len < JUMP_BYTES) {
		if (lo + len >= end)
			return 0;
		memset(code, 0, sizeof(code));
		memcpy(code, (const void *)(lo + len),
		       MIN(sizeof(code), end - lo - len));
		if (insn_decode(&in, code, sizeof(code), lo + len) < 0 ||
		    lo + len + in.len > end || in.kind == INSN_STOP ||
		    (!in.movable && in.kind != INSN_NOP))
			return 0;
		len += in.len;
	}
	if (lands_in(l, f->fn->addr + f->bias, lo + JUMP_BYTES))
		return 0;
	return len;
}

static int build_stub(struct jump *j, uint16_t func, uint64_t stub, uint64_t at,
		      unsigned int len)
{
	uint64_t enter = (uint64_t)probe_jump_enter_asm, back = at + len;
	uint8_t buf[STUB_SIZE], *body = buf + STUB_BODY;
	struct jump_func *f = &j->func[func];
	uint32_t number = func;

	memset(buf, 0xcc, sizeof(buf));
	memcpy(buf, "\x48\x8d\x64\x24\xe8\x68", 6);
	memcpy(buf + 6, &number, 4);
	memcpy(buf + 10, "\xff\x25\x28\0\0\0", 6);
	memcpy(buf + STUB_BYPASS, "\x48\x8d\x64\x24\x18", 5);
	memcpy(body, (const void *)at, len);
	for (unsigned int i = 0; i < len;) {
		struct insn in;
		int64_t moved;
		int32_t disp;

		if (insn_decode(&in, body + i, len - i, at + i) < 0)
			return -EILSEQ;
		if (in.rip_disp) {
			memcpy(&disp, body + i + in.rip_disp, 4);
			moved = disp + (int64_t)(at - (stub + STUB_BODY));
			disp = (int32_t)moved;
			if (disp != moved)
				return -ERANGE;
			memcpy(body + i + in.rip_disp, &disp, 4);
		}
		i += in.len;
	}
	memcpy(body + len, "\xff\x25\0\0\0\0", 6);
	memcpy(body + len + 6, &back, 8);
	memcpy(buf + STUB_ENTER, &enter, 8);
	f->at = at;
	f->bypass = stub + STUB_BYPASS;
	f->body = stub + STUB_BODY;
	memcpy(f->orig, (const void *)at, JUMP_BYTES);
	return j->en->ops->patch(j->en->t, stub, buf, sizeof(buf));
}

/* jmp rel32 from the patch to the stub. */
static void jump_bytes(const struct jump_func *f, uint8_t *out)
{
	uint64_t stub = f->body - STUB_BODY;
	int32_t rel = (int32_t)(stub - (f->at + JUMP_BYTES));

	out[0] = 0xe9;
	memcpy(out + 1, &rel, 4);
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

int jump_prepare(struct jump **out, struct engine *en, struct err *e)
{
	uint64_t area = 0, size, at;
	size_t n = 0, used = 0;
	struct landings l;
	struct jump *j;
	int ret;

	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->func = calloc(en->nfunc + 1, sizeof(*j->func));
	ret = j->func ? find_landings(en, &l) : -ENOMEM;
	if (ret < 0) {
		free(j->func);
		free(j);
		return ret;
	}
	j->en = en;
	j->fast = en->opt.count_only;
	j->time = en->opt.count_only && !en->opt.no_latency;
	for (size_t i = 0; i < en->nfunc; i++)
		n += displaced(&l, &en->func[i], &at) > 0;
	size = ALIGN_UP((n + 1) * STUB_SIZE, PAGE_SIZE);
	for (size_t i = 0; i < en->nfunc && !ret; i++) {
		unsigned int len = displaced(&l, &en->func[i], &at);

		if (!len)
			continue;
		/* Stubs are near what they serve, or there are none. */
		if (!area || (area > at ? area - at : at - area) > 1ul << 30) {
			ret = en->ops->alloc(en->t, at, size, &area);
			if (ret < 0)
				break;
			used = 0;
		}
		ret = build_stub(j, (uint16_t)i, area + used * STUB_SIZE, at,
				 len);
		if (ret == -ERANGE) {
			ret = 0; /* breakpoints, then */
			continue;
		}
		if (!ret) {
			used++;
			en->func[i].jump = true;
		}
	}
	free(l.at);
	if (ret < 0) {
		free(j->func);
		free(j);
		return err_sys(e, ret, "stubs");
	}
	*out = j;
	return (int)n;
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
	uint8_t bytes[JUMP_BYTES];
	int ret = 0;

	for (size_t i = 0; i < j->en->nfunc && !ret; i++) {
		const struct jump_func *f = &j->func[i];

		if (!f->at)
			continue;
		if (ours)
			jump_bytes(f, bytes);
		else
			memcpy(bytes, f->orig, JUMP_BYTES);
		ret = j->en->ops->patch(j->en->t, f->at + from, bytes + from,
					to - from);
	}
	return ret;
}

static int write_int3(struct jump *j)
{
	const uint8_t int3 = 0xcc;
	int ret = 0;

	for (size_t i = 0; i < j->en->nfunc && !ret; i++)
		if (j->func[i].at)
			ret = j->en->ops->patch(j->en->t, j->func[i].at, &int3,
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
		return write_part(j, 0, JUMP_BYTES, ours);
	ret = write_int3(j);
	sync_cores();
	if (!ret)
		ret = write_part(j, 1, JUMP_BYTES, ours);
	sync_cores();
	if (!ret)
		ret = write_part(j, 0, 1, ours);
	sync_cores();
	return ret;
}

/* The breakpoint of a moment: run the function from its displaced copy. */
int jump_pass(struct probe_regs *r)
{
	const struct jump *j = jump_current;

	for (size_t i = 0; j && i < j->en->nfunc; i++) {
		if (j->func[i].at != r->rip)
			continue;
		r->rip = j->func[i].body;
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

void probe_jump_enter_slow(struct jump_save_all *a)
{
	struct jump_save *s = &a->s;
	struct jump *j = jump_current;
	const struct jump_func *f = &j->func[s->word];
	uint64_t slot = (uint64_t)&s->word + 32, ra = *(uint64_t *)slot, v;
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
		v = (uint64_t)cls;
		j->cache[(ra ^ ra >> 12) % JUMP_CACHE].value = v;
		j->cache[(ra ^ ra >> 12) % JUMP_CACHE].key = v ^ ra;
		s->word = j->entry[cls];
	} else {
		s->word = f->bypass;
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
