#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/fake_igb.h"
#include "igb/pf.h"

struct bench {
	struct fake_igb d;
	struct loop *loop;
	struct trace *trace;
	struct pf *pf;
	struct pf_event got[16]; /* what the callback heard */
	unsigned int ngot;
	struct pf_verdict verdict;
	unsigned int nverdicts;
};

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa };
static const uint8_t mac_b[6] = { 2, 0, 0, 0, 0, 0xb };

static void quiet(enum log_level level, const char *line, void *opaque)
{
}

static void open_pf(struct bench *b, const char *policy)
{
	struct pf_conf conf = { .trace = b->trace, .vfs = 7 };
	struct err e = { 0 };

	pf_policy_default(&conf.policy);
	if (policy)
		assert_int_equal(pf_policy_parse(&conf.policy, policy, NULL),
				 0);
	if (pf_open(&b->pf, fake_igb_pdev(&b->d), b->loop, &conf, &e) < 0)
		fail_msg("%s", e.text);
}

static struct bench *start(uint16_t device, const char *policy)
{
	struct bench *b = calloc(1, sizeof(*b));

	log_set_sink(quiet, NULL);
	fake_igb_init(&b->d, device);
	assert_int_equal(loop_create(&b->loop), 0);
	assert_int_equal(trace_create(&b->trace, 256), 0);
	open_pf(b, policy);
	return b;
}

static void stop(struct bench *b)
{
	pf_close(b->pf);
	loop_destroy(b->loop);
	trace_destroy(b->trace);
	assert_false(b->d.open);
	free(b);
}

static void spin(struct bench *b)
{
	for (int i = 0; i < 4; i++)
		loop_once(b->loop, 0);
}

static void callback(void *opaque, const struct pf_event *ev)
{
	struct bench *b = opaque;

	if (b->ngot < ARRAY_SIZE(b->got))
		b->got[b->ngot++] = *ev;
}

static void verdict(void *opaque, const struct pf_verdict *v)
{
	struct bench *b = opaque;

	b->verdict = *v;
	b->nverdicts++;
}

static struct pf_port *claim(struct bench *b, unsigned int vf)
{
	struct pf_port *port;
	struct err e = { 0 };

	if (pf_claim(&port, b->pf, vf, "test", &e) < 0)
		fail_msg("%s", e.text);
	return port;
}

static bool ask(struct bench *b, struct pf_port *port, const struct mbx_req *r)
{
	unsigned int before = b->nverdicts;
	struct mbx_msg m;

	mbx_encode(r, &m);
	assert_int_equal(port->ops->ask(port, &m, verdict, b), 0);
	assert_int_equal(b->nverdicts, before + 1);
	return b->verdict.ok;
}

#define REQ(...) (&(const struct mbx_req){ __VA_ARGS__ })

static bool set_mac(struct bench *b, struct pf_port *port, const uint8_t *mac)
{
	struct mbx_req r = { .op = MBX_OP_SET_MAC };

	memcpy(r.mac, mac, 6);
	return ask(b, port, &r);
}

static uint32_t reg(struct bench *b, uint32_t off)
{
	return b->d.reg[off / 4];
}

/* Where 'mac' is filtered to: pools, 0 for nowhere. */
static uint32_t pools_of(struct bench *b, const uint8_t *mac)
{
	uint32_t lo, hi, pools = 0;

	memcpy(&lo, mac, 4);
	hi = (uint32_t)mac[4] | (uint32_t)mac[5] << 8;
	for (unsigned int i = 0; i < pf_gen(b->pf)->rar; i++)
		if (reg(b, IGB_RAL(i)) == lo &&
		    (reg(b, IGB_RAH(i)) & 0xffff) == hi &&
		    reg(b, IGB_RAH(i)) & IGB_RAH_AV)
			pools |= (reg(b, IGB_RAH(i)) & IGB_RAH_POOLS) >>
				 IGB_RAH_POOL_SHIFT;
	return pools;
}

static uint32_t pools_of_vlan(struct bench *b, uint32_t vid)
{
	uint32_t pools = 0;

	if (!(reg(b, IGB_VFTA(vid / 32)) >> vid % 32 & 1))
		return 0;
	for (unsigned int i = 0; i < IGB_VLVF_ENTRIES; i++)
		if (reg(b, IGB_VLVF(i)) & IGB_VLVF_EN &&
		    (reg(b, IGB_VLVF(i)) & IGB_VLVF_VID) == vid)
			pools |= (reg(b, IGB_VLVF(i)) & IGB_VLVF_POOLS) >>
				 IGB_VLVF_POOL_SHIFT;
	return pools;
}

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

	log_set_sink(quiet, NULL);
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

/* For a guest that would misread the tags of looped-back frames. */
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
		cmocka_unit_test(a_running_device_is_taken_over),
		cmocka_unit_test(what_a_vm_missed_is_kept_for_it),
		cmocka_unit_test(what_was_missed_is_not_of_the_next_vm),
		cmocka_unit_test(a_vf_nobody_comes_for_is_answered),
		cmocka_unit_test(a_low_ceiling_is_kept),
		cmocka_unit_test(tags_are_left_in_frames),
		cmocka_unit_test(claims_are_exclusive),
		cmocka_unit_test(status_tells_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
