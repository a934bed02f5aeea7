/*
 * What the devices of a VM carried before, during and after its move.
 *
 * The source samples its VFs from when the migration is asked for until they
 * are given up; a source that wants to know the rest (SEC_WATCH) is sent what
 * the destination's VFs did from when the VM ran there (SEC_TRAFFIC).
 */
#ifndef MIGRATE_TRAFFIC_H
#define MIGRATE_TRAFFIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

#define MIG_WATCH_MAX_NS 5000000000ull /* what a source may ask for */
#define MIG_AFTER_MAX	 64	       /* samples of it */

/* Sums over all devices and both directions, since the first sample. */
struct mig_sample {
	uint64_t at_ns;
	uint64_t frames, bytes;
};

/* Moments at which a rate begins or ends. */
enum mig_mark {
	MIG_MARK_BEGIN,	 /* the migration was asked for */
	MIG_MARK_ENGAGE, /* devices are about to be shadowed */
	MIG_MARK_STOP,	 /* about to be quiesced, or the vCPUs paused */
	MIG_MARK_GONE,	 /* it runs there */
	MIG_MARKS,
};

struct mig_traffic {
	const struct mig_sample *sample; /* at_ns: monotonic clock */
	size_t n;
	struct mig_sample mark[MIG_MARKS]; /* at_ns 0: never got there */
	/* at_ns: since it runs there, as the destination says. */
	struct mig_sample after[MIG_AFTER_MAX];
	size_t nafter;
};

void mig_after_put(struct wire_out *o, const struct mig_sample *s, size_t n);
/*
 * From a peer who may say anything: the number of samples, at least two, in
 * order of time and never less than before.  -EBADMSG: *out is of no use.
 */
int mig_after_get(struct wire_in *in, struct mig_sample out[MIG_AFTER_MAX]);

#endif
