/*
 * Exchanges the guest begins (REQUIREMENTS A 1 to 8): one episode each, none
 * between, and the other registers of the page.
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

/* ---- A1, A3, A4, A5, A8 ---- */

static void an_exchange_is_one_episode(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	void *page = fake_host_direct(&vm->h, vm->h.bar_gpa[0] + 0xc40);
	uint64_t mark = trace_last(b->trace);
	struct vdev_mbx_counts c;

	assert_non_null(page);
	assert_int_equal(guest_reset(&vm->g), 0);
	/*
	 * The guest writes, the device interrupts, the PF driver calls back,
	 * the page is trapped, the request read, and only then something
	 * published; the guest's read meets it, its ack ends it.
	 */
	ORDER(b, mark, "guest-write", "pf-irq", "pf-request", "pf-callback",
	      "callback", "trap", "import", "request", "pf-verdict", "publish",
	      "read", "write", "ack", "export", "untrap");
	assert_int_equal(how_many(b, mark, "trap"), 1);
	assert_int_equal(how_many(b, mark, "untrap"), 1);
	assert_int_equal(how_many(b, mark, "publish"), 1);
	/* Nobody but the PF driver calls: reset and request, no more. */
	assert_int_equal(how_many(b, mark, "callback"), 2);
	assert_int_equal(how_many(b, mark, "pf-callback"), 2);

	/* The mapping is what it was. */
	assert_true(is_direct(vm));
	assert_ptr_equal(fake_host_direct(&vm->h, vm->h.bar_gpa[0] + 0xc40),
			 page);
	c = counts(vm);
	assert_int_equal(c.exchanges, 1);
	assert_int_equal(c.episodes, 1);
	assert_int_equal(c.granted, 1);
	assert_true(c.reads >= 2);
	/* In the guest's words: no address assigned, CTS not set. */
	assert_memory_equal(vm->g.perm, "\0\0\0\0\0\0", 6);

	/* The hardware holds the answer and no bit that was seen already. */
	assert_int_equal(b->d.v2p[0], 0);
	assert_int_equal(fake_igb_vf_read(&b->d, 0, IGBVF_VMBMEM), 0x40000001);
	stop(b);
}

/* Where tags would be misread and nobody can help it. */
static void vlans_can_be_refused(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	vdev_mbx_refuse_vlans(vm->m, true);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		-EACCES);
	/* No VLAN, and one to be rid of. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_VLAN, .add = true),
				       NULL),
			 0);
	assert_int_equal(
		guest_request(&vm->g, REQ(.op = MBX_OP_VLAN, .vid = 100), NULL),
		0);
	vdev_mbx_refuse_vlans(vm->m, false);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		0);
	stop(b);
}

static void every_request_works(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_state st;
	uint32_t w0;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(counts(vm).episodes, 4);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      &w0),
		0);
	assert_int_equal(w0, 0xa0010004); /* echoed, ACK and CTS */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_MAC_ADD,
					   .mac = { 2, 0, 0, 0, 1, 1 }),
				       NULL),
			 0);
	/* By policy, by rule, by sense: each refused, each answered. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_PROMISC, .promisc = 2),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60020006);
	assert_int_equal(guest_request(&vm->g, REQ(.op = MBX_OP_NONE), &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60000000);
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_VLAN, .vid = 5000),
				       NULL),
			 -EACCES);
	assert_int_equal(counts(vm).no_rule, 1);
	assert_int_equal(counts(vm).refused, 3);
	assert_int_equal(counts(vm).exchanges, counts(vm).episodes);

	vdev_mbx_get_state(vm->m, &st);
	assert_true(st.cts);
	assert_memory_equal(st.mac, mac_a, 6);
	assert_int_equal(st.vlan[1], 1ull << 36);
	assert_int_equal(st.nhashes, 1);
	assert_int_equal(st.nfilters, 1);

	/* The link check reads the last answer directly, and is content. */
	vm->trapped = 0;
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_true(vm->g.link);
	assert_int_equal(vm->trapped, 0);
	stop(b);
}

static void nothing_is_served_before_a_reset(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint32_t w0;

	vm->g.mbx_on = true;
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_LPE, .frame = 1522),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x40000005); /* no CTS: the driver must reset */
	assert_true(is_direct(vm));
	stop(b);
}

/* ---- A2 ---- */

static void no_exchange_no_intercept(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct vdev_counts before, after;

	assert_int_equal(up(vm, mac_a), 0);
	vdev_get_counts(vm->v, &before);
	vm->direct = vm->trapped = 0;
	for (unsigned int i = 0; i < 250000; i++) {
		g_read(vm, IGBVF_V2PMAILBOX);
		g_read(vm, IGBVF_STATUS);
		g_read(vm, IGBVF_VFGPRC);
		g_read(vm, IGBVF_VMBMEM);
		if (i % 50000 == 0)
			spin(b);
	}
	vdev_get_counts(vm->v, &after);
	assert_int_equal(vm->direct, 1000000);
	assert_int_equal(vm->trapped, 0);
	assert_int_equal(after.reads - before.reads, 0);
	assert_int_equal(after.writes - before.writes, 0);
	assert_int_equal(after.traps, before.traps);
	stop(b);
}

/* ---- A6, A7 ---- */

static unsigned int compact_writes;
static uint32_t compact_last;

/* In the middle of an exchange: other registers of the page. */
static void use_other_registers(struct bench *b)
{
	struct vm *vm = &b->vm[0];

	assert_false(is_direct(vm));
	fake_pdev_set(vm->fp, IGBVF_VFGPRC, 1234);
	assert_int_equal(g_read(vm, IGBVF_VFGPRC), 1234);
	for (uint32_t tail = 1; tail <= 5; tail++) {
		g_write(vm, IGBVF_COMPACT_TDT, tail);
		compact_writes++;
		compact_last = fake_pdev_get(vm->fp, IGBVF_COMPACT_TDT);
		assert_int_equal(compact_last, tail); /* once, in order */
		fake_pdev_set(vm->fp, IGBVF_COMPACT_TDH, tail);
		assert_int_equal(g_read(vm, IGBVF_COMPACT_TDH), tail);
	}
	assert_false(is_direct(vm));
}

static void other_registers_of_the_page_work(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	compact_writes = 0;
	/* Direct. */
	fake_pdev_set(vm->fp, IGBVF_VFGPRC, 77);
	assert_int_equal(g_read(vm, IGBVF_VFGPRC), 77);
	g_write(vm, IGBVF_COMPACT_TDT, 9);
	assert_int_equal(fake_pdev_get(vm->fp, IGBVF_COMPACT_TDT), 9);
	/* Trapped: in the 10 ms between the two halves of a reset. */
	b->then = use_other_registers;
	b->in = 2;
	assert_int_equal(guest_reset(&vm->g), 0);
	assert_int_equal(compact_writes, 5);
	assert_true(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_COMPACT_TDT), 5);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exchange_is_one_episode),
		cmocka_unit_test(vlans_can_be_refused),
		cmocka_unit_test(every_request_works),
		cmocka_unit_test(nothing_is_served_before_a_reset),
		cmocka_unit_test(no_exchange_no_intercept),
		cmocka_unit_test(other_registers_of_the_page_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
