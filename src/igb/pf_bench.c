#include "igb/pf_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"

const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa };
const uint8_t mac_b[6] = { 2, 0, 0, 0, 0, 0xb };

static void quiet(enum log_level level, const char *line, void *opaque)
{
}

void quiet_log(void)
{
	log_set_sink(quiet, NULL);
}

void open_pf(struct bench *b, const char *policy)
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

struct bench *start(uint16_t device, const char *policy)
{
	struct bench *b = calloc(1, sizeof(*b));

	quiet_log();
	fake_igb_init(&b->d, device);
	assert_int_equal(loop_create(&b->loop), 0);
	assert_int_equal(trace_create(&b->trace, 256), 0);
	open_pf(b, policy);
	return b;
}

void stop(struct bench *b)
{
	pf_close(b->pf);
	loop_destroy(b->loop);
	trace_destroy(b->trace);
	assert_false(b->d.open);
	free(b);
}

void spin(struct bench *b)
{
	for (int i = 0; i < 4; i++)
		loop_once(b->loop, 0);
}

void callback(void *opaque, const struct pf_event *ev)
{
	struct bench *b = opaque;

	if (b->ngot < ARRAY_SIZE(b->got))
		b->got[b->ngot++] = *ev;
}

void verdict(void *opaque, const struct pf_verdict *v)
{
	struct bench *b = opaque;

	b->verdict = *v;
	b->nverdicts++;
}

struct pf_port *claim(struct bench *b, unsigned int vf)
{
	struct pf_port *port;
	struct err e = { 0 };

	if (pf_claim(&port, b->pf, vf, "test", &e) < 0)
		fail_msg("%s", e.text);
	return port;
}

bool ask(struct bench *b, struct pf_port *port, const struct mbx_req *r)
{
	unsigned int before = b->nverdicts;
	struct mbx_msg m;

	mbx_encode(r, &m);
	assert_int_equal(port->ops->ask(port, &m, verdict, b), 0);
	assert_int_equal(b->nverdicts, before + 1);
	return b->verdict.ok;
}

bool set_mac(struct bench *b, struct pf_port *port, const uint8_t *mac)
{
	struct mbx_req r = { .op = MBX_OP_SET_MAC };

	memcpy(r.mac, mac, 6);
	return ask(b, port, &r);
}

uint32_t reg(struct bench *b, uint32_t off)
{
	return b->d.reg[off / 4];
}

uint32_t pools_of(struct bench *b, const uint8_t *mac)
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

uint32_t pools_of_vlan(struct bench *b, uint32_t vid)
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
