/*
 * Kernel images and the tables a kernel is handed.
 *
 * Three kinds of image: bzImage (64-bit boot protocol), ELF vmlinux with a
 * PVH note (32-bit entry with hvm_start_info), and any other 64-bit ELF,
 * which starts in long mode at its entry, RSI pointing at a zero page, with
 * the first 4 GiB mapped one to one.  The test guests are of the last kind.
 */
#ifndef VMM_BOOT_H
#define VMM_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum boot_kind { BOOT_BZIMAGE, BOOT_PVH, BOOT_ELF64 };

/* Guest memory as the loaders write it: [0, size) from address 0 on. */
struct boot_ram {
	uint8_t *p;
	uint64_t size;
};

struct boot_image {
	const char *path; /* for messages */
	const uint8_t *p;
	size_t len;
};

struct boot_kernel {
	enum boot_kind kind;
	uint64_t entry;	      /* guest physical */
	uint64_t end;	      /* first byte behind the kernel's needs */
	uint64_t initrd_max;  /* the initrd ends at or below it */
	uint64_t cmdline_max; /* bytes without the NUL */
};

/* Load into RAM.  The image is not trusted: every offset is checked. */
int boot_kernel_load(struct boot_kernel *k, const struct boot_image *img,
		     const struct boot_ram *ram, struct err *e);

/* What the ACPI tables say of the machine. */
struct acpi_machine {
	unsigned int cpus;
	uint64_t low, low_end; /* BAR windows, end not included */
	uint64_t high, high_end;
};

#define ACPI_GPA  0xe0000ull
#define ACPI_SIZE 0x4000u /* enough for any machine of ours */

/*
 * RSDP at ACPI_GPA, the other tables behind it.  'buf' is what the guest
 * will see at ACPI_GPA.  Returns the bytes used, or -ENOSPC.
 */
int acpi_build(const struct acpi_machine *m, uint8_t *buf, size_t size);

#endif
