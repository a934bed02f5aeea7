/*
 * Exchanges the host begins (REQUIREMENTS A 9): words, their order with the
 * guest's requests, and the lock.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "vdev/mbx_bench.h"

/* ---- A9: host-started ---- */

static void host_started_exchanges(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark;
	unsigned int fired;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	fired = fake_host_fired_data(&vm->h, 0x4002);

	/* Link down: the driver looks at STATUS and no further. */
	mark = trace_last(b->trace);
	set_link(b, false);
	spin(b);
	ORDER(b, mark, "pf-callback", "callback", "trap", "publish", "inject");
	assert_int_equal(fake_host_fired_data(&vm->h, 0x4002), fired + 1);
	assert_false(is_direct(vm));
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 1);
	assert_true(is_direct(vm));
	assert_int_equal(how_many(b, mark, "trap"), 1);

	/* And up: it reads the word and acknowledges it. */
	set_link(b, true);
	spin(b);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_true(is_direct(vm));
	assert_int_equal(counts(vm).posts, 2);

	/* Start over: an error for the driver, in one look. */
	assert_int_equal(pf_kick(b->pf, 0), 0);
	assert_false(is_direct(vm));
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);

	/* A ceiling above what it uses is only news, below is a reset. */
	assert_int_equal(pf_set_frame(b->pf, 0, 9022), 0);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(pf_set_frame(b->pf, 0, 1000), 0);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

static void a_host_word_nobody_reads(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(pf_kick(b->pf, 0), 0);
	assert_false(is_direct(vm));
	spin_ms(b, 3200);
	assert_true(is_direct(vm));
	assert_int_equal(counts(vm).timeouts, 1);
	/* It is in the hardware for whoever looks later. */
	assert_int_equal(guest_watchdog(&vm->g), 0); /* no reason to look */
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	stop(b);
}

static void change_link(struct bench *b)
{
	set_link(b, false);
	spin(b);
	set_link(b, true);
	spin(b);
}

/* In the middle of an exchange: queued, said after, not lost. */
static void a_second_trigger_is_queued(void **s)
{
	for (unsigned int kind = 0; kind < 2; kind++) {
		struct bench *b = start(1);
		struct vm *vm = &b->vm[0];
		uint64_t mark;

		assert_int_equal(up(vm, mac_a), 0);
		mark = trace_last(b->trace);
		b->then = kind ? kick_pf : change_link;
		b->in = 2; /* answered, in the driver's 10 ms of rest */
		assert_int_equal(guest_reset(&vm->g), 0);
		assert_int_equal(b->in, 0);
		spin(b);
		/* Its own episode, after that of the request. */
		assert_int_equal(how_many(b, mark, "trap"), 2);
		assert_false(is_direct(vm));
		assert_true(counts(vm).queued > 0);
		/* And one more on top of that. */
		kick_pf(b);
		guest_irq(&vm->g);
		assert_int_equal(guest_watchdog(&vm->g), kind ? -EIO : 0);
		spin(b);
		assert_int_equal(how_many(b, mark, "trap"), 3);
		assert_int_equal(guest_watchdog(&vm->g), -EIO);
		assert_true(is_direct(vm));
		stop(b);
	}
}

/* A VF reset brings about what any word of ours could: nothing is said. */
static void a_reset_makes_a_post_moot(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	b->then = kick_pf;
	b->in = 1; /* rung, and the interrupt not yet served */
	assert_int_equal(up(vm, mac_a), 0);
	spin(b);
	assert_true(is_direct(vm));
	assert_int_equal(guest_watchdog(&vm->g), 0);
	stop(b);
}

/* The guest holds the lock when the host wants to speak. */
static void the_lock_is_respected(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, 0x12345);
	kick_pf(b);
	/* Trapped, its lock and words as they were, nothing published. */
	assert_false(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), IGB_V2P_VFU);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x12345);
	g_write(vm, IGBVF_VMBMEM, 0x23456);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x23456);
	/* Let go of: published at once. */
	g_write(vm, IGBVF_V2PMAILBOX, 0);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_RSTD);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	assert_int_equal(b->d.v2p[0], 0);
	stop(b);
}

/* One that never lets go: trapped now and then, and told when it does. */
static void a_guest_that_keeps_the_lock(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark;

	assert_int_equal(up(vm, mac_a), 0);
	mark = trace_last(b->trace);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	kick_pf(b);
	assert_false(is_direct(vm));
	for (unsigned int i = 0; i < 40 && !is_direct(vm); i++)
		spin_ms(b, 50);
	assert_true(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), IGB_V2P_VFU);
	spin_ms(b, 500);
	assert_true(is_direct(vm));
	assert_int_equal(how_many(b, mark, "trap"), 1);
	g_write(vm, IGBVF_V2PMAILBOX, 0);
	for (unsigned int i = 0; i < 40 && is_direct(vm); i++)
		spin_ms(b, 50);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

/* A page that cannot be trapped this time: the word is not lost. */
static void a_post_without_a_trap(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	spin_ms(b, 50); /* no timer runs any more */
	vm->h.fail_in = 1;
	kick_pf(b);
	assert_true(is_direct(vm));
	for (unsigned int i = 0; i < 40 && is_direct(vm); i++)
		spin_ms(b, 50);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

/* Caught between taking the lock and ringing: goes on as if nothing was. */
static void a_request_half_written(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_msg msg;

	assert_int_equal(up(vm, mac_a), 0);
	mbx_encode(REQ(.op = MBX_OP_VLAN, .vid = 9, .add = true), &msg);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_read(vm, IGBVF_V2PMAILBOX);
	g_write(vm, IGBVF_VMBMEM, msg.w[0]);
	kick_pf(b);
	assert_false(is_direct(vm));
	g_write(vm, IGBVF_VMBMEM + 4, msg.w[1]);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_true(g_read(vm, IGBVF_V2PMAILBOX) & IGB_V2P_PFACK);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0xa0010004);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	spin(b);
	/* And then the host's word. */
	assert_false(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_read(vm, IGBVF_V2PMAILBOX);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	stop(b);
}

/* Rung in the instant before the page was trapped for the host's word. */
static void a_request_crosses_a_post(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_msg msg;
	uint32_t w;

	assert_int_equal(up(vm, mac_a), 0);
	mbx_encode(REQ(.op = MBX_OP_VLAN, .vid = 9, .add = true), &msg);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, msg.w[0]);
	g_write(vm, IGBVF_VMBMEM + 4, msg.w[1]);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	kick_pf(b); /* before the interrupt is served */
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	spin(b);
	assert_string_equal(vdev_mbx_state_name(vm->m), "answered");
	w = g_read(vm, IGBVF_V2PMAILBOX);
	assert_true(w & IGB_V2P_PFACK && w & IGB_V2P_PFSTS);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0xa0010004);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	spin(b);
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_started_exchanges),
		cmocka_unit_test(a_host_word_nobody_reads),
		cmocka_unit_test(a_second_trigger_is_queued),
		cmocka_unit_test(a_reset_makes_a_post_moot),
		cmocka_unit_test(the_lock_is_respected),
		cmocka_unit_test(a_guest_that_keeps_the_lock),
		cmocka_unit_test(a_post_without_a_trap),
		cmocka_unit_test(a_request_half_written),
		cmocka_unit_test(a_request_crosses_a_post),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
