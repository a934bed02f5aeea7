/*
 * Frames through rings: format, order, filters, offloads.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/fixture.h"
#include "nic/pkt.h"

#define ONEBUF (IGB_SRRCTL_ONEBUF | 2)

static void vf_to_vf(void **state)
{
	struct nic_conf conf = fx_conf(NIC_82576);
	struct fx *x = fx_create(&conf);
	uint8_t frame[1514], dst[6], src[6];
	const union igb_desc *d;
	const uint8_t *data;
	struct fx_ring rx, tx;

	fx_bring_up(x, 2);
	fx_mac(src, 0);
	fx_mac(dst, 1);
	fx_rx_ring(x, &rx, NIC_VF(1), 0, ONEBUF);
	fx_tx_ring(x, &tx, NIC_VF(0), 0);
	fx_frame(frame, dst, src, sizeof(frame));

	for (unsigned int i = 0; i < 200; i++) {
		frame[20] = (uint8_t)i;
		fx_send(x, &tx, frame, 60 + i, IGB_TXD_EOP, 0);
		assert_int_equal(fx_recv(x, &rx, &data), NULL);
		assert_true(nic_poll(x->nic) > 0);
		assert_true(igb_txd_done(fx_desc(x, &tx, i)));
		d = fx_recv(x, &rx, &data);
		assert_non_null(d);
		assert_int_equal(igb_rxd_len(d), 60 + i);
		assert_true(d->dw[2] & IGB_RXD_EOP);
		assert_true(d->dw[2] & IGB_RXD_LB);
		assert_memory_equal(data, frame, 60 + i);
	}
	assert_int_equal(fx_rd(x, NIC_VF(0), IGBVF_TDH), 200 % FX_RING);
	assert_int_equal(fx_rd(x, NIC_VF(1), IGBVF_RDH), 200 % FX_RING);
	assert_int_equal(fx_rd(x, NIC_VF(0), IGBVF_VFGPTC), 200);
	assert_int_equal(fx_rd(x, NIC_VF(1), IGBVF_VFGPRC), 200);
	assert_int_equal(fx_rd(x, NIC_VF(1), IGBVF_VFGPRLBC), 200);
	assert_int_equal(x->nframes, 0);
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vf_to_vf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
