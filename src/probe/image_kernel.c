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

#define TEXT_MAX (256ul << 20)

/* "ffffffff81000000 T _stext"; a module's line has a fourth word. */
static bool parse_line(char *line, struct image_symbol *s)
{
	char *end, *name;

	s->addr = strtoull(line, &end, 16);
	if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ')
		return false;
	name = end + 3;
	if (strpbrk(name, "\t ["))
		return false;
	s->name = name;
	s->size = 0;
	s->bind = end[1] == 'T'	  ? STB_GLOBAL
		  : end[1] == 't' ? STB_LOCAL
				  : STB_WEAK;
	s->func = strchr("tTwW", end[1]) != NULL;
	s->ifunc = false;
	return s->addr && *name;
}

static int by_addr(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)y->bind - (int)x->bind;
}

static int read_symbols(struct image *im, const char *kallsyms)
{
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
		if (parse_line(l, &im->sym[im->nsym]))
			im->nsym++;
	return image_index_names(im);
}

/* Keep what is in the text; a function ends where the next begins. */
static void tidy(struct image *im, uint64_t lo, uint64_t hi)
{
	size_t n = 0;

	for (size_t i = 0; i < im->nsym; i++)
		if (im->sym[i].func && im->sym[i].addr >= lo &&
		    im->sym[i].addr < hi)
			im->sym[n++] = im->sym[i];
	im->nsym = n;
	if (n)
		qsort(im->sym, n, sizeof(*im->sym), by_addr);
	for (size_t i = n; i--;) {
		size_t next = i + 1;

		while (next < n && im->sym[next].addr == im->sym[i].addr)
			next++;
		im->sym[i].size =
			(next < n ? im->sym[next].addr : hi) - im->sym[i].addr;
	}
}

int image_of_kernel(struct image **out, const char *kallsyms,
		    int (*read)(void *opaque, uint64_t addr, void *buf,
				size_t len),
		    void *opaque, struct err *e)
{
	struct image *im = calloc(1, sizeof(*im));
	const struct image_symbol *lo, *hi;
	int ret = -ENOMEM;
	void *code;

	if (!im)
		return -ENOMEM;
	im->kernel = true;
	im->path = strdup("kernel");
	im->seg = calloc(1, sizeof(*im->seg));
	if (!im->path || !im->seg)
		goto close;
	ret = read_symbols(im, kallsyms);
	if (ret < 0)
		goto close;
	lo = image_symbol_named(im, "_stext");
	hi = image_symbol_named(im, "_etext");
	if (!lo || !hi || hi->addr <= lo->addr ||
	    hi->addr - lo->addr > TEXT_MAX) {
		ret = err_set(e, -EINVAL,
			      "no kernel text in these symbols: is this"
			      " /proc/kallsyms, read by root?");
		goto close;
	}
	im->seg[0] = (struct image_segment){ .addr = lo->addr,
					     .filesz = hi->addr - lo->addr,
					     .memsz = hi->addr - lo->addr,
					     .exec = true };
	code = mmap(NULL, im->seg[0].filesz, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED) {
		ret = -ENOMEM;
		goto close;
	}
	im->map = code;
	im->map_size = im->seg[0].filesz;
	im->nseg = 1;
	ret = read(opaque, im->seg[0].addr, code, im->map_size);
	if (ret < 0) {
		err_sys(e, ret, "the kernel's code at 0x%lx", im->seg[0].addr);
		goto close;
	}
	tidy(im, im->seg[0].addr, im->seg[0].addr + im->map_size);
	ret = image_index_names(im);
	if (ret < 0)
		goto close;
	*out = im;
	return 0;

close:
	image_close(im);
	return ret;
}
