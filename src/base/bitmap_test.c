#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bitmap.h"

#define N 200

/* The same operations on an array of bool: slow, and plainly right. */
static void agree(const uint64_t *map, const bool *ref, size_t n)
{
	size_t count = 0, seen = 0;

	for (size_t i = 0; i < n; i++) {
		assert_int_equal(bitmap_test(map, i), ref[i]);
		count += ref[i];
	}
	assert_int_equal(bitmap_count(map, n), count);
	bitmap_for_each (i, map, n) {
		assert_true(ref[i]);
		seen++;
	}
	assert_int_equal(seen, count);
	for (size_t i = 0; i <= n; i++) {
		size_t set = i, clear = i;

		while (set < n && !ref[set])
			set++;
		while (clear < n && ref[clear])
			clear++;
		assert_int_equal(bitmap_next(map, n, i), set);
		assert_int_equal(bitmap_next_clear(map, n, i), clear);
	}
}

static void random_operations_match_a_model(void **state)
{
	uint64_t *map = bitmap_alloc(N);
	bool ref[N] = { 0 };

	srandom(1);
	for (int round = 0; round < 2000; round++) {
		size_t a = (size_t)random() % N;
		size_t n = (size_t)random() % (N - a + 1);

		switch (random() % 6) {
		case 0:
			bitmap_set(map, a);
			ref[a] = true;
			break;
		case 1:
			bitmap_clear(map, a);
			ref[a] = false;
			break;
		case 2:
			bitmap_set_range(map, a, n);
			memset(ref + a, 1, n);
			break;
		case 3:
			bitmap_clear_range(map, a, n);
			memset(ref + a, 0, n);
			break;
		case 4:
			assert_int_equal(bitmap_set_atomic(map, a), !ref[a]);
			ref[a] = true;
			break;
		default:
			bitmap_set_range_atomic(map, a, n);
			memset(ref + a, 1, n);
			break;
		}
		if (round % 20 == 0)
			agree(map, ref, N);
	}
	agree(map, ref, N);
	free(map);
}

static void harvest_moves_every_bit(void **state)
{
	uint64_t *a = bitmap_alloc(N), *b = bitmap_alloc(N);

	bitmap_set(a, 3);
	bitmap_set(b, 64);
	bitmap_set(b, 199);
	bitmap_harvest(a, b, N);
	assert_int_equal(bitmap_count(a, N), 3);
	assert_int_equal(bitmap_count(b, N), 0);
	free(a);
	free(b);
}

static void empty_maps_and_ranges(void **state)
{
	uint64_t *map = bitmap_alloc(0);

	assert_int_equal(bitmap_next(map, 0, 0), 0);
	bitmap_set_range(map, 0, 0);
	assert_int_equal(map[0], 0);
	free(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_match_a_model),
		cmocka_unit_test(harvest_moves_every_bit),
		cmocka_unit_test(empty_maps_and_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
