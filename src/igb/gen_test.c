#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "igb/gen.h"
#include "igb/regs.h"

static void found_by_name_and_id(void **s)
{
	for (unsigned int i = 0; i < gen_count; i++) {
		const struct gen *g = &gen_table[i];

		assert_ptr_equal(gen_by_name(g->name), g);
		assert_ptr_equal(gen_by_pf(g->vendor, g->pf_device), g);
		assert_ptr_equal(gen_by_vf(g->vendor, g->vf_device), g);
	}
	assert_null(gen_by_name("igb/82575"));
	assert_null(gen_by_name("82576"));
	assert_null(gen_by_pf(0x8086, IGB_DEV_82576_VF));
	assert_null(gen_by_vf(0x8087, IGB_DEV_82576_VF));
}

/* Type and version, either of which changes the plan. */
static void equality_is_type_and_version(void **s)
{
	struct gen a = *gen_by_name("igb/82576"), b = a;

	assert_true(gen_equal(&a, &b));
	b.version = "82576x";
	assert_false(gen_equal(&a, &b));
	b = a;
	b.type = "ixgbe";
	assert_false(gen_equal(&a, &b));
	assert_false(gen_equal(&a, gen_by_name("igb/i350")));
}

static void queues_of_a_vf(void **s)
{
	const struct gen *g = gen_by_name("igb/82576");

	assert_int_equal(gen_vf_queue(g, 0, 0), 0);
	assert_int_equal(gen_vf_queue(g, 3, 1), 11);
	g = gen_by_name("igb/i350");
	assert_int_equal(gen_vf_queue(g, 3, 0), 3);
	for (unsigned int vf = 0; vf < g->vfs_max; vf++)
		assert_true(gen_vf_queue(g, vf, 1) < g->pf_queues);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_name_and_id),
		cmocka_unit_test(equality_is_type_and_version),
		cmocka_unit_test(queues_of_a_vf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
