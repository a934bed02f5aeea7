/*
 * Statistics that do not jump.
 *
 * The family's VF counters cannot be written, and the guest's driver adds
 * 2^32 when one is lower than before.  So after a move the guest reads
 * counter + offset, through a trap on the page of the counters, until its
 * driver is probed anew; igbvf reads them every two seconds, so the trap
 * costs about ten exits per two seconds and none per packet.
 *
 * Register facts: igbvf regs.h, nine 32-bit counters from VFGPRC to VFGOTLBC
 * that roll over and are not cleared by reading.
 */
#ifndef NETDEV_REBASE_H
#define NETDEV_REBASE_H

#include "base/wire.h"
#include "vdev/vdev.h"

struct rebase;

int rebase_create(struct rebase **out, struct vdev *v);
void rebase_destroy(struct rebase *r); /* NULL is fine */

/* Source, vCPUs paused: what the guest reads now. */
void rebase_capture(struct rebase *r);
void rebase_save(const struct rebase *r, struct wire_out *o);
int rebase_load(struct rebase *r, struct wire_in *in);

/* Destination, or after a rebind: go on from what was captured or loaded. */
void rebase_apply(struct rebase *r);

#endif
