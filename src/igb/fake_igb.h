/*
 * An igb device made of memory, for unit tests: a PF with its VFs' mailboxes
 * and the registers a PF driver looks at, with their real semantics
 * (read-to-clear, write-one-to-clear, locks).  Of rings only the PF's for
 * transmission, whose frames are kept; no switch.
 * Not installed.
 *
 * The PF is a pdev; the VFs' side is two functions, to be called by whoever
 * plays the guest or a VF's pdev.  Accesses may come from several threads.
 */
#ifndef IGB_FAKE_IGB_H
#define IGB_FAKE_IGB_H

#include <pthread.h>

#include "igb/regs.h"
#include "pci/config.h"
#include "pdev/pdev.h"

#define FAKE_IGB_TX 16

struct fake_igb {
	struct pdev p; /* the PF's */
	pthread_mutex_t lock;
	struct pci_config cfg;
	uint16_t sriov; /* offset of the capability */
	uint32_t reg[IGB_PF_BAR0_SIZE / 4];
	uint32_t v2p[IGB_POOLS]; /* bits as the VF sees them */
	int irqfd;
	uint32_t eims;
	unsigned int pf_resets, irqs;
	unsigned int pf_writes;
	struct pdev_dma dma; /* the one mapping there may be */
	/* What the PF's rings sent, the last so many of ntx frames. */
	struct {
		unsigned int queue, len;
		uint8_t data[128];
	} tx[FAKE_IGB_TX];
	unsigned int ntx;
	bool tx_stuck; /* frames are taken and never completed */
	bool open;     /* a pdev is out */
	/* Told of mailbox interrupts to VF n: its vector would fire. */
	void (*vf_irq)(void *opaque, unsigned int vf);
	void *opaque;
};

/* device: IGB_DEV_82576 or IGB_DEV_I350.  Plain memory of the caller. */
void fake_igb_init(struct fake_igb *d, uint16_t device);

/* A pdev of the PF; its close leaves the device as it is. */
struct pdev *fake_igb_pdev(struct fake_igb *d);

/* A VF's accesses to its BAR 0; other registers are plain memory. */
uint32_t fake_igb_vf_read(struct fake_igb *d, unsigned int vf, uint32_t off);
void fake_igb_vf_write(struct fake_igb *d, unsigned int vf, uint32_t off,
		       uint32_t val);

void fake_igb_set_link(struct fake_igb *d, bool up);

#endif
