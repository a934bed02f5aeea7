/*
 * Probes on the kernel of a machine's guest, as its control socket offers
 * them: methods probe, probe_resume and probe_stop (docs/control.md).
 *
 * There is one session at most.  It belongs to the client that asked for it
 * and ends with it; one that came with a migration waits for a client for a
 * while.  While it ends, every byte of the guest is put back.
 *
 * All calls are for the loop's thread.
 */
#ifndef MACHINE_PROBING_H
#define MACHINE_PROBING_H

#include "base/err.h"
#include "base/wire.h"
#include "machine/machine.h"

#define PROBING_PART "probe" /* name of its state in a migration */

struct probing;

int probing_create(struct probing **out, struct machine *m, struct err *e);
void probing_destroy(struct probing *p); /* NULL is fine */

/*
 * A switch-over: from freeze on nothing is begun or ended, until the machine
 * runs on here (thaw) or has moved.  In between the session, if there is one,
 * is saved with the machine.
 */
void probing_freeze(struct probing *p);
void probing_thaw(struct probing *p);
bool probing_active(const struct probing *p);
void probing_save(struct probing *p, struct wire_out *o);
int probing_load(struct probing *p, struct wire_in *in, struct err *e);
/* It runs at 'dest' now: the client is told, the guest not touched. */
void probing_moved(struct probing *p, const char *dest);

#endif
