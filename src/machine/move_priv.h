/*
 * Inside of a machine that moves away; for the files move_*.c only.
 */
#ifndef MACHINE_MOVE_PRIV_H
#define MACHINE_MOVE_PRIV_H

#include <pthread.h>

#include "machine/move.h"
#include "machine/throttle.h"
#include "migrate/report.h"

#define SAMPLES_MAX 4096

struct move {
	struct mig_vm vm;
	struct machine *m;
	struct throttle *throttle;

	/* One migration, from the call to its end. */
	struct ctl_call *call;
	struct mig_source *source;
	struct chan_tls *tls;
	char dest[256];
	bool check_only, undecided;
	pthread_t thread;

	pthread_mutex_t lock; /* progress: engine to loop */
	struct mig_progress progress;
	bool told;

	/* The engine's, until it has ended. */
	struct mig_plan plan;
	struct mig_result result;
	enum mig_outcome outcome;
	json_t *last_stats; /* of devices that have been retired */
	uint64_t traced;    /* events from before this migration */
	int ret;
	struct err err;
	struct mig_sample sample[SAMPLES_MAX];
	size_t nsamples;
};

#define MV(vm_) container_of(vm_, struct move, vm)

/* move_vm.c: the machine as the engine sees it. */
extern const struct mig_vm_ops move_vm_ops;

#endif
