/*
 * Inside of a device; for the files netdev*.c of this folder only.
 */
#ifndef NETDEV_NETDEV_PRIV_H
#define NETDEV_NETDEV_PRIV_H

#include <stdatomic.h>

#include "igb/rarp.h"
#include "netdev/netdev.h"
#include "netdev/rebase.h"

enum quiet {
	ACTIVE,	  /* nothing of the kind */
	BUSY,	  /* busy is posted, the guest has not reset the VF yet */
	DELETING, /* rings and vectors are gone, filters not yet */
	DELETED,  /* the structures are gone */
};

enum grant { GRANT_NONE, GRANT_ASKED, GRANT_GIVEN, GRANT_REFUSED };

struct netdev {
	char name[32];
	struct vdev *vdev;
	struct vdev_mbx *mbx; /* NULL: nobody at the PF */
	struct shadow *shadow;
	struct rebase *rebase;
	struct netvf *vf; /* its pdev is the vdev's while bound */
	struct trace *trace;
	unsigned int unit;

	enum mig_action action;
	bool drained;
	_Atomic int quiet;
	uint64_t busy_since;
	bool had_rings;		  /* when busy was posted */
	uint64_t off_since;	  /* no ring on; 0: one is */
	struct igb_vf_state regs; /* read by drain, or loaded */
	struct shadow_drain drain;

	struct rarp_rounds *rounds; /* of a PF that is the kernel's */
	uint64_t announced, frames, unannounced;
	uint64_t drain_ns; /* of the outage, the last time */

	_Atomic int grant; /* enum grant */
	/* Asked of one PF driver, and then of another: who answers? */
	struct grant_ask {
		struct netdev *nd;
	} ask[2];
	unsigned int asked; /* index of the one that counts */
	bool rebuilt;	    /* loaded without rings: the guest builds them */
};

/* netdev.c */
void netdev_trace(struct netdev *nd, const char *what, uint64_t val);
/* The PF driver's answer to what nobody waits for. */
void netdev_nobody_waits(void *opaque, const struct pf_verdict *v);
/* Have the VF's side treat VLAN tags as the guest's driver reads them. */
int netdev_suit(struct netdev *nd, struct netvf *vf, struct err *e);
/* In the registers: all zero if there are none to read. */
void netdev_read_rings(struct netdev *nd, struct igb_vf_state *st);

/* netdev_announce.c */
/* Switches outside still know the guest where it was. */
void netdev_announce(struct netdev *nd);
void netdev_announce_round(void *opaque); /* the netdev: one of nd->rounds */

#endif
