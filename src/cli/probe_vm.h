/*
 * pagurus probe --vm: probes on a guest's kernel, by its VM's control socket.
 */
#ifndef CLI_PROBE_VM_H
#define CLI_PROBE_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/probe_report.h"

struct probe_vm {
	const char *vm, *dir, *symbols, *functions;
	bool list, resume;
	bool entry, exit, jumps; /* what to report */
	uint64_t seconds;	 /* 0: until the end */
	struct report_options report;
};

/* Until *stop, the time is over or the VM ends; the exit status. */
int probe_vm(const struct probe_vm *a, const volatile int *stop);

#endif
