/*
 * One PF driver after another on a running device: what stays granted, and
 * what guests asked for in between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "igb/pf_bench.h"

static void a_running_device_is_taken_over(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 4), *q;
	struct mbx_req mc = { .op = MBX_OP_MULTICAST,
			      .nhashes = 1,
			      .hash = { 0x40 } };
	struct mbx_state st;

	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_true(set_mac(b, p, mac_a));
	assert_true(ask(b, p, REQ(.op = MBX_OP_VLAN, .vid = 77, .add = true)));
	assert_true(ask(b, p, &mc));
	pf_close(b->pf); /* as if killed: filters stay */
	pf_port_close(p);
	assert_int_equal(b->d.pf_resets, 1);

	open_pf(b, NULL);
	assert_true(pf_was_running(b->pf));
	assert_int_equal(b->d.pf_resets, 1);
	assert_int_equal(pools_of(b, mac_a), 1 << 4);
	assert_int_equal(pools_of_vlan(b, 77), 1 << 4);
	assert_int_equal(reg(b, IGB_MTA(2)), 1);
	assert_int_equal(reg(b, IGB_VFRE), 1 << 4);

	/* Its VM comes back with what it knows, and nothing is missing. */
	p = claim(b, 4);
	mbx_state_init(&st, mac_a);
	st.cts = true;
	st.vlan[1] = 1ull << (77 - 64);
	st.nhashes = 1;
	st.hash[0] = 0x40;
	assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
	assert_true(b->verdict.ok);
	assert_int_equal(pools_of(b, mac_a), 1 << 4);
	assert_int_equal(reg(b, IGB_VFRE), 1 << 4);
	/* A VF nobody knows yet is not the first free one. */
	q = claim(b, PF_ANY_VF);
	assert_int_not_equal(q->vf, 4);
	pf_port_close(q);

	/* All or nothing. */
	st.frame = 9022;
	st.vlan[1] = 0;
	assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
	assert_false(b->verdict.ok);
	assert_int_equal(pools_of_vlan(b, 77), 1 << 4);
	pf_port_close(p);
	stop(b);
}

/*
 * Between two drivers a guest goes on asking.  Its VM comes with what it
 * knows from before; what the guest has asked since must not be lost in it.
 */
static void what_a_vm_missed_is_kept_for_it(void **s)
{
	for (int reset = 0; reset < 2; reset++) {
		struct bench *b = start(IGB_DEV_82576, NULL);
		struct pf_port *p = claim(b, 4);
		struct mbx_state st;
		uint32_t hw;

		assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
		assert_true(set_mac(b, p, mac_a));
		assert_true(ask(
			b, p, REQ(.op = MBX_OP_VLAN, .vid = 77, .add = true)));
		pf_close(b->pf);
		pf_port_close(p);
		fake_igb_vf_read(&b->d, 4, IGBVF_V2PMAILBOX);
		if (reset)
			fake_igb_vf_write(&b->d, 4, IGBVF_CTRL, IGB_CTRL_RST);
		fake_igb_vf_write(&b->d, 4, IGBVF_VMBMEM,
				  reset ? MBX_VF_RESET
					: MBX_SET_VLAN | 1 << 16);
		fake_igb_vf_write(&b->d, 4, IGBVF_VMBMEM + 4, 99);
		fake_igb_vf_write(&b->d, 4, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
		open_pf(b, NULL);
		/* Nobody there yet, and nothing is said in its place. */
		spin(b);
		hw = fake_igb_vf_read(&b->d, 4, IGBVF_V2PMAILBOX);
		assert_false(hw & (IGB_V2P_PFSTS | IGB_V2P_PFACK));
		assert_int_equal(pools_of_vlan(b, 99), 0);

		p = claim(b, 4);
		mbx_state_init(&st, mac_a);
		st.cts = true;
		st.vlan[1] = 1ull << (77 - 64);
		assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
		assert_true(b->verdict.ok);
		b->ngot = 0;
		assert_int_equal(p->ops->listen(p, callback, b), 0);
		assert_int_equal(b->ngot, 1 + reset);
		assert_int_equal(b->got[0].kind,
				 reset ? PF_EV_RESET : PF_EV_REQUEST);
		assert_int_equal(b->got[reset].kind, PF_EV_REQUEST);
		assert_int_equal(pools_of_vlan(b, 77), reset ? 0 : 1 << 4);
		assert_int_equal(reg(b, IGB_VFRE), reset ? 0 : 1 << 4);
		/* Once, and not again. */
		assert_int_equal(p->ops->listen(p, callback, b), 0);
		assert_int_equal(b->ngot, 1 + reset);
		pf_port_close(p);
		stop(b);
	}
}

/* Another VM has the VF next: it resets it, and restores what it brings. */
static void what_was_missed_is_not_of_the_next_vm(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct mbx_state st;
	struct pf_port *p;

	pf_close(b->pf);
	fake_igb_vf_write(&b->d, 4, IGBVF_CTRL, IGB_CTRL_RST);
	fake_igb_vf_write(&b->d, 4, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	open_pf(b, NULL);
	p = claim(b, 4);
	fake_igb_vf_write(&b->d, 4, IGBVF_CTRL, IGB_CTRL_RST);
	mbx_state_init(&st, mac_a);
	st.cts = true;
	assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
	assert_true(b->verdict.ok);
	assert_int_equal(p->ops->listen(p, callback, b), 0);
	assert_int_equal(b->ngot, 0);
	assert_int_equal(reg(b, IGB_VFRE), 1 << 4);
	pf_port_close(p);
	stop(b);
}

/* A VF that no VM comes for is answered in place, within the guest's time. */
static void a_vf_nobody_comes_for_is_answered(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	uint64_t end;
	uint32_t hw = 0;

	pf_close(b->pf);
	fake_igb_vf_read(&b->d, 2, IGBVF_V2PMAILBOX);
	open_pf(b, NULL);
	assert_true(pf_was_running(b->pf));
	fake_igb_vf_write(&b->d, 2, IGBVF_VMBMEM, MBX_VF_RESET);
	fake_igb_vf_write(&b->d, 2, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	for (end = now_ns() + 3000000000ull; now_ns() < end;) {
		loop_once(b->loop, 20);
		hw = fake_igb_vf_read(&b->d, 2, IGBVF_V2PMAILBOX);
		if (hw & IGB_V2P_PFSTS)
			break;
	}
	assert_true(hw & IGB_V2P_PFSTS);
	assert_int_equal(fake_igb_vf_read(&b->d, 2, IGBVF_VMBMEM), 0x40000001);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_device_is_taken_over),
		cmocka_unit_test(what_a_vm_missed_is_kept_for_it),
		cmocka_unit_test(what_was_missed_is_not_of_the_next_vm),
		cmocka_unit_test(a_vf_nobody_comes_for_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
