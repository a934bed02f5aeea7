/*
 * A PCI function as the bus sees it.
 *
 * The VMM's bus decodes addresses and calls these hooks; vdevs, the host
 * bridge and any emulated device implement them.  Hooks run on vCPU
 * threads, several at once: an implementation brings its own lock.
 */
#ifndef PCI_FUNC_H
#define PCI_FUNC_H

#include <stdint.h>

struct pci_func;

struct pci_func_ops {
	/* size is 1, 2 or 4, naturally aligned, off + size <= 4096. */
	uint32_t (*config_read)(struct pci_func *f, uint32_t off,
				unsigned int size);
	void (*config_write)(struct pci_func *f, uint32_t off,
			     unsigned int size, uint32_t val);

	/* size is 1, 2, 4 or 8; off + size <= the BAR's size. */
	uint64_t (*bar_read)(struct pci_func *f, unsigned int bar, uint64_t off,
			     unsigned int size);
	void (*bar_write)(struct pci_func *f, unsigned int bar, uint64_t off,
			  unsigned int size, uint64_t val);
};

/* Where the bus may tell a function's BARs moved; the bus implements it. */
struct pci_bus_ops {
	/*
	 * BAR 'bar' now decodes at 'gpa' (PCI_UNMAPPED: nowhere).  Called by
	 * the function from its config_write.
	 */
	void (*bar_moved)(void *bus, struct pci_func *f, unsigned int bar,
			  uint64_t gpa, uint64_t size);
};

#define PCI_UNMAPPED UINT64_MAX

struct pci_func {
	const struct pci_func_ops *ops;
	const struct pci_bus_ops *bus_ops; /* set by the bus */
	void *bus;
	const char *name;
	uint8_t devfn; /* set by the bus */
};

#endif
