/*
 * Live migration: the two engines and what they ask of a machine.
 *
 * The source drives: manifest, plan, preparation, engagement of the
 * devices, rounds of RAM, switch-over, hand-over.  docs/stream.md has the
 * messages, DESIGN the reasons.  Both engines run in the caller's thread
 * and block; mig_cancel() from any thread ends a source early.
 *
 * Who may run the VM is decided at the destination, in one step: READY
 * becomes RUNNING on the source's HANDOVER, or ABORTED on anything else.
 * Until the source has sent HANDOVER it may resume at will; afterwards it
 * asks, and resumes only if the destination says ABORTED or is no more.
 */
#ifndef MIGRATE_MIG_H
#define MIGRATE_MIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wire.h"
#include "migrate/chan.h"
#include "migrate/manifest.h"
#include "migrate/plan.h"
#include "migrate/traffic.h"
#include "vdev/host.h"

#define MIG_CHANNELS_MAX   16
#define MIG_PARTS_MAX	   32	       /* named pieces of state */
#define MIG_PART_SIZE_MAX  (8u << 20)  /* bytes, each */
#define MIG_STATE_SIZE_MAX (32u << 20) /* bytes, all of them */

/*
 * The machine, on either side.  Calls come from the engine's thread.
 * Every call that can fail leaves the machine able to go on.
 */
struct mig_vm;

struct mig_vm_ops {
	size_t (*ram)(struct mig_vm *vm, const struct host_ram **out);

	/* ---- source ---- */
	void (*describe)(struct mig_vm *vm, struct mig_manifest *out);
	/* The CPU that the guest sees.  May be NULL. */
	void (*cpu)(struct mig_vm *vm, struct wire_out *o);
	/*
	 * The dirty log: KVM's, OR what devices marked.  Bit n is page n of
	 * the RAM regions laid end to end.  fetch sets bits and forgets.
	 */
	int (*dirty_start)(struct mig_vm *vm);
	int (*dirty_fetch)(struct mig_vm *vm, uint64_t *bitmap);
	void (*dirty_stop)(struct mig_vm *vm);
	/* Devices: into shadowing, or quiesced, as the plan says. */
	int (*engage)(struct mig_vm *vm, const struct mig_plan *plan,
		      struct err *e);
	/*
	 * Before the pause: begin to quiesce the devices that the plan
	 * rebuilds.  1: begun, 0: there are none.  quiesced: 1 when the
	 * structures of all of them are deleted and their drivers wait for
	 * the destination, 0: not yet.
	 */
	int (*quiesce)(struct mig_vm *vm, struct err *e);
	int (*quiesced)(struct mig_vm *vm, struct err *e);
	/* vCPUs are paused: stop DMA, account for what is in flight. */
	int (*drain)(struct mig_vm *vm, struct err *e);
	/* Undo engage and drain, wherever they got to: direct again. */
	void (*release)(struct mig_vm *vm);
	int (*pause)(struct mig_vm *vm);
	void (*resume)(struct mig_vm *vm);
	/* 0..99 percent of the time vCPUs are held. */
	void (*throttle)(struct mig_vm *vm, unsigned int percent);
	/* State part n: its name, or NULL behind the last. */
	const char *(*part)(struct mig_vm *vm, unsigned int n);
	int (*save)(struct mig_vm *vm, unsigned int n, struct wire_out *o);
	/*
	 * It runs there: let go at once of what others on this host may still
	 * send it (filters); the rest can wait.  May be NULL.
	 */
	void (*gone)(struct mig_vm *vm);
	/* What devices did, for the report: a new object, or NULL. */
	json_t *(*device_stats)(struct mig_vm *vm);

	/* ---- destination ---- */
	/* Whether this host can show that CPU.  May be NULL. */
	int (*cpu_check)(struct mig_vm *vm, struct wire_in *in, struct err *e);
	/* What can stand behind each device; moves nothing. */
	int (*offer)(struct mig_vm *vm, const struct mig_manifest *m,
		     const struct mig_policy *policy, struct mig_plan *out,
		     struct err *e);
	/* Make RAM and devices; nothing may run or do DMA yet. */
	int (*prepare)(struct mig_vm *vm, const struct mig_manifest *m,
		       const struct mig_plan *plan, struct err *e);
	int (*load)(struct mig_vm *vm, const char *part, struct wire_in *in,
		    struct err *e);
	/* All parts are in: last checks that can still say no. */
	int (*ready)(struct mig_vm *vm, struct err *e);
	/* Ours now: run.  May not fail any more. */
	void (*run)(struct mig_vm *vm);
	/* It came to nothing: drop what prepare made. */
	void (*drop)(struct mig_vm *vm);
	/*
	 * Somebody wants to know what the devices carry.  watch, before run:
	 * sample them from run on for so long.  watched: what there is, at
	 * most MIG_AFTER_MAX; waits for nobody.  Both may be NULL.
	 */
	void (*watch)(struct mig_vm *vm, uint64_t ns);
	size_t (*watched)(struct mig_vm *vm, struct mig_sample *out);
};

struct mig_vm {
	const struct mig_vm_ops *ops;
};

/* Phases, in order; both the progress and the report name them. */
enum mig_phase {
	MIG_CONNECT,
	MIG_CHECK,
	MIG_PREPARE,
	MIG_BASELINE, /* only when measuring: its traffic as it was */
	MIG_ENGAGE,
	MIG_PRECOPY,
	MIG_QUIESCE, /* only with devices that are rebuilt */
	/* the outage begins */
	MIG_PAUSE,
	MIG_DRAIN,
	MIG_LAST_RAM,
	MIG_STATE,
	MIG_LOAD,
	MIG_HANDOVER,
	/* the outage ends */
	MIG_DONE,
	MIG_PHASES,
};
const char *mig_phase_name(enum mig_phase p);

struct mig_progress {
	enum mig_phase phase;
	unsigned int round;    /* of pre-copy, from 1 */
	uint64_t ram;	       /* bytes of RAM in all */
	uint64_t sent;	       /* bytes on the wire */
	uint64_t remaining;    /* bytes of RAM still to send */
	uint64_t rate;	       /* bytes/s on the wire, lately */
	uint64_t dirty_rate;   /* bytes/s, last round */
	uint64_t downtime_ns;  /* expected; then measured */
	unsigned int throttle; /* percent */
	uint64_t elapsed_ns;
};

struct mig_params {
	const char *dest; /* address */
	const struct chan_tls *tls;
	uint64_t max_downtime_ns;
	uint64_t bandwidth; /* bytes/s; 0: no cap */
	unsigned int connections;
	int zstd_level; /* 0: off */
	struct mig_policy policy;
	bool stall_is_final;	  /* cancel when stalled */
	bool verify;		  /* compare RAM at switch-over */
	bool measure;		  /* for a report; see mig_watch() */
	unsigned int recovery_ms; /* asking after a lost link */
	/*
	 * From the pause to READY, beyond what was expected: then the VM goes
	 * on here.  0: 30 s; not kept with 'verify'.
	 */
	unsigned int switch_ms;
	void (*progress)(void *opaque, const struct mig_progress *p);
	void *opaque;
};

#define MIG_ROUNDS_KEPT 64

struct mig_round {
	uint64_t pages, zero_pages, bytes, ns;
	uint64_t dirty_pages; /* found at its end */
	/* When measuring: sent before, and of these, as they were sent. */
	uint64_t again_pages, same_pages;
	uint64_t line_ns; /* 'ns' as it were without the cap, at most */
};

/* What a part of the state takes of the outage. */
struct mig_part_time {
	char name[MIG_NAME_MAX];
	uint64_t save_ns; /* here, and on its way */
	uint64_t load_ns; /* there, as the destination says */
};

/* Everything a report needs; filled also when the migration failed. */
struct mig_result {
	struct mig_plan plan;
	uint64_t t0_ns;		       /* monotonic */
	uint64_t phase_ns[MIG_PHASES]; /* spent in each */
	uint64_t phase_at[MIG_PHASES]; /* entered, 0: never */
	uint64_t downtime_ns;	       /* pause .. the destination runs */
	uint64_t expected_ns;	       /* at the pause, for its RAM; 0: never */
	uint64_t total_ns;
	uint64_t bytes, state_bytes;
	uint64_t verified; /* pages compared at switch-over */
	unsigned int nparts;
	struct mig_part_time part[MIG_PARTS_MAX];
	unsigned int rounds;
	bool compared; /* rounds know again_pages and same_pages */
	struct mig_round round[MIG_ROUNDS_KEPT];
	unsigned int max_throttle;
	char transport[96];
	json_t *devices; /* or NULL; yours to decref */
};

/* Where the VM is afterwards; also the command's exit status. */
enum mig_outcome {
	MIG_RUNS_THERE = 0,
	MIG_RUNS_HERE = 1,
	MIG_UNDECIDED = 2, /* paused here; the destination is silent */
};

struct mig_source;

int mig_source_create(struct mig_source **out, struct mig_vm *vm,
		      const struct mig_params *p);
void mig_source_destroy(struct mig_source *s);

/* Connect, exchange manifest and plan, part again: moves nothing. */
int mig_check(struct mig_source *s, struct mig_plan *plan, struct err *e);

/*
 * The whole migration.  With MIG_RUNS_HERE the VM runs, its devices direct;
 * with MIG_RUNS_THERE it is paused for good and is to be torn down.
 */
enum mig_outcome mig_run(struct mig_source *s, struct mig_result *r,
			 struct err *e);

/*
 * What a report tells beyond what a migration knows anyway is measured only
 * if it was asked for.  Then the devices are left alone until their traffic
 * has been seen for MIG_BASELINE_NS, pages that were sent twice without need
 * are counted, and the destination is asked to watch its VFs for
 * MIG_WATCH_NS.  After MIG_RUNS_THERE, when the machine may be gone already,
 * mig_watch() waits for what it has to say: the number of samples, or 0 if
 * nothing came that can be used.  It waits until mig_watch_stop() or until
 * the connection ends, so the caller keeps the time; nothing depends on it.
 */
#define MIG_BASELINE_NS 300000000ull
#define MIG_WATCH_NS	1000000000ull
size_t mig_watch(struct mig_source *s, struct mig_sample out[MIG_AFTER_MAX]);
void mig_watch_stop(struct mig_source *s); /* from any thread */

/* -EBUSY once the hand-over has begun: then it is too late. */
int mig_cancel(struct mig_source *s);

/*
 * After MIG_UNDECIDED: ask the destination again, for at most timeout_ms.
 * Resumes the VM where that is safe, and says where it is now.
 */
enum mig_outcome mig_resolve(struct mig_source *s, unsigned int timeout_ms,
			     struct err *e);

/*
 * After MIG_UNDECIDED, when somebody who knows says that the destination
 * will never run it: resume without asking.
 */
void mig_resume_here(struct mig_source *s);

/*
 * The destination: serve one incoming migration on a listener.  Checks are
 * answered and waited past.  Returns 0 when the VM runs here (the source
 * has been told), -errno when it came to nothing.  *keep gets a handle that
 * goes on answering "running" to a source that lost the answer; close it
 * when the VM ends.
 */
struct mig_incoming;
int mig_receive(struct mig_vm *vm, struct chan_listener *l,
		struct mig_incoming **keep, struct err *e);
/*
 * Ends the answering.  If the source has not heard by then, waits for it to
 * ask until 'ms' after the hand-over: a listener that is gone would mean to
 * it that the VM never came to run, and it would run it once more.  Within
 * MIG_ASKING_MS it asks, if it can.  NULL is fine.
 */
#define MIG_ASKING_MS 45000
void mig_incoming_close(struct mig_incoming *k, unsigned int ms);

#endif
