/*
 * Inside of a machine; for the files of this folder only.
 */
#ifndef MACHINE_PRIV_H
#define MACHINE_PRIV_H

#include <stdatomic.h>

#include "machine/machine.h"

#define PARTS_MAX 8
#define STOPS_MAX 8

struct machine {
	struct machine_config cfg;
	struct loop *loop;
	struct trace *trace;
	struct ctl_server *ctl;
	struct console *console;
	struct probing *probing;
	struct vm *vm;
	struct machine_dev dev[MACHINE_DEVS_MAX];
	unsigned int ndevs;
	struct machine_part part[PARTS_MAX];
	unsigned int nparts, nbuilt; /* built: of the parts */
	bool started, quit;
	const char *claimed; /* by what; NULL: free */
	int status;
	uint64_t started_ns;
	unsigned int boots;

	/* The vCPU that saw the end writes, the loop reads. */
	_Atomic int end;
	int end_code;

	/* Callers of `stop` who wait, and until when. */
	struct {
		struct ctl_call *call;
		uint64_t until_ns;
	} stop[STOPS_MAX];
	struct loop_source *stop_timer;
};

/* ready.c */
/*
 * From another thread than the loop's: filters, then rings, of a device that
 * has come to another VF, as soon as the PF driver has granted what the
 * guest had.  -ETIMEDOUT if it does not answer.
 */
int machine_dev_ready(struct machine *m, struct machine_dev *dev,
		      struct err *e);

/* methods.c */
extern const struct ctl_method machine_methods[];
void machine_stops_tell(struct machine *m, const char *how);

#endif
