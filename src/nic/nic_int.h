/*
 * The software NIC's insides, shared by the files of this folder only.
 *
 * Registers without a life of their own stay in nic->reg[]; queues,
 * interrupts and mailboxes have structs, and the register tables (regs.c,
 * vf_regs.c) lead to them.  All of it belongs to the nic's one thread.
 */
#ifndef NIC_NIC_INT_H
#define NIC_NIC_INT_H

#include "base/log.h"
#include "base/util.h"
#include "igb/desc.h"
#include "igb/regs.h"
#include "nic/nic.h"
#include "nic/pkt.h"
#include "pci/caps.h"
#include "pci/config.h"
#include "pci/msix.h"

#define NIC_QUEUES_MAX 16
#define NIC_RAR_MAX    32
#define NIC_NVM_WORDS  512
#define NIC_SRIOV_CAP  0x160u
#define NIC_TSO_MAX    (64u * 1024 + 512) /* bytes of one request */
#define NIC_HEADROOM   64u		  /* for an inserted tag */
#define NIC_FCS	       4u
#define NIC_FRAME_MIN  60u /* without FCS */

/* What tells the two models apart (NIC-FACTS 7.1). */
struct nic_model_info {
	const char *name;
	uint16_t pf_device, vf_device;
	unsigned int queues, queues_per_vf, rars;
	uint32_t txswc; /* offset of the switch control */
	bool strvlan_in_dvmolr;
	bool lb_vlan_swapped; /* tag big-endian in looped frames */
	bool ivar_by_pair;    /* queue 2n and 2n+1 share an IVAR */
	uint32_t phy_id;
};

extern const struct nic_model_info nic_models[NIC_NMODELS];

struct nic_fn {
	struct nic *nic;
	unsigned int index;
	const struct nic_host_ops *ops;
	void *opaque;
	struct pci_config cfg;
	struct pci_msix msix;
	uint8_t *store; /* of the MSI-X BAR */
	bool master;	/* COMMAND.BME */
	struct log_limit limit;
};

/* Interrupt state of one function; a VF's bits are 0..2. */
struct nic_intr {
	uint32_t eicr, eims, eiac, eiam;
	uint32_t eitr[IGB_EICR_BITS];
	uint64_t quiet[IGB_EICR_BITS]; /* no message before this */
	uint32_t waiting;	       /* for 'quiet' to pass */
};

/* Registers common to both kinds of queue. */
struct nic_queue {
	uint32_t bal, bah, len, head, tail, dctl, dca;
	uint64_t base; /* latched at the enable */
	uint32_t n;    /* descriptors, latched; 0: none */
	bool on;
	bool pristine;	   /* reset and not yet enabled */
	bool stuck;	   /* ring unreachable; until disabled */
	bool cause;	   /* interrupt owed at end of batch */
	bool head_moved;   /* to be published */
	struct nic_fn *fn; /* whose memory */
	uint8_t index, pool;
	uint8_t local; /* 0 or 1: which one of its VF */
};

/*
 * Waiting for somebody who takes nothing.  Only time in which we look counts:
 * a NIC that had no core must not find that the other stood still.
 */
struct nic_patience {
	uint64_t looked; /* last; 0: nobody waits */
	uint64_t waited; /* ns */
	bool gone;	 /* in vain: no more until something moves */
};

static inline bool nic_waits(struct nic_patience *p, uint64_t now,
			     uint64_t limit)
{
	if (p->gone)
		return false;
	if (p->looked)
		p->waited += MIN(now - p->looked, limit / 4);
	p->looked = now;
	p->gone = p->waited >= limit;
	return !p->gone;
}

struct nic_rxq {
	struct nic_queue q;
	uint32_t srrctl, rqdpc, dvmolr;
	struct nic_patience full; /* of senders */
};

struct nic_txq {
	struct nic_queue q;
	uint32_t wbal, wbah;
	union igb_desc ctx[2];
	/* The packet being put together. */
	uint8_t *buf; /* NIC_HEADROOM + NIC_TSO_MAX */
	uint32_t len;
	uint8_t *frame;	      /* in buf, ready to send; or NULL */
	uint32_t cmd, olinfo; /* of its first descriptor */
	bool open, bad;
	/* Complete but not yet accepted: segment to go on with. */
	bool held;
	uint32_t seg_next;
	uint32_t budget; /* segments left in this round */
	uint32_t last;	 /* its last descriptor */
};

struct nic_vf {
	/* Mailbox: V2P_VFU, PFU, PFSTS, PFACK, RSTI, RSTD as the VF reads. */
	uint32_t v2p;
	unsigned int rstd_age; /* writes seen since RSTD appeared */
	struct nic_intr intr;
	uint32_t ivar, ivar_misc, pbacl;
	uint32_t gprc, gptc, gorc, gotc, mprc;
	uint32_t gprlbc, gptlbc, gorlbc, gotlbc;
	/* BAR 0 as memory, and what we last put there. */
	int fd;
	uint32_t *shm;
	uint32_t pub[IGBVF_BAR0_SIZE / 4];
	bool in_use; /* a client that may map is there */
};

#define NIC_DIRECT_REGS 56

struct nic_rar {
	uint64_t mac; /* bytes 0..5, little-endian */
	uint8_t pools;
};

struct nic_phy {
	uint16_t reg[32];
	uint16_t page;
	bool carrier;	  /* the cable */
	uint64_t an_done; /* when negotiation ends; 0: not on */
};

struct nic {
	struct nic_conf conf;
	const struct nic_model_info *m;
	uint64_t now;
	uint32_t reg[IGB_PF_BAR0_SIZE / 4];
	uint8_t reg_row[IGB_PF_BAR0_SIZE / 4]; /* regs.c; 0: none */
	uint16_t nvm[NIC_NVM_WORDS];
	struct nic_fn fn[NIC_FUNCTIONS_MAX];
	struct nic_vf vf[NIC_VFS_MAX];
	struct nic_intr intr; /* the PF's */
	struct nic_rxq rx[NIC_QUEUES_MAX];
	struct nic_txq tx[NIC_QUEUES_MAX];
	struct nic_phy phy;
	unsigned int num_vfs; /* enabled */

	struct nic_rar rar[NIC_RAR_MAX]; /* valid ones, packed */
	unsigned int nrars;
	bool rars_stale;

	const struct nic_wire_ops *wire;
	void *wire_opaque;
	struct nic_patience wire_full;
	nic_vfs_fn vfs_fn;
	void *vfs_opaque;

	uint64_t intr_deadline; /* earliest waiting vector */
	uint64_t direct_next;	/* next look at slow registers */
	/* Registers in direct pages, numbered by direct.c. */
	uint64_t direct_regs; /* those that are there */
	uint16_t direct_off[NIC_DIRECT_REGS];
	uint64_t urgent_until;
	unsigned int tx_first; /* queue served first next time */
	uint8_t *seg;	       /* one frame under construction */
	struct nic_counts counts;
	struct log_limit limit;
};

#define REG(nic, off) ((nic)->reg[(off) / 4])

static inline bool nic_is_vf(const struct nic_fn *fn)
{
	return fn->index != NIC_PF;
}

static inline unsigned int nic_fn_vf(const struct nic_fn *fn)
{
	return fn->index - 1;
}

static inline struct nic_vf *nic_queue_vf(struct nic *nic,
					  const struct nic_queue *q)
{
	return nic_is_vf(q->fn) ? &nic->vf[nic_fn_vf(q->fn)] : NULL;
}

/* Queues sorted into pools: MRQC says VMDq, with or without RSS. */
static inline bool nic_pooled(const struct nic *nic)
{
	uint32_t mode = REG(nic, IGB_MRQC) & IGB_MRQC_MODE;

	return mode == IGB_MRQC_VMDQ || mode == IGB_MRQC_VMDQ_RSS;
}

/* nic.c */
void nic_reset_all(struct nic *nic); /* CTRL.RST, FLR of the PF */
void nic_vf_reset(struct nic *nic, unsigned int vf, bool flr);
void nic_vf_clear(struct nic *nic, unsigned int vf);
void nic_assign_queues(struct nic *nic);

/* regs.c: dwords of the PF's BAR 0. */
uint32_t nic_pf_read(struct nic *nic, uint32_t off);
void nic_pf_write(struct nic *nic, uint32_t off, uint32_t v);
void nic_regs_init(struct nic *nic);
void nic_regs_reset(struct nic *nic);

/* vf_regs.c: dwords of a VF's BAR 0, by message. */
uint32_t nic_vf_read(struct nic *nic, unsigned int vf, uint32_t off);
void nic_vf_write(struct nic *nic, unsigned int vf, uint32_t off, uint32_t v);
/* Reads that change nothing, for publishing. */
uint32_t nic_vf_peek(struct nic *nic, unsigned int vf, uint32_t off);

/* queue.c */
uint32_t nic_rxq_read(struct nic *nic, unsigned int q, uint32_t off);
void nic_rxq_write(struct nic *nic, unsigned int q, uint32_t off, uint32_t v);
uint32_t nic_txq_read(struct nic *nic, unsigned int q, uint32_t off);
void nic_txq_write(struct nic *nic, unsigned int q, uint32_t off, uint32_t v);
void nic_rxq_reset(struct nic *nic, unsigned int q);
void nic_txq_reset(struct nic *nic, unsigned int q);
unsigned int nic_vf_queue(const struct nic *nic, unsigned int vf,
			  unsigned int local);

/* mbx.c */
uint32_t nic_mbx_vf_read(struct nic *nic, unsigned int vf);
void nic_mbx_vf_write(struct nic *nic, unsigned int vf, uint32_t v);
uint32_t nic_mbx_pf_read(struct nic *nic, unsigned int vf);
void nic_mbx_pf_write(struct nic *nic, unsigned int vf, uint32_t v);
void nic_mbx_pf_resets(struct nic *nic);		 /* RSTI in all VFs */
void nic_mbx_pf_ready(struct nic *nic);			 /* RSTI off, RSTD on */
void nic_mbx_vf_event(struct nic *nic, unsigned int vf); /* VFLRE */

/* intr.c */
void nic_raise(struct nic *nic, struct nic_fn *fn, uint32_t bits);
void nic_raise_queue(struct nic *nic, struct nic_queue *q, bool tx);
void nic_raise_other(struct nic *nic, uint32_t icr);
void nic_raise_mailbox(struct nic *nic, unsigned int vf);
uint32_t nic_intr_read(struct nic *nic, struct nic_fn *fn, uint32_t off);
void nic_intr_write(struct nic *nic, struct nic_fn *fn, uint32_t off,
		    uint32_t v);
uint32_t nic_icr_read(struct nic *nic);
void nic_ims_write(struct nic *nic, uint32_t v);
void nic_intr_timers(struct nic *nic);
void nic_intr_reset(struct nic_intr *in);
struct nic_intr *nic_intr_of(struct nic_fn *fn);

/* direct.c */
void nic_direct_init(struct nic *nic);
int nic_direct_create(struct nic *nic, unsigned int vf, struct err *e);
void nic_direct_destroy(struct nic *nic, unsigned int vf);
unsigned int nic_direct_poll(struct nic *nic);
/* Show the VF's current value of a register in its page. */
void nic_publish(struct nic *nic, unsigned int vf, uint32_t off);
void nic_publish_all(struct nic *nic, unsigned int vf);
/* A head, if it has moved; all that have in this batch. */
void nic_publish_head(struct nic *nic, struct nic_queue *q, bool tx);
void nic_publish_moved(struct nic *nic);
/* Guest writes not seen yet, before an access by message. */
void nic_direct_sync(struct nic *nic, unsigned int vf);
void nic_rstd_shown(struct nic *nic);
/* The tail a guest may have written without a message. */
void nic_direct_tail(struct nic *nic, struct nic_queue *q, bool tx);

/* tx.c, rx.c, switch.c */
unsigned int nic_tx_run(struct nic *nic, struct nic_txq *t, unsigned int max);
void nic_tx_abort(struct nic_txq *t); /* forget the packet under way */

#define NIC_POOL_WIRE 0xffu

/* A frame on its way through the switch; 'data' is ours, not a guest's. */
struct nic_frame {
	const uint8_t *data;
	uint32_t len; /* without FCS */
	uint8_t from; /* pool, or NIC_POOL_WIRE */
	bool sums_ok; /* we computed the L4 checksum */
	struct pkt p;
};

/* 0, or -EAGAIN: nobody got it, offer it again. */
int nic_switch_tx(struct nic *nic, struct nic_txq *t,
		  const struct nic_frame *f);
int nic_switch_rx(struct nic *nic, const struct nic_frame *f);
/*
 * Pools that want the frame.  *local: its address is one of ours, so it has
 * no business on the wire.
 */
uint32_t nic_filter(struct nic *nic, const struct nic_frame *f, bool *local);
/* Whether there is room; false: drop or wait as *wait says. */
bool nic_rx_room(struct nic *nic, struct nic_rxq *r, uint32_t len, bool *wait);
struct nic_rss {
	uint32_t hash;
	uint8_t type; /* 0: not hashed */
};
void nic_rx_put(struct nic *nic, struct nic_rxq *r, const struct nic_frame *f,
		const struct nic_rss *rss);
/* The queue of a pool (pooled) or of all that come in; NULL: disabled. */
struct nic_rxq *nic_rx_queue(struct nic *nic, const struct nic_frame *f,
			     unsigned int pool, struct nic_rss *rss);
/* Add to a statistics register of the PF. */
static inline void nic_stat(struct nic *nic, uint32_t off, uint32_t n)
{
	REG(nic, off) += n;
}

/* To a pair of them, low word first. */
static inline void nic_stat_wide(struct nic *nic, uint32_t off, uint32_t n)
{
	REG(nic, off) += n;
	if (REG(nic, off) < n)
		REG(nic, off + 4)++;
}

/* phy.c */
uint32_t nic_mdic(struct nic *nic, uint32_t v);
void nic_phy_reset(struct nic *nic);
void nic_phy_timer(struct nic *nic);
void nic_link_update(struct nic *nic);
void nic_nvm_init(struct nic *nic);
uint32_t nic_eerd(struct nic *nic, uint32_t v);

/* pcicfg.c */
int nic_pci_init(struct nic *nic, struct err *e);
void nic_pci_reset(struct nic_fn *fn);

/* dma.c: copies through the client's mappings; false: a fault. */
bool nic_dma_read(struct nic *nic, struct nic_fn *fn, uint64_t iova, void *buf,
		  uint32_t len);
bool nic_dma_write(struct nic *nic, struct nic_fn *fn, uint64_t iova,
		   const void *buf, uint32_t len);
/* A descriptor in place (16 bytes, aligned); NULL: a fault. */
union igb_desc *nic_dma_desc(struct nic *nic, const struct nic_queue *q,
			     uint32_t i, bool write);
void nic_dma_wrote(struct nic_fn *fn, uint64_t iova, uint64_t len);

#endif
