/*
 * Inside of the PF driver; for the files pf*.c of this folder only.
 */
#ifndef IGB_PF_PRIV_H
#define IGB_PF_PRIV_H

#include "base/log.h"
#include "base/util.h"
#include "igb/pf.h"
#include "igb/regs.h"

#define PF_RAR_MAX 32

struct pf_vf {
	struct mbx_state st;   /* what it has been granted */
	struct pf_local *port; /* who claimed it, or NULL */
	char who[64];
	pf_event_fn fn; /* the callback, NULL: answered here */
	void *opaque;
	struct pf_vf_counts counts;
	const char *last_refusal;
	bool keep_tags; /* in frames, not in descriptors */
	bool inherited; /* from the driver before; not claimed yet */
	bool dropped;	/* inherited, but nobody came */
	bool awaited;	/* its VM comes back: what happens is kept for it */
	unsigned int missed; /* 1 << PF_EV_*, told when it listens */
	uint64_t last_nack;  /* ns */
	uint64_t last_ack;
	unsigned int knocks; /* acks in a row, nothing said or asked between */
	struct log_limit limit;

	struct pf *pf;		    /* for the rounds, once begun */
	struct rarp_rounds *rounds; /* NULL: never announced */
	uint64_t announced_ns;
	bool announce_later; /* there was no link */
};

/* What the filter registers hold, or shall hold. */
struct pf_filters {
	uint32_t ral[PF_RAR_MAX], rah[PF_RAR_MAX];
	uint32_t vlvf[IGB_VLVF_ENTRIES];
	uint32_t vfta[IGB_VFTA_WORDS];
	uint32_t mta[IGB_MTA_WORDS];
	uint32_t vmolr[IGB_POOLS];
	uint32_t dvmolr[IGB_POOLS];
	uint32_t txswc;
	uint32_t rplolr; /* 82576: frames to several pools */
};

struct pf {
	struct pdev *pdev;
	struct loop *loop;
	char name[64]; /* the pdev's without its token, which is secret */
	const struct gen *gen;
	struct trace *trace;
	struct pf_policy policy;
	struct pf_conf conf;
	unsigned int nvfs;
	struct pf_vf vf[PF_VFS_MAX];
	struct pf_filters hw;		  /* as written last */
	uint32_t mta_kept[IGB_MTA_WORDS]; /* of inherited VFs */
	bool running_before;
	bool link, gone;
	bool closing;
	int irqfd;
	struct loop_source *irq_src, *tick, *grace;
	struct pf_tx *tx; /* NULL until something is sent */
	uint64_t irqs;
};

struct pf_local {
	struct pf_port port;
	struct pf *pf;
};

/* Register access; a device that is gone reads as all ones and sets gone. */
uint32_t pf_rd(struct pf *pf, uint32_t reg);
void pf_wr(struct pf *pf, uint32_t reg, uint32_t val);

/* pf_hw.c */
int pf_hw_start(struct pf *pf, struct err *e);
void pf_hw_irq_on(struct pf *pf);
void pf_hw_irq_off(struct pf *pf);
bool pf_hw_link(struct pf *pf); /* what STATUS says now */

/* pf_sriov.c */
int pf_sriov_enable(struct pf *pf, unsigned int vfs, bool *was_on,
		    struct err *e);

/* pf_filter.c: hardware follows pf->vf[].st; -ENOSPC: no room, unchanged. */
int pf_filters_fit(struct pf *pf, unsigned int vf, const struct mbx_state *st);
int pf_filters_write(struct pf *pf);
void pf_filters_inherit(struct pf *pf);
void pf_filters_read(struct pf *pf); /* pf->hw from the device */

/* pf_tx.c: a frame from the PF itself; -ENOBUFS: the ring is full. */
int pf_tx_send(struct pf *pf, const void *frame, size_t len);
void pf_tx_close(struct pf *pf);
unsigned int pf_tx_pending(struct pf *pf); /* frames the device still has */
uint32_t pf_tx_pools(const struct pf *pf); /* that VFTE must let send */

/* pf_announce.c: start, and forget for whoever has the VF next. */
int pf_announce(struct pf *pf, unsigned int vf);
void pf_announce_stop(struct pf *pf, unsigned int vf);

/* pf_vf.c */
void pf_service(struct pf *pf);
void pf_event(struct pf *pf, unsigned int vf, const struct pf_event *ev);
void pf_vf_drop(struct pf *pf, unsigned int vf); /* reset, filters away */
/* Nobody comes for it any more: what it rang for is answered here. */
void pf_await_over(struct pf *pf, unsigned int vf);

#endif
