// sources: src/probe/image.c src/probe/image_syms.c src/probe/finder.c src/probe/finder_exit.c src/probe/finder_flow.c src/probe/finder_site.c src/probe/finder_sweep.c src/probe/unnamed.c src/probe/cfi.c src/probe/insn.c src/base/err.c libs: libelf -lZydis
/*
 * A program somebody else made: symbols, unwind data and code.
 *
 * The frame of the file is ours, so that the fuzzer need not find out what an
 * ELF header is; what the tables say is the input's.  With the first byte's
 * lowest bit set the input is the whole file.
 */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/finder.h"

#define BASE	  0x400000ul
#define FUNCS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NONE, TEXT, EH, SYMS, STRS, NOTE, SECTIONS };

static const char strings[] = "\0.text\0.eh_frame\0.symtab\0.strtab\0.note\0"
			      "f\0f.cold\0g\0__x86_return_thunk\0"
			      "__x86_indirect_thunk_rax\0"
			      "__start___ex_table";

struct file {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	Elf64_Shdr sh[SECTIONS];
	char strings[sizeof(strings)];
};

/* A share of the input for each table. */
static size_t part(const uint8_t *data, size_t size, unsigned int i)
{
	return size > 8 ? (size - 8) * data[i] / 1024 : 0;
}

static void build(struct file *f, const uint8_t *data, size_t size)
{
	size_t at = 8, syms = part(data, size, 1), eh = part(data, size, 2),
	       note = part(data, size, 3);
	const uint64_t off = sizeof(*f);

	memset(f, 0, sizeof(*f));
	memcpy(f->eh.e_ident, "\177ELF\2\1\1", 7);
	f->eh = (Elf64_Ehdr){ .e_type = data[0] & 2 ? ET_DYN : ET_EXEC,
			      .e_machine = EM_X86_64,
			      .e_version = 1,
			      .e_phoff = offsetof(struct file, ph),
			      .e_shoff = offsetof(struct file, sh),
			      .e_ehsize = sizeof(f->eh),
			      .e_phentsize = sizeof(f->ph[0]),
			      .e_phnum = 2,
			      .e_shentsize = sizeof(f->sh[0]),
			      .e_shnum = SECTIONS,
			      .e_shstrndx = STRS };
	memcpy(f->eh.e_ident, "\177ELF\2\1\1", 7);
	memcpy(f->strings, strings, sizeof(strings));
	f->sh[SYMS] = (Elf64_Shdr){ .sh_name = 17,
				    .sh_type = SHT_SYMTAB,
				    .sh_offset = off + at,
				    .sh_size = syms,
				    .sh_link = STRS,
				    .sh_entsize = sizeof(Elf64_Sym) };
	at += syms;
	f->sh[EH] = (Elf64_Shdr){ .sh_name = 7,
				  .sh_type = SHT_PROGBITS,
				  .sh_addr = BASE + at,
				  .sh_offset = off + at,
				  .sh_size = eh };
	at += eh;
	f->sh[NOTE] = (Elf64_Shdr){ .sh_name = 33,
				    .sh_type = SHT_NOTE,
				    .sh_offset = off + at,
				    .sh_size = note };
	at += note;
	f->sh[STRS] = (Elf64_Shdr){ .sh_name = 25,
				    .sh_type = SHT_STRTAB,
				    .sh_offset = offsetof(struct file, strings),
				    .sh_size = sizeof(strings) };
	f->sh[TEXT] = (Elf64_Shdr){ .sh_name = 1,
				    .sh_type = SHT_PROGBITS,
				    .sh_addr = BASE + at,
				    .sh_offset = off + at,
				    .sh_size = size - at };
	f->ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				 .p_flags = PF_R | PF_X,
				 .p_offset = off,
				 .p_vaddr = BASE,
				 .p_filesz = size,
				 .p_memsz = size };
	f->ph[1] = f->ph[0];
	f->ph[1].p_flags = PF_R;
	f->ph[1].p_vaddr = BASE + 0x100000;
}

static void look(const char *path)
{
	char other[256];
	struct image *im;
	struct finder f;

	if (image_open(&im, path, NULL) < 0)
		return;
	(void)image_debug_file(im, "/nonexistent", other, sizeof(other));
	(void)image_add_symbols(im, path, NULL);
	if (!finder_open(&f, im, NULL)) {
		for (size_t i = 0; i < f.n && i < FUNCS_MAX; i++)
			(void)finder_sites(&f, &f.func[i]);
		finder_close(&f);
	}
	image_close(im);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct file f;
	char path[64];
	int fd;

	if (size < 16)
		return 0;
	fd = memfd_create("elf", MFD_CLOEXEC);
	if (fd < 0)
		return 0;
	if (!(data[0] & 1)) {
		build(&f, data, size);
		(void)!write(fd, &f, sizeof(f));
		(void)!write(fd, data, size);
	} else {
		(void)!write(fd, data + 1, size - 1);
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	look(path);
	close(fd);
	return 0;
}
