/*
 * Merged and half-finished packets of a packet socket become the frames
 * they were: lengths, sums, sequence numbers; nonsense becomes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/vnet.h"

/* IPv4 with 'payload' bytes; TCP or UDP, no checksum yet, maybe a tag. */
static uint32_t packet(uint8_t *f, uint8_t proto, uint32_t payload, bool tag)
{
	uint32_t l3 = tag ? 18 : 14, l4len = proto == 6 ? 20 : 8;
	uint8_t *ip = f + l3, *l4 = ip + 20;

	memset(f, 0, l3 + 20 + l4len);
	if (tag)
		pkt_put16(f + 12, 0x8100);
	pkt_put16(f + l3 - 2, 0x0800);
	ip[0] = 0x45;
	pkt_put16(ip + 2, (uint16_t)(20 + l4len + payload));
	ip[9] = proto;
	memcpy(ip + 12, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
	pkt_put16(ip + 10, (uint16_t)~pkt_fold(pkt_sum(ip, 20)));
	if (proto == 6)
		l4[12] = 0x50;
	else
		pkt_put16(l4 + 4, (uint16_t)(8 + payload));
	for (uint32_t i = 0; i < payload; i++)
		l4[l4len + i] = (uint8_t)(i * 7);
	return l3 + 20 + l4len + payload;
}

static void check_frame(const uint8_t *f, uint32_t len, uint32_t payload)
{
	struct pkt p;

	pkt_parse(&p, f, len);
	assert_int_equal(len - p.payload, payload);
	assert_true(pkt_ip_sum_ok(&p, f));
	assert_int_equal(pkt_l4_sum_ok(&p, f), 1);
}

static void merged_packets_are_cut(void **state)
{
	static uint8_t f[70000], out[2000];

	for (int kind = 0; kind < 4; kind++) {
		uint8_t proto = kind & 1 ? 17 : 6;
		uint32_t len = packet(f, proto, 10000, kind & 2), n;
		struct virtio_net_hdr h = {
			.gso_type = proto == 6 ? VIRTIO_NET_HDR_GSO_TCPV4
					       : 5, /* UDP_L4 */
			.gso_size = 1448,
		};
		struct vnet v;

		vnet_open(&v, &h, f, len);
		assert_int_equal(v.n, 7);
		for (uint32_t i = 0; i < v.n; i++) {
			const uint8_t *p = vnet_frame(&v, i, out, &n);

			check_frame(p, n, i < 6 ? 1448 : 10000 - 6 * 1448);
		}
	}
}

static void sums_are_finished(void **state)
{
	uint8_t f[300], ph[12] = { 0 };
	uint32_t len = packet(f, 17, 99, false), n;
	struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				    .csum_start = 34,
				    .csum_offset = 6 };
	struct vnet v;

	memcpy(ph, f + 26, 8);
	ph[9] = 17;
	pkt_put16(ph + 10, 107);
	pkt_put16(f + 40, pkt_fold(pkt_sum(ph, 12)));
	vnet_open(&v, &h, f, len);
	assert_int_equal(v.n, 1);
	check_frame(vnet_frame(&v, 0, NULL, &n), len, 99);
	assert_int_equal(n, len);
	/* What needs nothing is left alone. */
	h.flags = 0;
	vnet_open(&v, &h, f, len);
	check_frame(vnet_frame(&v, 0, NULL, &n), len, 99);
}

static void nonsense_is_nothing(void **state)
{
	uint8_t f[300];
	uint32_t len = packet(f, 6, 99, false);
	struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				    .csum_start = 0xffff,
				    .csum_offset = 0xffff };
	struct vnet v;

	vnet_open(&v, &h, f, len);
	assert_int_equal(v.n, 0);
	h = (struct virtio_net_hdr){ .gso_type = 1, .gso_size = 0 };
	vnet_open(&v, &h, f, len);
	assert_int_equal(v.n, 0);
	h.gso_size = 10;
	vnet_open(&v, &h, f, 20);
	assert_int_equal(v.n, 0);
	f[23] = 1; /* ICMP cannot have been merged */
	vnet_open(&v, &h, f, len);
	assert_int_equal(v.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merged_packets_are_cut),
		cmocka_unit_test(sums_are_finished),
		cmocka_unit_test(nonsense_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
