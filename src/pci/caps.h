/*
 * Capabilities that vdevs and the software NIC encode alike: PCI Express
 * and SR-IOV.  Sources: PCI Express base specification 7.5.3 and 9.3.3.
 */
#ifndef PCI_CAPS_H
#define PCI_CAPS_H

#include <stdint.h>

#include "pci/config.h"

#define PCI_EXP_CAP_SIZE   60u
#define PCI_SRIOV_CAP_SIZE 64u

/* DEVTYPE of the express capability. */
enum { PCI_EXPRESS_ENDPOINT = 0, PCI_EXPRESS_INTEGRATED = 9 };

/* Version 2, function-level reset advertised. */
int pci_express_add(struct pci_config *c, uint16_t off, unsigned int type);

struct pci_sriov {
	uint16_t total_vfs, first_offset, stride, vf_device;
	uint64_t vf_bar_size[6];   /* bytes; 0: none */
	unsigned int vf_bar_flags; /* PCI_BAR_64 and so on, for all */
};

/*
 * The SR-IOV capability of a PF at extended offset 'off'.  VF Enable, VF
 * MSE, NumVFs, page size and VF BARs are writable; what a write means is
 * the owner's business.
 */
int pci_sriov_add(struct pci_config *c, uint16_t off,
		  const struct pci_sriov *s);

/* As the PF's driver left it. */
uint16_t pci_sriov_num_vfs(const struct pci_config *c, uint16_t off);
/* VF Enable and VF memory space enable. */
int pci_sriov_enabled(const struct pci_config *c, uint16_t off);
int pci_sriov_mem(const struct pci_config *c, uint16_t off);
/* Base of VF 0's BAR, as written; VF n's is size * n further. */
uint64_t pci_sriov_bar(const struct pci_config *c, uint16_t off,
		       unsigned int bar);

#endif
