#include "probe/finder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/unnamed.h"

static const char *const kind_names[SITE_KINDS] = {
	[SITE_ENTRY] = "entry",
	[SITE_RET] = "return",
	[SITE_RET_JMP] = "return thunk",
	[SITE_TAIL] = "tail call",
	[SITE_TAIL_COND] = "conditional tail call",
	[SITE_TAIL_IND] = "indirect tail call",
	[SITE_TAIL_PUSH] = "push and return",
	[SITE_FALL] = "fall through",
};

static const char *const whys[WHYS] = {
	[WHY_NONE] = "",
	[WHY_NO_UNWIND] = "no unwind data, and the stack depth is not known:"
			  " a tail call or a part of the function",
	[WHY_UNREACHED] = "nothing is seen to reach it: may be data",
	[WHY_BAD_CODE] = "not an instruction",
	[WHY_FAR] = "leaves by a far return or a far jump",
	[WHY_STACK] = "returns with the stack pointer elsewhere",
	[WHY_OVERLAP] = "shares bytes with another instruction",
	[WHY_DISPLACED] = "its first instruction cannot run elsewhere",
	[WHY_IFUNC] = "a resolver that runs while the program is loaded",
	[WHY_NO_CODE] = "its code is not in the file",
	[WHY_SEGMENT] = "its target is behind a segment register",
	[WHY_NOWHERE] = "leads to where there is no code: patched at boot?",
	[WHY_SHORT] = "shorter than the breakpoint that can be had",
	[WHY_SLOT] = "its first instruction would need memory to run in",
};

const char *site_kind_name(enum site_kind k)
{
	return (unsigned int)k < SITE_KINDS ? kind_names[k] : "?";
}

const char *site_why(enum site_why w)
{
	return (unsigned int)w < WHYS ? whys[w] : "?";
}

/*
 * gcc moves unlikely blocks to "f.cold", which is no function.  clang's
 * "f.cold.1" is one, called and returning; old gcc numbered its parts too,
 * but those start with f's frame still open.
 */
static bool is_part(const struct image *im, const struct image_symbol *s)
{
	const char *p = strstr(s->name, ".cold");
	struct cfi_row row;

	if (!p)
		return false;
	if (!p[5])
		return true;
	cfi_row(&im->cfi, s->addr, &row);
	return row.kind != CFA_UNKNOWN && !cfi_at_entry_sp(&row);
}

static int add(struct finder *f, size_t *room, const char *name, uint64_t addr,
	       uint64_t size, bool named)
{
	struct probe_func *fn;

	if (f->n == *room) {
		void *p;

		*room = *room ? *room * 2 : 256;
		p = reallocarray(f->func, *room, sizeof(*f->func));
		if (!p)
			return -ENOMEM;
		f->func = p;
	}
	fn = &f->func[f->n++];
	*fn = (struct probe_func){
		.name = name,
		.addr = addr,
		.size = size,
		.named = named,
		.unwind = cfi_find(&f->im->cfi, addr) != NULL,
	};
	return 0;
}

/* A symbol that says no size ends with its FDE, or where the next starts. */
static uint64_t guess_size(const struct image *im, size_t i)
{
	const struct cfi_fde *fde = cfi_find(&im->cfi, im->sym[i].addr);
	uint64_t addr = im->sym[i].addr;
	size_t avail;

	if (fde && fde->lo <= addr)
		return fde->hi - addr;
	for (size_t k = i + 1; k < im->nsym; k++)
		if (im->sym[k].func && im->sym[k].addr > addr)
			return im->sym[k].addr - addr;
	return image_code(im, addr, &avail) ? avail : 0;
}

static int by_addr(const void *a, const void *b)
{
	const struct probe_func *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int from_symbols(struct finder *f, size_t *room)
{
	const struct image *im = f->im;

	for (size_t i = 0; i < im->nsym; i++) {
		const struct image_symbol *s = &im->sym[i];
		const struct cfi_fde *fde;
		size_t avail;
		int ret;

		/* Aliases follow the name that was sorted first. */
		if (f->n && f->func[f->n - 1].addr == s->addr)
			continue;
		if (!image_code(im, s->addr, &avail) || is_part(im, s) ||
		    image_in_plt(im, s->addr))
			continue;
		if (!s->func) {
			/* A bare label is a function if unwind data starts
			 * at it: assembler without .type. */
			fde = cfi_find(&im->cfi, s->addr);
			if (!fde || fde->lo != s->addr)
				continue;
		}
		ret = add(f, room, s->name, s->addr,
			  s->size ? s->size : guess_size(im, i), true);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* What unwind data covers and no symbol names, as in stripped files. */
static int from_unwind(struct finder *f, size_t *room)
{
	const struct image *im = f->im;
	size_t symbols = f->n;
	struct unnamed u;
	int ret;

	ret = unnamed_open(&u, im);
	for (size_t i = 0; i < im->cfi.n && !ret; i++) {
		const struct cfi_fde *fde = &im->cfi.fde[i];
		struct finder named = { .func = f->func, .n = symbols };
		const struct image_symbol *part;
		size_t avail;
		char *name;

		if (finder_at(&named, fde->lo) || image_in_plt(im, fde->lo) ||
		    !image_code(im, fde->lo, &avail))
			continue;
		part = image_symbol_exact(im, fde->lo);
		if (part && is_part(im, part))
			continue;
		if (!unnamed_is_function(&u, im, fde))
			continue;
		if (asprintf(&name, "0x%lx", fde->lo) < 0)
			ret = -ENOMEM;
		else
			ret = add(f, room, name, fde->lo, fde->hi - fde->lo,
				  false);
		if (ret < 0)
			free(name);
	}
	unnamed_close(&u);
	return ret;
}

int finder_open(struct finder *f, const struct image *im, struct err *e)
{
	size_t room = 0;
	int ret;

	memset(f, 0, sizeof(*f));
	f->im = im;
	ret = from_symbols(f, &room);
	if (!ret)
		ret = from_unwind(f, &room);
	if (ret < 0) {
		finder_close(f);
		return err_sys(e, ret, "%s: functions", im->path);
	}
	if (f->n)
		qsort(f->func, f->n, sizeof(*f->func), by_addr);
	return 0;
}

void finder_close(struct finder *f)
{
	for (size_t i = 0; i < f->n; i++) {
		if (!f->func[i].named)
			free((char *)f->func[i].name);
		free(f->func[i].range);
		free(f->func[i].site);
	}
	free(f->func);
	memset(f, 0, sizeof(*f));
}

struct probe_func *finder_at(const struct finder *f, uint64_t addr)
{
	size_t lo = 0, hi = f->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (f->func[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* Functions may nest (a label inside another); the nearest wins. */
	for (unsigned int tries = 0; lo-- && tries < 8; tries++)
		if (addr - f->func[lo].addr < f->func[lo].size)
			return &f->func[lo];
	return NULL;
}

struct probe_func *finder_exact(const struct finder *f, uint64_t addr)
{
	struct probe_func *fn = finder_at(f, addr);

	return fn && fn->addr == addr ? fn : NULL;
}

bool finder_inside(const struct probe_func *fn, uint64_t addr)
{
	for (size_t i = 0; i < fn->nrange; i++)
		if (addr >= fn->range[i].lo && addr < fn->range[i].hi)
			return true;
	return false;
}
