#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "probe/pending.h"

/* Programs', kernels' with four levels of page tables, and with five. */
static const uint64_t stacks[] = {
	0x1000,
	0x7ffffffffff8,
	0xffff888000001230,
	0xffffc90000013e58,
	0xffa0000000613e58,
	0xff11000123456788,
	0xfffffffffffffff8,
};

static void stacks_of_all_sizes(void **state)
{
	struct probe_stack s = { .x = { 0, UINT64_MAX, false } };

	for (size_t i = 0; i < ARRAY_SIZE(stacks); i++)
		assert_int_equal(pend_push(&s, stacks[i], (uint16_t)(i + 7),
					   1000 + i, PEND_LEFT),
				 0);
	for (size_t i = 0; i < ARRAY_SIZE(stacks); i++) {
		int64_t at = pend_find(&s, stacks[i]);

		assert_int_equal(at, i);
		assert_true(pend_sp(&s.item[at]) == stacks[i]);
		assert_int_equal(pend_func(&s.item[at]), i + 7);
		assert_int_equal(pend_time(&s.item[at]), 1000 + i);
		assert_int_equal(s.item[at].time_flags & PEND_FLAGS, PEND_LEFT);
	}
	assert_int_equal(pend_find(&s, stacks[3] + 8), -1);
	pend_release(&s);
}

/* A machine that has been up for a year. */
static void times_wrap(void **state)
{
	const uint64_t year = 31557600ull * 1000000000;
	struct probe_stack s = { .x = { 0, UINT64_MAX, false } };

	assert_int_equal(pend_push(&s, stacks[4], 1, year, PEND_FRAME), 0);
	assert_true(pend_sp(&s.item[0]) == stacks[4]);
	assert_int_equal(s.item[0].time_flags & PEND_FLAGS, PEND_FRAME);
	assert_int_equal((year + 12345 - pend_time(&s.item[0])) & PEND_TIME,
			 12345);
	pend_release(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stacks_of_all_sizes),
		cmocka_unit_test(times_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
