/*
 * A writer of memory: what a migration has to chase.
 *
 * It goes round a stretch of RAM at a set rate; each time it comes by a page
 * it first finds what it left there a round ago, word for word, and then
 * leaves something new.
 */
#ifndef GUEST_DIRTY_H
#define GUEST_DIRTY_H

#include "guest.h"

struct dirty {
	uint8_t *ram;
	uint64_t pages, rate; /* pages a second; 0: none at all */
	uint64_t at, round;   /* page to come, times round */
	uint64_t start, done; /* since the rate was set */
	uint64_t bad;	      /* pages that were not as we left them */
};

/* From the arguments dirty_mb and dirty_rate (MiB a second). */
void dirty_init(struct dirty *d);
void dirty_set_rate(struct dirty *d, uint64_t mib);
/* Do what is due, a little at a time. */
void dirty_run(struct dirty *d);
/* Look at all of it; returns the pages that are not as they were left. */
uint64_t dirty_verify(struct dirty *d);
void dirty_print(const struct dirty *d);

#endif
