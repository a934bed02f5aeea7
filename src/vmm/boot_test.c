/*
 * Kernel images, good and bad, and the ACPI tables.
 */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "vmm/boot.h"

#define MIB 0x100000ul

static uint8_t *mem;
static struct boot_ram ram = { .size = 16 * MIB };
static struct boot_kernel k;
static struct err e;

static int load(const void *p, size_t len)
{
	struct boot_image img = { "test", p, len };

	err_clear(&e);
	return boot_kernel_load(&k, &img, &ram, &e);
}

static void refused(const void *p, size_t len, int ret, const char *say)
{
	assert_int_equal(load(p, len), ret);
	if (!strstr(e.text, say))
		fail_msg("\"%s\" lacks \"%s\"", e.text, say);
}

struct elf {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[3];
	struct {
		Elf64_Nhdr h;
		char name[4];
		uint32_t entry;
	} note;
	uint8_t text[100];
};

static struct elf good_elf(void)
{
	struct elf f = {
		.eh = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3,
				     ELFCLASS64 },
			.e_machine = EM_X86_64,
			.e_entry = 0x200010,
			.e_phoff = offsetof(struct elf, ph),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 3,
		},
		.ph = {
			{ .p_type = PT_LOAD,
			  .p_offset = offsetof(struct elf, text),
			  .p_paddr = 0x200000,
			  .p_filesz = 100,
			  .p_memsz = 300 },
			{ .p_type = PT_NOTE,
			  .p_offset = offsetof(struct elf, note),
			  .p_filesz = sizeof(f.note) },
			{ .p_type = PT_NULL, .p_filesz = ~0ul },
		},
		.note = { { 4, 4, 18 }, "Xen", 0x200020 },
	};

	memset(f.text, 0xab, sizeof(f.text));
	return f;
}

static void elf_is_loaded(void **state)
{
	struct elf f = good_elf();

	memset(mem, 0xcc, ram.size);
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.kind, BOOT_PVH);
	assert_int_equal(k.entry, 0x200020);
	assert_int_equal(k.end, 0x20012c);
	assert_int_equal(mem[0x1fffff], 0xcc);
	assert_int_equal(mem[0x200000], 0xab);
	assert_int_equal(mem[0x200063], 0xab);
	assert_int_equal(mem[0x200064], 0); /* its bss */
	assert_int_equal(mem[0x20012b], 0);
	assert_int_equal(mem[0x20012c], 0xcc);

	f.note.h.n_type = 17;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.kind, BOOT_ELF64);
	assert_int_equal(k.entry, 0x200010);
}

static void bad_elf_is_refused(void **state)
{
	struct elf f = good_elf();

	for (size_t cut = 0; cut < sizeof(f); cut++)
		assert_true(load(&f, cut) < 0);
	f.eh.e_machine = EM_AARCH64;
	refused(&f, sizeof(f), -ENOEXEC, "not for x86-64");
	f = good_elf();
	f.eh.e_ident[EI_CLASS] = ELFCLASS32;
	refused(&f, sizeof(f), -ENOEXEC, "not for x86-64");
	f = good_elf();
	f.eh.e_phnum = 0xffff;
	refused(&f, sizeof(f), -ENOEXEC, "cut off");
	f = good_elf();
	f.eh.e_phoff = UINT64_MAX;
	refused(&f, sizeof(f), -ENOEXEC, "cut off");
	f = good_elf();
	f.ph[0].p_filesz = UINT64_MAX;
	refused(&f, sizeof(f), -ENOEXEC, "cut off");
	f = good_elf();
	f.ph[0].p_offset = UINT64_MAX - 10;
	refused(&f, sizeof(f), -ENOEXEC, "cut off");
	f = good_elf();
	f.ph[0].p_memsz = 99;
	refused(&f, sizeof(f), -ENOEXEC, "cut off");
	f = good_elf();
	f.ph[0].p_paddr = 0x7000;
	refused(&f, sizeof(f), -ENOEXEC, "below 1 MiB");
	f = good_elf();
	f.ph[0].p_paddr = ram.size - 299;
	refused(&f, sizeof(f), -ENOMEM, "give it more");
	f.ph[0].p_paddr = UINT64_MAX - 100;
	refused(&f, sizeof(f), -ENOMEM, "give it more");
	f = good_elf();
	f.ph[0].p_type = PT_NULL;
	refused(&f, sizeof(f), -ENOEXEC, "nothing to load");
	/* A note that lies about itself is no note. */
	f = good_elf();
	f.note.h.n_namesz = 0xfffffffe;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.kind, BOOT_ELF64);
	f = good_elf();
	f.ph[1].p_offset = UINT64_MAX - 2;
	assert_int_equal(load(&f, sizeof(f)), 0);
	assert_int_equal(k.kind, BOOT_ELF64);
}

static void put(uint8_t *p, size_t at, uint64_t v, size_t n)
{
	memcpy(p + at, &v, n);
}

static size_t good_bzimage(uint8_t *p)
{
	memset(p, 0, 4096);
	p[0x1f1] = 1; /* two sectors of setup */
	memcpy(p + 0x202, "HdrS", 4);
	put(p, 0x206, 0x20f, 2);
	put(p, 0x22c, 0x7fffffff, 4);
	put(p, 0x236, 1, 2);
	put(p, 0x238, 2047, 4);
	put(p, 0x258, 0x400000, 8);
	put(p, 0x260, 0x200000, 4);
	memset(p + 1024, 0xab, 3072);
	return 4096;
}

static void bzimage_is_loaded(void **state)
{
	uint8_t p[4096];
	size_t len = good_bzimage(p);

	memset(mem, 0xcc, ram.size);
	assert_int_equal(load(p, len), 0);
	assert_int_equal(k.kind, BOOT_BZIMAGE);
	assert_int_equal(k.entry, 0x400200);
	assert_int_equal(k.end, 0x600000);
	assert_int_equal(k.initrd_max, 0x80000000);
	assert_int_equal(k.cmdline_max, 2047);
	assert_int_equal(mem[0x3fffff], 0xcc);
	assert_int_equal(mem[0x400000], 0xab);
	assert_int_equal(mem[0x400bff], 0xab);
	assert_int_equal(mem[0x400c00], 0xcc);
}

static void bad_bzimage_is_refused(void **state)
{
	uint8_t p[4096];
	size_t len = good_bzimage(p);

	for (size_t cut = 0; cut <= 1024; cut++)
		assert_true(load(p, cut) < 0);
	put(p, 0x236, 0, 2);
	refused(p, len, -ENOEXEC, "64-bit entry");
	good_bzimage(p);
	put(p, 0x206, 0x20b, 2);
	refused(p, len, -ENOEXEC, "64-bit entry");
	good_bzimage(p);
	put(p, 0x260, 0xffffffff, 4);
	refused(p, len, -ENOMEM, "give it more");
	good_bzimage(p);
	put(p, 0x258, UINT64_MAX & ~0xffful, 8);
	refused(p, len, -ENOMEM, "give it more");
	put(p, 0x258, 0x1000, 8);
	refused(p, len, -ENOEXEC, "cannot be");
	put(p, 0x258, 0x400001, 8);
	refused(p, len, -ENOEXEC, "cannot be");
	good_bzimage(p);
	p[0x1f1] = 255;
	refused(p, len, -ENOEXEC, "cut off");
	memset(p, 0, sizeof(p));
	refused(p, len, -ENOEXEC, "not bootable");
	refused(p, 0, -ENOEXEC, "not bootable");
}

static uint8_t tables[ACPI_SIZE];

static const struct acpi_machine machine = {
	.cpus = 3,
	.low = 0xc0000000,
	.low_end = 0xfec00000,
	.high = 0x140000000,
	.high_end = 0x240000000,
};

static uint64_t rd(const uint8_t *p, size_t at, size_t n)
{
	uint64_t v = 0;

	memcpy(&v, p + at, n);
	return v;
}

static uint8_t *table(uint64_t gpa, const char *sig)
{
	uint8_t *t = tables + (gpa - ACPI_GPA), sum = 0;
	uint32_t len;

	assert_in_range(gpa, ACPI_GPA, ACPI_GPA + ACPI_SIZE - 36);
	assert_memory_equal(t, sig, 4);
	len = (uint32_t)rd(t, 4, 4);
	assert_in_range(len, 36, ACPI_GPA + ACPI_SIZE - gpa);
	for (uint32_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + t[i]);
	assert_int_equal(sum, 0);
	return t;
}

static void acpi_tables_hang_together(void **state)
{
	uint8_t *xsdt, *fadt, *madt, *facs, sum = 0;
	unsigned int cpus = 0;

	assert_true(acpi_build(&machine, tables, sizeof(tables)) > 0);
	assert_memory_equal(tables, "RSD PTR ", 8);
	for (int i = 0; i < 20; i++)
		sum = (uint8_t)(sum + tables[i]);
	assert_int_equal(sum, 0);
	for (int i = 20; i < 36; i++)
		sum = (uint8_t)(sum + tables[i]);
	assert_int_equal(sum, 0);

	xsdt = table(rd(tables, 24, 8), "XSDT");
	fadt = table(rd(xsdt, 36, 8), "FACP");
	madt = table(rd(xsdt, 44, 8), "APIC");
	assert_int_equal(rd(xsdt, 4, 4), 52);
	assert_int_equal(rd(fadt, 4, 4), 276);
	assert_int_equal(rd(fadt, 56, 4), 0x600);
	assert_int_equal(rd(fadt, 64, 4), 0x604);
	assert_int_equal(rd(fadt, 112, 4) & (1 << 10), 1 << 10);
	assert_int_equal(rd(fadt, 120, 8), 0xcf9);
	facs = tables + (rd(fadt, 36, 4) - ACPI_GPA);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(rd(fadt, 36, 4) % 64, 0);

	for (uint64_t at = 44; at < rd(madt, 4, 4); at += madt[at + 1]) {
		assert_true(madt[at + 1] >= 6);
		if (madt[at] == 0)
			assert_int_equal(madt[at + 3], cpus++);
	}
	assert_int_equal(cpus, 3);
}

/* The length an AML package says it has. */
static size_t pkg_len(const uint8_t *p)
{
	assert_int_equal(p[0] & 0xf0, 0x40);
	return (p[0] & 0xfu) | (size_t)p[1] << 4;
}

static void dsdt_is_well_formed(void **state)
{
	static const uint8_t high[] = { 0, 0,	 0,    0x40, 1,	   0, 0,
					0, 0xff, 0xff, 0xff, 0x3f, 2 };
	uint8_t *dsdt, *p, *end, *scope_end;
	unsigned int devices = 0;

	assert_true(acpi_build(&machine, tables, sizeof(tables)) > 0);
	dsdt = table(
		rd(table(rd(table(rd(tables, 24, 8), "XSDT"), 36, 8), "FACP"),
		   140, 8),
		"DSDT");
	end = dsdt + rd(dsdt, 4, 4);
	p = dsdt + 36;
	assert_int_equal(*p++, 0x10);
	scope_end = p + pkg_len(p);
	assert_memory_equal(p + 2, "\\_SB_", 5);
	for (p += 7; p < scope_end; devices++) {
		assert_memory_equal(p, "\x5b\x82", 2);
		p += 2 + pkg_len(p + 2);
	}
	assert_ptr_equal(p, scope_end);
	assert_int_equal(devices, 2);
	assert_memory_equal(p, "\x08_S5_\x12", 6);
	assert_ptr_equal(p + 6 + pkg_len(p + 6), end);
	assert_non_null(memmem(dsdt, (size_t)(end - dsdt), high, sizeof(high)));
}

static void small_buffers_are_told(void **state)
{
	int used = acpi_build(&machine, tables, sizeof(tables));

	for (int size = 64; size < used; size++)
		assert_int_equal(acpi_build(&machine, tables, (size_t)size),
				 -ENOSPC);
	assert_int_equal(acpi_build(&machine, tables, (size_t)used), used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf_is_loaded),
		cmocka_unit_test(bad_elf_is_refused),
		cmocka_unit_test(bzimage_is_loaded),
		cmocka_unit_test(bad_bzimage_is_refused),
		cmocka_unit_test(acpi_tables_hang_together),
		cmocka_unit_test(dsdt_is_well_formed),
		cmocka_unit_test(small_buffers_are_told),
	};

	mem = malloc(ram.size);
	ram.p = mem;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
