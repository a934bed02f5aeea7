/*
 * Whose stack is this, and how much of the caller's frame is on it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "probe/engine_priv.h"

/* From mmap, never given back before the engine goes: handlers may look. */
static void *permanent(size_t size)
{
	void *p = mmap(NULL, ALIGN_UP(size, PAGE_SIZE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Counters are a thread's own, so that counting needs no lock. */
static void add_counters(struct engine *en, struct engine_thread *th)
{
	if (!en->opt.count_only)
		return;
	th->count = permanent(engine_count_bytes(en));
	if (th->count)
		th->total = th->count + en->nfunc * EVENT_KINDS;
}

struct engine_thread *engine_thread(struct engine *en, int tid, int process)
{
	struct engine_thread *th, *head = en->threads;

	for (th = head; th; th = th->next)
		if (th->tid == tid)
			return th;
	for (th = head; th; th = th->next) {
		int free_slot = 0;

		/* One whose thread has ended, its stack already empty. */
		if (__atomic_compare_exchange_n(&th->tid, &free_slot, tid,
						false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED)) {
			th->process = process;
			return th;
		}
	}
	th = permanent(sizeof(*th));
	if (!th)
		return NULL;
	th->of = en;
	th->tid = tid;
	th->process = process;
	th->own.x.native = true;
	add_counters(en, th);
	th->next = en->threads;
	while (!__atomic_compare_exchange_n(
		(struct engine_thread **)&en->threads, &th->next, th, false,
		__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	return th;
}

void engine_thread_gone(struct engine *en, struct engine_thread *th)
{
	th->own.n = th->own.nswap = 0;
	th->own.x.lo = th->own.x.hi = 0;
	__atomic_store_n(&th->tid, 0, __ATOMIC_RELEASE);
}

static bool holds(const struct probe_stack *s, uint64_t sp)
{
	return sp >= s->x.lo && sp < s->x.hi;
}

static void lock(struct probe_stack *s, int tid)
{
	int free_lock = 0;

	/* Held for some hundred instructions, with signals blocked. */
	while (!__atomic_compare_exchange_n((int *)&s->lock, &free_lock, tid,
					    false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		free_lock = 0;
		__builtin_ia32_pause();
	}
}

static struct probe_stack *shared_at(struct engine *en, int process,
				     uint64_t sp)
{
	for (struct probe_stack *s = en->shared; s; s = s->next)
		if (s->process == process && holds(s, sp))
			return s;
	return NULL;
}

struct probe_stack *engine_stack_add(struct engine *en, int process,
				     const struct probe_extent *x)
{
	struct probe_stack *s = permanent(sizeof(*s));

	if (!s)
		return NULL;
	s->x = *x;
	s->process = process;
	s->next = en->shared;
	while (!__atomic_compare_exchange_n((struct probe_stack **)&en->shared,
					    &s->next, s, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	return s;
}

struct engine_thread *engine_fork(struct engine *en,
				  const struct engine_thread *from, int tid,
				  int process)
{
	struct engine_thread *th = engine_thread(en, tid, process);
	struct probe_stack *copy;

	if (!th)
		return NULL;
	th->own.x = from->own.x;
	if (pend_copy(&th->own, &from->own) < 0)
		en->stats.lost++;
	if (process == from->process)
		return th;
	for (struct probe_stack *s = en->shared; s; s = s->next) {
		if (s->process != from->process || !s->n)
			continue;
		copy = engine_stack_add(en, process, &s->x);
		if (!copy || pend_copy(copy, s) < 0)
			en->stats.lost++;
	}
	return th;
}

struct probe_stack *engine_stack_get(struct engine *en,
				     struct engine_thread *th, uint64_t sp)
{
	struct probe_stack *s;
	struct probe_extent x;

	if (holds(&th->own, sp))
		return &th->own;
	s = shared_at(en, th->process, sp);
	if (!s) {
		/* Not known: then all that is concluded is per slot. */
		if (en->ops->stack(en->t, th->tid, sp, &x) < 0)
			x = (struct probe_extent){ ALIGN_DOWN(sp, 65536ul),
						   ALIGN_DOWN(sp, 65536ul) +
							   65536,
						   false };
		if (x.native) {
			th->own.x = x;
			return &th->own;
		}
		s = engine_stack_add(en, th->process, &x);
		if (!s)
			return NULL;
	}
	lock(s, th->tid);
	return s;
}

void engine_stack_put(struct probe_stack *s)
{
	if (s && !s->x.native)
		__atomic_store_n((int *)&s->lock, 0, __ATOMIC_RELEASE);
}

/* kind 2 bits, reg 6, lowest save 24, offset 32: what a row comes down to. */
static uint64_t pack(const struct cfi_row *row)
{
	return (uint64_t)row->kind << 62 | (uint64_t)(row->reg & 63) << 56 |
	       (uint64_t)(-row->lowest_save & 0xffffff) << 32 |
	       (uint32_t)row->off;
}

static void unpack(uint64_t v, struct cfi_row *row)
{
	row->kind = v >> 62;
	row->reg = v >> 56 & 63;
	row->lowest_save = -(int64_t)(v >> 32 & 0xffffff);
	row->off = (int32_t)v;
	row->add = 0;
}

static void row_at(struct engine *en, uint64_t ra, struct cfi_row *row)
{
	struct ra_entry *c = &en->ra[(ra ^ ra >> 10) % RA_CACHE];
	uint64_t v = c->value;

	row->kind = CFA_UNKNOWN;
	if ((c->key ^ v) == ra) {
		unpack(v, row);
		return;
	}
	for (size_t i = 0; i < en->nimage; i++) {
		const struct engine_image *im = &en->image[i];

		if (ra < im->lo || ra >= im->hi)
			continue;
		/* The call is before the address it returns to. */
		cfi_row(&im->im->cfi, ra - 1 - im->bias, row);
		break;
	}
	if (row->kind == CFA_REG && row->off == (int32_t)row->off &&
	    -row->lowest_save <= 0xffffff) {
		v = pack(row);
		c->value = v;
		c->key = v ^ ra;
	}
}

int engine_frame_bytes(struct engine *en, const struct probe_regs *r,
		       uint64_t slot, uint64_t ra, uint64_t *bytes)
{
	struct cfi_row row;
	uint64_t cfa, end;

	row_at(en, ra, &row);
	if (row.kind != CFA_REG && row.kind != CFA_DEREF)
		return -ENOENT;
	/*
	 * At a tail call all the registers a callee must preserve are the
	 * caller's again, rbp and rbx included.
	 */
	cfa = row.reg == X86_RSP ? slot + 8 : r->gpr[row.reg & 15];
	cfa += (uint64_t)row.off;
	if (row.kind == CFA_DEREF) {
		if (read_u64(en, cfa, &cfa) < 0)
			return -ENOENT;
		cfa += (uint64_t)row.add;
	}
	end = cfa + (uint64_t)row.lowest_save;
	if (end < slot + 8 || end - (slot + 8) > TRAMP_FRAME_MAX) {
		if (end == slot || cfa == slot + 8) {
			*bytes = 0;
			return 0;
		}
		return -ENOENT;
	}
	*bytes = end - (slot + 8);
	return 0;
}

static bool any_row(struct engine *en, uint64_t pc, bool exact,
		    struct cfi_row *row)
{
	row->kind = CFA_UNKNOWN;
	for (size_t i = 0; i < en->nimage; i++) {
		const struct engine_image *im = &en->image[i];

		if (pc < im->lo || pc >= im->hi)
			continue;
		cfi_row(&im->im->cfi, pc - !exact - im->bias, row);
		break;
	}
	return row->kind == CFA_REG || row->kind == CFA_DEREF;
}

/* The real address behind one we swapped. */
static uint64_t unswapped(struct engine *en, struct engine_thread *th,
			  uint64_t slot, uint64_t ra)
{
	if (!en->at_swap || ra != en->at_swap)
		return ra;
	for (uint32_t i = 0; i < th->own.nswap; i++)
		if (th->own.swap[i].slot == slot)
			return th->own.swap[i].ra;
	return 0;
}

size_t engine_backtrace(struct engine *en, struct engine_thread *th,
			const struct probe_regs *r, struct engine_frame *f,
			size_t max)
{
	uint64_t pc = r->rip, sp = r->gpr[X86_RSP], bp = r->gpr[X86_RBP], cfa;
	enum tramp_form form;
	bool exact = true;
	unsigned int cls;
	size_t n;

	for (n = 0; n < max; n++) {
		struct cfi_row row;

		if (en->tramp && tramp_is_back(en->tramp, pc, &cls, &form)) {
			cfa = sp + tramp_frame(cls) + TRAMP_HEADER + 8;
			row.rbp_save = 0;
		} else if (any_row(en, pc, exact, &row)) {
			if (row.reg != X86_RSP && row.reg != X86_RBP)
				break;
			cfa = (row.reg == X86_RSP ? sp : bp) +
			      (uint64_t)row.off;
			if (row.kind == CFA_DEREF &&
			    read_u64(en, cfa, &cfa) < 0)
				break;
			cfa += row.kind == CFA_DEREF ? (uint64_t)row.add : 0;
		} else {
			break;
		}
		f[n] = (struct engine_frame){ pc, cfa - 8 };
		if (cfa <= sp || read_u64(en, cfa - 8, &pc) < 0)
			return n + 1;
		if (row.rbp_save)
			(void)read_u64(en, cfa + (uint64_t)row.rbp_save, &bp);
		pc = unswapped(en, th, cfa - 8, pc);
		sp = cfa;
		exact = false;
		if (!pc)
			return n + 1;
	}
	return n;
}
