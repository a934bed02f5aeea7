/*
 * The engine's insides, shared by engine*.c and nobody else.
 */
#ifndef PROBE_ENGINE_PRIV_H
#define PROBE_ENGINE_PRIV_H

#include "probe/engine.h"

#define RA_CACHE 1024

/* A frame size by return address; key ^ value == ra, so a torn entry, read
 * while another thread writes it, matches nothing. */
struct ra_entry {
	_Atomic uint64_t key, value;
};

struct engine {
	const struct probe_target_ops *ops;
	struct probe_target *t;
	struct engine_options opt;
	probe_sink sink;
	void *opaque;

	struct engine_func *func;
	size_t nfunc, func_room;
	struct engine_mark *mark;
	size_t nmark, mark_room;
	struct engine_patch *patch; /* sorted by address */
	size_t npatch, patch_room;
	uint32_t *hash; /* patch index + 1 */
	size_t hash_mask;
	struct engine_image *image;
	size_t nimage;

	uint64_t tramp;	  /* 0: not armed, or none to be had */
	uint64_t at_swap; /* int3 that swapped addresses lead to */
	uint64_t at_ret;  /* a ret */
	struct {
		uint64_t addr;
		size_t size;
	} * slots;
	size_t nslots;
	_Atomic bool armed;
	int process;
	struct probe_func *loaded; /* by engine_load(); own names */
	size_t nloaded;

	struct ra_entry ra[RA_CACHE];
	_Atomic(struct engine_thread *) threads;
	_Atomic(struct probe_stack *) shared;
	struct engine_stats stats;
};

const struct engine_patch *engine_patch_at(const struct engine *en,
					   uint64_t addr);

/*
 * Bytes of the caller's frame above slot S that a callee could take as stack
 * arguments.  -ENOENT where the caller's unwind data is missing.
 */
int engine_frame_bytes(struct engine *en, const struct probe_regs *r,
		       uint64_t slot, uint64_t ra, uint64_t *bytes);

/* The stack that holds sp; a shared one is locked until engine_stack_put. */
struct probe_stack *engine_stack_get(struct engine *en,
				     struct engine_thread *th, uint64_t sp);
void engine_stack_put(struct probe_stack *s);
/* A new shared one, empty. */
struct probe_stack *engine_stack_add(struct engine *en, int process,
				     const struct probe_extent *x);

/*
 * Armed without writing anything: the 'n' breakpoints of 'p' (address, trap
 * and original bytes) are in memory already and must be what the engine's
 * functions want, in this order.
 */
int engine_rearm(struct engine *en, const struct engine_patch *p, size_t n,
		 struct err *e);

static inline size_t engine_count_bytes(const struct engine *en)
{
	return (en->nfunc * (EVENT_KINDS + 1) * 8 + 4095) & ~4095ul;
}

static inline int read_u64(struct engine *en, uint64_t addr, uint64_t *v)
{
	return en->ops->read(en->t, addr, v, sizeof(*v));
}

static inline int write_u64(struct engine *en, uint64_t addr, uint64_t v)
{
	return en->ops->write(en->t, addr, &v, sizeof(v));
}

#endif
