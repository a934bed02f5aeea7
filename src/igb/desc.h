/*
 * Descriptors of the igb family: 16 bytes, little-endian, the same for
 * both models; read format (software to device) and write-back format.
 *
 * A descriptor lives in memory that the other side changes while we look:
 * copy it out once, then use the copy.  The dword that carries DD is the
 * last to be written and the first to be read (release and acquire).
 * Only <stdint.h>: the freestanding test guest uses this file too.
 */
#ifndef IGB_DESC_H
#define IGB_DESC_H

#include <stdint.h>

#define IGB_DESC_SIZE 16u

/* Host order on all machines we run on (x86-64, little-endian). */
union igb_desc {
	uint32_t dw[4];
	uint64_t qw[2];
};

/* ---- RX ---- */

/* Read format: qw[0] packet buffer, qw[1] header buffer (split). */

/* Write-back dw[0]. */
#define IGB_RXD_RSSTYPE	     0x0000000fu
#define IGB_RXD_PTYPE_SHIFT  4
#define IGB_RXD_PTYPE_IP4    0x00000010u
#define IGB_RXD_PTYPE_IP4E   0x00000020u
#define IGB_RXD_PTYPE_IP6    0x00000040u
#define IGB_RXD_PTYPE_IP6E   0x00000080u
#define IGB_RXD_PTYPE_TCP    0x00000100u
#define IGB_RXD_PTYPE_UDP    0x00000200u
#define IGB_RXD_PTYPE_SCTP   0x00000400u
#define IGB_RXD_HDRLEN_SHIFT 21 /* 10 bits */
#define IGB_RXD_HDRLEN	     0x7fe00000u
#define IGB_RXD_SPH	     0x80000000u

/* Write-back dw[2]: status and error. */
#define IGB_RXD_DD    0x00000001u
#define IGB_RXD_EOP   0x00000002u
#define IGB_RXD_VP    0x00000008u
#define IGB_RXD_UDPCS 0x00000010u
#define IGB_RXD_L4CS  0x00000020u
#define IGB_RXD_IPCS  0x00000040u
#define IGB_RXD_PIF   0x00000080u
#define IGB_RXD_LB    0x00040000u /* looped back by the switch */
#define IGB_RXD_HBO   0x00800000u /* header does not fit its buffer */
#define IGB_RXD_L4E   0x20000000u
#define IGB_RXD_IPE   0x40000000u
#define IGB_RXD_RXE   0x80000000u

static inline int igb_rxd_done(const union igb_desc *d)
{
	return d->dw[2] & IGB_RXD_DD;
}

static inline uint16_t igb_rxd_len(const union igb_desc *d)
{
	return (uint16_t)d->dw[3];
}

static inline uint16_t igb_rxd_vlan(const union igb_desc *d)
{
	return (uint16_t)(d->dw[3] >> 16);
}

static inline uint16_t igb_rxd_hdr_len(const union igb_desc *d)
{
	return (uint16_t)((d->dw[0] & IGB_RXD_HDRLEN) >> IGB_RXD_HDRLEN_SHIFT);
}

static inline void igb_rxd_fill(union igb_desc *d, uint64_t pkt, uint64_t hdr)
{
	d->qw[0] = pkt;
	d->qw[1] = hdr;
}

/* ---- TX ---- */

/* dw[2] of a data or context descriptor. */
#define IGB_TXD_LEN	  0x0000ffffu
#define IGB_TXD_DTYP	  0x00f00000u
#define IGB_TXD_DTYP_CTX  0x00200000u
#define IGB_TXD_DTYP_DATA 0x00300000u
#define IGB_TXD_EOP	  0x01000000u
#define IGB_TXD_IFCS	  0x02000000u
#define IGB_TXD_RS	  0x08000000u
#define IGB_TXD_DEXT	  0x20000000u
#define IGB_TXD_VLE	  0x40000000u
#define IGB_TXD_TSE	  0x80000000u

/* dw[3] of a data descriptor. */
#define IGB_TXD_DD	     0x00000001u /* in the write-back */
#define IGB_TXD_IDX	     0x00000010u
#define IGB_TXD_IXSM	     0x00000100u
#define IGB_TXD_TXSM	     0x00000200u
#define IGB_TXD_PAYLEN_SHIFT 14

/* Context: dw[0]. */
#define IGB_CTX_IPLEN	     0x000001ffu
#define IGB_CTX_MACLEN_SHIFT 9
#define IGB_CTX_MACLEN	     0x0000fe00u
#define IGB_CTX_VLAN_SHIFT   16
/* Context: dw[2]. */
#define IGB_CTX_IPV4	 0x00000400u
#define IGB_CTX_L4T	 0x00001800u
#define IGB_CTX_L4T_UDP	 0x00000000u
#define IGB_CTX_L4T_TCP	 0x00000800u
#define IGB_CTX_L4T_SCTP 0x00001000u
/* Context: dw[3]. */
#define IGB_CTX_IDX	    0x00000010u
#define IGB_CTX_L4LEN_SHIFT 8
#define IGB_CTX_L4LEN	    0x0000ff00u
#define IGB_CTX_MSS_SHIFT   16

static inline int igb_txd_is_ctx(const union igb_desc *d)
{
	return (d->dw[2] & (IGB_TXD_DEXT | IGB_TXD_DTYP)) ==
	       (IGB_TXD_DEXT | IGB_TXD_DTYP_CTX);
}

static inline int igb_txd_is_data(const union igb_desc *d)
{
	return (d->dw[2] & (IGB_TXD_DEXT | IGB_TXD_DTYP)) ==
	       (IGB_TXD_DEXT | IGB_TXD_DTYP_DATA);
}

static inline uint32_t igb_txd_len(const union igb_desc *d)
{
	return d->dw[2] & IGB_TXD_LEN;
}

static inline uint32_t igb_txd_paylen(const union igb_desc *d)
{
	return d->dw[3] >> IGB_TXD_PAYLEN_SHIFT;
}

static inline int igb_txd_done(const union igb_desc *d)
{
	return d->dw[3] & IGB_TXD_DD;
}

/* One buffer, one packet, status wanted. */
static inline void igb_txd_fill(union igb_desc *d, uint64_t buf, uint16_t len,
				uint32_t cmd)
{
	d->qw[0] = buf;
	d->dw[2] = len | IGB_TXD_DTYP_DATA | IGB_TXD_DEXT | IGB_TXD_IFCS | cmd;
	d->dw[3] = (uint32_t)len << IGB_TXD_PAYLEN_SHIFT;
}

/* A context that says nothing: consumes a slot, sends nothing. */
static inline void igb_txd_fill_noop(union igb_desc *d)
{
	d->qw[0] = 0;
	d->dw[2] = IGB_TXD_DTYP_CTX | IGB_TXD_DEXT;
	d->dw[3] = 0;
}

#endif
