#include "igb/fake_igb.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/util.h"
#include "igb/desc.h"
#include "pci/caps.h"

#define SRIOV_AT 0x160

static struct fake_igb *dev(struct pdev *p)
{
	return (struct fake_igb *)p;
}

static void raise_irq(struct fake_igb *d, uint32_t cause)
{
	d->reg[IGB_ICR / 4] |= cause;
	if (!(d->reg[IGB_ICR / 4] & d->reg[IGB_IMS / 4]) || !(d->eims & 1))
		return;
	d->irqs++;
	if (d->irqfd >= 0)
		eventfd_write(d->irqfd, 1);
}

static void to_vf(struct fake_igb *d, unsigned int vf, uint32_t bit)
{
	d->v2p[vf] |= bit;
	if (d->vf_irq)
		d->vf_irq(d->opaque, vf);
}

static void reset_regs(struct fake_igb *d)
{
	uint32_t status = d->reg[IGB_STATUS / 4] & IGB_STATUS_LU;

	memset(d->reg, 0, sizeof(d->reg));
	d->reg[IGB_STATUS / 4] = status;
	d->reg[IGB_EECD / 4] = IGB_EECD_AUTO_RD | IGB_EECD_PRES;
	d->eims = 0;
	for (unsigned int n = 0; n < IGB_POOLS; n++)
		d->v2p[n] = IGB_V2P_RSTI;
	d->pf_resets++;
}

static uint32_t pf_read(struct fake_igb *d, uint32_t off)
{
	uint32_t v = d->reg[off / 4];

	if (off == IGB_ICR)
		d->reg[off / 4] = 0;
	for (unsigned int n = 0; n < IGB_POOLS; n++)
		if (off == (uint32_t)IGB_P2VMAILBOX(n))
			return (d->v2p[n] & IGB_V2P_VFU ? IGB_P2V_VFU : 0) |
			       (d->v2p[n] & IGB_V2P_PFU ? IGB_P2V_PFU : 0);
	return v;
}

static void p2v_write(struct fake_igb *d, unsigned int n, uint32_t val)
{
	if (val & IGB_P2V_RVFU)
		d->v2p[n] &= ~IGB_V2P_VFU;
	if (!(val & IGB_P2V_PFU))
		d->v2p[n] &= ~IGB_V2P_PFU;
	else if (!(d->v2p[n] & IGB_V2P_VFU))
		d->v2p[n] |= IGB_V2P_PFU;
	if (val & IGB_P2V_STS)
		to_vf(d, n, IGB_V2P_PFSTS);
	if (val & IGB_P2V_ACK)
		to_vf(d, n, IGB_V2P_PFACK);
}

static void vf_reset(struct fake_igb *d, unsigned int n)
{
	d->v2p[n] &= IGB_V2P_RSTI;
	d->reg[IGB_VFRE / 4] &= ~(1u << n);
	d->reg[IGB_VFTE / 4] &= ~(1u << n);
	d->reg[IGB_VFLRE / 4] |= 1u << n;
	raise_irq(d, IGB_ICR_VMMB);
}

static void *dma(struct fake_igb *d, uint64_t iova, size_t len)
{
	if (iova < d->dma.iova || iova - d->dma.iova > d->dma.size ||
	    len > d->dma.size - (iova - d->dma.iova))
		return NULL;
	return (uint8_t *)d->dma.va + (iova - d->dma.iova);
}

static void tx_one(struct fake_igb *d, unsigned int q, union igb_desc *at)
{
	unsigned int slot = d->ntx % FAKE_IGB_TX;
	uint32_t len = igb_txd_len(at);
	const void *data = dma(d, at->qw[0], len);

	if (!data || !igb_txd_is_data(at) || len > sizeof(d->tx[0].data))
		return;
	d->tx[slot].queue = q;
	d->tx[slot].len = len;
	memcpy(d->tx[slot].data, data, len);
	d->ntx++;
	if (!d->tx_stuck)
		at->dw[3] = IGB_TXD_DD;
}

/* A tail moved.  The pool must be let send, as silicon and QEMU want it. */
static void tx_run(struct fake_igb *d, unsigned int q)
{
	uint32_t n = d->reg[IGB_TDLEN(q) / 4] / IGB_DESC_SIZE;
	uint32_t *head = &d->reg[IGB_TDH(q) / 4];
	union igb_desc *ring =
		dma(d, d->reg[IGB_TDBAL(q) / 4], d->reg[IGB_TDLEN(q) / 4]);

	if (!ring || !(d->reg[IGB_TXDCTL(q) / 4] & IGB_DCTL_ENABLE) ||
	    !(d->reg[IGB_TCTL / 4] & IGB_TCTL_EN) ||
	    !(d->reg[IGB_VFTE / 4] >> q % IGB_POOLS & 1))
		return;
	while (*head != d->reg[IGB_TDT(q) / 4] && *head < n) {
		tx_one(d, q, &ring[*head]);
		*head = (*head + 1) % n;
	}
}

static void pf_write(struct fake_igb *d, uint32_t off, uint32_t val)
{
	uint32_t *r = &d->reg[off / 4];

	d->pf_writes++;
	for (unsigned int n = 0; n < IGB_POOLS; n++) {
		if (off == (uint32_t)IGB_P2VMAILBOX(n)) {
			p2v_write(d, n, val);
			return;
		}
		if (off == (uint32_t)IGB_PVTCTRL(n) && val & IGB_CTRL_RST) {
			vf_reset(d, n);
			return;
		}
	}
	switch (off) {
	case IGB_CTRL:
		if (val & IGB_CTRL_RST)
			reset_regs(d);
		else
			*r = val;
		break;
	case IGB_MBVFICR:
	case IGB_VFLRE:
		*r &= ~val; /* write one to clear */
		break;
	case IGB_IMS:
		*r |= val;
		raise_irq(d, 0);
		break;
	case IGB_IMC: d->reg[IGB_IMS / 4] &= ~val; break;
	case IGB_EIMS:
		d->eims |= val;
		raise_irq(d, 0);
		break;
	case IGB_EIMC: d->eims &= ~val; break;
	case IGB_STATUS: break;
	case IGB_MDIC: *r = val | IGB_MDIC_READY; break;
	case IGB_CTRL_EXT:
		if (val & IGB_CTRL_EXT_PFRSTD)
			for (unsigned int n = 0; n < IGB_POOLS; n++)
				d->v2p[n] = (d->v2p[n] & ~IGB_V2P_RSTI) |
					    IGB_V2P_RSTD;
		*r = val & ~IGB_CTRL_EXT_PFRSTD;
		break;
	default: *r = val;
	}
	for (unsigned int q = 0; q < IGB_QUEUES_82576; q++)
		if (off == (uint32_t)IGB_TDT(q))
			tx_run(d, q);
}

static uint32_t vf_read(struct fake_igb *d, unsigned int vf, uint32_t off)
{
	uint32_t v;

	if (off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 4 * IGBVF_MBX_WORDS)
		return d->reg[(IGB_VMBMEM(vf) + off - IGBVF_VMBMEM) / 4];
	if (off == IGBVF_STATUS)
		return d->reg[IGB_STATUS / 4];
	if (off != IGBVF_V2PMAILBOX)
		return 0;
	v = d->v2p[vf];
	d->v2p[vf] &= ~IGB_V2P_R2C;
	return v;
}

static void vf_write(struct fake_igb *d, unsigned int vf, uint32_t off,
		     uint32_t val)
{
	if (off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 4 * IGBVF_MBX_WORDS)
		d->reg[(IGB_VMBMEM(vf) + off - IGBVF_VMBMEM) / 4] = val;
	if (off == IGBVF_CTRL && val & IGB_CTRL_RST)
		vf_reset(d, vf);
	if (off != IGBVF_V2PMAILBOX)
		return;
	if (!(val & IGB_V2P_VFU))
		d->v2p[vf] &= ~IGB_V2P_VFU;
	else if (!(d->v2p[vf] & IGB_V2P_PFU))
		d->v2p[vf] |= IGB_V2P_VFU;
	if (val & IGB_V2P_REQ)
		d->reg[IGB_MBVFICR / 4] |= 1u << (IGB_MBVFICR_REQ_SHIFT + vf);
	if (val & IGB_V2P_ACK)
		d->reg[IGB_MBVFICR / 4] |= 1u << (IGB_MBVFICR_ACK_SHIFT + vf);
	if (val & (IGB_V2P_REQ | IGB_V2P_ACK))
		raise_irq(d, IGB_ICR_VMMB);
}

uint32_t fake_igb_vf_read(struct fake_igb *d, unsigned int vf, uint32_t off)
{
	uint32_t v;

	pthread_mutex_lock(&d->lock);
	v = vf_read(d, vf, off);
	pthread_mutex_unlock(&d->lock);
	return v;
}

void fake_igb_vf_write(struct fake_igb *d, unsigned int vf, uint32_t off,
		       uint32_t val)
{
	pthread_mutex_lock(&d->lock);
	vf_write(d, vf, off, val);
	pthread_mutex_unlock(&d->lock);
}

void fake_igb_set_link(struct fake_igb *d, bool up)
{
	d->reg[IGB_STATUS / 4] = up ? IGB_STATUS_LU | IGB_STATUS_FD : 0;
	raise_irq(d, IGB_ICR_LSC);
}

static int op_read(struct pdev *p, unsigned int region, uint64_t off, void *buf,
		   size_t len)
{
	struct fake_igb *d = dev(p);
	uint32_t v;

	if (region == PDEV_CONFIG) {
		memcpy(buf, d->cfg.val + off, len);
		return 0;
	}
	if (region != PDEV_BAR0 || len != 4)
		return -EINVAL;
	pthread_mutex_lock(&d->lock);
	v = pf_read(d, (uint32_t)off);
	pthread_mutex_unlock(&d->lock);
	memcpy(buf, &v, 4);
	return 0;
}

static int op_write(struct pdev *p, unsigned int region, uint64_t off,
		    const void *buf, size_t len)
{
	struct fake_igb *d = dev(p);
	uint32_t v = 0;

	if (len > 4)
		return -EINVAL;
	memcpy(&v, buf, len);
	if (region == PDEV_CONFIG)
		pci_config_write(&d->cfg, (uint32_t)off, (unsigned int)len, v);
	else if (region == PDEV_BAR0 && len == 4) {
		pthread_mutex_lock(&d->lock);
		pf_write(d, (uint32_t)off, v);
		pthread_mutex_unlock(&d->lock);
	} else
		return -EINVAL;
	return 0;
}

static int op_irq_set(struct pdev *p, unsigned int index, unsigned int start,
		      unsigned int count, const int *fds)
{
	struct fake_igb *d = dev(p);

	d->irqfd = count ? fds[0] : -1;
	return 0;
}

static void op_close(struct pdev *p)
{
	dev(p)->irqfd = -1;
	dev(p)->open = false;
}

static int op_dma_map(struct pdev *p, const struct pdev_dma *m)
{
	if (dev(p)->dma.size)
		return -EBUSY;
	dev(p)->dma = *m;
	return 0;
}

static int op_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	memset(&dev(p)->dma, 0, sizeof(dev(p)->dma));
	return 0;
}

static const struct pdev_ops ops = {
	.name = "fake",
	.close = op_close,
	.read = op_read,
	.write = op_write,
	.irq_set = op_irq_set,
	.dma_map = op_dma_map,
	.dma_unmap = op_dma_unmap,
};

struct pdev *fake_igb_pdev(struct fake_igb *d)
{
	d->open = true;
	return &d->p;
}

void fake_igb_init(struct fake_igb *d, uint16_t device)
{
	const struct pci_ident id = { .vendor = IGB_VENDOR_INTEL,
				      .device = device,
				      .class_code = 0x020000 };
	const struct pci_sriov sriov = {
		.total_vfs = IGB_POOLS,
		.first_offset = 0x80,
		.stride = 2,
		.vf_device =
			(uint16_t)(device == IGB_DEV_I350 ? IGB_DEV_I350_VF
							  : IGB_DEV_82576_VF),
		.vf_bar_size = { IGBVF_BAR0_SIZE, 0, 0, IGBVF_BAR3_SIZE },
	};

	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
	d->irqfd = -1;
	pci_config_init(&d->cfg, &id);
	/* Something in front, so that the list has to be walked. */
	pci_config_ecap(&d->cfg, 0x0003, 1, 0x100, 12);
	pci_sriov_add(&d->cfg, SRIOV_AT, &sriov);
	d->sriov = SRIOV_AT;
	reset_regs(d);
	d->pf_resets = 0;

	d->p.ops = &ops;
	strcpy(d->p.name, "fake:pf");
	d->p.region[PDEV_BAR0] =
		(struct pdev_region){ .size = IGB_PF_BAR0_SIZE,
				      .flags = PDEV_READ | PDEV_WRITE };
	d->p.region[PDEV_CONFIG] =
		(struct pdev_region){ .size = PCI_CONFIG_SIZE,
				      .flags = PDEV_READ | PDEV_WRITE };
	d->p.nirqs[PDEV_MSIX] = IGB_VECTORS_PF;
}
