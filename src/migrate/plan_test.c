#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/plan.h"

#define DEV(t, v, b)                                                   \
	{                                                              \
		.name = "x", .family = "igb", .type = t, .version = v, \
		.queues = 1, .backing = b, .features = MIG_FEAT_KNOWN, \
	}

/* Requirements D1 and D6: both inputs decide, type and version alike. */
static void the_table(void **state)
{
	static const struct {
		struct mig_device dev, offer;
		enum mig_action without, with; /* --fallback */
	} row[] = {
		{ DEV("82576", 1, MIG_HARDWARE), DEV("82576", 1, MIG_HARDWARE),
		  MIG_KEEP, MIG_KEEP },
		{ DEV("82576", 1, MIG_HARDWARE), DEV("i350", 1, MIG_HARDWARE),
		  MIG_REBUILD, MIG_REBUILD },
		{ DEV("i350", 1, MIG_HARDWARE), DEV("82576", 1, MIG_HARDWARE),
		  MIG_REBUILD, MIG_REBUILD },
		{ DEV("82576", 1, MIG_HARDWARE), DEV("82576", 2, MIG_HARDWARE),
		  MIG_REBUILD, MIG_REBUILD },
		{ DEV("82576", 1, MIG_HARDWARE), DEV("82576", 1, MIG_SOFTWARE),
		  MIG_REFUSE, MIG_REBUILD },
		{ DEV("82576", 1, MIG_HARDWARE), DEV("i350", 1, MIG_SOFTWARE),
		  MIG_REFUSE, MIG_REBUILD },
		{ DEV("82576", 1, MIG_HARDWARE), DEV("82576", 1, MIG_NONE),
		  MIG_REFUSE, MIG_REFUSE },
		{ DEV("82576", 1, MIG_SOFTWARE), DEV("82576", 1, MIG_SOFTWARE),
		  MIG_KEEP, MIG_KEEP },
		{ DEV("82576", 1, MIG_SOFTWARE), DEV("82576", 1, MIG_HARDWARE),
		  MIG_KEEP, MIG_KEEP },
		{ DEV("82576", 1, MIG_SOFTWARE), DEV("i350", 1, MIG_SOFTWARE),
		  MIG_REBUILD, MIG_REBUILD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct mig_policy policy = { false };
		struct mig_decision d;

		mig_decide(&d, &row[i].dev, &row[i].offer, &policy);
		assert_int_equal(d.action, row[i].without);
		assert_true(d.reason[0]);
		policy.fallback_software = true;
		mig_decide(&d, &row[i].dev, &row[i].offer, &policy);
		assert_int_equal(d.action, row[i].with);
	}
}

static void what_is_lacking_is_said(void **state)
{
	struct mig_device dev = DEV("82576", 1, MIG_HARDWARE), offer = dev;
	struct mig_policy policy = { true };
	struct mig_decision d;

	offer.queues = 0;
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REFUSE);
	assert_string_equal(d.reason, "'x' has 0 queues, the guest uses 1");

	offer = dev;
	offer.features = MIG_FEAT_KNOWN & ~MIG_FEAT_JUMBO;
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REFUSE);
	assert_string_equal(d.reason,
			    "'x' lacks jumbo frames, which the guest uses");

	/* A guest with VLANs, and nobody there who leaves tags in frames. */
	offer.features = MIG_FEAT_KNOWN & ~MIG_FEAT_LB_TAG_LE;
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REFUSE);
	assert_string_equal(d.reason,
			    "'x' lacks little-endian tags of looped-back "
			    "frames, which the guest uses");

	offer = dev;
	strcpy(offer.family, "ixgbe");
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REFUSE);

	/* A feature nobody has taught migration is denied by default. */
	dev.features = offer.features = 1ull << 40;
	strcpy(offer.family, "igb");
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REFUSE);

	/* A lower API is absorbed by a rebuild, a higher one needs nothing. */
	dev = offer = (struct mig_device)DEV("82576", 1, MIG_HARDWARE);
	dev.api = 2;
	offer.api = 1;
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_REBUILD);
	offer.api = 3;
	mig_decide(&d, &dev, &offer, &policy);
	assert_int_equal(d.action, MIG_KEEP);
}

static void each_offer_is_used_once_and_the_best_first(void **state)
{
	struct mig_manifest m = {
		.ndevices = 3,
		.device = { DEV("82576", 1, MIG_HARDWARE),
			    DEV("i350", 1, MIG_HARDWARE),
			    DEV("i350", 1, MIG_HARDWARE) },
	};
	struct mig_device offers[] = {
		DEV("i350", 1, MIG_HARDWARE),
		DEV("82576", 1, MIG_HARDWARE),
		DEV("82576", 1, MIG_HARDWARE),
	};
	struct mig_policy policy = { false };
	struct mig_plan plan;
	struct err e = { 0 };

	mig_plan_make(&plan, &m, offers, 3, &policy);
	assert_int_equal(plan.n, 3);
	assert_int_equal(plan.d[0].action, MIG_KEEP);
	assert_int_equal(plan.d[1].action, MIG_KEEP);
	assert_int_equal(plan.d[2].action, MIG_REBUILD);
	assert_int_equal(mig_plan_verdict(&plan, NULL), 0);

	mig_plan_make(&plan, &m, offers, 2, &policy);
	assert_int_equal(plan.d[2].action, MIG_REFUSE);
	assert_int_equal(mig_plan_verdict(&plan, &e), -EOPNOTSUPP);
	assert_string_equal(e.text, "device x cannot move: the destination has "
				    "no VF for it; give its 'pagurus receive' "
				    "one with --vf");
}

static void plans_travel(void **state)
{
	struct mig_device dev = DEV("82576", 1, MIG_HARDWARE);
	struct mig_policy policy = { false };
	struct mig_plan plan = { .n = 1 }, back;
	uint8_t buf[2048];
	struct wire_out o;
	struct wire_in in;
	json_t *j;

	mig_decide(&plan.d[0], &dev, &dev, &policy);
	wire_out_init(&o, buf, sizeof(buf));
	mig_plan_put(&o, &plan);
	wire_in_init(&in, buf, wire_used(&o));
	assert_int_equal(mig_plan_get(&in, &back, NULL), 0);
	assert_memory_equal(&plan, &back, sizeof(plan));

	for (size_t cut = 0; cut < wire_used(&o); cut++) {
		wire_in_init(&in, buf, cut);
		assert_int_equal(mig_plan_get(&in, &back, NULL), -EBADMSG);
	}
	j = mig_plan_json(&plan);
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(j, 0), "action")),
			    "keep");
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table),
		cmocka_unit_test(what_is_lacking_is_said),
		cmocka_unit_test(each_offer_is_used_once_and_the_best_first),
		cmocka_unit_test(plans_travel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
