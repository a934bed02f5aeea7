// sources: src/vmm/kernel.c src/base/err.c
/*
 * A hostile kernel image.
 */
#include <stdlib.h>

#include "vmm/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	static struct boot_ram ram = { .size = 4 << 20 };
	struct boot_image img = { "fuzz", p, len };
	struct boot_kernel k;
	struct err e = { 0 };

	/* Of exact size, so that one byte too many is seen. */
	if (!ram.p)
		ram.p = malloc(ram.size);
	if (boot_kernel_load(&k, &img, &ram, &e) == 0 && k.end > ram.size)
		abort();
	return 0;
}
