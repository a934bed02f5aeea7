/*
 * Activations that have not ended, per stack, sixteen bytes each.
 *
 * An activation is known by the address its return address stands at.  On a
 * stack that is one thread's own, what lies below the stack pointer is gone
 * and is reported as abandoned.  Memory that may hold several stacks
 * (coroutines, signal stacks) keeps one unordered list: there nothing is
 * concluded from addresses but that two activations cannot share a slot.
 *
 * Memory comes from mmap alone, because the in-process target calls this in
 * a signal handler.
 */
#ifndef PROBE_PENDING_H
#define PROBE_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "probe/target.h"

#define PEND_LEFT  1u /* left by a jump; the exit comes with the return */
#define PEND_FRAME 2u /* a trampoline's frame is below its slot */
#define PEND_FLAGS 3u

/*
 * A stack pointer has 57 bits that tell, and its sign: with five levels of
 * page tables a kernel's stacks use them all.  Its upper 9 are with the time,
 * which so wraps after 104 days; differences below that are right.
 */
struct pend {
	uint64_t sp_func;    /* sp << 16 | func */
	uint64_t time_flags; /* sp >> 48 << 55 | ns << 2 | flags */
};

#define PEND_TIME ((1ull << 53) - 1)

static inline uint64_t pend_sp(const struct pend *p)
{
	return (uint64_t)((int64_t)p->time_flags >> 55) << 48 |
	       p->sp_func >> 16;
}

/* time_flags of a stack in the lower half */
static inline uint64_t pend_when(uint64_t ns, unsigned int flags)
{
	return (ns & PEND_TIME) << 2 | flags;
}

static inline uint16_t pend_func(const struct pend *p)
{
	return (uint16_t)p->sp_func;
}

static inline uint64_t pend_time(const struct pend *p)
{
	return p->time_flags >> 2 & PEND_TIME;
}

/* A return address we replaced, for frames that could not be copied. */
struct pend_swap {
	uint64_t slot, ra;
};

struct probe_stack {
	struct probe_extent x;
	int process;	   /* whose addresses these are */
	struct pend *item; /* outermost first */
	uint32_t n, room;
	struct pend_swap *swap;
	uint32_t nswap, swap_room;
	struct probe_stack *next;
	_Atomic int lock; /* holder's tid; shared ones */
};

/* 0 or -ENOMEM. */
int pend_push(struct probe_stack *s, uint64_t sp, uint16_t func, uint64_t time,
	      unsigned int flags);
/* Remove item i; the order of the others stays. */
void pend_remove(struct probe_stack *s, uint32_t i);
int pend_swap_push(struct probe_stack *s, uint64_t slot, uint64_t ra);
/* Append a copy of from's items and swapped addresses. */
int pend_copy(struct probe_stack *s, const struct probe_stack *from);
void pend_release(struct probe_stack *s); /* its memory, not *s */

static inline struct pend *pend_top(struct probe_stack *s)
{
	return s->n ? &s->item[s->n - 1] : NULL;
}

/* Index of the last item at sp, or -1. */
int64_t pend_find(const struct probe_stack *s, uint64_t sp);

#endif
