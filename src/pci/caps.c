#include "pci/caps.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdbool.h>

#include "base/util.h"

/* Maximum payload 128..256 and extended tags are what 1 Gb/s parts say. */
#define DEVCAP		(PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER | 1)
#define DEVCTL_WRITABLE 0x7fff /* FLR reads as zero: it acts, no more */
#define DEVSTA_W1C	0x000f
#define LNK_25_X4	(PCI_EXP_LNKCAP_SLS_2_5GB | 4 << 4)

int pci_express_add(struct pci_config *c, uint16_t off, unsigned int type)
{
	/* An integrated endpoint has no link (7.5.3.6). */
	bool link = type == PCI_EXPRESS_ENDPOINT;
	const struct pci_reg rows[] = {
		{ PCI_EXP_FLAGS, 2, 2 | type << 4, 0, 0 },
		{ PCI_EXP_DEVCAP, 4, DEVCAP, 0, 0 },
		{ PCI_EXP_DEVCTL, 2, 0x2810, DEVCTL_WRITABLE, 0 },
		{ PCI_EXP_DEVSTA, 2, 0, 0, DEVSTA_W1C },
		{ PCI_EXP_LNKCAP, 4, link ? LNK_25_X4 : 0, 0, 0 },
		{ PCI_EXP_LNKCTL, 2, 0, link ? 0x01c3 : 0, 0 },
		{ PCI_EXP_LNKSTA, 2, link ? LNK_25_X4 : 0, 0, 0 },
		{ PCI_EXP_DEVCAP2, 4, 0, 0, 0 },
		{ PCI_EXP_DEVCTL2, 2, 0, 0, 0 },
	};
	int ret = pci_config_cap(c, PCI_CAP_ID_EXP, off, PCI_EXP_CAP_SIZE);

	if (ret < 0)
		return ret;
	pci_config_regs(c, off, rows, ARRAY_SIZE(rows));
	return 0;
}

int pci_sriov_add(struct pci_config *c, uint16_t off, const struct pci_sriov *s)
{
	const struct pci_reg rows[] = {
		{ PCI_SRIOV_CAP, 4, 0, 0, 0 },
		{ PCI_SRIOV_CTRL, 2, 0,
		  PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE | PCI_SRIOV_CTRL_ARI,
		  0 },
		{ PCI_SRIOV_STATUS, 2, 0, 0, 0 },
		{ PCI_SRIOV_INITIAL_VF, 2, s->total_vfs, 0, 0 },
		{ PCI_SRIOV_TOTAL_VF, 2, s->total_vfs, 0, 0 },
		{ PCI_SRIOV_NUM_VF, 2, 0, 0xffff, 0 },
		{ PCI_SRIOV_VF_OFFSET, 2, s->first_offset, 0, 0 },
		{ PCI_SRIOV_VF_STRIDE, 2, s->stride, 0, 0 },
		{ PCI_SRIOV_VF_DID, 2, s->vf_device, 0, 0 },
		/* 4K, 8K, 64K, 256K, 1M, 4M: the six the standard asks for */
		{ PCI_SRIOV_SUP_PGSIZE, 4, 0x553, 0, 0 },
		{ PCI_SRIOV_SYS_PGSIZE, 4, 1, 0x553, 0 },
	};
	bool wide = s->vf_bar_flags & PCI_BAR_64;
	int ret;

	for (unsigned int i = 0; i < 6; i++)
		if (s->vf_bar_size[i] &&
		    ((s->vf_bar_size[i] & (s->vf_bar_size[i] - 1)) ||
		     s->vf_bar_size[i] < 4096 ||
		     (wide && (i == 5 || s->vf_bar_size[i + 1]))))
			return -EINVAL;
	ret = pci_config_ecap(c, PCI_EXT_CAP_ID_SRIOV, 1, off,
			      PCI_SRIOV_CAP_SIZE);
	if (ret < 0)
		return ret;
	pci_config_regs(c, off, rows, ARRAY_SIZE(rows));

	for (unsigned int i = 0; i < 6; i++) {
		uint64_t mask = ~(s->vf_bar_size[i] - 1);
		uint32_t type = (wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
				(s->vf_bar_flags & PCI_BAR_PREFETCH
					 ? PCI_BASE_ADDRESS_MEM_PREFETCH
					 : 0);
		const struct pci_reg bar[] = {
			{ PCI_SRIOV_BAR + 4 * i, 4, type, (uint32_t)mask, 0 },
			{ PCI_SRIOV_BAR + 4 * i + 4, 4, 0,
			  (uint32_t)(mask >> 32), 0 },
		};

		if (s->vf_bar_size[i])
			pci_config_regs(c, off, bar, wide ? 2 : 1);
	}
	return 0;
}

uint16_t pci_sriov_num_vfs(const struct pci_config *c, uint16_t off)
{
	return pci_config_get16(c, off + PCI_SRIOV_NUM_VF);
}

int pci_sriov_enabled(const struct pci_config *c, uint16_t off)
{
	return !!(pci_config_get16(c, off + PCI_SRIOV_CTRL) &
		  PCI_SRIOV_CTRL_VFE);
}

int pci_sriov_mem(const struct pci_config *c, uint16_t off)
{
	return !!(pci_config_get16(c, off + PCI_SRIOV_CTRL) &
		  PCI_SRIOV_CTRL_MSE);
}

uint64_t pci_sriov_bar(const struct pci_config *c, uint16_t off,
		       unsigned int bar)
{
	uint32_t at = off + PCI_SRIOV_BAR + 4 * bar;
	uint32_t lo = bar < 6 ? pci_config_get32(c, at) : 0;
	uint64_t base = lo & PCI_BASE_ADDRESS_MEM_MASK;

	if (bar < 5 && (lo & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
			       PCI_BASE_ADDRESS_MEM_TYPE_64)
		base |= (uint64_t)pci_config_get32(c, at + 4) << 32;
	return base;
}
