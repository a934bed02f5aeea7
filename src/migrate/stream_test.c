#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "migrate/stream.h"

static const struct stream_rule rules[] = {
	{ 1, 1, 2, 0, 8, "one" },
	{ 2, 1, 1, 4, 4, "two" },
	{ 0 },
};

static size_t section(uint8_t *out, uint16_t id, uint16_t version,
		      uint32_t flags, const char *payload, uint32_t len)
{
	stream_header(out, id, version, flags, payload, len);
	memcpy(out + STREAM_HEADER, payload, len);
	return STREAM_HEADER + len;
}

static int parse(const uint8_t *p, size_t n, struct stream_section *s)
{
	const uint8_t *payload;
	size_t used;

	return stream_parse(p, n, rules, s, &payload, &used, NULL);
}

static void sections_come_back(void **state)
{
	uint8_t b[128];
	struct stream_section s;
	const uint8_t *payload;
	size_t used, n = section(b, 1, 2, STREAM_MANDATORY, "hello", 5);

	assert_int_equal(stream_parse(b, n, rules, &s, &payload, &used, NULL),
			 0);
	assert_int_equal(s.id, 1);
	assert_int_equal(s.version, 2);
	assert_int_equal(s.len, 5);
	assert_int_equal(used, n);
	assert_memory_equal(payload, "hello", 5);
}

static void every_flipped_bit_is_noticed(void **state)
{
	uint8_t b[128];
	size_t n = section(b, 1, 2, STREAM_MANDATORY, "hello", 5);
	struct stream_section s;

	for (size_t bit = 0; bit < n * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(parse(b, n, &s), 0);
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(parse(b, n, &s), 0);
}

static void a_cut_asks_for_more(void **state)
{
	uint8_t b[128];
	size_t n = section(b, 1, 1, 0, "hello", 5);
	struct stream_section s;

	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(parse(b, cut, &s), -EAGAIN);
}

static void unknown_sections(void **state)
{
	uint8_t b[256];
	struct stream_section s;
	size_t n = section(b, 77, 9, 0, "whatever", 8);

	section(b + n, 2, 1, STREAM_MANDATORY, "four", 4);
	assert_int_equal(parse(b, 128, &s), 0);
	assert_int_equal(s.id, 2);

	section(b, 77, 9, STREAM_MANDATORY, "whatever", 8);
	assert_int_equal(parse(b, 128, &s), -EPROTO);
}

static void versions_and_lengths_are_held_to_the_table(void **state)
{
	uint8_t b[128];
	struct stream_section s;
	struct err e = { 0 };
	const uint8_t *payload;
	size_t used;

	section(b, 1, 3, 0, "x", 1);
	assert_int_equal(stream_parse(b, sizeof(b), rules, &s, &payload, &used,
				      &e),
			 -EPROTO);
	assert_string_equal(e.text,
			    "section 'one': version 3, this side reads 1..2");
	section(b, 1, 0, 0, "x", 1);
	assert_int_equal(parse(b, sizeof(b), &s), -EPROTO);
	section(b, 2, 1, 0, "abc", 3);
	assert_int_equal(parse(b, sizeof(b), &s), -EBADMSG);
	section(b, 2, 1, 0, "abcde", 5);
	assert_int_equal(parse(b, sizeof(b), &s), -EBADMSG);
	section(b, 1, 1, 0, "123456789", 9);
	assert_int_equal(parse(b, sizeof(b), &s), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_come_back),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(a_cut_asks_for_more),
		cmocka_unit_test(unknown_sections),
		cmocka_unit_test(versions_and_lengths_are_held_to_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
