/*
 * Switch-over: the guest goes on at the destination with nothing but what
 * the dirty log and the saved state brought there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "shadow/sim.h"

static struct sim host[2];

static void no_fault(const struct sim *s, const char *where)
{
	if (s->fault)
		fail_msg("%s: %s (%#llx, %#llx)", where, s->fault,
			 (unsigned long long)s->fault_arg[0],
			 (unsigned long long)s->fault_arg[1]);
}

static void engage(struct sim *s)
{
	struct err e = { 0 };
	int ret = shadow_engage(s->sh, IGB_ALLQ, &e);

	if (ret && ret != -EALREADY)
		fail_msg("engage: %s", err_text(&e, ret));
	sim_log_start(s);
}

/* Load in both directions, left in the middle of things. */
static void load(struct sim *s, unsigned int n)
{
	while (n--) {
		for (uint32_t k = sim_rand(s, 4); k-- && sim_guest_send(s);)
			;
		sim_guest_kick(s);
		for (uint32_t k = sim_rand(s, 10); k--;)
			sim_dev_transmit(s);
		for (uint32_t k = sim_rand(s, 4); k--;)
			sim_dev_receive(s, 1 + sim_rand(s, SIM_FRAME));
		if (sim_rand(s, 2))
			sim_dev_flush(s, sim_rand(s, 9), true);
		loop_once(s->loop, 0);
		if (sim_rand(s, 2))
			shadow_sync(s->sh);
		sim_guest_poll(s, sim_rand(s, 8));
		sim_guest_post(s, sim_rand(s, 16));
		sim_guest_scribble(s);
	}
}

/* There and back again, 'n' times, under load. */
static void moves(struct sim_opts o, unsigned int n)
{
	unsigned int cur = 0, unsure = 0, unsent = 0;
	struct shadow_drain d;

	o.shadow.poll_ns = SHADOW_POLL_OFF;
	assert_int_equal(sim_init(&host[0], &o), 0);
	sim_guest_up(&host[0]);
	sim_guest_post(&host[0], o.nrx);
	while (n--) {
		struct sim *a = &host[cur], *b = &host[!cur];
		int ret;

		load(a, 20);
		engage(a);
		load(a, 60);
		o.seed++;
		assert_int_equal(sim_init(b, &o), 0);
		ret = sim_move(a, b, &d);
		if (ret == -EAGAIN) {
			sim_dev_flush(a, 2 * SIM_SLOTS, true);
			ret = sim_move(a, b, &d);
		}
		if (ret)
			fail_msg("move: %s", strerror(-ret));
		/* The source is not asked any more: whatever it still does. */
		while (sim_dev_transmit(a))
			;
		no_fault(a, "source");
		no_fault(b, "destination");
		unsure += d.tx_unsure;
		unsent += d.tx_unsent;
		if (o.refuse_heads)
			assert_int_not_equal(
				shadow_offset(b->sh) | !b->g.rx_clean, 0);
		else
			assert_int_equal(shadow_engaged(b->sh), 0);
		sim_fini(a);
		cur = !cur;
		load(b, 40);
		no_fault(b, "destination");
	}
	if (!o.refuse_heads)
		sim_settle(&host[cur]);
	no_fault(&host[cur], "end");
	/* Both kinds of work in flight were met, or this tests little. */
	assert_true(unsent > 0);
	if (o.batch > 1)
		assert_true(unsure > 0);
	sim_fini(&host[cur]);
}

static void moves_with_heads(void **state)
{
	moves((struct sim_opts){ .seed = 7, .nrx = 64, .ntx = 64 }, 25);
	moves((struct sim_opts){ .seed = 8, .nrx = 16, .ntx = 16, .batch = 5 },
	      25);
	moves((struct sim_opts){ .seed = 9,
				 .nrx = 32,
				 .ntx = 32,
				 .batch = 4,
				 .head_first = true,
				 .tight = true },
	      25);
	moves((struct sim_opts){ .seed = 10,
				 .nrx = 32,
				 .ntx = 32,
				 .split_hdr = true,
				 .shadow.method = SHADOW_IOMMU },
	      25);
	moves(
		(struct sim_opts){
			.seed = 11, .nrx = 32, .ntx = 32, .head_words = true },
		25);
	moves(
		(struct sim_opts){
			.seed = 12, .nrx = 32, .ntx = 32, .shadow.full = true },
		25);
}

static void moves_with_offsets(void **state)
{
	moves((struct sim_opts){ .seed = 17,
				 .nrx = 64,
				 .ntx = 64,
				 .refuse_heads = true },
	      25);
	moves((struct sim_opts){ .seed = 18,
				 .nrx = 16,
				 .ntx = 16,
				 .batch = 5,
				 .refuse_heads = true,
				 .tight = true },
	      25);
	moves((struct sim_opts){ .seed = 19,
				 .nrx = 32,
				 .ntx = 32,
				 .refuse_heads = true,
				 .head_words = true },
	      25);
	moves((struct sim_opts){ .seed = 20,
				 .nrx = 32,
				 .ntx = 32,
				 .refuse_heads = true,
				 .shadow.method = SHADOW_IOMMU },
	      25);
	moves((struct sim_opts){ .seed = 21,
				 .nrx = 32,
				 .ntx = 32,
				 .refuse_heads = true,
				 .no_rs = true },
	      25);
}

/* To a device that starts its rings at slot 0, whatever it is told. */
static void move_in_mid_ring(struct sim *b)
{
	struct sim_opts o = { .seed = 3,
			      .nrx = 32,
			      .ntx = 32,
			      .refuse_heads = true,
			      .shadow.poll_ns = SHADOW_POLL_OFF };
	struct sim *a = &host[0];
	struct shadow_drain d;

	assert_int_equal(sim_init(a, &o), 0);
	sim_guest_up(a);
	sim_guest_post(a, o.nrx);
	load(a, 50);
	engage(a);
	load(a, 7);
	assert_int_equal(sim_init(b, &o), 0);
	assert_int_equal(sim_move(a, b, &d), 0);
	sim_fini(a);
	assert_int_not_equal(shadow_offset(b->sh), 0);
}

/* The offset ends with the guest's next reset of its rings, by itself. */
static void an_offset_ends_with_a_ring_reset(void **state)
{
	struct sim *b = &host[1];

	move_in_mid_ring(b);
	assert_int_equal(shadow_release(b->sh, NULL), -EBUSY);
	load(b, 50);
	no_fault(b, "offset");

	sim_guest_down(b);
	assert_int_equal(shadow_engaged(b->sh), 0);
	sim_guest_up(b);
	sim_guest_post(b, b->o.nrx);
	load(b, 50);
	sim_settle(b);
	no_fault(b, "direct");
	sim_fini(b);
}

/* One that wants to leave, of whose queues all are engaged, moves on. */
static void an_offset_moves_on(void **state)
{
	const uint32_t on = IGB_RXQ(0) | IGB_TXQ(0);
	struct sim *b = &host[1];

	move_in_mid_ring(b);
	assert_int_equal(shadow_engaged(b->sh), on);
	assert_int_equal(shadow_engage(b->sh, on, NULL), 0);
	assert_int_equal(shadow_engage(b->sh, on, NULL), -EALREADY);

	/* Nothing is left that holds it, but somebody wants it to stay. */
	sim_guest_down(b);
	assert_int_equal(shadow_engaged(b->sh), on);
	sim_guest_up(b);
	sim_guest_post(b, b->o.nrx);
	load(b, 50);
	assert_int_equal(shadow_release(b->sh, NULL), 0);
	sim_settle(b);
	no_fault(b, "direct");
	sim_fini(b);
}

/* A cancelled switch-over leaves a device that was never reset. */
static void undrain_resets_nothing(void **state)
{
	struct sim_opts o = { .seed = 4,
			      .nrx = 16,
			      .ntx = 16,
			      .batch = 6,
			      .shadow.poll_ns = SHADOW_POLL_OFF };
	struct sim *s = &host[0];
	struct igb_vf_state st;
	struct shadow_drain d;

	assert_int_equal(sim_init(s, &o), 0);
	sim_guest_up(s);
	sim_guest_post(s, o.nrx);
	for (unsigned int i = 0; i < 300; i++) {
		load(s, 5);
		engage(s);
		load(s, 5);
		assert_int_equal(shadow_drain(s->sh, 0, &st, &d, NULL), 0);
		assert_int_equal(shadow_release(s->sh, NULL), -EBUSY);
		sim_check(s);
		assert_int_equal(shadow_undrain(s->sh, NULL), 0);
		sim_dev_flush(s, 2 * SIM_SLOTS, true);
		load(s, 5);
		s->log = false;
		assert_int_equal(shadow_release(s->sh, NULL), 0);
		no_fault(s, "undrain");
	}
	sim_settle(s);
	no_fault(s, "undrain");
	assert_int_equal(s->fp->resets, 0);
	sim_fini(s);
}

/*
 * What was only assumed to be sent is in flight again when the switch-over is
 * cancelled: its write-back still comes, and must not meet a slot used anew.
 */
static void undrain_takes_back_what_was_assumed(void **state)
{
	struct sim_opts o = { .seed = 6,
			      .nrx = 32,
			      .ntx = 16,
			      .batch = 64,
			      .shadow.poll_ns = SHADOW_POLL_OFF };
	struct sim *s = &host[0];
	struct igb_vf_state st;
	struct shadow_drain d;

	assert_int_equal(sim_init(s, &o), 0);
	sim_guest_up(s);
	sim_guest_post(s, o.nrx);
	engage(s);
	while (sim_guest_send(s))
		;
	sim_guest_kick(s);
	while (sim_dev_transmit(s))
		;
	assert_int_equal(shadow_drain(s->sh, 0, &st, &d, NULL), 0);
	assert_true(d.tx_unsure > 0);
	assert_int_equal(st.tx[0].head, st.tx[0].tail);
	assert_int_equal(shadow_undrain(s->sh, NULL), 0);
	shadow_sync(s->sh);
	assert_int_equal(sim_guest_poll(s, 0), 0);
	assert_false(sim_guest_send(s));
	sim_dev_flush(s, 2 * SIM_SLOTS, true);
	sim_settle(s);
	assert_int_equal(s->g.tx_clean, s->g.tx_use);
	no_fault(s, "undrain");
	sim_fini(s);
}

/* Once the guest is elsewhere the source must not go on for it. */
static void a_drained_device_stays_off_the_bus(void **state)
{
	struct sim_opts o = { .seed = 5,
			      .nrx = 32,
			      .ntx = 32,
			      .shadow.poll_ns = SHADOW_POLL_OFF };
	struct sim *s = &host[0];
	struct igb_vf_state st;
	struct shadow_drain d;

	for (unsigned int method = SHADOW_CPU; method <= SHADOW_IOMMU;
	     method++) {
		uint64_t sent;

		o.shadow.method = method;
		assert_int_equal(sim_init(s, &o), 0);
		sim_guest_up(s);
		sim_guest_post(s, o.nrx);
		engage(s);
		load(s, 20);
		sim_guest_send(s);
		sim_guest_kick(s);
		assert_int_equal(shadow_drain(s->sh, 0, &st, &d, NULL), 0);
		assert_true(d.tx_unsent > 0);
		sent = s->dev.tx_seq;
		s->log = false;
		shadow_destroy(s->sh);
		s->sh = NULL;
		assert_false(sim_dev_transmit(s));
		assert_false(sim_dev_receive(s, 100));
		assert_int_equal(s->dev.tx_seq, sent);
		no_fault(s, "drained");
		sim_fini(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_with_heads),
		cmocka_unit_test(moves_with_offsets),
		cmocka_unit_test(an_offset_ends_with_a_ring_reset),
		cmocka_unit_test(an_offset_moves_on),
		cmocka_unit_test(undrain_resets_nothing),
		cmocka_unit_test(undrain_takes_back_what_was_assumed),
		cmocka_unit_test(a_drained_device_stays_off_the_bus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
