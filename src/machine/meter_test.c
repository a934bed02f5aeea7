#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "machine/meter.h"

#define MS 1000000ull

static void counters_roll_over(void **state)
{
	assert_int_equal(meter_since(1500, 500, 1e6, 100 * MS), 1000);
	assert_int_equal(meter_since(500, UINT32_MAX - 499, 1e6, 100 * MS),
			 1000);
	assert_int_equal(meter_since(7, 7, 1e6, 100 * MS), 0);
	/* As much as there can be in that time. */
	assert_int_equal(meter_since(100000, 0, 1e6, 100 * MS), 100000);
}

static void counters_that_were_reset_begin_at_zero(void **state)
{
	assert_int_equal(meter_since(10, 3000000000u, 1e6, 100 * MS), 10);
	assert_int_equal(meter_since(0, 1, 1e6, 100 * MS), 0);
	/* Low or high before: a function that was reset is not a leap. */
	assert_int_equal(meter_since(3, 4000000000u, 1e6, 100 * MS), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_roll_over),
		cmocka_unit_test(counters_that_were_reset_begin_at_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
