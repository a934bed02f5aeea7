/*
 * A running kernel as an image: symbols from kallsyms, code from memory.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "probe/image_priv.h"

#define TEXT_MAX    (256ul << 20)
#define MODULES_MAX 1024
/* Behind the start of a module's last function, whose end nobody says. */
#define MODULE_TAIL (4 * PAGE_SIZE)

/* While symbols are being read; modules' code is found by their functions. */
struct reading {
	struct image *im;
	struct {
		const char *name;
		uint64_t lo, hi;
	} mod[MODULES_MAX];
	size_t nmods, last;
	uint64_t slide;
};

static void note_module(struct reading *r, const char *name, uint64_t addr)
{
	size_t i = r->last;

	if (i >= r->nmods || strcmp(r->mod[i].name, name))
		for (i = 0; i < r->nmods; i++)
			if (!strcmp(r->mod[i].name, name))
				break;
	if (i == MODULES_MAX)
		return;
	if (i == r->nmods) {
		r->mod[i].name = name;
		r->mod[i].lo = r->mod[i].hi = addr;
		r->nmods++;
	}
	r->mod[i].lo = MIN(r->mod[i].lo, addr);
	r->mod[i].hi = MAX(r->mod[i].hi, addr);
	r->last = i;
}

/* Code that has no fixed place, or is no module's. */
static bool no_module(const char *name)
{
	return !strncmp(name, "bpf", 3) || !strncmp(name, "__builtin__", 11);
}

/* "ffffffff81000000 T _stext"; a module's line has "\t[module]" behind. */
static bool parse_line(struct reading *r, char *line, struct image_symbol *s)
{
	char *end, *name, *mod, *close = NULL;

	s->addr = strtoull(line, &end, 16);
	if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ')
		return false;
	name = end + 3;
	mod = strpbrk(name, "\t [");
	if (mod) {
		*mod++ = '\0';
		mod = strchr(mod, '[') ? strchr(mod, '[') + 1 : mod;
		close = strchr(mod, ']');
		if (!close || r->slide)
			return false;
		*close = '\0';
	}
	s->name = name;
	s->size = 0;
	s->bind = end[1] == 'T'	  ? STB_GLOBAL
		  : end[1] == 't' ? STB_LOCAL
				  : STB_WEAK;
	s->func = strchr("tTwW", end[1]) != NULL;
	s->ifunc = false;
	if (!s->addr || !*name || (mod && no_module(mod)))
		return false;
	s->addr += r->slide;
	if (mod && s->func)
		note_module(r, mod, s->addr);
	return true;
}

static int by_addr(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)y->bind - (int)x->bind;
}

static int read_symbols(struct reading *r, const char *kallsyms)
{
	struct image *im = r->im;
	size_t lines = 1;
	char *save = NULL;

	im->names = strdup(kallsyms);
	if (!im->names)
		return -ENOMEM;
	for (const char *p = kallsyms; (p = strchr(p, '\n')); p++)
		lines++;
	im->sym = calloc(lines, sizeof(*im->sym));
	if (!im->sym)
		return -ENOMEM;
	for (char *l = strtok_r(im->names, "\n", &save); l;
	     l = strtok_r(NULL, "\n", &save))
		if (parse_line(r, l, &im->sym[im->nsym]))
			im->nsym++;
	return image_index_names(im);
}

static const struct image_segment *segment_of(const struct image *im,
					      uint64_t addr)
{
	for (size_t i = 0; i < im->nseg; i++)
		if (addr - im->seg[i].addr < im->seg[i].memsz)
			return &im->seg[i];
	return NULL;
}

/* Keep what is in the text; a function ends where the next begins. */
static void tidy(struct image *im)
{
	size_t n = 0;

	for (size_t i = 0; i < im->nsym; i++)
		if (im->sym[i].func && segment_of(im, im->sym[i].addr))
			im->sym[n++] = im->sym[i];
	im->nsym = n;
	if (n)
		qsort(im->sym, n, sizeof(*im->sym), by_addr);
	for (size_t i = n; i--;) {
		const struct image_segment *s = segment_of(im, im->sym[i].addr);
		uint64_t hi = s->addr + s->memsz;
		size_t next = i + 1;

		while (next < n && im->sym[next].addr == im->sym[i].addr)
			next++;
		if (next < n)
			hi = MIN(hi, im->sym[next].addr);
		im->sym[i].size = hi - im->sym[i].addr;
	}
}

static void add_segment(struct image *im, uint64_t lo, uint64_t hi,
			const char *name)
{
	im->seg[im->nseg++] = (struct image_segment){ .addr = lo,
						      .filesz = hi - lo,
						      .memsz = hi - lo,
						      .offset = im->map_size,
						      .exec = true,
						      .name = name };
	im->map_size += hi - lo;
}

static int find_segments(struct reading *r, struct err *e)
{
	const struct image_symbol *lo, *hi;
	struct image *im = r->im;

	im->seg = calloc(r->nmods + 1, sizeof(*im->seg));
	if (!im->seg)
		return -ENOMEM;
	lo = image_symbol_named(im, "_stext");
	hi = image_symbol_named(im, "_etext");
	if (!lo || !hi || hi->addr <= lo->addr ||
	    hi->addr - lo->addr > TEXT_MAX)
		return err_set(e, -EINVAL,
			       "no kernel text (_stext, _etext) in these "
			       "symbols: is this a System.map, a vmlinux, or "
			       "/proc/kallsyms, read by the guest's root?");
	add_segment(im, lo->addr, hi->addr, "kernel");
	for (size_t i = 0; i < r->nmods; i++) {
		uint64_t from = ALIGN_DOWN(r->mod[i].lo, PAGE_SIZE);
		uint64_t to =
			ALIGN_UP(r->mod[i].hi + 1, PAGE_SIZE) + MODULE_TAIL;

		for (size_t k = 0; k < r->nmods; k++)
			if (r->mod[k].lo > r->mod[i].hi)
				to = MIN(to,
					 ALIGN_DOWN(r->mod[k].lo, PAGE_SIZE));
		if (to <= from || to - from > TEXT_MAX ||
		    im->map_size + (to - from) > TEXT_MAX)
			continue;
		add_segment(im, from, to, r->mod[i].name);
	}
	return 0;
}

int image_of_kernel(struct image **out, const char *kallsyms, uint64_t slide,
		    int (*read)(void *opaque, uint64_t addr, void *buf,
				size_t len),
		    void *opaque, struct err *e)
{
	struct image *im = calloc(1, sizeof(*im));
	struct reading *r = calloc(1, sizeof(*r));
	int ret = -ENOMEM;
	uint8_t *code;

	if (!im || !r)
		goto close;
	im->kernel = true;
	r->im = im;
	r->slide = slide;
	im->path = strdup("kernel");
	if (!im->path)
		goto close;
	ret = read_symbols(r, kallsyms);
	if (!ret)
		ret = find_segments(r, e);
	if (ret < 0) {
		im->map_size = 0;
		goto close;
	}
	code = mmap(NULL, im->map_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED) {
		im->map_size = 0;
		ret = -ENOMEM;
		goto close;
	}
	im->map = code;
	for (size_t i = 0; i < im->nseg; i++) {
		const struct image_segment *s = &im->seg[i];

		ret = read(opaque, s->addr, code + s->offset, s->filesz);
		if (ret < 0) {
			err_sys(e, ret, "the kernel's code at 0x%lx", s->addr);
			goto close;
		}
	}
	tidy(im);
	ret = image_index_names(im);
	if (ret < 0)
		goto close;
	free(r);
	*out = im;
	return 0;

close:
	free(r);
	image_close(im);
	return ret;
}
