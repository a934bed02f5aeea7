/*
 * The listener of a destination, beside the migration it serves: who else
 * knocks, and the hand-over, after which a source that lost the answer asks.
 *
 * An address has one listener, held by the process that may run the VM for
 * as long as it lives.  So a process that listens there and never met a
 * session says by that that whoever had it is gone.
 */
#ifndef MIGRATE_DOOR_H
#define MIGRATE_DOOR_H

#include "migrate/mig.h"
#include "migrate/proto.h"

/* What a migration shares with its door; all of it outlives the door. */
struct door {
	struct chan_listener *listener;
	struct chan *main;
	const uint8_t *session; /* SESSION_BYTES */
	struct mig_vm *vm;
	uint64_t watch_ns; /* for the source's report; 0: it wants none */
};

/*
 * Somebody said hello who does not belong here: tells him why, or, if he
 * asks for a session of the past, that it is unknown.  Closes the channel.
 */
void door_turn_away(struct chan *c, const struct proto_hello *h,
		    const char *why);

/*
 * While a VM arrives: turns away all who come, from a thread.  Dismissed, he
 * takes nobody any more but may still be busy with somebody slow; destroy()
 * waits for that.
 */
struct doorman;
int doorman_create(struct doorman **out, const struct door *d, const char *why);
void doorman_dismiss(struct doorman *m); /* NULL is fine */
void doorman_destroy(struct doorman *m); /* NULL is fine */

/*
 * READY was said.  0: HANDOVER came, the VM is ours.  Anything else is a
 * decision against it, made here and told to a source that asks.
 * 'buf' has STREAM_PAYLOAD_MAX bytes.
 */
int door_decide(const struct door *d, void *buf, struct err *e);

/*
 * It runs here: say so, from a thread, until the source has heard; then what
 * its devices carried, if that is wanted.
 */
int door_testify(const struct door *d, struct mig_incoming **out);

#endif
