/*
 * Inside of a machine that moves away; for the files move_*.c only.
 */
#ifndef MACHINE_MOVE_PRIV_H
#define MACHINE_MOVE_PRIV_H

#include <pthread.h>

#include "machine/meter.h"
#include "machine/move.h"
#include "machine/throttle.h"

struct move {
	struct mig_vm vm;
	struct machine *m;
	struct throttle *throttle;

	/* One migration, from the call to its end. */
	struct ctl_call *call;
	struct mig_source *source;
	struct chan_tls *tls;
	char dest[256];
	bool check_only, undecided, measure;
	bool moved; /* and what is left waits for the report's last part */
	struct loop_source *watch_end;
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
	struct meter *meter;
	struct mig_traffic traffic;
	struct mig_sample after[MIG_AFTER_MAX]; /* the engine's */
	size_t nafter;
};

#define MV(vm_) container_of(vm_, struct move, vm)

/* move_vm.c: the machine as the engine sees it. */
extern const struct mig_vm_ops move_vm_ops;

#endif
