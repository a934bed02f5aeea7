#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/traffic.h"

static struct mig_sample out[MIG_AFTER_MAX];
static uint8_t buf[4096];

static int through(const struct mig_sample *s, size_t n, size_t cut)
{
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	mig_after_put(&o, s, n);
	assert_int_equal(o.err, 0);
	wire_in_init(&in, buf, wire_used(&o) - cut);
	return mig_after_get(&in, out);
}

static void what_is_put_comes_out(void **state)
{
	struct mig_sample s[MIG_AFTER_MAX];

	for (uint64_t i = 0; i < MIG_AFTER_MAX; i++)
		s[i] = (struct mig_sample){ i * 1000, i / 2 * 7, i * 9000 };
	assert_int_equal(through(s, MIG_AFTER_MAX, 0), MIG_AFTER_MAX);
	assert_memory_equal(s, out, sizeof(s));
	for (size_t cut = 1; cut < 4 + sizeof(s); cut++)
		assert_int_equal(through(s, MIG_AFTER_MAX, cut), -EBADMSG);
}

static void nonsense_is_refused(void **state)
{
	static const struct mig_sample rows[][3] = {
		{ { 0, 0, 0 }, { 0, 5, 5 }, { 2, 6, 6 } }, /* no time between */
		{ { 9, 0, 0 }, { 8, 5, 5 }, { 9, 6, 6 } }, /* back in time */
		{ { 0, 7, 0 }, { 1, 6, 5 }, { 2, 8, 6 } }, /* fewer frames */
		{ { 0, 0, 7 }, { 1, 5, 6 }, { 2, 6, 8 } }, /* fewer bytes */
		{ { 0, 0, 0 }, { 1, 5, 5 }, { UINT64_MAX, 6, 6 } },
		{ { 0, 0, 0 }, { 1, 5, 5 }, { 2, UINT64_MAX, 6 } },
		{ { 0, 0, 0 }, { 1, 5, 5 }, { 2, 6, UINT64_MAX } },
	};
	static const struct mig_sample good[3] = { { 0, 0, 0 },
						   { 1, 5, 5 },
						   { 2, 6, 6 } };

	assert_int_equal(through(good, 3, 0), 3);
	assert_int_equal(through(good, 1, 0), -EBADMSG);
	assert_int_equal(through(good, 0, 0), -EBADMSG);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(through(rows[i], 3, 0), -EBADMSG);
}

static void more_than_there_is_room_for_is_refused(void **state)
{
	struct wire_in in;
	struct wire_out o;

	wire_out_init(&o, buf, sizeof(buf));
	put_u32(&o, MIG_AFTER_MAX + 1);
	for (uint64_t i = 0; i < MIG_AFTER_MAX + 1; i++)
		for (int k = 0; k < 3; k++)
			put_u64(&o, i);
	assert_int_equal(o.err, 0);
	wire_in_init(&in, buf, wire_used(&o));
	assert_int_equal(mig_after_get(&in, out), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_comes_out),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(more_than_there_is_room_for_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
