/*
 * Bitmaps of 64-bit words, one bit a page in most uses.
 *
 * The caller owns the storage: BITMAP_WORDS(n) words for n bits.  Plain
 * functions are for one thread; the _atomic ones may run beside each other
 * (dirty logs are marked by one thread and harvested by another).
 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORDS(nbits) (((nbits) + 63) / 64)

uint64_t *bitmap_alloc(size_t nbits); /* zeroed; free() it */

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}

static inline void bitmap_set(uint64_t *map, size_t bit)
{
	map[bit / 64] |= 1ull << (bit % 64);
}

static inline void bitmap_clear(uint64_t *map, size_t bit)
{
	map[bit / 64] &= ~(1ull << (bit % 64));
}

void bitmap_set_range(uint64_t *map, size_t first, size_t count);
void bitmap_clear_range(uint64_t *map, size_t first, size_t count);

/* Returns whether the bit was clear before. */
bool bitmap_set_atomic(uint64_t *map, size_t bit);
void bitmap_set_range_atomic(uint64_t *map, size_t first, size_t count);

/* dst |= *src, and src is left empty; bits set meanwhile are kept in src. */
void bitmap_harvest(uint64_t *dst, uint64_t *src, size_t nbits);

size_t bitmap_count(const uint64_t *map, size_t nbits);

/* First set bit at or after 'from', or nbits. */
size_t bitmap_next(const uint64_t *map, size_t nbits, size_t from);
/* First clear bit at or after 'from', or nbits. */
size_t bitmap_next_clear(const uint64_t *map, size_t nbits, size_t from);

#define bitmap_for_each(bit, map, nbits)                                 \
	for (size_t bit = bitmap_next((map), (nbits), 0); bit < (nbits); \
	     bit = bitmap_next((map), (nbits), bit + 1))

#endif
