/*
 * Which entries and tail calls can do without a breakpoint, and the stubs
 * they jump to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/engine_priv.h"
#include "probe/insn.h"
#include "probe/jump.h"

/*
 * A stub:  0 lea -24(rsp), rsp	make room for the header
 *	    5 push $number
 *	   10 jmp *72(rip)	to jump_asm.S
 *	   16 lea 24(rsp), rsp	the bypass
 *	   21 what the patch displaced, and a jump behind it; or, for a tail
 *	      call, a jump to its target
 *	   88 the address jumped to
 */
#define STUB_SIZE   96
#define STUB_BYPASS 16
#define STUB_BODY   21
#define STUB_ENTER  88

/* Four bytes, then the longest instruction, two grown by four, and the way
 * back. */
_Static_assert(STUB_ENTER - STUB_BODY >= 4 + SITE_INSN_MAX + 2 * 4 + 14,
	       "a body fits");

void probe_jump_enter_asm(void);
void probe_jump_tail_asm(void);

/* What is to be patched. */
struct wish {
	uint16_t func;
	uint64_t at;
	const struct probe_site *tail; /* NULL: an entry */
};

/* They return twice, the second time into a frame that is gone. */
static bool returns_twice(const char *name)
{
	static const char *const names[] = { "setjmp",	     "_setjmp",
					     "__setjmp",     "sigsetjmp",
					     "__sigsetjmp",  "vfork",
					     "__vfork",	     "getcontext",
					     "__getcontext", "savectx" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* Where jumps of all the functions lead, sorted: none may land in a patch. */
struct landings {
	uint64_t *at;
	size_t n;
};

static int by_address(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int find_landings(const struct engine *en, struct landings *l)
{
	size_t most = 0;

	for (size_t i = 0; i < en->nfunc; i++)
		most += en->func[i].fn->nsite;
	l->n = 0;
	l->at = calloc(most + 1, sizeof(*l->at));
	if (!l->at)
		return -ENOMEM;
	for (size_t i = 0; i < en->nfunc; i++) {
		const struct engine_func *f = &en->func[i];

		for (size_t k = 0; k < f->fn->nsite; k++) {
			const struct probe_site *s = &f->fn->site[k];

			/* A function that runs on into the next keeps a
			 * breakpoint of its own there. */
			if (s->kind == SITE_FALL)
				l->at[l->n++] = s->addr + f->bias + 1;
			else if (s->target && !s->to_entry)
				l->at[l->n++] = s->target + f->bias;
		}
	}
	qsort(l->at, l->n, sizeof(*l->at), by_address);
	return 0;
}

/* Does anything land beyond lo and before hi? */
static bool lands_in(const struct landings *l, uint64_t lo, uint64_t hi)
{
	size_t from = 0, to = l->n;

	while (from < to) {
		size_t mid = (from + to) / 2;

		if (l->at[mid] <= lo)
			from = mid + 1;
		else
			to = mid;
	}
	return from < l->n && l->at[from] < hi;
}

/* May a copy of it run elsewhere, as the last of several or before others? */
static bool can_copy(const struct insn *in, unsigned int behind)
{
	switch (in->kind) {
	case INSN_OTHER:
	case INSN_PUSH: return in->movable;
	case INSN_NOP: return true;
	case INSN_JCC: return in->cond < SITE_COND_RCXZ;
	case INSN_JMP:
	case INSN_RET: return behind >= JUMP_BYTES;
	default: return false;
	}
}

static bool has_tail(const struct probe_func *fn)
{
	for (size_t i = 0; i < fn->nsite; i++)
		if (fn->site[i].kind != SITE_ENTRY &&
		    fn->site[i].kind != SITE_RET &&
		    fn->site[i].kind != SITE_RET_JMP)
			return true;
	return false;
}

/*
 * Where the entry's patch goes, or 0 if it must have a breakpoint.  The jump
 * that leaves a function whose entry is patched goes unseen: only its return
 * comes back to us.
 */
static uint64_t entry_patch(const struct landings *l, const struct engine *en,
			    const struct engine_func *f)
{
	uint64_t lo = f->fn->addr + f->bias, end = lo + f->fn->room;
	unsigned int len = 0;
	uint8_t code[SITE_INSN_MAX];
	struct insn in;

	if (!f->track || !f->fn->nsite || f->fn->self_jump ||
	    (en->opt.jump && has_tail(f->fn)) || f->fn->outermost ||
	    f->fn->site[0].kind != SITE_ENTRY ||
	    f->fn->site[0].verdict == SITE_REFUSED || returns_twice(f->name))
		return 0;
	/* An indirect call must still find its endbr64. */
	if (!memcmp((const void *)lo, "\xf3\x0f\x1e\xfa", 4))
		lo += 4;
	while (len < JUMP_BYTES) {
		if (lo + len >= end)
			return 0;
		memset(code, 0, sizeof(code));
		memcpy(code, (const void *)(lo + len),
		       MIN(sizeof(code), end - lo - len));
		if (insn_decode(&in, code, sizeof(code), lo + len) < 0 ||
		    lo + len + in.len > end || !can_copy(&in, len + in.len))
			return 0;
		len += in.len;
	}
	if (lands_in(l, f->fn->addr + f->bias, lo + JUMP_BYTES))
		return 0;
	return lo;
}

/*
 * jmp and jcc with a 32-bit displacement.  The site must be certain: in the
 * middle of a function the stub would write over a red zone in use.
 */
static bool tail_patch(const struct landings *l, const struct engine *en,
		       const struct engine_func *f, const struct probe_site *s)
{
	uint64_t at = s->addr + f->bias;
	bool jmp = s->kind == SITE_TAIL && s->len == JUMP_BYTES &&
		   s->bytes[0] == 0xe9;
	bool jcc = s->kind == SITE_TAIL_COND && s->len == JCC_BYTES &&
		   s->bytes[0] == 0x0f;

	return (jmp || jcc) && (en->opt.exit || en->opt.jump) &&
	       s->verdict == SITE_PATCH && !s->shared &&
	       s->addr != f->fn->addr && !lands_in(l, at, at + s->len) &&
	       !memcmp((const void *)at, s->bytes, s->len);
}

static int rel32(uint8_t *at, uint64_t next, uint64_t target)
{
	int64_t far = (int64_t)(target - next);
	int32_t rel = (int32_t)far;

	memcpy(at, &rel, 4);
	return rel == far ? 0 : -ERANGE;
}

/* One instruction's copy; its length there, or -errno. */
static int copy_insn(const struct insn *in, uint64_t from, uint8_t *to,
		     uint64_t addr)
{
	int32_t disp;
	int ret;

	if (in->kind == INSN_JCC) {
		to[0] = 0x0f;
		to[1] = 0x80 | in->cond;
		ret = rel32(to + 2, addr + JCC_BYTES, in->target);
		return ret < 0 ? ret : JCC_BYTES;
	}
	if (in->kind == INSN_JMP) {
		to[0] = 0xe9;
		ret = rel32(to + 1, addr + JUMP_BYTES, in->target);
		return ret < 0 ? ret : JUMP_BYTES;
	}
	memcpy(to, (const void *)from, in->len);
	if (!in->rip_disp)
		return in->len;
	memcpy(&disp, to + in->rip_disp, 4);
	ret = rel32(to + in->rip_disp, addr, from + (uint64_t)(int64_t)disp);
	return ret < 0 ? ret : in->len;
}

static void jump_to(uint8_t *code, uint64_t target)
{
	memcpy(code, "\xff\x25\0\0\0\0", 6);
	memcpy(code + 6, &target, 8);
}

/* The instructions that the patch at an entry displaces, and the way back. */
static int copy_body(uint64_t at, uint8_t *body, uint64_t addr)
{
	unsigned int done = 0, used = 0;
	struct insn in = { .kind = INSN_OTHER };

	while (done < JUMP_BYTES) {
		int n;

		if (insn_decode(&in, (const void *)(at + done), SITE_INSN_MAX,
				at + done) < 0)
			return -EILSEQ;
		n = copy_insn(&in, at + done, body + used, addr + used);
		if (n < 0)
			return n;
		done += in.len;
		used += (unsigned int)n;
	}
	if (in.kind != INSN_JMP && in.kind != INSN_RET)
		jump_to(body + used, at + done);
	return 0;
}

static int build_stub(struct jump *j, size_t number, uint64_t stub,
		      const struct wish *w)
{
	const struct engine_func *f = &j->en->func[w->func];
	uint64_t enter = w->tail ? (uint64_t)probe_jump_tail_asm
				 : (uint64_t)probe_jump_enter_asm;
	struct jump_patch *p = &j->patch[number];
	uint8_t buf[STUB_SIZE], *body = buf + STUB_BODY;
	uint32_t push = (uint32_t)number;
	int ret = 0;

	memset(buf, 0xcc, sizeof(buf));
	memcpy(buf, "\x48\x8d\x64\x24\xe8\x68", 6);
	memcpy(buf + 6, &push, 4);
	memcpy(buf + 10, "\xff\x25\x48\0\0\0", 6);
	memcpy(buf + STUB_BYPASS, "\x48\x8d\x64\x24\x18", 5);
	memcpy(buf + STUB_ENTER, &enter, 8);
	if (w->tail)
		jump_to(body, w->tail->target + f->bias);
	else
		ret = copy_body(w->at, body, stub + STUB_BODY);
	if (!ret)
		ret = j->en->ops->patch(j->en->t, stub, buf, sizeof(buf));
	if (ret < 0)
		return ret;
	*p = (struct jump_patch){
		.at = w->at,
		.stub = stub,
		.bypass = stub + STUB_BYPASS,
		.body = stub + STUB_BODY,
		.func = w->func,
		.len = w->tail ? w->tail->len : JUMP_BYTES,
		.cond = w->tail ? w->tail->cond : SITE_COND_NONE,
		.track = f->track,
	};
	memcpy(p->orig, (const void *)w->at, p->len);
	return 0;
}

/* Note that the engine need not see to it. */
static int take(struct engine *en, const struct wish *w)
{
	struct engine_func *f = &en->func[w->func];

	if (!w->tail) {
		f->jump = true;
		return 0;
	}
	if (!f->turned)
		f->turned = calloc(f->fn->nsite, sizeof(*f->turned));
	if (!f->turned)
		return -ENOMEM;
	f->turned[w->tail - f->fn->site] = true;
	return 0;
}

/* Room for a stub near what it serves. */
struct area {
	uint64_t at;
	size_t used, size;
};

static int stub_room(struct engine *en, struct area *a, uint64_t near,
		     size_t left, uint64_t *stub)
{
	uint64_t far = a->at > near ? a->at - near : near - a->at;
	int ret;

	if (!a->at || far > 1ul << 30 || a->used + STUB_SIZE > a->size) {
		a->size = ALIGN_UP(left * STUB_SIZE, PAGE_SIZE);
		ret = en->ops->alloc(en->t, near, a->size, &a->at);
		if (ret < 0)
			return ret;
		a->used = 0;
	}
	*stub = a->at + a->used;
	return 0;
}

/* 1 if it is done, 0 if a breakpoint must do, or -errno. */
static int add_stub(struct jump *j, struct area *a, size_t number, size_t left,
		    const struct wish *w)
{
	uint64_t stub;
	int ret = stub_room(j->en, a, w->at, left, &stub);

	if (!ret)
		ret = build_stub(j, number, stub, w);
	if (ret == -ERANGE)
		return 0;
	if (!ret)
		ret = take(j->en, w);
	if (ret < 0)
		return ret;
	a->used += STUB_SIZE;
	return 1;
}

static int build_all(struct jump *j, const struct landings *l)
{
	struct engine *en = j->en;
	size_t left = j->npatch, tail = en->nfunc;
	struct area area = { 0 };
	int n = 0, ret;

	for (size_t i = 0; i < en->nfunc; i++) {
		struct wish w = { .func = (uint16_t)i };

		w.at = entry_patch(l, en, &en->func[i]);
		ret = w.at ? add_stub(j, &area, i, left--, &w) : 0;
		if (ret < 0)
			return ret;
		n += ret;
	}
	for (size_t i = 0; i < en->nfunc; i++) {
		const struct engine_func *f = &en->func[i];

		for (size_t k = 0; k < f->fn->nsite && !f->jump; k++) {
			struct wish w = { .func = (uint16_t)i,
					  .tail = &f->fn->site[k] };

			if (!tail_patch(l, en, f, w.tail))
				continue;
			w.at = w.tail->addr + f->bias;
			ret = add_stub(j, &area, tail++, left--, &w);
			if (ret < 0)
				return ret;
			n += ret;
		}
	}
	return n;
}

int jump_prepare(struct jump **out, struct engine *en, struct err *e)
{
	struct landings l = { .at = NULL };
	struct jump *j;
	int ret;

	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	ret = find_landings(en, &l);
	if (ret < 0)
		goto free_j;
	j->en = en;
	j->fast = en->opt.count_only;
	j->time = en->opt.count_only && !en->opt.no_latency;
	j->jumps = en->opt.jump;
	j->exits = en->opt.exit;
	j->npatch = en->nfunc;
	for (size_t i = 0; i < en->nfunc; i++)
		for (size_t k = 0; k < en->func[i].fn->nsite; k++)
			j->npatch += tail_patch(&l, en, &en->func[i],
						&en->func[i].fn->site[k]);
	j->patch = calloc(j->npatch + 1, sizeof(*j->patch));
	ret = j->patch ? build_all(j, &l) : -ENOMEM;
	free(l.at);
	if (ret < 0)
		goto free_patches;
	*out = j;
	return ret;

free_patches:
	free(j->patch);
free_j:
	free(j);
	return err_sys(e, ret, "stubs");
}
