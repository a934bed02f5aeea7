#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"

static void first_message_stays(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_set(&e, -EBUSY, "VF %d is taken", 3), -EBUSY);
	assert_int_equal(err_set(&e, -EIO, "later"), -EIO);
	assert_int_equal(e.code, -EBUSY);
	assert_string_equal(e.text, "VF 3 is taken");
	assert_string_equal(err_text(&e, -EIO), "VF 3 is taken");
}

static void sys_names_the_errno(void **state)
{
	struct err e = { 0 };

	assert_int_equal(err_sys(&e, -ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(e.text, "open /x: No such file or directory");
}

static void prefix_goes_in_front(void **state)
{
	struct err e = { 0 };

	err_set(&e, -EINVAL, "bad length");
	assert_int_equal(err_prefix(&e, "vm %s", "web"), -EINVAL);
	assert_string_equal(e.text, "vm web: bad length");
}

static void long_messages_are_cut_not_overrun(void **state)
{
	struct err e = { 0 };
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_sys(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	err_prefix(&e, "%s", big);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void null_is_fine(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_sys(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_prefix(NULL, "x"), 0);
	err_clear(NULL);
	assert_string_equal(err_text(NULL, -ENOENT),
			    "No such file or directory");
}

static void clear_allows_another(void **state)
{
	struct err e = { 0 };

	err_set(&e, -EIO, "one");
	err_clear(&e);
	err_set(&e, -EPERM, "two");
	assert_int_equal(e.code, -EPERM);
	assert_string_equal(e.text, "two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_message_stays),
		cmocka_unit_test(sys_names_the_errno),
		cmocka_unit_test(prefix_goes_in_front),
		cmocka_unit_test(long_messages_are_cut_not_overrun),
		cmocka_unit_test(null_is_fine),
		cmocka_unit_test(clear_allows_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
