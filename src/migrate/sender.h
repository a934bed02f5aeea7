/*
 * Sending RAM: a thread a data channel.
 *
 * A page always travels on the same channel (its chunk's number modulo the
 * channels), so that a later copy of it can never be overtaken by an
 * earlier one and no round needs a barrier at the destination.
 */
#ifndef MIGRATE_SENDER_H
#define MIGRATE_SENDER_H

#include "migrate/mig.h"

struct sender;

struct sender_config {
	struct chan **chan; /* stay the caller's */
	unsigned int nchan;
	const struct host_ram *ram;
	size_t nram;
	int zstd_level;
	uint64_t bandwidth; /* bytes/s; 0: no cap */
	uint64_t *sums;	    /* NULL, or one a page, zero: to compare */
};

int sender_create(struct sender **out, const struct sender_config *c);
void sender_destroy(struct sender *s); /* NULL is fine */

/* Lift or change the cap, between rounds; 0: none. */
void sender_bandwidth(struct sender *s, uint64_t bytes_per_s);

/*
 * Start sending the pages set in 'todo' (regions end to end), which must
 * stay as it is meanwhile.  Wait returns 1 while it goes on, 0 when all are
 * sent, -errno with a message when a channel failed.
 */
void sender_start(struct sender *s, const uint64_t *todo);
int sender_wait(struct sender *s, unsigned int ms, struct mig_round *r,
		struct err *e);

uint64_t sender_pages_done(const struct sender *s); /* of this round */
uint64_t sender_bytes(const struct sender *s);	    /* since creation */

/* RAM_END on every channel. */
int sender_end(struct sender *s, struct err *e);

#endif
