#include "truth.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

struct reading {
	struct truth *t;
	size_t call_room, range_room, entry_room;
	int err;
};

/* Room for one more of an array of n. */
static bool more(struct reading *r, void *array, size_t n, size_t *room,
		 size_t size)
{
	void **p = array, *bigger;

	if (n < *room)
		return true;
	*room = *room ? *room * 2 : 256;
	bigger = reallocarray(*p, *room, size);
	if (!bigger) {
		r->err = -ENOMEM;
		return false;
	}
	*p = bigger;
	return true;
}

static bool flag(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute at;
	bool yes = false;

	return dwarf_attr(die, name, &at) && !dwarf_formflag(&at, &yes) && yes;
}

static bool address(Dwarf_Die *die, unsigned int name, uint64_t *out)
{
	Dwarf_Attribute at;
	Dwarf_Addr a;

	if (!dwarf_attr(die, name, &at) || dwarf_formaddr(&at, &a))
		return false;
	*out = a;
	return true;
}

static void add_call(struct reading *r, Dwarf_Die *die)
{
	struct truth_call c = { .after = false };
	struct truth *t = r->t;

	if (!flag(die, DW_AT_call_tail_call) && !flag(die, DW_AT_GNU_tail_call))
		return;
	if (!address(die, DW_AT_call_pc, &c.pc)) {
		c.after = true;
		if (!address(die, DW_AT_call_return_pc, &c.pc) &&
		    !address(die, DW_AT_low_pc, &c.pc))
			return;
	}
	if (more(r, &t->call, t->ncall, &r->call_room, sizeof(*t->call)))
		t->call[t->ncall++] = c;
}

static void add_function(struct reading *r, Dwarf_Die *die)
{
	struct truth *t = r->t;
	Dwarf_Addr lo, hi, base;
	ptrdiff_t at = 0;
	uint64_t entry;

	if (!dwarf_entrypc(die, &entry) && entry &&
	    more(r, &t->entry, t->nentry, &r->entry_room, sizeof(*t->entry)))
		t->entry[t->nentry++] = entry;
	if (!flag(die, DW_AT_call_all_calls) &&
	    !flag(die, DW_AT_call_all_tail_calls) &&
	    !flag(die, DW_AT_call_all_source_calls) &&
	    !flag(die, DW_AT_GNU_all_call_sites) &&
	    !flag(die, DW_AT_GNU_all_tail_call_sites))
		return;
	while ((at = dwarf_ranges(die, at, &base, &lo, &hi)) > 0)
		if (lo < hi && more(r, &t->range, t->nrange, &r->range_room,
				    sizeof(*t->range)))
			t->range[t->nrange++] = (struct probe_range){ lo, hi };
}

static void walk(struct reading *r, Dwarf_Die *die)
{
	Dwarf_Die child;

	switch (dwarf_tag(die)) {
	case DW_TAG_call_site:
	case DW_TAG_GNU_call_site: add_call(r, die); return;
	case DW_TAG_subprogram: add_function(r, die); break;
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_enumeration_type: return;
	default: break;
	}
	if (dwarf_child(die, &child))
		return;
	do
		walk(r, &child);
	while (!r->err && !dwarf_siblingof(&child, &child));
}

static int by_call(const void *a, const void *b)
{
	const struct truth_call *x = a, *y = b;

	if (x->after != y->after)
		return x->after - y->after;
	return x->pc < y->pc ? -1 : x->pc > y->pc;
}

static int by_range(const void *a, const void *b)
{
	const struct probe_range *x = a, *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void sort(struct truth *t)
{
	size_t n = 0;

	if (t->ncall)
		qsort(t->call, t->ncall, sizeof(*t->call), by_call);
	for (size_t i = 0; i < t->ncall; i++)
		if (!n || by_call(&t->call[n - 1], &t->call[i]))
			t->call[n++] = t->call[i];
	t->ncall = n;
	n = 0;
	if (t->nrange)
		qsort(t->range, t->nrange, sizeof(*t->range), by_range);
	for (size_t i = 0; i < t->nrange; i++) {
		if (n && t->range[i].lo <= t->range[n - 1].hi)
			t->range[n - 1].hi =
				MAX(t->range[n - 1].hi, t->range[i].hi);
		else
			t->range[n++] = t->range[i];
	}
	t->nrange = n;
	n = 0;
	if (t->nentry)
		qsort(t->entry, t->nentry, sizeof(*t->entry), by_number);
	for (size_t i = 0; i < t->nentry; i++)
		if (!n || t->entry[n - 1] != t->entry[i])
			t->entry[n++] = t->entry[i];
	t->nentry = n;
}

int truth_open(struct truth *t, const char *path, struct err *e)
{
	struct reading r = { .t = t };
	Dwarf_Off off = 0, next;
	size_t header;
	Dwarf *dw;
	int fd;

	memset(t, 0, sizeof(*t));
	fd = open64(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	dw = dwarf_begin(fd, DWARF_C_READ);
	for (; dw && !r.err &&
	       !dwarf_nextcu(dw, off, &next, &header, NULL, NULL, NULL);
	     off = next) {
		Dwarf_Die die;

		if (dwarf_offdie(dw, off + header, &die))
			walk(&r, &die);
	}
	if (dw)
		dwarf_end(dw);
	close(fd);
	sort(t);
	if (!r.err && !t->nrange)
		r.err = err_set(e, -ENODATA, "%s: no call sites described",
				path);
	if (r.err)
		truth_close(t);
	return r.err;
}

void truth_close(struct truth *t)
{
	free(t->call);
	free(t->range);
	free(t->entry);
	memset(t, 0, sizeof(*t));
}

bool truth_covers(const struct truth *t, uint64_t addr)
{
	size_t lo = 0, hi = t->nrange;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->range[mid].lo <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && addr < t->range[lo - 1].hi;
}

struct truth_call *truth_at(const struct truth *t, uint64_t addr, size_t len)
{
	struct truth_call at = { .pc = addr },
			  behind = { .pc = addr + len, .after = true };
	struct truth_call *c;

	if (!t->ncall)
		return NULL;
	c = bsearch(&at, t->call, t->ncall, sizeof(at), by_call);
	return c ? c : bsearch(&behind, t->call, t->ncall, sizeof(at), by_call);
}
