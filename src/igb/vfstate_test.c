#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "igb/regs.h"
#include "igb/vfstate.h"

/* A device of registers, and the order in which they were written. */
#define WRITES_MAX 128

struct box {
	struct pdev p;
	uint8_t config[4096];
	uint32_t reg[IGBVF_BAR0_SIZE / 4];
	bool refuse; /* enabling a queue zeroes its head */
	bool stuck;  /* queues do not switch on */
	bool gone;
	struct {
		uint32_t off, val;
		bool master;
	} w[WRITES_MAX];
	unsigned int nw;
	unsigned int arrived; /* of them, at the last flush */
};

static int box_flush(struct pdev *p)
{
	struct box *b = (struct box *)p;

	b->arrived = b->nw;
	return 0;
}

static int box_read(struct pdev *p, unsigned int region, uint64_t off,
		    void *buf, size_t len)
{
	struct box *b = (struct box *)p;

	if (b->gone)
		return -ENODEV;
	memcpy(buf,
	       region == PDEV_CONFIG ? b->config + off
				     : (uint8_t *)b->reg + off,
	       len);
	return 0;
}

static bool is_dctl(uint32_t off)
{
	uint32_t q = off & ~IGBVF_QUEUE_STRIDE;

	return q == IGBVF_RXDCTL || q == IGBVF_TXDCTL;
}

static int box_write(struct pdev *p, unsigned int region, uint64_t off,
		     const void *buf, size_t len)
{
	struct box *b = (struct box *)p;
	uint32_t v = 0;

	if (b->gone)
		return -ENODEV;
	if (region == PDEV_CONFIG) {
		memcpy(b->config + off, buf, len);
		return 0;
	}
	memcpy(&v, buf, sizeof(v));
	assert_true(b->nw < WRITES_MAX);
	b->w[b->nw].off = (uint32_t)off;
	b->w[b->nw].master = b->config[4] & 4;
	b->w[b->nw++].val = v;
	if (is_dctl((uint32_t)off) && b->stuck)
		v &= ~IGB_DCTL_ENABLE;
	if (is_dctl((uint32_t)off) && v & IGB_DCTL_ENABLE && b->refuse)
		b->reg[(off - IGB_Q_DCTL + IGB_Q_HEAD) / 4] = 0;
	b->reg[off / 4] = v;
	return 0;
}

static const struct pdev_ops box_ops = {
	.name = "box",
	.read = box_read,
	.write = box_write,
	.flush = box_flush,
};

static void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->p.ops = &box_ops;
	strcpy(b->p.name, "box");
	b->p.region[PDEV_BAR0].size = IGBVF_BAR0_SIZE;
	b->p.region[PDEV_BAR0].flags = PDEV_READ | PDEV_WRITE;
	b->p.region[PDEV_CONFIG].size = sizeof(b->config);
	b->p.region[PDEV_CONFIG].flags = PDEV_READ | PDEV_WRITE;
	b->config[4] = 6;
}

/* Two queues on, one off; every field another number. */
static struct igb_vf_state sample(void)
{
	struct igb_vf_state st = {
		.psrtype = 0x11,
		.eims = 0x2,
		.eiac = 0x7,
		.eiam = 0x5,
		.eitr = { 0x100, 0x200, 0x300 },
		.ivar0 = 0x8081,
		.ivar_misc = 0x82,
	};

	st.rx[0] = (struct igb_ring){ .base = 0x112340000,
				      .len = 0x4000,
				      .head = 100,
				      .tail = 90,
				      .ctl = IGB_DCTL_ENABLE | 0x10810,
				      .dca = 3,
				      .srrctl = 0x02000002 };
	st.tx[0] =
		(struct igb_ring){ .base = 0x200000,
				   .len = 0x1000,
				   .head = 7,
				   .tail = 9,
				   .ctl = IGB_DCTL_ENABLE | 0x20,
				   .dca = 4,
				   .wb = 0x300000001,
				   .ctx = { { .dw = { 1, 2, 0x20200000 } },
					    { .dw = { 5, 6, 0x20200400 } } } };
	st.rx[1] = (struct igb_ring){ .base = 0x5000, .len = 0x80 };
	return st;
}

static void as_saved_so_loaded(void **state)
{
	struct igb_vf_state a = sample(), b;
	uint8_t buf[IGB_VFSTATE_MAX];
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	igb_vf_save(&a, &o);
	assert_int_equal(o.err, 0);
	wire_in_init(&in, buf, wire_used(&o));
	assert_int_equal(igb_vf_load(&b, &in, NULL), 0);
	assert_int_equal(wire_done(&in), 0);
	assert_memory_equal(&a, &b, sizeof(a));

	/* Cut anywhere, nothing is loaded. */
	for (size_t cut = 0; cut < wire_used(&o); cut++) {
		memset(&b, 0x5a, sizeof(b));
		wire_in_init(&in, buf, cut);
		assert_true(igb_vf_load(&b, &in, NULL) < 0);
		for (size_t i = 0; i < sizeof(b); i++)
			assert_int_equal(((uint8_t *)&b)[i], 0x5a);
	}
	/* Another version is refused by name. */
	buf[0]++;
	wire_in_init(&in, buf, wire_used(&o));
	assert_int_equal(igb_vf_load(&b, &in, NULL), -EPROTO);
}

static int reload(const struct igb_vf_state *a)
{
	uint8_t buf[IGB_VFSTATE_MAX];
	struct igb_vf_state b;
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	igb_vf_save(a, &o);
	wire_in_init(&in, buf, wire_used(&o));
	return igb_vf_load(&b, &in, NULL);
}

static void impossible_rings_are_refused(void **state)
{
	struct igb_vf_state a = sample();

	a.rx[0].len = 0;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.rx[0].len += 16;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.rx[0].len = IGB_RING_MAX * IGB_DESC_SIZE + 128;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.tx[0].base += 16;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.tx[0].head = a.tx[0].len / IGB_DESC_SIZE;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.tx[0].tail = UINT32_MAX;
	assert_int_equal(reload(&a), -EBADMSG);
	a = sample();
	a.tx[0].ctx[1].dw[2] = IGB_TXD_DEXT | IGB_TXD_DTYP_DATA;
	assert_int_equal(reload(&a), -EBADMSG);
	/* A queue that is off may hold anything. */
	a = sample();
	a.rx[1].len = 3;
	a.rx[1].head = 99;
	assert_int_equal(reload(&a), 0);
}

static uint32_t reg(const struct box *b, uint32_t off)
{
	return b->reg[off / 4];
}

static int wrote(const struct box *b, uint32_t off)
{
	for (int i = (int)b->nw; i--;)
		if (b->w[i].off == off)
			return i;
	return -1;
}

static void programs_and_reads_back(void **state)
{
	struct igb_vf_state a = sample(), r;
	static struct box b;
	uint32_t refused = 99;

	box_init(&b);
	assert_int_equal(igb_vf_program(&b.p, &a, 0, &refused, NULL), 0);
	assert_int_equal(refused, 0);
	/* Off the bus from the first write to the last. */
	for (unsigned int i = 0; i < b.nw; i++)
		assert_false(b.w[i].master);
	assert_int_equal(b.config[4] & 4, 0);
	/* Base before enable, head before enable, nothing to do yet. */
	assert_true(wrote(&b, IGBVF_RDBAL) < wrote(&b, IGBVF_RXDCTL));
	assert_true(wrote(&b, IGBVF_RDH) < wrote(&b, IGBVF_RXDCTL));
	assert_int_equal(reg(&b, IGBVF_RDT), a.rx[0].head);
	assert_int_equal(reg(&b, IGBVF_TDT), a.tx[0].head);
	/* All vectors in use are unmasked, whatever the mask read as. */
	assert_int_equal(reg(&b, IGBVF_EIMS), 7);
	/* The queue that was off stays off. */
	assert_int_equal(wrote(&b, IGBVF_RXDCTL + IGBVF_QUEUE_STRIDE), -1);

	b.nw = 0;
	assert_int_equal(igb_vf_start(&b.p, &a, IGB_ALLQ), 0);
	assert_int_not_equal(b.config[4] & 4, 0);
	assert_true(b.w[0].master);
	assert_int_equal(reg(&b, IGBVF_RDT), a.rx[0].tail);
	assert_int_equal(reg(&b, IGBVF_TDT), a.tx[0].tail);
	assert_true(wrote(&b, IGBVF_TDT) < wrote(&b, IGBVF_RDT));
	/* None of it is still on its way when the guest runs. */
	assert_int_equal(b.arrived, b.nw);

	assert_int_equal(igb_vf_read(&b.p, &r), 0);
	a.eims = 7;
	a.rx[1] = (struct igb_ring){ 0 };
	/* Contexts are in no register. */
	memset(a.tx[0].ctx, 0, sizeof(a.tx[0].ctx));
	assert_memory_equal(&a, &r, sizeof(a));
	assert_int_equal(igb_vf_enabled(&r), IGB_RXQ(0) | IGB_TXQ(0));
}

static void a_refused_head_leaves_the_queue_off(void **state)
{
	struct igb_vf_state a = sample();
	static struct box b;
	uint32_t refused = 0;

	box_init(&b);
	b.refuse = true;
	a.tx[0].head = 0; /* which needs no taking */
	assert_int_equal(igb_vf_program(&b.p, &a, 0, &refused, NULL), 0);
	assert_int_equal(refused, IGB_RXQ(0));
	assert_int_equal(reg(&b, IGBVF_RXDCTL) & IGB_DCTL_ENABLE, 0);
	assert_int_not_equal(reg(&b, IGBVF_TXDCTL) & IGB_DCTL_ENABLE, 0);
	assert_int_equal(b.config[4] & 4, 0);
}

static void failures_are_told(void **state)
{
	struct igb_vf_state a = sample(), r;
	struct err e = { 0 };
	static struct box b;
	uint32_t refused;

	box_init(&b);
	b.stuck = true;
	assert_int_equal(igb_vf_program(&b.p, &a, 0, &refused, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "box"));
	b.gone = true;
	assert_int_equal(igb_vf_read(&b.p, &r), -ENODEV);
	assert_true(igb_vf_program(&b.p, &a, 0, &refused, NULL) < 0);
	assert_true(igb_vf_start(&b.p, &a, IGB_ALLQ) < 0);
}

/* A model with one queue pair answers all ones for the second. */
static void absent_queues_are_off(void **state)
{
	static struct box b;
	struct igb_vf_state r;

	box_init(&b);
	for (uint32_t i = 0; i < IGBVF_QUEUE_STRIDE / 4; i++) {
		b.reg[(IGBVF_RDBAL + IGBVF_QUEUE_STRIDE) / 4 + i] = UINT32_MAX;
		b.reg[(IGBVF_TDBAL + IGBVF_QUEUE_STRIDE) / 4 + i] = UINT32_MAX;
	}
	assert_int_equal(igb_vf_read(&b.p, &r), 0);
	assert_int_equal(igb_vf_enabled(&r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_saved_so_loaded),
		cmocka_unit_test(impossible_rings_are_refused),
		cmocka_unit_test(programs_and_reads_back),
		cmocka_unit_test(a_refused_head_leaves_the_queue_off),
		cmocka_unit_test(failures_are_told),
		cmocka_unit_test(absent_queues_are_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
