/*
 * Traffic whose every frame can be accounted for.
 *
 * Guests find each other by broadcast, then send numbered frames to every
 * peer, each filled from its number and carrying a sum over all of it.  The
 * receiver tells lost, doubled, reordered and corrupt frames apart, per
 * peer.  A sender keeps a window: no more frames are out than the peer's
 * ring has room for, so a frame lost was lost by the device.  With a window
 * of one frame at both ends, frames and their acknowledgements are a
 * ping-pong.
 */
#ifndef GUEST_TRAFFIC_H
#define GUEST_TRAFFIC_H

#include "igbvf.h"
#include "rtt.h"

#define PEERS_MAX   8
#define SEEN_FRAMES 4096u /* how far back a double is told from a late one */

struct peer {
	uint32_t id, epoch; /* 'epoch' is another after the peer's restart */
	uint8_t mac[6];
	bool knows; /* us, and would not take our frames for a stranger's */

	/* To it. */
	uint64_t sent;	/* number of the next frame */
	uint64_t acked; /* all below were seen, or are known as lost */
	uint64_t probe_at;

	/* From it. */
	uint64_t next; /* the number expected */
	uint64_t got, lost, doubled, reordered, corrupt;
	uint64_t bytes;
	uint64_t unacked; /* frames since our last word to it */
	uint64_t total;	  /* it says it sends so many; 0: no end */
	uint64_t gap;	  /* longest time without a frame, ns */
	uint64_t last_rx;
	uint64_t seen[SEEN_FRAMES / 64];
};

struct traffic {
	struct igbvf *v;
	uint32_t id, epoch;
	uint64_t count;		 /* frames to each peer; 0: until stopped */
	uint32_t size_min, size; /* bytes of a frame, FCS not counted */
	uint64_t window, ack_every;
	uint64_t gap_ns;   /* between frames; 0: as fast as it goes */
	uint64_t hello_ns; /* between broadcasts; 0: none */
	bool on;
	bool ping; /* one frame out at a time, and the time it takes */

	struct peer peer[PEERS_MAX];
	unsigned int npeers, wanted;
	uint64_t next_hello, next_tx;
	uint64_t strangers; /* frames that are not ours to judge */
	uint64_t probes;
	unsigned int turn;
	uint64_t pinged;
	struct rtt rtt;
};

/* 'id' is this guest's on that network; no two are the same. */
void traffic_init(struct traffic *t, struct igbvf *v, uint32_t id);
/* Queue what may go; returns the frames queued. */
unsigned int traffic_send(struct traffic *t);
/* An igbvf_rx_fn; 'opaque' is the struct traffic. */
void traffic_rx(void *opaque, const uint8_t *frame, uint32_t len,
		uint16_t vlan);
/* All peers are there, everything sent was seen and all theirs has come. */
bool traffic_done(const struct traffic *t);
/* No frame from any peer was lost, doubled, reordered or corrupt. */
bool traffic_clean(const struct traffic *t);
/* Six ways to get it wrong, each noticed; see checker.c. */
int checker(void);
void traffic_print(const struct traffic *t, char letter);

#endif
