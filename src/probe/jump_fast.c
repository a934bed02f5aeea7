/*
 * The fast path: counting, on the thread's own stack, return address known.
 * Everything else is left to the general engine by returning 1.
 *
 * Built with integer registers only; nothing here may call anything.
 */
#include "base/util.h"
#include "probe/jump.h"
#include "probe/pending.h"

static inline uint64_t stamp(const struct jump *j)
{
	uint64_t t;

	if (!j->time)
		return 0;
	t = __builtin_ia32_rdtsc() - j->base_tsc;
	return j->base_ns + (uint64_t)((unsigned __int128)t * j->mult >> 32);
}

static inline void count(struct engine_thread *th, uint64_t func,
			 enum probe_event_kind kind)
{
	th->count[func * EVENT_KINDS + kind]++;
}

static inline void count_exit(const struct jump *j, struct engine_thread *th,
			      const struct pend *p, uint64_t now)
{
	uint16_t func = pend_func(p);

	count(th, func, EVENT_EXIT);
	if (j->time)
		th->total[func] += (now - pend_time(p)) & PEND_TIME;
}

/*
 * Go on in 'body' by way of a trampoline whose frame fits what returns to ra;
 * false if that is not known or does not fit the stack.
 */
static inline bool call_body(const struct jump *j, struct jump_save *s,
			     const struct probe_stack *st, uint64_t slot,
			     uint64_t ra, uint64_t body)
{
	uint64_t v = j->cache[(ra ^ ra >> 12) % JUMP_CACHE].value;
	unsigned int cls = (unsigned int)v;
	struct tramp_header *head;

	if ((j->cache[(ra ^ ra >> 12) % JUMP_CACHE].key ^ v) != ra)
		return false;
	if (slot - j->frame[cls] - PAGE_SIZE < st->x.lo ||
	    slot + 8 + j->frame[cls] > st->x.hi)
		return false;
	head = (struct tramp_header *)(slot - TRAMP_HEADER);
	head->r11 = s->r11;
	head->target = body;
	head->cookie = TRAMP_COOKIE ^ ((uint64_t)cls << 8 | TRAMP_JUMP);
	s->word = j->entry[cls];
	return true;
}

int probe_jump_enter(struct jump_save *s)
{
	struct jump *j = jump_current;
	const struct jump_patch *f = &j->patch[s->word];
	uint64_t slot = (uint64_t)&s->word + 32, ra, number = s->word;
	struct engine_thread *th = probe_self;
	struct probe_stack *st;
	struct pend *top;

	if (!j->fast || !th || th->of != j->en || !th->count || probe_inside)
		return 1;
	st = &th->own;
	if (slot < st->x.lo || slot >= st->x.hi || st->n == st->room)
		return 1;
	if (!j->exits) {
		count(th, s->word, EVENT_ENTRY);
		s->word = f->bypass;
		return 0;
	}
	ra = *(const uint64_t *)slot;
	top = &st->item[st->n];
	if (ra - j->tramp < TRAMP_CODE) {
		/* Jumped to from under a trampoline: no other frame. */
		if (st->n && pend_sp(top - 1) < slot)
			return 1;
		probe_inside = true;
		top->sp_func = slot << 16 | s->word;
		top->time_flags = pend_when(stamp(j), PEND_LEFT);
		st->n++;
		count(th, s->word, EVENT_ENTRY);
		s->word = f->bypass;
		probe_inside = false;
		return 0;
	}
	if (st->n && pend_sp(top - 1) <= slot)
		return 1;
	if (!call_body(j, s, st, slot, ra, f->body))
		return 1;
	probe_inside = true;
	top->sp_func = slot << 16 | number;
	top->time_flags = pend_when(stamp(j), PEND_LEFT | PEND_FRAME);
	st->n++;
	count(th, number, EVENT_ENTRY);
	probe_inside = false;
	return 0;
}

/*
 * The activation that leaves from 'slot': the innermost, or, where entries are
 * not seen, a new one.  NULL if that takes more than a look.
 */
static inline struct pend *leaving(struct probe_stack *st,
				   const struct jump_patch *f, uint64_t slot,
				   bool under_tramp)
{
	struct pend *top = &st->item[st->n];

	if (f->track) {
		if (!st->n)
			return NULL;
		top--;
		return pend_sp(top) == slot && pend_func(top) == f->func &&
				       !(top->time_flags & PEND_LEFT)
			       ? top
			       : NULL;
	}
	if (st->n == st->room || (st->n && pend_sp(top - 1) < slot) ||
	    (st->n && pend_sp(top - 1) == slot && !under_tramp))
		return NULL;
	top->sp_func = slot << 16 | f->func;
	top->time_flags = 0;
	return top;
}

/* As the engine's on_tail(). */
int probe_jump_tail(struct jump_save *s)
{
	struct jump *j = jump_current;
	const struct jump_patch *f = &j->patch[s->word];
	uint64_t slot = (uint64_t)&s->word + 32, ra, flags = PEND_LEFT;
	struct engine_thread *th = probe_self;
	struct probe_stack *st;
	struct pend *item;
	bool under;

	if (!j->fast || !th || th->of != j->en || !th->count || probe_inside)
		return 1;
	st = &th->own;
	if (slot < st->x.lo || slot >= st->x.hi)
		return 1;
	ra = *(const uint64_t *)slot;
	under = ra - j->tramp < TRAMP_CODE;
	item = leaving(st, f, slot, under);
	if (!item)
		return 1;
	if (under)
		s->word = f->bypass;
	else if (call_body(j, s, st, slot, ra, f->body))
		flags |= PEND_FRAME;
	else
		return 1;
	probe_inside = true;
	item->time_flags |= flags;
	st->n += !f->track;
	if (j->jumps)
		count(th, f->func, EVENT_JUMP);
	probe_inside = false;
	return 0;
}

int probe_jump_leave(struct jump_save *s)
{
	struct jump *j = jump_current;
	uint64_t sp = (uint64_t)&s->word + 16, slot, now;
	uint64_t from = *((const uint64_t *)sp - 1) - j->tramp;
	unsigned int cls =
		(unsigned int)((from / TRAMP_STRIDE - 1) / TRAMP_FORMS);
	const struct tramp_header *head;
	struct engine_thread *th = probe_self;
	struct probe_stack *st;

	if (!j->fast || !th || th->of != j->en || !th->count || probe_inside ||
	    from >= TRAMP_CODE)
		return 1;
	slot = sp + j->frame[cls] + TRAMP_HEADER;
	st = &th->own;
	head = (const struct tramp_header *)(slot - TRAMP_HEADER);
	if (slot < st->x.lo || slot >= st->x.hi ||
	    head->cookie != (TRAMP_COOKIE ^ ((uint64_t)cls << 8 | TRAMP_JUMP)))
		return 1;
	if (!st->n || pend_sp(&st->item[st->n - 1]) < sp - 8)
		return 1;
	probe_inside = true;
	now = stamp(j);
	while (st->n && pend_sp(&st->item[st->n - 1]) == sp - 8)
		count_exit(j, th, &st->item[--st->n], now);
	if (!st->n || pend_sp(&st->item[st->n - 1]) != slot) {
		probe_inside = false;
		return 1;
	}
	count_exit(j, th, &st->item[--st->n], now);
	s->word = slot;
	probe_inside = false;
	return 0;
}
