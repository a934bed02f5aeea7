/*
 * Configuration spaces of the PF and its VFs.
 *
 * Layout as in the 82576 (9.5): PM 0x40, MSI 0x50, MSI-X 0x70, PCIe 0xa0,
 * AER 0x100, ARI 0x150, SR-IOV 0x160.  A VF is shown as VFIO shows one: with
 * its real identity and BARs, not the all-ones of a bare VF.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/nic_int.h"

#define CAP_PM	 0x40
#define CAP_MSI	 0x50
#define CAP_MSIX 0x70
#define CAP_EXP	 0xa0
#define ECAP_AER 0x100
#define ECAP_ARI 0x150

#define COMMAND_MASTER 0x0004
#define EXP_DEVCTL     0x08
#define EXP_FLR	       0x8000u

#define MSIX_BAR_SIZE 0x4000u

static const struct pci_reg pm_rows[] = {
	{ 2, 2, 0x0023, 0, 0 },
	{ 4, 2, 0x0008, 0x0103, 0x8000 },
};

/* 64-bit address, one vector, no masking. */
static const struct pci_reg msi_rows[] = {
	{ 2, 2, 0x0080, 0x0001, 0 },
	{ 4, 4, 0, 0xfffffffc, 0 },
	{ 8, 4, 0, 0xffffffff, 0 },
	{ 12, 2, 0, 0xffff, 0 },
};

static const struct pci_reg aer_rows[] = {
	{ 4, 4, 0, 0, 0x003ff030 },	      /* uncorrectable status */
	{ 8, 4, 0, 0x003ff030, 0 },	      /* mask */
	{ 12, 4, 0x00062030, 0x003ff030, 0 }, /* severity */
	{ 16, 4, 0, 0, 0x000031c1 },	      /* correctable status */
	{ 20, 4, 0x2000, 0x000031c1, 0 },     /* mask */
	{ 24, 4, 0x000000a0, 0x00000140, 0 },
};

static int add_msix(struct nic_fn *fn)
{
	unsigned int n = nic_is_vf(fn) ? IGB_VECTORS_VF : IGB_VECTORS_PF;

	return pci_msix_init(&fn->msix, &fn->cfg, CAP_MSIX, n, IGBVF_MSIX_BAR,
			     IGBVF_MSIX_TABLE, IGBVF_MSIX_PBA);
}

static int build_vf(struct nic_fn *fn, const struct pci_ident *id)
{
	unsigned int flags = PCI_BAR_64 | PCI_BAR_PREFETCH;
	int ret;

	pci_config_init(&fn->cfg, id);
	ret = pci_config_bar(&fn->cfg, 0, IGBVF_BAR0_SIZE, flags);
	if (!ret)
		ret = pci_config_bar(&fn->cfg, IGBVF_MSIX_BAR, IGBVF_BAR3_SIZE,
				     flags);
	if (!ret)
		ret = add_msix(fn);
	if (!ret)
		ret = pci_express_add(&fn->cfg, CAP_EXP, PCI_EXPRESS_ENDPOINT);
	return ret;
}

static int build_pf(struct nic *nic, struct nic_fn *fn,
		    const struct pci_ident *id)
{
	struct pci_sriov s = {
		.total_vfs = (uint16_t)nic->conf.vfs,
		.first_offset = 0x80,
		.stride = 2,
		.vf_device = nic->m->vf_device,
		.vf_bar_flags = PCI_BAR_64 | PCI_BAR_PREFETCH,
	};
	int ret;

	s.vf_bar_size[0] = IGBVF_BAR0_SIZE;
	s.vf_bar_size[IGBVF_MSIX_BAR] = IGBVF_BAR3_SIZE;

	pci_config_init(&fn->cfg, id);
	ret = pci_config_bar(&fn->cfg, 0, IGB_PF_BAR0_SIZE, 0);
	if (!ret)
		ret = pci_config_bar(&fn->cfg, IGBVF_MSIX_BAR, MSIX_BAR_SIZE,
				     PCI_BAR_64);
	if (!ret)
		ret = pci_config_cap(&fn->cfg, 0x01, CAP_PM, 8);
	if (!ret)
		ret = pci_config_cap(&fn->cfg, 0x05, CAP_MSI, 14);
	if (ret)
		return ret;
	pci_config_regs(&fn->cfg, CAP_PM, pm_rows, ARRAY_SIZE(pm_rows));
	pci_config_regs(&fn->cfg, CAP_MSI, msi_rows, ARRAY_SIZE(msi_rows));
	ret = add_msix(fn);
	if (!ret)
		ret = pci_express_add(&fn->cfg, CAP_EXP, PCI_EXPRESS_ENDPOINT);
	if (!ret)
		ret = pci_config_ecap(&fn->cfg, 0x0001, 1, ECAP_AER, 0x40);
	if (!ret)
		ret = pci_config_ecap(&fn->cfg, 0x000e, 1, ECAP_ARI, 8);
	if (ret)
		return ret;
	pci_config_regs(&fn->cfg, ECAP_AER, aer_rows, ARRAY_SIZE(aer_rows));
	return pci_sriov_add(&fn->cfg, NIC_SRIOV_CAP, &s);
}

static int build(struct nic *nic, struct nic_fn *fn)
{
	struct pci_ident id = {
		.vendor = IGB_VENDOR_INTEL,
		.device = nic_is_vf(fn) ? nic->m->vf_device : nic->m->pf_device,
		.subvendor = IGB_VENDOR_INTEL,
		.revision = 1,
		.class_code = 0x020000,
	};

	return nic_is_vf(fn) ? build_vf(fn, &id) : build_pf(nic, fn, &id);
}

int nic_pci_init(struct nic *nic, struct err *e)
{
	for (unsigned int i = 0; i <= nic->conf.vfs; i++) {
		int ret = build(nic, &nic->fn[i]);

		if (ret)
			return err_sys(e, ret,
				       "cannot build configuration space %u",
				       i);
		nic->fn[i].store = calloc(1, MSIX_BAR_SIZE);
		if (!nic->fn[i].store)
			return err_sys(e, -ENOMEM, "function %u", i);
	}
	return 0;
}

void nic_pci_reset(struct nic_fn *fn)
{
	/* Cannot fail: it has been built before. */
	build(fn->nic, fn);
	pci_msix_reset(&fn->msix);
	memset(fn->store, 0, MSIX_BAR_SIZE);
	fn->master = false;
}

static void sriov_changed(struct nic *nic)
{
	struct nic_fn *pf = &nic->fn[NIC_PF];
	unsigned int n = 0, old = nic->num_vfs;

	if (pci_sriov_enabled(&pf->cfg, NIC_SRIOV_CAP))
		n = pci_sriov_num_vfs(&pf->cfg, NIC_SRIOV_CAP);
	if (n > nic->conf.vfs)
		n = nic->conf.vfs;
	if (n == old)
		return;
	for (unsigned int i = MIN(n, old); i < MAX(n, old); i++)
		nic_vf_clear(nic, i);
	nic->num_vfs = n;
	nic_assign_queues(nic);
	if (nic->vfs_fn)
		nic->vfs_fn(nic->vfs_opaque, n);
}

int nic_config_read(struct nic *nic, unsigned int fn, uint64_t off, void *buf,
		    size_t len)
{
	const struct pci_config *c;

	if (fn > nic->conf.vfs || off > PCI_CONFIG_SIZE ||
	    len > PCI_CONFIG_SIZE - off)
		return -EINVAL;
	c = &nic->fn[fn].cfg;
	memcpy(buf, c->val + off, len);
	return 0;
}

static uint32_t devctl(const struct nic_fn *fn)
{
	return pci_config_get16(&fn->cfg, CAP_EXP + EXP_DEVCTL);
}

int nic_config_write(struct nic *nic, unsigned int fn, uint64_t off,
		     const void *buf, size_t len)
{
	const uint8_t *p = buf;
	struct nic_fn *f;

	if (fn > nic->conf.vfs || off > PCI_CONFIG_SIZE ||
	    len > PCI_CONFIG_SIZE - off)
		return -EINVAL;
	nic->now = now_ns();
	f = &nic->fn[fn];
	while (len) {
		unsigned int n = off % 4 == 0 && len >= 4   ? 4
				 : off % 2 == 0 && len >= 2 ? 2
							    : 1;
		uint32_t v = 0;
		bool flr;

		memcpy(&v, p, n);
		/* The bit reads as 0: look at what is written. */
		flr = off <= CAP_EXP + EXP_DEVCTL + 1 &&
		      off + n > CAP_EXP + EXP_DEVCTL + 1 &&
		      v >> 8 * (CAP_EXP + EXP_DEVCTL + 1 - off) & EXP_FLR >> 8;
		pci_config_write(&f->cfg, (uint32_t)off, n, v);
		f->master = pci_config_get16(&f->cfg, 0x04) & COMMAND_MASTER;
		if (flr || devctl(f) & EXP_FLR)
			nic_flr(nic, fn);
		off += n;
		p += n;
		len -= n;
	}
	if (fn == NIC_PF)
		sriov_changed(nic);
	return 0;
}
