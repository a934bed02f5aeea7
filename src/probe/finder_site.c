/*
 * The sites themselves: what stands there, and how much of it may be replaced.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/finder_priv.h"

#define ROOM_MAX 32

struct probe_site *flow_add_site(struct flow *w, enum site_kind kind,
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

void flow_refuse(struct probe_site *s, enum site_why why)
{
	if (!s)
		return;
	s->verdict = SITE_REFUSED;
	s->why = (uint8_t)why;
}

void flow_entry_site(struct flow *w)
{
	const struct image_symbol *sym;
	struct probe_site *s;
	struct insn in = { .len = 1 };
	const uint8_t *code;
	size_t avail = 0;

	code = image_code(w->im, w->fn->addr, &avail);
	if (!code || insn_decode(&in, code, avail, w->fn->addr) < 0) {
		flow_refuse(flow_add_site(w, SITE_ENTRY, w->fn->addr, &in),
			    code ? WHY_BAD_CODE : WHY_NO_CODE);
		return;
	}
	s = flow_add_site(w, SITE_ENTRY, w->fn->addr, &in);
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
			flow_refuse(s, WHY_DISPLACED);
	}
	sym = image_symbol_exact(w->im, w->fn->addr);
	if (sym && sym->ifunc)
		flow_refuse(s, WHY_IFUNC);
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
	struct part *p = flow_part_of(w, at - 1);
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

void flow_measure(struct flow *w)
{
	w->fn->room = room(w);
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
void flow_sort_sites(struct probe_func *fn)
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

void flow_mark_shared(struct flow *w)
{
	for (size_t i = 0; i < w->fn->nsite; i++) {
		struct probe_site *s = &w->fn->site[i];
		const struct probe_func *other = finder_at(w->f, s->addr);

		if (other && other != w->fn && s->kind != SITE_FALL)
			s->shared = true;
	}
}
