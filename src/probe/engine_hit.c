/*
 * What happens at a breakpoint.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "probe/engine_priv.h"
#include "probe/insn.h"

/* One hit, while it is being dealt with. */
struct hit {
	struct engine *en;
	struct engine_thread *th;
	struct probe_stack *st;
	struct probe_regs *r;
	uint64_t now;
};

static void emit(struct hit *h, enum probe_event_kind kind, uint16_t func,
		 uint64_t sp, uint64_t since, uint32_t depth)
{
	const struct probe_regs *r = h->r;
	struct probe_event ev = {
		.kind = (uint8_t)kind,
		.func = func,
		.tid = h->th->tid,
		.depth = depth,
		.time = h->now,
		.latency = since ? (h->now - since) & PEND_TIME : 0,
		.sp = sp,
	};

	if (kind == EVENT_ENTRY) {
		const uint64_t *g = r->gpr;

		ev.arg[0] = g[X86_RDI];
		ev.arg[1] = g[X86_RSI];
		ev.arg[2] = g[X86_RDX];
		ev.arg[3] = g[X86_RCX];
		ev.arg[4] = g[X86_R8];
		ev.arg[5] = g[X86_R9];
		(void)read_u64(h->en, sp, &ev.caller);
	}
	if (kind == EVENT_EXIT)
		ev.value = r->gpr[X86_RAX];
	h->en->stats.events++;
	if (h->th->count) {
		h->th->count[func * EVENT_KINDS + kind]++;
		if (kind == EVENT_EXIT)
			h->th->total[func] += ev.latency;
		return;
	}
	h->en->sink(&ev, h->en->opaque);
}

static void end_item(struct hit *h, uint32_t i, enum probe_event_kind kind)
{
	struct pend p = h->st->item[i];

	pend_remove(h->st, i);
	if (h->en->opt.exit)
		emit(h, kind, pend_func(&p), pend_sp(&p), pend_time(&p), i);
}

/* On a thread's own stack, what is below the stack pointer is gone. */
static void drop_below(struct hit *h, uint64_t sp)
{
	struct probe_stack *st = h->st;

	if (!st->x.native)
		return;
	while (st->n && pend_sp(pend_top(st)) < sp)
		end_item(h, st->n - 1, EVENT_ABANDONED);
	while (st->nswap && st->swap[st->nswap - 1].slot < sp)
		st->nswap--;
}

static bool is_back(const struct engine *en, uint64_t ra)
{
	unsigned int cls;
	enum tramp_form form;

	return ra == en->at_swap ||
	       (en->tramp && tramp_is_back(en->tramp, ra, &cls, &form));
}

/*
 * A call cannot find its slot in use by a live activation, unless that one
 * jumped here and its trampoline is what the slot returns to.
 */
static bool clear_slot(struct hit *h, uint64_t sp, uint16_t func)
{
	const struct engine_func *f = &h->en->func[func];
	uint64_t ra = 0;
	int64_t i;

	while ((i = pend_find(h->st, sp)) >= 0) {
		struct pend *p = &h->st->item[i];

		if (p->time_flags & PEND_LEFT) {
			if (!ra && read_u64(h->en, sp, &ra) < 0)
				return true;
			if (is_back(h->en, ra))
				return true;
		} else if (f->fn->self_jump && pend_func(p) == func) {
			return false; /* a loop to its own first byte */
		}
		end_item(h, (uint32_t)i, EVENT_ABANDONED);
	}
	return true;
}

/*
 * Without the caller's unwind data nobody knows how far its arguments reach.
 * Then the frame must not move: the return address is replaced instead.
 */
static int swap_address(struct hit *h, uint64_t slot, uint64_t ra)
{
	if (!h->en->ops->exec(h->en->t, ra))
		return -EFAULT; /* no caller: not a return address */
	if (pend_swap_push(h->st, slot, ra) < 0)
		return -ENOMEM;
	if (write_u64(h->en, slot, h->en->at_swap) < 0)
		return -EFAULT; /* the record is harmless */
	h->en->stats.swapped++;
	return 0;
}

/* Entered, and from here on followed by its return address alone. */
static void follow_return(struct hit *h, uint64_t sp)
{
	struct pend *p = pend_top(h->st);
	uint64_t ra;

	if (read_u64(h->en, sp, &ra) < 0)
		goto lost;
	if (is_back(h->en, ra))
		h->en->stats.collapsed++;
	else if (swap_address(h, sp, ra) < 0)
		goto lost;
	p->time_flags |= PEND_LEFT;
	return;

lost:
	pend_remove(h->st, h->st->n - 1);
	h->en->stats.lost++;
}

static void on_entry(struct hit *h, uint16_t func)
{
	uint64_t sp = h->r->gpr[X86_RSP];

	drop_below(h, sp);
	if (!clear_slot(h, sp, func))
		return;
	if (h->en->opt.entry)
		emit(h, EVENT_ENTRY, func, sp, 0, h->st->n);
	if (pend_push(h->st, sp, func, h->now, 0) < 0)
		h->en->stats.lost++;
	else if (h->en->func[func].fn->swaps && h->en->opt.exit)
		follow_return(h, sp);
	else if (h->en->func[func].fn->swaps)
		pend_remove(h->st, h->st->n - 1);
}

/* The activation at sp, if it is func's and still in its own code. */
static int64_t active(struct hit *h, uint64_t sp, uint16_t func)
{
	int64_t i = pend_find(h->st, sp);

	if (i < 0 || h->st->item[i].time_flags & PEND_LEFT ||
	    pend_func(&h->st->item[i]) != func)
		return -1;
	return i;
}

static void return_through(struct hit *h, uint64_t slot, uint16_t pop)
{
	struct probe_regs *r = h->r;
	uint64_t ra;

	/* A real ret does it, for the sake of a shadow stack. */
	r->gpr[X86_RSP] = slot + pop;
	r->rip = h->en->at_ret;
	if (pop && (read_u64(h->en, slot, &ra) < 0 ||
		    write_u64(h->en, slot + pop, ra) < 0))
		h->en->stats.lost++;
}

static void on_return(struct hit *h, const struct engine_mark *m)
{
	uint64_t sp = h->r->gpr[X86_RSP];
	int64_t i;

	drop_below(h, sp);
	i = active(h, sp, m->func);
	if (i >= 0)
		end_item(h, (uint32_t)i, EVENT_EXIT);
	else if (!h->en->func[m->func].track && h->en->opt.exit)
		emit(h, EVENT_EXIT, m->func, sp, 0, h->st->n);
}

/* Where an indirect jump would go. */
static int jump_target(struct hit *h, const struct engine_patch *p,
		       const struct site_ref *ref, uint64_t *to)
{
	const struct probe_regs *r = h->r;
	uint64_t addr;

	if (!ref->mem) {
		*to = r->gpr[ref->base & 15];
		return 0;
	}
	addr = (uint64_t)(int64_t)ref->disp;
	if (ref->base == X86_RIP_BASE)
		addr += p->addr + p->len;
	else if (ref->base != X86_NONE)
		addr += r->gpr[ref->base & 15];
	if (ref->index != X86_NONE)
		addr += r->gpr[ref->index & 15] * ref->scale;
	if (ref->seg)
		addr += ref->seg == 'f' ? r->fs_base : r->gs_base;
	return read_u64(h->en, addr, to);
}

/*
 * Write a header below the slot for a call of 'to' with a copy of the
 * caller's frame; returns the trampoline's class.
 */
static int make_frame(struct hit *h, uint64_t slot, uint64_t ra, uint64_t to,
		      enum tramp_form form, uint64_t *sp)
{
	struct engine *en = h->en;
	struct tramp_header head = { .r11 = h->r->gpr[X86_R11], .target = to };
	uint64_t bytes;
	int cls;

	if (en->opt.swap_form || !en->tramp)
		return -ENOENT;
	if (engine_frame_bytes(en, h->r, slot, ra, &bytes) < 0)
		return -ENOENT;
	if (en->opt.no_copy)
		bytes = 0;
	cls = tramp_class(bytes);
	if (cls < 0)
		return cls;
	bytes = tramp_frame((unsigned int)cls);
	*sp = slot - TRAMP_HEADER - bytes;
	/* The copy must be readable to its end and not run off the stack. */
	if (slot + 8 + bytes > h->st->x.hi || *sp < h->st->x.lo + PAGE_SIZE ||
	    *sp > slot)
		return -E2BIG;
	head.cookie = TRAMP_COOKIE ^ ((uint64_t)cls << 8 | form);
	if (en->ops->write(en->t, slot - TRAMP_HEADER, &head, sizeof(head)) < 0)
		return -EFAULT;
	return cls;
}

static int call_by_frame(struct hit *h, uint64_t slot, uint64_t ra, uint64_t to,
			 enum tramp_form form)
{
	struct probe_regs *r = h->r;
	uint64_t sp;
	int cls = make_frame(h, slot, ra, to, form, &sp);

	if (cls < 0)
		return cls;
	r->gpr[X86_RSP] = sp;
	if (form == TRAMP_REG)
		r->gpr[X86_R11] = to;
	r->rip = tramp_entry(h->en->tramp, (unsigned int)cls, form);
	return 0;
}

/*
 * func is leaving by a jump to 'to'.  Its exit comes when what it jumped to
 * returns.  If the slot returns to a trampoline already, that return will do
 * for this exit too and nothing needs to be added to the stack.
 */
static void on_tail(struct hit *h, const struct engine_mark *m, uint64_t to,
		    enum tramp_form form)
{
	struct engine *en = h->en;
	uint64_t sp = h->r->gpr[X86_RSP], ra;
	uint32_t at;
	int64_t i;

	drop_below(h, sp);
	h->r->rip = to;
	i = active(h, sp, m->func);
	if (i < 0 && en->func[m->func].track)
		return; /* a jump inside, or not ours */
	if (en->opt.jump)
		emit(h, EVENT_JUMP, m->func, sp,
		     i < 0 ? 0 : pend_time(&h->st->item[i]), h->st->n);
	if (!en->opt.exit) {
		if (i >= 0)
			pend_remove(h->st, (uint32_t)i);
		return;
	}
	if (read_u64(en, sp, &ra) < 0)
		goto lost;
	if (i < 0) {
		if (pend_push(h->st, sp, m->func, 0, 0) < 0)
			goto lost;
		i = h->st->n - 1;
	}
	at = (uint32_t)i;
	h->st->item[at].time_flags |= PEND_LEFT;
	if (is_back(en, ra)) {
		en->stats.collapsed++;
		return;
	}
	if (!call_by_frame(h, sp, ra, to, form)) {
		h->st->item[at].time_flags |= PEND_FRAME;
		return;
	}
	if (!swap_address(h, sp, ra))
		return;
	pend_remove(h->st, at);
lost:
	en->stats.lost++;
}

/* All that ended by returning from 'slot', innermost first. */
static void end_slot(struct hit *h, uint64_t slot)
{
	int64_t i;

	while ((i = pend_find(h->st, slot)) >= 0)
		end_item(h, (uint32_t)i, EVENT_EXIT);
}

static bool header_ok(struct engine *en, uint64_t slot, uint64_t info,
		      struct tramp_header *head)
{
	return !en->ops->read(en->t, slot - TRAMP_HEADER, head,
			      sizeof(*head)) &&
	       head->cookie == (TRAMP_COOKIE ^ info);
}

/*
 * The frame a callee came back to.  It may have popped its arguments (ret
 * imm16), and then the stack pointer is beyond the frame's start.
 */
static uint64_t frame_slot(struct hit *h, uint64_t sp, uint32_t frame,
			   uint64_t info, struct tramp_header *head)
{
	uint64_t slot = sp + frame + TRAMP_HEADER, best = 0;
	struct tramp_header try;

	if (header_ok(h->en, slot, info, head))
		return slot;
	for (uint32_t i = h->st->n; i--;) {
		const struct pend *p = &h->st->item[i];
		uint64_t x = pend_sp(p) - TRAMP_HEADER - frame;

		if (!(p->time_flags & PEND_FRAME) || x > sp ||
		    sp - x > UINT16_MAX ||
		    !header_ok(h->en, pend_sp(p), info, &try))
			continue;
		if (pend_sp(p) > best) {
			best = pend_sp(p);
			*head = try;
		}
	}
	return best;
}

static int on_back(struct hit *h, unsigned int cls, enum tramp_form form)
{
	struct probe_regs *r = h->r;
	uint32_t frame = tramp_frame(cls);
	uint64_t sp = r->gpr[X86_RSP], slot, x;
	struct tramp_header head;

	slot = frame_slot(h, sp, frame, (uint64_t)cls << 8 | form, &head);
	if (!slot)
		return -EFAULT;
	x = slot - TRAMP_HEADER - frame;
	/*
	 * Under -fipa-ra the caller may keep a value in r11 if it sees that
	 * nobody below writes it.  We did; if nobody else has, undo it.
	 */
	if (form == TRAMP_REG && r->gpr[X86_R11] == head.target)
		r->gpr[X86_R11] = head.r11;
	drop_below(h, x - 8);
	end_slot(h, x - 8);
	end_slot(h, slot);
	return_through(h, slot, (uint16_t)(sp - x));
	return 0;
}

static int on_swap_back(struct hit *h)
{
	struct probe_stack *st = h->st;
	uint64_t sp = h->r->gpr[X86_RSP] - 8;
	struct pend_swap s = { 0, 0 };
	uint32_t at = 0;

	for (uint32_t i = 0; i < st->nswap; i++) {
		if (st->swap[i].slot <= sp && st->swap[i].slot > s.slot) {
			s = st->swap[i];
			at = i;
		}
	}
	if (!s.ra || sp - s.slot > UINT16_MAX)
		return -EFAULT;
	memmove(&st->swap[at], &st->swap[at + 1],
		(st->nswap - at - 1) * sizeof(s));
	st->nswap--;
	drop_below(h, s.slot);
	end_slot(h, s.slot);
	if (write_u64(h->en, s.slot, s.ra) < 0)
		return -EFAULT;
	return_through(h, s.slot, (uint16_t)(sp - s.slot));
	return 0;
}

/* Do by hand, or send to its copy, the instruction under the breakpoint. */
static void perform(struct hit *h, const struct engine_patch *p)
{
	struct probe_regs *r = h->r;
	uint64_t next = p->addr + p->len, v, to;

	switch (p->kind) {
	case INSN_NOP: r->rip = next; return;
	case INSN_PUSH:
		v = r->gpr[p->pushed & 15];
		r->gpr[X86_RSP] -= 8;
		if (write_u64(h->en, r->gpr[X86_RSP], v) < 0)
			h->en->stats.lost++;
		r->rip = next;
		return;
	case INSN_JMP: r->rip = p->target; return;
	case INSN_JCC:
		if (p->cond >= SITE_COND_LOOP)
			r->gpr[X86_RCX]--;
		r->rip = insn_cond_holds(p->cond, r) ? p->target : next;
		return;
	case INSN_CALL:
		r->gpr[X86_RSP] -= 8;
		if (write_u64(h->en, r->gpr[X86_RSP], next) < 0)
			h->en->stats.lost++;
		r->rip = p->target;
		return;
	case INSN_CALL_IND:
	case INSN_JMP_IND:
		if (jump_target(h, p, &p->ref, &to) < 0)
			to = 0; /* it would have faulted too */
		if (p->kind == INSN_CALL_IND) {
			r->gpr[X86_RSP] -= 8;
			if (write_u64(h->en, r->gpr[X86_RSP], next) < 0)
				h->en->stats.lost++;
		}
		r->rip = to;
		return;
	case INSN_RET: return_through(h, r->gpr[X86_RSP], p->pop); return;
	default: r->rip = p->slot; return;
	}
}

/* Of several functions that leave through one site, the one that does. */
static const struct engine_mark *leaver(struct hit *h,
					const struct engine_patch *p)
{
	const struct engine_mark *found = NULL;
	uint64_t sp = h->r->gpr[X86_RSP], slot;

	for (uint32_t k = 0; k < p->nmarks; k++) {
		const struct engine_mark *m = &h->en->mark[p->mark + k];

		if (m->site->kind == SITE_ENTRY || m->site->kind == SITE_FALL)
			continue;
		slot = m->site->kind == SITE_TAIL_PUSH ? sp + 8 : sp;
		if (active(h, slot, m->func) >= 0)
			return m;
		if (!m->site->shared && !h->en->func[m->func].track)
			found = m;
	}
	return found;
}

/*
 * r11 is free at a tail call under the psABI, unless the function put
 * something there itself: assembler has its own conventions.
 */
static enum tramp_form form_for(const struct engine *en,
				const struct engine_func *f)
{
	return en->opt.mem_form || f->fn->writes_r11 ? TRAMP_MEM : TRAMP_REG;
}

static void tail_site(struct hit *h, const struct engine_patch *p,
		      const struct engine_mark *m)
{
	const struct engine_func *f = &h->en->func[m->func];
	enum tramp_form form = form_for(h->en, f);
	struct probe_regs *r = h->r;
	uint64_t to = p->target;

	if (p->kind == INSN_JCC) {
		bool loop = p->cond >= SITE_COND_LOOP;

		r->gpr[X86_RCX] -= loop;
		if (!insn_cond_holds(p->cond, r)) {
			r->rip = p->addr + p->len;
			return;
		}
	}
	if (m->site->kind == SITE_TAIL_IND) {
		if (jump_target(h, p, &m->site->ref, &to) < 0)
			to = 0;
		if (finder_inside(f->fn, to - f->bias) || !to) {
			r->rip = m->site->thunk ? p->target : to;
			return;
		}
		if (m->site->thunk) {
			/* The thunk jumps to what its register says. */
			if (m->site->ref.base == X86_R11)
				form = TRAMP_MEM;
			to = p->target;
		}
	}
	on_tail(h, m, to, form);
}

/* push target; ret: the slot of the activation is the next one up. */
static void push_ret_site(struct hit *h, const struct engine_patch *p,
			  const struct engine_mark *m)
{
	struct probe_regs *r = h->r;
	uint64_t sp = r->gpr[X86_RSP], to;

	if (read_u64(h->en, sp, &to) < 0) {
		perform(h, p);
		return;
	}
	r->gpr[X86_RSP] = sp + 8;
	on_tail(h, m, to, form_for(h->en, &h->en->func[m->func]));
}

static void at_patch(struct hit *h, const struct engine_patch *p)
{
	const struct engine_mark *m;
	uint64_t sp = h->r->gpr[X86_RSP];

	for (uint32_t k = 0; k < p->nmarks; k++) {
		m = &h->en->mark[p->mark + k];
		if (m->site->kind != SITE_FALL || active(h, sp, m->func) < 0)
			continue;
		/* It ran on into this function: call it, and come here
		 * again with the callee's stack. */
		on_tail(h, m, p->addr, TRAMP_MEM);
		return;
	}
	for (uint32_t k = 0; k < p->nmarks; k++) {
		m = &h->en->mark[p->mark + k];
		if (m->site->kind == SITE_ENTRY && h->en->func[m->func].track)
			on_entry(h, m->func);
	}
	m = leaver(h, p);
	switch (m ? m->site->kind : SITE_ENTRY) {
	case SITE_RET:
	case SITE_RET_JMP:
		on_return(h, m);
		perform(h, p);
		break;
	case SITE_TAIL:
	case SITE_TAIL_COND:
	case SITE_TAIL_IND: tail_site(h, p, m); break;
	case SITE_TAIL_PUSH: push_ret_site(h, p, m); break;
	default: perform(h, p); break;
	}
}

int engine_hit(struct engine *en, struct engine_thread *th,
	       struct probe_regs *r)
{
	struct hit h = { .en = en, .th = th, .r = r, .now = now_ns() };
	const struct engine_patch *p = NULL;
	enum tramp_form form = TRAMP_REG;
	unsigned int cls = 0;
	bool back = false, swap = false;
	int ret = 0;

	if (en->at_swap && r->rip == en->at_swap) {
		swap = true;
	} else if (en->tramp && tramp_inside(en->tramp, r->rip)) {
		back = tramp_is_back(en->tramp, r->rip, &cls, &form);
	} else {
		p = engine_patch_at(en, r->rip);
	}
	if (!p && !swap && !back)
		return -ENOENT;
	if (!en->armed && p)
		return -ESRCH;
	en->stats.hits++;
	h.st = engine_stack_get(en, th, r->gpr[X86_RSP]);
	if (!h.st) {
		en->stats.lost++;
		return -ENOMEM;
	}
	if (back)
		ret = on_back(&h, cls, form);
	else if (swap)
		ret = on_swap_back(&h);
	else
		at_patch(&h, p);
	engine_stack_put(h.st);
	return ret;
}

int engine_enter(struct engine *en, struct engine_thread *th,
		 struct probe_regs *r, uint16_t func, uint64_t body)
{
	struct hit h = { .en = en, .th = th, .r = r, .now = now_ns() };
	uint64_t slot = r->gpr[X86_RSP], ra, sp;
	struct pend *p;
	int cls = -1;

	en->stats.hits++;
	h.st = engine_stack_get(en, th, slot);
	if (!h.st)
		goto lost;
	on_entry(&h, func);
	p = pend_top(h.st);
	if (!p || pend_sp(p) != slot || read_u64(en, slot, &ra) < 0)
		goto lost;
	if (!en->opt.exit) {
		pend_remove(h.st, h.st->n - 1);
	} else if (is_back(en, ra)) {
		p->time_flags |= PEND_LEFT;
		en->stats.collapsed++;
	} else {
		cls = make_frame(&h, slot, ra, body, TRAMP_JUMP, &sp);
		if (cls >= 0)
			p->time_flags |= PEND_LEFT | PEND_FRAME;
		else if (!swap_address(&h, slot, ra))
			p->time_flags |= PEND_LEFT;
		else
			pend_remove(h.st, h.st->n - 1);
	}
	engine_stack_put(h.st);
	return cls;

lost:
	en->stats.lost++;
	engine_stack_put(h.st);
	return -1;
}

uint64_t engine_tail(struct engine *en, struct engine_thread *th,
		     struct probe_regs *r, uint16_t func, uint64_t to)
{
	struct hit h = { .en = en, .th = th, .r = r, .now = now_ns() };
	const struct engine_mark m = { .func = func };

	r->rip = to;
	en->stats.hits++;
	h.st = engine_stack_get(en, th, r->gpr[X86_RSP]);
	if (h.st)
		on_tail(&h, &m, to, TRAMP_JUMP);
	else
		en->stats.lost++;
	engine_stack_put(h.st);
	return r->rip;
}

uint64_t engine_leave(struct engine *en, struct engine_thread *th,
		      struct probe_regs *r, unsigned int cls)
{
	uint64_t slot = r->gpr[X86_RSP] + tramp_frame(cls) + TRAMP_HEADER;
	struct hit h = { .en = en, .th = th, .r = r, .now = now_ns() };

	h.st = engine_stack_get(en, th, slot);
	if (!h.st || on_back(&h, cls, TRAMP_JUMP) < 0)
		en->stats.lost++;
	else
		slot = r->gpr[X86_RSP];
	engine_stack_put(h.st);
	return slot;
}

int engine_pass(struct engine *en, struct probe_regs *r)
{
	struct hit h = { .en = en, .r = r };
	const struct engine_patch *p = engine_patch_at(en, r->rip);

	if (!p)
		return -ENOENT;
	if (!en->armed)
		return -ESRCH;
	perform(&h, p);
	return 0;
}

void engine_unwound(struct engine *en, struct engine_thread *th, uint64_t sp)
{
	struct probe_regs r = { .rip = 0 };
	struct hit h = { .en = en, .th = th, .r = &r, .now = now_ns() };
	int64_t i;

	h.st = engine_stack_get(en, th, sp);
	if (!h.st)
		return;
	drop_below(&h, sp);
	while ((i = pend_find(h.st, sp)) >= 0)
		end_item(&h, (uint32_t)i, EVENT_ABANDONED);
	engine_stack_put(h.st);
}

#define REAP_FRAMES 512

/* Another function may stand where an abandoned one stood. */
static bool could_be(struct engine *en, const struct pend *p,
		     const struct engine_frame *f)
{
	const struct engine_func *fn = &en->func[pend_func(p)];
	uint64_t ra = 0;

	if (p->time_flags & PEND_FRAME)
		return is_back(en, f->pc);
	if (p->time_flags & PEND_LEFT)
		return !read_u64(en, f->slot, &ra) && is_back(en, ra);
	return finder_inside(fn->fn, f->pc - fn->bias);
}

void engine_reap(struct engine *en, struct engine_thread *th,
		 const struct probe_regs *r)
{
	struct probe_regs none = { .rip = 0 };
	struct hit h = {
		.en = en, .th = th, .r = &none, .now = now_ns(), .st = &th->own
	};
	struct engine_frame f[REAP_FRAMES];
	size_t n = 0, at = 0;

	if (!r) {
		drop_below(&h, UINT64_MAX);
		return;
	}
	if (r->gpr[X86_RSP] < th->own.x.lo || r->gpr[X86_RSP] >= th->own.x.hi)
		return;
	n = engine_backtrace(en, th, r, f, REAP_FRAMES);
	/* Innermost item against innermost frame, both going outwards; where
	 * the chain could not be followed further, nothing is concluded. */
	for (uint32_t i = th->own.n; i--;) {
		uint64_t slot = pend_sp(&th->own.item[i]);

		while (at < n && f[at].slot < slot)
			at++;
		if (at == n)
			break;
		if (f[at].slot != slot ||
		    !could_be(en, &th->own.item[i], &f[at]))
			end_item(&h, i, EVENT_ABANDONED);
	}
}
