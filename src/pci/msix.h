/*
 * MSI-X of an emulated function: table, pending bits, capability.
 *
 * The table is ours alone: it never reaches hardware.  Who owns it looks at
 * the vectors after each write (pci_msix_live) and acts on what changed.
 * One lock, the owner's.
 */
#ifndef PCI_MSIX_H
#define PCI_MSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "pci/config.h"

#define PCI_MSIX_MAX	  64u /* vectors; one word of pending bits */
#define PCI_MSIX_CAP_SIZE 12u

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data, ctrl; /* ctrl bit 0: masked */
};

struct pci_msix {
	unsigned int n;
	uint16_t cap; /* offset of the capability */
	uint8_t table_bar, pba_bar;
	uint32_t table, pba; /* offsets in the BAR */
	uint64_t pending;
	struct pci_msix_entry entry[PCI_MSIX_MAX];
};

/*
 * Add the capability at 'cap'; both structures are in BAR 'bar', at
 * multiples of 8 that do not overlap.  -EINVAL otherwise.
 */
int pci_msix_init(struct pci_msix *m, struct pci_config *c, uint16_t cap,
		  unsigned int n, unsigned int bar, uint32_t table,
		  uint32_t pba);

/* All vectors masked, nothing pending, as after a reset of the function. */
void pci_msix_reset(struct pci_msix *m);

/* Whether an access to [off, off + size) of 'bar' touches table or PBA. */
bool pci_msix_covers(const struct pci_msix *m, unsigned int bar, uint64_t off,
		     unsigned int size);

/*
 * Guest accesses, for ranges pci_msix_covers().  Sizes 4 and 8, naturally
 * aligned; others read zero and write nothing.
 */
uint64_t pci_msix_read(const struct pci_msix *m, uint64_t off,
		       unsigned int size);
void pci_msix_write(struct pci_msix *m, uint64_t off, unsigned int size,
		    uint64_t val);

bool pci_msix_enabled(const struct pci_msix *m, const struct pci_config *c);
/* Enabled, and neither the function nor the vector is masked. */
bool pci_msix_live(const struct pci_msix *m, const struct pci_config *c,
		   unsigned int vector);

#endif
