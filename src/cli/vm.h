/*
 * What `run` and `receive` have in common: this process becomes a machine
 * with all its methods, and serves it to the end.
 */
#ifndef CLI_VM_H
#define CLI_VM_H

#include "machine/machine.h"

struct cli_vm {
	const char *command; /* for messages */
	struct machine_config *cfg;
	const char *const *vf; /* specs that will be opened */
	unsigned int nvfs;
	/* How the machine comes to life; undone by end(), which may be NULL. */
	int (*begin)(struct machine *m, void *opaque, struct err *e);
	void (*end)(void *opaque);
	void *opaque;
	bool verbose;
};

/* Drops the rights it does not need.  Returns the exit status. */
int cli_vm_serve(const struct cli_vm *c);

#endif
