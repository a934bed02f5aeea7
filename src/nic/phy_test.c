/*
 * What stock igb and pagurus pf do until they have a port: NVM words and
 * checksums, PHY, semaphores, link; configuration space and SR-IOV.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "nic/fixture.h"

static uint16_t nvm(struct fx *x, uint32_t word)
{
	uint32_t v;

	fx_wr(x, NIC_PF, IGB_EERD,
	      word << IGB_EERD_ADDR_SHIFT | IGB_EERD_START);
	v = fx_rd(x, NIC_PF, IGB_EERD);
	assert_true(v & IGB_EERD_DONE);
	return (uint16_t)(v >> IGB_EERD_DATA_SHIFT);
}

static uint16_t phy(struct fx *x, uint32_t reg)
{
	uint32_t v;

	fx_wr(x, NIC_PF, IGB_MDIC,
	      reg << IGB_MDIC_REG_SHIFT | 1u << IGB_MDIC_PHY_SHIFT |
		      IGB_MDIC_OP_READ);
	v = fx_rd(x, NIC_PF, IGB_MDIC);
	assert_true(v & IGB_MDIC_READY);
	assert_false(v & IGB_MDIC_ERROR);
	return (uint16_t)v;
}

static void phy_wr(struct fx *x, uint32_t reg, uint16_t v)
{
	fx_wr(x, NIC_PF, IGB_MDIC,
	      v | reg << IGB_MDIC_REG_SHIFT | 1u << IGB_MDIC_PHY_SHIFT |
		      IGB_MDIC_OP_WRITE);
}

static void nvm_has_valid_sections(void **state)
{
	static const uint32_t at[] = { 0, 0x80, 0xc0, 0x100 };

	for (int m = 0; m < NIC_NMODELS; m++) {
		struct nic_conf c = fx_conf((enum nic_model)m);
		struct fx *x = fx_create(&c);
		uint32_t eecd = fx_rd(x, NIC_PF, IGB_EECD);

		assert_true(eecd & IGB_EECD_PRES);
		assert_true(eecd & IGB_EECD_AUTO_RD);
		/* Big enough for all four sections. */
		assert_true(64u << (eecd >> IGB_EECD_SIZE_SHIFT & 15) >= 0x140);
		for (unsigned int s = 0; s < (m == NIC_I350 ? 4 : 1); s++) {
			uint16_t sum = 0;

			for (uint32_t i = 0; i < 0x40; i++)
				sum = (uint16_t)(sum + nvm(x, at[s] + i));
			assert_int_equal(sum, 0xbaba);
		}
		assert_int_equal(nvm(x, 0), 0x0002);
		assert_int_equal(nvm(x, 2), 0xff00);
		assert_int_equal(nvm(x, 0x37), 0xffff); /* no other MAC */
		assert_int_equal(nvm(x, 0x3fff), 0xffff);
		fx_destroy(x);
	}
}

static void phy_is_found_and_negotiates(void **state)
{
	static const uint32_t id[] = { 0x02a80390, 0x015403b0 };

	for (int m = 0; m < NIC_NMODELS; m++) {
		struct nic_conf c = fx_conf((enum nic_model)m);
		struct fx *x = fx_create(&c);
		int polls = 0;

		assert_int_equal(((uint32_t)phy(x, 2) << 16 | phy(x, 3)) &
					 0xfffffff0,
				 id[m]);
		/* Autonegotiation restarted: no link, then link. */
		fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_SLU | IGB_CTRL_FD);
		phy_wr(x, 0, IGB_BMCR_AN_ENABLE | IGB_BMCR_AN_RESTART);
		assert_int_equal(phy(x, 0), IGB_BMCR_AN_ENABLE);
		assert_false(phy(x, 1) & IGB_BMSR_LINK);
		assert_false(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU);
		while (!(phy(x, 1) & IGB_BMSR_LINK)) {
			nic_poll(x->nic);
			assert_true(polls++ < 100000000);
		}
		assert_true(phy(x, 1) & IGB_BMSR_AN_DONE);
		assert_true(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU);
		/* The MAC's side of it. */
		fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_FD);
		assert_false(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU);
		fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_FD | IGB_CTRL_SLU);
		assert_true(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU);
		/* Read-only registers; power down. */
		phy_wr(x, 2, 0);
		assert_int_equal(phy(x, 2), id[m] >> 16);
		phy_wr(x, 0, IGB_BMCR_POWER_DOWN);
		assert_false(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU);
		fx_destroy(x);
	}
}

static void no_phy_at_other_addresses(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);

	fx_wr(x, NIC_PF, IGB_MDIC,
	      2u << IGB_MDIC_REG_SHIFT | 5u << IGB_MDIC_PHY_SHIFT |
		      IGB_MDIC_OP_READ);
	assert_true(fx_rd(x, NIC_PF, IGB_MDIC) & IGB_MDIC_ERROR);
	fx_destroy(x);
}

static void semaphore_is_taken_by_reading(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);

	assert_int_equal(fx_rd(x, NIC_PF, IGB_SWSM), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_SWSM), IGB_SWSM_SMBI);
	fx_wr(x, NIC_PF, IGB_SWSM, IGB_SWSM_SMBI | IGB_SWSM_SWESMBI);
	assert_true(fx_rd(x, NIC_PF, IGB_SWSM) & IGB_SWSM_SWESMBI);
	fx_wr(x, NIC_PF, IGB_SWSM, 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_SWSM), 0);
	fx_destroy(x);
}

static void master_disable_is_answered(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);

	assert_true(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_GIO_MASTER);
	fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_GIO_MASTER_DISABLE);
	assert_false(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_GIO_MASTER);
	fx_destroy(x);
}

static uint32_t config(struct fx *x, unsigned int fn, uint32_t off,
		       unsigned int size)
{
	uint32_t v = 0;

	assert_int_equal(nic_config_read(x->nic, fn, off, &v, size), 0);
	return v;
}

static void sriov_makes_vfs(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);

	c.vfs = 4;
	assert_int_equal(config(x, NIC_PF, 0, 4), 0x10c98086);
	assert_int_equal(config(x, NIC_PF, 0x160, 2), 0x0010);
	assert_int_equal(config(x, NIC_PF, 0x16e, 2), 8); /* TotalVFs */
	assert_int_equal(config(x, NIC_PF, 0x17a, 2), 0x10ca);
	assert_int_equal(x->vfs_now, 0);
	fx_config16(x, NIC_PF, 0x170, 3);
	assert_int_equal(x->vfs_now, 0); /* a number is not yet an enable */
	fx_config16(x, NIC_PF, 0x168, 0x9);
	assert_int_equal(x->vfs_now, 3);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_STATUS) &
				 (IGB_STATUS_IOV | 0xfu << 14),
			 IGB_STATUS_IOV | 3u << 14);
	assert_int_equal(config(x, NIC_VF(0), 0, 4), 0x10ca8086);
	fx_config16(x, NIC_PF, 0x168, 0);
	assert_int_equal(x->vfs_now, 0);
	/* A PF reset by software leaves SR-IOV alone, FLR does not. */
	fx_config16(x, NIC_PF, 0x168, 0x9);
	fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_RST);
	assert_int_equal(x->vfs_now, 3);
	fx_config16(x, NIC_PF, 0xa8, 0x8000);
	assert_int_equal(x->vfs_now, 0);
	assert_int_equal(config(x, NIC_PF, 0x168, 2), 0);
	assert_int_equal(config(x, NIC_PF, 0xa8, 2) & 0x8000, 0);
	fx_destroy(x);
}

static void flr_of_a_vf_by_its_config_space(void **state)
{
	struct nic_conf c = fx_conf(NIC_I350);
	struct fx *x = fx_create(&c);

	fx_bring_up(x, 2);
	fx_wr(x, NIC_VF(1), IGBVF_TDLEN, 1024);
	fx_wr(x, NIC_PF, IGB_VFLRE, 0xff);
	fx_config16(x, NIC_VF(1), 0xa8, 0x8000);
	assert_int_equal(fx_rd(x, NIC_VF(1), IGBVF_TDLEN), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 2);
	assert_int_equal(config(x, NIC_VF(1), 4, 2), 0);
	assert_int_equal(config(x, NIC_VF(1), 0, 4), 0x15208086);
	fx_destroy(x);
}

static void accesses_outside_are_refused(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);
	uint32_t v[2] = { 0 };

	assert_int_equal(nic_read(x->nic, NIC_PF, 0, 0x1fffc, v, 8), -22);
	assert_int_equal(nic_read(x->nic, NIC_PF, 0, UINT64_MAX - 3, v, 8),
			 -22);
	assert_int_equal(nic_read(x->nic, NIC_PF, 0, 2, v, 4), -22);
	assert_int_equal(nic_write(x->nic, NIC_PF, 0, 0, v, 2), -22);
	assert_int_equal(nic_read(x->nic, NIC_PF, 1, 0, v, 4), -22);
	assert_int_equal(nic_read(x->nic, 9, 0, 0, v, 4), -22);
	assert_int_equal(nic_config_read(x->nic, NIC_PF, 4094, v, 4), -22);
	assert_int_equal(nic_config_write(x->nic, NIC_PF, UINT64_MAX, v, 4),
			 -22);
	/* Eight bytes are two registers; MSI-X storage takes anything. */
	assert_int_equal(nic_read(x->nic, NIC_PF, 0, IGB_RAL(0), v, 8), 0);
	assert_true(v[1] & IGB_RAH_AV);
	assert_int_equal(nic_write(x->nic, NIC_PF, 3, 0x101, v, 3), 0);
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nvm_has_valid_sections),
		cmocka_unit_test(phy_is_found_and_negotiates),
		cmocka_unit_test(no_phy_at_other_addresses),
		cmocka_unit_test(semaphore_is_taken_by_reading),
		cmocka_unit_test(master_disable_is_answered),
		cmocka_unit_test(sriov_makes_vfs),
		cmocka_unit_test(flr_of_a_vf_by_its_config_space),
		cmocka_unit_test(accesses_outside_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
