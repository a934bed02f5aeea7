/*
 * The mailbox against NIC-FACTS 2.2, 3 and 6.2: locks, read-to-clear bits,
 * causes, reset indications, the VF's vector; by message and through the
 * direct page, with the sequences of the stock drivers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "nic/fixture.h"

#define V2P IGBVF_V2PMAILBOX
#define V0  NIC_VF(0)
#define V1  NIC_VF(1)

static struct fx *up(enum nic_model model, unsigned int direct)
{
	struct nic_conf c = fx_conf(model);
	struct fx *x;

	c.direct_pages = direct;
	x = fx_create(&c);
	fx_bring_up(x, 2);
	fx_rd(x, V0, V2P); /* RSTD */
	fx_rd(x, V1, V2P);
	fx_wr(x, NIC_PF, IGB_IVAR_MISC, (IGB_IVAR_VALID | 0) << 8);
	fx_wr(x, NIC_PF, IGB_EIAC, 1);
	fx_wr(x, NIC_PF, IGB_EIMS, 1);
	fx_wr(x, NIC_PF, IGB_IMS, IGB_ICR_VMMB);
	fx_rd(x, NIC_PF, IGB_ICR);
	return x;
}

static void request_and_ack(void **state)
{
	struct fx *x = up(NIC_82576, 0);

	fx_wr(x, V1, V2P, IGB_V2P_VFU);
	assert_int_equal(fx_rd(x, V1, V2P), IGB_V2P_VFU);
	fx_wr(x, V1, IGBVF_VMBMEM, 0x00000001);
	fx_wr(x, V1, V2P, IGB_V2P_REQ); /* send and unlock */
	assert_int_equal(fx_rd(x, V1, V2P), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_MBVFICR), 0x2);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_VMMB,
			 IGB_ICR_VMMB);
	assert_int_equal(x->irqs[NIC_PF][0], 1);
	fx_wr(x, NIC_PF, IGB_MBVFICR, 0x2);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_MBVFICR), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VMBMEM(1)), 1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VMBMEM(0)), 0);

	fx_wr(x, V1, V2P, IGB_V2P_ACK);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_MBVFICR), 0x20000);
	fx_destroy(x);
}

static void one_owner_at_a_time(void **state)
{
	struct fx *x = up(NIC_I350, 0);

	/* VF first: the PF does not get it. */
	fx_wr(x, V0, V2P, IGB_V2P_VFU);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_PFU);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_P2VMAILBOX(0)), IGB_P2V_VFU);
	/* Any write without the own bit gives it back. */
	fx_wr(x, V0, V2P, 0);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_PFU);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_P2VMAILBOX(0)), IGB_P2V_PFU);
	fx_wr(x, V0, V2P, IGB_V2P_VFU);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_PFU);
	/* ACK|PFU keeps the lock, as igb does between read and reply. */
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_ACK | IGB_P2V_PFU);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_PFU | IGB_V2P_PFACK);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_STS);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_PFSTS);
	assert_int_equal(fx_rd(x, V0, V2P), 0); /* read to clear */
	/* RVFU breaks a lock, and the PF can have it in the same write. */
	fx_wr(x, V0, V2P, IGB_V2P_VFU);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_RVFU | IGB_P2V_PFU);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_P2VMAILBOX(0)), IGB_P2V_PFU);
	/* The other VF's mailbox has nothing to do with it. */
	assert_int_equal(fx_rd(x, NIC_PF, IGB_P2VMAILBOX(1)), 0);
	fx_destroy(x);
}

static void ack_and_sts_in_one_read(void **state)
{
	struct fx *x = up(NIC_82576, 0);

	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_ACK);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_STS);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_PFACK | IGB_V2P_PFSTS);
	assert_int_equal(fx_rd(x, V0, V2P), 0);
	fx_destroy(x);
}

static void vector_is_the_one_ivar_misc_names(void **state)
{
	struct fx *x = up(NIC_82576, 0);

	for (unsigned int v = 0; v < 3; v++) {
		fx_wr(x, V1, IGBVF_IVAR_MISC, IGB_IVAR_VALID | v);
		fx_wr(x, V1, IGBVF_EIMS, 7);
		fx_rd(x, V1, IGBVF_EICR);
		fx_wr(x, NIC_PF, IGB_P2VMAILBOX(1), IGB_P2V_STS);
		for (unsigned int i = 0; i < 3; i++)
			assert_int_equal(x->irqs[V1][i], i <= v);
		assert_int_equal(fx_rd(x, V1, IGBVF_EICR), 1u << v);
	}
	/* Not valid: no cause. */
	fx_wr(x, V1, IGBVF_IVAR_MISC, 2);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(1), IGB_P2V_STS);
	assert_int_equal(fx_rd(x, V1, IGBVF_EICR), 0);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(x->irqs[V0][i], 0);
	fx_destroy(x);
}

static void mask_register_holds_a_vf_back(void **state)
{
	struct fx *x = up(NIC_82576, 0);

	fx_wr(x, NIC_PF, IGB_MBVFIMR, 0x1);
	fx_wr(x, V1, V2P, IGB_V2P_REQ);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_VMMB, 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_MBVFICR), 0x2);
	fx_wr(x, V0, V2P, IGB_V2P_REQ);
	assert_int_equal(x->irqs[NIC_PF][0], 1);
	fx_destroy(x);
}

static void reset_indications(void **state)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x = fx_create(&c);

	fx_config16(x, NIC_PF, 0x170, 2);
	fx_config16(x, NIC_PF, 0x168, 9);
	/* Nobody drives the PF yet. */
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_RSTI);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_RSTI); /* a level */
	fx_wr(x, NIC_PF, IGB_CTRL_EXT, IGB_CTRL_EXT_PFRSTD);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_RSTD);
	assert_int_equal(fx_rd(x, V0, V2P), 0); /* read to clear */
	assert_int_equal(fx_rd(x, V1, V2P), IGB_V2P_RSTD);
	/* PFRSTD acts; it does not stay and act again with other bits. */
	fx_wr(x, NIC_PF, IGB_CTRL_EXT,
	      fx_rd(x, NIC_PF, IGB_CTRL_EXT) | IGB_CTRL_EXT_DRV_LOAD);
	assert_int_equal(fx_rd(x, V0, V2P), 0);

	fx_wr(x, V0, V2P, IGB_V2P_VFU);
	fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_RST);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_CTRL) & IGB_CTRL_RST, 0);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_RSTI);
	fx_destroy(x);
}

static void vf_reset_tells_the_pf(void **state)
{
	struct fx *x = up(NIC_82576, 0);

	fx_wr(x, V1, V2P, IGB_V2P_VFU);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(1), IGB_P2V_STS);
	fx_wr(x, V1, IGBVF_CTRL, IGB_CTRL_RST);
	assert_int_equal(fx_rd(x, V1, IGBVF_CTRL), 0);
	assert_int_equal(fx_rd(x, V1, V2P), 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 0x2);
	assert_true(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_VMMB);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFRE), 0xfd);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFTE), 0xfd);
	fx_wr(x, NIC_PF, IGB_VFLRE, 0x2);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 0);
	/* The same from the PF's side, and by FLR. */
	fx_wr(x, NIC_PF, IGB_PVTCTRL(0), IGB_CTRL_RST);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 0x1);
	nic_flr(x->nic, V1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 0x3);
	fx_destroy(x);
}

/* ---- the same page as memory ---- */

static volatile uint32_t *page0(struct fx *x, unsigned int vf)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
		       nic_direct_fd(x->nic, vf), 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* What igbvf does for one message, against a PF that acts in between. */
static void igbvf_exchange(struct fx *x, volatile uint32_t *p, uint32_t request,
			   uint32_t reply)
{
	uint32_t acc, polls = 0;

	p[V2P / 4] = IGB_V2P_VFU;
	assert_true(p[V2P / 4] & IGB_V2P_VFU);
	nic_poll(x->nic);
	acc = p[V2P / 4];
	/* A stale bit here would make the driver take an old answer. */
	assert_int_equal(acc & (IGB_V2P_PFACK | IGB_V2P_PFSTS), 0);
	p[IGBVF_VMBMEM / 4] = request;
	p[V2P / 4] = IGB_V2P_REQ;
	while (!(fx_rd(x, NIC_PF, IGB_MBVFICR) & 1))
		assert_true(polls++ < 10);
	assert_int_equal(p[V2P / 4] & (IGB_V2P_PFACK | IGB_V2P_PFSTS), 0);

	fx_wr(x, NIC_PF, IGB_MBVFICR, 1);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_PFU);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VMBMEM(0)), request);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_ACK | IGB_P2V_PFU);
	assert_true(p[V2P / 4] & IGB_V2P_PFACK);
	assert_false(p[V2P / 4] & IGB_V2P_PFSTS);
	fx_wr(x, NIC_PF, IGB_VMBMEM(0), reply);
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_STS);
	assert_true(p[V2P / 4] & IGB_V2P_PFSTS);
	assert_false(p[V2P / 4] & IGB_V2P_PFU);

	p[V2P / 4] = IGB_V2P_VFU;
	assert_int_equal(p[IGBVF_VMBMEM / 4], reply);
	p[V2P / 4] = IGB_V2P_ACK;
	nic_poll(x->nic);
	fx_rd(x, NIC_PF, IGB_STATUS);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_MBVFICR), 1u << 16);
	fx_wr(x, NIC_PF, IGB_MBVFICR, 1u << 16);
}

static void direct_exchanges(void **state)
{
	struct fx *x = up(NIC_82576, NIC_DIRECT_DEFAULT);
	volatile uint32_t *p = page0(x, 0);

	for (uint32_t i = 0; i < 100; i++)
		igbvf_exchange(x, p, i << 16 | 2, 0x80000002u | i << 16);
	munmap((void *)p, 4096);
	fx_destroy(x);
}

static void direct_reset_clears_rstd_in_time(void **state)
{
	struct fx *x = up(NIC_82576, NIC_DIRECT_DEFAULT);
	volatile uint32_t *p = page0(x, 0);
	unsigned int polls = 0;

	fx_wr(x, NIC_PF, IGB_CTRL_EXT, IGB_CTRL_EXT_PFRSTD);
	assert_true(p[V2P / 4] & IGB_V2P_RSTD);
	assert_true(nic_poll_urgent(x->nic));
	p[IGBVF_CTRL / 4] = IGB_CTRL_RST;
	while (p[V2P / 4] & (IGB_V2P_RSTD | IGB_V2P_RSTI)) {
		nic_poll(x->nic);
		assert_true(polls++ < 100000);
	}
	assert_int_equal(p[IGBVF_CTRL / 4], 0);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_VFLRE), 1);

	/* And the second write of a driver that did not reset takes it. */
	fx_wr(x, NIC_PF, IGB_CTRL_EXT, IGB_CTRL_EXT_PFRSTD);
	p[V2P / 4] = IGB_V2P_VFU;
	fx_rd(x, NIC_PF, IGB_STATUS);
	assert_true(p[V2P / 4] & IGB_V2P_RSTD);
	p[V2P / 4] = IGB_V2P_REQ;
	fx_rd(x, NIC_PF, IGB_STATUS);
	assert_false(p[V2P / 4] & IGB_V2P_RSTD);
	munmap((void *)p, 4096);
	fx_destroy(x);
}

static void direct_lock_conflict_is_counted(void **state)
{
	struct fx *x = up(NIC_82576, NIC_DIRECT_DEFAULT);
	volatile uint32_t *p = page0(x, 0);
	struct nic_counts c;

	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_PFU);
	assert_int_equal(p[V2P / 4], IGB_V2P_PFU);
	p[V2P / 4] = IGB_V2P_VFU;
	assert_int_equal(fx_rd(x, NIC_PF, IGB_P2VMAILBOX(0)), IGB_P2V_PFU);
	assert_int_equal(p[V2P / 4], IGB_V2P_PFU);
	nic_get_counts(x->nic, &c);
	assert_int_equal(c.mbx_conflicts, 1);
	/* By message the bits are read-to-clear even so, in both places. */
	fx_wr(x, NIC_PF, IGB_P2VMAILBOX(0), IGB_P2V_STS);
	assert_int_equal(fx_rd(x, V0, V2P), IGB_V2P_PFSTS);
	assert_int_equal(p[V2P / 4], 0);
	munmap((void *)p, 4096);
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_and_ack),
		cmocka_unit_test(one_owner_at_a_time),
		cmocka_unit_test(ack_and_sts_in_one_read),
		cmocka_unit_test(vector_is_the_one_ivar_misc_names),
		cmocka_unit_test(mask_register_holds_a_vf_back),
		cmocka_unit_test(reset_indications),
		cmocka_unit_test(vf_reset_tells_the_pf),
		cmocka_unit_test(direct_exchanges),
		cmocka_unit_test(direct_reset_clears_rstd_in_time),
		cmocka_unit_test(direct_lock_conflict_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
