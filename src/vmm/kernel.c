/*
 * Kernel images: bzImage and ELF.
 *
 * Formats: Linux Documentation/arch/x86/boot.rst; Xen's PVH note.
 */
#include "vmm/boot.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

#define SETUP_SECTS    0x1f1
#define SETUP_HDRS     0x202
#define SETUP_VERSION  0x206
#define SETUP_INITRD   0x22c
#define SETUP_ALIGN    0x230
#define SETUP_XLOAD    0x236
#define SETUP_CMDLINE  0x238
#define SETUP_PREF     0x258
#define SETUP_INITSIZE 0x260
#define SETUP_LEN      0x268

#define XLOAD_KERNEL_64 1
#define ENTRY64		0x200 /* behind the 32-bit entry */

#define LOAD_MIN      0x100000ull
#define PVH_NOTE_TYPE 18

static uint16_t u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
	return u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
	return u32(p) | (uint64_t)u32(p + 4) << 32;
}

static int too_big(const struct boot_image *img, const struct boot_ram *ram,
		   uint64_t end, struct err *e)
{
	return err_set(e, -ENOMEM,
		       "kernel %s: needs memory up to %lu MiB and the VM has "
		       "%lu MiB below 4 GiB: give it more",
		       img->path, (end >> 20) + 1, ram->size >> 20);
}

static int load_bzimage(struct boot_kernel *k, const struct boot_image *img,
			const struct boot_ram *ram, struct err *e)
{
	const uint8_t *h = img->p;
	uint64_t skip, at, init;

	if (u16(h + SETUP_VERSION) < 0x20c ||
	    !(u16(h + SETUP_XLOAD) & XLOAD_KERNEL_64))
		return err_set(e, -ENOEXEC,
			       "kernel %s: a bzImage without 64-bit entry; "
			       "give a 64-bit kernel, 3.8 or later",
			       img->path);
	skip = ((h[SETUP_SECTS] ? h[SETUP_SECTS] : 4u) + 1u) * 512ull;
	if (skip >= img->len)
		return err_set(e, -ENOEXEC, "kernel %s: cut off", img->path);

	at = u64(h + SETUP_PREF);
	init = u32(h + SETUP_INITSIZE);
	if (init < img->len - skip)
		init = img->len - skip;
	if (at < LOAD_MIN || at % PAGE_SIZE)
		return err_set(
			e, -ENOEXEC,
			"kernel %s: wants to be at 0x%lx, which cannot be",
			img->path, at);
	if (at > ram->size || init > ram->size - at)
		return too_big(img, ram, at + init, e);

	memcpy(ram->p + at, h + skip, img->len - skip);
	*k = (struct boot_kernel){
		.kind = BOOT_BZIMAGE,
		.entry = at + ENTRY64,
		.end = at + init,
		.initrd_max = (uint64_t)u32(h + SETUP_INITRD) + 1,
		.cmdline_max = u32(h + SETUP_CMDLINE),
	};
	return 0;
}

/* The 32-bit entry of a PVH note, or 0. */
static uint32_t pvh_entry(const uint8_t *p, uint64_t len)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		uint64_t name = ALIGN_UP((uint64_t)u32(p), 4);
		uint64_t desc = ALIGN_UP((uint64_t)u32(p + 4), 4);
		const uint8_t *body = p + sizeof(Elf64_Nhdr);

		len -= sizeof(Elf64_Nhdr);
		if (name > len || desc > len - name)
			return 0;
		if (u32(p + 8) == PVH_NOTE_TYPE && u32(p) == 4 &&
		    !memcmp(body, "Xen", 4) && desc >= 4)
			return u32(body + name);
		p = body + name + desc;
		len -= name + desc;
	}
	return 0;
}

static int load_segment(const struct boot_image *img, const Elf64_Phdr *ph,
			const struct boot_ram *ram, struct err *e)
{
	if (ph->p_offset > img->len || ph->p_filesz > img->len - ph->p_offset ||
	    ph->p_filesz > ph->p_memsz)
		return err_set(e, -ENOEXEC, "kernel %s: cut off", img->path);
	if (ph->p_paddr < LOAD_MIN)
		return err_set(e, -ENOEXEC,
			       "kernel %s: a segment at 0x%lx; nothing may "
			       "load below 1 MiB",
			       img->path, ph->p_paddr);
	if (ph->p_paddr > ram->size || ph->p_memsz > ram->size - ph->p_paddr)
		return too_big(img, ram, ph->p_paddr + ph->p_memsz, e);
	memcpy(ram->p + ph->p_paddr, img->p + ph->p_offset, ph->p_filesz);
	memset(ram->p + ph->p_paddr + ph->p_filesz, 0,
	       ph->p_memsz - ph->p_filesz);
	return 0;
}

static int load_elf(struct boot_kernel *k, const struct boot_image *img,
		    const struct boot_ram *ram, struct err *e)
{
	Elf64_Ehdr eh;
	uint32_t pvh = 0;
	uint64_t end = 0;
	int ret;

	if (img->len < sizeof(eh))
		return err_set(e, -ENOEXEC, "kernel %s: cut off", img->path);
	memcpy(&eh, img->p, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return err_set(e, -ENOEXEC,
			       "kernel %s: an ELF file, but not for x86-64",
			       img->path);
	if (eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phoff > img->len ||
	    eh.e_phnum > (img->len - eh.e_phoff) / sizeof(Elf64_Phdr))
		return err_set(e, -ENOEXEC, "kernel %s: cut off", img->path);

	for (unsigned int i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, img->p + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_NOTE && ph.p_offset <= img->len &&
		    ph.p_filesz <= img->len - ph.p_offset && !pvh)
			pvh = pvh_entry(img->p + ph.p_offset, ph.p_filesz);
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		ret = load_segment(img, &ph, ram, e);
		if (ret)
			return ret;
		end = MAX(end, ph.p_paddr + ph.p_memsz);
	}
	if (!end)
		return err_set(e, -ENOEXEC, "kernel %s: nothing to load in it",
			       img->path);
	*k = (struct boot_kernel){
		.kind = pvh ? BOOT_PVH : BOOT_ELF64,
		.entry = pvh ? pvh : eh.e_entry,
		.end = end,
		.initrd_max = 0x80000000,
		.cmdline_max = 2047,
	};
	return 0;
}

int boot_kernel_load(struct boot_kernel *k, const struct boot_image *img,
		     const struct boot_ram *ram, struct err *e)
{
	if (img->len >= SELFMAG && !memcmp(img->p, ELFMAG, SELFMAG))
		return load_elf(k, img, ram, e);
	if (img->len >= SETUP_LEN && !memcmp(img->p + SETUP_HDRS, "HdrS", 4))
		return load_bzimage(k, img, ram, e);
	return err_set(e, -ENOEXEC,
		       "kernel %s: not bootable: neither a bzImage nor an ELF "
		       "file for x86-64: give a vmlinuz or a vmlinux",
		       img->path);
}
