/*
 * Mode kernel: the PF driver here plays the host's own.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "vdev/mbx_bench.h"

/* ---- mode kernel: the PF driver here plays the host's own ---- */

static void kernel_mode_forwards(void **s)
{
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL);
	struct vm *vm = &b->vm[0];
	struct pf_vf_counts c;
	struct mbx_state st;
	uint64_t mark = trace_last(b->trace);
	uint32_t w0;

	assert_false(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	ORDER(b, mark, "request", "forward", "pf-request", "collect", "ack");
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 4); /* in the hardware's mailbox */
	assert_int_equal(c.callbacks, 0);
	/* Refused by the host: its words reach the guest. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_PROMISC, .promisc = 3),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60030006);
	/* Without a rule: the host does not even see it. */
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 5);
	assert_int_equal(guest_request(&vm->g, REQ(.op = MBX_OP_NONE), &w0),
			 -EACCES);
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 5);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 3, .add = true),
			      NULL),
		0);
	vdev_mbx_get_state(vm->m, &st);
	assert_true(st.cts);
	assert_memory_equal(st.mac, mac_a, 6);
	assert_int_equal(st.vlan[0], 1 << 3);
	assert_int_equal(st.promisc, 0);

	/* The link check, and the host's own words. */
	assert_int_equal(guest_watchdog(&vm->g), 0);
	set_link(b, false);
	spin(b);
	set_link(b, true);
	spin(b);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x20000100);
	assert_false(b->d.v2p[0] & (IGB_V2P_VFU | IGB_V2P_PFU));
	pf_kick(b->pf, 0);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_false(is_direct(vm));
	stop(b);
}

/* ---- a host's driver that answers while a VM waits in a call ---- */

static void *serve_pf(void *opaque)
{
	struct bench *b = opaque;

	loop_run(b->loop);
	return NULL;
}

static bool replayed;

static void on_replayed(void *opaque, const struct pf_verdict *v)
{
	replayed = v->ok;
}

/* What was granted elsewhere is asked for again, by the VF itself. */
static void kernel_mode_restores(void **s)
{
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL), *c;
	struct vm *vm = &b->vm[0], *to;
	pthread_t t;
	json_t *st, *vf;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		0);
	c = moved(vm, VDEV_MBX_KERNEL);
	to = &c->vm[0];
	assert_int_equal(pthread_create(&t, NULL, serve_pf, c), 0);
	replayed = false;
	assert_int_equal(vdev_mbx_restore(to->m, on_replayed, NULL), 0);
	loop_stop(c->loop);
	pthread_join(t, NULL);
	assert_true(replayed);
	st = pf_status(c->pf);
	vf = json_array_get(json_object_get(st, "vfs"), 0);
	assert_string_equal(json_string_value(json_object_get(vf, "mac")),
			    "02:00:00:00:00:0a");
	assert_int_equal(json_array_size(json_object_get(vf, "vlans")), 1);
	assert_int_equal(json_integer_value(json_object_get(vf, "multicast")),
			 1);
	json_decref(st);
	/* Nobody there to answer: refused after the guest's own second. */
	assert_int_equal(vdev_mbx_restore(to->m, on_replayed, NULL), 0);
	assert_false(replayed);
	stop(c);
	stop(b);
}

static void kernel_mode_quiesces(void **s)
{
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");
	unquiesce(vm);
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_mode_forwards),
		cmocka_unit_test(kernel_mode_restores),
		cmocka_unit_test(kernel_mode_quiesces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
