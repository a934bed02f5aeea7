/*
 * Sums are taken over native-order words and swapped once at the end: the
 * one's complement sum does not care (RFC 1071, 2 B).
 */
#include "nic/pkt.h"

#include <string.h>

#include "base/util.h"

#define ETYPE_IP4  0x0800
#define ETYPE_IP6  0x86dd
#define ETYPE_VLAN 0x8100

#define PROTO_TCP  6
#define PROTO_UDP  17
#define PROTO_SCTP 132

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)pkt_get16(p) << 16 | pkt_get16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	pkt_put16(p, (uint16_t)(v >> 16));
	pkt_put16(p + 2, (uint16_t)v);
}

static void parse_ip4(struct pkt *p, const uint8_t *data, uint32_t len)
{
	const uint8_t *ip = data + p->l3;
	uint32_t left = len - p->l3, ihl, total;

	if (left < 20 || ip[0] >> 4 != 4)
		return;
	ihl = (uint32_t)(ip[0] & 15) * 4;
	total = pkt_get16(ip + 2);
	if (ihl < 20 || ihl > left || total < ihl || total > left)
		return;

	p->ip4 = true;
	p->ip_ext = ihl > 20;
	p->fragment = pkt_get16(ip + 6) & 0x3fff;
	p->proto = ip[9];
	p->l4 = p->l3 + ihl;
	p->l4_len = total - ihl;
}

static void parse_ip6(struct pkt *p, const uint8_t *data, uint32_t len)
{
	const uint8_t *ip = data + p->l3;
	uint32_t left = len - p->l3, at = 40, end;
	uint8_t next;

	if (left < 40 || ip[0] >> 4 != 6)
		return;
	end = 40u + pkt_get16(ip + 4);
	if (end > left)
		return;

	p->ip6 = true;
	next = ip[6];
	/* Hop-by-hop, routing, fragment, destination options. */
	while (next == 0 || next == 43 || next == 44 || next == 60) {
		uint32_t n;

		if (at + 8 > end)
			return;
		n = next == 44 ? 8 : (uint32_t)ip[at + 1] * 8 + 8;
		if (next == 44 && pkt_get16(ip + at + 2) & 0xfff9)
			p->fragment = true;
		p->ip_ext = true;
		next = ip[at];
		at += n;
		if (at > end)
			return;
	}
	p->proto = next;
	p->l4 = p->l3 + at;
	p->l4_len = end - at;
}

void pkt_parse(struct pkt *p, const uint8_t *data, uint32_t len)
{
	uint32_t need;

	memset(p, 0, sizeof(*p));
	if (len < PKT_ETH_LEN)
		return;
	p->l3 = PKT_ETH_LEN;
	p->etype = pkt_get16(data + 12);
	if (p->etype == ETYPE_VLAN && len >= PKT_ETH_LEN + PKT_VLAN_LEN) {
		p->vlan = true;
		p->tci = pkt_get16(data + 14);
		p->etype = pkt_get16(data + 16);
		p->l3 += PKT_VLAN_LEN;
	}
	if (p->etype == ETYPE_IP4)
		parse_ip4(p, data, len);
	else if (p->etype == ETYPE_IP6)
		parse_ip6(p, data, len);
	if (!p->l4 || p->fragment)
		return;

	switch (p->proto) {
	case PROTO_TCP:
		need = p->l4_len >= 20 ? (uint32_t)(data[p->l4 + 12] >> 4) * 4
				       : UINT32_MAX;
		if (need < 20)
			return;
		break;
	case PROTO_UDP: need = 8; break;
	case PROTO_SCTP: need = 12; break;
	default: return;
	}
	if (need <= p->l4_len)
		p->payload = p->l4 + need;
}

uint64_t pkt_sum(const uint8_t *data, uint32_t len)
{
	uint64_t a = 0, b = 0;
	uint32_t w[4];

	while (len >= 16) {
		memcpy(w, data, 16);
		a += (uint64_t)w[0] + w[2];
		b += (uint64_t)w[1] + w[3];
		data += 16;
		len -= 16;
	}
	while (len >= 4) {
		memcpy(w, data, 4);
		a += w[0];
		data += 4;
		len -= 4;
	}
	if (len) {
		w[0] = 0;
		memcpy(w, data, len);
		a += w[0];
	}
	return a + b;
}

uint16_t pkt_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return __builtin_bswap16((uint16_t)sum);
}

/* Reflected CRC, a nibble at a time: rare here, so small before fast. */
static uint32_t crc(uint32_t c, const uint8_t *data, uint32_t len,
		    uint32_t poly)
{
	uint32_t table[16];

	for (uint32_t i = 0; i < 16; i++) {
		uint32_t v = i;

		for (int k = 0; k < 4; k++)
			v = v & 1 ? v >> 1 ^ poly : v >> 1;
		table[i] = v;
	}
	while (len--) {
		c ^= *data++;
		c = c >> 4 ^ table[c & 15];
		c = c >> 4 ^ table[c & 15];
	}
	return c;
}

#define POLY_FCS	0xedb88320u
#define POLY_CASTAGNOLI 0x82f63b78u

uint32_t pkt_crc32(const uint8_t *data, uint32_t len)
{
	return ~crc(~0u, data, len, POLY_FCS);
}

uint32_t pkt_crc32c(const uint8_t *data, uint32_t len)
{
	return ~crc(~0u, data, len, POLY_CASTAGNOLI);
}

bool pkt_ip_sum_ok(const struct pkt *p, const uint8_t *data)
{
	uint32_t ihl;

	if (!p->ip4)
		return false;
	ihl = (uint32_t)(data[p->l3] & 15) * 4;
	return pkt_fold(pkt_sum(data + p->l3, ihl)) == 0xffff;
}

/* The pseudo header's sum in native order, to be added to pkt_sum(). */
static uint64_t pseudo_sum(const struct pkt *p, const uint8_t *data)
{
	uint8_t tail[4];
	uint64_t sum;

	if (p->ip4)
		sum = pkt_sum(data + p->l3 + 12, 8);
	else
		sum = pkt_sum(data + p->l3 + 8, 32);
	tail[0] = 0;
	tail[1] = p->proto;
	pkt_put16(tail + 2, (uint16_t)p->l4_len);
	return sum + pkt_sum(tail, 4);
}

int pkt_l4_sum_ok(const struct pkt *p, const uint8_t *data)
{
	const uint8_t *l4 = data + p->l4;

	if (!p->payload)
		return -1;
	if (p->proto == PROTO_SCTP) {
		static const uint8_t zero[4];
		uint32_t c, field;

		/* The sum covers the packet with its own field zero. */
		c = crc(~0u, l4, 8, POLY_CASTAGNOLI);
		c = crc(c, zero, 4, POLY_CASTAGNOLI);
		c = ~crc(c, l4 + 12, p->l4_len - 12, POLY_CASTAGNOLI);
		memcpy(&field, l4 + 8, 4);
		return c == field;
	}
	if (p->proto == PROTO_UDP && pkt_get16(l4 + 6) == 0)
		return -1; /* the sender computed none */
	return pkt_fold(pseudo_sum(p, data) + pkt_sum(l4, p->l4_len)) == 0xffff;
}

static uint32_t toeplitz(const uint8_t *in, uint32_t n, const uint8_t *key,
			 uint32_t at, uint32_t hash)
{
	for (uint32_t i = 0; i < n; i++, at++) {
		uint64_t window = (uint64_t)get32(key + at) << 8 | key[at + 4];

		for (int b = 7; b >= 0; b--)
			if (in[i] >> b & 1)
				hash ^= (uint32_t)(window >> (b + 1));
	}
	return hash;
}

uint32_t pkt_rss(const struct pkt *p, const uint8_t *data, const uint8_t *key,
		 bool ports)
{
	uint32_t n = p->ip4 ? 8 : 32, h;

	h = toeplitz(data + p->l3 + (p->ip4 ? 12 : 8), n, key, 0, 0);
	if (ports)
		h = toeplitz(data + p->l4, 4, key, n, h);
	return h;
}

static uint32_t l4_field(const struct pkt_offload *o)
{
	return o->l4t == 1 ? 16 : o->l4t == 0 ? 6 : 8;
}

static void store_sum(uint8_t *field, uint64_t sum, bool udp)
{
	uint16_t v = (uint16_t)~pkt_fold(sum);

	if (udp && v == 0)
		v = 0xffff; /* zero would mean "none" (RFC 768) */
	pkt_put16(field, v);
}

bool pkt_finish(uint8_t *data, uint32_t len, const struct pkt_offload *o)
{
	uint32_t l4 = o->maclen + o->iplen;

	if (o->ip_sum && (o->iplen < 20 || l4 > len))
		return false;
	if (o->l4_sum && (o->l4t > 2 || l4 + l4_field(o) + 4 > len))
		return false;

	if (o->ip_sum) {
		uint8_t *ip = data + o->maclen;

		pkt_put16(ip + 10, 0);
		store_sum(ip + 10, pkt_sum(ip, o->iplen), false);
	}
	if (!o->l4_sum)
		return true;
	if (o->l4t == 2) {
		uint32_t c;

		memset(data + l4 + 8, 0, 4);
		c = pkt_crc32c(data + l4, len - l4);
		memcpy(data + l4 + 8, &c, 4);
		return true;
	}
	store_sum(data + l4 + l4_field(o), pkt_sum(data + l4, len - l4),
		  o->l4t == 0);
	return true;
}

static uint32_t tso_header(const struct pkt_offload *o)
{
	return o->maclen + o->iplen + o->l4len;
}

uint32_t pkt_segments(uint32_t len, const struct pkt_offload *o)
{
	uint32_t hdr = tso_header(o);

	if (o->l4t > 1 || !o->mss || o->maclen < PKT_ETH_LEN ||
	    o->iplen < (o->ip4 ? 20 : 40) || o->l4len < (o->l4t ? 20 : 8) ||
	    hdr >= len)
		return 0;
	return (len - hdr + o->mss - 1) / o->mss;
}

uint32_t pkt_segment(uint8_t *out, const uint8_t *data, uint32_t len,
		     const struct pkt_offload *o, uint32_t i)
{
	uint32_t hdr = tso_header(o), at = hdr + i * o->mss;
	uint32_t n = MIN(o->mss, len - at);
	uint8_t *ip = out + o->maclen, *l4 = ip + o->iplen;
	bool last = at + n == len;
	uint8_t lens[2];

	memcpy(out, data, hdr);
	memcpy(out + hdr, data + at, n);

	if (o->ip4) {
		pkt_put16(ip + 2, (uint16_t)(o->iplen + o->l4len + n));
		pkt_put16(ip + 4, (uint16_t)(pkt_get16(ip + 4) + i));
		pkt_put16(ip + 10, 0);
		store_sum(ip + 10, pkt_sum(ip, o->iplen), false);
	} else {
		pkt_put16(ip + 4, (uint16_t)(o->iplen - 40 + o->l4len + n));
	}
	if (o->l4t == 1) {
		put32(l4 + 4, get32(l4 + 4) + i * o->mss);
		if (!last)
			l4[13] &= (uint8_t)~0x09; /* FIN, PSH */
		if (i)
			l4[13] &= (uint8_t)~0x80; /* CWR */
	} else {
		pkt_put16(l4 + 4, (uint16_t)(o->l4len + n));
	}
	/* The seed has no length in it: each segment brings its own. */
	pkt_put16(lens, (uint16_t)(o->l4len + n));
	store_sum(l4 + l4_field(o),
		  pkt_sum(l4, o->l4len + n) + pkt_sum(lens, 2), o->l4t == 0);
	return hdr + n;
}
