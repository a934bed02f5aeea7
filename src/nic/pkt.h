/*
 * Frames: where their headers are, checksums, hashes, segmentation.
 *
 * Pure functions on the caller's bytes.  Input is a guest's or the wire's,
 * so every length is checked against what is there; a header that does not
 * fit is "not such a packet", never an error.  Offsets are bytes from the
 * destination MAC.
 */
#ifndef NIC_PKT_H
#define NIC_PKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PKT_ETH_LEN  14u
#define PKT_VLAN_LEN 4u

struct pkt {
	uint32_t l3, l4, payload; /* offsets; 0: not there */
	uint16_t etype;		  /* behind the tag */
	uint16_t tci;		  /* of the tag */
	uint8_t proto;		  /* IP protocol when l4 is set */
	bool vlan, ip4, ip6, ip_ext, fragment;
	uint32_t l4_len; /* as the IP header says, what is there */
};

void pkt_parse(struct pkt *p, const uint8_t *data, uint32_t len);

/* One's complement sum, not folded; 'at' even within the summed data. */
uint64_t pkt_sum(const uint8_t *data, uint32_t len);
uint16_t pkt_fold(uint64_t sum); /* host order of the two bytes */

/* CRC of the Ethernet FCS and SCTP's (Castagnoli). */
uint32_t pkt_crc32(const uint8_t *data, uint32_t len);
uint32_t pkt_crc32c(const uint8_t *data, uint32_t len);

/* Checks of a received packet.  false: no such sum in it, or wrong. */
bool pkt_ip_sum_ok(const struct pkt *p, const uint8_t *data);
/* -1: cannot be told; 0: wrong; 1: right. */
int pkt_l4_sum_ok(const struct pkt *p, const uint8_t *data);

/* Toeplitz over addresses and, if 'ports', the ports; key: 40 bytes. */
uint32_t pkt_rss(const struct pkt *p, const uint8_t *data, const uint8_t *key,
		 bool ports);

/* What a transmit context says of a packet; see 82576 7.2.2.2. */
struct pkt_offload {
	uint32_t maclen, iplen, l4len, mss;
	uint8_t l4t; /* 0 UDP, 1 TCP, 2 SCTP, 3 none */
	bool ip4, ip_sum, l4_sum, tso;
};

/*
 * Do what 'o' asks to one whole packet.  The L4 checksum field holds the
 * driver's seed (the pseudo header's sum).  false: the lengths do not fit
 * the packet, which is then unchanged.
 */
bool pkt_finish(uint8_t *data, uint32_t len, const struct pkt_offload *o);

/* Frames a TSO request becomes; 0: not a request that can be served. */
uint32_t pkt_segments(uint32_t len, const struct pkt_offload *o);
/* Build frame 'i' of them in 'out' (header + mss bytes); its length. */
uint32_t pkt_segment(uint8_t *out, const uint8_t *data, uint32_t len,
		     const struct pkt_offload *o, uint32_t i);

static inline uint16_t pkt_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void pkt_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

#endif
