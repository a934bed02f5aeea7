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

#include "base/util.h"
#include "shadow/priv.h"
#include "shadow/sim.h"
#include "shadow/sim_priv.h"

/* Random operations a configuration; --ops sets it. */
static uint64_t nops = 6000;
static uint64_t seed = 1;

static struct sim sim; /* large */

static const struct {
	const char *name;
	struct sim_opts o;
} cases[] = {
	{ "plain", { .nrx = 64, .ntx = 64 } },
	{ "smallest rings", { .nrx = 8, .ntx = 8 } },
	{ "large rings", { .nrx = 256, .ntx = 256, .batch = 8 } },
	{ "write-backs in batches", { .nrx = 32, .ntx = 32, .batch = 7 } },
	{ "head before write-back",
	  { .nrx = 32, .ntx = 32, .batch = 4, .head_first = true } },
	{ "shared pages", { .nrx = 40, .ntx = 24, .tight = true } },
	{ "shared pages, late write-backs",
	  { .nrx = 16,
	    .ntx = 16,
	    .tight = true,
	    .batch = 5,
	    .head_first = true } },
	{ "header split", { .nrx = 64, .ntx = 64, .split_hdr = true } },
	{ "header split, shared pages",
	  { .nrx = 24, .ntx = 24, .split_hdr = true, .tight = true } },
	{ "legacy descriptors", { .nrx = 32, .ntx = 32, .legacy = true } },
	{ "head write-back", { .nrx = 32, .ntx = 32, .head_words = true } },
	{ "head write-back, shared pages",
	  { .nrx = 32, .ntx = 32, .head_words = true, .tight = true } },
	{ "driver that watches TDH", { .nrx = 32, .ntx = 32, .no_rs = true } },
	{ "device that sends at once",
	  { .nrx = 16, .ntx = 16, .eager = true } },
	{ "huge pages", { .nrx = 32, .ntx = 32, .unit = 2 << 20, .batch = 3 } },
	{ "huge pages, full",
	  { .nrx = 32, .ntx = 32, .unit = 1 << 18, .shadow.full = true } },
	{ "doorbells without exits", { .nrx = 32, .ntx = 32, .stand = true } },
	{ "doorbells without exits, late, shared",
	  { .nrx = 16, .ntx = 16, .stand = true, .tight = true, .batch = 4 } },
	{ "doorbells without exits, TDH",
	  { .nrx = 16, .ntx = 16, .stand = true, .no_rs = true } },
	{ "device that forgets off the bus",
	  { .nrx = 32, .ntx = 32, .forget = true } },
	{ "full", { .nrx = 32, .ntx = 32, .shadow.full = true } },
	{ "full, shared pages",
	  { .nrx = 24,
	    .ntx = 24,
	    .shadow.full = true,
	    .tight = true,
	    .batch = 3 } },
	{ "full, header split",
	  { .nrx = 32, .ntx = 32, .shadow.full = true, .split_hdr = true } },
};

static void no_fault(const char *where)
{
	if (sim.fault)
		fail_msg("%s: %s (%#llx, %#llx)", where, sim.fault,
			 (unsigned long long)sim.fault_arg[0],
			 (unsigned long long)sim.fault_arg[1]);
}

static void engage(void)
{
	struct err e = { 0 };
	int ret = shadow_engage(sim.sh, IGB_ALLQ, &e);

	if (ret)
		fail_msg("engage: %s", err_text(&e, ret));
	sim_log_start(&sim);
}

static void release(void)
{
	struct err e = { 0 };
	int ret;

	sim_check(&sim);
	sim.log = false;
	ret = shadow_release(sim.sh, &e);
	for (int i = 0; ret == -EBUSY && sim.o.forget && i < 1000; i++) {
		/* A later frame, or time, tells which were lost. */
		sim_dev_receive(&sim, 60);
		usleep(1000);
		ret = shadow_release(sim.sh, &e);
	}
	if (ret)
		fail_msg("release: %s", err_text(&e, ret));
	assert_int_equal(shadow_engaged(sim.sh), 0);
}

static void switch_over_and_back(void)
{
	struct igb_vf_state st;
	struct shadow_drain d;
	struct err e = { 0 };
	int ret = shadow_drain(sim.sh, 0, &st, &d, &e);

	if (ret == -EAGAIN) {
		sim_dev_flush(&sim, 2 * SIM_SLOTS, true);
		ret = shadow_drain(sim.sh, 0, &st, &d, &e);
	}
	if (ret)
		fail_msg("drain: %s", err_text(&e, ret));
	sim_check(&sim);
	for (uint32_t i = sim_rand(&sim, 4); i--;)
		sim_dev_receive(&sim, 60 + sim_rand(&sim, 600));
	sim_check(&sim);
	ret = shadow_undrain(sim.sh, &e);
	if (ret)
		fail_msg("undrain: %s", err_text(&e, ret));
	/* Back on the bus, no device sits on a write-back for long. */
	sim_dev_flush(&sim, 2 * SIM_SLOTS, true);
	shadow_sync(sim.sh);
}

/* Without exits, or with them again. */
static void doorbells(bool stand)
{
	vdev_lock(sim.v);
	if (stand)
		assert_int_equal(shadow_stand_in(sim.sh), 0);
	else
		shadow_stand_down(sim.sh, true);
	vdev_unlock(sim.v);
}

static void step(bool engaged)
{
	uint32_t k;

	switch (sim_rand(&sim, 16)) {
	case 0:
	case 1:
	case 2:
		for (k = sim_rand(&sim, 6); k-- && sim_guest_send(&sim);)
			;
		if (sim_rand(&sim, 4))
			sim_guest_kick(&sim);
		break;
	case 3:
	case 4:
		for (k = sim_rand(&sim, 12); k-- && sim_dev_transmit(&sim);)
			;
		break;
	case 5:
	case 6:
	case 7:
		for (k = sim_rand(&sim, 8); k--;)
			sim_dev_receive(&sim, 1 + sim_rand(&sim, SIM_FRAME));
		break;
	case 8:
		sim_dev_flush(&sim, sim_rand(&sim, 12), sim_rand(&sim, 2));
		break;
	case 9:
	case 10: sim_guest_poll(&sim, sim_rand(&sim, 16)); break;
	case 11:
	case 12: sim_guest_post(&sim, sim_rand(&sim, 24)); break;
	case 13:
		loop_once(sim.loop, 0);
		sim_tick(&sim);
		break;
	case 14: sim_guest_scribble(&sim); break;
	case 15:
		if (engaged && sim_rand(&sim, 4) == 0)
			sim_check_rings(&sim);
		if (engaged && sim.o.stand && sim_rand(&sim, 2))
			doorbells(sim_rand(&sim, 4));
		break;
	}
}

static void random_operations(const struct sim_opts *o, const char *name)
{
	struct shadow_stats st;
	bool engaged = false;

	if (sim_init(&sim, o))
		fail_msg("cannot set up");
	sim_guest_up(&sim);
	sim_guest_post(&sim, o->nrx);
	for (uint64_t i = 0; i < nops; i++) {
		uint32_t r = sim_rand(&sim, 4096);

		if (r < 40) {
			engaged ? release() : engage();
			engaged = !engaged;
		} else if (r < 44) {
			sim_guest_down(&sim);
			sim_guest_up(&sim);
			sim_guest_post(&sim, o->nrx);
		} else if (r < 56 && engaged) {
			switch_over_and_back();
		} else if (r < 80) {
			sim_check(&sim);
		} else {
			step(engaged);
		}
		if (sim.fault) {
			print_error("%s, seed %llu, operation %llu\n", name,
				    (unsigned long long)o->seed,
				    (unsigned long long)i);
			no_fault(name);
		}
	}
	if (engaged)
		release();
	sim_settle(&sim);
	no_fault(name);
	shadow_get_stats(sim.sh, &st);
	assert_int_equal(st.rx[0].bad + st.tx[0].bad, 0);
	assert_true(sim.g.lost <= st.holes);
	/* Pages reported that nobody wrote: a tenth at most. */
	assert_true(sim.all_marked * 10 <= sim.all_truth * 11);
	assert_true(!o->stand || st.stand_ins > 5);
	assert_int_equal(st.split_pages, 0);
	print_message("%-34s rx %llu tx %llu engages %llu resets %llu "
		      "pages %llu/%llu\n",
		      name, (unsigned long long)sim.dev.rx_seq,
		      (unsigned long long)sim.dev.tx_seq,
		      (unsigned long long)st.engages,
		      (unsigned long long)st.resets,
		      (unsigned long long)sim.all_marked,
		      (unsigned long long)sim.all_truth);
	sim_fini(&sim);
}

static void every_case(enum shadow_method method)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sim_opts o = cases[i].o;

		o.seed = seed + i;
		o.shadow.method = method;
		o.shadow.poll_ns = SHADOW_POLL_OFF;
		random_operations(&o, cases[i].name);
	}
}

static void random_operations_cpu(void **state)
{
	every_case(SHADOW_CPU);
}

static void random_operations_iommu(void **state)
{
	every_case(SHADOW_IOMMU);
}

/* Between our look at one bell and at the next the guest goes on. */
static unsigned int words, overtaken;

static void guest_goes_on(struct fake_pdev *fp, unsigned int bar, uint32_t off,
			  uint32_t val)
{
	bool bell = off == IGBVF_TDT && val != sim.dev.tx.tail;

	sim_on_write(fp, bar, off, val);
	if (off == IGBVF_RDT && words == 0) {
		assert_int_equal(sim_guest_poll(&sim, 4), 4);
		sim_guest_post(&sim, 8);
		assert_true(sim_guest_send(&sim));
		sim_guest_kick(&sim);
		words = 1;
	} else if (bell) {
		words++;
		overtaken += sim.dev.rx.tail != sim.g.rx_use;
	}
}

static void a_word_does_not_overtake_the_buffers_it_tells_of(void **state)
{
	const struct sim_opts o = { .seed = seed,
				    .nrx = 32,
				    .ntx = 32,
				    .batch = 1,
				    .shadow.poll_ns = SHADOW_POLL_OFF };

	assert_int_equal(sim_init(&sim, &o), 0);
	sim_guest_up(&sim);
	sim_guest_post(&sim, o.nrx);
	engage();
	doorbells(true);
	for (unsigned int i = 0; i < 8; i++)
		assert_true(sim_dev_receive(&sim, 60));
	sim_dev_flush(&sim, 2 * SIM_SLOTS, true);
	shadow_sync(sim.sh);
	assert_int_equal(sim_guest_poll(&sim, 4), 4);
	sim_guest_post(&sim, 4);

	words = overtaken = 0;
	sim.fp->on_write = guest_goes_on;
	sim_tick(&sim);
	sim_tick(&sim);
	assert_int_equal(words, 2);
	assert_int_equal(overtaken, 0);

	sim.fp->on_write = sim_on_write;
	release();
	sim_settle(&sim);
	no_fault("overtaking");
	sim_fini(&sim);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_word_does_not_overtake_the_buffers_it_tells_of),
		cmocka_unit_test(random_operations_cpu),
		cmocka_unit_test(random_operations_iommu),
	};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--ops"))
			nops = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
