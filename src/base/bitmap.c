#include "base/bitmap.h"

#include <stdlib.h>

#include "base/util.h"

uint64_t *bitmap_alloc(size_t nbits)
{
	size_t words = BITMAP_WORDS(nbits);

	return calloc(words ? words : 1, sizeof(uint64_t));
}

/* The bits of word 'w' that lie in [first, first + count). */
static uint64_t word_mask(size_t w, size_t first, size_t count)
{
	size_t lo = MAX(first, w * 64), hi = MIN(first + count, w * 64 + 64);
	uint64_t mask = ~0ull << (lo - w * 64);

	if (hi - w * 64 < 64)
		mask &= (1ull << (hi - w * 64)) - 1;
	return mask;
}

void bitmap_set_range(uint64_t *map, size_t first, size_t count)
{
	for (size_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
		map[w] |= word_mask(w, first, count);
}

void bitmap_clear_range(uint64_t *map, size_t first, size_t count)
{
	for (size_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
		map[w] &= ~word_mask(w, first, count);
}

bool bitmap_set_atomic(uint64_t *map, size_t bit)
{
	uint64_t m = 1ull << (bit % 64);

	return !(__atomic_fetch_or(&map[bit / 64], m, __ATOMIC_SEQ_CST) & m);
}

void bitmap_set_range_atomic(uint64_t *map, size_t first, size_t count)
{
	for (size_t w = first / 64; count && w <= (first + count - 1) / 64; w++)
		__atomic_fetch_or(&map[w], word_mask(w, first, count),
				  __ATOMIC_SEQ_CST);
}

void bitmap_harvest(uint64_t *dst, uint64_t *src, size_t nbits)
{
	for (size_t w = 0; w < BITMAP_WORDS(nbits); w++) {
		/* Most words are empty: do not own their cache lines. */
		if (!__atomic_load_n(&src[w], __ATOMIC_SEQ_CST))
			continue;
		dst[w] |= __atomic_exchange_n(&src[w], 0, __ATOMIC_SEQ_CST);
	}
}

size_t bitmap_count(const uint64_t *map, size_t nbits)
{
	size_t n = 0;

	for (size_t w = 0; w < nbits / 64; w++)
		n += (size_t)__builtin_popcountll(map[w]);
	if (nbits % 64)
		n += (size_t)__builtin_popcountll(map[nbits / 64] &
						  ((1ull << (nbits % 64)) - 1));
	return n;
}

static size_t next(const uint64_t *map, size_t nbits, size_t from,
		   uint64_t flip)
{
	uint64_t word;
	size_t w = from / 64;

	if (from >= nbits)
		return nbits;
	word = (map[w] ^ flip) & (~0ull << (from % 64));
	while (!word) {
		if (++w >= BITMAP_WORDS(nbits))
			return nbits;
		word = map[w] ^ flip;
	}
	from = w * 64 + (size_t)__builtin_ctzll(word);
	return MIN(from, nbits);
}

size_t bitmap_next(const uint64_t *map, size_t nbits, size_t from)
{
	return next(map, nbits, from, 0);
}

size_t bitmap_next_clear(const uint64_t *map, size_t nbits, size_t from)
{
	return next(map, nbits, from, ~0ull);
}
