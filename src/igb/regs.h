/*
 * Registers of the igb family (82576, I350): PF view, VF view, bits.
 *
 * Names and offsets are the data sheet's (82576 8.x, I350 8.x); IGB_ is an
 * offset in the PF's BAR 0 or a bit valid in both views, IGBVF_ an offset in
 * a VF's BAR 0.  Only <stdint.h>: the freestanding test guest, the PF driver
 * and the device model share this file.
 *
 * Facts about who does what with a register: docs/nic.md and docs/igb.md.
 */
#ifndef IGB_REGS_H
#define IGB_REGS_H

#include <stdint.h>

/* Identity. */
#define IGB_VENDOR_INTEL 0x8086
#define IGB_DEV_82576	 0x10c9
#define IGB_DEV_82576_VF 0x10ca
#define IGB_DEV_I350	 0x1521
#define IGB_DEV_I350_VF	 0x1520

#define IGB_POOLS	 8 /* VFs at most, and pools */
#define IGB_QUEUES_82576 16
#define IGB_QUEUES_I350	 8
#define IGB_VECTORS_PF	 10 /* MSI-X vectors of the PF's capability */
#define IGB_VECTORS_VF	 3
#define IGB_EICR_BITS	 25 /* internal vectors in IOV mode */
#define IGB_RAR_82576	 24
#define IGB_RAR_I350	 32
#define IGB_MTA_WORDS	 128
#define IGB_VFTA_WORDS	 128
#define IGB_VLVF_ENTRIES 32
#define IGB_RING_ALIGN	 128u  /* bytes, base of a descriptor ring */
#define IGB_RING_MAX	 4096u /* descriptors */
#define IGB_FRAME_MAX	 9728u /* bytes, CRC included */

#define IGBVF_BAR0_SIZE	 0x4000u
#define IGBVF_BAR3_SIZE	 0x4000u
#define IGBVF_MSIX_BAR	 3
#define IGBVF_MSIX_TABLE 0x0000u
#define IGBVF_MSIX_PBA	 0x2000u
#define IGB_PF_BAR0_SIZE 0x20000u

/* The VF's register pages. */
#define IGBVF_PAGE_MBX 0 /* CTRL, STATUS, mailbox, statistics */
#define IGBVF_PAGE_INT 1 /* interrupts */
#define IGBVF_PAGE_RX  2
#define IGBVF_PAGE_TX  3

/*
 * All registers a VF has, for names in traces and for walks over them.
 * Queue registers are those of queue 0; queue 1 is IGBVF_QUEUE_STRIDE
 * further.
 *
 *	  name     offset
 */
#define IGBVF_REGS(R)         \
	R(CTRL, 0x0000)       \
	R(STATUS, 0x0008)     \
	R(VMBMEM, 0x0800)     \
	R(V2PMAILBOX, 0x0c40) \
	R(PBACL, 0x0f04)      \
	R(PSRTYPE, 0x0f0c)    \
	R(VFGPRC, 0x0f10)     \
	R(VFGPTC, 0x0f14)     \
	R(VFGORC, 0x0f18)     \
	R(VFGOTC, 0x0f34)     \
	R(VFMPRC, 0x0f3c)     \
	R(VFGPRLBC, 0x0f40)   \
	R(VFGPTLBC, 0x0f44)   \
	R(VFGORLBC, 0x0f48)   \
	R(VFGOTLBC, 0x0f50)   \
	R(FRTIMER, 0x1048)    \
	R(EICS, 0x1520)       \
	R(EIMS, 0x1524)       \
	R(EIMC, 0x1528)       \
	R(EIAC, 0x152c)       \
	R(EIAM, 0x1530)       \
	R(EICR, 0x1580)       \
	R(EITR0, 0x1680)      \
	R(EITR1, 0x1684)      \
	R(EITR2, 0x1688)      \
	R(IVAR0, 0x1700)      \
	R(IVAR_MISC, 0x1740)  \
	R(RDBAL, 0x2800)      \
	R(RDBAH, 0x2804)      \
	R(RDLEN, 0x2808)      \
	R(SRRCTL, 0x280c)     \
	R(RDH, 0x2810)        \
	R(DCA_RXCTRL, 0x2814) \
	R(RDT, 0x2818)        \
	R(RXDCTL, 0x2828)     \
	R(RQDPC, 0x2830)      \
	R(TDBAL, 0x3800)      \
	R(TDBAH, 0x3804)      \
	R(TDLEN, 0x3808)      \
	R(TDH, 0x3810)        \
	R(DCA_TXCTRL, 0x3814) \
	R(TDT, 0x3818)        \
	R(TXDCTL, 0x3828)     \
	R(TDWBAL, 0x3838)     \
	R(TDWBAH, 0x383c)

enum igbvf_reg {
#define R(name, off) IGBVF_##name = (off),
	IGBVF_REGS(R)
#undef R
};

#define IGBVF_QUEUE_STRIDE 0x100u
#define IGBVF_MBX_WORDS	   16

/* Offsets within a queue's block, the same in all views. */
#define IGB_Q_BAL    0x00
#define IGB_Q_BAH    0x04
#define IGB_Q_LEN    0x08
#define IGB_Q_SRRCTL 0x0c /* RX only */
#define IGB_Q_HEAD   0x10
#define IGB_Q_DCA    0x14
#define IGB_Q_TAIL   0x18
#define IGB_Q_DCTL   0x28
#define IGB_Q_RQDPC  0x30 /* RX only */
#define IGB_Q_WBAL   0x38 /* TX only; RX on the I350: DVMOLR */
#define IGB_Q_WBAH   0x3c /* TX only */

/*
 * The compact layout of the software NIC (not in any silicon): page 0 also
 * answers at these offsets, so that mailbox, tails and heads share a page.
 */
#define IGBVF_COMPACT_RDH    0x0e00
#define IGBVF_COMPACT_RDT    0x0e04
#define IGBVF_COMPACT_TDH    0x0e08
#define IGBVF_COMPACT_TDT    0x0e0c
#define IGBVF_COMPACT_STRIDE 0x10 /* queue 1 */

/* ---- PF view ---- */

#define IGB_CTRL	  0x0000
#define IGB_CTRL_ALIAS	  0x0004
#define IGB_STATUS	  0x0008
#define IGB_EECD	  0x0010
#define IGB_EERD	  0x0014
#define IGB_CTRL_EXT	  0x0018
#define IGB_MDIC	  0x0020
#define IGB_SCTL	  0x0024
#define IGB_FCAL	  0x0028
#define IGB_FCAH	  0x002c
#define IGB_FCT		  0x0030
#define IGB_CONNSW	  0x0034
#define IGB_VET		  0x0038
#define IGB_ICR		  0x00c0
#define IGB_ICS		  0x00c8
#define IGB_IMS		  0x00d0
#define IGB_IMC		  0x00d8
#define IGB_IAM		  0x00e0
#define IGB_RCTL	  0x0100
#define IGB_FCTTV	  0x0170
#define IGB_TXCW	  0x0178
#define IGB_TCTL	  0x0400
#define IGB_TCTL_EXT	  0x0404
#define IGB_TIPG	  0x0410
#define IGB_VMBMEM(n)	  (0x0800 + 0x40 * (n))
#define IGB_P2VMAILBOX(n) (0x0c00 + 4 * (n))
#define IGB_V2PMAILBOX(n) (0x0c40 + 4 * (n)) /* the VF's, as it reads it */
#define IGB_MBVFICR	  0x0c80
#define IGB_MBVFIMR	  0x0c84
#define IGB_VFLRE	  0x0c88
#define IGB_VFRE	  0x0c8c
#define IGB_VFTE	  0x0c90
#define IGB_LEDCTL	  0x0e00
#define IGB_MDICNFG	  0x0e04
#define IGB_IPCNFG	  0x0e38
#define IGB_EEER	  0x0e30
#define IGB_PBA		  0x1000
#define IGB_EEMNGCTL	  0x1010
#define IGB_I2CCMD	  0x1028
#define IGB_EEWR	  0x102c
#define IGB_FRTIMER	  0x1048
#define IGB_GPIE	  0x1514
#define IGB_EICS	  0x1520
#define IGB_EIMS	  0x1524
#define IGB_EIMC	  0x1528
#define IGB_EIAC	  0x152c
#define IGB_EIAM	  0x1530
#define IGB_EICR	  0x1580
#define IGB_EITR(n)	  (0x1680 + 4 * (n)) /* n < 25 */
#define IGB_IVAR0	  0x1700
#define IGB_IVAR(n)	  (IGB_IVAR0 + 4 * (n)) /* n < 8 */
#define IGB_IVAR_MISC	  0x1740
#define IGB_FCRTL	  0x2160
#define IGB_FCRTH	  0x2168
#define IGB_RXPBS	  0x2404
#define IGB_QDE		  0x2408
#define IGB_FCRTV	  0x2460
#define IGB_TXPBS	  0x3404
#define IGB_DTXSWC	  0x3500 /* 82576 */
#define IGB_LVMMC	  0x3548
#define IGB_WVBR	  0x3554
#define IGB_MDFB	  0x3558
#define IGB_DTXCTL	  0x3590
#define IGB_VMVIR(n)	  (0x3700 + 4 * (n))
#define IGB_STATS	  0x4000 /* .. 0x4140, clear on read */
#define IGB_MPC		  0x4010
#define IGB_GPRC	  0x4074
#define IGB_BPRC	  0x4078
#define IGB_MPRC	  0x407c
#define IGB_GPTC	  0x4080
#define IGB_GORCL	  0x4088
#define IGB_GORCH	  0x408c
#define IGB_GOTCL	  0x4090
#define IGB_GOTCH	  0x4094
#define IGB_RNBC	  0x40a0
#define IGB_RUC		  0x40a4
#define IGB_ROC		  0x40ac
#define IGB_TORL	  0x40c0
#define IGB_TORH	  0x40c4
#define IGB_TOTL	  0x40c8
#define IGB_TOTH	  0x40cc
#define IGB_TPR		  0x40d0
#define IGB_TPT		  0x40d4
#define IGB_MPTC	  0x40f0
#define IGB_BPTC	  0x40f4
#define IGB_TSCTC	  0x40f8
#define IGB_PCS_CFG	  0x4200
#define IGB_PCS_LCTL	  0x4208
#define IGB_PCS_LSTAT	  0x420c
#define IGB_PCS_ANADV	  0x4218
#define IGB_PCS_LPAB	  0x421c
#define IGB_RXCSUM	  0x5000
#define IGB_RLPML	  0x5004
#define IGB_RFCTL	  0x5008
#define IGB_MTA(n)	  (0x5200 + 4 * (n))
#define IGB_RAL(n)	  ((n) < 16 ? 0x5400 + 8 * (n) : 0x54e0 + 8 * ((n)-16))
#define IGB_RAH(n)	  (IGB_RAL(n) + 4)
#define IGB_PSRTYPE(n)	  (0x5480 + 4 * (n))
#define IGB_VFTA(n)	  (0x5600 + 4 * (n))
#define IGB_WUC		  0x5800
#define IGB_WUFC	  0x5808
#define IGB_WUS		  0x5810
#define IGB_MRQC	  0x5818
#define IGB_VT_CTL	  0x581c
#define IGB_MANC	  0x5820
#define IGB_SYNQF(n)	  (0x55fc + 4 * (n))
#define IGB_FTQF(n)	  (0x59e0 + 4 * (n))
#define IGB_TXSWC	  0x5acc /* I350 */
#define IGB_VMOLR(n)	  (0x5ad0 + 4 * (n))
#define IGB_RPLOLR	  0x5af0
#define IGB_GCR		  0x5b00
#define IGB_FACTPS	  0x5b30
#define IGB_SWSM	  0x5b50
#define IGB_FWSM	  0x5b54
#define IGB_SW_FW_SYNC	  0x5b5c
#define IGB_DCA_CTRL	  0x5b74
#define IGB_IOVCTL	  0x5bbc
#define IGB_RETA(n)	  (0x5c00 + 4 * (n)) /* n < 32 */
#define IGB_RSSRK(n)	  (0x5c80 + 4 * (n)) /* n < 10 */
#define IGB_ETQF(n)	  (0x5cb0 + 4 * (n))
#define IGB_VLVF(n)	  (0x5d00 + 4 * (n))
#define IGB_UTA(n)	  (0xa000 + 4 * (n)) /* n < 128 */

/* Queues; 0..3 also answer at the 82575's places. */
#define IGB_RXQ_REGS(q)	    (0xc000 + 0x40 * (q))
#define IGB_TXQ_REGS(q)	    (0xe000 + 0x40 * (q))
#define IGB_RXQ_REGS_OLD(q) (0x2800 + 0x100 * (q))
#define IGB_TXQ_REGS_OLD(q) (0x3800 + 0x100 * (q))
#define IGB_RDBAL(q)	    (IGB_RXQ_REGS(q) + IGB_Q_BAL)
#define IGB_RDBAH(q)	    (IGB_RXQ_REGS(q) + IGB_Q_BAH)
#define IGB_RDLEN(q)	    (IGB_RXQ_REGS(q) + IGB_Q_LEN)
#define IGB_SRRCTL(q)	    (IGB_RXQ_REGS(q) + IGB_Q_SRRCTL)
#define IGB_RDH(q)	    (IGB_RXQ_REGS(q) + IGB_Q_HEAD)
#define IGB_RDT(q)	    (IGB_RXQ_REGS(q) + IGB_Q_TAIL)
#define IGB_RXDCTL(q)	    (IGB_RXQ_REGS(q) + IGB_Q_DCTL)
#define IGB_RQDPC(q)	    (IGB_RXQ_REGS(q) + IGB_Q_RQDPC)
#define IGB_DVMOLR(q)	    (IGB_RXQ_REGS(q) + 0x38) /* I350 */
#define IGB_TDBAL(q)	    (IGB_TXQ_REGS(q) + IGB_Q_BAL)
#define IGB_TDBAH(q)	    (IGB_TXQ_REGS(q) + IGB_Q_BAH)
#define IGB_TDLEN(q)	    (IGB_TXQ_REGS(q) + IGB_Q_LEN)
#define IGB_TDH(q)	    (IGB_TXQ_REGS(q) + IGB_Q_HEAD)
#define IGB_TDT(q)	    (IGB_TXQ_REGS(q) + IGB_Q_TAIL)
#define IGB_TXDCTL(q)	    (IGB_TXQ_REGS(q) + IGB_Q_DCTL)
#define IGB_TDWBAL(q)	    (IGB_TXQ_REGS(q) + IGB_Q_WBAL)
#define IGB_TDWBAH(q)	    (IGB_TXQ_REGS(q) + IGB_Q_WBAH)

/* A VF's own block as the PF sees it. */
#define IGB_PVTCTRL(n)	 (0x10000 + 0x100 * (n))
#define IGB_PVTSTATUS(n) (IGB_PVTCTRL(n) + 0x08)
#define IGB_PVFGPRC(n)	 (IGB_PVTCTRL(n) + 0x10)
#define IGB_PVFGPTC(n)	 (IGB_PVTCTRL(n) + 0x14)
#define IGB_PVFGORC(n)	 (IGB_PVTCTRL(n) + 0x18)
#define IGB_PVTEICS(n)	 (IGB_PVTCTRL(n) + 0x20)
#define IGB_PVTEIMS(n)	 (IGB_PVTCTRL(n) + 0x24)
#define IGB_PVTEIMC(n)	 (IGB_PVTCTRL(n) + 0x28)
#define IGB_PVTEIAC(n)	 (IGB_PVTCTRL(n) + 0x2c)
#define IGB_PVTEIAM(n)	 (IGB_PVTCTRL(n) + 0x30)
#define IGB_PVFGOTC(n)	 (IGB_PVTCTRL(n) + 0x34)
#define IGB_PVFMPRC(n)	 (IGB_PVTCTRL(n) + 0x3c)
#define IGB_PVFGPRLBC(n) (IGB_PVTCTRL(n) + 0x40)
#define IGB_PVFGPTLBC(n) (IGB_PVTCTRL(n) + 0x44)
#define IGB_PVFGORLBC(n) (IGB_PVTCTRL(n) + 0x48)
#define IGB_PVFGOTLBC(n) (IGB_PVTCTRL(n) + 0x50)
#define IGB_PVTEICR(n)	 (IGB_PVTCTRL(n) + 0x80)

/* ---- bits ---- */

#define IGB_CTRL_FD		    0x00000001u
#define IGB_CTRL_GIO_MASTER_DISABLE 0x00000004u
#define IGB_CTRL_SLU		    0x00000040u
#define IGB_CTRL_RST		    0x04000000u /* also in the VF's CTRL */
#define IGB_CTRL_VME		    0x40000000u
#define IGB_CTRL_PHY_RST	    0x80000000u
#define IGB_CTRL_DEV_RST	    0x20000000u /* I350 */

#define IGB_STATUS_FD		 0x00000001u
#define IGB_STATUS_LU		 0x00000002u
#define IGB_STATUS_SPEED_1000	 0x00000080u
#define IGB_STATUS_LAN_INIT_DONE 0x00000200u
#define IGB_STATUS_PHYRA	 0x00000400u
#define IGB_STATUS_NUM_VFS_SHIFT 14
#define IGB_STATUS_IOV		 0x00040000u
#define IGB_STATUS_GIO_MASTER	 0x00080000u
#define IGB_STATUS_DEV_RST_SET	 0x00100000u
#define IGB_STATUS_PF_RST_DONE	 0x00200000u

#define IGB_CTRL_EXT_PFRSTD    0x00004000u
#define IGB_CTRL_EXT_LINK_MODE 0x00c00000u
#define IGB_CTRL_EXT_EIAME     0x01000000u
#define IGB_CTRL_EXT_DRV_LOAD  0x10000000u
#define IGB_CTRL_EXT_PBA_CLR   0x80000000u

#define IGB_EECD_REQ	    0x00000040u
#define IGB_EECD_GNT	    0x00000080u
#define IGB_EECD_PRES	    0x00000100u
#define IGB_EECD_AUTO_RD    0x00000200u
#define IGB_EECD_SIZE_SHIFT 11 /* 4 bits: log2(words) - 6 */

#define IGB_EERD_START	    0x00000001u
#define IGB_EERD_DONE	    0x00000002u
#define IGB_EERD_ADDR_SHIFT 2
#define IGB_EERD_DATA_SHIFT 16

#define IGB_MDIC_DATA	   0x0000ffffu
#define IGB_MDIC_REG_SHIFT 16
#define IGB_MDIC_REG	   0x001f0000u
#define IGB_MDIC_PHY_SHIFT 21
#define IGB_MDIC_PHY	   0x03e00000u
#define IGB_MDIC_OP_WRITE  0x04000000u
#define IGB_MDIC_OP_READ   0x08000000u
#define IGB_MDIC_READY	   0x10000000u
#define IGB_MDIC_INT_EN	   0x20000000u
#define IGB_MDIC_ERROR	   0x40000000u

#define IGB_PHY_BMCR	    0
#define IGB_PHY_BMSR	    1
#define IGB_PHY_ID1	    2
#define IGB_PHY_ID2	    3
#define IGB_BMCR_AN_RESTART 0x0200u
#define IGB_BMCR_POWER_DOWN 0x0800u
#define IGB_BMCR_AN_ENABLE  0x1000u
#define IGB_BMCR_RESET	    0x8000u
#define IGB_BMSR_LINK	    0x0004u
#define IGB_BMSR_AN_DONE    0x0020u

#define IGB_ICR_TXDW   0x00000001u
#define IGB_ICR_LSC    0x00000004u
#define IGB_ICR_RXDMT0 0x00000010u
#define IGB_ICR_RXO    0x00000040u
#define IGB_ICR_RXDW   0x00000080u
#define IGB_ICR_VMMB   0x00000100u
#define IGB_ICR_DRSTA  0x40000000u
#define IGB_ICR_INTA   0x80000000u

#define IGB_GPIE_NSICR	       0x00000001u
#define IGB_GPIE_MULTIPLE_MSIX 0x00000010u
#define IGB_GPIE_EIAME	       0x40000000u
#define IGB_GPIE_PBA	       0x80000000u

#define IGB_EICR_OTHER 0x80000000u /* without MSI-X */

#define IGB_EITR_INTERVAL_SHIFT 2 /* of 1 us, bits 14:2 */
#define IGB_EITR_INTERVAL	0x00007ffcu
#define IGB_EITR_CNT_IGNR	0x80000000u

#define IGB_IVAR_VALID	0x80u
#define IGB_IVAR_VECTOR 0x1fu

#define IGB_RCTL_EN	     0x00000002u
#define IGB_RCTL_SBP	     0x00000004u
#define IGB_RCTL_UPE	     0x00000008u
#define IGB_RCTL_MPE	     0x00000010u
#define IGB_RCTL_LPE	     0x00000020u
#define IGB_RCTL_LBM	     0x000000c0u
#define IGB_RCTL_MO_SHIFT    12
#define IGB_RCTL_MO	     0x00003000u
#define IGB_RCTL_BAM	     0x00008000u
#define IGB_RCTL_BSIZE_SHIFT 16
#define IGB_RCTL_VFE	     0x00040000u
#define IGB_RCTL_SECRC	     0x04000000u

#define IGB_TCTL_EN  0x00000002u
#define IGB_TCTL_PSP 0x00000008u

#define IGB_RXCSUM_IPOFL 0x00000100u
#define IGB_RXCSUM_TUOFL 0x00000200u
#define IGB_RXCSUM_PCSD	 0x00002000u

#define IGB_MRQC_MODE	  0x00000007u
#define IGB_MRQC_RSS	  2
#define IGB_MRQC_VMDQ	  3
#define IGB_MRQC_VMDQ_RSS 5

#define IGB_VT_CTL_POOL_SHIFT  7
#define IGB_VT_CTL_POOL	       0x00000380u
#define IGB_VT_CTL_IGNORE_MAC  0x10000000u
#define IGB_VT_CTL_DIS_DEFAULT 0x20000000u
#define IGB_VT_CTL_REPL	       0x40000000u

#define IGB_TXSWC_MAC_AS_SHIFT	0
#define IGB_TXSWC_VLAN_AS_SHIFT 8
#define IGB_TXSWC_LLE_SHIFT	16
#define IGB_TXSWC_LOOPBACK	0x80000000u

#define IGB_VMOLR_RLPML	    0x00003fffu
#define IGB_VMOLR_LPE	    0x00010000u
#define IGB_VMOLR_RSSE	    0x00020000u
#define IGB_VMOLR_AUPE	    0x01000000u
#define IGB_VMOLR_ROMPE	    0x02000000u
#define IGB_VMOLR_ROPE	    0x04000000u
#define IGB_VMOLR_BAM	    0x08000000u
#define IGB_VMOLR_MPME	    0x10000000u
#define IGB_VMOLR_STRVLAN   0x40000000u /* I350: in DVMOLR */
#define IGB_VMOLR_STRCRC    0x80000000u
#define IGB_DVMOLR_HIDEVLAN 0x20000000u
#define IGB_DVMOLR_STRVLAN  0x40000000u
#define IGB_DVMOLR_STRCRC   0x80000000u
#define IGB_RPLOLR_STRVLAN  0x40000000u

#define IGB_RAH_AV	   0x80000000u
#define IGB_RAH_POOL_SHIFT 18
#define IGB_RAH_POOLS	   0x03fc0000u

#define IGB_VLVF_VID	    0x00000fffu
#define IGB_VLVF_POOL_SHIFT 12
#define IGB_VLVF_POOLS	    0x000ff000u
#define IGB_VLVF_LVLAN	    0x00100000u
#define IGB_VLVF_EN	    0x80000000u

#define IGB_VMVIR_VID	  0x0000ffffu
#define IGB_VMVIR_DEFAULT 0x40000000u /* always this tag */
#define IGB_VMVIR_NEVER	  0x80000000u /* never a tag */

#define IGB_SRRCTL_BSIZEPKT	  0x0000007fu /* KiB */
#define IGB_SRRCTL_BSIZEHDR	  0x00003f00u /* 64 bytes, << 8 */
#define IGB_SRRCTL_BSIZEHDR_SHIFT 8
#define IGB_SRRCTL_DESCTYPE	  0x0e000000u
#define IGB_SRRCTL_LEGACY	  0x00000000u
#define IGB_SRRCTL_ONEBUF	  0x02000000u
#define IGB_SRRCTL_SPLIT	  0x04000000u
#define IGB_SRRCTL_SPLIT_ALWAYS	  0x0a000000u
#define IGB_SRRCTL_DROP_EN	  0x80000000u

#define IGB_PSRTYPE_TCP	 0x00000010u
#define IGB_PSRTYPE_UDP	 0x00000020u
#define IGB_PSRTYPE_IPV4 0x00000100u
#define IGB_PSRTYPE_IPV6 0x00000200u
#define IGB_PSRTYPE_L2	 0x00001000u

#define IGB_DCTL_ENABLE	       0x02000000u /* RXDCTL, TXDCTL */
#define IGB_DCTL_SWFLSH	       0x04000000u
#define IGB_DCTL_PTHRESH_SHIFT 0
#define IGB_DCTL_HTHRESH_SHIFT 8
#define IGB_DCTL_WTHRESH_SHIFT 16
#define IGB_DCTL_THRESH_MASK   0x1fu

#define IGB_TDWBAL_EN 0x00000001u /* head write-back */

#define IGB_SWSM_SMBI	 0x00000001u
#define IGB_SWSM_SWESMBI 0x00000002u

/* Mailbox, VF side. */
#define IGB_V2P_REQ   0x01u /* W: a message for the PF */
#define IGB_V2P_ACK   0x02u /* W: the PF's message was read */
#define IGB_V2P_VFU   0x04u /* the VF holds the buffer */
#define IGB_V2P_PFU   0x08u /* the PF holds the buffer */
#define IGB_V2P_PFSTS 0x10u /* R2C: the PF wrote a message */
#define IGB_V2P_PFACK 0x20u /* R2C: the PF read ours */
#define IGB_V2P_RSTI  0x40u /* PF reset in progress */
#define IGB_V2P_RSTD  0x80u /* R2C: PF reset is over */
#define IGB_V2P_R2C   (IGB_V2P_PFSTS | IGB_V2P_PFACK | IGB_V2P_RSTD)

/* Mailbox, PF side. */
#define IGB_P2V_STS  0x01u
#define IGB_P2V_ACK  0x02u
#define IGB_P2V_VFU  0x04u
#define IGB_P2V_PFU  0x08u
#define IGB_P2V_RVFU 0x10u

#define IGB_MBVFICR_REQ_SHIFT 0 /* one bit a VF */
#define IGB_MBVFICR_ACK_SHIFT 16

/* EICR bit of vector v (0..2) of VF n, in IOV mode. */
#define IGB_VF_EICR_SHIFT(n) (22 - 3 * (n))

#endif
