/*
 * Telling switches where an address is now: RARP requests, as every
 * hypervisor sends them after a migration.
 *
 * A broadcast frame from the address itself; nobody answers it, and every
 * switch on its way learns the port.  Facts: RFC 903; QEMU net/announce.c
 * for the number and spacing of the rounds.
 */
#ifndef IGB_RARP_H
#define IGB_RARP_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "igb/mbx.h"

#define RARP_MAX    64 /* bytes of a frame: 60, and a tag */
#define RARP_ROUNDS 5

/* The frame that announces 'mac', tagged unless vid is 0; its length. */
size_t rarp_frame(uint8_t *buf, const uint8_t *mac, unsigned int vid);

/*
 * One frame for each address a VF was granted, untagged and in each of its
 * VLANs; send returns false when it takes no more.  Returns those taken.
 */
typedef bool (*rarp_send_fn)(void *opaque, const void *frame, size_t len);
unsigned int rarp_send(const struct mbx_state *s, rarp_send_fn send,
		       void *opaque);

/*
 * RARP_ROUNDS calls of 'round' in the loop's thread: at once, then 50, 150,
 * 250 and 350 ms apart, for frames get lost and ports take a while to
 * forward.
 */
struct rarp_rounds;

int rarp_rounds_create(struct rarp_rounds **out, struct loop *l, loop_fn round,
		       void *opaque);
void rarp_rounds_destroy(struct rarp_rounds *r); /* NULL is fine */
/* From the first round again; the first is over when this returns. */
void rarp_rounds_start(struct rarp_rounds *r);
void rarp_rounds_stop(struct rarp_rounds *r);

#endif
