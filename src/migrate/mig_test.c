/*
 * Moves, checks, refusals, failures at either end: what each leaves running.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/sock.h"
#include "base/util.h"
#include "migrate/mig_rig.h"

/* What any other call of the source may take. */
#define REPLY_NS 30000000000ull

static void moves(int zstd, unsigned int connections)
{
	struct mig_params p = params(via("dest"));
	struct run x;
	uint64_t sum = 0;

	p.zstd_level = zstd;
	p.connections = connections;
	p.verify = true;
	run_init(&x);
	run_start(&x, &p);
	usleep(20000);
	run_moves(&x);
	assert_int_equal(x.r.round[0].pages, PAGES);
	assert_int_equal(x.r.verified, PAGES);
	assert_true(x.r.rounds >= 2);
	/* The breakdown of the outage sums to the outage. */
	for (int i = MIG_PAUSE; i < MIG_DONE; i++)
		sum += x.r.phase_ns[i];
	assert_int_equal(sum, x.r.downtime_ns);
	run_fini(&x);
}

static void a_running_machine_moves(void **state)
{
	moves(0, 2);
}

static void with_compression_and_many_channels(void **state)
{
	moves(1, 7);
}

static void devices_are_quiesced_before_the_pause(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	run_init(&x);
	x.src.action = x.dst.action = MIG_REBUILD;
	run_start(&x, &p);
	run_moves(&x);
	assert_int_equal(x.src.looks, 3);
	assert_true(x.r.phase_at[MIG_PRECOPY] < x.r.phase_at[MIG_QUIESCE]);
	assert_true(x.r.phase_at[MIG_QUIESCE] < x.r.phase_at[MIG_PAUSE]);
	run_fini(&x);
}

/* A page that the dirty log missed is found, and the VM stays. */
static void a_missed_page_is_noticed(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.verify = true;
	run_init(&x);
	run_start(&x, &p);
	x.src.miss = 1;
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "1 of 1024 pages differ from the source's, the first at "
		      "0x5000");
	pthread_join(x.thread, NULL);
	assert_int_equal(x.dst.dropped, 1);
	run_fini(&x);
}

static void over_one_channel(void **state)
{
	moves(0, 1);
}

static void a_check_moves_nothing(void **state)
{
	struct mig_params p = params(via("dest"));
	struct mig_plan plan;
	struct run x;

	run_init(&x);
	run_start(&x, &p);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(mig_check(x.s, &plan, NULL), 0);
		assert_int_equal(plan.n, 1);
		assert_int_equal(plan.d[0].action, MIG_KEEP);
	}
	assert_int_equal(x.src.engaged, 0);
	assert_true(runs(&x.src));
	/* and the destination is still there to migrate to */
	run_moves(&x);
	run_fini(&x);
}

static void a_refusal_comes_before_any_ram(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	run_init(&x);
	x.dst.action = MIG_REFUSE;
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "net0 cannot move");
	assert_int_equal(x.src.engaged, 0);
	assert_int_equal(x.r.rounds, 0);
	/* The receiver is not ended by it: another try may fit. */
	x.dst.action = MIG_KEEP;
	run_moves(&x);
	run_fini(&x);
}

/* So does one of the CPU; it is asked again each time. */
static void a_cpu_that_is_not_there_is_refused(void **state)
{
	struct mig_params p = params(via("dest"));
	struct mig_plan plan;
	struct err e = { 0 };
	struct run x;

	run_init(&x);
	x.dst.fail_cpu = 1;
	run_start(&x, &p);
	assert_int_equal(mig_check(x.s, &plan, &e), -ECANCELED);
	assert_non_null(strstr(e.text, "no avx512 here"));
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "no avx512 here");
	assert_int_equal(x.src.engaged, 0);
	assert_int_equal(x.r.rounds, 0);
	x.dst.fail_cpu = 0;
	run_moves(&x);
	run_fini(&x);
}

static void failures_on_either_side_resume_the_source(void **state)
{
	static const struct {
		size_t off;
		const char *why;
	} row[] = {
		{ offsetof(struct run, src.fail_drain), "does not stop" },
		{ offsetof(struct run, dst.fail_prepare), "no memory for" },
		{ offsetof(struct run, dst.fail_ready), "head register" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct mig_params p = params(via("dest"));
		struct run x;

		run_init(&x);
		*(int *)((char *)&x + row[i].off) = 1;
		run_start(&x, &p);
		x.out = mig_run(x.s, &x.r, &x.src_err);
		run_stays(&x, row[i].why);
		/* Before the VM is made the receiver waits for another. */
		if (x.dst.fail_prepare) {
			x.dst.fail_prepare = 0;
			x.out = mig_run(x.s, &x.r, NULL);
			assert_int_equal(x.out, MIG_RUNS_THERE);
		}
		pthread_join(x.thread, NULL);
		if (i != 1)
			assert_int_equal(x.dst.dropped, 1);
		run_fini(&x);
	}
}

static void cancel_in_precopy(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	/* Not before the senders wait for the cap. */
	if (p->phase == MIG_PRECOPY && p->sent)
		assert_int_equal(mig_cancel(x->s), 0);
}

static void cancel_works(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.progress = cancel_in_precopy;
	p.opaque = &x;
	p.bandwidth = 1000; /* would take half an hour */
	run_init(&x);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "cancelled");
	pthread_join(x.thread, NULL);
	assert_true(x.dst_ret < 0);
	assert_non_null(strstr(x.dst_err.text, "cancelled"));
	assert_int_equal(x.dst.dropped, 1);
	run_fini(&x);
}

static void cancel_at_the_last(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	if (p->phase == MIG_HANDOVER)
		assert_int_equal(mig_cancel(x->s), 0);
}

/* As late as can be: the destination hears of it, and waits for nothing. */
static void a_late_cancel_is_told(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.progress = cancel_at_the_last;
	p.opaque = &x;
	run_init(&x);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	run_stays(&x, "cancelled");
	pthread_join(x.thread, NULL);
	assert_int_equal(x.dst_ret, -ECANCELED);
	assert_non_null(strstr(x.dst_err.text, "cancelled"));
	assert_int_equal(x.dst.dropped, 1);
	run_fini(&x);
}

struct stall {
	struct proxy *proxy;
	enum mig_phase at;
};

static void stall(void *opaque, const struct mig_progress *p)
{
	struct stall *s = opaque;

	if (p->phase == s->at)
		s->proxy->stalled = true;
}

/* Once the VM stands still nobody may keep it waiting. */
static void an_outage_has_an_end(void **state)
{
	static const enum mig_phase at[] = { MIG_LAST_RAM, MIG_STATE,
					     MIG_LOAD };

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		struct mig_params p = params(via("proxy"));
		struct proxy proxy;
		struct stall s = { &proxy, at[i] };
		struct run x;

		p.progress = stall;
		p.opaque = &s;
		p.switch_ms = 300;
		run_init(&x);
		proxy_start(&proxy, -1, false);
		run_start(&x, &p);
		x.out = mig_run(x.s, &x.r, &x.src_err);
		/* Too long in all, or in one call that got nowhere. */
		run_stays(&x, at[i] == MIG_LOAD ? "does not answer" : "");
		assert_true(x.r.downtime_ns < REPLY_NS);
		proxy_stop(&proxy);
		pthread_join(x.thread, NULL);
		assert_int_equal(x.dst.dropped, 1);
		run_fini(&x);
	}
}

static void bandwidth_is_kept(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.bandwidth = 10000000;
	run_init(&x);
	run_start(&x, &p);
	run_moves(&x);
	/* 1.4 MB of the first round at 10 MB/s: never faster than that. */
	assert_true(x.r.round[0].ns >=
		    x.r.round[0].bytes * 1000000000ull / p.bandwidth);
	run_fini(&x);
}

/*
 * The outage is not held to the cap: that the last round would take too long
 * with it is no reason to wait for one that does not.
 */
static void a_cap_does_not_count_in_the_outage(void **state)
{
	struct mig_params p = params(via("dest"));
	const struct mig_round *last;
	struct run x;

	p.bandwidth = 2000000;
	run_init(&x);
	run_start(&x, &p);
	run_moves(&x);
	assert_true(x.r.rounds < MIG_ROUNDS_KEPT);
	last = &x.r.round[x.r.rounds - 2];
	assert_true(last->line_ns < last->ns);
	assert_in_range(x.r.expected_ns, 1, p.max_downtime_ns);
	assert_true(last->dirty_pages * PAGE_SIZE * 1000000000ull /
			    p.bandwidth >
		    p.max_downtime_ns);
	assert_int_equal(x.r.max_throttle, 0);
	run_fini(&x);
}

/* Nobody knows how fast the way behind a relay is: no faster than the cap. */
static void a_relay_is_as_slow_as_the_cap(void **state)
{
	struct mig_params p = params(via("proxy"));
	const struct mig_round *last;
	struct proxy proxy;
	struct run x;

	p.bandwidth = 2000000;
	p.max_downtime_ns = 60000000000ull;
	run_init(&x);
	proxy_start(&proxy, -1, false);
	run_start(&x, &p);
	run_moves(&x);
	last = &x.r.round[x.r.rounds - 2];
	assert_true(x.r.expected_ns >= last->dirty_pages * PAGE_SIZE *
					       1000000000ull / p.bandwidth);
	proxy_stop(&proxy);
	run_fini(&x);
}

static void strangers_end_nothing(void **state)
{
	struct mig_params p = params(via("dest"));
	static const char *const babble[] = { "", "GET / HTTP/1.0\r\n\r\n",
					      "PgS1" };
	struct run x;

	run_init(&x);
	run_start(&x, &p);
	for (size_t i = 0; i < ARRAY_SIZE(babble); i++) {
		int fd = sock_connect(via("dest") + strlen("unix:"),
				      SOCK_STREAM, NULL);

		assert_true(fd >= 0);
		if (babble[i][0])
			sock_send(fd, babble[i], strlen(babble[i]), NULL, 0);
		close(fd);
	}
	run_moves(&x);
	run_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_machine_moves),
		cmocka_unit_test(with_compression_and_many_channels),
		cmocka_unit_test(over_one_channel),
		cmocka_unit_test(a_missed_page_is_noticed),
		cmocka_unit_test(devices_are_quiesced_before_the_pause),
		cmocka_unit_test(a_check_moves_nothing),
		cmocka_unit_test(a_refusal_comes_before_any_ram),
		cmocka_unit_test(a_cpu_that_is_not_there_is_refused),
		cmocka_unit_test(failures_on_either_side_resume_the_source),
		cmocka_unit_test(cancel_works),
		cmocka_unit_test(a_late_cancel_is_told),
		cmocka_unit_test(an_outage_has_an_end),
		cmocka_unit_test(bandwidth_is_kept),
		cmocka_unit_test(a_cap_does_not_count_in_the_outage),
		cmocka_unit_test(a_relay_is_as_slow_as_the_cap),
		cmocka_unit_test(strangers_end_nothing),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
