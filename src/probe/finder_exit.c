/*
 * What an instruction that leads elsewhere is: a jump within the function, to
 * a part of it that lies apart, or an exit, and how sure that is.
 */
#include <string.h>

#include "base/util.h"
#include "probe/finder_priv.h"

enum at_entry { SP_ELSEWHERE, SP_AT_ENTRY, SP_UNSURE };

/*
 * Is the stack pointer at its entry value?  Unwind data knows; the followed
 * depth is the second witness.  Where they disagree (assembler whose
 * annotations are wrong), nothing is certain and the run decides.
 */
static enum at_entry at_entry(struct flow *w, uint64_t addr, struct depth d)
{
	struct cfi_row row;

	cfi_row(&w->im->cfi, addr, &row);
	if (row.kind == CFA_UNKNOWN) {
		if (d.sp == DEPTH_UNKNOWN)
			return SP_UNSURE;
		return d.sp == 0 ? SP_AT_ENTRY : SP_ELSEWHERE;
	}
	if (!cfi_at_entry_sp(&row))
		return SP_ELSEWHERE;
	if (d.sp != DEPTH_UNKNOWN && d.sp != 0)
		return SP_UNSURE;
	return SP_AT_ENTRY;
}

static void name_target(struct flow *w, struct probe_site *s)
{
	const struct image_symbol *sym;

	if (!s)
		return;
	s->plt = image_in_plt(w->im, s->target);
	if (s->plt) {
		s->to = image_plt_name(w->im, s->target);
		return;
	}
	sym = image_symbol_at(w->im, s->target);
	s->to = sym ? sym->name : NULL;
	s->to_entry = finder_exact(w->f, s->target) != NULL;
}

static bool is_return_name(const char *name)
{
	size_t n = strlen(name);

	/* __x86_return_thunk, srso_alias_return_thunk, retbleed_..., and the
	 * linker's or compiler's local spelling of them. */
	return n >= 12 && !strcmp(name + n - 12, "return_thunk");
}

/* "__x86_indirect_thunk_r11", clang's "__llvm_retpoline_r11". */
static uint8_t indirect_name(const char *name)
{
	static const char *const regs[] = { "rax", "rcx", "rdx", "rbx",
					    "rsp", "rbp", "rsi", "rdi",
					    "r8",  "r9",  "r10", "r11",
					    "r12", "r13", "r14", "r15" };
	static const char *const stems[] = { "__x86_indirect_thunk_",
					     "__x86_indirect_jump_thunk_",
					     "__llvm_retpoline_",
					     "__llvm_lvi_thunk_" };

	for (size_t i = 0; i < ARRAY_SIZE(stems); i++) {
		size_t n = strlen(stems[i]);

		if (strncmp(name, stems[i], n))
			continue;
		for (size_t r = 0; r < ARRAY_SIZE(regs); r++)
			if (!strcmp(name + n, regs[r]))
				return (uint8_t)r;
	}
	return X86_NONE;
}

/*
 * By any of its names: the kernel's first thunk is the start of an array of
 * them too.
 */
static bool is_return_thunk(const struct image *im, uint64_t addr)
{
	const struct image_symbol *s = image_symbol_exact(im, addr);

	for (; s && s < im->sym + im->nsym && s->addr == addr; s++)
		if (is_return_name(s->name))
			return true;
	return false;
}

static uint8_t indirect_thunk(const struct image *im, uint64_t addr)
{
	const struct image_symbol *s = image_symbol_exact(im, addr);
	uint8_t reg = X86_NONE;

	for (; s && s < im->sym + im->nsym && s->addr == addr; s++) {
		reg = indirect_name(s->name);
		if (reg != X86_NONE)
			break;
	}
	return reg;
}

/* A jump that stays ours: a cold part, or an epilogue shared with others. */
static void follow_part(struct flow *w, uint64_t to, struct depth d)
{
	const struct cfi_fde *fde = cfi_find(&w->im->cfi, to);
	const struct probe_func *other = finder_at(w->f, to);
	struct part *p = flow_part_of(w, to);
	uint64_t hi;

	if (!p && other)
		p = flow_add_part(w, other->addr, other->addr + other->size,
				  false);
	else if (!p && fde)
		p = flow_add_part(w, fde->lo, fde->hi, true);
	else if (!p) {
		const struct image_symbol *s = image_symbol_at(w->im, to);

		hi = s && s->size ? s->addr + s->size : to + PAGE_SIZE;
		p = flow_add_part(w, to, hi, false);
	}
	if (!p || to < p->lo || to >= p->hi)
		return;
	p->byte[to - p->lo] |= B_TARGET;
	flow_push(w, to, d);
}

#define LOOK_INSNS 64
#define LOOK_WAYS  8

enum look { LOOK_BACK, LOOK_LEAVES, LOOK_NEITHER };

/*
 * Code that bears no name, and that we jump to as if it were a function: does
 * it jump back into our middle?  Then it is a part of us: a stripped
 * program's cold code, or what the kernel runs once in place of a patched
 * branch.  Or does it return?
 */
static enum look look_at(struct flow *w, uint64_t to)
{
	const struct part *own = &w->part[0];
	uint64_t way[LOOK_WAYS] = { to };
	unsigned int ways = 1, insns = 0;
	enum look seen = LOOK_NEITHER;

	while (ways && insns < LOOK_INSNS) {
		uint64_t at = way[--ways];
		struct insn in = { .kind = INSN_OTHER };

		for (; insns < LOOK_INSNS; insns++, at += in.len) {
			size_t avail;
			const uint8_t *code = image_code(w->im, at, &avail);

			if (!code || insn_decode(&in, code, avail, at) < 0 ||
			    in.kind == INSN_STOP || in.kind == INSN_FAR)
				break;
			if (in.kind == INSN_RET || in.kind == INSN_JMP_IND) {
				seen = LOOK_LEAVES;
				break;
			}
			if (in.kind != INSN_JMP && in.kind != INSN_JCC)
				continue;
			if (in.target > own->lo && in.target < own->hi)
				return LOOK_BACK;
			if (finder_exact(w->f, in.target) ||
			    image_in_plt(w->im, in.target)) {
				seen = LOOK_LEAVES;
				if (in.kind == INSN_JMP)
					break;
				continue;
			}
			if (ways < LOOK_WAYS && in.target > at)
				way[ways++] = in.target;
			if (in.kind == INSN_JMP)
				break;
		}
	}
	return seen;
}

/*
 * Code that the finder took for no function: by its name, or for want of one
 * (unnamed.h).  Of the latter what a plain jump leads to and what does not
 * come back may be a function yet, one that is only ever tail-called.
 */
static bool is_cold(struct flow *w, const struct insn *in)
{
	const struct image_symbol *s = image_symbol_exact(w->im, in->target);
	const struct cfi_fde *fde = cfi_find(&w->im->cfi, in->target);

	if (finder_exact(w->f, in->target) || image_in_plt(w->im, in->target))
		return false;
	if (s)
		return strstr(s->name, ".cold") != NULL;
	if (!fde || finder_exact(w->f, fde->lo))
		return look_at(w, in->target) == LOOK_BACK;
	return in->kind == INSN_JCC || in->target != fde->lo ||
	       look_at(w, in->target) != LOOK_LEAVES;
}

void flow_direct_jump(struct flow *w, uint64_t addr, const struct insn *in,
		      struct depth d)
{
	bool cond = in->kind == INSN_JCC;
	enum at_entry sp = at_entry(w, addr, d);
	struct part *p = flow_part_of(w, in->target);
	struct probe_site *s;
	size_t avail;
	uint8_t reg;

	if (p) {
		p->byte[in->target - p->lo] |= B_TARGET;
		if (in->target == w->fn->addr)
			w->fn->self_jump = true;
		flow_push(w, in->target, d);
		return;
	}
	if (is_return_thunk(w->im, in->target) && !cond) {
		s = flow_add_site(w, SITE_RET_JMP, addr, in);
		if (sp != SP_AT_ENTRY && s)
			s->verdict = SITE_RUNTIME;
		name_target(w, s);
		return;
	}
	reg = indirect_thunk(w->im, in->target);
	if (reg != X86_NONE) {
		w->fn->indirect = true;
		if (sp == SP_ELSEWHERE)
			return;
		s = flow_add_site(w, SITE_TAIL_IND, addr, in);
		if (!s)
			return;
		s->ref.base = reg;
		s->thunk = true;
		s->verdict = SITE_RUNTIME;
		name_target(w, s);
		return;
	}
	if (sp == SP_ELSEWHERE || is_cold(w, in)) {
		follow_part(w, in->target, d);
		return;
	}
	s = flow_add_site(w, cond ? SITE_TAIL_COND : SITE_TAIL, addr, in);
	name_target(w, s);
	if (s && !image_code(w->im, in->target, &avail)) {
		flow_refuse(s, WHY_NOWHERE);
		return;
	}
	if (sp == SP_AT_ENTRY || !s)
		return;
	if (s->to_entry || s->plt)
		s->verdict = SITE_RUNTIME;
	else
		flow_refuse(s, WHY_NO_UNWIND);
}

/* Does a table at 'at' (absolute 8-byte entries) lead back into us? */
static bool table_inside(struct flow *w, const struct insn *in)
{
	const struct image *im = w->im;
	uint64_t at = (uint64_t)(int64_t)in->ref.disp, to;

	if (!in->ref.mem || in->ref.base != X86_NONE || in->ref.scale != 8 ||
	    in->ref.seg)
		return false;
	for (size_t i = 0; i < im->nseg; i++) {
		const struct image_segment *s = &im->seg[i];

		if (at < s->addr || at - s->addr + 8 > s->filesz)
			continue;
		memcpy(&to, im->map + s->offset + (at - s->addr), 8);
		return flow_part_of(w, to) != NULL;
	}
	return false;
}

void flow_indirect_jump(struct flow *w, uint64_t addr, const struct insn *in,
			struct depth d, const struct insn *prev)
{
	enum at_entry sp = at_entry(w, addr, d);
	struct probe_site *s;

	/*
	 * Not an exit: a frame is open; or the compiler said so (notrack is
	 * only ever put on the jump of a switch); or the instructions before
	 * it load an offset from a table and add the table's address.
	 */
	if (sp == SP_ELSEWHERE || in->notrack ||
	    (!in->ref.mem && insn_is_add_to(&prev[0], in->ref.base) &&
	     insn_is_table_load(&prev[1])) ||
	    table_inside(w, in)) {
		w->fn->indirect = true;
		return;
	}
	s = flow_add_site(w, SITE_TAIL_IND, addr, in);
	if (!s)
		return;
	s->ref = in->ref;
	/* A segment the run can resolve, but only from its base. */
	s->verdict = SITE_RUNTIME;
	w->fn->indirect = true;
}

void flow_return(struct flow *w, uint64_t addr, const struct insn *in,
		 struct depth d, const struct insn *prev)
{
	enum at_entry sp = at_entry(w, addr, d);
	struct probe_site *s;

	if (sp == SP_ELSEWHERE && prev[0].stack == STACK_MOVED &&
	    prev[0].delta == 8) {
		struct depth before = d;

		if (d.sp != DEPTH_UNKNOWN)
			before.sp -= 8;
		if (d.sp == 8 ||
		    at_entry(w, addr - prev[0].len, before) == SP_AT_ENTRY) {
			s = flow_add_site(w, SITE_TAIL_PUSH, addr, in);
			if (s)
				s->verdict = SITE_RUNTIME;
			return;
		}
	}
	s = flow_add_site(w, SITE_RET, addr, in);
	if (!s || sp == SP_AT_ENTRY)
		return;
	if (sp == SP_UNSURE)
		s->verdict = SITE_RUNTIME;
	else
		flow_refuse(s, WHY_STACK);
}

void flow_fall_out(struct flow *w, uint64_t addr, struct depth d,
		   const struct insn *last)
{
	struct insn in = { .len = 1 };
	struct probe_site *s;

	/* After a call or a nop the end is not reached: noreturn, padding. */
	if (last->kind == INSN_CALL || last->kind == INSN_CALL_IND ||
	    last->kind == INSN_NOP || at_entry(w, addr - 1, d) == SP_ELSEWHERE)
		return;
	if (!finder_exact(w->f, addr))
		return;
	s = flow_add_site(w, SITE_FALL, addr, &in);
	if (!s)
		return;
	s->target = addr;
	s->verdict = SITE_RUNTIME;
	name_target(w, s);
}
