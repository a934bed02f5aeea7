#include "probe/image.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/image_priv.h"

static int read_segments(struct image *im, struct err *e)
{
	size_t n;

	if (elf_getphdrnum(im->elf->e, &n) < 0)
		return err_set(e, -ENOEXEC, "%s: no program headers: %s",
			       im->path, elf_errmsg(-1));
	im->seg = calloc(n ? n : 1, sizeof(*im->seg));
	if (!im->seg)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr ph;

		if (!gelf_getphdr(im->elf->e, (int)i, &ph))
			continue;
		if (ph.p_type != PT_LOAD || ph.p_offset > im->map_size)
			continue;
		im->seg[im->nseg++] = (struct image_segment){
			.addr = ph.p_vaddr,
			.memsz = ph.p_memsz,
			.filesz = MIN(ph.p_filesz, im->map_size - ph.p_offset),
			.offset = ph.p_offset,
			.exec = ph.p_flags & PF_X,
		};
	}
	return 0;
}

static Elf_Scn *section(const struct image *im, const char *name, GElf_Shdr *sh)
{
	Elf_Scn *scn = NULL;
	size_t strings;

	if (elf_getshdrstrndx(im->elf->e, &strings) < 0)
		return NULL;
	while ((scn = elf_nextscn(im->elf->e, scn))) {
		const char *s;

		if (!gelf_getshdr(scn, sh))
			continue;
		s = elf_strptr(im->elf->e, strings, sh->sh_name);
		if (s && !strcmp(s, name))
			return scn;
	}
	return NULL;
}

static int read_sections(struct image *im, struct err *e)
{
	static const char *const plts[] = { ".plt", ".plt.sec", ".plt.got",
					    ".iplt" };
	GElf_Shdr sh;
	int ret;

	ret = image_read_symbols(im, im->elf->e);
	if (ret < 0)
		return ret;

	for (size_t i = 0; i < ARRAY_SIZE(plts); i++) {
		if (!section(im, plts[i], &sh) || !sh.sh_size)
			continue;
		im->plt[im->nplt].lo = sh.sh_addr;
		im->plt[im->nplt++].hi = sh.sh_addr + sh.sh_size;
	}
	im->kernel = image_symbol_named(im, "__start___ex_table") != NULL;
	im->has_debug = section(im, ".debug_info", &sh) != NULL;

	if (section(im, ".eh_frame", &sh) && sh.sh_type != SHT_NOBITS &&
	    sh.sh_offset <= im->map_size &&
	    sh.sh_size <= im->map_size - sh.sh_offset) {
		ret = cfi_open(&im->cfi, im->map + sh.sh_offset, sh.sh_size,
			       sh.sh_addr);
		if (ret < 0)
			return err_sys(e, ret, "%s: unwind data", im->path);
	}
	return 0;
}

/* The GOT slot a PLT stub jumps through: [bnd] jmp *disp(%rip). */
static uint64_t stub_slot(const uint8_t *p, size_t n, uint64_t addr)
{
	for (size_t i = 0; i + 6 <= n && i < 11; i++) {
		int32_t disp;

		if (p[i] != 0xff || p[i + 1] != 0x25)
			continue;
		memcpy(&disp, p + i + 2, 4);
		return addr + i + 6 + (uint64_t)(int64_t)disp;
	}
	return 0;
}

struct slot_name {
	uint64_t slot;
	const char *name;
};

static int by_slot(const void *a, const void *b)
{
	const struct slot_name *x = a, *y = b;

	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static int by_stub(const void *a, const void *b)
{
	const struct image_plt *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Relocations name the GOT slots, the stubs name theirs. */
static int read_plt(struct image *im)
{
	struct slot_name *names = NULL;
	size_t n = 0, stubs = 0;
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(im->elf->e, scn))) {
		GElf_Shdr sh, dyn;
		Elf_Data *d, *symd;
		Elf_Scn *ds;
		size_t count;
		void *p;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_RELA ||
		    !sh.sh_entsize)
			continue;
		ds = elf_getscn(im->elf->e, sh.sh_link);
		d = elf_getdata(scn, NULL);
		if (!ds || !gelf_getshdr(ds, &dyn) || !d ||
		    dyn.sh_type != SHT_DYNSYM)
			continue;
		symd = elf_getdata(ds, NULL);
		count = sh.sh_size / sh.sh_entsize;
		p = reallocarray(names, n + count + 1, sizeof(*names));
		if (!p) {
			free(names);
			return -ENOMEM;
		}
		names = p;
		for (size_t i = 0; i < count; i++) {
			const char *s;
			GElf_Rela r;
			GElf_Sym sym;

			if (!gelf_getrela(d, (int)i, &r) || !symd ||
			    (GELF_R_TYPE(r.r_info) != R_X86_64_JUMP_SLOT &&
			     GELF_R_TYPE(r.r_info) != R_X86_64_GLOB_DAT) ||
			    !gelf_getsym(symd, (int)GELF_R_SYM(r.r_info), &sym))
				continue;
			s = elf_strptr(im->elf->e, dyn.sh_link, sym.st_name);
			if (s)
				names[n++] =
					(struct slot_name){ r.r_offset, s };
		}
	}
	if (n)
		qsort(names, n, sizeof(*names), by_slot);
	for (size_t i = 0; i < im->nplt; i++)
		stubs += (im->plt[i].hi - im->plt[i].lo) / 8;
	im->stub = calloc(stubs + 1, sizeof(*im->stub));
	if (!im->stub) {
		free(names);
		return -ENOMEM;
	}
	for (size_t i = 0; i < im->nplt; i++) {
		for (uint64_t a = im->plt[i].lo; a < im->plt[i].hi; a += 8) {
			struct slot_name key, *hit;
			const uint8_t *code;
			size_t avail;

			code = image_code(im, a, &avail);
			if (!code || (a & 15 && stub_slot(code - 8, 8, 0)))
				continue;
			key.slot = stub_slot(code, MIN(avail, 16ul), a);
			hit = key.slot && n ? bsearch(&key, names, n,
						      sizeof(key), by_slot)
					    : NULL;
			if (hit)
				im->stub[im->nstub++] =
					(struct image_plt){ a, hit->name };
		}
	}
	if (im->nstub)
		qsort(im->stub, im->nstub, sizeof(*im->stub), by_stub);
	free(names);
	return 0;
}

static int map_file(struct image *im, struct err *e)
{
	struct stat st;
	void *p;

	im->elf->fd = open(im->path, O_RDONLY | O_CLOEXEC);
	if (im->elf->fd < 0 || fstat(im->elf->fd, &st) < 0)
		return err_sys(e, -errno, "%s", im->path);
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr))
		return err_set(e, -ENOEXEC, "%s: not an ELF file", im->path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, im->elf->fd,
		 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "%s", im->path);
	im->map = p;
	im->map_size = (size_t)st.st_size;
	return 0;
}

int image_open(struct image **out, const char *path, struct err *e)
{
	struct image *im = calloc(1, sizeof(*im));
	GElf_Ehdr eh;
	int ret = -ENOMEM;

	if (!im)
		return -ENOMEM;
	im->elf = calloc(1, sizeof(*im->elf));
	im->path = strdup(path);
	if (!im->elf || !im->path)
		goto close;
	im->elf->fd = im->elf->debug_fd = -1;
	ret = map_file(im, e);
	if (ret < 0)
		goto close;
	elf_version(EV_CURRENT);
	im->elf->e = elf_begin(im->elf->fd, ELF_C_READ_MMAP, NULL);
	if (!im->elf->e || elf_kind(im->elf->e) != ELF_K_ELF ||
	    !gelf_getehdr(im->elf->e, &eh)) {
		ret = err_set(e, -ENOEXEC, "%s: not an ELF file", path);
		goto close;
	}
	if (eh.e_machine != EM_X86_64 ||
	    (eh.e_type != ET_EXEC && eh.e_type != ET_DYN)) {
		ret = err_set(e, -ENOEXEC,
			      "%s: not an x86-64 program or library", path);
		goto close;
	}
	im->pie = eh.e_type == ET_DYN;
	im->entry = eh.e_entry;
	ret = read_segments(im, e);
	if (!ret)
		ret = read_sections(im, e);
	if (!ret)
		ret = read_plt(im);
	if (ret < 0)
		goto close;
	*out = im;
	return 0;

close:
	image_close(im);
	return ret;
}

void image_close(struct image *im)
{
	if (!im)
		return;
	cfi_close(&im->cfi);
	free(im->sym);
	free(im->by_name);
	free(im->seg);
	free(im->stub);
	if (im->elf && im->elf->e)
		elf_end(im->elf->e);
	if (im->elf && im->elf->debug)
		elf_end(im->elf->debug);
	if (im->elf) {
		close_fd(&im->elf->fd);
		close_fd(&im->elf->debug_fd);
	}
	if (im->map)
		munmap((void *)im->map, im->map_size);
	free(im->names);
	free(im->elf);
	free(im->path);
	free(im);
}

const uint8_t *image_code(const struct image *im, uint64_t addr, size_t *avail)
{
	for (size_t i = 0; i < im->nseg; i++) {
		const struct image_segment *s = &im->seg[i];

		if (!s->exec || addr < s->addr || addr - s->addr >= s->filesz)
			continue;
		*avail = s->filesz - (addr - s->addr);
		return im->map + s->offset + (addr - s->addr);
	}
	return NULL;
}

bool image_in_plt(const struct image *im, uint64_t addr)
{
	for (size_t i = 0; i < im->nplt; i++)
		if (addr >= im->plt[i].lo && addr < im->plt[i].hi)
			return true;
	return false;
}

const char *image_plt_name(const struct image *im, uint64_t addr)
{
	const struct image_plt key = { .addr = addr }, *hit;

	if (!im->nstub)
		return NULL;
	hit = bsearch(&key, im->stub, im->nstub, sizeof(key), by_stub);
	return hit ? hit->name : NULL;
}
