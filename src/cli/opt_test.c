#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cli/cmd.h"
#include "cli/opt.h"

static struct {
	bool json;
	const char *name;
	struct opt_list vf;
	uint64_t cpus, mem;
} a;

static const struct opt opts[] = {
	{ "json", 'j', NULL, "JSON", OPT_FLAG, &a.json },
	{ "name", 'n', "NAME", "name", OPT_STR, &a.name },
	{ "vf", 0, "VF", "device", OPT_LIST, &a.vf },
	{ "cpus", 0, "N", "vCPUs", OPT_U64, &a.cpus },
	{ "mem", 0, "SIZE", "memory", OPT_SIZE, &a.mem },
	{ 0 },
};
static const struct opt_usage usage = { "x [OPTIONS] A", "About.", NULL };

static int parse(const char *const *args, char **argv)
{
	int n = 0;

	memset(&a, 0, sizeof(a));
	argv[n++] = (char *)"x";
	while (*args)
		argv[n++] = (char *)*args++;
	argv[n] = NULL;
	return opt_parse(opts, &usage, n, argv);
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL }, argv)

static void every_form_of_an_option(void **state)
{
	char *argv[32];

	assert_int_equal(PARSE("one", "--name", "web", "-j", "--vf=a", "--vf",
			       "b", "two", "--", "--mem"),
			 3);
	assert_string_equal(argv[1], "one");
	assert_string_equal(argv[2], "two");
	assert_string_equal(argv[3], "--mem");
	assert_null(argv[4]);
	assert_string_equal(a.name, "web");
	assert_true(a.json);
	assert_int_equal(a.vf.n, 2);
	assert_string_equal(a.vf.v[1], "b");
	assert_int_equal(PARSE("-nweb"), 0);
	assert_string_equal(a.name, "web");
}

static void numbers_and_sizes(void **state)
{
	char *argv[32];

	assert_int_equal(PARSE("--cpus", "0x10", "--mem=2G"), 0);
	assert_int_equal(a.cpus, 16);
	assert_int_equal(a.mem, 2ull << 30);
	assert_int_equal(PARSE("--cpus", "2G"), OPT_BAD);
	assert_int_equal(PARSE("--mem", "-1"), OPT_BAD);
	assert_int_equal(PARSE("--mem", "12Q"), OPT_BAD);
	assert_int_equal(PARSE("--mem", ""), OPT_BAD);
	assert_int_equal(PARSE("--mem", "99999999999T"), OPT_BAD);
	assert_int_equal(PARSE("--mem", "64MiB"), 0);
	assert_int_equal(a.mem, 64ull << 20);
}

static void mistakes_are_refused(void **state)
{
	char *argv[32];

	assert_int_equal(PARSE("--nam", "x"), OPT_BAD);
	assert_int_equal(PARSE("--name"), OPT_BAD);
	assert_int_equal(PARSE("--json=yes"), OPT_BAD);
	assert_int_equal(PARSE("-z"), OPT_BAD);
	assert_int_equal(PARSE("--help"), OPT_HELP);
	assert_int_equal(opt_exit(OPT_BAD), EXIT_USAGE);
	assert_int_equal(opt_exit(OPT_HELP), 0);
}

static void a_list_has_an_end(void **state)
{
	char *args[OPT_LIST_MAX + 3], vf[] = "--vf=x", x[] = "x";

	memset(&a, 0, sizeof(a));
	args[0] = x;
	for (int i = 1; i <= OPT_LIST_MAX + 1; i++)
		args[i] = vf;
	args[OPT_LIST_MAX + 2] = NULL;
	assert_int_equal(opt_parse(opts, &usage, OPT_LIST_MAX + 2, args),
			 OPT_BAD);
	assert_int_equal(a.vf.n, OPT_LIST_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_of_an_option),
		cmocka_unit_test(numbers_and_sizes),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(a_list_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
