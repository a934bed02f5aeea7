/*
 * The unit scenarios: "test=NAME" on the command line picks one.  The host
 * side of each stands in src/vmm/vm_kvm_test.c.
 */
#include "guest.h"

static int test_hello(void)
{
	printf("hello from ring 3, %d%c %s %08x\n", 100, '%', "ok", 0xbeefu);
	return 42;
}

static const struct {
	const char *name;
	int (*run)(void);
} tests[] = {
	{ "hello", test_hello },
};

int guest_main(void)
{
	const char *name = arg("test");

	for (size_t i = 0; name && i < ARRAY_SIZE(tests); i++)
		if (!strcmp(name, tests[i].name))
			return tests[i].run();
	printf("no such test: %s\n", name ? name : "(none given)");
	return 2;
}
