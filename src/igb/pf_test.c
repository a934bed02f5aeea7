#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "igb/pf_bench.h"

static void brings_the_device_up(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);

	assert_int_equal(b->d.pf_resets, 1);
	assert_int_equal(pf_vfs(b->pf), 7);
	assert_int_equal(pci_config_get16(&b->d.cfg, b->d.sriov + 0x10), 7);
	assert_true(pci_config_get16(&b->d.cfg, b->d.sriov + 8) & 1);
	assert_true(reg(b, IGB_RCTL) & IGB_RCTL_EN);
	assert_int_equal(reg(b, IGB_MRQC), IGB_MRQC_VMDQ);
	/* Anti-spoof of addresses and VLANs is on, of all seven. */
	assert_int_equal(reg(b, IGB_DTXSWC), IGB_TXSWC_LOOPBACK | 0x7f7f);
	assert_int_equal(reg(b, IGB_TXSWC), 0);
	/* Nobody has asked for anything yet. */
	assert_int_equal(reg(b, IGB_VFRE), 0);
	assert_int_equal(reg(b, IGB_VFTE), 0);
	/* The VFs may go: reset in progress off, reset done on, once. */
	assert_int_equal(fake_igb_vf_read(&b->d, 0, IGBVF_V2PMAILBOX),
			 IGB_V2P_RSTD);
	assert_int_equal(fake_igb_vf_read(&b->d, 0, IGBVF_V2PMAILBOX), 0);
	stop(b);

	b = start(IGB_DEV_I350, NULL);
	assert_int_equal(reg(b, IGB_TXSWC), IGB_TXSWC_LOOPBACK | 0x7f7f);
	assert_int_equal(reg(b, IGB_DTXSWC), 0);
	assert_int_equal(reg(b, IGB_DVMOLR(0)), IGB_DVMOLR_STRVLAN);
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_STRVLAN, 0);
	stop(b);
}

static void refuses_what_it_cannot_drive(void **s)
{
	struct pf_conf conf = { .vfs = 8 };
	struct loop *loop;
	struct fake_igb d;
	struct pf *pf;
	struct err e = { 0 };

	quiet_log();
	pf_policy_default(&conf.policy);
	assert_int_equal(loop_create(&loop), 0);
	fake_igb_init(&d, IGB_DEV_82576);
	assert_int_equal(pf_open(&pf, fake_igb_pdev(&d), loop, &conf, &e),
			 -EINVAL);
	assert_non_null(strstr(e.text, "serves 7"));
	fake_igb_init(&d, 0x1234);
	err_clear(&e);
	assert_int_equal(pf_open(&pf, fake_igb_pdev(&d), loop, &conf, &e),
			 -ENODEV);
	assert_non_null(strstr(e.text, "8086:1234"));
	fake_igb_init(&d, IGB_DEV_82576);
	pci_config_set16(&d.cfg, d.sriov, 0x20); /* another capability */
	conf.vfs = 0;
	err_clear(&e);
	assert_int_equal(pf_open(&pf, fake_igb_pdev(&d), loop, &conf, &e),
			 -ENOENT);
	loop_destroy(loop);
}

/* REQUIREMENTS A1 and A8: rung -> interrupt -> driver -> callback. */
static void callback_is_called_by_the_driver_alone(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *port = claim(b, 3);
	struct trace_event ev[64];
	struct pf_vf_counts c;
	size_t n;

	assert_int_equal(port->ops->listen(port, callback, b), 0);
	fake_igb_vf_write(&b->d, 3, IGBVF_VMBMEM, MBX_VF_RESET);
	assert_int_equal(b->ngot, 0);
	fake_igb_vf_write(&b->d, 3, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	assert_int_equal(b->ngot, 0); /* only by interrupt */
	spin(b);
	assert_int_equal(b->ngot, 1);
	assert_int_equal(b->got[0].kind, PF_EV_REQUEST);
	assert_int_equal(b->got[0].vf, 3);
	/* Cleared, and not seen twice. */
	assert_int_equal(reg(b, IGB_MBVFICR), 0);
	spin(b);
	assert_int_equal(b->ngot, 1);
	/* The driver has written nothing into the mailbox. */
	assert_int_equal(fake_igb_vf_read(&b->d, 3, IGBVF_V2PMAILBOX),
			 IGB_V2P_RSTD);
	assert_int_equal(fake_igb_vf_read(&b->d, 3, IGBVF_VMBMEM),
			 MBX_VF_RESET);

	n = trace_read(b->trace, trace_last(b->trace) - 3, ev, 64, NULL);
	assert_int_equal(n, 3);
	assert_string_equal(ev[0].what, "pf-irq");
	assert_string_equal(ev[1].what, "pf-request");
	assert_string_equal(ev[2].what, "pf-callback");
	pf_get_counts(b->pf, 3, &c);
	assert_int_equal(c.callbacks, 1);
	assert_int_equal(c.answered, 0);

	/* Others hear nothing of it, and asking calls nobody back. */
	assert_true(ask(b, port, REQ(.op = MBX_OP_RESET)));
	assert_int_equal(b->ngot, 1);
	pf_port_close(port);
	stop(b);
}

static void resets_come_before_requests(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *port = claim(b, 0);

	port->ops->listen(port, callback, b);
	fake_igb_vf_write(&b->d, 0, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	fake_igb_vf_write(&b->d, 0, IGBVF_CTRL, IGB_CTRL_RST);
	spin(b);
	assert_int_equal(b->ngot, 2);
	assert_int_equal(b->got[0].kind, PF_EV_RESET);
	assert_int_equal(b->got[1].kind, PF_EV_REQUEST);

	/* Also where the request came by another way than the mailbox. */
	assert_true(ask(b, port, REQ(.op = MBX_OP_RESET)));
	assert_true(
		ask(b, port, REQ(.op = MBX_OP_VLAN, .vid = 7, .add = true)));
	fake_igb_vf_write(&b->d, 0, IGBVF_CTRL, IGB_CTRL_RST);
	assert_false(ask(b, port, REQ(.op = MBX_OP_LPE, .frame = 1522)));
	assert_int_equal(b->got[2].kind, PF_EV_RESET);
	assert_int_equal(pools_of_vlan(b, 7), 0);
	pf_port_close(port);
	stop(b);
}

static void grants_reach_the_hardware(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p0 = claim(b, 0), *p2 = claim(b, 2);
	struct mbx_req mc = { .op = MBX_OP_MULTICAST,
			      .nhashes = 2,
			      .hash = { 0x123, 0xfff } };

	/* Nothing is served before a reset. */
	assert_false(set_mac(b, p0, mac_a));
	assert_int_equal(pools_of(b, mac_a), 0);
	assert_true(ask(b, p0, REQ(.op = MBX_OP_RESET)));
	assert_int_equal(reg(b, IGB_VFRE), 1);
	assert_int_equal(reg(b, IGB_VFTE), 1);
	assert_true(ask(b, p2, REQ(.op = MBX_OP_RESET)));
	assert_int_equal(reg(b, IGB_VFRE), 5);

	assert_true(set_mac(b, p0, mac_a));
	assert_int_equal(pools_of(b, mac_a), 1);
	assert_memory_equal(b->verdict.mac, mac_a, 6);
	/* Entry rar - 1 - n, as Linux has it. */
	assert_int_equal(reg(b, IGB_RAL(23)), 0x00000002);
	assert_false(set_mac(b, p2, mac_a)); /* taken */
	assert_true(set_mac(b, p2, mac_b));
	assert_int_equal(pools_of(b, mac_b), 4);

	assert_true(
		ask(b, p0, REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true)));
	assert_true(
		ask(b, p2, REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true)));
	assert_int_equal(pools_of_vlan(b, 100), 5);
	assert_true(ask(b, p0, REQ(.op = MBX_OP_VLAN, .vid = 100)));
	assert_int_equal(pools_of_vlan(b, 100), 4);
	assert_true(ask(b, p2, REQ(.op = MBX_OP_VLAN, .vid = 100)));
	assert_int_equal(pools_of_vlan(b, 100), 0);
	assert_int_equal(reg(b, IGB_VFTA(100 / 32)), 0);

	assert_true(ask(b, p0, &mc));
	assert_int_equal(reg(b, IGB_MTA(0x123 >> 5)), 1u << (0x123 & 31));
	assert_int_equal(reg(b, IGB_MTA(127)), 1u << 31);
	assert_true(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_ROMPE);
	assert_false(reg(b, IGB_VMOLR(2)) & IGB_VMOLR_ROMPE);
	mc.nhashes = 1;
	assert_true(ask(b, p2, &mc));
	mc.nhashes = 0;
	assert_true(ask(b, p0, &mc));
	assert_int_equal(reg(b, IGB_MTA(127)), 0); /* VF 2 has not that one */
	assert_int_equal(reg(b, IGB_MTA(0x123 >> 5)), 1u << (0x123 & 31));

	assert_false(ask(b, p0, REQ(.op = MBX_OP_LPE, .frame = 9000)));
	assert_true(ask(b, p0, REQ(.op = MBX_OP_LPE, .frame = 1500)));
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1500);
	assert_false(ask(b, p0, REQ(.op = MBX_OP_PROMISC, .promisc = 2)));
	assert_true(ask(
		b, p0, REQ(.op = MBX_OP_MAC_ADD, .mac = { 2, 0, 0, 0, 9, 9 })));
	assert_int_equal(pools_of(b, (const uint8_t[]){ 2, 0, 0, 0, 9, 9 }), 1);

	/* Giving a VF back takes all of it away and resets it. */
	pf_port_close(p0);
	assert_int_equal(pools_of(b, mac_a), 0);
	assert_int_equal(pools_of(b, (const uint8_t[]){ 2, 0, 0, 0, 9, 9 }), 0);
	assert_int_equal(reg(b, IGB_VFRE), 4);
	assert_int_equal(pools_of(b, mac_b), 4);
	pf_port_close(p2);
	stop(b);
}

static void full_tables_refuse(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 0), *q = claim(b, 1);
	unsigned int granted = 0;

	ask(b, p, REQ(.op = MBX_OP_RESET));
	ask(b, q, REQ(.op = MBX_OP_RESET));
	for (uint16_t vid = 1; vid <= 40; vid++)
		granted += ask(b, p,
			       REQ(.op = MBX_OP_VLAN, .vid = vid, .add = true));
	assert_int_equal(granted, 31); /* entry 0 is VLAN 0's */
	assert_int_equal(pools_of_vlan(b, 31), 1);
	assert_int_equal(pools_of_vlan(b, 32), 0);
	/* One that is there can be shared, 0 has its own place. */
	assert_true(ask(b, q, REQ(.op = MBX_OP_VLAN, .vid = 5, .add = true)));
	assert_true(ask(b, q, REQ(.op = MBX_OP_VLAN, .vid = 0, .add = true)));
	assert_false(ask(b, q, REQ(.op = MBX_OP_VLAN, .vid = 50, .add = true)));
	assert_true(ask(b, p, REQ(.op = MBX_OP_VLAN, .vid = 9)));
	assert_true(ask(b, q, REQ(.op = MBX_OP_VLAN, .vid = 50, .add = true)));
	assert_int_equal(pools_of_vlan(b, 50), 2);
	pf_port_close(p);
	pf_port_close(q);
	stop(b);
}

/* A VF that no VM listens for is served like a host's own driver does. */
static void unheard_vfs_are_answered_in_place(void **s)
{
	struct bench *b =
		start(IGB_DEV_82576,
		      "{\"vf\":{\"1\":{\"mac\":\"02:00:00:00:00:0b\"}}}");
	struct fake_igb *d = &b->d;

	fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX);
	fake_igb_vf_write(d, 1, IGBVF_VMBMEM, MBX_SET_LPE);
	fake_igb_vf_write(d, 1, IGBVF_VMBMEM + 4, 1522);
	fake_igb_vf_write(d, 1, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_PFACK);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM), 0x40000005);

	fake_igb_vf_write(d, 1, IGBVF_VMBMEM, MBX_VF_RESET);
	fake_igb_vf_write(d, 1, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM), 0x80000001);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM + 8), 0x0b00);
	/* No policy, no address: the driver makes one up. */
	fake_igb_vf_write(d, 0, IGBVF_VMBMEM, MBX_VF_RESET);
	fake_igb_vf_write(d, 0, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(fake_igb_vf_read(d, 0, IGBVF_VMBMEM), 0x40000001);
	assert_int_equal(reg(b, IGB_VFRE), 3);
	/* The lock is free again. */
	assert_false(d->v2p[1] & IGB_V2P_PFU);

	/* An ack without CTS is answered with a NACK, so that it resets. */
	fake_igb_vf_write(d, 2, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	spin(b);
	assert_int_equal(fake_igb_vf_read(d, 2, IGBVF_VMBMEM), 0x40000000);
	/*
	 * With CTS, one that looks again and again gave up on its answer: it
	 * is told that the PF is there.
	 */
	fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM),
				 0x80000001);
		fake_igb_vf_write(d, 1, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
		spin(b);
	}
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM),
			 MBX_PF_CONTROL | MBX_CTS);
	/* Ringing over an old answer gets none. */
	fake_igb_vf_write(d, 1, IGBVF_VMBMEM, 0x80000001);
	fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX);
	fake_igb_vf_write(d, 1, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFACK);
	assert_int_equal(fake_igb_vf_read(d, 1, IGBVF_VMBMEM), 0x80000001);
	stop(b);
}

static void host_events_reach_the_callbacks(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 0), *q = claim(b, 1);

	p->ops->listen(p, callback, b);
	q->ops->listen(q, callback, b);
	assert_false(pf_link(b->pf));
	fake_igb_set_link(&b->d, true);
	spin(b);
	assert_int_equal(b->ngot, 2);
	assert_int_equal(b->got[0].kind, PF_EV_LINK);
	assert_true(b->got[0].link);
	assert_int_equal(b->got[1].vf, 1);
	assert_true(p->link);
	assert_int_equal(pf_kick(b->pf, 1), 0);
	assert_int_equal(b->got[2].kind, PF_EV_KICK);
	assert_int_equal(b->got[2].vf, 1);
	assert_int_equal(pf_set_frame(b->pf, 0, 9022), 0);
	assert_int_equal(b->got[3].kind, PF_EV_MTU);
	assert_int_equal(b->got[3].frame, 9022);
	assert_int_equal(pf_kick(b->pf, 7), -ENODEV);
	pf_port_close(q);
	pf_close(b->pf);
	/* The driver is gone: the port says so and stays valid. */
	assert_int_equal(b->got[4].kind, PF_EV_GONE);
	assert_int_equal(p->ops->listen(p, callback, b), -ENODEV);
	pf_port_close(p);
	open_pf(b, NULL);
	stop(b);
}

/* The next driver takes over a running device without a reset. */
/* A ceiling below the default holds without a word from the guest. */
static void a_low_ceiling_is_kept(void **s)
{
	struct bench *b = start(IGB_DEV_82576, "{\"default\":{\"mtu\":1400}}");
	struct pf_port *p = claim(b, 0);
	struct mbx_state st;

	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1422);
	assert_false(ask(b, p, REQ(.op = MBX_OP_LPE, .frame = 1522)));
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1422);
	assert_true(ask(b, p, REQ(.op = MBX_OP_LPE, .frame = 1300)));
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1300);
	/* One that was refused it has it from the reset; it may move. */
	mbx_state_init(&st, mac_a);
	st.cts = true;
	assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
	assert_true(b->verdict.ok);
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1422);
	st.frame = 1500;
	assert_int_equal(p->ops->restore(p, &st, verdict, b), 0);
	assert_false(b->verdict.ok);
	assert_int_equal(pf_set_frame(b->pf, 0, 1000), 0);
	assert_int_equal(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_RLPML, 1000);
	pf_port_close(p);
	stop(b);
}

/* For a guest that would misread the tags of looped-back frames. */
static void tags_are_left_in_frames(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 1);

	assert_int_equal(reg(b, IGB_RPLOLR), IGB_RPLOLR_STRVLAN);
	assert_int_equal(p->ops->keep_tags(p, true), 0);
	assert_int_equal(reg(b, IGB_VMOLR(1)) & IGB_VMOLR_STRVLAN, 0);
	assert_true(reg(b, IGB_VMOLR(0)) & IGB_VMOLR_STRVLAN);
	/* Frames to several VFs have one switch for all. */
	assert_int_equal(reg(b, IGB_RPLOLR), 0);
	/* A grant, or a reset of the VF, changes nothing about it. */
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	fake_igb_vf_write(&b->d, 1, IGBVF_CTRL, IGB_CTRL_RST);
	spin(b);
	assert_int_equal(reg(b, IGB_VMOLR(1)) & IGB_VMOLR_STRVLAN, 0);
	assert_int_equal(p->ops->keep_tags(p, false), 0);
	assert_true(reg(b, IGB_VMOLR(1)) & IGB_VMOLR_STRVLAN);
	assert_int_equal(reg(b, IGB_RPLOLR), IGB_RPLOLR_STRVLAN);
	/* It ends with the claim. */
	assert_int_equal(p->ops->keep_tags(p, true), 0);
	pf_port_close(p);
	assert_true(reg(b, IGB_VMOLR(1)) & IGB_VMOLR_STRVLAN);
	assert_int_equal(reg(b, IGB_RPLOLR), IGB_RPLOLR_STRVLAN);
	stop(b);

	b = start(IGB_DEV_I350, NULL);
	p = claim(b, 1);
	assert_int_equal(p->ops->keep_tags(p, true), 0);
	assert_int_equal(reg(b, IGB_DVMOLR(1)), 0);
	assert_int_equal(reg(b, IGB_DVMOLR(0)), IGB_DVMOLR_STRVLAN);
	assert_int_equal(reg(b, IGB_RPLOLR), 0);
	pf_port_close(p);
	stop(b);
}

static void claims_are_exclusive(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 0), *q;
	struct err e = { 0 };

	assert_int_equal(pf_claim(&q, b->pf, 0, "other", &e), -EBUSY);
	assert_non_null(strstr(e.text, "in use by test"));
	err_clear(&e);
	assert_int_equal(pf_claim(&q, b->pf, 7, "other", &e), -ENODEV);
	q = claim(b, PF_ANY_VF);
	assert_int_equal(q->vf, 1);
	pf_port_close(p);
	p = claim(b, PF_ANY_VF);
	assert_int_equal(p->vf, 0);
	pf_port_close(p);
	pf_port_close(q);
	stop(b);
}

static void status_tells_refusals(void **s)
{
	struct bench *b = start(IGB_DEV_82576, NULL);
	struct pf_port *p = claim(b, 1);
	json_t *st, *vf;

	ask(b, p, REQ(.op = MBX_OP_RESET));
	ask(b, p, REQ(.op = MBX_OP_PROMISC, .promisc = 3));
	st = pf_status(b->pf);
	assert_non_null(st);
	vf = json_array_get(json_object_get(st, "vfs"), 1);
	assert_int_equal(json_integer_value(json_object_get(vf, "requests")),
			 2);
	assert_int_equal(json_integer_value(json_object_get(vf, "refused")), 1);
	assert_string_equal(
		json_string_value(json_object_get(vf, "last_refusal")),
		"promiscuity not allowed");
	json_decref(st);
	pf_port_close(p);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(brings_the_device_up),
		cmocka_unit_test(refuses_what_it_cannot_drive),
		cmocka_unit_test(callback_is_called_by_the_driver_alone),
		cmocka_unit_test(resets_come_before_requests),
		cmocka_unit_test(grants_reach_the_hardware),
		cmocka_unit_test(full_tables_refuse),
		cmocka_unit_test(unheard_vfs_are_answered_in_place),
		cmocka_unit_test(host_events_reach_the_callbacks),
		cmocka_unit_test(a_low_ceiling_is_kept),
		cmocka_unit_test(tags_are_left_in_frames),
		cmocka_unit_test(claims_are_exclusive),
		cmocka_unit_test(status_tells_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
