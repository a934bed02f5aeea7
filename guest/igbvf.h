/*
 * The test guest's driver for virtual functions of the igb family.
 *
 * It behaves towards the device as Linux igbvf does, wait for wait and write
 * for write: the same mailbox handshake and time-outs, the same order of
 * enabling, polling of DD, RDT in batches of 16, one TDT write a packet, the
 * same link watchdog and the same reaction to a PF that lost it.  What it
 * does not have is a network stack.  Facts: docs/igb.md, docs/nic.md.
 *
 * One CPU drives a device.  Nothing here blocks but the mailbox, which
 * busy-waits as the real one does.
 */
#ifndef GUEST_IGBVF_H
#define GUEST_IGBVF_H

#include "guest.h"

#include "igb/desc.h"

#define IGBVF_BUF 2048u /* bytes of a receive or transmit buffer */

/* Vectors, TX, RX and other; four on for each further device. */
#define IGBVF_IRQ 0x40
enum { IGBVF_IRQ_TX, IGBVF_IRQ_RX, IGBVF_IRQ_OTHER };

struct igbvf_ring {
	union igb_desc *desc;
	uint8_t *buf;		/* IGBVF_BUF bytes for each descriptor */
	uint16_t *eop;		/* TX: where the packet begun here ends */
	uint32_t n, use, clean; /* next_to_use, next_to_clean */
	uint32_t tail;		/* register */
};

/* How the driver is to behave; filled by the caller. */
struct igbvf_conf {
	unsigned int nth;     /* which of the VFs on the bus */
	uint32_t tx_n, rx_n;  /* descriptors */
	bool irq;	      /* for the rings, else DD is polled for */
	bool compact;	      /* tails in page 0, as the software NIC offers */
	uint16_t vlan;	      /* filter and tag with it; 0: none */
	uint32_t wthresh;     /* of receive write-backs; igbvf: 1 */
	uint16_t frame;	      /* largest frame: the SET_LPE message */
	uint64_t tick_ns;     /* the watchdog's period: 2 s */
	uint64_t holdoff_ns;  /* between two re-inits: 10 s */
	const uint8_t *mcast; /* one group to join, or NULL */
};

struct igbvf {
	struct igbvf_conf conf;
	int devfn;
	unsigned int irq; /* first of its vectors */
	bool lb_swap;	  /* the I350's tags of looped-back frames */
	volatile uint8_t *bar;
	uint8_t mac[6], perm[6];

	/* Mailbox. */
	uint32_t v2p;	      /* read-to-clear bits seen and not yet used */
	unsigned int timeout; /* polls of 500 us; 0: given up until a reset */

	struct igbvf_ring tx, rx;

	bool get_link, link;
	uint64_t last_reset, next_tick, busy_at;
	uint32_t seen[3]; /* irq_count at the last look */
	bool napi;	  /* receive work is under way */

	uint32_t last_stat[9]; /* registers as last read */
	uint64_t stat[9];      /* 64 bits, roll-over undone as igbvf does */

	/* For the console. */
	uint64_t links_up, links_down, reinits, reset_fails, mac_changes;
	uint64_t mbx_polls; /* of the longest wait that had an answer */
	uint64_t mbx_timeouts, tails, refills, irqs[3];
	uint64_t tags[3]; /* in descriptor, looped-back, left in the frame */
	uint64_t heads, bad_heads; /* compact: looks, and steps back */
	uint32_t last_head;
};

/* Order of stat[] and last_stat[]. */
enum { STAT_GPRC, STAT_GPTC, STAT_GORC, STAT_GOTC, STAT_MPRC };

/*
 * false: there is no such function.  A PF that does not answer only means no
 * link for now, as with the real driver.
 */
bool igbvf_open(struct igbvf *v, const struct igbvf_conf *conf);

/*
 * A buffer for one packet, NULL when the ring is full (or the link down);
 * igbvf_send() then sends the first 'len' bytes of it.
 */
uint8_t *igbvf_tx_buf(struct igbvf *v);
void igbvf_send(struct igbvf *v, uint32_t len);
/* Packets sent and not yet known to be done. */
bool igbvf_tx_pending(const struct igbvf *v);

typedef void (*igbvf_rx_fn)(void *opaque, const uint8_t *frame, uint32_t len,
			    uint16_t vlan);

/*
 * One round: interrupts or DD bits, refills, the watchdog when it is due.
 * Returns the packets received and transmits cleaned.
 */
unsigned int igbvf_poll(struct igbvf *v, igbvf_rx_fn fn, void *opaque);
/* Nothing to do until an interrupt or 'ns' are over; polling, spin a little. */
void igbvf_idle(struct igbvf *v, uint64_t ns);

/* Ask the PF for something it has granted before; what came of it. */
const char *igbvf_request(struct igbvf *v);

/* The re-init, as for a lost PF. */
void igbvf_reinit(struct igbvf *v);

#endif
