#include "probe/unnamed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define FUNC_ALIGN 16
#define REFERRED   (1ull << 63) /* no user address has it, and all else do */

static size_t slot_of(const struct unnamed *u, uint64_t addr)
{
	size_t at = (addr * 0x9e3779b97f4a7c15ull >> 32) & u->mask;

	while (u->hash[at] && (u->hash[at] & ~REFERRED) != (addr & ~REFERRED))
		at = (at + 1) & u->mask;
	return at;
}

static void refer(struct unnamed *u, uint64_t addr)
{
	size_t at = slot_of(u, addr);

	if (u->hash[at])
		u->hash[at] |= REFERRED;
}

/*
 * Every place that could be a 32-bit displacement is tried, and as an address
 * where programs may not be loaded anywhere else: it hits a start by chance
 * once in a million.  Those of jumps do not count.
 */
static void scan_code(struct unnamed *u, const uint8_t *p, size_t n,
		      uint64_t addr, bool absolute)
{
	int32_t disp;

	for (size_t i = 2; i + 4 <= n; i++) {
		if (p[i - 1] == 0xe9 ||
		    (p[i - 2] == 0x0f && (p[i - 1] & 0xf0) == 0x80))
			continue;
		memcpy(&disp, p + i, 4);
		if (absolute)
			refer(u, (uint64_t)(int64_t)disp);
		refer(u, addr + i + 4 + (uint64_t)(int64_t)disp);
	}
}

/* Pointers, and the addends of relocations that will make some. */
static void scan_data(struct unnamed *u, const uint8_t *p, size_t n)
{
	uint64_t word;

	for (size_t i = 0; i + 8 <= n; i += 8) {
		memcpy(&word, p + i, 8);
		refer(u, word);
	}
}

int unnamed_open(struct unnamed *u, const struct image *im)
{
	size_t size = 64;

	*u = (struct unnamed){ .hash = NULL };
	while (size < im->cfi.n * 2)
		size *= 2;
	u->hash = calloc(size, sizeof(*u->hash));
	if (!u->hash)
		return -ENOMEM;
	u->mask = size - 1;
	size = 0;
	for (size_t i = 0; i < im->cfi.n; i++) {
		const struct cfi_fde *fde = &im->cfi.fde[i];

		if (image_symbol_exact(im, fde->lo))
			continue;
		u->hash[slot_of(u, fde->lo)] = fde->lo & ~REFERRED;
		size++;
	}
	for (size_t i = 0; i < im->nseg && size; i++) {
		const struct image_segment *s = &im->seg[i];

		if (s->exec)
			scan_code(u, im->map + s->offset, s->filesz, s->addr,
				  !im->pie);
		else
			scan_data(u, im->map + s->offset, s->filesz);
	}
	return 0;
}

void unnamed_close(struct unnamed *u)
{
	free(u->hash);
	u->hash = NULL;
}

bool unnamed_is_function(struct unnamed *u, const struct image *im,
			 const struct cfi_fde *fde)
{
	struct cfi_row row;

	cfi_row(&im->cfi, fde->lo, &row);
	if (cfi_at_entry_sp(&row) &&
	    (u->hash[slot_of(u, fde->lo)] & REFERRED ||
	     (fde->lo % FUNC_ALIGN == 0 && fde->lo != u->part_end)))
		return true;
	u->part_end = fde->hi;
	return false;
}
