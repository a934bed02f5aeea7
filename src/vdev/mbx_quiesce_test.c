/*
 * Busy is posted; requests are refused, dropped or held.
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

/* ---- quiescing ---- */

static void quiesce_and_resume_here(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark;
	uint32_t w0;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	mark = trace_last(b->trace);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	ORDER(b, mark, "quiesce", "trap", "publish", "inject");
	assert_false(is_direct(vm));
	/* The driver sees it at once, and would start over. */
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_SAW_BUSY], 1);
	/* New requests are refused, without CTS. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_LPE, .frame = 1522),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x40000005);
	assert_false(is_direct(vm));

	/* Its reset is noticed, its reset message held. */
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), 0);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_RESET], 1);
	assert_int_equal(vm->quiet[VDEV_MBX_KNOCKS], 1);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), 0);

	/* Answered when the quiesce ends. */
	unquiesce(vm);
	assert_true(is_direct(vm));
	assert_int_equal(vdev_mbx_unquiesce(vm->m), -EALREADY);
	stop(b);
}

static void quiesce_before_the_guest_looked(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(vdev_mbx_unquiesce(vm->m), 0);
	/* Told to start over, and served when it does. */
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

static void quiesce_vm0(struct bench *b)
{
	assert_int_equal(vdev_mbx_quiesce(b->vm[0].m), 0);
}

/* Messages in flight are dropped and counted; the guest is not left alone. */
static void quiesce_in_flight(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint32_t w;

	assert_int_equal(up(vm, mac_a), 0);
	b->still = true;
	g_write(vm, IGBVF_VMBMEM, MBX_SET_LPE);
	g_write(vm, IGBVF_VMBMEM + 4, 1522);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	quiesce_vm0(b); /* before the PF's interrupt */
	spin(b);	/* which comes now */
	assert_int_equal(counts(vm).dropped, 1);
	w = g_read(vm, IGBVF_V2PMAILBOX);
	assert_true(w & IGB_V2P_PFACK && w & IGB_V2P_PFSTS);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_false(is_direct(vm));
	stop(b);
}

static void a_held_reset_moves(void **s)
{
	struct bench *b = start(1), *c;
	struct vm *vm = &b->vm[0], *to;
	struct err e = { 0 };

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");

	c = moved(vm, VDEV_MBX_ON_DEMAND);
	to = &c->vm[0];
	assert_int_equal(vdev_mbx_resume(to->m, &e), 0);
	assert_false(is_direct(to));
	assert_true(vdev_mbx_quiesced(to->m));
	assert_int_equal(vdev_mbx_unquiesce(to->m), 0);
	spin(c);
	assert_int_equal(g_read(to, IGBVF_V2PMAILBOX) & IGB_V2P_PFACK,
			 IGB_V2P_PFACK);
	assert_int_equal(g_read(to, IGBVF_VMBMEM) & 0xff, MBX_VF_RESET);
	g_write(to, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(to));
	to->g.mbx_on = true;
	assert_int_equal(guest_set_mac(&to->g, mac_a), 0);
	stop(c);

	/* Here the guest gives up after its second: it may knock again. */
	for (unsigned int i = 0; i < 2000; i++)
		g_read(vm, IGBVF_V2PMAILBOX);
	assert_string_equal(vdev_mbx_state_name(vm->m), "busy");
	spin(b);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_KNOCKS], 2);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quiesce_and_resume_here),
		cmocka_unit_test(quiesce_before_the_guest_looked),
		cmocka_unit_test(quiesce_in_flight),
		cmocka_unit_test(a_held_reset_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
