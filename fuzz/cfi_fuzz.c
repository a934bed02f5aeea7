// sources: src/probe/cfi.c
/*
 * Unwind data of a file somebody else made.
 */
#include <stddef.h>
#include <stdint.h>

#include "probe/cfi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfi_row row;
	struct cfi c;

	if (cfi_open(&c, data, size, 0x10000) < 0)
		return 0;
	for (size_t i = 0; i < c.n && i < 16; i++) {
		cfi_row(&c, c.fde[i].lo, &row);
		cfi_row(&c, (c.fde[i].lo + c.fde[i].hi) / 2, &row);
		cfi_row(&c, c.fde[i].hi - 1, &row);
	}
	cfi_close(&c);
	return 0;
}
