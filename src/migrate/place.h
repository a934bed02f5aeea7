/*
 * Where a destination listens, in words both ends of a connection find for
 * themselves.  They agree only if nothing stands between: a relay, a tunnel or
 * an address translation has one address towards each side, and what it says
 * of a connection, "refused" above all, it does not say for the destination.
 *
 * An address that means the machine it is used on (loopback, a unix socket's
 * path) is told with the machine: a tunnel may well have the same port on the
 * loopback of both hosts.
 */
#ifndef MIGRATE_PLACE_H
#define MIGRATE_PLACE_H

#include <stdbool.h>

#include "migrate/chan.h"

#define PLACE_MAX 512

/* The destination, of a channel it accepted at 'l'; "": cannot be told. */
void place_here(char out[PLACE_MAX], const struct chan *c,
		const struct chan_listener *l);
/* The source, of a channel it opened. */
void place_there(char out[PLACE_MAX], const struct chan *c);

/* What cannot be told is not the same. */
bool place_same(const char *a, const char *b);

#endif
