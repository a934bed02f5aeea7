/*
 * Bringing a PF up, and its interrupt.
 *
 * The order is that of Linux igb's igb_reset and igb_configure, without the
 * parts of a PF that itself sends and receives: ours is no station.
 */
#include <errno.h>
#include <time.h>

#include "igb/pf_priv.h"

#define PHY_ADDR   1u /* 82576 and I350 copper */
#define IRQ_VECTOR 0u
#define CAUSES	   (IGB_ICR_LSC | IGB_ICR_VMMB)
#define TCTL_CT	   (0x0fu << 4)	 /* collision threshold */
#define TCTL_COLD  (0x40u << 12) /* collision distance, full duplex */

static void wait_us(unsigned int us)
{
	const struct timespec ts = { .tv_nsec = (long)us * 1000 };

	nanosleep(&ts, NULL);
}

uint32_t pf_rd(struct pf *pf, uint32_t reg)
{
	uint32_t v = UINT32_MAX;
	int ret = pdev_read32(pf->pdev, PDEV_BAR0, reg, &v);

	if (ret < 0 && !pf->gone) {
		pf->gone = true;
		log_error("%s: the device does not answer (%d)", pf->name, ret);
	}
	return v;
}

void pf_wr(struct pf *pf, uint32_t reg, uint32_t val)
{
	int ret = pdev_write32(pf->pdev, PDEV_BAR0, reg, val);

	if (ret < 0 && !pf->gone) {
		pf->gone = true;
		log_error("%s: the device takes no writes (%d)", pf->name, ret);
	}
}

/* Until (reg & mask) == want, at most 'ms'. */
static int poll_reg(struct pf *pf, uint32_t reg, uint32_t mask, uint32_t want,
		    unsigned int ms)
{
	for (unsigned int i = 0; i < ms * 10; i++) {
		if ((pf_rd(pf, reg) & mask) == want)
			return 0;
		if (pf->gone)
			return -ENODEV;
		wait_us(100);
	}
	return -ETIMEDOUT;
}

static int phy_write(struct pf *pf, unsigned int reg, uint16_t val)
{
	pf_wr(pf, IGB_MDIC,
	      val | reg << IGB_MDIC_REG_SHIFT | PHY_ADDR << IGB_MDIC_PHY_SHIFT |
		      IGB_MDIC_OP_WRITE);
	return poll_reg(pf, IGB_MDIC, IGB_MDIC_READY, IGB_MDIC_READY, 20);
}

static int phy_read(struct pf *pf, unsigned int reg, uint16_t *val)
{
	int ret;

	pf_wr(pf, IGB_MDIC,
	      reg << IGB_MDIC_REG_SHIFT | PHY_ADDR << IGB_MDIC_PHY_SHIFT |
		      IGB_MDIC_OP_READ);
	ret = poll_reg(pf, IGB_MDIC, IGB_MDIC_READY, IGB_MDIC_READY, 20);
	*val = (uint16_t)pf_rd(pf, IGB_MDIC);
	return ret;
}

/* Link comes up later, with an interrupt; the emulator needs the restart. */
static void phy_start(struct pf *pf)
{
	uint16_t bmcr = 0;

	if (phy_read(pf, IGB_PHY_BMCR, &bmcr) < 0 ||
	    phy_write(pf, IGB_PHY_BMCR,
		      IGB_BMCR_AN_ENABLE | IGB_BMCR_AN_RESTART) < 0)
		log_warn("%s: the PHY does not answer; link may stay down",
			 pf->name);
}

static int reset(struct pf *pf)
{
	int ret;

	pf_wr(pf, IGB_IMC, UINT32_MAX);
	pf_wr(pf, IGB_EIMC, UINT32_MAX);
	pf_wr(pf, IGB_RCTL, 0);
	pf_wr(pf, IGB_TCTL, IGB_TCTL_PSP);
	pf_rd(pf, IGB_STATUS);
	wait_us(10000); /* igb_reset_hw: let what is on the bus finish */

	pf_wr(pf, IGB_CTRL, pf_rd(pf, IGB_CTRL) | IGB_CTRL_RST);
	wait_us(1000);
	ret = poll_reg(pf, IGB_CTRL, IGB_CTRL_RST, 0, 100);
	if (ret < 0)
		return ret;
	/* No EEPROM is no failure (igb_get_auto_rd_done warns only). */
	if (poll_reg(pf, IGB_EECD, IGB_EECD_AUTO_RD, IGB_EECD_AUTO_RD, 50) < 0)
		log_debug("%s: no auto-read done", pf->name);
	pf_wr(pf, IGB_IMC, UINT32_MAX);
	pf_wr(pf, IGB_EIMC, UINT32_MAX);
	pf_rd(pf, IGB_ICR);
	return 0;
}

static void switch_on(struct pf *pf)
{
	for (unsigned int i = 0; i < IGB_POOLS; i++)
		pf_wr(pf, IGB_VMVIR(i), 0);
	for (unsigned int i = 0; i < 128; i++)
		pf_wr(pf, IGB_UTA(i), 0);

	pf_wr(pf, IGB_MRQC, IGB_MRQC_VMDQ);
	/* What no filter wants goes to nobody. */
	pf_wr(pf, IGB_VT_CTL, IGB_VT_CTL_DIS_DEFAULT | IGB_VT_CTL_REPL);
	pf_wr(pf, IGB_RLPML, MBX_FRAME_MAX);
	/* A VF that refills too slowly must not stop the others. */
	pf_wr(pf, IGB_QDE, (1u << pf->gen->pf_queues) - 1);
	pf_wr(pf, IGB_VFRE, 0);
	pf_wr(pf, IGB_VFTE, 0);

	pf_wr(pf, IGB_CTRL,
	      (pf_rd(pf, IGB_CTRL) | IGB_CTRL_SLU | IGB_CTRL_VME) &
		      ~IGB_CTRL_GIO_MASTER_DISABLE);
	pf_wr(pf, IGB_RCTL,
	      IGB_RCTL_EN | IGB_RCTL_BAM | IGB_RCTL_LPE | IGB_RCTL_VFE |
		      IGB_RCTL_SECRC);
	pf_wr(pf, IGB_TCTL, IGB_TCTL_EN | IGB_TCTL_PSP | TCTL_CT | TCTL_COLD);
}

void pf_hw_irq_on(struct pf *pf)
{
	/* One vector, for "other" causes (igb_configure_msix, 82576). */
	pf_wr(pf, IGB_GPIE,
	      IGB_GPIE_NSICR | IGB_GPIE_MULTIPLE_MSIX | IGB_GPIE_PBA |
		      IGB_GPIE_EIAME);
	pf_wr(pf, IGB_IVAR_MISC, (IRQ_VECTOR | IGB_IVAR_VALID) << 8);
	/* A cause that nobody clears would fire again at each EIMS write. */
	pf_wr(pf, IGB_EIAC, 1u << IRQ_VECTOR);
	pf_wr(pf, IGB_EIAM, 1u << IRQ_VECTOR);
	pf_wr(pf, IGB_EIMS, 1u << IRQ_VECTOR);
	pf_wr(pf, IGB_MBVFIMR, 0xff);
	pf_rd(pf, IGB_ICR);
	pf_wr(pf, IGB_IMS, CAUSES);
}

void pf_hw_irq_off(struct pf *pf)
{
	pf_wr(pf, IGB_IMC, UINT32_MAX);
	pf_wr(pf, IGB_EIMC, UINT32_MAX);
}

bool pf_hw_link(struct pf *pf)
{
	uint32_t status = pf_rd(pf, IGB_STATUS);

	return !pf->gone && status & IGB_STATUS_LU;
}

/* Left by a driver that died while VFs were in use? */
static bool runs(struct pf *pf)
{
	return pf_rd(pf, IGB_CTRL_EXT) & IGB_CTRL_EXT_DRV_LOAD &&
	       (pf_rd(pf, IGB_MRQC) & IGB_MRQC_MODE) == IGB_MRQC_VMDQ &&
	       pf_rd(pf, IGB_RCTL) & IGB_RCTL_EN && !pf->gone;
}

int pf_hw_start(struct pf *pf, struct err *e)
{
	uint16_t command;
	bool vfs_on;
	int ret;

	ret = pdev_read(pf->pdev, PDEV_CONFIG, 4, &command, 2);
	command |= 0x6; /* memory, bus master */
	if (ret == 0)
		ret = pdev_write(pf->pdev, PDEV_CONFIG, 4, &command, 2);
	if (ret < 0)
		return err_sys(e, ret, "%s: configuration space", pf->name);

	ret = pf_sriov_enable(pf, pf->conf.vfs, &vfs_on, e);
	if (ret < 0)
		return ret;
	pf->running_before = vfs_on && runs(pf);
	if (pf->running_before) {
		pf_filters_inherit(pf);
		return 0;
	}

	ret = reset(pf);
	if (ret < 0)
		return err_sys(e, ret, "%s: reset does not end", pf->name);
	switch_on(pf);
	pf_filters_read(pf);
	ret = pf_filters_write(pf);
	if (ret < 0)
		return err_sys(e, ret, "%s: filters", pf->name);
	phy_start(pf);
	/* The VFs' drivers may go on: RSTI off, RSTD on. */
	pf_wr(pf, IGB_CTRL_EXT,
	      pf_rd(pf, IGB_CTRL_EXT) | IGB_CTRL_EXT_PFRSTD |
		      IGB_CTRL_EXT_DRV_LOAD);
	return pf->gone ? err_set(e, -ENODEV, "%s: the device went away",
				  pf->name)
			: 0;
}
