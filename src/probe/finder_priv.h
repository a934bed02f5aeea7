/*
 * Inside of the finder; for the files finder*.c of this folder only.
 */
#ifndef PROBE_FINDER_PRIV_H
#define PROBE_FINDER_PRIV_H

#include "probe/finder.h"
#include "probe/insn.h"

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

/* ---- finder_flow.c: 'err' of the flow is set when memory is out ---- */

struct part *flow_part_of(struct flow *w, uint64_t addr);
/* NULL also where there is no code; moves the array of parts. */
struct part *flow_add_part(struct flow *w, uint64_t lo, uint64_t hi,
			   bool whole);
/* To be followed by flow_drain(), from addr on. */
void flow_push(struct flow *w, uint64_t addr, struct depth d);
void flow_drain(struct flow *w);

/* ---- finder_exit.c: what the instruction at addr adds ---- */

/* prev: the two before it, the last first. */
void flow_direct_jump(struct flow *w, uint64_t addr, const struct insn *in,
		      struct depth d);
void flow_indirect_jump(struct flow *w, uint64_t addr, const struct insn *in,
			struct depth d, const struct insn *prev);
void flow_return(struct flow *w, uint64_t addr, const struct insn *in,
		 struct depth d, const struct insn *prev);
/* The last instruction ran on past the end, to addr: into whom? */
void flow_fall_out(struct flow *w, uint64_t addr, struct depth d,
		   const struct insn *last);

/* ---- finder_sweep.c ---- */

/* Everything that is reached was followed: now the gaps. */
void flow_sweep(struct flow *w);

/* ---- finder_site.c ---- */

/* NULL: no memory.  Good until the next one is added. */
struct probe_site *flow_add_site(struct flow *w, enum site_kind kind,
				 uint64_t addr, const struct insn *in);
void flow_refuse(struct probe_site *s, enum site_why why); /* NULL is fine */
void flow_entry_site(struct flow *w);
/* The room of each site, and of the function. */
void flow_measure(struct flow *w);
/* Sites another function leaves through too: the run tells whose it is. */
void flow_mark_shared(struct flow *w);
void flow_sort_sites(struct probe_func *fn);

#endif
