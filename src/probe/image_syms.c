/*
 * An image's symbols: its own, those of a separate debug file, and how one is
 * found.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/image_priv.h"

#define DEBUG_ROOT   "/usr/lib/debug"
#define BUILD_ID_MAX 64

static int by_addr(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	/* Functions before labels, then those with a size, then the public
	 * name before an alias. */
	if (x->func != y->func)
		return x->func ? -1 : 1;
	if (!x->size != !y->size)
		return x->size ? -1 : 1;
	if (x->bind != y->bind)
		return x->bind == STB_GLOBAL   ? -1
		       : y->bind == STB_GLOBAL ? 1
					       : x->bind - y->bind;
	return strcmp(x->name, y->name);
}

static int add_symbols(struct image *im, Elf *elf, Elf_Scn *scn,
		       const GElf_Shdr *sh)
{
	Elf_Data *d = elf_getdata(scn, NULL);
	size_t n = sh->sh_entsize ? sh->sh_size / sh->sh_entsize : 0;
	void *p;

	if (!d || !n)
		return 0;
	p = reallocarray(im->sym, im->nsym + n, sizeof(*im->sym));
	if (!p)
		return -ENOMEM;
	im->sym = p;
	for (size_t i = 0; i < n; i++) {
		const char *name;
		GElf_Sym s;
		int type;

		if (!gelf_getsym(d, (int)i, &s) || s.st_shndx == SHN_UNDEF)
			continue;
		type = GELF_ST_TYPE(s.st_info);
		if (type != STT_FUNC && type != STT_GNU_IFUNC &&
		    type != STT_NOTYPE)
			continue;
		if (s.st_shndx >= SHN_LORESERVE && s.st_shndx != SHN_XINDEX)
			continue;
		name = elf_strptr(elf, sh->sh_link, s.st_name);
		if (!name || !*name || !s.st_value)
			continue;
		im->sym[im->nsym++] = (struct image_symbol){
			.name = name,
			.addr = s.st_value,
			.size = s.st_size,
			.bind = GELF_ST_BIND(s.st_info),
			.func = type != STT_NOTYPE,
			.ifunc = type == STT_GNU_IFUNC,
		};
	}
	return 0;
}

/* The same symbol stands in .symtab and .dynsym: keep one. */
static int tidy_symbols(struct image *im)
{
	size_t n = 0;

	if (!im->nsym)
		return 0;
	qsort(im->sym, im->nsym, sizeof(*im->sym), by_addr);
	for (size_t i = 0; i < im->nsym; i++) {
		if (n && im->sym[n - 1].addr == im->sym[i].addr &&
		    !strcmp(im->sym[n - 1].name, im->sym[i].name))
			continue;
		im->sym[n++] = im->sym[i];
	}
	im->nsym = n;
	return image_index_names(im);
}

/* Of one name the lowest address first, as in the table itself. */
static int by_name(const void *a, const void *b, void *opaque)
{
	const struct image_symbol *sym = opaque;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int ret = strcmp(sym[x].name, sym[y].name);

	return ret ? ret : x < y ? -1 : x > y;
}

int image_index_names(struct image *im)
{
	uint32_t *p;

	if (!im->nsym)
		return 0;
	p = reallocarray(im->by_name, im->nsym, sizeof(*p));
	if (!p)
		return -ENOMEM;
	im->by_name = p;
	for (size_t i = 0; i < im->nsym; i++)
		p[i] = (uint32_t)i;
	qsort_r(p, im->nsym, sizeof(*p), by_name, im->sym);
	return 0;
}

int image_read_symbols(struct image *im, Elf *elf)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	int ret;

	while ((scn = elf_nextscn(elf, scn))) {
		if (!gelf_getshdr(scn, &sh) ||
		    (sh.sh_type != SHT_SYMTAB && sh.sh_type != SHT_DYNSYM))
			continue;
		ret = add_symbols(im, elf, scn, &sh);
		if (ret < 0)
			return ret;
	}
	return tidy_symbols(im);
}

/* Index of the first symbol above addr. */
static size_t upper(const struct image *im, uint64_t addr)
{
	size_t lo = 0, hi = im->nsym;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (im->sym[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct image_symbol *image_symbol_exact(const struct image *im,
					      uint64_t addr)
{
	const struct image_symbol *best = NULL;

	for (size_t i = upper(im, addr); i-- && im->sym[i].addr == addr;)
		best = &im->sym[i];
	return best;
}

const struct image_symbol *image_symbol_at(const struct image *im,
					   uint64_t addr)
{
	size_t i = upper(im, addr);

	while (i--) {
		const struct image_symbol *s = &im->sym[i];

		if (!s->func)
			continue;
		if (addr - s->addr < MAX(s->size, 1ul))
			return image_symbol_exact(im, s->addr);
		if (s->size)
			return NULL;
	}
	return NULL;
}

/* Position in by_name of the first of that name, or nsym. */
static size_t first_named(const struct image *im, const char *name)
{
	size_t lo = 0, hi = im->nsym;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (strcmp(im->sym[im->by_name[mid]].name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool is_named(const struct image *im, size_t i, const char *name)
{
	return i < im->nsym && !strcmp(im->sym[im->by_name[i]].name, name);
}

const struct image_symbol *image_symbol_named(const struct image *im,
					      const char *name)
{
	size_t i = first_named(im, name);

	return is_named(im, i, name) ? &im->sym[im->by_name[i]] : NULL;
}

const struct image_symbol *image_symbol_only(const struct image *im,
					     const char *name)
{
	size_t i = first_named(im, name);

	return is_named(im, i, name) && !is_named(im, i + 1, name)
		       ? &im->sym[im->by_name[i]]
		       : NULL;
}

/* The build id's bytes, from whichever note section has them; 0: none. */
static size_t build_id(Elf *elf, uint8_t out[BUILD_ID_MAX])
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;

	while ((scn = elf_nextscn(elf, scn))) {
		size_t at = 0, next, name, desc;
		GElf_Nhdr nh;
		Elf_Data *d;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_NOTE)
			continue;
		d = elf_getdata(scn, NULL);
		while (d && (next = gelf_getnote(d, at, &nh, &name, &desc))) {
			if (nh.n_type == NT_GNU_BUILD_ID && nh.n_namesz == 4 &&
			    !memcmp((char *)d->d_buf + name, "GNU", 4) &&
			    nh.n_descsz > 1 && nh.n_descsz <= BUILD_ID_MAX) {
				memcpy(out, (char *)d->d_buf + desc,
				       nh.n_descsz);
				return nh.n_descsz;
			}
			at = next;
		}
	}
	return 0;
}

int image_debug_file(const struct image *im, const char *root, char *path,
		     size_t size)
{
	const char *roots[] = { root, DEBUG_ROOT };
	uint8_t id[BUILD_ID_MAX];
	char hex[2 * BUILD_ID_MAX + 1];
	size_t n = im->elf ? build_id(im->elf->e, id) : 0;

	if (!n)
		return -ENOENT;
	for (size_t i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		if (!roots[i])
			continue;
		snprintf(path, size, "%s/.build-id/%.2s/%s.debug", roots[i],
			 hex, hex + 2);
		if (!access(path, R_OK))
			return 0;
	}
	return -ENOENT;
}

int image_add_symbols(struct image *im, const char *path, struct err *e)
{
	uint8_t ours[BUILD_ID_MAX], theirs[BUILD_ID_MAX];
	struct elf *elf = im->elf;
	size_t n;

	if (!elf || elf->debug)
		return -EALREADY;
	elf->debug_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (elf->debug_fd < 0)
		return err_sys(e, -errno, "%s", path);
	elf->debug = elf_begin(elf->debug_fd, ELF_C_READ_MMAP, NULL);
	n = elf->debug ? build_id(elf->debug, theirs) : 0;
	if (!n || n != build_id(elf->e, ours) || memcmp(ours, theirs, n))
		return err_set(e, -ESTALE,
			       "%s: not the debug file of %s: their build ids"
			       " differ",
			       path, im->path);
	return image_read_symbols(im, elf->debug);
}
