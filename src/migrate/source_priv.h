/*
 * Inside of the source's engine; for the files source*.c only.
 */
#ifndef MIGRATE_SOURCE_PRIV_H
#define MIGRATE_SOURCE_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "migrate/mig.h"
#include "migrate/proto.h"
#include "migrate/sender.h"

struct mig_source {
	struct mig_vm *vm;
	struct mig_params p;
	struct mig_result *r;
	uint8_t session[SESSION_BYTES];
	char peer[CHAN_PEER_MAX]; /* who said hello; "": nobody yet */
	bool direct;		  /* that is the destination, and no relay */

	/* The lock only keeps mig_cancel() from a channel being closed. */
	pthread_mutex_t lock;
	struct chan *main, *data[MIG_CHANNELS_MAX];
	struct sender *sender;
	uint8_t *buf; /* a message */
	uint64_t *dirty;
	uint64_t pages;
	unsigned int parts; /* of state, sent */
	struct mig_manifest manifest;

	struct mig_progress now;
	uint64_t last_bytes, last_ns;

	uint64_t until; /* of the switch-over (now_ns); 0: none, or no end */

	/* What must be undone if it comes to nothing. */
	bool logging, engaged, paused;

	bool watched;	/* the destination was told to watch, and runs it */
	uint64_t *sums; /* of pages as they were sent, or NULL */

	/* 0: may be cancelled, 1: cancelled, 2: too late */
	_Atomic int fate;
};

/* source.c */
void source_report(struct mig_source *s);
void source_enter(struct mig_source *s, enum mig_phase phase);
int source_cancelled(struct mig_source *s, struct err *e);
/* To the destination: any of its name's hosts, from then on that one. */
int source_connect(struct mig_source *s, struct chan **out, struct err *e);
int source_greet(struct mig_source *s, struct chan *c, uint16_t channel,
		 struct err *e);

/*
 * In the switch-over the VM stands still, so the peer may take no longer than
 * what is left of it.  -ETIMEDOUT when nothing is; 0 outside of one.
 */
int source_hurry(struct mig_source *s, struct err *e);

/* source_rounds.c: RAM, until little enough of it is left. */
int source_precopy(struct mig_source *s, struct err *e);
int source_quiesce(struct mig_source *s, struct err *e);
/* Add what is dirty to what is to be sent; send all of that. */
int source_fetch(struct mig_source *s, uint64_t *pages, struct err *e);
int source_round(struct mig_source *s, struct err *e);
void source_throttle(struct mig_source *s, unsigned int percent);

/* source_switch.c: pause, the last RAM, the state; READY has come. */
int source_switch_over(struct mig_source *s, struct err *e);

/* source_watch.c: what only a report wants to know. */
int source_baseline(struct mig_source *s, struct err *e);
int source_ask_watch(struct mig_source *s, struct err *e);

/* source_handover.c: whose the VM is, and back to how it was. */
enum mig_outcome source_hand_over(struct mig_source *s, struct err *e);
void source_resume(struct mig_source *s);

#endif
