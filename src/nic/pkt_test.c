/*
 * Packets against published values: RFC 1071, CRC check values, the
 * Toeplitz verification suite of the RSS specification; and one bit wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/pkt.h"

static void sums(void **state)
{
	/* RFC 1071, 3. */
	static const uint8_t rfc[8] = { 0x00, 0x01, 0xf2, 0x03,
					0xf4, 0xf5, 0xf6, 0xf7 };
	uint8_t long_one[1001];
	uint64_t slow = 0;

	assert_int_equal(pkt_fold(pkt_sum(rfc, 8)), 0xddf2);
	assert_int_equal(pkt_fold(pkt_sum(rfc, 0)), 0);
	for (unsigned int i = 0; i < sizeof(long_one); i++) {
		long_one[i] = (uint8_t)(i * 37 + 255);
		slow += i % 2 ? long_one[i] : (uint32_t)long_one[i] << 8;
	}
	while (slow >> 16)
		slow = (slow >> 16) + (slow & 0xffff);
	assert_int_equal(pkt_fold(pkt_sum(long_one, sizeof(long_one))), slow);
}

static void crcs(void **state)
{
	const uint8_t *s = (const uint8_t *)"123456789";

	assert_int_equal(pkt_crc32(s, 9), 0xcbf43926);
	assert_int_equal(pkt_crc32c(s, 9), 0xe3069283);
}

static void toeplitz_suite(void **state)
{
	static const uint8_t key[40] = {
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
		0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
		0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
		0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
	};
	/* 66.9.149.187:2794 to 161.142.100.80:1766. */
	static const uint8_t addr[12] = { 66,  9,  149,	 187,  161,  142,
					  100, 80, 0x0a, 0xea, 0x06, 0xe6 };
	/* 3ffe:2501:200:1fff::7 :2794 to 3ffe:2501:200:3::1 :1766. */
	static const uint8_t addr6[36] = { 0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00,
					   0x1f, 0xff, 0,    0,	   0,	 0,
					   0,	 0,    0,    7,	   0x3f, 0xfe,
					   0x25, 0x01, 2,    0,	   0,	 3,
					   0,	 0,    0,    0,	   0,	 0,
					   0,	 1,    0x0a, 0xea, 0x06, 0xe6 };
	struct pkt p = { .l3 = 0, .l4 = 20, .ip4 = true };
	uint8_t data[64] = { 0 };

	memcpy(data + 12, addr, 12);
	assert_int_equal(pkt_rss(&p, data, key, false), 0x323e8fc2);
	assert_int_equal(pkt_rss(&p, data, key, true), 0x51ccc178);
	p = (struct pkt){ .l4 = 40, .ip6 = true };
	memcpy(data + 8, addr6, 36);
	assert_int_equal(pkt_rss(&p, data, key, false), 0x2cc18cd5);
	assert_int_equal(pkt_rss(&p, data, key, true), 0x40207d3d);
}

/* An IPv6 packet with a hop-by-hop header before UDP. */
static uint32_t ip6(uint8_t *f, uint8_t proto, uint32_t payload)
{
	uint32_t l4 = proto == 132 ? 12 : 8, n = 8 + l4 + payload;

	memset(f, 0x11, 14);
	pkt_put16(f + 12, 0x86dd);
	memset(f + 14, 0, 48);
	f[14] = 0x60;
	pkt_put16(f + 18, (uint16_t)n);
	f[20] = 0;
	f[53] = 1; /* ::1 to ::2, as far as they differ */
	f[54] = proto;
	memset(f + 62, 0x33, n - 8);
	if (proto == 17) {
		pkt_put16(f + 66, (uint16_t)(n - 8));
		pkt_put16(f + 68, 0);
	}
	return 14 + 40 + n;
}

static void extension_headers(void **state)
{
	uint8_t f[256];
	struct pkt p;
	uint32_t len = ip6(f, 17, 50);

	pkt_parse(&p, f, len);
	assert_true(p.ip6 && p.ip_ext);
	assert_int_equal(p.l4, 62);
	assert_int_equal(p.payload, 70);
	assert_int_equal(p.l4_len, 58);
	/* Truncated anywhere it is not such a packet, and nothing worse. */
	for (uint32_t n = 0; n < len; n++) {
		pkt_parse(&p, f, n);
		assert_int_equal(p.payload, 0);
	}
	/* A fragment has no L4 header to look at. */
	f[20] = 44;
	f[57] = 8;
	pkt_parse(&p, f, len);
	assert_true(p.fragment);
	assert_int_equal(p.payload, 0);
}

static void udp_never_sends_zero(void **state)
{
	const struct pkt_offload o = { .maclen = 14,
				       .iplen = 48,
				       .l4_sum = true };
	uint8_t f[256];
	uint32_t len = ip6(f, 17, 50);
	uint16_t sum;
	struct pkt p;

	/* Choose the payload so that the sum is all ones. */
	sum = pkt_fold(pkt_sum(f + 62, len - 62));
	pkt_put16(f + 80, (uint16_t)(0x3333 + (0xffff - sum)));
	sum = pkt_fold(pkt_sum(f + 62, len - 62));
	assert_int_equal(sum, 0xffff);
	assert_true(pkt_finish(f, len, &o));
	assert_int_equal(pkt_get16(f + 68), 0xffff);
	/* And "none" cannot be checked. */
	pkt_put16(f + 68, 0);
	pkt_parse(&p, f, len);
	assert_int_equal(pkt_l4_sum_ok(&p, f), -1);
}

static void sctp(void **state)
{
	const struct pkt_offload o = {
		.maclen = 14, .iplen = 48, .l4t = 2, .l4_sum = true
	};
	uint8_t f[256];
	uint32_t len = ip6(f, 132, 51);
	struct pkt p;

	assert_true(pkt_finish(f, len, &o));
	pkt_parse(&p, f, len);
	assert_int_equal(pkt_l4_sum_ok(&p, f), 1);
	for (uint32_t i = 62; i < len; i++) {
		f[i] ^= 4;
		assert_int_equal(pkt_l4_sum_ok(&p, f), 0);
		f[i] ^= 4;
	}
}

static void lengths_that_do_not_fit(void **state)
{
	uint8_t f[128] = { 0 }, copy[128];
	struct pkt_offload o = { .maclen = 14,
				 .iplen = 20,
				 .l4t = 1,
				 .l4_sum = true,
				 .ip_sum = true };

	memcpy(copy, f, sizeof(f));
	assert_false(pkt_finish(f, 33, &o)); /* inside the IP header */
	assert_false(pkt_finish(f, 50, &o)); /* before the TCP checksum */
	o.iplen = 19;
	assert_false(pkt_finish(f, 128, &o));
	o.l4t = 3;
	o.iplen = 20;
	assert_false(pkt_finish(f, 128, &o));
	assert_memory_equal(f, copy, sizeof(f));

	o = (struct pkt_offload){ .maclen = 14,
				  .iplen = 20,
				  .l4len = 20,
				  .l4t = 1,
				  .ip4 = true,
				  .mss = 100 };
	assert_int_equal(pkt_segments(55, &o), 1);
	assert_int_equal(pkt_segments(54, &o), 0); /* nothing to send */
	assert_int_equal(pkt_segments(254, &o), 2);
	assert_int_equal(pkt_segments(255, &o), 3);
	o.mss = 0;
	assert_int_equal(pkt_segments(255, &o), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums),
		cmocka_unit_test(crcs),
		cmocka_unit_test(toeplitz_suite),
		cmocka_unit_test(extension_headers),
		cmocka_unit_test(udp_never_sends_zero),
		cmocka_unit_test(sctp),
		cmocka_unit_test(lengths_that_do_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
