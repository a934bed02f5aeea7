/*
 * What the fuzzers of the two migration engines share: a VM that is nothing
 * but memory, and a peer over a real socket that says what the input says.
 *
 * Each brings its own operations of the VM (the tests' machine of memory
 * judges what it is sent, and has far more of it than a fuzzer has time for).
 * Nothing is worth waiting for here: nanosleep() returns at once.
 */
#ifndef FUZZ_PEER_H
#define FUZZ_PEER_H

#include "migrate/mig.h"

#define PEER_KINDS 24 /* sections that are said: those there are, and more */

extern const struct mig_device peer_net0;

/* A VM with so many bytes of RAM and peer_net0. */
void peer_describe(struct mig_manifest *out, uint64_t ram);
/* They are the same at each call, and hold what they held. */
struct host_ram peer_ram(uint64_t size);

/* Writes its own address; errors only are logged from now on. */
struct chan_listener *peer_listen(char *addr, size_t size);

struct peer {
	const uint8_t *p;
	size_t left;
	uint8_t *buf; /* a section's payload; peer_fini() frees it */
};

void peer_init(struct peer *p, const uint8_t *data, size_t size);
void peer_fini(struct peer *p);
/*
 * The next operation: nop bytes of which the last is a length in words, and
 * as many bytes, which are in buf and counted in *n.  False: there is none.
 */
bool peer_next(struct peer *p, uint8_t *op, size_t nop, size_t *n);

#endif
