/*
 * Following a function's instructions from its entry to find its exits.
 *
 * Only what is reached is believed.  Blocks that only an indirect jump or a
 * landing pad leads to are taken in the end, and only where the function has
 * such a jump or such pads: elsewhere bytes that nothing reaches may be data.
 */
#include "probe/finder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/insn.h"

#define ROOM_MAX 32

/* What is known of one byte. */
#define B_START	 1 /* an instruction starts here */
#define B_INSIDE 2 /* belongs to one that starts earlier */
#define B_TARGET 4 /* something jumps here */

#define DEPTH_UNKNOWN INT32_MIN

/* Stack depth since entry, and rbp's, where it is a frame pointer. */
struct depth {
	int32_t sp, fp;
};

struct work {
	uint64_t addr;
	struct depth d;
};

struct part {
	uint64_t lo, hi;
	uint8_t *byte;
	bool whole; /* ours to its end, so gaps may be swept */
};

struct flow {
	const struct finder *f;
	const struct image *im;
	struct probe_func *fn;
	struct part *part;
	size_t nparts;
	struct work *work;
	size_t nwork, work_room, site_room;
	int err;
};

static struct part *part_of(struct flow *w, uint64_t addr)
{
	for (size_t i = 0; i < w->nparts; i++)
		if (addr >= w->part[i].lo && addr < w->part[i].hi)
			return &w->part[i];
	return NULL;
}

static struct part *add_part(struct flow *w, uint64_t lo, uint64_t hi,
			     bool whole)
{
	size_t avail;
	void *p;

	/* Extents are the file's word, and may end before they begin. */
	if (hi <= lo || !image_code(w->im, lo, &avail))
		return NULL;
	hi = MIN(hi, lo + avail);
	p = reallocarray(w->part, w->nparts + 1, sizeof(*w->part));
	if (!p) {
		w->err = -ENOMEM;
		return NULL;
	}
	w->part = p;
	w->part[w->nparts] = (struct part){ lo, hi, calloc(hi - lo, 1), whole };
	if (!w->part[w->nparts].byte) {
		w->err = -ENOMEM;
		return NULL;
	}
	return &w->part[w->nparts++];
}

static void push(struct flow *w, uint64_t addr, struct depth d)
{
	if (w->nwork == w->work_room) {
		size_t room = w->work_room ? w->work_room * 2 : 32;
		void *p = reallocarray(w->work, room, sizeof(*w->work));

		if (!p) {
			w->err = -ENOMEM;
			return;
		}
		w->work = p;
		w->work_room = room;
	}
	w->work[w->nwork++] = (struct work){ addr, d };
}

static struct probe_site *add_site(struct flow *w, enum site_kind kind,
				   uint64_t addr, const struct insn *in)
{
	struct probe_site *s;
	const uint8_t *code;
	size_t avail = 0;

	if (w->fn->nsite == w->site_room) {
		size_t room = w->site_room ? w->site_room * 2 : 8;
		void *p = reallocarray(w->fn->site, room, sizeof(*s));

		if (!p) {
			w->err = -ENOMEM;
			return NULL;
		}
		w->fn->site = p;
		w->site_room = room;
	}
	s = &w->fn->site[w->fn->nsite++];
	*s = (struct probe_site){
		.addr = addr,
		.kind = (uint8_t)kind,
		.len = in->len,
		.cond = in->cond,
		.pop = in->pop,
		.target = in->target,
		.step = STEP_FLOW,
		.pushed = X86_NONE,
		.ref = { .base = X86_NONE, .index = X86_NONE },
	};
	code = image_code(w->im, addr, &avail);
	if (code)
		memcpy(s->bytes, code, MIN(avail, sizeof(s->bytes)));
	return s;
}

static void refuse(struct probe_site *s, enum site_why why)
{
	if (!s)
		return;
	s->verdict = SITE_REFUSED;
	s->why = (uint8_t)why;
}

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

static struct depth step(const struct insn *in, struct depth d)
{
	switch (in->stack) {
	case STACK_MOVED:
		if (d.sp != DEPTH_UNKNOWN)
			d.sp += in->delta;
		break;
	case STACK_FROM_FP:
		d.sp = d.fp == DEPTH_UNKNOWN ? d.fp : d.fp + in->delta;
		break;
	case STACK_LEAVE:
		d.sp = d.fp == DEPTH_UNKNOWN ? d.fp : d.fp - 8;
		d.fp = DEPTH_UNKNOWN;
		break;
	case STACK_LOST: d.sp = DEPTH_UNKNOWN; break;
	}
	if (in->sets_fp)
		d.fp = d.sp == DEPTH_UNKNOWN ? d.sp : d.sp + in->delta;
	else if (in->loads_fp)
		d.fp = DEPTH_UNKNOWN;
	return d;
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
	struct part *p = part_of(w, to);
	uint64_t hi;

	if (!p && other)
		p = add_part(w, other->addr, other->addr + other->size, false);
	else if (!p && fde)
		p = add_part(w, fde->lo, fde->hi, true);
	else if (!p) {
		const struct image_symbol *s = image_symbol_at(w->im, to);

		hi = s && s->size ? s->addr + s->size : to + PAGE_SIZE;
		p = add_part(w, to, hi, false);
	}
	if (!p || to < p->lo || to >= p->hi)
		return;
	p->byte[to - p->lo] |= B_TARGET;
	push(w, to, d);
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

static void direct_jump(struct flow *w, uint64_t addr, const struct insn *in,
			struct depth d)
{
	bool cond = in->kind == INSN_JCC;
	enum at_entry sp = at_entry(w, addr, d);
	struct part *p = part_of(w, in->target);
	struct probe_site *s;
	size_t avail;
	uint8_t reg;

	if (p) {
		p->byte[in->target - p->lo] |= B_TARGET;
		if (in->target == w->fn->addr)
			w->fn->self_jump = true;
		push(w, in->target, d);
		return;
	}
	if (is_return_thunk(w->im, in->target) && !cond) {
		s = add_site(w, SITE_RET_JMP, addr, in);
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
		s = add_site(w, SITE_TAIL_IND, addr, in);
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
	s = add_site(w, cond ? SITE_TAIL_COND : SITE_TAIL, addr, in);
	name_target(w, s);
	if (s && !image_code(w->im, in->target, &avail)) {
		refuse(s, WHY_NOWHERE);
		return;
	}
	if (sp == SP_AT_ENTRY || !s)
		return;
	if (s->to_entry || s->plt)
		s->verdict = SITE_RUNTIME;
	else
		refuse(s, WHY_NO_UNWIND);
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
		return part_of(w, to) != NULL;
	}
	return false;
}

static void indirect_jump(struct flow *w, uint64_t addr, const struct insn *in,
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
	s = add_site(w, SITE_TAIL_IND, addr, in);
	if (!s)
		return;
	s->ref = in->ref;
	/* A segment the run can resolve, but only from its base. */
	s->verdict = SITE_RUNTIME;
	w->fn->indirect = true;
}

static void a_return(struct flow *w, uint64_t addr, const struct insn *in,
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
			s = add_site(w, SITE_TAIL_PUSH, addr, in);
			if (s)
				s->verdict = SITE_RUNTIME;
			return;
		}
	}
	s = add_site(w, SITE_RET, addr, in);
	if (!s || sp == SP_AT_ENTRY)
		return;
	if (sp == SP_UNSURE)
		s->verdict = SITE_RUNTIME;
	else
		refuse(s, WHY_STACK);
}

/* The last instruction ran on past the end: into whom? */
static void fall_out(struct flow *w, uint64_t addr, struct depth d,
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
	s = add_site(w, SITE_FALL, addr, &in);
	if (!s)
		return;
	s->target = addr;
	s->verdict = SITE_RUNTIME;
	name_target(w, s);
}

/* One straight run from 'start' until it ends or meets what is known. */
static void walk(struct flow *w, uint64_t start, struct depth d)
{
	struct insn in, prev[2] = { { 0 }, { 0 } };
	struct part *p = part_of(w, start);
	size_t which = p ? (size_t)(p - w->part) : 0;
	uint64_t addr = start;

	prev[0].reg0 = prev[1].reg0 = X86_NONE;
	while (p && addr < p->hi && !w->err) {
		size_t avail, i = addr - p->lo, had;
		const uint8_t *code = image_code(w->im, addr, &avail);

		if (p->byte[i] & B_START)
			return;
		avail = MIN(avail, p->hi - addr);
		if (!code || insn_decode(&in, code, avail, addr) < 0) {
			in = (struct insn){ .len = 1 };
			refuse(add_site(w, SITE_RET, addr, &in), WHY_BAD_CODE);
			p->byte[i] |= B_START;
			return;
		}
		had = w->fn->nsite;
		p->byte[i] |= B_START;
		switch (in.kind) {
		case INSN_JMP:
		case INSN_JCC: direct_jump(w, addr, &in, d); break;
		case INSN_JMP_IND: indirect_jump(w, addr, &in, d, prev); break;
		case INSN_RET: a_return(w, addr, &in, d, prev); break;
		case INSN_FAR:
			refuse(add_site(w, SITE_RET, addr, &in), WHY_FAR);
			break;
		}
		/* add_part() may have moved the array. */
		p = &w->part[which];
		for (size_t k = 1; k < in.len; k++)
			p->byte[i + k] |= B_INSIDE;
		if (w->fn->nsite > had && p->byte[i] & B_INSIDE)
			refuse(&w->fn->site[w->fn->nsite - 1], WHY_OVERLAP);
		if (in.kind == INSN_JMP || in.kind == INSN_JMP_IND ||
		    in.kind == INSN_RET || in.kind == INSN_FAR ||
		    in.kind == INSN_STOP)
			return;
		w->fn->writes_r11 |= in.writes_r11;
		d = step(&in, d);
		addr += in.len;
		if (addr == w->fn->addr + w->fn->size)
			fall_out(w, addr, d, &in);
		prev[1] = prev[0];
		prev[0] = in;
	}
}

static void drain(struct flow *w)
{
	while (w->nwork && !w->err) {
		struct work k = w->work[--w->nwork];

		walk(w, k.addr, k.d);
	}
}

static bool is_padding(uint8_t b)
{
	return b == 0xcc || b == 0x90 || b == 0;
}

/* Where the next run of unreached bytes starts, padding skipped. */
static uint64_t next_gap(struct flow *w, struct part *p, uint64_t from)
{
	for (uint64_t a = from; a < p->hi; a++) {
		size_t avail;
		const uint8_t *code = image_code(w->im, a, &avail);
		struct insn in;

		if (!code)
			return p->hi;
		if (p->byte[a - p->lo] & (B_START | B_INSIDE) ||
		    is_padding(*code))
			continue;
		avail = MIN(avail, p->hi - a);
		if (!insn_decode(&in, code, avail, a) && in.kind == INSN_NOP &&
		    code[0] != 0xf3) {
			a += in.len - 1u;
			continue;
		}
		return a;
	}
	return p->hi;
}

/*
 * Do the bytes at 'from' read as code, up to where it leaves or joins what is
 * known?  For blocks that a kernel patches its way to at run time (jump
 * labels): nothing in the file leads there, and no table is among functions.
 */
static bool reads_as_code(struct flow *w, struct part *p, uint64_t from)
{
	uint64_t a = from;

	while (a < p->hi) {
		uint8_t known = p->byte[a - p->lo];
		const struct part *to;
		const uint8_t *code;
		struct insn in;
		size_t avail;

		if (known)
			return a > from && known & B_START;
		code = image_code(w->im, a, &avail);
		if (!code ||
		    insn_decode(&in, code, MIN(avail, p->hi - a), a) < 0)
			return false;
		if (in.kind == INSN_JMP || in.kind == INSN_JCC ||
		    in.kind == INSN_CALL) {
			to = part_of(w, in.target);
			if (to ? (to->byte[in.target - to->lo] &
				  (B_START | B_INSIDE)) == B_INSIDE
			       : !finder_exact(w->f, in.target) &&
					    !image_symbol_exact(w->im,
								in.target))
				return false;
		}
		if (in.kind == INSN_JMP || in.kind == INSN_JMP_IND ||
		    in.kind == INSN_RET || in.kind == INSN_STOP)
			return true;
		if (in.kind == INSN_FAR)
			return false;
		a += in.len;
	}
	return false;
}

static void sweep(struct flow *w)
{
	const struct depth lost = { DEPTH_UNKNOWN, DEPTH_UNKNOWN };

	for (size_t i = 0; i < w->nparts && !w->err; i++) {
		const struct cfi_fde *fde =
			cfi_find(&w->im->cfi, w->part[i].lo);
		uint64_t a = w->part[i].lo;

		if (!w->part[i].whole)
			continue;
		for (;;) {
			a = next_gap(w, &w->part[i], a);
			if (a >= w->part[i].hi || w->err)
				break;
			if (w->fn->indirect || (fde && fde->lsda) ||
			    (w->im->kernel &&
			     reads_as_code(w, &w->part[i], a))) {
				w->part[i].byte[a - w->part[i].lo] |= B_TARGET;
				push(w, a, lost);
				drain(w);
			} else {
				w->fn->gap++;
			}
			a++;
		}
	}
}

static void entry_site(struct flow *w)
{
	const struct image_symbol *sym;
	struct probe_site *s;
	struct insn in = { .len = 1 };
	const uint8_t *code;
	size_t avail = 0;

	code = image_code(w->im, w->fn->addr, &avail);
	if (!code || insn_decode(&in, code, avail, w->fn->addr) < 0) {
		refuse(add_site(w, SITE_ENTRY, w->fn->addr, &in),
		       code ? WHY_BAD_CODE : WHY_NO_CODE);
		return;
	}
	s = add_site(w, SITE_ENTRY, w->fn->addr, &in);
	if (!s)
		return;
	s->pushed = in.pushed;
	s->rip_disp = (int8_t)in.rip_disp;
	switch (in.kind) {
	case INSN_NOP: s->step = STEP_NOP; break;
	case INSN_PUSH: s->step = STEP_PUSH; break;
	case INSN_JMP_IND:
	case INSN_CALL_IND: s->ref = in.ref; /* fallthrough */
	case INSN_JMP:
	case INSN_JCC:
	case INSN_CALL:
	case INSN_RET: s->step = STEP_FLOW; break;
	default:
		s->step = STEP_SLOT;
		if (!in.movable)
			refuse(s, WHY_DISPLACED);
	}
	sym = image_symbol_exact(w->im, w->fn->addr);
	if (sym && sym->ifunc)
		refuse(s, WHY_IFUNC);
}

/* How many bytes from the entry on may be replaced by one jump. */
static uint8_t room(struct flow *w)
{
	const struct part *p = &w->part[0];
	size_t n = MIN(p->hi - p->lo, (uint64_t)ROOM_MAX), at = 0;

	while (at < n) {
		size_t end = at + 1;

		if (!(p->byte[at] & B_START) || (at && p->byte[at] & B_TARGET))
			break;
		while (end < p->hi - p->lo && p->byte[end] & B_INSIDE &&
		       !(p->byte[end] & (B_START | B_TARGET)))
			end++;
		at = end;
	}
	return (uint8_t)at;
}

/* Behind a ret: bytes that nothing reaches, if they are padding. */
static unsigned int padding(struct flow *w, uint64_t at)
{
	struct part *p = part_of(w, at - 1);
	struct insn in;
	size_t avail;
	const uint8_t *code = image_code(w->im, at, &avail);

	if (!code || !p || (at < p->hi && p->byte[at - p->lo]))
		return 0;
	/* Past the end another function may begin. */
	if (at >= p->hi && finder_exact(w->f, at))
		return 0;
	if (*code == 0xcc)
		return avail > 1 && code[1] == 0xcc ? 2 : 1;
	return !insn_decode(&in, code, avail, at) && in.kind == INSN_NOP
		       ? in.len
		       : 0;
}

static void measure(struct flow *w)
{
	for (size_t i = 0; i < w->fn->nsite; i++) {
		struct probe_site *s = &w->fn->site[i];

		s->room = s->len;
		if (s->kind == SITE_RET && s->verdict != SITE_REFUSED)
			s->room += (uint8_t)padding(w, s->addr + s->len);
	}
}

static int by_site(const void *a, const void *b)
{
	const struct probe_site *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)x->kind - (int)y->kind;
}

/* Parts may overlap, and then a site was met twice. */
static void sort_sites(struct probe_func *fn)
{
	size_t n = 0;

	if (!fn->nsite)
		return;
	qsort(fn->site, fn->nsite, sizeof(*fn->site), by_site);
	for (size_t i = 0; i < fn->nsite; i++)
		if (!n || by_site(&fn->site[n - 1], &fn->site[i]))
			fn->site[n++] = fn->site[i];
	fn->nsite = n;
}

/* Of another function's bytes only those from the first we run are ours. */
static struct probe_range extent(const struct part *p)
{
	struct probe_range r = { p->lo, p->hi };

	while (!p->whole && r.lo < r.hi && !(p->byte[r.lo - p->lo] & B_START))
		r.lo++;
	return r;
}

/* Sites another function leaves through too: the run tells whose it is. */
static void mark_shared(struct flow *w)
{
	for (size_t i = 0; i < w->fn->nsite; i++) {
		struct probe_site *s = &w->fn->site[i];
		const struct probe_func *other = finder_at(w->f, s->addr);

		if (other && other != w->fn && s->kind != SITE_FALL)
			s->shared = true;
	}
}

int finder_sites(const struct finder *f, struct probe_func *fn)
{
	const struct depth at_start = { 0, DEPTH_UNKNOWN };
	struct flow w = { .f = f, .im = f->im, .fn = fn };
	const struct image_symbol *cold;
	struct cfi_row row;
	char name[512];

	free(fn->site);
	free(fn->range);
	fn->site = NULL;
	fn->range = NULL;
	fn->nsite = fn->nrange = 0;
	fn->span = fn->gap = 0;
	fn->self_jump = fn->indirect = fn->writes_r11 = false;

	cfi_row(&f->im->cfi, fn->addr, &row);
	fn->outermost = row.outermost;
	entry_site(&w);
	if (w.err || !fn->size ||
	    !add_part(&w, fn->addr, fn->addr + fn->size, true))
		goto out;
	/* Landing pads alone may be in the cold part: no jump leads there. */
	if (strlen(fn->name) < sizeof(name) - 5 &&
	    image_symbol_only(f->im, fn->name)) {
		strcat(strcpy(name, fn->name), ".cold");
		cold = image_symbol_only(f->im, name);
		if (cold && cold->size && !part_of(&w, cold->addr) &&
		    !finder_exact(f, cold->addr))
			add_part(&w, cold->addr, cold->addr + cold->size, true);
	}
	push(&w, fn->addr, at_start);
	drain(&w);
	sweep(&w);

	fn->room = room(&w);
	measure(&w);
	fn->range = calloc(w.nparts, sizeof(*fn->range));
	if (!fn->range)
		w.err = -ENOMEM;
	for (size_t i = 0; fn->range && i < w.nparts; i++)
		fn->range[fn->nrange++] = extent(&w.part[i]);
	mark_shared(&w);
	sort_sites(fn);
out:
	for (size_t i = 0; i < w.nparts; i++)
		free(w.part[i].byte);
	free(w.part);
	free(w.work);
	return w.err;
}
