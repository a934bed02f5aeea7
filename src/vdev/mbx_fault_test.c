/*
 * What ends an exchange early (REQUIREMENTS A 9, 10): never stuck, and in time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "vdev/mbx_bench.h"

/* ---- A9: VFs are independent ---- */

static void other_reset(struct bench *b)
{
	struct vm *vm = &b->vm[1];

	assert_false(is_direct(&b->vm[0]));
	assert_true(is_direct(vm));
	assert_int_equal(guest_reset(&vm->g), 0);
	assert_int_equal(guest_set_mac(&vm->g, mac_b), 0);
	assert_true(is_direct(vm));
	assert_false(is_direct(&b->vm[0]));
}

static void vfs_are_independent(void **s)
{
	struct bench *b = start(2);

	b->then = other_reset;
	b->in = 2;
	assert_int_equal(up(&b->vm[0], mac_a), 0);
	assert_int_equal(b->in, 0);
	assert_int_equal(counts(&b->vm[0]).episodes, 4);
	assert_int_equal(counts(&b->vm[1]).episodes, 2);
	stop(b);
}

/* ---- A9: never stuck ---- */

static void reset_vf_direct(struct bench *b)
{
	/* As an FLR from the host's side: the PF driver is told. */
	fake_igb_vf_write(&b->d, 0, IGBVF_CTRL, IGB_CTRL_RST);
}

static void reset_vf_by_guest(struct bench *b)
{
	g_write(&b->vm[0], IGBVF_CTRL, IGB_CTRL_RST);
}

static void close_the_pf(struct bench *b)
{
	pf_close(b->pf);
	b->pf = NULL;
}

static void close_the_mailbox(struct bench *b)
{
	vdev_mbx_close(b->vm[0].m);
	b->vm[0].m = NULL;
}

/*
 * What strikes in the n-th pause of a driver that starts up, for every n:
 * afterwards the page is direct, and the driver's next try works.
 */
static void strike_anywhere(void (*what)(struct bench *), bool pf_dies)
{
	for (unsigned int n = 1; n <= 8; n++) {
		struct bench *b = start(1);
		struct vm *vm = &b->vm[0];

		b->then = what;
		b->in = n;
		up(vm, mac_a);
		if (b->in) { /* there were not that many */
			stop(b);
			return;
		}
		if (!is_direct(vm))
			spin_ms(b, 1700);
		if (!is_direct(vm))
			fail_msg("trapped after %u pauses", n);
		if (pf_dies) {
			/* A new driver, the VM comes back. */
			struct err e = { 0 };

			vdev_mbx_set_port(vm->m, NULL);
			pf_port_close(vm->port);
			open_pf(b);
			if (pf_claim(&vm->port, b->pf, 0, "test", &e) < 0)
				fail_msg("%s", e.text);
			assert_int_equal(vdev_mbx_set_port(vm->m, vm->port), 0);
		}
		if (!vm->m)
			open_mbx(vm, VDEV_MBX_ON_DEMAND);
		assert_int_equal(up(vm, mac_a), 0);
		assert_int_equal(guest_watchdog(&vm->g), 0);
		assert_true(is_direct(vm));
		stop(b);
	}
	fail_msg("a start has more pauses than were tried");
}

static void vf_reset_anywhere(void **s)
{
	strike_anywhere(reset_vf_direct, false);
	strike_anywhere(reset_vf_by_guest, false);
}

static void pf_death_anywhere(void **s)
{
	strike_anywhere(close_the_pf, true);
}

static void vm_end_anywhere(void **s)
{
	strike_anywhere(close_the_mailbox, false);
}

/* The PF driver calls back, then says nothing: refused within the second. */
static void a_mute_pf_driver(void **s)
{
	const struct pf_event ev = { .kind = PF_EV_REQUEST };
	const struct pf_verdict yes = { .ok = true };
	struct odd_port o;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];
	uint64_t t0;

	vm->g.mbx_on = true;
	b->slow = true;
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	o.fn(o.fn_opaque, &ev);
	spin(b);
	assert_int_equal(o.asks, 1);
	assert_string_equal(vdev_mbx_state_name(vm->m), "asked");
	t0 = now_ns();
	while (!(g_read(vm, IGBVF_V2PMAILBOX) & IGB_V2P_PFSTS))
		g_pause(vm, 500);
	/* Below the guest's second per phase. */
	assert_in_range((now_ns() - t0) / 1000000, 400, 900);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	/*
	 * Too late.  The answer stays what it was, and as the PF driver has
	 * now granted what the guest takes for refused, it starts over.
	 */
	o.done(o.opaque, &yes);
	assert_string_equal(vdev_mbx_state_name(vm->m), "answered");
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	spin(b);
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	o.done(o.opaque, &yes);
	assert_true(is_direct(vm));

	/* One that cannot even be asked: refused at once. */
	o.ret = -EPIPE;
	fake_igb_vf_write(&b->d, 0, IGBVF_VMBMEM, MBX_VF_RESET);
	o.fn(o.fn_opaque, &ev);
	spin(b);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	stop(b);
}

/* Rings for 'w0' and is asked about; the port says nothing. */
static void ring(struct odd_port *o, struct vm *vm, uint32_t w0)
{
	const struct pf_event ev = { .kind = PF_EV_REQUEST };

	fake_igb_vf_write(&vm->b->d, 0, IGBVF_VMBMEM, w0);
	o->fn(o->fn_opaque, &ev);
	spin(vm->b);
}

static const struct pf_verdict granted = { .ok = true };

/* Its reset granted, read and acknowledged. */
static void reset_is_over(struct odd_port *o, struct vm *vm)
{
	ring(o, vm, MBX_VF_RESET);
	o->done(o->opaque, &granted);
	g_read(vm, IGBVF_V2PMAILBOX);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
}

/* Not even asked, whatever the PF driver would say. */
static void nothing_is_asked_before_a_reset(void **s)
{
	struct odd_port o;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];

	ring(&o, vm, MBX_SET_VLAN);
	assert_int_equal(o.asks, 0);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_SET_VLAN | MBX_NACK);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	reset_is_over(&o, vm);
	assert_int_equal(o.asks, 1);
	stop(b);
}

/* What ends a question ends it at once, not by the state's limit. */
static void a_question_ends_at_once(void **s)
{
	static const enum pf_event_kind kinds[] = { PF_EV_GONE, PF_EV_RESET };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct pf_event ev = { .kind = kinds[i] };
		struct odd_port o;
		struct bench *b = start_odd(&o);
		struct vm *vm = &b->vm[0];

		reset_is_over(&o, vm);
		ring(&o, vm, MBX_SET_VLAN | 1 << MBX_INFO_SHIFT);
		assert_string_equal(vdev_mbx_state_name(vm->m), "asked");
		o.fn(o.fn_opaque, &ev);
		assert_string_equal(vdev_mbx_state_name(vm->m),
				    i ? "direct" : "answered");
		assert_int_equal(is_direct(vm), i);
		assert_int_equal(counts(vm).dropped, i);
		stop(b);
	}
}

/* A bit that comes up after the guest's last look is not seen later. */
static void bits_are_consumed(void **s)
{
	struct odd_port o;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];

	ring(&o, vm, MBX_VF_RESET);
	o.done(o.opaque, &granted);
	g_read(vm, IGBVF_V2PMAILBOX);
	b->d.v2p[0] |= IGB_V2P_PFSTS | IGB_V2P_PFACK;
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), 0);
	stop(b);
}

/* Asked when busy is posted: dropped, counted, and refused by that word. */
static void quiesced_while_asked(void **s)
{
	struct odd_port o;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];

	reset_is_over(&o, vm);
	ring(&o, vm, MBX_SET_VLAN | 1 << MBX_INFO_SHIFT);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(counts(vm).dropped, 1);
	o.done(o.opaque, &granted);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_PFACK | IGB_V2P_RSTD);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	stop(b);
}

/* Asked of one PF driver, then of another: the first speaks for its VF. */
static void another_ports_answer_is_not_taken(void **s)
{
	static const struct pf_verdict no;
	struct odd_port o, other;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];

	reset_is_over(&o, vm);
	ring(&o, vm, MBX_SET_VLAN | 1 << MBX_INFO_SHIFT);
	other = (struct odd_port){ .p = o.p };
	vm->port = &other.p;
	assert_int_equal(vdev_mbx_set_port(vm->m, &other.p), 0);
	spin(b);
	assert_int_equal(other.asks, 1);
	o.done(o.opaque, &granted);
	assert_string_equal(vdev_mbx_state_name(vm->m), "asked");
	other.done(other.opaque, &no);
	assert_true(g_read(vm, IGBVF_VMBMEM) & MBX_NACK);
	assert_int_equal(counts(vm).refused, 1);
	stop(b);
}

/* The guest rings and goes away: direct again by itself. */
static void a_guest_that_never_acks(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_false(is_direct(vm));
	spin_ms(b, 1700);
	assert_int_equal(counts(vm).timeouts, 1);
	/* Whoever may still wait for an answer is told to start over. */
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(b->d.v2p[0], 0);
	stop(b);
}

/* A page that cannot be trapped: nothing is published, and it recovers. */
static void a_trap_that_fails(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark = trace_last(b->trace);

	vm->h.fail_in = 1;
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(how_many(b, mark, "publish"), 0);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

/* Garbage on the trapped page: answered like hardware, never fatal. */
static void a_guest_that_writes_anything(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	unsigned int seed = 5;

	for (unsigned int i = 0; i < 30000; i++) {
		uint32_t off, val = (uint32_t)rand_r(&seed);

		switch (rand_r(&seed) % 4) {
		case 0:
			off = IGBVF_V2PMAILBOX;
			val &= 0xff;
			break;
		case 1:
			off = IGBVF_VMBMEM;
			val %= 0x20;
			break;
		default:
			off = IGBVF_VMBMEM + (uint32_t)(rand_r(&seed) % 16 * 4);
		}
		if (rand_r(&seed) % 300 == 0) {
			off = IGBVF_CTRL;
			val = IGB_CTRL_RST;
		}
		if (rand_r(&seed) % 2)
			g_write(vm, off, val);
		else
			g_read(vm, off);
		if (rand_r(&seed) % 8 == 0)
			loop_once(b->loop, 0);
		if (rand_r(&seed) % 500 == 0)
			pf_kick(b->pf, 0);
	}
	assert_true(counts(vm).exchanges > 100);
	spin_ms(b, 50);
	vdev_mbx_vf_reset(vm->m);
	spin(b);
	g_write(vm, IGBVF_V2PMAILBOX, 0);
	vm->g.v2p = 0;
	if (up(vm, mac_a) < 0)
		assert_int_equal(up(vm, mac_a), 0);
	guest_watchdog(&vm->g);
	spin_ms(b, 10);
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

/* ---- A10 ---- */

static void answers_are_in_time(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(up(vm, mac_a), 0);
	/* In rounds of 500 us; the driver has 2000. */
	assert_true(vm->g.worst <= 4);
	/* A PF that was reset: RSTI goes with it, the guest waits 1 ms. */
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vfs_are_independent),
		cmocka_unit_test(vf_reset_anywhere),
		cmocka_unit_test(pf_death_anywhere),
		cmocka_unit_test(vm_end_anywhere),
		cmocka_unit_test(a_mute_pf_driver),
		cmocka_unit_test(nothing_is_asked_before_a_reset),
		cmocka_unit_test(a_question_ends_at_once),
		cmocka_unit_test(bits_are_consumed),
		cmocka_unit_test(quiesced_while_asked),
		cmocka_unit_test(another_ports_answer_is_not_taken),
		cmocka_unit_test(a_guest_that_never_acks),
		cmocka_unit_test(a_trap_that_fails),
		cmocka_unit_test(a_guest_that_writes_anything),
		cmocka_unit_test(answers_are_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
