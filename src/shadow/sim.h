/*
 * A VM, a VF and a driver made of memory, to judge the shadow by.  For unit
 * tests and the bench; not installed.
 *
 * The device follows silicon's rules: heads are taken only while a queue is
 * off, tails only while it is on; it writes back in order, late and in
 * batches if asked to; off the bus it waits.  It records every byte it
 * writes.  The driver is igbvf's kind: it clears what it has consumed, posts
 * in batches, and checks that frames come once, in order and whole.
 *
 * The dirty log is the nastiest there is: every mark is harvested at once,
 * the page copied to 'dest' as it is at that very moment.  If a mark comes
 * too early, too late or not at all, 'dest' differs at the next check.
 */
#ifndef SHADOW_SIM_H
#define SHADOW_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "igb/desc.h"
#include "igb/regs.h"
#include "shadow/shadow.h"
#include "vdev/fake.h"

#define SIM_RAM	  (4u << 20)
#define SIM_BSIZE 1024u /* bytes of a packet buffer */
#define SIM_HSIZE 128u	/* and of a header buffer */
#define SIM_SLOTS 256u	/* descriptors of a ring at most */
#define SIM_FRAME 2500u /* bytes of a frame at most */

struct sim_opts {
	struct shadow_opts shadow;
	uint64_t seed;
	uint32_t nrx, ntx; /* descriptors; multiples of 8 */
	bool tight;	   /* rings, head word and buffers share pages */
	bool split_hdr;
	bool legacy;
	bool head_first;    /* heads move before write-backs */
	bool head_words;    /* TX head write-back instead of DD */
	bool no_rs;	    /* the driver watches TDH */
	bool refuse_heads;  /* enabling a queue zeroes its head */
	bool forget;	    /* off the bus it goes on and loses (emulators) */
	bool stand;	    /* doorbells without exits, at random */
	uint32_t unit;	    /* bytes of a guest page; 0: 4096 */
	unsigned int batch; /* write-backs at a time, 1: at once */
	bool eager;	    /* sends within the tail write, as emulators do */
};

struct sim_wb {
	uint32_t idx;
	union igb_desc d;
	bool rx;
};

struct sim_queue {
	bool tx;
	uint32_t head, tail, n;
	uint64_t base;
	bool on;
};

struct sim_dev {
	struct sim_queue rx, tx;
	struct sim_wb wb[2 * SIM_SLOTS];
	unsigned int nwb;
	uint64_t rx_seq, tx_seq;   /* frames accepted; frames sent */
	uint64_t fetched, written; /* descriptors */
	uint32_t part;		   /* bytes of the frame being sent */
	uint8_t frame[SIM_FRAME + SIM_BSIZE];
	uint64_t dma_faults, lost;
};

struct sim_guest {
	uint32_t rx_use, rx_clean, tx_use, tx_clean;
	uint32_t rx_posted; /* tail written */
	uint64_t rx_seq, tx_seq;
	uint64_t rx_buf[SIM_SLOTS], rx_hdr[SIM_SLOTS], tx_buf[SIM_SLOTS];
	uint8_t rx_fill[SIM_SLOTS]; /* what the buffer was filled with */
	bool rx_used[SIM_SLOTS]; /* another device may have filled it before */
	bool rx_marked[SIM_SLOTS];  /* its packet's page was reported */
	uint32_t tx_eop[SIM_SLOTS]; /* slot + 1 of the end of its frame */
	uint64_t free_buf[4 * SIM_SLOTS];
	unsigned int nfree;
	uint64_t lost; /* errored completions */
};

struct sim {
	struct sim_opts o;
	struct fake_host fh;
	struct host_ops ops;
	struct fake_pdev *fp;
	struct loop *loop;
	struct vdev *v;
	struct shadow *sh;
	struct sim_dev dev;
	struct sim_guest g;
	uint64_t rnd;

	uint64_t rx_ring, tx_ring, head_word;
	uint64_t foreign, foreign_len; /* the guest's, beside a ring */
	uint8_t foreign_ref[4096];

	uint8_t *dest;		  /* the destination's RAM */
	bool log;		  /* the dirty log runs */
	uint64_t *marked, *truth; /* pages: reported, really written */
	/* Pages reported; those of them the device had written. */
	uint64_t all_marked, all_truth;
	const char *fault; /* the first thing found wrong */
	uint64_t fault_arg[2];

	/* With threads: the guest's turn, see sim_pause(). */
	pthread_mutex_t turn, chip; /* the device's, in sim_dev_*() */
	pthread_t guest;
	bool threads;
};

int sim_init(struct sim *s, const struct sim_opts *o);
void sim_fini(struct sim *s);

uint32_t sim_rand(struct sim *s, uint32_t below);

/* The driver. */
void sim_guest_up(struct sim *s);   /* configure, enable, post */
void sim_guest_down(struct sim *s); /* disable, forget; 'rst' by CTRL.RST */
bool sim_guest_send(struct sim *s); /* false: ring full */
void sim_guest_kick(struct sim *s); /* write the transmit tail */
unsigned int sim_guest_poll(struct sim *s, unsigned int budget);
void sim_guest_post(struct sim *s, uint32_t max);
void sim_guest_scribble(struct sim *s);

/* The device. */
bool sim_dev_receive(struct sim *s, uint32_t len); /* false: no room */
bool sim_dev_transmit(struct sim *s);		   /* one descriptor */
void sim_dev_flush(struct sim *s, unsigned int n, bool interrupt);

/* A round of the poller's, for tests that run without it. */
void sim_tick(struct sim *s);

/* A full pass over RAM, then the log counts. */
void sim_log_start(struct sim *s);
/* 'dest' must be the guest's memory but for buffers the device owns. */
void sim_check(struct sim *s);
/* Rings agree: nothing written back is withheld, what is posted is there. */
void sim_check_rings(struct sim *s);
/*
 * Switch over: what the log and the state carried is all that 'dst', set up
 * and not yet used, gets; its guest goes on where that of 'src' was.
 * Returns what shadow_adopt() and shadow_start() said.
 */
int sim_move(struct sim *src, struct sim *dst, struct shadow_drain *d);

/* Let everything in flight finish, and see that it did. */
void sim_settle(struct sim *s);

#endif
