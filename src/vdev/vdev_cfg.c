/*
 * Configuration space of a vdev: what the guest finds, and what its writes
 * set in motion.
 */
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>

#include "base/util.h"
#include "pci/caps.h"
#include "vdev/vdev_priv.h"

/* Where real igb VFs have them (82576 9.7.2). */
#define CAP_MSIX    0x70
#define CAP_EXPRESS 0xa0

int vdev_cfg_init(struct vdev *v)
{
	const struct vdev_model *m = v->model;
	const struct pci_ident id = {
		.vendor = m->vendor,
		.device = m->device,
		.subvendor = m->subvendor,
		.subdevice = m->subdevice,
		.revision = m->revision,
		.class_code = m->class_code,
	};
	int ret;

	pci_config_init(&v->cfg, &id);
	for (unsigned int i = 0; i < 6; i++) {
		if (!m->bar_size[i])
			continue;
		ret = pci_config_bar(&v->cfg, i, m->bar_size[i],
				     PCI_BAR_64 | PCI_BAR_PREFETCH);
		if (ret < 0)
			return ret;
	}
	ret = pci_msix_init(&v->msix, &v->cfg, CAP_MSIX, m->vectors,
			    m->msix_bar, m->msix_table, m->msix_pba);
	if (ret < 0)
		return ret;
	return pci_express_add(&v->cfg, CAP_EXPRESS, PCI_EXPRESS_INTEGRATED);
}

/*
 * Bus mastering is the device's to obey.  Memory decoding is always on at
 * the pdev: the guest's bit decides whether the BARs show, and an emulated
 * VF with its own bit off is dead for us too (silicon ignores the bit).
 */
int vdev_cfg_command(struct vdev *v)
{
	uint16_t cmd = pci_config_get16(&v->cfg, PCI_COMMAND);
	uint16_t le = htole16((cmd & PCI_COMMAND_MASTER) | PCI_COMMAND_MEMORY);

	if (!v->pdev)
		return 0;
	return pdev_write(v->pdev, PDEV_CONFIG, PCI_COMMAND, &le, sizeof(le));
}

void vdev_cfg_apply(struct vdev *v)
{
	int ret = vdev_cfg_command(v);

	if (ret < 0)
		log_limited(&v->nonsense, LOG_WARN,
			    "%s: device refuses its command register (%d)",
			    v->name, ret);
	vdev_bars_moved(v);
	vdev_irqs_update(v);
}

int vdev_reset(struct vdev *v)
{
	int ret, again;

	vdev_lock(v);
	ret = v->pdev ? pdev_reset(v->pdev) : -ENODEV;
	/* The guest knows nothing of this: its device is on the bus. */
	again = vdev_cfg_command(v);
	vdev_unlock(v);
	return ret ? ret : MIN(again, 0);
}

/*
 * A function-level reset by the guest: the pdev's, and then all of ours
 * that PCI Express 6.6.2 does not keep.
 */
static void reset(struct vdev *v)
{
	int ret = v->pdev ? pdev_reset(v->pdev) : 0;

	if (ret < 0)
		log_limited(&v->nonsense, LOG_WARN,
			    "%s: device does not reset (%d)", v->name, ret);
	for (uint32_t i = 0; i < 256; i++)
		v->cfg.val[i] &= (uint8_t)~v->cfg.wmask[i];
	pci_msix_reset(&v->msix);
	vdev_irqs_clear(v);
	vdev_cfg_apply(v);
	for (struct vdev_watch *w = v->watches; w; w = w->next)
		if (w->reset)
			w->reset(w->opaque);
}

static bool touches(uint32_t off, unsigned int size, uint32_t reg,
		    unsigned int len)
{
	return off < reg + len && off + size > reg;
}

uint32_t vdev_cfg_read(struct pci_func *f, uint32_t off, unsigned int size)
{
	struct vdev *v = to_vdev(f);
	uint32_t val;

	vdev_lock(v);
	val = pci_config_read(&v->cfg, off, size);
	vdev_unlock(v);
	return val;
}

void vdev_cfg_write(struct pci_func *f, uint32_t off, unsigned int size,
		    uint32_t val)
{
	struct vdev *v = to_vdev(f);
	uint32_t devctl = CAP_EXPRESS + PCI_EXP_DEVCTL;
	bool was_on;

	if (size > 4 || off >= PCI_CONFIG_SIZE)
		return;
	vdev_lock(v);
	was_on = pci_msix_enabled(&v->msix, &v->cfg);
	pci_config_write(&v->cfg, off, size, val);

	/* Byte 1 of DEVCTL holds the reset bit, which reads as zero. */
	if (touches(off, size, devctl + 1, 1) &&
	    (val >> (8 * (devctl + 1 - off)) & PCI_EXP_DEVCTL_BCR_FLR >> 8)) {
		reset(v);
		goto unlock;
	}
	if (touches(off, size, v->msix.cap + PCI_MSIX_FLAGS, 2)) {
		/* What fired while MSI-X was off had no way to the guest. */
		if (!was_on && pci_msix_enabled(&v->msix, &v->cfg))
			vdev_irqs_clear(v);
		vdev_irqs_update(v);
	}
	if (touches(off, size, PCI_COMMAND, 2))
		vdev_cfg_command(v);
	if (pci_config_moves_bar(off, size))
		vdev_bars_moved(v);
unlock:
	vdev_unlock(v);
}
