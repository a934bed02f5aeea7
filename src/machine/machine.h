/*
 * A machine: a VM, its devices, its console and its control socket, as one
 * process.  `run` boots a kernel in it, `receive` fills it from a stream.
 *
 *	create -> build -> start -> serve -> destroy
 *
 * create takes the name and makes what a person can reach; build makes the
 * VM with its devices, still; start sets it going; serve is the event loop
 * until the end.  All calls are for the thread that created it, which is
 * also the loop's.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "ctl/ctl.h"
#include "machine/console.h"
#include "netdev/netdev.h"
#include "vdev/vdev.h"
#include "vmm/vm.h"

#define MACHINE_DEVS_MAX 8

struct machine;
struct probing;

/* Strings are the caller's and live as long as the machine. */
struct machine_config {
	const char *name;
	const char *dir;     /* of control sockets; NULL: ctl_dir()'s */
	const char *console; /* NULL, "stdio", or a socket's path */
	uint64_t mem;	     /* bytes */
	bool hugepages;
	unsigned int cpus;
	const char *kernel, *initrd, *append; /* kernel NULL: to be loaded */
	/*
	 * One spec a device: "VF[,model=MODEL]", VF as for netvf_open(), or
	 * "none,model=MODEL" for one that nothing backs yet.
	 */
	const char *vf[MACHINE_DEVS_MAX];
	unsigned int nvfs;
	struct shadow_opts shadow; /* how devices are shadowed */
	bool no_reboot;		   /* a reset by the guest ends the machine */
};

/* A device; plain, for those who add to it.  Lives from build to unbuild. */
struct machine_dev {
	char name[16]; /* "net0" */
	struct netdev *nd;
	struct vdev *v; /* nd's */
};

int machine_create(struct machine **out, const struct machine_config *cfg,
		   struct err *e);
void machine_destroy(struct machine *m); /* NULL is fine */

/*
 * On failure nothing is built.  unbuild stops the VM for good and gives the
 * devices up; build may then be called again.
 */
int machine_build(struct machine *m, struct err *e);
void machine_unbuild(struct machine *m);

/*
 * While it is being built: one more device of that model, on 'vf' (NULL:
 * nothing backs it yet), which is the machine's on success.
 */
int machine_plug(struct machine *m, struct netvf *vf,
		 const struct vdev_model *model, struct err *e);

int machine_start(struct machine *m, struct err *e);

/*
 * Until the guest ends, somebody stops the machine or machine_quit().
 * Returns the process's exit status: 0 the guest powered off or was stopped,
 * 2 it crashed; a test guest's own.  A guest that reboots is built anew.
 */
int machine_serve(struct machine *m);
/* serve returns this status as soon as it is back in the loop. */
void machine_quit(struct machine *m, int status);

struct vm *machine_vm(struct machine *m); /* NULL: not built */
struct loop *machine_loop(struct machine *m);
struct trace *machine_trace(struct machine *m);
struct ctl_server *machine_ctl(struct machine *m);
struct probing *machine_probing(struct machine *m);
bool machine_running(const struct machine *m); /* started, not ended */
struct console *machine_console(struct machine *m);
struct machine_config *machine_get_config(struct machine *m);
unsigned int machine_ndevs(const struct machine *m);
struct machine_dev *machine_dev(struct machine *m, unsigned int i);

/* What `status` shows; a new reference. */
json_t *machine_status(struct machine *m);

/*
 * Whoever moves the machine or a device of it has it for himself: both
 * shadow, pause and release, and each would undo what the other relies on.
 * -EBUSY with what is going on, -ENODATA if no VM runs; 'what' is a literal,
 * "a migration".
 */
int machine_claim(struct machine *m, const char *what, struct err *e);
void machine_unclaim(struct machine *m);

/*
 * Others hang on to build and unbuild (mailbox, shadow, migration): built()
 * after all devices are there and before the VM starts, in the order added;
 * unbuild() before the devices go, in reverse; status() adds what is theirs.
 * Any may be NULL.
 */
struct machine_part {
	const char *name; /* key in the status */
	int (*built)(struct machine *m, void *opaque, struct err *e);
	void (*unbuild)(struct machine *m, void *opaque);
	json_t *(*status)(struct machine *m, void *opaque);
	void *opaque;
};
int machine_add(struct machine *m, const struct machine_part *part);

#endif
