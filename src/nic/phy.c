/*
 * PHY and NVM: what a driver needs to find a port and to see its link.
 *
 * The copper PHY negotiates at power-up, at a PHY reset and when told to,
 * for AN_NS, and then has a link if the cable has.  STATUS.LU also needs
 * CTRL.SLU.  The NVM is read-only and has no flash behind it.
 * Sources: 82576 8.2.4 (MDIC), 3.5.8 (PHY registers), 6.0 (NVM map);
 * IEEE 802.3 clause 22 for registers 0..15.
 */
#include <string.h>

#include "nic/nic_int.h"

#define AN_NS	       50000000ull
#define PHY_ADDR       1u
#define PHY_PAGE       31 /* page select of the 82576's PHY */
#define NVM_SUM	       0xbabau
#define NVM_SECTION    0x40u   /* words, the last is the checksum */
#define BMSR_ABILITIES 0x7949u /* without link and AN-complete */
#define PHY_LOOPBACK   0x4000u

static void negotiate(struct nic *nic)
{
	nic->phy.reg[IGB_PHY_BMSR] &=
		(uint16_t) ~(IGB_BMSR_LINK | IGB_BMSR_AN_DONE);
	nic->phy.an_done =
		nic->now +
		(nic->conf.autoneg_ns ? nic->conf.autoneg_ns : AN_NS);
	nic_link_update(nic);
}

void nic_phy_reset(struct nic *nic)
{
	struct nic_phy *p = &nic->phy;

	memset(p->reg, 0, sizeof(p->reg));
	p->page = 0;
	p->reg[IGB_PHY_BMCR] = 0x1140; /* autoneg, 1000, full duplex */
	p->reg[IGB_PHY_BMSR] = BMSR_ABILITIES;
	p->reg[IGB_PHY_ID1] = (uint16_t)(nic->m->phy_id >> 16);
	p->reg[IGB_PHY_ID2] = (uint16_t)nic->m->phy_id;
	p->reg[4] = 0x0de1;  /* ANAR: 10/100, both pauses */
	p->reg[5] = 0x45e1;  /* ANLPAR: the partner, with pause */
	p->reg[6] = 0x0005;  /* ANER: page, partner negotiates */
	p->reg[9] = 0x0300;  /* 1000BASE-T control */
	p->reg[10] = 0x3c00; /* partner has 1000BASE-T, receivers fine */
	p->reg[15] = 0x3000; /* 1000BASE-T abilities */
	if (nic->conf.model == NIC_82576)
		p->reg[17] = 0xc000; /* port status: 1000 Mb/s */
	else
		p->reg[26] = 0x0200; /* PHY status 2: 1000 Mb/s */
	negotiate(nic);
}

void nic_phy_timer(struct nic *nic)
{
	struct nic_phy *p = &nic->phy;

	if (!p->an_done || nic->now < p->an_done)
		return;
	p->an_done = 0;
	if (p->carrier && !(p->reg[IGB_PHY_BMCR] & IGB_BMCR_POWER_DOWN))
		p->reg[IGB_PHY_BMSR] |= IGB_BMSR_LINK | IGB_BMSR_AN_DONE;
	nic_link_update(nic);
}

void nic_set_carrier(struct nic *nic, bool up)
{
	if (nic->phy.carrier == up)
		return;
	nic->phy.carrier = up;
	nic->now = now_ns();
	negotiate(nic);
}

void nic_link_update(struct nic *nic)
{
	bool up = nic->phy.reg[IGB_PHY_BMSR] & IGB_BMSR_LINK &&
		  REG(nic, IGB_CTRL) & IGB_CTRL_SLU;

	if (up == !!(REG(nic, IGB_STATUS) & IGB_STATUS_LU))
		return;
	REG(nic, IGB_STATUS) ^= IGB_STATUS_LU;
	for (unsigned int i = 0; i < NIC_VFS_MAX; i++)
		nic_publish(nic, i, IGBVF_STATUS);
	nic_raise_other(nic, IGB_ICR_LSC);
}

static void phy_write(struct nic *nic, unsigned int reg, uint16_t v)
{
	struct nic_phy *p = &nic->phy;

	switch (reg) {
	case IGB_PHY_BMCR:
		if (v & IGB_BMCR_RESET) {
			nic_phy_reset(nic);
			return;
		}
		p->reg[reg] = (uint16_t)(v & ~IGB_BMCR_AN_RESTART);
		if (v & IGB_BMCR_POWER_DOWN ||
		    (v & IGB_BMCR_AN_RESTART && v & IGB_BMCR_AN_ENABLE))
			negotiate(nic);
		break;
	case IGB_PHY_BMSR:
	case IGB_PHY_ID1:
	case IGB_PHY_ID2:
	case 5:
	case 6:
	case 10:
	case 15: break; /* read-only */
	case 17:
		if (nic->conf.model == NIC_82576)
			break;
		/* fallthrough */
	default: p->reg[reg] = v;
	}
}

uint32_t nic_mdic(struct nic *nic, uint32_t v)
{
	unsigned int reg = (v & IGB_MDIC_REG) >> IGB_MDIC_REG_SHIFT;
	unsigned int phy = (v & IGB_MDIC_PHY) >> IGB_MDIC_PHY_SHIFT;
	struct nic_phy *p = &nic->phy;
	bool paged;

	/* The I350 takes the PHY's address from MDICNFG. */
	if (nic->conf.model == NIC_82576 && phy != PHY_ADDR)
		return v | IGB_MDIC_READY | IGB_MDIC_ERROR;

	/* Registers 16..30 of another page are not modelled: zero. */
	paged = nic->conf.model == NIC_82576 && reg > 15 && reg != PHY_PAGE &&
		p->page > 31;
	if (v & IGB_MDIC_OP_READ) {
		v &= ~IGB_MDIC_DATA;
		v |= reg == PHY_PAGE && nic->conf.model == NIC_82576 ? p->page
		     : paged					     ? 0
			     : p->reg[reg];
	} else if (v & IGB_MDIC_OP_WRITE) {
		if (reg == PHY_PAGE && nic->conf.model == NIC_82576)
			p->page = (uint16_t)v;
		else if (!paged)
			phy_write(nic, reg, (uint16_t)v);
	}
	return (v | IGB_MDIC_READY) & ~IGB_MDIC_ERROR;
}

/* One section of the map, from 'at' on, with its checksum. */
static void section(struct nic *nic, uint32_t at)
{
	uint16_t *w = nic->nvm + at, sum = 0;
	const uint8_t *mac = nic->conf.mac;

	for (unsigned int i = 0; i < 3; i++)
		w[i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
	w[0x03] = 0x0d30; /* compatibility: no media autosense */
	w[0x08] = 0x5047; /* board number, shown by drivers */
	w[0x09] = 0x5552;
	w[0x0a] = 0x002b; /* init control 1 */
	w[0x0b] = nic->m->pf_device;
	w[0x0c] = 0;
	w[0x0d] = nic->m->pf_device;
	w[0x0e] = IGB_VENDOR_INTEL;
	w[0x0f] = 0x70c3; /* init control 2 */
	w[0x24] = 0x2080; /* init control 3 */
	w[0x26] = nic->m->vf_device;
	for (uint32_t i = 0; i < NVM_SECTION - 1; i++)
		sum = (uint16_t)(sum + w[i]);
	w[NVM_SECTION - 1] = (uint16_t)(NVM_SUM - sum);
}

void nic_nvm_init(struct nic *nic)
{
	memset(nic->nvm, 0xff, sizeof(nic->nvm));
	/* The I350 has a section a port; drivers check all four. */
	section(nic, 0);
	for (uint32_t at = 0x80; at <= 0x100; at += NVM_SECTION)
		section(nic, at);
}

uint32_t nic_eerd(struct nic *nic, uint32_t v)
{
	uint32_t addr = (v & 0xffff) >> IGB_EERD_ADDR_SHIFT;

	if (!(v & IGB_EERD_START))
		return v & ~IGB_EERD_DONE;
	v &= 0xffffu & ~IGB_EERD_START;
	return v | IGB_EERD_DONE |
	       (uint32_t)(addr < NIC_NVM_WORDS ? nic->nvm[addr] : 0xffff)
		       << IGB_EERD_DATA_SHIFT;
}
