/*
 * From files to a first vCPU that is ready to run.
 *
 * Low memory at the start:
 *
 *	0x00500	GDT			0x09000	page tables: 4 GiB one to one
 *	0x06000	PVH start info		0x20000	command line
 *	0x07000	zero page		0xe0000	ACPI tables
 */
#include "vmm/priv.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vmm/boot.h"

#define GDT_GPA	    0x500
#define PVH_GPA	    0x6000
#define ZERO_GPA    0x7000
#define PML4_GPA    0x9000
#define PDPT_GPA    0xa000
#define PD_GPA	    0xb000 /* four pages */
#define CMDLINE_GPA 0x20000
#define CMDLINE_MAX 0x8000
#define EBDA_GPA    0x9fc00
#define ISA_END	    0x100000

#define PTE_P  0x01
#define PTE_W  0x02
#define PTE_PS 0x80

#define E820_RAM      1
#define E820_RESERVED 2

#define EFER_LME 0x100
#define EFER_LMA 0x400

#define MSR_MTRR_DEF_TYPE 0x2ff

/* Xen's public/arch-x86/hvm/start_info.h, version 1 */
struct pvh_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct pvh_mod {
	uint64_t addr, size, cmdline, reserved;
};

struct pvh_mem {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#define PVH_MAGIC 0x336ec578

struct memmap {
	struct pvh_mem e[8];
	uint32_t n;
};

static int map_file(struct boot_image *img, const char *what, const char *path,
		    struct err *e)
{
	struct stat st;
	int fd, ret = 0;
	void *p;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, -errno, "%s %s", what, path);
	if (fstat(fd, &st) < 0)
		ret = err_sys(e, -errno, "%s %s", what, path);
	else if (!S_ISREG(st.st_mode) || st.st_size == 0)
		ret = err_set(e, -EINVAL, "%s %s: not a file with content",
			      what, path);
	if (ret)
		goto close;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		ret = err_sys(e, -errno, "%s %s", what, path);
	else
		*img = (struct boot_image){ path, p, (size_t)st.st_size };
close:
	close(fd);
	return ret;
}

static void unmap_file(struct boot_image *img)
{
	munmap((void *)img->p, img->len);
}

static void add_mem(struct memmap *m, uint64_t from, uint64_t to, uint32_t type)
{
	if (to > from)
		m->e[m->n++] = (struct pvh_mem){ from, to - from, type, 0 };
}

static struct memmap memory_map(struct vm *vm)
{
	struct memmap m = { .n = 0 };

	add_mem(&m, 0, EBDA_GPA, E820_RAM);
	add_mem(&m, EBDA_GPA, ISA_END, E820_RESERVED);
	add_mem(&m, ISA_END, vm->mem.ram[0].size, E820_RAM);
	add_mem(&m, KVM_IDENT_GPA, KVM_TSS_GPA + 3 * PAGE_SIZE, E820_RESERVED);
	if (vm->mem.nram > 1)
		add_mem(&m, RAM_HIGH, RAM_HIGH + vm->mem.ram[1].size, E820_RAM);
	return m;
}

/* As high as the kernel can take it, page aligned; *at is 0 without one. */
static int load_initrd(const struct boot_kernel *k, const struct boot_ram *ram,
		       const char *path, uint64_t *at, uint64_t *len,
		       struct err *e)
{
	struct boot_image img = { .p = NULL };
	uint64_t top = MIN(ram->size, k->initrd_max);
	int ret;

	*at = *len = 0;
	if (!path)
		return 0;
	ret = map_file(&img, "initrd", path, e);
	if (ret || !img.p)
		return ret;
	if (img.len > top || ALIGN_DOWN(top - img.len, PAGE_SIZE) < k->end) {
		ret = err_set(e, -ENOMEM,
			      "initrd %s: its %zu MiB do not fit behind the "
			      "kernel in %lu MiB: give the VM more memory",
			      path, (img.len >> 20) + 1, ram->size >> 20);
	} else {
		*at = ALIGN_DOWN(top - img.len, PAGE_SIZE);
		*len = img.len;
		memcpy(ram->p + *at, img.p, img.len);
	}
	unmap_file(&img);
	return ret;
}

static void put_zero_page(const struct boot_ram *ram,
			  const struct boot_image *kernel, bool bzimage,
			  const struct memmap *map, uint64_t initrd,
			  uint64_t initrd_len)
{
	struct boot_params *bp = (void *)(ram->p + ZERO_GPA);
	size_t end;

	memset(bp, 0, sizeof(*bp));
	if (bzimage) {
		/* boot.rst, "64-bit boot protocol": copy the setup header. */
		end = 0x202u + kernel->p[0x201];
		end = MIN(end, 0x1f1u + sizeof(bp->hdr));
		memcpy(&bp->hdr, kernel->p + 0x1f1, end - 0x1f1);
	} else {
		bp->hdr.boot_flag = 0xaa55;
		bp->hdr.header = 0x53726448;
		bp->hdr.kernel_alignment = 0x1000000;
	}
	bp->hdr.type_of_loader = 0xff;
	bp->hdr.cmd_line_ptr = CMDLINE_GPA;
	bp->hdr.ramdisk_image = (uint32_t)initrd;
	bp->hdr.ramdisk_size = (uint32_t)initrd_len;
	bp->acpi_rsdp_addr = ACPI_GPA;
	for (uint32_t i = 0; i < map->n; i++) {
		bp->e820_table[i].addr = map->e[i].addr;
		bp->e820_table[i].size = map->e[i].size;
		bp->e820_table[i].type = map->e[i].type;
	}
	bp->e820_entries = (uint8_t)map->n;
}

static void put_pvh_info(const struct boot_ram *ram, const struct memmap *map,
			 uint64_t initrd, uint64_t initrd_len)
{
	struct {
		struct pvh_info info;
		struct pvh_mod mod;
		struct memmap map;
	} *p = (void *)(ram->p + PVH_GPA);

	memset(p, 0, sizeof(*p));
	p->info = (struct pvh_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = initrd != 0,
		.modlist = PVH_GPA + (uint64_t)((char *)&p->mod - (char *)p),
		.cmdline = CMDLINE_GPA,
		.rsdp = ACPI_GPA,
		.memmap = PVH_GPA + (uint64_t)((char *)&p->map - (char *)p),
		.memmap_entries = map->n,
	};
	p->mod = (struct pvh_mod){ .addr = initrd, .size = initrd_len };
	p->map = *map;
}

static const uint64_t gdt[] = {
	0,
	0,
	0x00af9b000000ffff, /* 0x10: 64-bit code */
	0x00cf93000000ffff, /* 0x18: data */
	0x00cf9b000000ffff, /* 0x20: 32-bit code, for PVH */
	0x00008b0000000067, /* 0x28: a TSS, busy */
};

static void put_tables(const struct boot_ram *ram)
{
	uint64_t *pml4 = (void *)(ram->p + PML4_GPA);
	uint64_t *pdpt = (void *)(ram->p + PDPT_GPA);
	uint64_t *pd = (void *)(ram->p + PD_GPA);

	memcpy(ram->p + GDT_GPA, gdt, sizeof(gdt));
	memset(pml4, 0, PAGE_SIZE);
	memset(pdpt, 0, PAGE_SIZE);
	pml4[0] = PDPT_GPA | PTE_P | PTE_W;
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (PD_GPA + i * PAGE_SIZE) | PTE_P | PTE_W;
	for (uint64_t i = 0; i < 4 * 512; i++)
		pd[i] = i << 21 | PTE_P | PTE_W | PTE_PS;
}

static struct kvm_segment segment(uint16_t sel, uint8_t type, bool s, bool l)
{
	return (struct kvm_segment){
		.limit = s ? 0xffffffff : 0x67,
		.selector = sel,
		.type = type,
		.present = 1,
		.db = s && !l,
		.s = s,
		.l = l,
		.g = s,
	};
}

static int set_cpu0(struct vm *vm, const struct boot_kernel *k, struct err *e)
{
	struct kvm_regs regs = { .rip = k->entry, .rflags = 2 };
	bool pvh = k->kind == BOOT_PVH;
	int fd = vm->cpu[0].fd;
	struct kvm_sregs s;

	if (ioctl(fd, KVM_GET_SREGS, &s) < 0)
		return err_sys(e, -errno, "registers of the first vCPU");
	s.cs = segment(pvh ? 0x20 : 0x10, 0xb, true, !pvh);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(0x18, 3, true, false);
	s.tr = segment(0x28, 0xb, false, false);
	s.gdt.base = GDT_GPA;
	s.gdt.limit = sizeof(gdt) - 1;
	s.idt.base = 0;
	s.idt.limit = 0;
	if (pvh) {
		s.cr0 = 0x11; /* PE, ET */
		s.cr4 = 0;
		regs.rbx = PVH_GPA;
	} else {
		s.cr0 = 0x80010033; /* PG, WP, NE, ET, MP, PE */
		s.cr3 = PML4_GPA;
		s.cr4 = 0x20; /* PAE */
		s.efer = EFER_LME | EFER_LMA;
		regs.rsi = ZERO_GPA;
	}
	if (ioctl(fd, KVM_SET_SREGS, &s) < 0 ||
	    ioctl(fd, KVM_SET_REGS, &regs) < 0)
		return err_sys(e, -errno, "registers of the first vCPU");
	return 0;
}

/*
 * Firmware leaves the MTRRs on, write-back by default; a kernel that finds
 * them off also gives up page attributes (PAT).
 */
static void set_mtrrs(struct vm *vm)
{
	static const struct kvm_msr_entry def = { .index = MSR_MTRR_DEF_TYPE,
						  .data = 0xc06 };

	for (unsigned int i = 0; i < vm->ncpus; i++)
		msr_write(&vm->cpu[i], &def);
}

int boot_load(struct vm *vm, const struct vm_config *cfg, struct err *e)
{
	struct boot_ram ram = { vm->mem.ram[0].backing, vm->mem.ram[0].size };
	const char *append = cfg->append ? cfg->append : "";
	struct boot_image img = { .p = NULL };
	struct memmap map = memory_map(vm);
	struct acpi_machine m = {
		.cpus = vm->ncpus,
		.low = WIN_LOW,
		.low_end = WIN_LOW_END,
		.high = vm->bus.win_high,
		.high_end = vm->bus.win_high + WIN_HIGH_SIZE,
	};
	uint64_t initrd, initrd_len;
	struct boot_kernel k;
	int ret;

	ret = map_file(&img, "kernel", cfg->kernel, e);
	if (ret || !img.p)
		return ret;
	ret = boot_kernel_load(&k, &img, &ram, e);
	if (!ret && strlen(append) > MIN(k.cmdline_max, CMDLINE_MAX - 1u))
		ret = err_set(e, -E2BIG,
			      "the kernel's command line has %zu bytes and may "
			      "have %lu: make it shorter",
			      strlen(append),
			      MIN(k.cmdline_max, CMDLINE_MAX - 1u));
	if (!ret)
		ret = load_initrd(&k, &ram, cfg->initrd, &initrd, &initrd_len,
				  e);
	if (ret)
		goto unmap;

	strcpy((char *)ram.p + CMDLINE_GPA, append);
	put_zero_page(&ram, &img, k.kind == BOOT_BZIMAGE, &map, initrd,
		      initrd_len);
	put_pvh_info(&ram, &map, initrd, initrd_len);
	put_tables(&ram);
	ret = acpi_build(&m, ram.p + ACPI_GPA, ACPI_SIZE);
	if (ret < 0) {
		err_sys(e, ret, "ACPI tables");
		goto unmap;
	}
	set_mtrrs(vm);
	ret = set_cpu0(vm, &k, e);
unmap:
	unmap_file(&img);
	return ret;
}
