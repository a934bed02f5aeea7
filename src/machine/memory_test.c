#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "machine/memory.h"

static char path[] = "/tmp/pagurus-meminfo-XXXXXX";

static void says(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void what_is_free_counts(void **state)
{
	struct err e = { 0 };

	says("MemTotal:  4000000 kB\nMemFree: 1 kB\nMemAvailable: 65536 kB\n"
	     "HugePages_Free: 3\nHugepagesize: 2048 kB\n");
	assert_int_equal(memory_suffices(64 << 20, 4096, path, &e), 0);
	assert_int_equal(memory_suffices((64 << 20) + 4096, 4096, path, &e),
			 -ENOMEM);
	assert_non_null(strstr(e.text, "this host has 64 MiB free"));
	err_clear(&e);
	assert_int_equal(memory_suffices(6 << 20, 2 << 20, path, &e), 0);
	assert_int_equal(memory_suffices(8 << 20, 2 << 20, path, &e), -ENOMEM);
	assert_non_null(strstr(e.text, "6 MiB free in huge pages"));
}

static void what_nobody_tells_is_no_refusal(void **state)
{
	says("MemTotal: 1 kB\n");
	assert_int_equal(memory_suffices(1 << 30, 4096, path, NULL), 0);
	assert_int_equal(memory_suffices(1 << 30, 4096, "/nowhere", NULL), 0);
	/* This host has some, and not all there could be. */
	assert_int_equal(memory_suffices(4096, 4096, MEMINFO, NULL), 0);
	assert_int_equal(memory_suffices(1ull << 60, 4096, MEMINFO, NULL),
			 -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_free_counts),
		cmocka_unit_test(what_nobody_tells_is_no_refusal),
	};
	int fd = mkstemp(path), ret;

	if (fd < 0)
		return 1;
	close(fd);
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return ret;
}
