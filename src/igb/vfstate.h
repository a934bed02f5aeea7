/*
 * What a VF of the igb family holds in its registers, and how to give it to
 * another VF.
 *
 * Only what is readable on a VF and can be written again is here: rings,
 * interrupt mapping, packet-type selection.  Mailbox words, CTS, MAC, VLANs
 * and filters live in the PF; statistics and pending causes cannot be
 * written at all (callers inject every vector once and re-base counters).
 *
 * Ring heads are the one register a device may refuse.  They are written
 * between reset and enable and read back after the enable, with the tail
 * equal to the head so that nothing moves meanwhile; queues that do not
 * keep the value are reported, disabled again, and left to the caller.
 *
 * No locking: the caller owns the pdev while these run.
 * Register facts: igbvf regs.h; 82576 and I350 VF register sets are one.
 */
#ifndef IGB_VFSTATE_H
#define IGB_VFSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wire.h"
#include "igb/desc.h"
#include "pdev/pdev.h"

#define IGB_VF_VECTORS	    3 /* vectors and EITRs of a VF */
#define IGB_VF_QPAIRS	    2 /* queue pairs: 82576 two, I350 one */
#define IGB_VFSTATE_VERSION 1
#define IGB_VFSTATE_MAX	    512 /* bytes a saved state never exceeds */

/* Queues as a set of bits. */
#define IGB_RXQ(n) (1u << (n))
#define IGB_TXQ(n) (1u << (16 + (n)))
#define IGB_ALLQ   (IGB_RXQ(0) | IGB_RXQ(1) | IGB_TXQ(0) | IGB_TXQ(1))

struct igb_ring {
	uint64_t base;	     /* RDBAL/H, TDBAL/H: iova */
	uint32_t len;	     /* bytes */
	uint32_t head, tail; /* descriptors */
	uint32_t ctl;	     /* RXDCTL, TXDCTL */
	uint32_t dca;	     /* DCA_RXCTRL, DCA_TXCTRL */
	uint32_t srrctl;     /* RX only */
	uint64_t wb;	     /* TX only: TDWBAL/H, bit 0 enables */
	/*
	 * TX only: the contexts the device holds, as descriptors; dw[2] 0 is
	 * none.  Not readable: known to who has watched the ring.
	 */
	union igb_desc ctx[2];
};

struct igb_vf_state {
	struct igb_ring rx[IGB_VF_QPAIRS], tx[IGB_VF_QPAIRS];
	uint32_t psrtype;
	uint32_t eims, eiac, eiam;
	uint32_t eitr[IGB_VF_VECTORS];
	uint32_t ivar0, ivar_misc;
};

/*
 * On or off the bus.  Off, and once this returned, the device makes no
 * access to memory; nothing inside it is reset, and requests it has taken
 * wait (PCI Express base specification, 7.5.1.1.3 and 2.4).  Returns 1 if
 * it was on before, 0 if not.
 */
int igb_vf_bus_master(struct pdev *p, bool on);

/* Where a queue's registers begin in BAR 0 (IGB_Q_* further on). */
uint32_t igb_vf_queue_base(bool tx, unsigned int q);

/*
 * Reads nothing that changes by being read.  The registers come from get(),
 * so that who has the BAR mapped need not send messages for them; a device
 * that is gone answers all ones, as on a bus.
 */
typedef uint32_t (*igb_vf_get)(void *opaque, uint32_t off);

void igb_vf_read_by(igb_vf_get get, void *opaque, struct igb_vf_state *st);
/* By messages. */
int igb_vf_read(struct pdev *p, struct igb_vf_state *st);
/* Only the queues. */
void igb_vf_read_queues(igb_vf_get get, void *opaque, struct igb_vf_state *st);

/*
 * Write a queue's control register with ENABLE as 'on' says, and wait (10 ms
 * at most) until the device agrees: -ETIMEDOUT.
 */
int igb_vf_queue_enable(struct pdev *p, bool tx, unsigned int q, uint32_t ctl,
			bool on);

void igb_vf_save(const struct igb_vf_state *st, struct wire_out *o);
/* *st is untouched unless all of it was read and every field is possible. */
int igb_vf_load(struct igb_vf_state *st, struct wire_in *in, struct err *e);

/* Queues that are enabled in 'st'. */
uint32_t igb_vf_enabled(const struct igb_vf_state *st);
/* Vectors that anything is routed to, as a set of bits. */
uint32_t igb_vf_vectors(const struct igb_vf_state *st);

/*
 * Program a VF just reset, and leave it off the bus.  Queues not in 'skip'
 * that were enabled end enabled, head in place and tail = head.  Queues in
 * 'skip' stay disabled.  *refused gets those that did not keep their head;
 * they stay disabled too, everything but the head in place.
 */
int igb_vf_program(struct pdev *p, const struct igb_vf_state *st, uint32_t skip,
		   uint32_t *refused, struct err *e);
/*
 * Take down what a driver left: queues off and their registers zero; then
 * the vectors, masked and routed nowhere.  A function-level reset alone does
 * not promise it (emulators keep ring registers over one).  Returns the set
 * of queues, or of vectors, there were; what does not answer has none.
 */
uint32_t igb_vf_delete_rings(struct pdev *p);
uint32_t igb_vf_delete_vectors(struct pdev *p);
/* Queues that are on or have a ring, and vectors above them from bit 24. */
uint32_t igb_vf_structures(const struct igb_vf_state *st);

/* Back on the bus, and let 'queues' go: tails, transmit first. */
int igb_vf_start(struct pdev *p, const struct igb_vf_state *st,
		 uint32_t queues);

#endif
