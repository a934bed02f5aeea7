/*
 * Interrupts: masks, auto clear, auto mask, moderation, IVAR of both
 * models, ICR.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/fixture.h"

#define V0 NIC_VF(0)

static struct fx *up(enum nic_model model)
{
	struct nic_conf c = fx_conf(model);
	struct fx *x = fx_create(&c);

	fx_bring_up(x, 1);
	return x;
}

static void masked_causes_wait(void **state)
{
	struct fx *x = up(NIC_82576);

	fx_wr(x, V0, IGBVF_EICS, 0x2);
	assert_int_equal(x->irqs[V0][1], 0);
	fx_wr(x, V0, IGBVF_EIMS, 0x2);
	assert_int_equal(x->irqs[V0][1], 1);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x2);
	/* EIMS sets, EIMC clears. */
	fx_wr(x, V0, IGBVF_EIMS, 0x1);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x3);
	fx_wr(x, V0, IGBVF_EIMC, 0x2);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x1);
	fx_wr(x, V0, IGBVF_EICS, 0x2);
	assert_int_equal(x->irqs[V0][1], 1);
	assert_int_equal(fx_rd(x, V0, IGBVF_EICR), 0x2);
	assert_int_equal(fx_rd(x, V0, IGBVF_EICR), 0); /* read clears */
	/* No vectors but three. */
	fx_wr(x, V0, IGBVF_EIMS, 0xffffffff);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x7);
	fx_destroy(x);
}

/* What igbvf relies on: EIAC = EIAM = EIMS, re-armed by EIMS. */
static void auto_clear_and_auto_mask(void **state)
{
	struct fx *x = up(NIC_82576);

	fx_wr(x, V0, IGBVF_EIAC, 0x7);
	fx_wr(x, V0, IGBVF_EIAM, 0x7);
	fx_wr(x, V0, IGBVF_EIMS, 0x7);
	fx_wr(x, V0, IGBVF_EICS, 0x2);
	assert_int_equal(x->irqs[V0][1], 1);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x5);
	fx_wr(x, V0, IGBVF_EICS, 0x2); /* comes while masked */
	assert_int_equal(x->irqs[V0][1], 1);
	fx_wr(x, V0, IGBVF_EIMS, 0x2); /* and is not lost */
	assert_int_equal(x->irqs[V0][1], 2);
	fx_wr(x, V0, IGBVF_EIMS, 0x2); /* nothing pending now */
	assert_int_equal(x->irqs[V0][1], 2);
	assert_int_equal(fx_rd(x, V0, IGBVF_EICR), 0);
	fx_destroy(x);
}

static void moderation_delays_and_merges(void **state)
{
	struct fx *x = up(NIC_82576);
	uint64_t t0, until;

	/* 5 ms, in units of 1 us at bit 2. */
	fx_wr(x, V0, IGBVF_EITR1, 5000u << IGB_EITR_INTERVAL_SHIFT);
	assert_int_equal(fx_rd(x, V0, IGBVF_EITR1), 5000u << 2);
	fx_wr(x, V0, IGBVF_EIAC, 0x7);
	fx_wr(x, V0, IGBVF_EIMS, 0x7);
	t0 = now_ns();
	fx_wr(x, V0, IGBVF_EICS, 0x2);
	assert_int_equal(x->irqs[V0][1], 1); /* the first at once */
	for (int i = 0; i < 10; i++)
		fx_wr(x, V0, IGBVF_EICS, 0x2);
	nic_poll(x->nic);
	if (now_ns() - t0 < 5000000)
		assert_int_equal(x->irqs[V0][1], 1);
	until = nic_deadline(x->nic);
	assert_true(until >= t0 + 5000000 && until < t0 + 100000000);
	/* Another vector is not held up by it. */
	fx_wr(x, V0, IGBVF_EICS, 0x1);
	assert_int_equal(x->irqs[V0][0], 1);
	while (now_ns() < until)
		;
	nic_poll(x->nic);
	assert_int_equal(x->irqs[V0][1], 2); /* ten became one */
	nic_poll(x->nic);
	assert_int_equal(x->irqs[V0][1], 2);
	assert_true(nic_deadline(x->nic) == UINT64_MAX);
	fx_destroy(x);
}

static void pf_and_vf_share_no_eitr(void **state)
{
	struct fx *x = up(NIC_82576);

	/* VF 0 has the PF's EITR 22..24. */
	fx_wr(x, V0, IGBVF_EITR2, 0x7ff4);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_EITR(24)), 0x7ff4);
	fx_wr(x, NIC_PF, IGB_EITR(22), 0x40);
	assert_int_equal(fx_rd(x, V0, IGBVF_EITR0), 0x40);
	fx_wr(x, NIC_PF, IGB_EITR(21), 0x80);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_EITR(21)), 0x80);
	/* And the PF sees and sets a VF's masks in its own window. */
	fx_wr(x, NIC_PF, IGB_PVTEIMS(0), 0x6);
	assert_int_equal(fx_rd(x, V0, IGBVF_EIMS), 0x6);
	fx_wr(x, NIC_PF, IGB_PVTEICS(0), 0x4);
	assert_int_equal(x->irqs[V0][2], 1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_EIMS), 0);
	fx_destroy(x);
}

static void queue_vectors_of_the_pf(void **state)
{
	static const struct {
		enum nic_model model;
		uint32_t ivar, shift; /* of queue 1's TX entry */
	} t[] = {
		{ NIC_82576, IGB_IVAR(1), 8 },
		{ NIC_I350, IGB_IVAR(0), 24 },
	};

	for (unsigned int i = 0; i < 2; i++) {
		struct fx *x = up(t[i].model);
		struct fx_ring tx;
		uint8_t frame[60] = { 0xff };

		fx_wr(x, NIC_PF, t[i].ivar,
		      (IGB_IVAR_VALID | 5u) << t[i].shift);
		fx_wr(x, NIC_PF, IGB_EIMS, 1u << 5);
		fx_tx_ring(x, &tx, NIC_PF, 1); /* queue 1: the PF's */
		fx_send(x, &tx, frame, sizeof(frame), IGB_TXD_EOP, 0);
		nic_poll(x->nic);
		assert_int_equal(x->irqs[NIC_PF][5], 1);
		assert_int_equal(x->nframes, 1);
		fx_destroy(x);
	}
}

static void queue_vectors_of_a_vf(void **state)
{
	struct fx *x = up(NIC_82576);
	struct fx_ring tx0, tx1;
	uint8_t frame[60] = { 0xff };

	fx_wr(x, V0, IGBVF_IVAR0, 0x81828082); /* both queues' RX on 2 */
	fx_wr(x, V0, IGBVF_EIMS, 7);
	fx_tx_ring(x, &tx0, V0, 0);
	fx_tx_ring(x, &tx1, V0, 1);
	fx_send(x, &tx0, frame, sizeof(frame), IGB_TXD_EOP, 0);
	nic_poll(x->nic);
	assert_int_equal(x->irqs[V0][0], 1);
	fx_send(x, &tx1, frame, sizeof(frame), IGB_TXD_EOP, 0);
	nic_poll(x->nic);
	assert_int_equal(x->irqs[V0][1], 1);
	assert_int_equal(x->irqs[V0][2], 0);
	fx_destroy(x);
}

static void other_causes_and_icr(void **state)
{
	struct fx *x = up(NIC_82576);

	/* Single interrupt: no MSI-X. */
	fx_wr(x, NIC_PF, IGB_GPIE, 0);
	fx_wr(x, NIC_PF, IGB_IMC, 0xffffffff);
	fx_rd(x, NIC_PF, IGB_ICR);
	x->single = 0;
	fx_wr(x, NIC_PF, IGB_ICS, IGB_ICR_LSC);
	assert_int_equal(x->single, 0);
	fx_wr(x, NIC_PF, IGB_IAM, 0xffffffff);
	fx_wr(x, NIC_PF, IGB_IMS, IGB_ICR_LSC);
	assert_int_equal(x->single, 1);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_ICR), IGB_ICR_LSC | IGB_ICR_INTA);
	assert_int_equal(fx_rd(x, NIC_PF, IGB_ICR), 0);
	/* IAM masked them with the read. */
	assert_int_equal(fx_rd(x, NIC_PF, IGB_IMS), 0);

	/* MSI-X: through IVAR_MISC to EICR. */
	fx_wr(x, NIC_PF, IGB_GPIE, 0x80000011);
	fx_wr(x, NIC_PF, IGB_IVAR_MISC, (IGB_IVAR_VALID | 3u) << 8);
	fx_wr(x, NIC_PF, IGB_EIMS, 1u << 3);
	fx_wr(x, NIC_PF, IGB_IMS, IGB_ICR_LSC);
	fx_wr(x, NIC_PF, IGB_ICS, IGB_ICR_LSC);
	assert_int_equal(x->irqs[NIC_PF][3], 1);
	assert_int_equal(x->single, 1);
	assert_true(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_LSC);
	fx_destroy(x);
}

static void link_changes_interrupt(void **state)
{
	struct fx *x = up(NIC_82576);

	fx_wr(x, NIC_PF, IGB_IMS, IGB_ICR_LSC);
	fx_rd(x, NIC_PF, IGB_ICR);
	nic_set_carrier(x->nic, false);
	assert_true(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_LSC);
	assert_int_equal(fx_rd(x, V0, IGBVF_STATUS) & IGB_STATUS_LU, 0);
	nic_set_carrier(x->nic, true);
	while (!(fx_rd(x, V0, IGBVF_STATUS) & IGB_STATUS_LU))
		nic_poll(x->nic);
	assert_true(fx_rd(x, NIC_PF, IGB_ICR) & IGB_ICR_LSC);
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(masked_causes_wait),
		cmocka_unit_test(auto_clear_and_auto_mask),
		cmocka_unit_test(moderation_delays_and_merges),
		cmocka_unit_test(pf_and_vf_share_no_eitr),
		cmocka_unit_test(queue_vectors_of_the_pf),
		cmocka_unit_test(queue_vectors_of_a_vf),
		cmocka_unit_test(other_causes_and_icr),
		cmocka_unit_test(link_changes_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
