/*
 * A machine made of memory, to judge both engines by: a thread stands for
 * the guest and writes RAM all the time.  For tests; not installed.
 */
#ifndef MIGRATE_MIG_SIM_H
#define MIGRATE_MIG_SIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/mig.h"

#define PAGES	  1024
#define RAM_BYTES (PAGES * PAGE_SIZE)

struct machine {
	struct mig_vm vm;
	struct host_ram ram;
	uint64_t *dirty;
	uint64_t dirtied; /* by the guest, in all */

	pthread_t guest;
	pthread_mutex_t lock; /* held for each guest write */
	bool guest_there, quit;
	unsigned int held; /* pauses */
	_Atomic bool runnable;

	enum mig_action action; /* what offer() decides */
	int fail_drain, fail_ready, fail_prepare, fail_cpu;
	int miss; /* a fetch of the dirty log forgets page 5, just written */
	_Atomic unsigned int engaged, drained, released, dropped, runs;
	unsigned int looks;
	uint64_t counter;  /* the state */
	uint64_t watch_ns; /* asked for, before it ran */
	bool nonsense;	   /* told of what was seen */
};

extern const struct mig_vm_ops machine_ops;

void machine_init(struct machine *m, const struct mig_vm_ops *ops, bool runs);
void machine_fini(struct machine *m);
/* Whether it could execute guest code now. */
bool runs(struct machine *m);

#endif
