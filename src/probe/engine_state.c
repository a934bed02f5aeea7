/*
 * An armed engine on the wire, for a guest that moves with its probes in
 * force: breakpoints stand in the memory that moves along, so the other side
 * must know each of them before it runs a single instruction.
 *
 * The reader believes nothing.  What it takes must be consistent in itself
 * and agree with the memory it is about, or the engine is not armed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/engine_priv.h"

#define NAME_MAX_BYTES 512
#define SITE_WIRE      50 /* bytes, at least */
#define FUNC_WIRE      40
#define STACK_WIRE     24

#define OPT_ENTRY 1u
#define OPT_EXIT  2u
#define OPT_JUMP  4u

#define FN_SELF_JUMP  1u
#define FN_WRITES_R11 2u
#define FN_INDIRECT   4u
#define FN_SWAPS      8u

#define SITE_THUNK    1u
#define SITE_PLT      2u
#define SITE_TO_ENTRY 4u
#define SITE_SHARED   8u

static void put_site(struct wire_out *o, const struct probe_site *s)
{
	put_u64(o, s->addr);
	put_u64(o, s->target);
	put_u8(o, s->ref.mem);
	put_u8(o, s->ref.base);
	put_u8(o, s->ref.index);
	put_u8(o, s->ref.scale);
	put_u8(o, s->ref.seg);
	put_u32(o, (uint32_t)s->ref.disp);
	put_u16(o, s->pop);
	put_u8(o, s->kind);
	put_u8(o, s->verdict);
	put_u8(o, s->why);
	put_u8(o, s->step);
	put_u8(o, s->cond);
	put_u8(o, s->len);
	put_u8(o, s->room);
	put_u8(o, s->pushed);
	put_u8(o, (uint8_t)s->rip_disp);
	put_u8(o,
	       (uint8_t)((s->thunk ? SITE_THUNK : 0) | (s->plt ? SITE_PLT : 0) |
			 (s->to_entry ? SITE_TO_ENTRY : 0) |
			 (s->shared ? SITE_SHARED : 0)));
	put_bytes(o, s->bytes, sizeof(s->bytes));
}

static void get_site(struct wire_in *in, struct probe_site *s)
{
	uint8_t flags;

	s->addr = get_u64(in);
	s->target = get_u64(in);
	s->ref.mem = get_u8(in);
	s->ref.base = get_u8(in);
	s->ref.index = get_u8(in);
	s->ref.scale = get_u8(in);
	s->ref.seg = get_u8(in);
	s->ref.disp = (int32_t)get_u32(in);
	s->pop = get_u16(in);
	s->kind = get_u8(in);
	s->verdict = get_u8(in);
	s->why = get_u8(in);
	s->step = get_u8(in);
	s->cond = get_u8(in);
	s->len = get_u8(in);
	s->room = get_u8(in);
	s->pushed = get_u8(in);
	s->rip_disp = (int8_t)get_u8(in);
	flags = get_u8(in);
	s->thunk = flags & SITE_THUNK;
	s->plt = flags & SITE_PLT;
	s->to_entry = flags & SITE_TO_ENTRY;
	s->shared = flags & SITE_SHARED;
	get_bytes(in, s->bytes, sizeof(s->bytes));
	if (s->kind >= SITE_KINDS || s->verdict > SITE_REFUSED ||
	    s->why >= WHYS || s->step > STEP_SLOT || !s->len ||
	    s->len > SITE_INSN_MAX)
		wire_fail(in, -EBADMSG);
}

static void put_func(struct wire_out *o, const struct engine_func *f)
{
	const struct probe_func *fn = f->fn;

	put_str(o, f->name);
	put_u64(o, fn->addr);
	put_u64(o, fn->size);
	put_u8(o, (uint8_t)((fn->self_jump ? FN_SELF_JUMP : 0) |
			    (fn->writes_r11 ? FN_WRITES_R11 : 0) |
			    (fn->indirect ? FN_INDIRECT : 0) |
			    (fn->swaps ? FN_SWAPS : 0)));
	put_u32(o, (uint32_t)fn->nrange);
	for (size_t i = 0; i < fn->nrange; i++) {
		put_u64(o, fn->range[i].lo);
		put_u64(o, fn->range[i].hi);
	}
	put_u32(o, (uint32_t)fn->nsite);
	for (size_t i = 0; i < fn->nsite; i++)
		put_site(o, &fn->site[i]);
}

/* So many things of 'each' bytes at least can still follow. */
static uint32_t get_number(struct wire_in *in, size_t each)
{
	uint32_t n = get_u32(in);

	if (n > wire_left(in) / each) {
		wire_fail(in, -EBADMSG);
		return 0;
	}
	return n;
}

static void get_func(struct wire_in *in, struct probe_func *fn)
{
	char name[NAME_MAX_BYTES];
	uint8_t flags;
	uint32_t n;

	get_str(in, name, sizeof(name));
	fn->addr = get_u64(in);
	fn->size = get_u64(in);
	flags = get_u8(in);
	fn->self_jump = flags & FN_SELF_JUMP;
	fn->writes_r11 = flags & FN_WRITES_R11;
	fn->indirect = flags & FN_INDIRECT;
	fn->swaps = flags & FN_SWAPS;
	n = get_number(in, 16);
	fn->range = calloc(n + 1, sizeof(*fn->range));
	for (uint32_t i = 0; fn->range && i < n; i++) {
		fn->range[i].lo = get_u64(in);
		fn->range[i].hi = get_u64(in);
		fn->nrange = i + 1;
	}
	n = get_number(in, SITE_WIRE);
	fn->site = calloc(n + 1, sizeof(*fn->site));
	for (uint32_t i = 0; fn->site && i < n; i++) {
		get_site(in, &fn->site[i]);
		fn->nsite = i + 1;
	}
	if (!in->err)
		fn->name = strdup(name);
	if (!fn->range || !fn->site || (!in->err && !fn->name))
		wire_fail(in, -ENOMEM);
}

static void put_stack(struct wire_out *o, const struct probe_stack *s)
{
	put_u64(o, s->x.lo);
	put_u64(o, s->x.hi);
	put_u32(o, s->n);
	for (uint32_t i = 0; i < s->n; i++) {
		put_u64(o, s->item[i].sp_func);
		put_u64(o, s->item[i].time_flags);
	}
	put_u32(o, s->nswap);
	for (uint32_t i = 0; i < s->nswap; i++) {
		put_u64(o, s->swap[i].slot);
		put_u64(o, s->swap[i].ra);
	}
}

/* 0 is no time; else it may wrap. */
static uint64_t shifted(uint64_t t, int64_t shift)
{
	return t ? MAX((t + (uint64_t)shift) & PEND_TIME, 1ull) : 0;
}

static void get_stack(struct wire_in *in, struct engine *en, int64_t shift)
{
	struct probe_extent x = { .native = false };
	struct probe_stack *s;
	uint32_t n;

	x.lo = get_u64(in);
	x.hi = get_u64(in);
	if (x.hi <= x.lo)
		wire_fail(in, -EBADMSG);
	s = in->err ? NULL : engine_stack_add(en, 0, &x);
	if (!s) {
		wire_fail(in, -ENOMEM);
		return;
	}
	n = get_number(in, 16);
	for (uint32_t i = 0; i < n; i++) {
		struct pend p = { .sp_func = get_u64(in) };

		p.time_flags = get_u64(in);
		/* No memory for a trampoline: so no frame of ours either. */
		if (pend_func(&p) >= en->nfunc || p.time_flags & PEND_FRAME)
			wire_fail(in, -EBADMSG);
		else if (pend_push(s, pend_sp(&p), pend_func(&p),
				   shifted(pend_time(&p), shift),
				   p.time_flags & PEND_FLAGS) < 0)
			wire_fail(in, -ENOMEM);
	}
	n = get_number(in, 16);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t slot = get_u64(in), ra = get_u64(in);

		if (pend_swap_push(s, slot, ra) < 0)
			wire_fail(in, -ENOMEM);
	}
}

void engine_save(const struct engine *en, struct wire_out *o)
{
	uint32_t n = 0;

	put_u8(o, (uint8_t)((en->opt.entry ? OPT_ENTRY : 0) |
			    (en->opt.exit ? OPT_EXIT : 0) |
			    (en->opt.jump ? OPT_JUMP : 0)));
	put_u64(o, en->at_swap);
	put_u64(o, en->at_ret);
	put_u64(o, en->stats.hits);
	put_u64(o, en->stats.events);
	put_u64(o, en->stats.collapsed);
	put_u64(o, en->stats.swapped);
	put_u64(o, en->stats.lost);
	put_u32(o, (uint32_t)en->nfunc);
	for (size_t i = 0; i < en->nfunc; i++)
		put_func(o, &en->func[i]);
	put_u32(o, (uint32_t)en->npatch);
	for (size_t i = 0; i < en->npatch; i++) {
		const struct engine_patch *p = &en->patch[i];

		put_u64(o, p->addr);
		put_u8(o, p->ntrap);
		put_bytes(o, p->trap, sizeof(p->trap));
		put_bytes(o, p->orig, sizeof(p->orig));
	}
	for (const struct probe_stack *s = en->shared; s; s = s->next)
		n += s->n || s->nswap;
	put_u32(o, n);
	for (const struct probe_stack *s = en->shared; s; s = s->next)
		if (s->n || s->nswap)
			put_stack(o, s);
}

static int get_funcs(struct engine *en, struct wire_in *in, struct err *e)
{
	uint32_t n = get_number(in, FUNC_WIRE);
	int ret;

	if (n > ENGINE_FUNCS_MAX)
		wire_fail(in, -EBADMSG);
	en->loaded = in->err ? NULL : calloc(n + 1, sizeof(*en->loaded));
	if (!en->loaded)
		return in->err ? in->err : -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		en->nloaded = i + 1;
		get_func(in, &en->loaded[i]);
		if (in->err)
			return in->err;
		ret = engine_add_func(en, &en->loaded[i], "kernel", 0, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void get_patches(struct wire_in *in, struct engine_patch *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		p[i].addr = get_u64(in);
		p[i].ntrap = get_u8(in);
		get_bytes(in, p[i].trap, sizeof(p[i].trap));
		get_bytes(in, p[i].orig, sizeof(p[i].orig));
		if (!p[i].ntrap || p[i].ntrap > PROBE_TRAP_MAX)
			wire_fail(in, -EBADMSG);
	}
}

int engine_load(struct engine *en, struct wire_in *in, int64_t shift,
		struct err *e)
{
	struct engine_patch *p = NULL;
	uint8_t flags = get_u8(in);
	uint32_t n;
	int ret;

	en->opt.entry = flags & OPT_ENTRY;
	en->opt.exit = flags & OPT_EXIT;
	en->opt.jump = flags & OPT_JUMP;
	en->at_swap = get_u64(in);
	en->at_ret = get_u64(in);
	en->stats.hits = get_u64(in);
	en->stats.events = get_u64(in);
	en->stats.collapsed = get_u64(in);
	en->stats.swapped = get_u64(in);
	en->stats.lost = get_u64(in);
	ret = get_funcs(en, in, e);
	if (ret < 0)
		return ret;
	n = get_number(in, 8 + 1 + 2 * PROBE_TRAP_MAX);
	p = calloc(n + 1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	get_patches(in, p, n);
	ret = in->err ? in->err : engine_rearm(en, p, n, e);
	free(p);
	if (ret < 0)
		return ret;
	n = get_number(in, STACK_WIRE);
	for (uint32_t i = 0; i < n && !in->err; i++)
		get_stack(in, en, shift);
	if (in->err)
		en->armed = false;
	return in->err;
}

bool engine_trap(const struct engine *en, size_t i,
		 uint8_t trap[PROBE_TRAP_MAX], unsigned int *n)
{
	if (i >= en->npatch)
		return false;
	*n = en->patch[i].ntrap;
	memcpy(trap, en->patch[i].trap, PROBE_TRAP_MAX);
	return true;
}

bool engine_swaps_to(const struct engine *en, uint64_t addr)
{
	return en->at_swap == addr;
}
