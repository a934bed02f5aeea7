/*
 * A cap on what the senders send, and how fast the line would be without.
 *
 * Each byte books its time on the line.  A sender that has sent a burst
 * waits until everything booked before is paid for; at the end of a round it
 * pays for what is left.
 *
 * The outage is not held to the cap, so what it will take must be known from
 * the line.  A burst fits the socket's buffer: the time in send() says
 * nothing.  A line therefore counts as busy until the other side has taken
 * all of it (TCP: acknowledged, a round trip more; unix: read).  Where that
 * cannot be seen, or comes no sooner than the next burst, it is busy all the
 * time, and seems as slow as the cap.
 */
#ifndef MIGRATE_PACE_H
#define MIGRATE_PACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/chan.h"

struct pace {
	const _Atomic bool *stop; /* nobody waits any more; the caller's */
	pthread_mutex_t lock;
	_Atomic uint64_t rate; /* bytes/s; 0: no cap */
	uint64_t free_at;      /* when all that is booked is paid for */
	unsigned int busy;     /* lines that are */
	uint64_t since;	       /* when the first became so */
	uint64_t busy_ns;
};

/* One sender's; its thread is the only one that calls. */
struct pace_line {
	struct pace *pace;
	const struct chan *chan;
	uint64_t burst; /* bytes since it waited last */
	bool busy;
};

void pace_init(struct pace *p, uint64_t rate, const _Atomic bool *stop);
void pace_fini(struct pace *p);
/* Between rounds only.  0: no cap from now on, and nothing is measured. */
void pace_set(struct pace *p, uint64_t rate);
bool pace_capped(const struct pace *p);

/* There is something to send, and it is made ready. */
void pace_begin(struct pace_line *l);
/* Before n bytes of it are sent: wait for their turn. */
void pace_book(struct pace_line *l, uint64_t n);
/* The round's share is sent. */
void pace_end(struct pace_line *l);

/*
 * The time since pace_init() in which any line was busy: what the same bytes
 * would have taken without the cap, or more.  Between rounds.
 */
uint64_t pace_busy_ns(const struct pace *p);

#endif
