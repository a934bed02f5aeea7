/*
 * Who gets a frame: addresses, tables, VLANs, promiscuity, default pool,
 * replication, anti-spoofing, the way to the wire.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "nic/fixture.h"
#include "nic/pkt.h"

#define ONEBUF	   (IGB_SRRCTL_ONEBUF | 2)
#define VFS	   3
#define POOL_VMOLR (IGB_VMOLR_STRCRC | IGB_VMOLR_AUPE)

static const uint8_t bcast[6] = { 255, 255, 255, 255, 255, 255 };
static const uint8_t mcast[6] = { 0x33, 0x33, 0, 0, 0x12, 0x34 };
static const uint8_t other[6] = { 0x02, 0x99, 0, 0, 0, 1 };

struct net {
	struct fx *x;
	struct fx_ring rx[VFS], tx[VFS];
	uint8_t mac[VFS][6];
	uint8_t frame[128];
	unsigned int wire; /* frames seen there before */
};

static void open_net(struct net *n, enum nic_model model)
{
	struct nic_conf conf = fx_conf(model);

	memset(n, 0, sizeof(*n));
	n->x = fx_create(&conf);
	fx_bring_up(n->x, VFS);
	for (unsigned int i = 0; i < VFS; i++) {
		fx_mac(n->mac[i], i);
		fx_rx_ring(n->x, &n->rx[i], NIC_VF(i), 0, ONEBUF);
		fx_tx_ring(n->x, &n->tx[i], NIC_VF(i), 0);
		fx_wr(n->x, NIC_PF, IGB_VMOLR(i), POOL_VMOLR);
	}
}

/* Bit n: VF n got it (once); bit 8: it went to the wire. */
static unsigned int got(struct net *n)
{
	const uint8_t *data;
	unsigned int mask = 0;

	for (unsigned int i = 0; i < VFS; i++) {
		if (!fx_recv(n->x, &n->rx[i], &data))
			continue;
		mask |= 1u << i;
		assert_null(fx_recv(n->x, &n->rx[i], &data));
	}
	if (n->x->nframes != n->wire) {
		assert_int_equal(n->x->nframes, n->wire + 1);
		n->wire = n->x->nframes;
		mask |= 0x100;
	}
	return mask;
}

static unsigned int from_vf(struct net *n, unsigned int vf, const uint8_t *dst,
			    const uint8_t *src)
{
	fx_frame(n->frame, dst, src ? src : n->mac[vf], 100);
	fx_send(n->x, &n->tx[vf], n->frame, 100, IGB_TXD_EOP, 0);
	nic_poll(n->x->nic);
	return got(n);
}

static unsigned int from_wire(struct net *n, const uint8_t *dst, int vid)
{
	uint32_t len = fx_frame(n->frame, dst, other, 100);

	if (vid >= 0) {
		pkt_put16(n->frame + 12, 0x8100);
		pkt_put16(n->frame + 14, (uint16_t)vid);
	}
	assert_int_equal(nic_wire_input(n->x->nic, n->frame, len), 0);
	nic_flush(n->x->nic);
	return got(n);
}

static void vmolr_set(struct net *n, unsigned int vf, uint32_t bits)
{
	fx_wr(n->x, NIC_PF, IGB_VMOLR(vf), POOL_VMOLR | bits);
}

static void unicast(void **state)
{
	struct net n;

	open_net(&n, NIC_82576);
	assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 1u << 1);
	assert_int_equal(from_vf(&n, 0, other, NULL), 0x100);
	assert_int_equal(from_wire(&n, n.mac[2], -1), 1u << 2);
	assert_int_equal(from_wire(&n, other, -1), 0);
	/* The PF counts what passed the wire, until it is read. */
	assert_int_equal(fx_rd(n.x, NIC_PF, IGB_GPTC), 1);
	assert_int_equal(fx_rd(n.x, NIC_PF, IGB_GPTC), 0);
	assert_int_equal(fx_rd(n.x, NIC_PF, IGB_GOTCL), 104);
	assert_int_equal(fx_rd(n.x, NIC_PF, IGB_GPRC), 1);
	assert_int_equal(fx_rd(n.x, NIC_PF, IGB_TPR), 2);
	/* To itself: nowhere, unless its LLE bit is set. */
	assert_int_equal(from_vf(&n, 0, n.mac[0], NULL), 0);
	fx_wr(n.x, NIC_PF, IGB_DTXSWC, IGB_TXSWC_LOOPBACK | 1u << 16);
	assert_int_equal(from_vf(&n, 0, n.mac[0], NULL), 1);
	/* Without loopback all goes to the wire. */
	fx_wr(n.x, NIC_PF, IGB_DTXSWC, 0);
	assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 0x100);
	/* An entry that is not valid, one with two pools. */
	fx_wr(n.x, NIC_PF, IGB_RAH(2), 0x0200);
	assert_int_equal(from_wire(&n, n.mac[1], -1), 0);
	fx_wr(n.x, NIC_PF, IGB_RAH(2),
	      IGB_RAH_AV | 0x0200 | 5u << IGB_RAH_POOL_SHIFT);
	assert_int_equal(from_wire(&n, n.mac[1], -1), 5);
	fx_destroy(n.x);
}

static void broadcast_and_multicast(void **state)
{
	struct net n;

	open_net(&n, NIC_82576);
	assert_int_equal(from_vf(&n, 0, bcast, NULL), 0x100);
	vmolr_set(&n, 0, IGB_VMOLR_BAM);
	vmolr_set(&n, 2, IGB_VMOLR_BAM);
	/* The sender does not hear itself (an emulator's does). */
	assert_int_equal(from_vf(&n, 0, bcast, NULL), 0x104);
	assert_int_equal(from_wire(&n, bcast, -1), 5);

	/* Multicast: table and ROMPE, or MPME. */
	assert_int_equal(from_wire(&n, mcast, -1), 0);
	vmolr_set(&n, 1, IGB_VMOLR_ROMPE);
	assert_int_equal(from_wire(&n, mcast, -1), 0);
	/* Bits 47:36 of the address: 0x341. */
	fx_wr(n.x, NIC_PF, IGB_MTA(0x341 / 32), 1u << 0x341 % 32);
	assert_int_equal(from_wire(&n, mcast, -1), 2);
	vmolr_set(&n, 2, IGB_VMOLR_MPME);
	assert_int_equal(from_wire(&n, mcast, -1), 6);
	assert_int_equal(from_vf(&n, 2, mcast, NULL), 0x102);
	/* Other twelve bits: MO 3 is 43:32, 0x412. */
	fx_wr(n.x, NIC_PF, IGB_RCTL,
	      IGB_RCTL_EN | IGB_RCTL_SECRC | 3u << IGB_RCTL_MO_SHIFT);
	assert_int_equal(from_wire(&n, mcast, -1), 4);
	fx_wr(n.x, NIC_PF, IGB_MTA(0x412 / 32), 1u << 0x412 % 32);
	assert_int_equal(from_wire(&n, mcast, -1), 6);
	/* No replication: the lowest one. */
	fx_wr(n.x, NIC_PF, IGB_VT_CTL, IGB_VT_CTL_DIS_DEFAULT);
	assert_int_equal(from_wire(&n, mcast, -1), 2);
	fx_destroy(n.x);
}

static void promiscuous(void **state)
{
	struct net n;

	open_net(&n, NIC_82576);
	vmolr_set(&n, 1, IGB_VMOLR_ROPE);
	assert_int_equal(from_wire(&n, other, -1), 0);
	for (unsigned int i = 0; i < 128; i++)
		fx_wr(n.x, NIC_PF, IGB_UTA(i), 0xffffffff);
	assert_int_equal(from_wire(&n, other, -1), 2);
	/* What has an owner is his alone. */
	assert_int_equal(from_wire(&n, n.mac[0], -1), 1);
	/* Heard by the promiscuous one, and still for the wire. */
	assert_int_equal(from_vf(&n, 0, other, NULL), 0x102);
	/* ROMPE is another table's bit. */
	vmolr_set(&n, 1, IGB_VMOLR_ROMPE);
	assert_int_equal(from_wire(&n, other, -1), 0);
	fx_destroy(n.x);
}

static void default_pool(void **state)
{
	struct net n;

	open_net(&n, NIC_82576);
	fx_wr(n.x, NIC_PF, IGB_VT_CTL,
	      IGB_VT_CTL_REPL | 2u << IGB_VT_CTL_POOL_SHIFT);
	/* Not let in by the PF's filters: not for the default pool. */
	assert_int_equal(from_wire(&n, other, -1), 0);
	fx_wr(n.x, NIC_PF, IGB_RCTL,
	      IGB_RCTL_EN | IGB_RCTL_SECRC | IGB_RCTL_UPE);
	assert_int_equal(from_wire(&n, other, -1), 4);
	assert_int_equal(from_wire(&n, n.mac[0], -1), 1);
	fx_wr(n.x, NIC_PF, IGB_VT_CTL,
	      IGB_VT_CTL_REPL | IGB_VT_CTL_DIS_DEFAULT |
		      2u << IGB_VT_CTL_POOL_SHIFT);
	assert_int_equal(from_wire(&n, other, -1), 0);
	fx_destroy(n.x);
}

static void vlans(void **state)
{
	struct net n;

	open_net(&n, NIC_I350);
	/* Untagged frames need AUPE. */
	fx_wr(n.x, NIC_PF, IGB_VMOLR(1), IGB_VMOLR_STRCRC);
	assert_int_equal(from_wire(&n, n.mac[1], -1), 0);
	/* No filter: tags pass; a VLVF entry restricts to its pools. */
	assert_int_equal(from_wire(&n, n.mac[1], 7), 2);
	fx_wr(n.x, NIC_PF, IGB_VLVF(5),
	      IGB_VLVF_EN | 7 | 1u << IGB_VLVF_POOL_SHIFT);
	assert_int_equal(from_wire(&n, n.mac[1], 7), 0);
	assert_int_equal(from_wire(&n, n.mac[0], 7), 1);
	assert_int_equal(from_wire(&n, n.mac[0], 0x6007), 1); /* priority */
	assert_int_equal(from_wire(&n, n.mac[1], 8), 2);
	/* With VFE: VFTA and VLVF both. */
	fx_wr(n.x, NIC_PF, IGB_RCTL,
	      IGB_RCTL_EN | IGB_RCTL_SECRC | IGB_RCTL_VFE);
	assert_int_equal(from_wire(&n, n.mac[0], 7), 0);
	fx_wr(n.x, NIC_PF, IGB_VFTA(0), 1u << 7 | 1u << 8);
	assert_int_equal(from_wire(&n, n.mac[0], 7), 1);
	assert_int_equal(from_wire(&n, n.mac[1], 8), 0);
	/* LVLAN keeps the VLAN inside. */
	fx_wr(n.x, NIC_PF, IGB_VLVF(5),
	      IGB_VLVF_EN | IGB_VLVF_LVLAN | 7 | 3u << IGB_VLVF_POOL_SHIFT);
	vmolr_set(&n, 1, IGB_VMOLR_BAM);
	fx_wr(n.x, NIC_PF, IGB_VMVIR(0), IGB_VMVIR_DEFAULT | 7);
	assert_int_equal(from_vf(&n, 0, bcast, NULL), 2);
	fx_wr(n.x, NIC_PF, IGB_VMVIR(0), IGB_VMVIR_DEFAULT | 8);
	assert_int_equal(from_vf(&n, 0, bcast, NULL), 0x100);
	fx_destroy(n.x);
}

static void anti_spoofing(void **state)
{
	for (int m = 0; m < NIC_NMODELS; m++) {
		struct nic_counts c;
		uint32_t reg = m ? IGB_TXSWC : IGB_DTXSWC;
		struct net n;

		open_net(&n, (enum nic_model)m);
		assert_int_equal(from_vf(&n, 0, n.mac[1], other), 2);
		fx_wr(n.x, NIC_PF, reg, IGB_TXSWC_LOOPBACK | 1);
		assert_int_equal(from_vf(&n, 0, n.mac[1], other), 0);
		assert_int_equal(from_vf(&n, 0, n.mac[1], n.mac[2]), 0);
		assert_int_equal(from_vf(&n, 0, other, other), 0);
		assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 2);
		assert_int_equal(from_vf(&n, 2, n.mac[1], other), 2);
		assert_int_equal(fx_rd(n.x, NIC_PF, IGB_WVBR), 1);
		assert_int_equal(fx_rd(n.x, NIC_PF, IGB_WVBR), 0);
		nic_get_counts(n.x->nic, &c);
		assert_int_equal(c.spoofed, 3);
		/* VLANs: a tag that is not the pool's. */
		fx_wr(n.x, NIC_PF, reg, IGB_TXSWC_LOOPBACK | 1u << 8);
		fx_wr(n.x, NIC_PF, IGB_VMVIR(0), IGB_VMVIR_DEFAULT | 9);
		assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 0);
		fx_wr(n.x, NIC_PF, IGB_VLVF(0),
		      IGB_VLVF_EN | 9 | 3u << IGB_VLVF_POOL_SHIFT);
		assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 2);
		fx_destroy(n.x);
	}
}

static void enables(void **state)
{
	struct net n;

	open_net(&n, NIC_82576);
	fx_wr(n.x, NIC_PF, IGB_VFRE, 0xfd);
	assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 0);
	fx_wr(n.x, NIC_PF, IGB_VFRE, 0xff);
	assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 2);
	fx_wr(n.x, NIC_PF, IGB_VFTE, 0xfe);
	assert_int_equal(from_vf(&n, 0, n.mac[1], NULL), 0);
	fx_wr(n.x, NIC_PF, IGB_VFTE, 0xff);
	nic_poll(n.x->nic); /* what was waiting goes */
	assert_int_equal(got(&n), 2);
	fx_destroy(n.x);
}

/* They need LPE and RLPML. */
static void long_frames(void **state)
{
	uint8_t big[3000] = { 0 };
	struct net n;

	open_net(&n, NIC_82576);
	memcpy(big, n.mac[1], 6);
	assert_int_equal(nic_wire_input(n.x->nic, big, 1514), 0);
	assert_int_equal(got(&n), 2);
	nic_wire_input(n.x->nic, big, 1515);
	assert_int_equal(got(&n), 0);
	vmolr_set(&n, 1, IGB_VMOLR_LPE | 1600);
	nic_wire_input(n.x->nic, big, 1596);
	assert_int_equal(got(&n), 2);
	nic_wire_input(n.x->nic, big, 1597);
	assert_int_equal(got(&n), 0);
	fx_destroy(n.x);
}

/* Without SR-IOV: one port, RSS over its queues. */
static void plain_port_with_rss(void **state)
{
	struct nic_conf conf = fx_conf(NIC_82576);
	struct fx *x = fx_create(&conf);
	unsigned int per[2] = { 0, 0 };
	struct fx_ring rx[2];
	uint8_t f[64] = { 2, 0, 0, 0, 0, 0xff, 2, 0x99 };
	const uint8_t *data;

	fx_bring_up(x, 0);
	fx_wr(x, NIC_PF, IGB_MRQC, IGB_MRQC_RSS | 1u << 17);
	fx_wr(x, NIC_PF, IGB_RXCSUM, 0x2300);
	for (unsigned int i = 0; i < 10; i++)
		fx_wr(x, NIC_PF, IGB_RSSRK(i), 0x9e3779b9u * (i + 1));
	for (unsigned int i = 0; i < 32; i++)
		fx_wr(x, NIC_PF, IGB_RETA(i), 0x01000100);
	fx_rx_ring(x, &rx[0], NIC_PF, 0, ONEBUF);
	fx_rx_ring(x, &rx[1], NIC_PF, 1, ONEBUF);
	pkt_put16(f + 12, 0x0800);
	f[14] = 0x45;
	pkt_put16(f + 16, 40);
	f[23] = 99;
	for (uint8_t i = 0; i < 60; i++) {
		f[33] = i; /* destination address */
		assert_int_equal(nic_wire_input(x->nic, f, 60), 0);
		for (int q = 0; q < 2; q++) {
			const union igb_desc *d = fx_recv(x, &rx[q], &data);

			if (!d)
				continue;
			per[q]++;
			assert_int_equal(d->dw[0] & 15, 2);
			assert_int_equal(d->dw[1] & 1, q);
		}
	}
	assert_int_equal(per[0] + per[1], 60);
	assert_true(per[0] > 10 && per[1] > 10);
	/* Addressed to somebody else: not, until promiscuous. */
	f[5] = 0xfe;
	nic_wire_input(x->nic, f, 60);
	assert_true(!fx_recv(x, &rx[0], &data) && !fx_recv(x, &rx[1], &data));
	fx_wr(x, NIC_PF, IGB_RCTL, IGB_RCTL_EN | IGB_RCTL_UPE);
	nic_wire_input(x->nic, f, 60);
	assert_true(fx_recv(x, &rx[0], &data) || fx_recv(x, &rx[1], &data));
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unicast),
		cmocka_unit_test(broadcast_and_multicast),
		cmocka_unit_test(promiscuous),
		cmocka_unit_test(default_pool),
		cmocka_unit_test(vlans),
		cmocka_unit_test(anti_spoofing),
		cmocka_unit_test(enables),
		cmocka_unit_test(long_frames),
		cmocka_unit_test(plain_port_with_rss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
