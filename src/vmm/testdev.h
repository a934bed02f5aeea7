/*
 * The test function's host side; guest/lib/testdev.h has its registers.
 * For tests only, in no product.
 */
#ifndef VMM_TESTDEV_H
#define VMM_TESTDEV_H

#include <pthread.h>
#include <stdatomic.h>

#include "pci/config.h"
#include "pci/func.h"
#include "pci/msix.h"
#include "vdev/host.h"

struct testdev {
	struct pci_func func; /* goes to vm_pci_add() */
	struct host *host;
	pthread_mutex_t lock;
	struct pci_config cfg;
	struct pci_msix msix;
	unsigned int irq[4];
	int eventfd[4];
	uint64_t bar; /* where BAR 0 decodes */
	uint8_t scratch[64];
	uint64_t arg[2], result;
	uint8_t *page;		/* page 1's memory */
	struct host_slot *slot; /* it is direct */
	uint64_t trapped;	/* accesses to it that came here */
	uint64_t toggles, toggle_ns;
	/* CMD_TELL; on the vCPU's thread, with no lock held. */
	int (*tell)(void *opaque, uint64_t arg0, uint64_t arg1);
	void *opaque;
};

int testdev_init(struct testdev *d, struct host *host);
void testdev_fini(struct testdev *d);

/* Page 1 direct or trapped; from any thread. */
int testdev_direct(struct testdev *d, bool direct);

/* Make 'to', plugged into another VM, what 'from' is now. */
int testdev_move(struct testdev *to, struct testdev *from);

#endif
