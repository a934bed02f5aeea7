/*
 * Setting an engine up and taking it down.
 */
#include "probe/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "probe/engine_priv.h"
#include "probe/insn.h"

#define SLOT_SIZE  32		/* an instruction and a 14-byte jump back */
#define SLOT_REACH (1ull << 30) /* well inside what a disp32 can span */

int engine_create(struct engine **out, const struct probe_target_ops *ops,
		  struct probe_target *t, const struct engine_options *opt,
		  probe_sink sink, void *opaque)
{
	struct engine *en = calloc(1, sizeof(*en));

	if (!en)
		return -ENOMEM;
	en->ops = ops;
	en->t = t;
	en->opt = *opt;
	en->sink = sink;
	en->opaque = opaque;
	*out = en;
	return 0;
}

void engine_destroy(struct engine *en)
{
	struct engine_thread *th, *next;
	struct probe_stack *s, *snext;

	if (!en)
		return;
	for (th = en->threads; th; th = next) {
		next = th->next;
		pend_release(&th->own);
		if (th->count)
			munmap(th->count, engine_count_bytes(en));
		munmap(th, ALIGN_UP(sizeof(*th), PAGE_SIZE));
	}
	for (s = en->shared; s; s = snext) {
		snext = s->next;
		pend_release(s);
		munmap(s, ALIGN_UP(sizeof(*s), PAGE_SIZE));
	}
	for (size_t i = 0; i < en->nfunc; i++)
		free(en->func[i].turned);
	free(en->func);
	free(en->mark);
	free(en->patch);
	free(en->hash);
	free(en->image);
	free(en->slots);
	for (size_t i = 0; i < en->nloaded; i++) {
		free((char *)en->loaded[i].name);
		free(en->loaded[i].range);
		free(en->loaded[i].site);
	}
	free(en->loaded);
	free(en);
}

void engine_set_process(struct engine *en, int process)
{
	en->process = process;
}

int engine_add_image(struct engine *en, const struct image *im, uint64_t lo,
		     uint64_t hi, uint64_t bias)
{
	void *p = reallocarray(en->image, en->nimage + 1, sizeof(*en->image));

	if (!p)
		return -ENOMEM;
	en->image = p;
	en->image[en->nimage++] = (struct engine_image){ lo, hi, bias, im };
	return 0;
}

/*
 * Must the entry be watched although nobody asked for it?  Only with it is
 * it known whether a jump that may be a switch, or an epilogue that others
 * share, ends an activation of this function.
 */
static bool must_track(const struct probe_func *fn)
{
	if (fn->self_jump)
		return true;
	for (size_t i = 0; i < fn->nsite; i++) {
		const struct probe_site *s = &fn->site[i];

		if (s->verdict == SITE_RUNTIME || s->shared ||
		    s->kind == SITE_FALL)
			return true;
		if ((s->kind == SITE_TAIL || s->kind == SITE_TAIL_COND) &&
		    !s->to_entry && !s->plt)
			return true;
	}
	return false;
}

int engine_add_func(struct engine *en, const struct probe_func *fn,
		    const char *module, uint64_t bias, struct err *e)
{
	const struct engine_options *o = &en->opt;

	if (en->nfunc == ENGINE_FUNCS_MAX)
		return err_set(e, -E2BIG, "more than %d functions: name fewer",
			       ENGINE_FUNCS_MAX);
	if (en->nfunc == en->func_room) {
		size_t room = en->func_room ? en->func_room * 2 : 16;
		void *p = reallocarray(en->func, room, sizeof(*en->func));

		if (!p)
			return -ENOMEM;
		en->func = p;
		en->func_room = room;
	}
	en->func[en->nfunc] = (struct engine_func){
		.fn = fn,
		.name = fn->name,
		.module = module,
		.bias = bias,
		.track = o->entry || !o->no_latency || fn->swaps ||
			 must_track(fn),
	};
	return (int)en->nfunc++;
}

size_t engine_nfuncs(const struct engine *en)
{
	return en->nfunc;
}

const struct engine_func *engine_func(const struct engine *en, unsigned int i)
{
	return &en->func[i];
}

const struct engine_stats *engine_stats(const struct engine *en)
{
	return &en->stats;
}

struct wanted {
	uint64_t addr;
	struct engine_mark mark;
};

static int by_wanted(const void *a, const void *b)
{
	const struct wanted *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	if (x->mark.func != y->mark.func)
		return x->mark.func < y->mark.func ? -1 : 1;
	return (int)x->mark.site->kind - (int)y->mark.site->kind;
}

static bool want(const struct engine *en, const struct engine_func *f,
		 const struct probe_site *s)
{
	bool tail = s->kind != SITE_RET && s->kind != SITE_RET_JMP;

	if (s->verdict == SITE_REFUSED || f->jump ||
	    (f->turned && f->turned[s - f->fn->site]))
		return false;
	if (s->kind == SITE_ENTRY)
		return f->track;
	if (f->fn->swaps)
		return false;
	return en->opt.exit || (tail && en->opt.jump);
}

static int collect(struct engine *en, struct wanted **out, size_t *n)
{
	struct wanted *w;
	size_t most = 0;

	for (size_t i = 0; i < en->nfunc; i++)
		most += en->func[i].fn->nsite;
	w = calloc(most + 1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	*n = 0;
	for (size_t i = 0; i < en->nfunc; i++) {
		const struct engine_func *f = &en->func[i];

		for (size_t k = 0; k < f->fn->nsite; k++) {
			const struct probe_site *s = &f->fn->site[k];

			if (!want(en, f, s))
				continue;
			w[(*n)++] = (struct wanted){ s->addr + f->bias,
						     { (uint16_t)i, s } };
		}
	}
	if (*n)
		qsort(w, *n, sizeof(*w), by_wanted);
	*out = w;
	return 0;
}

/* What the instruction is, decoded now so that a hit need not. */
static int decode_patch(struct engine_patch *p, const uint8_t *code,
			uint64_t addr, struct insn *in)
{
	int ret = insn_decode(in, code, SITE_INSN_MAX, addr);

	if (ret < 0)
		return ret;
	p->kind = in->kind;
	p->len = in->len;
	p->cond = in->cond;
	p->pushed = in->pushed;
	p->pop = in->pop;
	p->target = in->target;
	p->ref = in->ref;
	return 0;
}

static int choose_trap(struct engine *en, struct engine_patch *p,
		       const struct probe_site *s, const uint8_t *code)
{
	unsigned int room = MAX(s->room, p->len);

	p->trap[0] = 0xcc;
	p->ntrap = 1;
	if (en->ops->trap)
		p->ntrap = (uint8_t)en->ops->trap(en->t, room, p->trap);
	memcpy(p->orig, code, sizeof(p->orig));
	return p->ntrap ? 0 : -ENOSPC;
}

static bool needs_slot(const struct engine_patch *p)
{
	return p->kind == INSN_OTHER;
}

/* The live bytes must be the file's: else somebody else patched them. */
static int build_patches(struct engine *en, const struct wanted *w, size_t n,
			 struct err *e)
{
	en->patch = calloc(n + 1, sizeof(*en->patch));
	en->mark = calloc(n + 1, sizeof(*en->mark));
	if (!en->patch || !en->mark)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct engine_func *f = &en->func[w[i].mark.func];
		struct engine_patch *p = en->patch;
		uint8_t code[SITE_INSN_MAX] = { 0 };
		struct insn in;
		int ret;

		en->mark[en->nmark] = w[i].mark;
		if (en->npatch && p[en->npatch - 1].addr == w[i].addr) {
			p[en->npatch - 1].nmarks++;
			en->nmark++;
			continue;
		}
		p = &en->patch[en->npatch];
		p->addr = w[i].addr;
		p->mark = (uint32_t)en->nmark++;
		p->nmarks = 1;
		ret = en->ops->read(en->t, p->addr, code, sizeof(code));
		if (ret < 0) /* perhaps the last bytes of a mapping */
			ret = en->ops->read(en->t, p->addr, code,
					    w[i].mark.site->len);
		if (ret < 0)
			return err_sys(e, ret, "%s at 0x%lx: cannot be read",
				       f->name, p->addr);
		if (decode_patch(p, code, p->addr, &in) < 0 ||
		    (w[i].mark.site->kind != SITE_FALL &&
		     memcmp(code, w[i].mark.site->bytes,
			    MIN(p->len, w[i].mark.site->len))))
			return err_set(e, -EBUSY,
				       "%s at 0x%lx: the bytes in memory are"
				       " not the file's; another tool's"
				       " breakpoint, or the file was replaced",
				       f->name, p->addr);
		if (choose_trap(en, p, w[i].mark.site, code) < 0)
			return err_set(e, -ENOSPC, "%s at 0x%lx: %s", f->name,
				       p->addr, site_why(WHY_SHORT));
		en->npatch++;
	}
	return 0;
}

static int build_hash(struct engine *en)
{
	size_t size = 64;

	while (size < en->npatch * 2)
		size *= 2;
	en->hash = calloc(size, sizeof(*en->hash));
	if (!en->hash)
		return -ENOMEM;
	en->hash_mask = size - 1;
	for (size_t i = 0; i < en->npatch; i++) {
		size_t at = (en->patch[i].addr * 0x9e3779b97f4a7c15ull >> 20) &
			    en->hash_mask;

		while (en->hash[at])
			at = (at + 1) & en->hash_mask;
		en->hash[at] = (uint32_t)i + 1;
	}
	return 0;
}

const struct engine_patch *engine_patch_at(const struct engine *en,
					   uint64_t addr)
{
	size_t at = (addr * 0x9e3779b97f4a7c15ull >> 20) & en->hash_mask;

	for (; en->hash[at]; at = (at + 1) & en->hash_mask) {
		const struct engine_patch *p = &en->patch[en->hash[at] - 1];

		if (p->addr == addr)
			return p;
	}
	return NULL;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* A copy of one instruction, its rip-relative operand moved, and back. */
static int write_slot(struct engine *en, struct engine_patch *p, struct err *e)
{
	uint8_t buf[SLOT_SIZE];
	uint64_t back = p->addr + p->len;
	struct insn in;
	int ret;

	memset(buf, 0xcc, sizeof(buf));
	ret = en->ops->read(en->t, p->addr, buf, p->len);
	if (ret < 0)
		return ret;
	ret = insn_decode(&in, buf, p->len, p->addr);
	if (ret < 0)
		return ret;
	if (in.rip_disp) {
		int64_t moved;
		int32_t disp;

		memcpy(&disp, buf + in.rip_disp, 4);
		moved = disp + (int64_t)(p->addr - p->slot);
		disp = (int32_t)moved;
		if (disp != moved)
			return err_set(e, -ERANGE,
				       "0x%lx: no memory near it for a copy"
				       " of its first instruction",
				       p->addr);
		memcpy(buf + in.rip_disp, &disp, 4);
	}
	memcpy(buf + p->len, (const uint8_t[]){ 0xff, 0x25, 0, 0, 0, 0 }, 6);
	memcpy(buf + p->len + 6, &back, 8);
	return en->ops->patch(en->t, p->slot, buf, sizeof(buf));
}

static int build_slots(struct engine *en, struct err *e)
{
	size_t left = 0, used = 0;
	uint64_t area = 0;
	int ret;

	for (size_t i = 0; i < en->npatch; i++)
		left += needs_slot(&en->patch[i]);
	if (left && !en->ops->alloc)
		return err_set(e, -ENOTSUP, "%s", site_why(WHY_SLOT));
	for (size_t i = 0; i < en->npatch; i++) {
		struct engine_patch *p = &en->patch[i];
		size_t size = ALIGN_UP(left * SLOT_SIZE, PAGE_SIZE);
		void *v;

		if (!needs_slot(p))
			continue;
		if (!area || distance(area, p->addr) > SLOT_REACH) {
			v = reallocarray(en->slots, en->nslots + 1,
					 sizeof(*en->slots));
			if (!v)
				return -ENOMEM;
			en->slots = v;
			ret = en->ops->alloc(en->t, p->addr, size, &area);
			if (ret < 0)
				return err_sys(e, ret,
					       "memory near 0x%lx for copied"
					       " instructions",
					       p->addr);
			en->slots[en->nslots].addr = area;
			en->slots[en->nslots++].size = size;
			used = 0;
		}
		p->slot = area + used++ * SLOT_SIZE;
		left--;
		ret = write_slot(en, p, e);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int build_tramp(struct engine *en, struct err *e)
{
	uint64_t near = en->npatch ? en->patch[0].addr : 0;
	uint8_t *buf;
	int ret;

	if (en->ops->places) {
		ret = en->ops->places(en->t, &en->at_swap, &en->at_ret);
		return ret < 0 ? err_sys(e, ret, "an int3 and a ret") : 0;
	}
	buf = malloc(TRAMP_SIZE);
	if (!buf)
		return -ENOMEM;
	ret = en->ops->alloc(en->t, near, TRAMP_SIZE, &en->tramp);
	if (ret < 0) {
		free(buf);
		return err_sys(e, ret, "memory for trampolines");
	}
	en->at_swap = tramp_swap(en->tramp);
	en->at_ret = tramp_ret(en->tramp);
	tramp_build(buf, en->tramp);
	ret = en->ops->patch(en->t, en->tramp, buf, TRAMP_SIZE);
	free(buf);
	if (!ret && en->ops->unwind_add)
		ret = en->ops->unwind_add(en->t, en->tramp + tramp_unwind());
	if (ret < 0)
		return err_sys(e, ret, "trampolines");
	return 0;
}

static int restore(struct engine *en, const struct engine_patch *p)
{
	uint8_t now[PROBE_TRAP_MAX];

	if (en->ops->trap && !en->ops->read(en->t, p->addr, now, p->ntrap) &&
	    memcmp(now, p->trap, p->ntrap))
		return 0;
	return en->ops->patch(en->t, p->addr, p->orig, p->ntrap);
}

static int write_breakpoints(struct engine *en, struct err *e)
{
	size_t i;
	int ret = 0;

	for (i = 0; i < en->npatch; i++) {
		const struct engine_patch *p = &en->patch[i];

		ret = en->ops->patch(en->t, p->addr, p->trap, p->ntrap);
		if (ret < 0)
			break;
	}
	if (!ret)
		return 0;
	err_sys(e, ret, "breakpoint at 0x%lx", en->patch[i].addr);
	while (i--)
		restore(en, &en->patch[i]);
	return ret;
}

int engine_arm(struct engine *en, struct err *e)
{
	struct wanted *w = NULL;
	size_t n;
	int ret;

	ret = collect(en, &w, &n);
	if (!ret)
		ret = build_patches(en, w, n, e);
	free(w);
	if (!ret)
		ret = build_hash(en);
	if (!ret)
		ret = build_tramp(en, e);
	if (!ret)
		ret = build_slots(en, e);
	if (ret < 0)
		return ret;
	en->armed = true;
	ret = write_breakpoints(en, e);
	if (ret < 0)
		en->armed = false;
	return ret;
}

static int rearm_one(struct engine *en, const struct wanted *w,
		     const struct engine_patch *from, struct err *e)
{
	struct engine_patch *p = &en->patch[en->npatch];
	uint8_t code[SITE_INSN_MAX + 1] = { 0 };
	struct insn in;
	int ret;

	ret = en->ops->read(en->t, from->addr, code, from->ntrap);
	if (ret < 0 || from->addr != w->addr ||
	    memcmp(code, from->trap, from->ntrap))
		return err_set(e, -EBADMSG,
			       "no breakpoint at 0x%lx where one should be",
			       from->addr);
	/* What follows may end at the end of the mapped code. */
	if (en->ops->read(en->t, from->addr, code, SITE_INSN_MAX) < 0)
		memcpy(code, w->mark.site->bytes, SITE_INSN_MAX);
	memcpy(code, from->orig, from->ntrap);
	*p = *from;
	if (decode_patch(p, code, p->addr, &in) < 0 || needs_slot(p) ||
	    MAX(w->mark.site->room, p->len) < p->ntrap)
		return err_set(e, -EBADMSG, "0x%lx: no instruction to probe",
			       p->addr);
	en->npatch++;
	return 0;
}

int engine_rearm(struct engine *en, const struct engine_patch *from, size_t n,
		 struct err *e)
{
	struct wanted *w = NULL;
	size_t nw, at = 0;
	int ret;

	ret = collect(en, &w, &nw);
	if (ret < 0)
		return ret;
	en->patch = calloc(n + 1, sizeof(*en->patch));
	en->mark = calloc(nw + 1, sizeof(*en->mark));
	if (!en->patch || !en->mark)
		ret = -ENOMEM;
	for (size_t i = 0; !ret && i < nw; i++) {
		en->mark[i] = w[i].mark;
		en->nmark = i + 1;
		if (i && w[i].addr == w[i - 1].addr) {
			en->patch[at - 1].nmarks++;
			continue;
		}
		if (at == n) {
			ret = err_set(e, -EBADMSG, "breakpoints are missing");
			break;
		}
		ret = rearm_one(en, &w[i], &from[at], e);
		en->patch[at].mark = (uint32_t)i;
		en->patch[at++].nmarks = 1;
	}
	free(w);
	if (!ret && at != n)
		ret = err_set(e, -EBADMSG, "%zu breakpoints of nobody", n - at);
	if (!ret)
		ret = build_hash(en);
	if (!ret)
		en->armed = true;
	return ret;
}

/* Frames of ours that still wait on a stack; swapped addresses go back. */
static bool release_stack(struct engine *en, struct probe_stack *s)
{
	bool waiting = false;
	uint32_t kept = 0;
	uint64_t ra;

	for (uint32_t i = 0; i < s->n; i++)
		waiting |= (s->item[i].time_flags & PEND_FRAME) != 0;
	for (uint32_t i = 0; i < s->nswap; i++) {
		if (!read_u64(en, s->swap[i].slot, &ra) && ra == en->at_swap)
			write_u64(en, s->swap[i].slot, s->swap[i].ra);
		else
			s->swap[kept++] = s->swap[i];
	}
	s->nswap = kept;
	return waiting;
}

static void open_way_back(struct engine *en)
{
	const uint8_t nop = 0x90;

	for (unsigned int cls = 0; cls < TRAMP_CLASSES; cls++)
		for (int form = 0; form < TRAMP_JUMP; form++)
			en->ops->patch(en->t, tramp_back(en->tramp, cls, form),
				       &nop, 1);
}

int engine_disarm(struct engine *en, int process, bool *in_flight)
{
	int ret = 0, one;

	*in_flight = false;
	if (!en->armed)
		return 0;
	for (size_t i = 0; i < en->npatch; i++) {
		one = restore(en, &en->patch[i]);
		ret = ret ? ret : one;
	}
	for (struct engine_thread *th = en->threads; th; th = th->next)
		if (th->process == process)
			*in_flight |= release_stack(en, &th->own);
	for (struct probe_stack *s = en->shared; s; s = s->next)
		if (s->process == process)
			*in_flight |= release_stack(en, s);
	if (*in_flight && en->tramp)
		open_way_back(en);
	if (process == en->process)
		en->armed = false;
	return ret;
}

void engine_unmap(struct engine *en)
{
	if (en->tramp) {
		if (en->ops->unwind_del)
			en->ops->unwind_del(en->t, en->tramp + tramp_unwind());
		en->ops->free(en->t, en->tramp, TRAMP_SIZE);
	}
	for (size_t i = 0; i < en->nslots; i++)
		en->ops->free(en->t, en->slots[i].addr, en->slots[i].size);
	en->tramp = 0;
	en->nslots = 0;
}

bool engine_owns(const struct engine *en, uint64_t rip)
{
	if (en->tramp && rip - en->tramp < TRAMP_CODE)
		return true;
	for (size_t i = 0; i < en->nslots; i++)
		if (rip - en->slots[i].addr < en->slots[i].size)
			return true;
	return false;
}

uint64_t engine_count(const struct engine *en, unsigned int func,
		      enum probe_event_kind kind)
{
	uint64_t n = 0;

	for (const struct engine_thread *th = en->threads; th; th = th->next)
		if (th->count)
			n += th->count[func * EVENT_KINDS + kind];
	return n;
}

size_t engine_swapped(const struct engine *en)
{
	size_t n = 0;

	for (const struct engine_thread *th = en->threads; th; th = th->next)
		n += th->own.nswap;
	for (const struct probe_stack *s = en->shared; s; s = s->next)
		n += s->nswap;
	return n;
}

size_t engine_pending(struct engine *en)
{
	size_t n = 0;

	for (struct engine_thread *th = en->threads; th; th = th->next)
		n += th->own.n;
	for (struct probe_stack *s = en->shared; s; s = s->next)
		n += s->n;
	return n;
}
