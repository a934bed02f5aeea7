#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"

static char last[2048];
static unsigned int lines;

static void sink(enum log_level level, const char *line, void *opaque)
{
	snprintf(last, sizeof(last), "%d %s", (int)level, line);
	lines++;
}

static int setup(void **state)
{
	last[0] = '\0';
	lines = 0;
	log_set_sink(sink, NULL);
	log_set_level(LOG_INFO);
	return 0;
}

static void levels_filter(void **state)
{
	log_debug("hidden");
	assert_int_equal(lines, 0);
	log_warn("ring of %d", 8);
	assert_string_equal(last, "1 ring of 8");
	log_set_level(LOG_ERROR);
	log_warn("hidden");
	assert_int_equal(lines, 1);
}

static void level_names(void **state)
{
	assert_int_equal(log_level_parse("DEBUG"), LOG_DEBUG);
	assert_int_equal(log_level_parse("error"), LOG_ERROR);
	assert_int_equal(log_level_parse("loud"), -EINVAL);
}

static void foreign_bytes_cannot_forge_a_line(void **state)
{
	log_info("name %s", "a\nb\x1b[2J");
	assert_string_equal(last, "2 name a?b?[2J");
}

static void bucket_empties_and_refills(void **state)
{
	struct log_limit l = { .period_ns = 100, .burst = 3 };
	uint64_t sw = 99;

	for (int i = 0; i < 3; i++)
		assert_true(log_allow(&l, 1000, &sw));
	assert_int_equal(sw, 0);
	assert_false(log_allow(&l, 1000, &sw));
	assert_false(log_allow(&l, 1099, &sw));
	assert_true(log_allow(&l, 1100, &sw));
	assert_int_equal(sw, 2);
	/* A long silence fills it to the burst and no further. */
	for (int i = 0; i < 3; i++)
		assert_true(log_allow(&l, 1000000, &sw));
	assert_false(log_allow(&l, 1000000, &sw));
}

static void limited_lines_count_the_swallowed(void **state)
{
	struct log_limit l = { .period_ns = 1, .burst = 1 };

	l.suppressed = 7;
	log_limited(&l, LOG_WARN, "bad tail");
	assert_string_equal(last, "1 bad tail (and 7 like it)");

	l.period_ns = UINT64_MAX / 4;
	for (int i = 0; i < 100; i++)
		log_limited(&l, LOG_WARN, "bad tail");
	assert_true(lines <= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(levels_filter, setup),
		cmocka_unit_test_setup(level_names, setup),
		cmocka_unit_test_setup(foreign_bytes_cannot_forge_a_line,
				       setup),
		cmocka_unit_test_setup(bucket_empties_and_refills, setup),
		cmocka_unit_test_setup(limited_lines_count_the_swallowed,
				       setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
