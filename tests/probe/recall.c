/*
 * How many tail calls the finder sees, and how many it sees that are none,
 * by the compiler's own account: DW_TAG_call_site with DW_AT_call_tail_call.
 *
 * Counted are functions for which the compiler promises that all its calls
 * are described.  A site that is decided at each hit counts as found if it
 * is one, and as neither right nor wrong if it is none.
 *
 * usage: recall [-v] [-m MIN-PERCENT] FILE...
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/finder.h"

struct truth {
	uint64_t pc;
	bool after; /* pc is behind the jump, not at it */
	bool found;
};

struct count {
	struct truth *t;
	size_t n, room;
	struct {
		uint64_t lo, hi;
	} * fn;
	size_t nfn, fn_room;
};

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

static void add_call(struct count *c, Dwarf_Die *die)
{
	struct truth t = { .after = false };

	if (!flag(die, DW_AT_call_tail_call) && !flag(die, DW_AT_GNU_tail_call))
		return;
	if (!address(die, DW_AT_call_pc, &t.pc)) {
		t.after = true;
		if (!address(die, DW_AT_call_return_pc, &t.pc) &&
		    !address(die, DW_AT_low_pc, &t.pc))
			return;
	}
	if (c->n == c->room) {
		c->room = c->room ? c->room * 2 : 256;
		c->t = reallocarray(c->t, c->room, sizeof(*c->t));
		if (!c->t)
			exit(2);
	}
	c->t[c->n++] = t;
}

static void add_function(struct count *c, Dwarf_Die *die)
{
	Dwarf_Addr lo, hi, base;
	ptrdiff_t at = 0;

	if (!flag(die, DW_AT_call_all_calls) &&
	    !flag(die, DW_AT_call_all_tail_calls) &&
	    !flag(die, DW_AT_call_all_source_calls) &&
	    !flag(die, DW_AT_GNU_all_call_sites) &&
	    !flag(die, DW_AT_GNU_all_tail_call_sites))
		return;
	while ((at = dwarf_ranges(die, at, &base, &lo, &hi)) > 0) {
		if (c->nfn == c->fn_room) {
			c->fn_room = c->fn_room ? c->fn_room * 2 : 256;
			c->fn = reallocarray(c->fn, c->fn_room, sizeof(*c->fn));
			if (!c->fn)
				exit(2);
		}
		c->fn[c->nfn].lo = lo;
		c->fn[c->nfn++].hi = hi;
	}
}

static void walk(struct count *c, Dwarf_Die *die)
{
	Dwarf_Die child;

	switch (dwarf_tag(die)) {
	case DW_TAG_call_site:
	case DW_TAG_GNU_call_site: add_call(c, die); return;
	case DW_TAG_subprogram: add_function(c, die); break;
	default: break;
	}
	if (dwarf_child(die, &child))
		return;
	do
		walk(c, &child);
	while (!dwarf_siblingof(&child, &child));
}

static bool covered(const struct count *c, uint64_t addr)
{
	for (size_t i = 0; i < c->nfn; i++)
		if (addr >= c->fn[i].lo && addr < c->fn[i].hi)
			return true;
	return false;
}

static bool match(struct count *c, const struct probe_site *s)
{
	bool hit = false;

	for (size_t i = 0; i < c->n; i++) {
		uint64_t at = c->t[i].after ? s->addr + s->len : s->addr;

		if (c->t[i].pc == at)
			hit = c->t[i].found = true;
	}
	return hit;
}

static bool is_jump(const struct probe_site *s)
{
	return s->kind == SITE_TAIL || s->kind == SITE_TAIL_COND ||
	       s->kind == SITE_TAIL_IND || s->kind == SITE_RET_JMP;
}

static int one_file(const char *path, bool verbose, double least)
{
	size_t right = 0, wrong = 0, open = 0, found = 0, refused = 0;
	struct count c = { .t = NULL };
	Dwarf_Off off = 0, next;
	struct err e = { 0 };
	double recall, precision;
	struct image *im;
	struct finder f;
	size_t header;
	Dwarf *dw;
	int fd;

	fd = open64(path, O_RDONLY | O_CLOEXEC);
	dw = fd < 0 ? NULL : dwarf_begin(fd, DWARF_C_READ);
	if (!dw) {
		printf("%s: skipped, no debug information\n", path);
		return 0;
	}
	for (; !dwarf_nextcu(dw, off, &next, &header, NULL, NULL, NULL);
	     off = next) {
		Dwarf_Die die;

		if (dwarf_offdie(dw, off + header, &die))
			walk(&c, &die);
	}
	if (image_open(&im, path, &e) < 0 || finder_open(&f, im, &e) < 0) {
		printf("%s\n", e.text);
		return 1;
	}
	for (size_t i = 0; i < f.n; i++) {
		struct probe_func *fn = &f.func[i];

		if (finder_sites(&f, fn) < 0)
			return 1;
		for (size_t k = 0; k < fn->nsite; k++) {
			const struct probe_site *s = &fn->site[k];
			bool hit;

			if (!is_jump(s) || !covered(&c, s->addr))
				continue;
			hit = match(&c, s);
			if (s->verdict == SITE_REFUSED)
				refused++;
			else if (hit)
				right++;
			else if (s->verdict == SITE_RUNTIME ||
				 s->kind == SITE_RET_JMP)
				open++;
			else
				wrong++;
			if (verbose && !hit && s->kind != SITE_RET_JMP &&
			    s->verdict == SITE_PATCH)
				printf("  none: 0x%lx in %s\n", s->addr,
				       fn->name);
		}
	}
	for (size_t i = 0; i < c.n; i++) {
		found += c.t[i].found;
		if (verbose && !c.t[i].found)
			printf("  missed: 0x%lx\n", c.t[i].pc);
	}
	recall = c.n ? 100.0 * (double)found / (double)c.n : 100;
	precision = right + wrong
			    ? 100.0 * (double)right / (double)(right + wrong)
			    : 100;
	printf("%-28s %6zu tail calls, recall %6.2f %%, precision %6.2f %%"
	       " (%zu wrong), %zu left to the run, %zu refused\n",
	       strrchr(path, '/') ? strrchr(path, '/') + 1 : path, c.n, recall,
	       precision, wrong, open, refused);
	finder_close(&f);
	image_close(im);
	dwarf_end(dw);
	close(fd);
	free(c.t);
	free(c.fn);
	return recall < least || precision < least;
}

int main(int argc, char **argv)
{
	bool verbose = false;
	double least = 0;
	int opt, failed = 0;

	while ((opt = getopt(argc, argv, "vm:")) > 0) {
		if (opt == 'v')
			verbose = true;
		else if (opt == 'm')
			least = atof(optarg);
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		failed |= one_file(argv[i], verbose, least);
	return failed;
}
