#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/trace.h"

static void keeps_order_and_numbers(void **s)
{
	struct trace_event ev[8];
	struct trace *t;
	uint64_t lost;

	assert_int_equal(trace_create(&t, 4), 0);
	assert_int_equal(trace_last(t), 0);
	trace_add(t, 1, "write", "idle", 0xc40, 1);
	trace_add(t, 2, "trap", "trapped", 0, 7);
	assert_int_equal(trace_read(t, 0, ev, 8, &lost), 2);
	assert_int_equal(lost, 0);
	assert_int_equal(ev[0].seq, 1);
	assert_int_equal(ev[0].unit, 1);
	assert_string_equal(ev[0].what, "write");
	assert_int_equal(ev[0].off, 0xc40);
	assert_string_equal(ev[1].state, "trapped");
	assert_int_equal(ev[1].val, 7);
	assert_true(ev[1].ns >= ev[0].ns);
	assert_int_equal(trace_read(t, 1, ev, 8, NULL), 1);
	assert_string_equal(ev[0].what, "trap");
	trace_destroy(t);
}

static void oldest_goes_first(void **s)
{
	struct trace_event ev[8];
	struct trace *t;
	uint64_t lost;

	assert_int_equal(trace_create(&t, 4), 0);
	for (unsigned int i = 1; i <= 10; i++)
		trace_add(t, 0, "x", "", 0, i);
	assert_int_equal(trace_read(t, 0, ev, 8, &lost), 4);
	assert_int_equal(lost, 6);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(ev[i].val, 7 + i);
	/* What the reader already had is not lost. */
	assert_int_equal(trace_read(t, 6, ev, 8, &lost), 4);
	assert_int_equal(lost, 0);
	assert_int_equal(trace_read(t, 10, ev, 8, &lost), 0);
	assert_int_equal(trace_last(t), 10);
	trace_destroy(t);
}

static void json_text(void **s)
{
	struct trace *t;
	char *text;

	assert_int_equal(trace_create(&t, 4), 0);
	trace_add(t, 3, "read", "answered", 0xc40, 0x30);
	text = trace_json(t);
	assert_non_null(text);
	assert_non_null(strstr(text, "\"vf\":3,\"what\":\"read\","
				     "\"state\":\"answered\",\"off\":3136,"
				     "\"val\":48}]}"));
	free(text);
	trace_destroy(t);

	trace_add(NULL, 0, "x", "", 0, 0);
	assert_int_equal(trace_last(NULL), 0);
	text = trace_json(NULL);
	assert_string_equal(text, "{\"lost\":0,\"events\":[]}");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order_and_numbers),
		cmocka_unit_test(oldest_goes_first),
		cmocka_unit_test(json_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
