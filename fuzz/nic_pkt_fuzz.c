// sources: src/nic/pkt.c
/*
 * Frames as a guest or the wire may send them, and transmit contexts that
 * have nothing to do with them.  Buffers are exactly as long as they say,
 * so the sanitizer sees one byte too far.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "nic/pkt.h"

#define REQUIRE(x)               \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static void segments(const uint8_t *p, uint32_t len,
		     const struct pkt_offload *o)
{
	uint32_t n = pkt_segments(len, o), total = 0;
	uint32_t hdr = o->maclen + o->iplen + o->l4len;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t max = hdr + MIN(o->mss, len - hdr - i * o->mss);
		uint8_t *out = malloc(max);

		REQUIRE(out);
		REQUIRE(pkt_segment(out, p, len, o, i) == max);
		total += max - hdr;
		free(out);
	}
	REQUIRE(n == 0 || total == len - hdr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[40] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct pkt_offload o = { 0 };
	uint32_t len;
	uint8_t *p;
	struct pkt k;

	if (size < 8)
		return 0;
	o.maclen = data[0] & 127;
	o.iplen = data[1] * 2u;
	o.l4len = data[2];
	o.mss = data[3] | (uint32_t)(data[4] & 15) << 8;
	o.l4t = data[5] & 3;
	o.ip4 = data[5] & 4;
	o.ip_sum = data[5] & 8;
	o.l4_sum = data[5] & 16;
	data += 6;
	len = (uint32_t)size - 6;
	p = malloc(len);
	REQUIRE(p);
	memcpy(p, data, len);

	pkt_parse(&k, p, len);
	REQUIRE(k.l3 <= len + PKT_ETH_LEN && k.l4 <= len && k.payload <= len);
	if (k.l4)
		REQUIRE(k.l4 + k.l4_len <= len);
	pkt_ip_sum_ok(&k, p);
	pkt_l4_sum_ok(&k, p);
	if (k.ip4 || k.ip6)
		pkt_rss(&k, p, key, k.payload != 0);
	segments(p, len, &o);
	pkt_finish(p, len, &o);
	free(p);
	return 0;
}
