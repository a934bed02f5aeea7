/*
 * The PF's registers, one row each (or one row an array).
 *
 * A row says where, how many, what a reset leaves, which bits can be
 * written, and what reading or writing does beyond that.  A register that
 * has no row reads as 0 and takes no write, as an unused address does.
 * Sources: 82576 data sheet chapter 8, I350 data sheet chapter 8.
 */
#include <string.h>

#include "nic/nic_int.h"

enum kind {
	RW, /* masked */
	RO,
	W1C, /* write one to clear */
	RC,  /* read clears, and writes count for nothing */
};

struct row {
	uint32_t off;
	uint16_t count, stride;
	uint32_t reset, mask;
	uint8_t kind;
	uint8_t models; /* bit a model; 0: all */
	/* 'i' counts within the row.  NULL: what 'kind' says. */
	uint32_t (*rd)(struct nic *nic, const struct row *r, unsigned int i);
	void (*wr)(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v);
};

#define ALL 0xffffffffu

static uint32_t status_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	uint32_t v = REG(nic, IGB_STATUS) | nic->num_vfs
						    << IGB_STATUS_NUM_VFS_SHIFT;

	if (nic->num_vfs)
		v |= IGB_STATUS_IOV;
	if (!(REG(nic, IGB_CTRL) & IGB_CTRL_GIO_MASTER_DISABLE))
		v |= IGB_STATUS_GIO_MASTER;
	return v;
}

/* Only PHYRA and the reset notice can be cleared, by writing 0 and 1. */
static void status_wr(struct nic *nic, const struct row *r, unsigned int i,
		      uint32_t v)
{
	if (!(v & IGB_STATUS_PHYRA))
		REG(nic, IGB_STATUS) &= ~IGB_STATUS_PHYRA;
	if (v & IGB_STATUS_DEV_RST_SET)
		REG(nic, IGB_STATUS) &= ~IGB_STATUS_DEV_RST_SET;
}

static void ctrl_wr(struct nic *nic, const struct row *r, unsigned int i,
		    uint32_t v)
{
	bool dev_rst = nic->conf.model == NIC_I350 && v & IGB_CTRL_DEV_RST;

	if (v & IGB_CTRL_RST || dev_rst) {
		nic_reset_all(nic);
		if (dev_rst)
			REG(nic, IGB_STATUS) |= IGB_STATUS_DEV_RST_SET;
		return;
	}
	REG(nic, IGB_CTRL) = v & ~(IGB_CTRL_PHY_RST | IGB_CTRL_DEV_RST);
	if (v & IGB_CTRL_PHY_RST)
		nic_phy_reset(nic);
	nic_link_update(nic);
}

static void ctrl_ext_wr(struct nic *nic, const struct row *r, unsigned int i,
			uint32_t v)
{
	REG(nic, IGB_CTRL_EXT) = v & r->mask;
	if (v & IGB_CTRL_EXT_PFRSTD)
		nic_mbx_pf_ready(nic);
}

static void eecd_wr(struct nic *nic, const struct row *r, unsigned int i,
		    uint32_t v)
{
	uint32_t keep = r->reset & ~(IGB_EECD_REQ | IGB_EECD_GNT);

	if (v & IGB_EECD_REQ)
		keep |= IGB_EECD_REQ | IGB_EECD_GNT;
	REG(nic, IGB_EECD) = keep;
}

static void eerd_wr(struct nic *nic, const struct row *r, unsigned int i,
		    uint32_t v)
{
	REG(nic, IGB_EERD) = nic_eerd(nic, v);
}

static void mdic_wr(struct nic *nic, const struct row *r, unsigned int i,
		    uint32_t v)
{
	REG(nic, IGB_MDIC) = nic_mdic(nic, v);
}

/* Reading takes the semaphore (82576 8.16.1). */
static uint32_t swsm_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	uint32_t v = REG(nic, IGB_SWSM);

	REG(nic, IGB_SWSM) |= IGB_SWSM_SMBI;
	return v;
}

static uint32_t icr_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_icr_read(nic);
}

static void icr_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	REG(nic, IGB_ICR) &= ~v;
}

static void ics_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic_raise_other(nic, v & ~IGB_ICR_INTA);
}

static uint32_t zero_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return 0;
}

static void ims_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic_ims_write(nic, v & r->mask);
}

static void imc_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	REG(nic, IGB_IMS) &= ~v;
}

static uint32_t eintr_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_intr_read(nic, &nic->fn[NIC_PF], r->off);
}

static void eintr_wr(struct nic *nic, const struct row *r, unsigned int i,
		     uint32_t v)
{
	nic_intr_write(nic, &nic->fn[NIC_PF], r->off, v);
}

/* The top of the EITR array belongs to the VFs, three vectors each. */
static uint32_t *eitr(struct nic *nic, unsigned int i)
{
	unsigned int vf = (IGB_EICR_BITS - 1 - i) / IGB_VECTORS_VF;

	if (vf < nic->num_vfs)
		return &nic->vf[vf].intr.eitr[i - IGB_VF_EICR_SHIFT(vf)];
	return &nic->intr.eitr[i];
}

static uint32_t eitr_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return *eitr(nic, i);
}

static void eitr_wr(struct nic *nic, const struct row *r, unsigned int i,
		    uint32_t v)
{
	*eitr(nic, i) = v & r->mask;
}

/* A VF's block as the PF sees it: same registers, other addresses. */
static uint32_t pv_off(const struct row *r)
{
	static const struct {
		uint16_t pv, vf;
	} map[] = {
		{ 0x20, IGBVF_EICS }, { 0x24, IGBVF_EIMS },
		{ 0x28, IGBVF_EIMC }, { 0x2c, IGBVF_EIAC },
		{ 0x30, IGBVF_EIAM }, { 0x80, IGBVF_EICR },
	};
	uint32_t off = r->off & 0xff;

	for (unsigned int k = 0; k < ARRAY_SIZE(map); k++)
		if (map[k].pv == off)
			return map[k].vf;
	return off < 0x10 ? off : 0xf00 + off;
}

static uint32_t pv_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_vf_read(nic, i, pv_off(r));
}

static void pv_wr(struct nic *nic, const struct row *r, unsigned int i,
		  uint32_t v)
{
	nic_vf_write(nic, i, pv_off(r), v);
}

static uint32_t p2v_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_mbx_pf_read(nic, i);
}

static void p2v_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic_mbx_pf_write(nic, i, v);
}

static uint32_t v2p_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_mbx_vf_read(nic, i);
}

static uint32_t vmbmem_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_vf_read(nic, i / IGBVF_MBX_WORDS,
			   IGBVF_VMBMEM + i % IGBVF_MBX_WORDS * 4);
}

static void vmbmem_wr(struct nic *nic, const struct row *r, unsigned int i,
		      uint32_t v)
{
	nic_vf_write(nic, i / IGBVF_MBX_WORDS,
		     IGBVF_VMBMEM + i % IGBVF_MBX_WORDS * 4, v);
}

static void rar_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic->reg[r->off / 4 + i * r->stride / 4] = v & r->mask;
	nic->rars_stale = true;
}

static uint32_t frtimer_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return (uint32_t)(nic->now / 1000); /* microseconds */
}

static uint32_t systim_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return (uint32_t)(i ? nic->now >> 32 : nic->now);
}

/* The old places of queues 0..3 are 0x100 apart, the new ones 0x40. */
static uint32_t rxq_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_rxq_read(nic, i, r->off & (r->stride - 1));
}

static void rxq_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic_rxq_write(nic, i, r->off & (r->stride - 1), v);
}

static uint32_t txq_rd(struct nic *nic, const struct row *r, unsigned int i)
{
	return nic_txq_read(nic, i, r->off & (r->stride - 1));
}

static void txq_wr(struct nic *nic, const struct row *r, unsigned int i,
		   uint32_t v)
{
	nic_txq_write(nic, i, r->off & (r->stride - 1), v);
}

#define M82576 BIT(NIC_82576)
#define MI350  BIT(NIC_I350)

#define QROWS(dir, off, old)                                       \
	{                                                          \
		(off), IGB_QUEUES_82576, 0x40,	   0,	    ALL,   \
		RW,    M82576,		 dir##_rd, dir##_wr        \
	},                                                         \
		{ (off), IGB_QUEUES_I350, 0x40,	    0,	     ALL,  \
		  RW,	 MI350,		  dir##_rd, dir##_wr },    \
	{                                                          \
		(old), 4, 0x100, 0, ALL, RW, 0, dir##_rd, dir##_wr \
	}
#define RXROWS(o) QROWS(rxq, 0xc000 + (o), 0x2800 + (o))
#define TXROWS(o) QROWS(txq, 0xe000 + (o), 0x3800 + (o))
#define PVROW(o)                                                  \
	{                                                         \
		0x10000 + (o), 8, 0x100, 0, 0, RO, 0, pv_rd, NULL \
	}
#define PVROW_W(o)                                                 \
	{                                                          \
		0x10000 + (o), 8, 0x100, 0, 0, RO, 0, pv_rd, pv_wr \
	}

/* clang-format off */
static const struct row rows[] = {
	{ 0 },	/* "none" */
	/* offset	count stride reset	mask	kind models rd wr */
	{ IGB_CTRL,	1, 4, 0x00000241, ALL, RW, 0, NULL, ctrl_wr },
	{ IGB_STATUS,	1, 4, IGB_STATUS_FD | IGB_STATUS_SPEED_1000 |
			      IGB_STATUS_LAN_INIT_DONE | IGB_STATUS_PHYRA |
			      IGB_STATUS_PF_RST_DONE, 0, RO, 0,
			      status_rd, status_wr },
	{ IGB_EECD,	1, 4, IGB_EECD_PRES | IGB_EECD_AUTO_RD |
			      3u << IGB_EECD_SIZE_SHIFT, 0, RW, 0,
			      NULL, eecd_wr },
	{ IGB_EERD,	1, 4, 0, ALL, RW, 0, NULL, eerd_wr },
	{ IGB_CTRL_EXT,	1, 4, 0, ALL & ~(IGB_CTRL_EXT_PFRSTD |
			      IGB_CTRL_EXT_LINK_MODE), RW, 0,
			      NULL, ctrl_ext_wr },
	{ IGB_MDIC,	1, 4, IGB_MDIC_READY, ALL, RW, 0, NULL, mdic_wr },
	{ IGB_SCTL,	1, 4, 0, ALL, RW },
	{ IGB_FCAL,	3, 4, 0, ALL, RW },	/* FCAL, FCAH, FCT */
	{ IGB_CONNSW,	1, 4, 0, ALL, RW },
	{ IGB_VET,	1, 4, 0x81008100, ALL, RW },
	{ IGB_ICR,	1, 4, 0, 0, RC, 0, icr_rd, icr_wr },
	{ 0xc4,		1, 4, 0, ALL, RW },	/* ITR */
	{ IGB_ICS,	1, 4, 0, 0, RW, 0, zero_rd, ics_wr },
	{ IGB_IMS,	1, 4, 0, 0x7fffffff, RW, 0, NULL, ims_wr },
	{ IGB_IMC,	1, 4, 0, 0, RW, 0, zero_rd, imc_wr },
	{ IGB_IAM,	1, 4, 0, ALL, RW },
	{ IGB_RCTL,	1, 4, 0, ALL, RW },
	{ IGB_FCTTV,	1, 4, 0, ALL, RW },
	{ IGB_TXCW,	1, 4, 0, ALL, RW },
	{ IGB_TCTL,	1, 4, 0xa40400f8, ALL, RW },
	{ IGB_TCTL_EXT,	1, 4, 0x00010840, ALL, RW },
	{ IGB_TIPG,	1, 4, 0x00601008, ALL, RW },
	{ IGB_VMBMEM(0), 8 * IGBVF_MBX_WORDS, 4, 0, ALL, RW, 0,
			 vmbmem_rd, vmbmem_wr },
	{ IGB_P2VMAILBOX(0), 8, 4, 0, 0, RW, 0, p2v_rd, p2v_wr },
	{ IGB_V2PMAILBOX(0), 8, 4, 0, 0, RO, 0, v2p_rd, NULL },
	{ IGB_MBVFICR,	1, 4, 0, 0x00ff00ff, W1C },
	{ IGB_MBVFIMR,	1, 4, 0xff, 0xff, RW },
	{ IGB_VFLRE,	1, 4, 0, 0xff, W1C },
	{ IGB_VFRE,	1, 4, 0xff, 0xff, RW },
	{ IGB_VFTE,	1, 4, 0xff, 0xff, RW },
	{ IGB_LEDCTL,	1, 4, 0x07068302, ALL, RW },
	{ IGB_MDICNFG,	1, 4, 0x00200000, ALL, RW, MI350 },
	{ 0x0e14,	1, 4, 0, ALL, RW },	/* PHPM */
	{ IGB_EEER,	1, 4, 0, ALL, RW, MI350 },
	{ 0x0e34,	1, 4, 0, ALL, RW, MI350 },	/* EEE_SU */
	{ IGB_IPCNFG,	1, 4, 0, ALL, RW, MI350 },
	{ IGB_PBA,	1, 4, 0x00140022, ALL, RW },
	{ IGB_EEMNGCTL,	1, 4, 0x80040000, 0, RO },
	{ IGB_I2CCMD,	1, 4, 0x20000000, 0, RO },
	{ IGB_FRTIMER,	1, 4, 0, 0, RO, 0, frtimer_rd, NULL },
	{ IGB_GPIE,	1, 4, 0, 0xc0000f91, RW },
	{ IGB_EICS,	1, 4, 0, 0, RW, 0, eintr_rd, eintr_wr },
	{ IGB_EIMS,	1, 4, 0, 0, RW, 0, eintr_rd, eintr_wr },
	{ IGB_EIMC,	1, 4, 0, 0, RW, 0, eintr_rd, eintr_wr },
	{ IGB_EIAC,	1, 4, 0, 0, RW, 0, eintr_rd, eintr_wr },
	{ IGB_EIAM,	1, 4, 0, 0, RW, 0, eintr_rd, eintr_wr },
	{ IGB_EICR,	1, 4, 0, 0, RC, 0, eintr_rd, eintr_wr },
	{ IGB_EITR(0),	IGB_EICR_BITS, 4, 0, IGB_EITR_INTERVAL, RW, 0,
			eitr_rd, eitr_wr },
	{ IGB_IVAR0,	8, 4, 0, 0x9f9f9f9f, RW },
	{ IGB_IVAR_MISC, 1, 4, 0, 0x00009f9f, RW },
	{ IGB_FCRTL,	1, 4, 0, ALL, RW },
	{ IGB_FCRTH,	1, 4, 0, ALL, RW },
	{ 0x2170,	1, 4, 0, ALL, RW },	/* FCRTC */
	{ IGB_RXPBS,	1, 4, 0x40, ALL, RW },
	{ IGB_QDE,	1, 4, 0, 0xffff, RW },
	{ IGB_FCRTV,	1, 4, 0, ALL, RW },
	{ 0x2508,	1, 4, 0, ALL, RW },	/* DMACR */
	{ 0x2514,	1, 4, 0, ALL, RW },	/* DMCTLX */
	RXROWS(IGB_Q_BAL), RXROWS(IGB_Q_BAH), RXROWS(IGB_Q_LEN),
	RXROWS(IGB_Q_SRRCTL), RXROWS(IGB_Q_HEAD), RXROWS(IGB_Q_DCA),
	RXROWS(IGB_Q_TAIL), RXROWS(IGB_Q_DCTL), RXROWS(IGB_Q_RQDPC),
	{ IGB_DVMOLR(0), IGB_QUEUES_I350, 0x40, 0, ALL, RW, MI350,
			 rxq_rd, rxq_wr },
	TXROWS(IGB_Q_BAL), TXROWS(IGB_Q_BAH), TXROWS(IGB_Q_LEN),
	TXROWS(IGB_Q_HEAD), TXROWS(IGB_Q_DCA), TXROWS(IGB_Q_TAIL),
	TXROWS(IGB_Q_DCTL), TXROWS(IGB_Q_WBAL), TXROWS(IGB_Q_WBAH),
	{ IGB_TXPBS,	1, 4, 0x28, ALL, RW },
	{ IGB_DTXSWC,	1, 4, 0, 0x80ffffff, RW, M82576 },
	{ IGB_LVMMC,	1, 4, 0, 0, RC, MI350 },
	{ 0x3550,	1, 4, 0, ALL, RW },	/* DMCTXTH */
	{ IGB_WVBR,	1, 4, 0, 0, RC },
	{ IGB_MDFB,	1, 4, 0, 0xff, RW, MI350 },
	{ IGB_DTXCTL,	1, 4, 0x44, ALL, RW },
	{ IGB_VMVIR(0),	8, 4, 0, 0xc000ffff, RW },
	{ IGB_STATS,	88, 4, 0, 0, RC },	/* 0x4000..0x415f */
	{ IGB_PCS_CFG,	1, 4, 0x8, ALL, RW },
	{ IGB_PCS_LCTL,	1, 4, 0, ALL, RW },
	{ IGB_PCS_LSTAT, 1, 4, 0, 0, RO },
	{ IGB_PCS_ANADV, 1, 4, 0, ALL, RW },
	{ 0x4228,	1, 4, 0, 0, RC },	/* SCVPC */
	{ IGB_RXCSUM,	1, 4, 0x300, 0x3bff, RW },
	{ IGB_RLPML,	1, 4, 0x2600, 0x3fff, RW },
	{ IGB_RFCTL,	1, 4, 0, ALL, RW },
	{ IGB_MTA(0),	IGB_MTA_WORDS, 4, 0, ALL, RW },
	{ 0x5400,	16, 8, 0, ALL, RW, 0, NULL, rar_wr },
	{ 0x5404,	16, 8, 0, 0x93ffffff, RW, 0, NULL, rar_wr },
	{ IGB_PSRTYPE(0), 8, 4, 0, ALL, RW },
	{ 0x54e0,	8, 8, 0, ALL, RW, M82576, NULL, rar_wr },
	{ 0x54e4,	8, 8, 0, 0x93ffffff, RW, M82576, NULL, rar_wr },
	{ 0x54e0,	16, 8, 0, ALL, RW, MI350, NULL, rar_wr },
	{ 0x54e4,	16, 8, 0, 0x93ffffff, RW, MI350, NULL, rar_wr },
	{ 0x55b0,	1, 4, 0, ALL, RW },	/* VLAPQF */
	{ IGB_SYNQF(0),	1, 4, 0, ALL, RW },
	{ IGB_VFTA(0),	IGB_VFTA_WORDS, 4, 0, ALL, RW },
	{ IGB_WUC,	1, 4, 0, ALL, RW },
	{ IGB_WUFC,	1, 4, 0, ALL, RW },
	{ IGB_WUS,	1, 4, 0, ALL, W1C },
	{ IGB_MRQC,	1, 4, 0, ALL, RW },
	{ IGB_VT_CTL,	1, 4, 0, 0x70000380, RW },
	{ IGB_MANC,	1, 4, 0, ALL, RW },
	{ 0x5838,	1, 4, 0, ALL, RW },	/* IPAV */
	{ 0x5980,	32, 4, 0, ALL, RW },	/* SAQF .. FTQF */
	{ 0x5a80,	17, 4, 0, ALL, RW },	/* IMIR, IMIREXT, IMIRVP */
	{ IGB_TXSWC,	1, 4, 0, 0x80ffffff, RW, MI350 },
	{ IGB_VMOLR(0),	8, 4, 0x80002600, ALL, RW },
	{ IGB_RPLOLR,	1, 4, 0x80000000, 0xc0000000, RW },
	{ IGB_GCR,	1, 4, 0x00058000, ALL, RW },
	{ IGB_SWSM,	1, 4, 0, 0x3, RW, 0, swsm_rd, NULL },
	{ IGB_SW_FW_SYNC, 1, 4, 0, ALL, RW },
	{ IGB_DCA_CTRL,	1, 4, 0, ALL, RW },
	{ 0x5bb8,	2, 4, 0, ALL, RW },	/* PCIEMISC, IOVCTL */
	{ IGB_RETA(0),	32, 4, 0, ALL, RW },
	{ IGB_RSSRK(0),	10, 4, 0, ALL, RW },
	{ IGB_ETQF(0),	8, 4, 0, ALL, RW },
	{ IGB_VLVF(0),	IGB_VLVF_ENTRIES, 4, 0, 0x801fffff, RW },
	{ 0x5dd0,	1, 4, 0, ALL, RW },	/* DMCRTRH */
	{ IGB_UTA(0),	128, 4, 0, ALL, RW },
	{ 0xb600,	2, 4, 0, 0, RO, 0, systim_rd, NULL },
	{ 0xb608,	1, 4, 0, ALL, RW },	/* TIMINCA */
	{ 0xb614,	1, 4, 0, 0x10, RW },	/* TSYNCTXCTL */
	{ 0xb620,	1, 4, 0, 0x1e, RW },	/* TSYNCRXCTL */
	{ 0xb640,	10, 4, 0, ALL, RW },	/* TSAUXC ... */
	PVROW_W(0x00), PVROW(0x08), PVROW(0x10), PVROW(0x14), PVROW(0x18),
	PVROW_W(0x20), PVROW_W(0x24), PVROW_W(0x28), PVROW_W(0x2c),
	PVROW_W(0x30), PVROW(0x34), PVROW(0x3c), PVROW(0x40), PVROW(0x44),
	PVROW(0x48), PVROW(0x50), PVROW_W(0x80),
};
/* clang-format on */

_Static_assert(ARRAY_SIZE(rows) < 256, "a row's number is a byte");

static bool has_row(const struct nic *nic, const struct row *r)
{
	return r->count && (!r->models || r->models & BIT(nic->conf.model));
}

void nic_regs_init(struct nic *nic)
{
	for (unsigned int k = 1; k < ARRAY_SIZE(rows); k++)
		for (unsigned int i = 0;
		     has_row(nic, &rows[k]) && i < rows[k].count; i++)
			nic->reg_row[(rows[k].off + i * rows[k].stride) / 4] =
				(uint8_t)k;
}

void nic_regs_reset(struct nic *nic)
{
	for (unsigned int k = 1; k < ARRAY_SIZE(rows); k++)
		for (unsigned int i = 0;
		     has_row(nic, &rows[k]) && i < rows[k].count; i++)
			nic->reg[(rows[k].off + i * rows[k].stride) / 4] =
				rows[k].reset;
	nic->rars_stale = true;
}

static uint32_t canonical(uint32_t off)
{
	return off == IGB_CTRL_ALIAS ? IGB_CTRL : off;
}

uint32_t nic_pf_read(struct nic *nic, uint32_t off)
{
	const struct row *r;
	uint32_t v;

	off = canonical(off);
	r = &rows[nic->reg_row[off / 4]];
	if (!r->count)
		return 0;
	if (r->rd)
		return r->rd(nic, r, (off - r->off) / r->stride);
	v = nic->reg[off / 4];
	if (r->kind == RC)
		nic->reg[off / 4] = 0;
	return v;
}

void nic_pf_write(struct nic *nic, uint32_t off, uint32_t v)
{
	const struct row *r;
	uint32_t *reg;

	off = canonical(off);
	r = &rows[nic->reg_row[off / 4]];
	reg = &nic->reg[off / 4];
	if (!r->count)
		return;
	if (r->wr) {
		r->wr(nic, r, (off - r->off) / r->stride, v);
		return;
	}
	switch (r->kind) {
	case RW: *reg = (*reg & ~r->mask) | (v & r->mask); break;
	case W1C: *reg &= ~(v & r->mask); break;
	default: break;
	}
}
