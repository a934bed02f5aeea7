#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/wire.h"

static size_t sample(uint8_t *buf, size_t size)
{
	struct wire_out o;

	wire_out_init(&o, buf, size);
	put_u8(&o, 0x12);
	put_u16(&o, 0x3456);
	put_u32(&o, 0x789abcde);
	put_u64(&o, 0x1122334455667788ull);
	put_str(&o, "crab");
	return o.err ? 0 : wire_used(&o);
}

static int read_sample(const uint8_t *buf, size_t size)
{
	struct wire_in in;
	char s[8];

	wire_in_init(&in, buf, size);
	if (get_u8(&in) != 0x12 || get_u16(&in) != 0x3456 ||
	    get_u32(&in) != 0x789abcde || get_u64(&in) != 0x1122334455667788ull)
		wire_fail(&in, -EINVAL);
	get_str(&in, s, sizeof(s));
	if (strcmp(s, "crab"))
		wire_fail(&in, -EINVAL);
	return wire_done(&in);
}

static void round_trip_is_little_endian(void **state)
{
	uint8_t buf[64];
	size_t n = sample(buf, sizeof(buf));

	assert_int_equal(n, 1 + 2 + 4 + 8 + 2 + 4);
	assert_int_equal(buf[1], 0x56);
	assert_int_equal(buf[3], 0xde);
	assert_int_equal(read_sample(buf, n), 0);
}

static void cut_anywhere_fails(void **state)
{
	uint8_t buf[64];
	size_t n = sample(buf, sizeof(buf));

	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(read_sample(buf, cut), -EBADMSG);
	assert_int_equal(read_sample(buf, n + 1), -EBADMSG);
}

static void too_small_a_buffer_is_said_once(void **state)
{
	uint8_t buf[64];
	size_t n = sample(buf, sizeof(buf));

	for (size_t size = 0; size < n; size++) {
		memset(buf, 0xee, sizeof(buf));
		assert_int_equal(sample(buf, size), 0);
		assert_int_equal(buf[size], 0xee);
	}
}

static void the_first_error_sticks(void **state)
{
	uint8_t buf[2] = { 1, 2 };
	struct wire_in in;

	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(get_u32(&in), 0);
	assert_int_equal(get_u8(&in), 0);
	assert_int_equal(wire_left(&in), 0);
	wire_fail(&in, -EINVAL);
	assert_int_equal(in.err, -EBADMSG);
	assert_null(get_view(&in, 0));
}

static void strings_are_bounded(void **state)
{
	uint8_t buf[8] = { 4, 0, 'a', 'b', 'c', 'd' };
	struct wire_in in;
	char s[4];

	wire_in_init(&in, buf, 6);
	get_str(&in, s, sizeof(s));
	assert_int_equal(in.err, -EBADMSG);
	assert_string_equal(s, "");

	buf[0] = 3;
	buf[3] = '\0';
	wire_in_init(&in, buf, 5);
	get_str(&in, s, sizeof(s));
	assert_int_equal(in.err, -EBADMSG);
}

static void gaps_are_filled_later(void **state)
{
	uint8_t buf[16];
	struct wire_out o;
	size_t at;

	wire_out_init(&o, buf, sizeof(buf));
	put_u8(&o, 1);
	at = put_gap_u32(&o);
	put_u8(&o, 2);
	wire_patch_u32(&o, at, 0x04030201);
	assert_memory_equal(buf, "\x01\x01\x02\x03\x04\x02", 6);
}

static void texts_can_be_shown(void **state)
{
	const uint8_t raw[] = "\x0c\0a\033[2J\n\177\xff\xc3\xa9 ~";
	struct wire_in in;
	char s[16];

	wire_in_init(&in, raw, sizeof(raw) - 1);
	get_text(&in, s, sizeof(s));
	assert_int_equal(wire_done(&in), 0);
	assert_string_equal(s, "a?[2J????? ~");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_can_be_shown),
		cmocka_unit_test(round_trip_is_little_endian),
		cmocka_unit_test(cut_anywhere_fails),
		cmocka_unit_test(too_small_a_buffer_is_said_once),
		cmocka_unit_test(the_first_error_sticks),
		cmocka_unit_test(strings_are_bounded),
		cmocka_unit_test(gaps_are_filled_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
