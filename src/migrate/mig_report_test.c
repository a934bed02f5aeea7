/*
 * What only a report wants: traffic before and after, pages that changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "migrate/mig_rig.h"

static void measured(struct run *x, const char *name)
{
	struct mig_params p = params(via(name));

	p.measure = true;
	run_start(x, &p);
	x->out = mig_run(x->s, &x->r, &x->src_err);
	pthread_join(x->thread, NULL);
}

static void a_report_has_its_before_and_after(void **state)
{
	struct mig_sample s[MIG_AFTER_MAX];
	uint64_t again = 0, same = 0;
	struct run x;

	run_init(&x);
	measured(&x, "dest");
	run_is_right(&x);
	assert_int_equal(x.dst.watch_ns, MIG_WATCH_NS);
	assert_true(x.r.phase_at[MIG_ENGAGE] - x.r.t0_ns >= MIG_BASELINE_NS);
	assert_true(x.r.phase_at[MIG_BASELINE] != 0);
	assert_true(x.r.compared);
	/* The guest writes to 64 pages: what is sent again has changed. */
	assert_int_equal(x.r.round[0].again_pages, 0);
	for (unsigned int i = 1; i < x.r.rounds; i++) {
		again += x.r.round[i].again_pages;
		same += x.r.round[i].same_pages;
		assert_int_equal(x.r.round[i].again_pages, x.r.round[i].pages);
	}
	assert_true(same < again);
	assert_int_equal(mig_watch(x.s, s), 3);
	assert_int_equal(s[2].at_ns, 1000000000);
	assert_int_equal(s[2].frames, 20);
	assert_int_equal(s[2].bytes, 2000);
	/* It is told once. */
	assert_int_equal(mig_watch(x.s, s), 0);
	run_fini(&x);
}

static void who_wants_no_report_waits_for_none(void **state)
{
	struct mig_params p = params(via("dest"));
	struct mig_sample s[MIG_AFTER_MAX];
	struct run x;

	run_init(&x);
	run_start(&x, &p);
	run_moves(&x);
	assert_int_equal(x.dst.watch_ns, 0);
	assert_int_equal(x.r.phase_at[MIG_BASELINE], 0);
	assert_false(x.r.compared);
	assert_int_equal(mig_watch(x.s, s), 0);
	run_fini(&x);
}

static void *stop_watching(void *opaque)
{
	usleep(100000);
	mig_watch_stop(opaque);
	return NULL;
}

/* A destination that does not know the question, and one that lies. */
static void a_destination_that_tells_nothing_changes_nothing(void **state)
{
	struct mig_sample s[MIG_AFTER_MAX];
	struct mig_vm_ops old = machine_ops;
	struct run x;
	pthread_t t;

	old.watch = NULL;
	old.watched = NULL;
	for (int lies = 0; lies < 2; lies++) {
		run_init(&x);
		x.dst.nonsense = lies;
		if (!lies)
			x.dst.vm.ops = &old;
		measured(&x, "dest");
		run_is_right(&x);
		if (!lies)
			pthread_create(&t, NULL, stop_watching, x.s);
		assert_int_equal(mig_watch(x.s, s), 0);
		if (!lies)
			pthread_join(t, NULL);
		run_fini(&x);
	}
}

static void a_link_that_breaks_afterwards_changes_nothing(void **state)
{
	struct mig_sample s[MIG_AFTER_MAX];
	struct proxy proxy;
	struct run x;

	run_init(&x);
	proxy_start(&proxy, -1, true);
	measured(&x, "proxy");
	run_is_right(&x);
	proxy_stop(&proxy);
	assert_int_equal(mig_watch(x.s, s), 0);
	run_fini(&x);
}

/* The VM ends at the destination before it has told. */
static void a_destination_that_ends_waits_for_no_report(void **state)
{
	struct mig_sample s[MIG_AFTER_MAX];
	struct run x;

	run_init(&x);
	measured(&x, "dest");
	run_is_right(&x);
	mig_incoming_close(x.keep, 0);
	x.keep = NULL;
	assert_int_equal(mig_watch(x.s, s), 0);
	run_fini(&x);
}

static void cancel_in_baseline(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	if (p->phase == MIG_BASELINE)
		mig_cancel(x->s);
}

static void cancel_works_before_anything_is_engaged(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.measure = true;
	p.progress = cancel_in_baseline;
	p.opaque = &x;
	run_init(&x);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "cancelled");
	assert_int_equal(x.src.engaged, 0);
	pthread_join(x.thread, NULL);
	run_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_has_its_before_and_after),
		cmocka_unit_test(who_wants_no_report_waits_for_none),
		cmocka_unit_test(
			a_destination_that_tells_nothing_changes_nothing),
		cmocka_unit_test(a_link_that_breaks_afterwards_changes_nothing),
		cmocka_unit_test(a_destination_that_ends_waits_for_no_report),
		cmocka_unit_test(cancel_works_before_anything_is_engaged),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
