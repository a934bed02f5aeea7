/*
 * Inside of the virtual mailbox; for the files mbx*.c of this folder only.
 *
 * All of it is under the vdev's lock.  What must happen in the loop's thread
 * (asking the PF driver, telling the owner) is handed over by mbx_later().
 */
#ifndef VDEV_MBX_PRIV_H
#define VDEV_MBX_PRIV_H

#include "base/log.h"
#include "base/util.h"
#include "igb/regs.h"
#include "vdev/mbx.h"

/* Where an exchange stands. */
enum mbx_st {
	ST_DIRECT,   /* none; the page is as it is without us */
	ST_TRAPPED,  /* ours, and nothing published: the guest has the lock */
	ST_ASKED,    /* a request was read and given to the PF driver */
	ST_ANSWERED, /* the answer is published, not acknowledged */
	ST_POSTED,   /* the host's word is published, not acknowledged */
	ST_BUSY,     /* quiesced */
	ST_HELD,     /* quiesced, and a reset message waits for its answer */
	ST_MAX,
};

enum mbx_ev {
	EV_RING,    /* the PF driver called: a request in the hardware */
	EV_POST,    /* the host has something to say */
	EV_REQ,	    /* the guest rang in the trapped page */
	EV_ACK,	    /* the guest acknowledged there */
	EV_FREED,   /* the guest let go of the lock there */
	EV_VERDICT, /* the PF driver has answered */
	EV_RESET,   /* the VF was reset */
	EV_LIMIT,   /* the state lasted too long */
	EV_GONE,    /* the PF driver died */
	EV_QUIESCE,
	EV_RESUME, /* end of quiesce */
	EV_MAX,
};

/* What the host has to say; a set, so that a second of a kind is one. */
#define POST_LINK  (1u << 0) /* look at the link */
#define POST_RESET (1u << 1) /* start over */

struct vdev_mbx;

/* One question to the PF driver; in the mbx, so that a late answer is safe. */
struct mbx_ask {
	struct vdev_mbx *m;
	uint64_t cookie; /* 0: free */
	bool refused;	 /* the guest has had "no" for an answer meanwhile */
};
#define MBX_ASKS 4

struct vdev_mbx {
	struct vdev *v;
	struct vdev_mbx_conf conf;
	struct vdev_tap mem_tap, ctl_tap, rst_tap, status_tap;
	struct vdev_watch watch;
	unsigned int page; /* of BAR 0 */

	enum mbx_st st;
	uint64_t since;	  /* ns: start of the state, or last guest access */
	uint32_t pending; /* POST_* not said yet */
	bool listening;
	bool quiesced;
	bool no_vlans;	/* requests for them are refused */
	bool resetting; /* the guest wrote CTRL.RST in this episode */
	uint32_t polls; /* status reads since the request (HELD) */
	uint32_t said;	/* what the word in POSTED is about */
	bool saw_ctl;	/* the guest looked at the status word (POSTED) */
	bool acked;	/* it acknowledged, and a bit is left to see */
	uint8_t told;	/* VDEV_MBX_* notices given this quiesce */

	/* The mailbox as the guest sees it. */
	uint32_t mem[MBX_WORDS];
	uint32_t bits; /* VFU, PFSTS, PFACK, RSTI, RSTD */

	/* The request being served and the answer that waits for the lock. */
	struct mbx_msg req, out;
	struct mbx_req meaning;
	uint32_t out_bits; /* 0: nothing waits */

	uint32_t hwmem[MBX_WORDS]; /* the hardware's words, as far as known */

	bool hw_msg; /* mode kernel: mem holds the PF's own message */

	struct mbx_state state; /* what was granted */
	/* A port swapped out may still answer: the other has its own. */
	struct mbx_ask ask[2][MBX_ASKS];
	unsigned int asking; /* index of the port's that counts */
	uint64_t cookie;     /* of the question that counts */
	struct pf_verdict verdict;

	struct loop_source *timer;
	bool ticking;
	unsigned int refs; /* calls on their way through the loop */
	bool closed;
	struct vdev_mbx_counts counts;
	struct log_limit limit;
};

/* mbx_fsm.c: feed an event to the machine. */
void mbx_event(struct vdev_mbx *m, enum mbx_ev ev);
const char *mbx_st_name(enum mbx_st st);
void mbx_trace(struct vdev_mbx *m, const char *what, uint32_t off,
	       uint64_t val);
void mbx_notice(struct vdev_mbx *m, enum vdev_mbx_quiet what);
void mbx_again(struct vdev_mbx *m); /* m->req is asked once more */
bool mbx_overdue(const struct vdev_mbx *m, uint64_t now);
/* The guest has been granted m->meaning. */
void mbx_granted(struct vdev_mbx *m, const uint8_t *mac);

/* mbx.c: run fn(m), with the lock, in the loop's thread. */
void mbx_later(struct vdev_mbx *m, void (*fn)(struct vdev_mbx *m));
void mbx_ask_port(struct vdev_mbx *m);
void mbx_tick_on(struct vdev_mbx *m); /* limits are looked after */

/* mbx_regs.c: the virtual registers, and the hardware's. */
void mbx_taps_add(struct vdev_mbx *m);
void mbx_taps_del(struct vdev_mbx *m);
/* Take over what the hardware's mailbox holds; the page is trapped. */
void mbx_import(struct vdev_mbx *m);
/* Bring it to what the guest knows; false if the PF holds its lock. */
bool mbx_export(struct vdev_mbx *m);
uint32_t mbx_hw_read(struct vdev_mbx *m, uint32_t off);
void mbx_hw_write(struct vdev_mbx *m, uint32_t off, uint32_t val);
void mbx_hw_words(struct vdev_mbx *m, uint32_t *w);
/* Publish m->out when the guest holds no lock; false: it has to wait. */
bool mbx_publish(struct vdev_mbx *m);

/* mbx_kernel.c: mode KERNEL. */
bool mbx_forward(struct vdev_mbx *m); /* m->req to the hardware */
/* Before and after a write to the status word; lock returns it as granted. */
uint32_t mbx_lock_kernel(struct vdev_mbx *m, uint32_t val);
void mbx_release_kernel(struct vdev_mbx *m, uint32_t val);
void mbx_collect(struct vdev_mbx *m); /* what the PF wrote meanwhile */
/* Ask the host's PF driver for all of m->state; blocks, up to 1 s a request. */
int mbx_replay(struct vdev_mbx *m);

#endif
