/*
 * A small world for KVM tests: one software NIC, the PF driver on it, and
 * virtual machines that each own one of its VFs and run the guest "net".
 *
 * All of it lives in this process: the NIC in one thread, the loop of PF
 * driver and vdevs in another, vCPUs in theirs.  Between NIC and VMs are
 * real vfio-user sockets.  Calls are for the creating thread and fail the
 * test themselves when something does not come up.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "igb/pf.h"
#include "nic/nic.h"
#include "nic/serve.h"
#include "vdev/mbx.h"
#include "vdev/vdev.h"
#include "vmm/vm.h"

/*
 * For any one event: a machine may be many times slower than another, or busy
 * with something else.  Only what never comes is waited for that long.
 */
#define WORLD_PATIENCE_MS 120000
#define WORLD_GUESTS	  4

struct world_guest {
	struct vm *vm;
	struct vdev *v;	      /* NULL with a function of the caller's */
	struct pf_port *port; /* with a mailbox */
	struct vdev_mbx *mbx;
	pthread_mutex_t lock;
	char *out; /* all it printed, NUL-terminated */
	size_t len;
};

struct world {
	struct nic *nic;
	struct uplink *uplink;
	struct serve *serve;
	struct loop *nic_loop, *loop;
	pthread_t nic_thread, loop_thread;
	struct pf *pf;
	char dir[64];
	struct trace *trace;
	unsigned int n;
	struct world_guest g[WORLD_GUESTS];
};

struct world_conf {
	const struct nic_conf *nic; /* NULL: an 82576, rings direct */
	const char *kernel;	    /* the guest "net" */
	unsigned int guests;
	const char *append[WORLD_GUESTS];
	bool mailbox; /* virtualised on demand; else the PF answers */
	/*
	 * What stands on the bus for a VF in a vdev's place, or NULL.  It has
	 * the pdev from then on, and ends before the world does.
	 */
	struct pci_func *(*func)(void *opaque, struct pdev *p, struct host *h);
	void *opaque;
	struct trace *trace; /* for PF driver and mailboxes, or NULL */
};

/* The PF driver dies as if killed; and a new one takes its place. */
void world_pf_dies(struct world *w);
void world_pf_again(struct world *w);

/* Everything is there and nothing runs; world_start() lets it go. */
void world_create(struct world *w, const struct world_conf *c);
void world_start(struct world *w);
/*
 * A cmocka teardown: ends what a case that failed has started.  Its world
 * must be static, for the case's stack is gone by then.
 */
int world_clean_up(void **state);
void world_destroy(struct world *w);

/* Run fn(opaque) in the PF driver's or the NIC's thread, and wait for it. */
void world_call(struct world *w, struct loop *l, loop_fn fn, void *opaque);
/* The guest's process dies: its VF's connection ends, as it was. */
void world_kill(struct world *w, unsigned int guest);

/* Wait for a guest's end: its exit status, or -1 after timeout_ms. */
int world_wait(struct world *w, unsigned int guest, int timeout_ms);

/* A line for the guest's console. */
void world_say(struct world *w, unsigned int guest, const char *line);

/*
 * The number behind "key=" on the last line that begins with "tag ", or
 * UINT64_MAX: world_stat(w, 0, "T", "lost").
 */
uint64_t world_stat(struct world *w, unsigned int guest, const char *tag,
		    const char *key);
/* Wait until such a number is at least 'v'; false after timeout_ms. */
bool world_reaches(struct world *w, unsigned int guest, const char *tag,
		   const char *key, uint64_t v, int timeout_ms);
/* Wait until it has printed this; false after timeout_ms. */
bool world_says(struct world *w, unsigned int guest, const char *text,
		int timeout_ms);
/* All the guest said, to standard error. */
void world_dump(struct world *w, unsigned int guest);

/* Whether /dev/kvm can be used; prints why not. */
bool world_possible(void);

#endif
