/*
 * Frames through rings: descriptor formats, write-back, offloads, faults,
 * back-pressure, statistics.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/fixture.h"
#include "nic/pkt.h"

#define ONEBUF (IGB_SRRCTL_ONEBUF | 2)
#define V0     NIC_VF(0)
#define V1     NIC_VF(1)

struct pair {
	struct fx *x;
	struct fx_ring tx, rx; /* VF 0 sends, VF 1 receives */
	uint8_t src[6], dst[6];
	uint8_t frame[2048];
};

static void open_pair(struct pair *p, enum nic_model model, uint32_t srrctl)
{
	struct nic_conf conf = fx_conf(model);

	p->x = fx_create(&conf);
	fx_bring_up(p->x, 2);
	fx_mac(p->src, 0);
	fx_mac(p->dst, 1);
	fx_rx_ring(p->x, &p->rx, V1, 0, srrctl);
	fx_tx_ring(p->x, &p->tx, V0, 0);
}

static const union igb_desc *pass(struct pair *p, uint32_t len, uint32_t cmd,
				  uint32_t olinfo, const uint8_t **data)
{
	fx_send(p->x, &p->tx, p->frame, len, IGB_TXD_EOP | cmd, olinfo);
	nic_poll(p->x->nic);
	return fx_recv(p->x, &p->rx, data);
}

static void vf_to_vf(void **state)
{
	const union igb_desc *d;
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 1514);
	for (unsigned int i = 0; i < 200; i++) {
		p.frame[20] = (uint8_t)i;
		d = pass(&p, 60 + i, 0, 0, &data);
		assert_non_null(d);
		assert_true(igb_txd_done(fx_desc(p.x, &p.tx, i)));
		assert_int_equal(igb_rxd_len(d), 60 + i);
		assert_true(d->dw[2] & IGB_RXD_EOP);
		assert_true(d->dw[2] & IGB_RXD_LB);
		assert_memory_equal(data, p.frame, 60 + i);
	}
	assert_int_equal(fx_rd(p.x, V0, IGBVF_TDH), 200 % FX_RING);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_RDH), 200 % FX_RING);
	assert_int_equal(fx_rd(p.x, V0, IGBVF_VFGPTC), 200);
	assert_int_equal(fx_rd(p.x, V0, IGBVF_VFGPTLBC), 200);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRC), 200);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRLBC), 200);
	/* Not cleared by reading, octets with FCS, VF's own view. */
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRC), 200);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGORC),
			 200 * 64 + 199 * 200 / 2);
	assert_int_equal(fx_rd(p.x, NIC_PF, IGB_PVFGPRC(1)), 200);
	/* A reset by the driver keeps them, FLR does not. */
	fx_wr(p.x, V1, IGBVF_CTRL, IGB_CTRL_RST);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRC), 200);
	nic_flr(p.x->nic, V1);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRC), 0);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGPRLBC), 0);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGORLBC), 0);
	assert_int_equal(p.x->nframes, 0);
	fx_destroy(p.x);
}

static void short_frames_are_padded(void **state)
{
	const union igb_desc *d;
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 64);
	memset(p.x->mem + p.rx.bufs, 0xee, FX_BUF);
	d = pass(&p, 20, 0, 0, &data);
	assert_int_equal(igb_rxd_len(d), 60);
	for (int i = 20; i < 60; i++)
		assert_int_equal(data[i], 0);
	assert_int_equal(data[60], 0xee);
	fx_destroy(p.x);
}

static void several_descriptors_make_a_packet(void **state)
{
	const uint8_t *data;
	const union igb_desc *d;
	struct pair p;

	open_pair(&p, NIC_82576, IGB_SRRCTL_ONEBUF | 1);
	fx_frame(p.frame, p.dst, p.src, 1500);
	fx_send(p.x, &p.tx, p.frame, 14, 0, 0);
	fx_send(p.x, &p.tx, p.frame + 14, 700, 0, 0);
	nic_poll(p.x->nic);
	assert_null(fx_recv(p.x, &p.rx, &data)); /* not yet a packet */
	fx_send(p.x, &p.tx, p.frame + 714, 786, IGB_TXD_EOP, 0);
	nic_poll(p.x->nic);
	/* RS was on all three: all three are done. */
	for (uint32_t i = 0; i < 3; i++)
		assert_true(igb_txd_done(fx_desc(p.x, &p.tx, i)));
	/* 1 KiB buffers: two. */
	d = fx_recv(p.x, &p.rx, &data);
	assert_int_equal(igb_rxd_len(d), 1024);
	assert_int_equal(d->dw[2], IGB_RXD_DD);
	assert_memory_equal(data, p.frame, 1024);
	d = fx_recv(p.x, &p.rx, &data);
	assert_int_equal(igb_rxd_len(d), 476);
	assert_true(d->dw[2] & IGB_RXD_EOP);
	assert_memory_equal(data, p.frame + 1024, 476);
	assert_null(fx_recv(p.x, &p.rx, &data));
	fx_destroy(p.x);
}

static void fcs_is_kept_when_asked(void **state)
{
	const union igb_desc *d;
	const uint8_t *data;
	uint32_t crc;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_wr(p.x, NIC_PF, IGB_RCTL, IGB_RCTL_EN | IGB_RCTL_BAM);
	fx_wr(p.x, NIC_PF, IGB_VMOLR(1), IGB_VMOLR_AUPE);
	fx_frame(p.frame, p.dst, p.src, 100);
	d = pass(&p, 100, 0, 0, &data);
	assert_int_equal(igb_rxd_len(d), 104);
	/* The CRC of a frame with its FCS is a constant. */
	memcpy(&crc, data + 100, 4);
	assert_int_equal(crc, pkt_crc32(p.frame, 100));
	assert_int_equal(pkt_crc32(data, 104), 0x2144df1c);
	fx_destroy(p.x);
}

/* IPv4, 20 byte headers; L4 checksum seeded as a driver does. */
static uint32_t ip_frame(struct pair *p, uint8_t proto, uint32_t payload)
{
	uint32_t l4len = proto == 6 ? 20 : 8, total = 20 + l4len + payload;
	uint8_t *ip = p->frame + 14, *l4 = ip + 20, ph[12] = { 0 };

	fx_frame(p->frame, p->dst, p->src, 14 + total);
	pkt_put16(p->frame + 12, 0x0800);
	memset(ip, 0, 20 + l4len);
	ip[0] = 0x45;
	pkt_put16(ip + 2, (uint16_t)total);
	pkt_put16(ip + 4, 0x1234);
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
	pkt_put16(l4, 1000);
	pkt_put16(l4 + 2, 2000);
	memcpy(ph, ip + 12, 8);
	ph[9] = proto;
	pkt_put16(ph + 10, (uint16_t)(l4len + payload));
	if (proto == 6) {
		pkt_put16(l4 + 6, 100); /* sequence */
		l4[12] = 0x50;
		l4[13] = 0x19; /* FIN PSH ACK */
		pkt_put16(l4 + 16, pkt_fold(pkt_sum(ph, 12)));
	} else {
		pkt_put16(l4 + 4, (uint16_t)(8 + payload));
		pkt_put16(l4 + 6, pkt_fold(pkt_sum(ph, 12)));
	}
	return 14 + total;
}

static void context(struct pair *p, uint8_t proto, uint32_t mss, uint32_t vlan)
{
	fx_send_ctx(
		p->x, &p->tx,
		20 | 14u << IGB_CTX_MACLEN_SHIFT | vlan << IGB_CTX_VLAN_SHIFT,
		IGB_CTX_IPV4 | (proto == 6 ? IGB_CTX_L4T_TCP : IGB_CTX_L4T_UDP),
		mss << IGB_CTX_MSS_SHIFT | (proto == 6 ? 20u : 8u)
						   << IGB_CTX_L4LEN_SHIFT);
}

static void checksums_are_made_and_checked(void **state)
{
	static const uint8_t protos[] = { 6, 17 };
	const union igb_desc *d;
	const uint8_t *data;
	struct pkt k;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	for (unsigned int i = 0; i < 2; i++) {
		uint32_t len = ip_frame(&p, protos[i], 333 + i);

		context(&p, protos[i], 0, 0);
		d = pass(&p, len, 0, IGB_TXD_IXSM | IGB_TXD_TXSM, &data);
		assert_non_null(d);
		pkt_parse(&k, data, len);
		assert_true(pkt_ip_sum_ok(&k, data));
		assert_int_equal(pkt_l4_sum_ok(&k, data), 1);
		assert_int_equal(d->dw[2] & (IGB_RXD_IPCS | IGB_RXD_L4CS |
					     IGB_RXD_IPE | IGB_RXD_L4E),
				 IGB_RXD_IPCS | IGB_RXD_L4CS);
		assert_int_equal(d->dw[2] & IGB_RXD_UDPCS,
				 i ? IGB_RXD_UDPCS : 0);
		assert_int_equal(d->dw[0] & 0xfff0,
				 IGB_RXD_PTYPE_IP4 | (i ? IGB_RXD_PTYPE_UDP
							: IGB_RXD_PTYPE_TCP));
		/* Unasked for, the seeds stay and are found wrong. */
		d = pass(&p, len, 0, 0, &data);
		assert_int_equal(d->dw[2] & (IGB_RXD_IPE | IGB_RXD_L4E),
				 IGB_RXD_IPE | IGB_RXD_L4E);
	}
	/* And with receive checks off nothing is said. */
	fx_wr(p.x, NIC_PF, IGB_RXCSUM, 0);
	d = pass(&p, ip_frame(&p, 6, 100), 0, 0, &data);
	assert_int_equal(d->dw[2] & (IGB_RXD_IPCS | IGB_RXD_L4CS), 0);
	fx_destroy(p.x);
}

static void tso_cuts_and_fixes_headers(void **state)
{
	uint32_t len, seq = 100, got = 0, n = 0;
	const union igb_desc *d;
	const uint8_t *data;
	struct pkt k;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	len = ip_frame(&p, 6, 1000);
	/* The seed of a TSO request has no length in it. */
	pkt_put16(p.frame + 50, pkt_fold((uint64_t)__builtin_bswap16(
						 pkt_get16(p.frame + 50)) +
					 (uint16_t)~__builtin_bswap16(1020)));
	context(&p, 6, 300, 0);
	fx_send(p.x, &p.tx, p.frame, len, IGB_TXD_EOP | IGB_TXD_TSE,
		IGB_TXD_IXSM | IGB_TXD_TXSM);
	nic_poll(p.x->nic);
	while ((d = fx_recv(p.x, &p.rx, &data))) {
		uint32_t want = n < 3 ? 300 : 100;

		assert_int_equal(igb_rxd_len(d), 54 + want);
		pkt_parse(&k, data, igb_rxd_len(d));
		assert_true(pkt_ip_sum_ok(&k, data));
		assert_int_equal(pkt_l4_sum_ok(&k, data), 1);
		assert_int_equal(pkt_get16(data + 18), 0x1234 + n);
		assert_int_equal(pkt_get16(data + 40), seq);
		/* FIN and PSH only on the last. */
		assert_int_equal(data[47], n == 3 ? 0x19 : 0x10);
		assert_memory_equal(data + 54, p.frame + 54 + got, want);
		seq += want;
		got += want;
		n++;
	}
	assert_int_equal(n, 4);
	assert_int_equal(got, 1000);
	assert_true(igb_txd_done(fx_desc(p.x, &p.tx, 1)));
	assert_int_equal(fx_rd(p.x, V0, IGBVF_VFGPTC), 4);
	fx_destroy(p.x);
}

/* A request that would take the thread for long gives way in between. */
static void tiny_segments_take_turns(void **state)
{
	struct nic_counts c;
	uint32_t len;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF | IGB_SRRCTL_DROP_EN);
	len = ip_frame(&p, 6, 1000);
	context(&p, 6, 1, 0);
	fx_send(p.x, &p.tx, p.frame, len, IGB_TXD_EOP | IGB_TXD_TSE,
		IGB_TXD_IXSM | IGB_TXD_TXSM);
	assert_true(nic_poll(p.x->nic) > 0);
	nic_get_counts(p.x->nic, &c);
	assert_true(c.tx_frames > 0 && c.tx_frames < 300);
	for (int i = 0; !igb_txd_done(fx_desc(p.x, &p.tx, 1)); i++) {
		assert_true(nic_poll(p.x->nic) > 0);
		assert_true(i < 20);
	}
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.tx_frames, 1000);
	fx_destroy(p.x);
}

static void tags_in_and_out(void **state)
{
	for (int m = 0; m < NIC_NMODELS; m++) {
		const union igb_desc *d;
		const uint8_t *data;
		uint32_t len;
		struct pair p;

		open_pair(&p, (enum nic_model)m, ONEBUF);
		fx_wr(p.x, NIC_PF, IGB_VLVF(0),
		      IGB_VLVF_EN | 0x123 | 3u << IGB_VLVF_POOL_SHIFT);
		len = ip_frame(&p, 17, 100);
		context(&p, 17, 0, 0x6123);
		d = pass(&p, len, IGB_TXD_VLE, IGB_TXD_IXSM | IGB_TXD_TXSM,
			 &data);
		assert_non_null(d);
		assert_int_equal(igb_rxd_len(d), len + 4);
		assert_int_equal(d->dw[2] & IGB_RXD_VP, 0);
		assert_int_equal(pkt_get16(data + 12), 0x8100);
		assert_int_equal(pkt_get16(data + 14), 0x6123);
		assert_memory_equal(data, p.frame, 12);
		assert_true(d->dw[2] & IGB_RXD_L4CS);
		assert_int_equal(d->dw[2] & (IGB_RXD_L4E | IGB_RXD_IPE), 0);

		/* Stripped: where to ask differs, and the byte order. */
		fx_wr(p.x, NIC_PF, m ? IGB_DVMOLR(1) : IGB_VMOLR(1),
		      fx_rd(p.x, NIC_PF, m ? IGB_DVMOLR(1) : IGB_VMOLR(1)) |
			      IGB_VMOLR_STRVLAN);
		d = pass(&p, len, IGB_TXD_VLE, IGB_TXD_IXSM | IGB_TXD_TXSM,
			 &data);
		assert_int_equal(igb_rxd_len(d), len);
		assert_true(d->dw[2] & IGB_RXD_VP);
		assert_int_equal(igb_rxd_vlan(d), m ? 0x2361 : 0x6123);
		assert_int_equal(pkt_get16(data + 12), 0x0800);

		/* To several: the 82576 asks another register. */
		p.frame[0] |= 1;
		fx_wr(p.x, NIC_PF, IGB_VMOLR(1),
		      fx_rd(p.x, NIC_PF, IGB_VMOLR(1)) | IGB_VMOLR_MPME);
		d = pass(&p, len, IGB_TXD_VLE, IGB_TXD_IXSM | IGB_TXD_TXSM,
			 &data);
		assert_int_equal(!(d->dw[2] & IGB_RXD_VP), !m);
		fx_wr(p.x, NIC_PF, IGB_RPLOLR, IGB_RPLOLR_STRVLAN);
		d = pass(&p, len, IGB_TXD_VLE, IGB_TXD_IXSM | IGB_TXD_TXSM,
			 &data);
		assert_true(d->dw[2] & IGB_RXD_VP);
		p.frame[0] &= 0xfe;

		/* From the wire it is little-endian in both. */
		memmove(p.frame + 16, p.frame + 12, len - 12);
		pkt_put16(p.frame + 12, 0x8100);
		pkt_put16(p.frame + 14, 0x6123);
		assert_int_equal(nic_wire_input(p.x->nic, p.frame, len + 4), 0);
		d = fx_recv(p.x, &p.rx, &data);
		assert_int_equal(igb_rxd_vlan(d), 0x6123);
		assert_int_equal(d->dw[2] & IGB_RXD_LB, 0);
		fx_destroy(p.x);
	}
}

static void default_tag_of_a_pool(void **state)
{
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 100);
	fx_wr(p.x, NIC_PF, IGB_VMVIR(0), IGB_VMVIR_DEFAULT | 0x55);
	assert_int_equal(igb_rxd_len(pass(&p, 100, 0, 0, &data)), 104);
	assert_int_equal(pkt_get16(data + 14), 0x55);
	fx_wr(p.x, NIC_PF, IGB_VMVIR(0), IGB_VMVIR_NEVER);
	context(&p, 17, 0, 0x77);
	assert_int_equal(igb_rxd_len(pass(&p, 100, IGB_TXD_VLE, 0, &data)),
			 100);
	fx_destroy(p.x);
}

static void header_split(void **state)
{
	/* 128 byte header buffers, at the second half of each buffer. */
	uint32_t srrctl =
		IGB_SRRCTL_SPLIT | 2 | 2u << IGB_SRRCTL_BSIZEHDR_SHIFT;
	const union igb_desc *d;
	const uint8_t *data;
	uint32_t len;
	struct pair p;

	open_pair(&p, NIC_82576, srrctl);
	fx_wr(p.x, V1, IGBVF_PSRTYPE, IGB_PSRTYPE_UDP);
	len = ip_frame(&p, 17, 400);
	d = pass(&p, len, 0, 0, &data);
	assert_true(d->dw[0] & IGB_RXD_SPH);
	assert_int_equal(igb_rxd_hdr_len(d), 42);
	assert_int_equal(igb_rxd_len(d), len - 42);
	assert_memory_equal(data, p.frame + 42, len - 42);
	assert_memory_equal(data + FX_BUF / 2, p.frame, 42);
	/* The tag that is stripped is not part of the header. */
	fx_wr(p.x, NIC_PF, IGB_VMOLR(1),
	      fx_rd(p.x, NIC_PF, IGB_VMOLR(1)) | IGB_VMOLR_STRVLAN);
	context(&p, 17, 0, 5);
	d = pass(&p, len, IGB_TXD_VLE, 0, &data);
	assert_true(d->dw[2] & IGB_RXD_VP);
	assert_int_equal(igb_rxd_hdr_len(d), 42);
	assert_memory_equal(data + FX_BUF / 2, p.frame, 42);
	assert_memory_equal(data, p.frame + 42, len - 42);
	/* Not the type that was asked for: one buffer. */
	len = ip_frame(&p, 6, 400);
	d = pass(&p, len, 0, 0, &data);
	assert_int_equal(d->dw[0] & IGB_RXD_SPH, 0);
	assert_int_equal(igb_rxd_len(d), len);
	/* A header that does not fit stays with the packet. */
	fx_wr(p.x, V1, IGBVF_SRRCTL, IGB_SRRCTL_SPLIT | 2);
	len = ip_frame(&p, 17, 400);
	d = pass(&p, len, 0, 0, &data);
	assert_true(d->dw[2] & IGB_RXD_HBO);
	assert_int_equal(igb_rxd_len(d), len);
	/* Always: something goes to the header buffer in any case. */
	fx_wr(p.x, V1, IGBVF_SRRCTL,
	      IGB_SRRCTL_SPLIT_ALWAYS | 2 | 1u << IGB_SRRCTL_BSIZEHDR_SHIFT);
	len = ip_frame(&p, 6, 400);
	d = pass(&p, len, 0, 0, &data);
	assert_int_equal(igb_rxd_hdr_len(d), 64);
	assert_int_equal(igb_rxd_len(d), len - 64);
	fx_destroy(p.x);
}

static void head_write_back_instead_of_dd(void **state)
{
	const uint8_t *data;
	struct pair p;
	uint32_t at = 900 << 10;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_wr(p.x, V0, IGBVF_TDWBAL, (uint32_t)(FX_IOVA + at) | 1);
	fx_wr(p.x, V0, IGBVF_TDWBAH, FX_IOVA >> 32);
	fx_frame(p.frame, p.dst, p.src, 100);
	for (uint32_t i = 1; i <= 3; i++) {
		pass(&p, 100, 0, 0, &data);
		assert_int_equal(*(uint32_t *)(void *)(p.x->mem + at), i);
		assert_false(igb_txd_done(fx_desc(p.x, &p.tx, i - 1)));
	}
	fx_destroy(p.x);
}

static void faults_are_counted_and_survived(void **state)
{
	const uint8_t *data;
	struct nic_counts c;
	union igb_desc *d;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 100);
	/* A packet buffer outside: the packet is lost, the ring goes on. */
	d = fx_desc(p.x, &p.tx, 0);
	igb_txd_fill(d, FX_IOVA + FX_SIZE - 50, 100, IGB_TXD_EOP | IGB_TXD_RS);
	p.tx.tail = 1;
	fx_wr(p.x, V0, IGBVF_TDT, 1);
	nic_poll(p.x->nic);
	assert_null(fx_recv(p.x, &p.rx, &data));
	assert_true(igb_txd_done(d));
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.dma_faults, 1);
	assert_int_equal(c.tx_bad, 1);
	/* Likewise for a receive buffer: posted writes vanish. */
	fx_desc(p.x, &p.rx, 0)->qw[0] = 0x10;
	assert_non_null(pass(&p, 100, 0, 0, &data));
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.dma_faults, 2);
	/* Bus mastering off: nothing is fetched at all. */
	fx_config16(p.x, V0, 4, 2);
	assert_null(pass(&p, 100, 0, 0, &data));
	fx_config16(p.x, V0, 4, 6);
	nic_poll(p.x->nic);
	assert_non_null(fx_recv(p.x, &p.rx, &data));

	/* A ring outside: the queue stands still until it is set up anew. */
	fx_wr(p.x, V0, IGBVF_TXDCTL, 0);
	fx_wr(p.x, V0, IGBVF_TDBAH, 0xffffffff);
	fx_wr(p.x, V0, IGBVF_TDBAL, 0xffffff80);
	fx_wr(p.x, V0, IGBVF_TXDCTL, IGB_DCTL_ENABLE);
	fx_wr(p.x, V0, IGBVF_TDT, 0);
	nic_poll(p.x->nic);
	nic_poll(p.x->nic);
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.dma_faults, 3);
	fx_destroy(p.x);
}

static void a_client_without_memory(void **state)
{
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 100);
	nic_attach(p.x->nic, V1, NULL, NULL); /* the receiver died */
	assert_null(pass(&p, 100, 0, 0, &data));
	assert_true(igb_txd_done(fx_desc(p.x, &p.tx, 0)));
	fx_destroy(p.x);
}

static void nonsense_from_the_guest(void **state)
{
	const uint8_t *data;
	struct nic_counts c;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 1500);
	/* Never an end of packet: no more than a frame is kept. */
	for (int i = 0; i < 20; i++) {
		fx_send(p.x, &p.tx, p.frame, 1500, 0, 0);
		nic_poll(p.x->nic);
	}
	assert_null(pass(&p, 1500, 0, 0, &data));
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.tx_bad, 1);
	/* Offload lengths beyond the packet, segments of nothing. */
	fx_send_ctx(p.x, &p.tx, 0xfffffe00 | 511, IGB_CTX_L4T_TCP, 0xffffff00);
	assert_null(pass(&p, 100, IGB_TXD_TSE, 0x300, &data));
	assert_null(pass(&p, 100, 0, 0x300, &data));
	fx_send_ctx(p.x, &p.tx, 0, IGB_CTX_L4T_TCP, 0);
	assert_null(pass(&p, 100, IGB_TXD_TSE, 0x300, &data));
	/* Reserved descriptor type; length 0. */
	fx_desc(p.x, &p.tx, p.tx.tail)->dw[2] = IGB_TXD_DEXT | 0x00700000;
	p.tx.tail++;
	fx_wr(p.x, V0, IGBVF_TDT, p.tx.tail);
	nic_poll(p.x->nic);
	assert_null(pass(&p, 0, 0, 0, &data));
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.tx_bad, 6);
	/* After all that, a frame. */
	assert_non_null(pass(&p, 100, 0, 0, &data));
	fx_destroy(p.x);
}

static void a_slow_receiver_holds_its_sender(void **state)
{
	struct fx_ring tx2;
	const uint8_t *data;
	struct nic_counts c;
	uint8_t other[6];
	uint64_t t0;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_tx_ring(p.x, &tx2, V1, 0);
	fx_mac(other, 0);
	fx_frame(p.frame, p.dst, p.src, 100);
	for (uint32_t i = 0; i < FX_RING - 1; i++) {
		fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
		nic_poll(p.x->nic);
	}
	/* The ring is full: this one waits, nothing is lost. */
	fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
	nic_poll(p.x->nic);
	assert_false(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING - 1)));
	assert_non_null(fx_recv(p.x, &p.rx, &data)); /* room for one */
	nic_poll(p.x->nic);
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.no_buffer, 0);
	assert_true(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING - 1)));
	/* One that never comes back costs the sender 2 ms, once. */
	fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
	t0 = now_ns();
	while (!igb_txd_done(fx_desc(p.x, &p.tx, FX_RING))) {
		nic_poll(p.x->nic);
		assert_true(now_ns() - t0 < 1000000000);
	}
	assert_true(now_ns() - t0 >= 1000000);
	for (uint32_t i = 1; i < 10; i++) {
		fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
		nic_poll(p.x->nic);
		assert_true(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING + i)));
	}
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.no_buffer, 10);
	/* Back again, it is waited for again. */
	while (fx_recv(p.x, &p.rx, &data))
		;
	fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
	nic_poll(p.x->nic);
	assert_non_null(fx_recv(p.x, &p.rx, &data));
	fx_destroy(p.x);
}

/* Neither has a core for a while: that is not the receiver standing still. */
static void a_nic_without_a_core_waits_no_less(void **state)
{
	const uint8_t *data;
	struct nic_counts c;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 100);
	for (uint32_t i = 0; i < FX_RING; i++) {
		fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
		nic_poll(p.x->nic);
	}
	assert_false(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING - 1)));
	usleep(5000);
	nic_poll(p.x->nic);
	assert_false(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING - 1)));
	assert_non_null(fx_recv(p.x, &p.rx, &data));
	nic_poll(p.x->nic);
	assert_true(igb_txd_done(fx_desc(p.x, &p.tx, FX_RING - 1)));
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.no_buffer, 0);
	fx_destroy(p.x);
}

static void drop_enable_drops_at_once(void **state)
{
	struct nic_counts c;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF | IGB_SRRCTL_DROP_EN);
	fx_frame(p.frame, p.dst, p.src, 100);
	for (uint32_t i = 0; i < FX_RING; i++) {
		fx_send(p.x, &p.tx, p.frame, 100, IGB_TXD_EOP, 0);
		nic_poll(p.x->nic);
	}
	nic_get_counts(p.x->nic, &c);
	assert_int_equal(c.no_buffer, 1);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_RQDPC), 1);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_RQDPC), 0);
	fx_destroy(p.x);
}

static void a_busy_wire_holds_the_sender(void **state)
{
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, (const uint8_t *)"\x02\x99\0\0\0\0", p.src, 100);
	p.x->wire_busy = true;
	pass(&p, 100, 0, 0, &data);
	assert_false(igb_txd_done(fx_desc(p.x, &p.tx, 0)));
	p.x->wire_busy = false;
	nic_poll(p.x->nic);
	assert_true(igb_txd_done(fx_desc(p.x, &p.tx, 0)));
	assert_int_equal(p.x->nframes, 1); /* once, not twice */
	assert_memory_equal(p.x->frame[0].data, p.frame, 100);
	fx_destroy(p.x);
}

static void what_is_written_is_marked(void **state)
{
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 100);
	p.x->wrote = 0;
	pass(&p, 100, 0, 0, &data);
	/* Payload, RX write-back, TX write-back. */
	assert_int_equal(p.x->wrote, 100 + 16 + 16);
	fx_destroy(p.x);
}

static void counters_roll_over(void **state)
{
	const uint8_t *data;
	struct pair p;

	open_pair(&p, NIC_82576, ONEBUF);
	fx_frame(p.frame, p.dst, p.src, 1514);
	/* 2^32 octets take too long: the width is what can be shown. */
	for (unsigned int i = 0; i < 10; i++)
		pass(&p, 1514, 0, 0, &data);
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGORC), 15180);
	fx_wr(p.x, V1, IGBVF_VFGORC, 0); /* not writable */
	assert_int_equal(fx_rd(p.x, V1, IGBVF_VFGORC), 15180);
	fx_destroy(p.x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vf_to_vf),
		cmocka_unit_test(short_frames_are_padded),
		cmocka_unit_test(several_descriptors_make_a_packet),
		cmocka_unit_test(fcs_is_kept_when_asked),
		cmocka_unit_test(checksums_are_made_and_checked),
		cmocka_unit_test(tso_cuts_and_fixes_headers),
		cmocka_unit_test(tiny_segments_take_turns),
		cmocka_unit_test(tags_in_and_out),
		cmocka_unit_test(default_tag_of_a_pool),
		cmocka_unit_test(header_split),
		cmocka_unit_test(head_write_back_instead_of_dd),
		cmocka_unit_test(faults_are_counted_and_survived),
		cmocka_unit_test(a_client_without_memory),
		cmocka_unit_test(nonsense_from_the_guest),
		cmocka_unit_test(a_slow_receiver_holds_its_sender),
		cmocka_unit_test(a_nic_without_a_core_waits_no_less),
		cmocka_unit_test(drop_enable_drops_at_once),
		cmocka_unit_test(a_busy_wire_holds_the_sender),
		cmocka_unit_test(what_is_written_is_marked),
		cmocka_unit_test(counters_roll_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
