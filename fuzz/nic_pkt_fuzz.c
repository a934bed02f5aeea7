// sources: src/nic/pkt.c src/nic/vnet.c
/*
 * Frames as a guest or the wire may send them, and transmit contexts that
 * have nothing to do with them.  Buffers are exactly as long as they say,
 * so the sanitizer sees one byte too far.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "nic/pkt.h"
#include "nic/vnet.h"

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

/* As a packet socket would hand it over. */
static void merged(const uint8_t *data, uint32_t len, uint8_t type,
		   uint16_t size, uint16_t at)
{
	struct virtio_net_hdr h = {
		.flags = type & 8 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
		.gso_type = type & 7,
		.gso_size = size,
		.csum_start = at & 0xff,
		.csum_offset = at >> 8,
	};
	uint8_t *p = malloc(len);
	struct vnet v;

	REQUIRE(p);
	memcpy(p, data, len);
	vnet_open(&v, &h, p, len);
	for (uint32_t i = 0; i < v.n; i++) {
		uint32_t n, room = v.o.maclen + v.o.iplen + v.o.l4len + size;
		uint8_t *out = malloc(room);

		vnet_frame(&v, i, out, &n);
		REQUIRE(n <= (v.o.tso ? room : len));
		free(out);
	}
	free(p);
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

	merged(data, len, data[-1], (uint16_t)o.mss,
	       (uint16_t)(data[-6] | data[-5] << 8));
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
