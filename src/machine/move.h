/*
 * Moving a machine: what the migration engines ask of it, on both sides.
 *
 * The engines run in a thread of their own; mailboxes, PF lines and the
 * machine itself belong to the loop's thread.  This is where the two meet:
 * a call that concerns those is carried into the loop and waited for.
 */
#ifndef MACHINE_MOVE_H
#define MACHINE_MOVE_H

#include "machine/machine.h"
#include "migrate/mig.h"
#include "netdev/netvf.h"

struct trace;

/* ---- source ---- */

struct move;

/*
 * Gives a machine the methods migrate, check, cancel and resolve
 * (docs/control.md).  A machine that has moved away quits with status 0.
 */
int move_create(struct move **out, struct machine *m, struct err *e);
void move_destroy(struct move *mv); /* NULL is fine */

/* ---- destination ---- */

struct arrival;

struct arrival_config {
	const char *listen; /* address */
	const char *tls;    /* directory, or NULL */
	bool insecure;	    /* plain TCP is meant */
	const char *const *vf;
	unsigned int nvfs; /* specs that may back devices */
};

/*
 * Claim the VFs, listen, and fill the machine (created, not built) with the
 * first migration that comes.  Serve the machine afterwards; it quits with
 * status 1 if a migration came to nothing.
 */
int arrival_create(struct arrival **out, struct machine *m,
		   const struct arrival_config *c, struct err *e);
void arrival_destroy(struct arrival *a); /* NULL is fine */
const char *arrival_addr(const struct arrival *a);

/* ---- both ---- */

/* The bytes of the manifest and of part 0 that are the machine's own. */
void move_manifest(struct machine *m, struct mig_manifest *out);

#endif
