/*
 * Following a function's instructions from its entry to find its exits.
 *
 * Only what is reached is believed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/finder_priv.h"

struct part *flow_part_of(struct flow *w, uint64_t addr)
{
	for (size_t i = 0; i < w->nparts; i++)
		if (addr >= w->part[i].lo && addr < w->part[i].hi)
			return &w->part[i];
	return NULL;
}

struct part *flow_add_part(struct flow *w, uint64_t lo, uint64_t hi, bool whole)
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

void flow_push(struct flow *w, uint64_t addr, struct depth d)
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

/* One straight run from 'start' until it ends or meets what is known. */
static void walk(struct flow *w, uint64_t start, struct depth d)
{
	struct insn in, prev[2] = { { 0 }, { 0 } };
	struct part *p = flow_part_of(w, start);
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
			flow_refuse(flow_add_site(w, SITE_RET, addr, &in),
				    WHY_BAD_CODE);
			p->byte[i] |= B_START;
			return;
		}
		had = w->fn->nsite;
		p->byte[i] |= B_START;
		switch (in.kind) {
		case INSN_JMP:
		case INSN_JCC: flow_direct_jump(w, addr, &in, d); break;
		case INSN_JMP_IND:
			flow_indirect_jump(w, addr, &in, d, prev);
			break;
		case INSN_RET: flow_return(w, addr, &in, d, prev); break;
		case INSN_FAR:
			flow_refuse(flow_add_site(w, SITE_RET, addr, &in),
				    WHY_FAR);
			break;
		}
		/* flow_add_part() may have moved the array. */
		p = &w->part[which];
		for (size_t k = 1; k < in.len; k++)
			p->byte[i + k] |= B_INSIDE;
		if (w->fn->nsite > had && p->byte[i] & B_INSIDE)
			flow_refuse(&w->fn->site[w->fn->nsite - 1],
				    WHY_OVERLAP);
		if (in.kind == INSN_JMP || in.kind == INSN_JMP_IND ||
		    in.kind == INSN_RET || in.kind == INSN_FAR ||
		    in.kind == INSN_STOP)
			return;
		w->fn->writes_r11 |= in.writes_r11;
		d = step(&in, d);
		addr += in.len;
		if (addr == w->fn->addr + w->fn->size)
			flow_fall_out(w, addr, d, &in);
		prev[1] = prev[0];
		prev[0] = in;
	}
}

void flow_drain(struct flow *w)
{
	while (w->nwork && !w->err) {
		struct work k = w->work[--w->nwork];

		walk(w, k.addr, k.d);
	}
}

/* Of another function's bytes only those from the first we run are ours. */
static struct probe_range extent(const struct part *p)
{
	struct probe_range r = { p->lo, p->hi };

	while (!p->whole && r.lo < r.hi && !(p->byte[r.lo - p->lo] & B_START))
		r.lo++;
	return r;
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
	flow_entry_site(&w);
	if (w.err || !fn->size ||
	    !flow_add_part(&w, fn->addr, fn->addr + fn->size, true))
		goto out;
	/* Landing pads alone may be in the cold part: no jump leads there. */
	if (strlen(fn->name) < sizeof(name) - 5 &&
	    image_symbol_only(f->im, fn->name)) {
		strcat(strcpy(name, fn->name), ".cold");
		cold = image_symbol_only(f->im, name);
		if (cold && cold->size && !flow_part_of(&w, cold->addr) &&
		    !finder_exact(f, cold->addr))
			flow_add_part(&w, cold->addr, cold->addr + cold->size,
				      true);
	}
	flow_push(&w, fn->addr, at_start);
	flow_drain(&w);
	flow_sweep(&w);

	flow_measure(&w);
	fn->range = calloc(w.nparts, sizeof(*fn->range));
	if (!fn->range)
		w.err = -ENOMEM;
	for (size_t i = 0; fn->range && i < w.nparts; i++)
		fn->range[fn->nrange++] = extent(&w.part[i]);
	flow_mark_shared(&w);
	flow_sort_sites(fn);
out:
	for (size_t i = 0; i < w.nparts; i++)
		free(w.part[i].byte);
	free(w.part);
	free(w.work);
	return w.err;
}
