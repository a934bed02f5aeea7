/*
 * A nic with plain memory for a client, for tests and the benchmark.
 *
 * Every function sees the same memory at IOVA FX_IOVA; the page behind it
 * is not mapped.  Interrupts are counted, frames to the wire are kept.
 */
#ifndef NIC_FIXTURE_H
#define NIC_FIXTURE_H

#include "igb/desc.h"
#include "igb/regs.h"
#include "nic/nic.h"

#define FX_IOVA	  0x100000000ull
#define FX_SIZE	  (8u << 20)
#define FX_RING	  64u /* descriptors of a ring */
#define FX_BUF	  2048u
#define FX_FRAMES 64u

struct fx_ring {
	unsigned int fn;
	bool tx;
	uint32_t at;   /* offset of the ring in memory */
	uint32_t bufs; /* and of its buffers */
	uint32_t regs; /* offset of its registers in the BAR */
	uint32_t n, next, tail;
};

struct fx {
	struct nic *nic;
	uint8_t *mem;
	unsigned int irqs[NIC_FUNCTIONS_MAX][32];
	unsigned int single; /* of the PF, without MSI-X */
	unsigned int vfs_now;
	uint64_t wrote; /* bytes marked dirty */
	bool wire_busy;
	unsigned int nframes;
	struct {
		uint8_t data[10000];
		size_t len;
	} frame[FX_FRAMES];
};

/* Fails the test (abort) when it cannot. */
struct fx *fx_create(const struct nic_conf *conf);
struct nic_conf fx_conf(enum nic_model model);
void fx_destroy(struct fx *x);

uint32_t fx_rd(struct fx *x, unsigned int fn, uint32_t off);
void fx_wr(struct fx *x, unsigned int fn, uint32_t off, uint32_t v);
void fx_config16(struct fx *x, unsigned int fn, uint32_t off, uint16_t v);

/*
 * A PF driver in twenty lines: bus master everywhere, 'vfs' VFs, pools,
 * loopback, link up; VF n has MAC 02:00:00:00:00:<n + 1>.
 */
void fx_bring_up(struct fx *x, unsigned int vfs);
void fx_mac(uint8_t mac[6], unsigned int vf);

/* Rings at fixed places; enabled, RX filled. */
void fx_rx_ring(struct fx *x, struct fx_ring *r, unsigned int fn,
		unsigned int local, uint32_t srrctl);
void fx_tx_ring(struct fx *x, struct fx_ring *r, unsigned int fn,
		unsigned int local);
union igb_desc *fx_desc(struct fx *x, const struct fx_ring *r, uint32_t i);
uint8_t *fx_buf(struct fx *x, const struct fx_ring *r, uint32_t i);
uint64_t fx_buf_iova(const struct fx_ring *r, uint32_t i);

/* Put one frame (one descriptor, RS) and ring the bell. */
void fx_send(struct fx *x, struct fx_ring *r, const void *frame, uint32_t len,
	     uint32_t cmd, uint32_t olinfo);
void fx_send_ctx(struct fx *x, struct fx_ring *r, uint32_t dw0, uint32_t dw2,
		 uint32_t dw3);
/* The next received descriptor, or NULL; refills what it passes. */
const union igb_desc *fx_recv(struct fx *x, struct fx_ring *r,
			      const uint8_t **data);

/* An Ethernet frame: addresses of two VFs, type, bytes counting up. */
uint32_t fx_frame(uint8_t *out, const uint8_t *dst, const uint8_t *src,
		  uint32_t len);

#endif
