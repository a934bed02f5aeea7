/*
 * Ring registers: alignment, heads, tails, enable, what resets clear, the
 * two models, the VF's and the PF's view; by message and as memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "nic/fixture.h"

#define V0 NIC_VF(0)

static struct fx *up(enum nic_model model, bool heads_ro, unsigned int direct,
		     bool compact)
{
	struct nic_conf c = fx_conf(model);
	struct fx *x;

	c.heads_ro = heads_ro;
	c.direct_pages = direct;
	c.compact = compact;
	x = fx_create(&c);
	fx_bring_up(x, 3);
	return x;
}

static void base_and_length_are_aligned(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);

	fx_wr(x, V0, IGBVF_RDBAL, 0x123456ff);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDBAL), 0x12345680);
	fx_wr(x, V0, IGBVF_TDBAL, 0xffffffff);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDBAL), 0xffffff80);
	fx_wr(x, V0, IGBVF_TDBAH, 0xabcdef01);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDBAH), 0xabcdef01);
	fx_wr(x, V0, IGBVF_RDLEN, 0xffffffff);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDLEN), 0x000fff80);
	fx_destroy(x);
}

static void heads_only_between_reset_and_enable(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);
	static const uint32_t blocks[] = { 0x2800, 0x3800 };

	for (unsigned int i = 0; i < 2; i++) {
		uint32_t b = blocks[i];

		fx_wr(x, V0, b + IGB_Q_LEN, 1024);
		fx_wr(x, V0, b + IGB_Q_HEAD, 17);
		assert_int_equal(fx_rd(x, V0, b + IGB_Q_HEAD), 17);
		/* A tail cannot be written before the enable. */
		fx_wr(x, V0, b + IGB_Q_TAIL, 20);
		assert_int_equal(fx_rd(x, V0, b + IGB_Q_TAIL), 0);
		fx_wr(x, V0, b + IGB_Q_DCTL, IGB_DCTL_ENABLE);
		assert_int_equal(fx_rd(x, V0, b + IGB_Q_HEAD), 17);
		fx_wr(x, V0, b + IGB_Q_HEAD, 3);
		assert_int_equal(fx_rd(x, V0, b + IGB_Q_HEAD), 17);
		/* Nor after a disable without a reset. */
		fx_wr(x, V0, b + IGB_Q_DCTL, 0);
		fx_wr(x, V0, b + IGB_Q_HEAD, 3);
		assert_int_equal(fx_rd(x, V0, b + IGB_Q_HEAD), 17);
	}
	fx_wr(x, V0, IGBVF_CTRL, IGB_CTRL_RST);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(fx_rd(x, V0, blocks[i] + IGB_Q_HEAD), 0);
		fx_wr(x, V0, blocks[i] + IGB_Q_HEAD, 3);
		assert_int_equal(fx_rd(x, V0, blocks[i] + IGB_Q_HEAD), 3);
	}
	fx_destroy(x);
}

static void heads_read_only_when_told(void **state)
{
	struct fx *x = up(NIC_I350, true, 0, false);

	fx_wr(x, V0, IGBVF_RDH, 5);
	fx_wr(x, V0, IGBVF_TDH, 5);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDH), 0);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDH), 0);
	fx_destroy(x);
}

static void tail_beyond_the_ring_is_refused(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);
	struct nic_counts c;

	fx_wr(x, V0, IGBVF_RDLEN, 1024); /* 64 descriptors */
	fx_wr(x, V0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	fx_wr(x, V0, IGBVF_RDT, 63);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDT), 63);
	fx_wr(x, V0, IGBVF_RDT, 64);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDT), 63);
	nic_get_counts(x->nic, &c);
	assert_int_equal(c.bad_access, 1);
	fx_destroy(x);
}

static void pf_sees_the_vfs_rings(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);
	struct fx *y = up(NIC_I350, false, 0, false);

	/* 82576: VF n owns queues n and n + 8. */
	fx_wr(x, NIC_VF(2), IGBVF_RDBAL, 0x1000);
	fx_wr(x, NIC_VF(2), IGBVF_RDBAL + IGBVF_QUEUE_STRIDE, 0x2000);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RDBAL(2)), 0x1000);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RDBAL(10)), 0x2000);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RXQ_REGS_OLD(2)), 0x1000);
	/* I350: one, and the second is not there. */
	fx_wr(y, NIC_VF(2), IGBVF_TDBAL, 0x1000);
	fx_wr(y, NIC_VF(2), IGBVF_TDBAL + IGBVF_QUEUE_STRIDE, 0x2000);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_TDBAL(2)), 0x1000);
	assert_int_equal(fx_rd(y, NIC_VF(2), IGBVF_TDBAL + IGBVF_QUEUE_STRIDE),
			 0);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_TDBAL(10)), 0);
	/* The PF's rings start behind them. */
	fx_wr(x, NIC_PF, IGB_TDBAL(3), 0x3000);
	assert_int_equal(fx_rd(x, NIC_VF(2), IGBVF_TDBAL), 0);
	fx_destroy(x);
	fx_destroy(y);
}

static void vf_reset_clears_its_own_only(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);
	static const uint32_t cleared[] = {
		IGBVF_RDBAL,	  IGBVF_RDBAH, IGBVF_RDLEN,	IGBVF_TDBAL,
		IGBVF_TDLEN,	  IGBVF_EIMS,  IGBVF_EIAC,	IGBVF_EIAM,
		IGBVF_EITR0,	  IGBVF_IVAR0, IGBVF_IVAR_MISC, IGBVF_PSRTYPE,
		IGBVF_DCA_RXCTRL,
	};

	for (unsigned int vf = 0; vf < 2; vf++) {
		for (unsigned int i = 0;
		     i < sizeof(cleared) / sizeof(cleared[0]); i++) {
			fx_wr(x, NIC_VF(vf), cleared[i], 0x80818384);
			assert_int_not_equal(fx_rd(x, NIC_VF(vf), cleared[i]),
					     0);
		}
		fx_wr(x, NIC_VF(vf), IGBVF_TDWBAL, 0x1001);
		fx_wr(x, NIC_VF(vf), IGBVF_TXDCTL, IGB_DCTL_ENABLE);
	}
	fx_wr(x, V0, IGBVF_CTRL, IGB_CTRL_RST);
	for (unsigned int i = 0; i < sizeof(cleared) / sizeof(cleared[0]);
	     i++) {
		assert_int_equal(fx_rd(x, V0, cleared[i]), 0);
		assert_int_not_equal(fx_rd(x, NIC_VF(1), cleared[i]), 0);
	}
	assert_int_equal(fx_rd(x, V0, IGBVF_TXDCTL), 0);
	/* The one thing a VF reset leaves: NIC-FACTS 2.3. */
	assert_int_equal(fx_rd(x, V0, IGBVF_TDWBAL), 0x1001);
	assert_int_equal(fx_rd(x, NIC_VF(1), IGBVF_TXDCTL), IGB_DCTL_ENABLE);
	fx_destroy(x);
}

static void pf_reset_clears_all(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);

	fx_wr(x, V0, IGBVF_TDBAL, 0x1000);
	fx_wr(x, V0, IGBVF_TDWBAL, 0x1001);
	fx_wr(x, V0, IGBVF_EIMS, 7);
	fx_wr(x, NIC_PF, IGB_VLVF(3), 0x80001005);
	fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_RST);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDBAL), 0);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDWBAL), 0);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VLVF(3)), 0);
	/* The station address comes back from the NVM. */
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RAL(0)), 0x00000002);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RAH(0)),
			 IGB_RAH_AV | 1u << 18 | 0xff00);
	fx_destroy(x);
}

static void models_differ(void **state)
{
	struct fx *x = up(NIC_82576, false, 0, false);
	struct fx *y = up(NIC_I350, false, 0, false);

	fx_wr(x, NIC_PF, IGB_TXSWC, 0x80000001);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_TXSWC), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_DTXSWC), 0x80000000);
	fx_wr(y, NIC_PF, IGB_DTXSWC, 0x80000001);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_DTXSWC), 0);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_TXSWC), 0x80000000);
	fx_wr(x, NIC_PF, IGB_DVMOLR(1), IGB_DVMOLR_STRVLAN);
	fx_wr(y, NIC_PF, IGB_DVMOLR(1), IGB_DVMOLR_STRVLAN);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_DVMOLR(1)), 0);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_DVMOLR(1)), IGB_DVMOLR_STRVLAN);
	/* 24 and 32 receive addresses. */
	fx_wr(x, NIC_PF, IGB_RAL(23), 1);
	fx_wr(x, NIC_PF, IGB_RAL(24), 1);
	fx_wr(y, NIC_PF, IGB_RAL(31), 1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RAL(23)), 1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_RAL(24)), 0);
	assert_int_equal(fx_rd(y, NIC_PF, IGB_RAL(31)), 1);
	fx_destroy(x);
	fx_destroy(y);
}

static void page_one_cannot_be_direct(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct err e = { 0 };
	struct nic *nic;

	c.direct_pages = 0x2;
	assert_int_equal(nic_create(&nic, &c, &e), -22);
	assert_non_null(strstr(e.text, "page 1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base_and_length_are_aligned),
		cmocka_unit_test(heads_only_between_reset_and_enable),
		cmocka_unit_test(heads_read_only_when_told),
		cmocka_unit_test(tail_beyond_the_ring_is_refused),
		cmocka_unit_test(pf_sees_the_vfs_rings),
		cmocka_unit_test(vf_reset_clears_its_own_only),
		cmocka_unit_test(pf_reset_clears_all),
		cmocka_unit_test(models_differ),
		cmocka_unit_test(page_one_cannot_be_direct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
