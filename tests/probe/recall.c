/*
 * How many tail calls the finder sees, how many it sees that are none, and
 * what it misses and why, by the compiler's own account.
 *
 * Judged are functions for which the compiler promises that all tail calls
 * are described.  A site that is decided at each hit counts as found if it is
 * a tail call, and as neither right nor wrong if it is none.  Debug
 * information may be in the file, in another that is named, or, by build id,
 * below a folder of separate debug files.  gcc's is complete; clang leaves out
 * calls of functions it has no debug information of, which then count as
 * wrong.
 *
 * usage: recall [-v] [-k | -s] [-m MIN-PERCENT] [-d DEBUG-FOLDER]
 *	         FILE[=DEBUG]...
 *	-k	FILE is a vmlinux: as a guest's kernel is seen, by its kallsyms
 *	-s	without the debug file's symbols, as in a stripped program
 *	-v	each wrong and each missed one
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/finder.h"
#include "probe/insn.h"
#include "truth.h"

/* Why a tail call was not found. */
enum miss {
	MISS_NO_FUNCTION, /* in no function known to the finder */
	MISS_REFUSED,	  /* found and refused; the reason is counted apart */
	MISS_OPEN,	  /* unwind data says that a frame is open */
	MISS_INDIRECT,	  /* jmp * taken for a switch */
	MISS_INSIDE,	  /* leads to bytes taken for the function's own */
	MISS_OTHER,	  /* not reached */
	MISSES
};

static const char *const miss_names[MISSES] = {
	[MISS_NO_FUNCTION] = "in no known function",
	[MISS_REFUSED] = "refused",
	[MISS_OPEN] = "unwind data says a frame is open",
	[MISS_INDIRECT] = "taken for a switch",
	[MISS_INSIDE] = "leads to bytes taken for the function's own",
	[MISS_OTHER] = "not reached",
};

struct tally {
	size_t functions, unknown;  /* found; described but not found */
	size_t returns, tails, run; /* sites: certain jumps, run's jumps */
	size_t right, wrong, open, other; /* other: not judged */
	size_t outside; /* calls where a guest shows no code: .init.text */
	size_t missed[MISSES];
	size_t refused[WHYS];
};

static bool verbose, no_symbols, as_guest;
static const char *debug_root;

static bool is_jump(const struct probe_site *s)
{
	return s->kind == SITE_TAIL || s->kind == SITE_TAIL_COND ||
	       s->kind == SITE_TAIL_IND;
}

static bool is_return(const struct probe_site *s)
{
	return s->kind == SITE_RET || s->kind == SITE_RET_JMP;
}

/*
 * What counts as part of the jump before it: -mharden-sls puts an int3
 * there, and a linker that makes "jmp *x@GOTPCREL" direct, a nop.
 */
static bool is_filler(const struct image *im, uint64_t addr)
{
	size_t avail;
	const uint8_t *p = image_code(im, addr, &avail);

	return p && (*p == 0xcc || *p == 0x90);
}

static void judge(struct tally *n, const struct image *im,
		  const struct truth *t, const struct probe_func *fn,
		  const struct probe_site *s)
{
	struct truth_call *c = truth_at(t, s->addr, s->len);

	if (!c && is_filler(im, s->addr + s->len))
		c = truth_at(t, s->addr, s->len + 1u);

	if (s->verdict == SITE_REFUSED) {
		n->refused[s->why]++;
		if (verbose)
			printf("  refused: 0x%lx in %s: %s\n", s->addr,
			       fn->name, site_why(s->why));
		return;
	}
	if (is_return(s)) {
		n->returns++;
		return;
	}
	if (!is_jump(s))
		return;
	if (s->verdict == SITE_RUNTIME)
		n->run++;
	else
		n->tails++;
	if (c) {
		/* A site two functions share is one tail call. */
		n->right += !c->found;
		c->found = true;
	} else if (!truth_covers(t, s->addr)) {
		n->other++;
	} else if (s->verdict == SITE_RUNTIME) {
		n->open++;
	} else {
		n->wrong++;
		if (verbose)
			printf("  none: 0x%lx in %s\n", s->addr, fn->name);
	}
}

/* The jump that ends before pc: its bytes tell how long it is. */
static uint64_t jump_before(const struct image *im, uint64_t pc,
			    struct insn *in)
{
	static const uint8_t lens[] = { 5, 6, 2, 3, 7, 4, 8, 9 };

	pc -= is_filler(im, pc - 1);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		size_t avail;
		const uint8_t *p = image_code(im, pc - lens[i], &avail);

		if (p && !insn_decode(in, p, lens[i], pc - lens[i]) &&
		    in->len == lens[i] &&
		    (in->kind == INSN_JMP || in->kind == INSN_JCC ||
		     in->kind == INSN_JMP_IND))
			return pc - lens[i];
	}
	return pc - 1;
}

static enum miss why_missed(const struct finder *f, const struct truth_call *c)
{
	struct insn in = { .kind = INSN_OTHER };
	uint64_t at = c->pc;
	struct probe_func *fn;
	struct cfi_row row;
	const uint8_t *p;
	size_t avail;

	if (c->after)
		at = jump_before(f->im, at, &in);
	else if ((p = image_code(f->im, at, &avail)))
		(void)insn_decode(&in, p, avail, at);
	for (size_t i = 0; i < f->n; i++)
		for (size_t k = 0; k < f->func[i].nsite; k++)
			if (f->func[i].site[k].addr == at &&
			    is_jump(&f->func[i].site[k]))
				return MISS_REFUSED;
	fn = finder_at(f, at);
	for (size_t i = 0; !fn && i < f->n; i++)
		if (finder_inside(&f->func[i], at))
			fn = &f->func[i];
	if (!fn)
		return MISS_NO_FUNCTION;
	cfi_row(&f->im->cfi, at, &row);
	if (row.kind != CFA_UNKNOWN && !cfi_at_entry_sp(&row))
		return MISS_OPEN;
	if (in.kind == INSN_JMP_IND)
		return MISS_INDIRECT;
	if (in.kind == INSN_JMP || in.kind == INSN_JCC)
		if (finder_inside(fn, in.target))
			return MISS_INSIDE;
	return MISS_OTHER;
}

static int read_code(void *opaque, uint64_t addr, void *buf, size_t len)
{
	const struct image *im = opaque;

	while (len) {
		size_t avail;
		const uint8_t *p = image_code(im, addr, &avail);

		/* Between its segments a kernel has what it has. */
		avail = p ? MIN(avail, len) : 1;
		if (p)
			memcpy(buf, p, avail);
		else
			memset(buf, 0xcc, avail);
		buf = (uint8_t *)buf + avail;
		addr += avail;
		len -= avail;
	}
	return 0;
}

/* The same kernel as image_of_kernel() makes it of what a guest shows. */
static int as_guest_kernel(struct image **im, struct err *e)
{
	struct image *file = *im;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	int ret;

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < file->nsym; i++) {
		const struct image_symbol *s = &file->sym[i];
		bool global = s->bind == STB_GLOBAL;
		size_t avail;

		if (image_code(file, s->addr, &avail))
			fprintf(f, "%lx %c %s\n", s->addr, global ? 'T' : 't',
				s->name);
		else if (!strcmp(s->name, "_stext") ||
			 !strcmp(s->name, "_etext"))
			fprintf(f, "%lx T %s\n", s->addr, s->name);
	}
	fclose(f);
	ret = image_of_kernel(im, text, 0, read_code, file, e);
	free(text);
	if (ret < 0)
		*im = NULL;
	image_close(file);
	return ret;
}

static double percent(size_t part, size_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 100;
}

static void print_reasons(const struct tally *n)
{
	for (int i = 0; i < MISSES; i++)
		if (n->missed[i])
			printf("%26s missed %zu: %s\n", "", n->missed[i],
			       miss_names[i]);
	for (int i = 0; i < WHYS; i++)
		if (n->refused[i])
			printf("%26s refused %zu: %s\n", "", n->refused[i],
			       site_why((enum site_why)i));
}

static void header(void)
{
	printf("%-24s %7s %7s %7s %6s %6s %6s %5s %5s %6s %8s %8s\n", "",
	       "funcs", "unknown", "returns", "tails", "to run", "calls",
	       "wrong", "open", "missed", "recall", "precis.");
}

static int count_file(struct tally *n, const struct finder *f, struct truth *t)
{
	size_t avail;

	for (size_t i = 0; i < f->n; i++) {
		struct probe_func *fn = &f->func[i];

		if (finder_sites(f, fn) < 0)
			return -ENOMEM;
		for (size_t k = 0; k < fn->nsite; k++)
			judge(n, f->im, t, fn, &fn->site[k]);
	}
	n->functions = f->n;
	for (size_t i = 0; i < t->nentry; i++)
		n->unknown += image_code(f->im, t->entry[i], &avail) &&
			      !finder_exact(f, t->entry[i]);
	for (size_t i = 0; i < t->ncall; i++) {
		enum miss why;

		if (t->call[i].found)
			continue;
		if (as_guest && !image_code(f->im, t->call[i].pc, &avail)) {
			n->outside++;
			continue;
		}
		why = why_missed(f, &t->call[i]);
		n->missed[why]++;
		if (verbose)
			printf("  missed: 0x%lx%s, %s\n", t->call[i].pc,
			       t->call[i].after ? " (behind it)" : "",
			       miss_names[why]);
	}
	return 0;
}

static int one_file(char *path, double least)
{
	char debug[4096], *given = strchr(path, '=');
	struct tally n = { 0 };
	size_t calls;
	struct err e = { 0 };
	struct truth t = { 0 };
	struct image *im;
	struct finder f;
	double recall, precision;
	const char *name;
	int ret;

	if (given)
		*given++ = '\0';
	name = strrchr(path, '/');
	if (image_open(&im, path, &e) < 0) {
		printf("%s\n", e.text);
		return 1;
	}
	snprintf(debug, sizeof(debug), "%s", given ? given : path);
	if (!given && !im->has_debug &&
	    image_debug_file(im, debug_root, debug, sizeof(debug)) < 0) {
		printf("%-24s skipped: no debug information\n", path);
		image_close(im);
		return 0;
	}
	ret = truth_open(&t, debug, &e);
	if (!ret && !im->has_debug && !no_symbols && !given)
		ret = image_add_symbols(im, debug, &e);
	if (!ret && as_guest)
		ret = as_guest_kernel(&im, &e);
	if (!ret)
		ret = finder_open(&f, im, &e);
	if (!ret) {
		ret = count_file(&n, &f, &t);
		finder_close(&f);
	}
	image_close(im);
	if (ret < 0) {
		printf("%s\n", err_text(&e, ret));
		truth_close(&t);
		return 1;
	}
	calls = t.ncall - n.outside;
	recall = percent(n.right, calls);
	precision = percent(n.right, n.right + n.wrong);
	printf("%-24.24s %7zu %7zu %7zu %6zu %6zu %6zu %5zu %5zu %6zu %7.2f%%"
	       " %7.2f%%\n",
	       name ? name + 1 : path, n.functions, n.unknown, n.returns,
	       n.tails, n.run, calls, n.wrong, n.open, calls - n.right, recall,
	       precision);
	print_reasons(&n);
	truth_close(&t);
	return recall < least || precision < least;
}

int main(int argc, char **argv)
{
	double least = 0;
	int opt, failed = 0;

	while ((opt = getopt(argc, argv, "kvsm:d:")) > 0) {
		switch (opt) {
		case 'v': verbose = true; break;
		case 'k': as_guest = true; break;
		case 's': no_symbols = true; break;
		case 'm': least = atof(optarg); break;
		case 'd': debug_root = optarg; break;
		default: return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	header();
	for (int i = optind; i < argc; i++)
		failed |= one_file(argv[i], least);
	return failed;
}
