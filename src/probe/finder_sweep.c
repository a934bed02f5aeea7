/*
 * Blocks that only an indirect jump or a landing pad leads to are taken in
 * the end, and only where the function has such a jump or such pads:
 * elsewhere bytes that nothing reaches may be data.
 */
#include "base/util.h"
#include "probe/finder_priv.h"

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
			to = flow_part_of(w, in.target);
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

void flow_sweep(struct flow *w)
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
				flow_push(w, a, lost);
				flow_drain(w);
			} else {
				w->fn->gap++;
			}
			a++;
		}
	}
}
