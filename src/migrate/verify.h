/*
 * Comparing RAM at switch-over: the oracle of the dirty log.
 *
 * When asked to, the source sends a sum of every page of its final RAM, in
 * the outage, after the last round; the destination holds it against what
 * it received, and refuses to run if a page differs.  The VM then goes on at
 * the source.  It touches all of RAM on both sides.
 */
#ifndef MIGRATE_VERIFY_H
#define MIGRATE_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "migrate/chan.h"
#include "vdev/host.h"

/* Source: DIGEST sections for all of 'ram'; buf has STREAM_PAYLOAD_MAX. */
int verify_send(struct chan *c, const struct host_ram *ram, size_t n,
		uint8_t *buf, uint64_t *pages);

/* Destination: counts, zeroed by the caller. */
struct verify {
	uint64_t pages, bad;
	uint64_t first_bad; /* gpa */
};

/* One section; -EBADMSG when it is none of this RAM. */
int verify_take(struct verify *v, const struct host_ram *ram, size_t n,
		const uint8_t *payload, size_t len, struct err *e);
/* All of RAM was compared and found equal, or why not. */
int verify_end(const struct verify *v, const struct host_ram *ram, size_t n,
	       struct err *e);

#endif
