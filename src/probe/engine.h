/*
 * The probe engine: what happens at a breakpoint.
 *
 * It is the same for every target and knows them only through
 * probe_target_ops.  Set-up (adding images and functions, arming, disarming)
 * is one thread's business; engine_hit() may run in any number of threads at
 * once, in a signal handler if need be: it takes no lock but that of a shared
 * stack and allocates from nobody.
 *
 * One trap a hit, and nothing is ever single-stepped: the instruction under a
 * breakpoint is either done by hand or run from a copy that jumps back.
 */
#ifndef PROBE_ENGINE_H
#define PROBE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wire.h"
#include "probe/event.h"
#include "probe/finder.h"
#include "probe/pending.h"
#include "probe/regs.h"
#include "probe/target.h"
#include "probe/tramp.h"

#define ENGINE_FUNCS_MAX 65535

struct engine_options {
	bool entry;	 /* report entries */
	bool exit;	 /* report exits and abandoned frames */
	bool jump;	 /* report tail jumps */
	bool no_latency; /* exits may come without their entry */
	bool count_only; /* no events: counts in engine_thread, jump form */
	bool no_copy;	 /* leave the previous frame out: for tests */
	bool mem_form;	 /* never hand the target over in r11 */
	bool swap_form;	 /* never call: swap the return address */
};

/* One function under probe. */
struct engine_func {
	const struct probe_func *fn;
	const char *name;
	const char *module; /* file it is in */
	uint64_t bias;
	bool track;   /* its entry is patched */
	bool jump;    /* by a jump, and then nothing else of it is */
	bool *turned; /* by site: a tail call turned elsewhere; or NULL */
};

/* Why a breakpoint stands at an address: a function and its site. */
struct engine_mark {
	uint16_t func;
	const struct probe_site *site;
};

struct engine_patch {
	uint64_t addr;
	uint64_t slot;	       /* copy of the instruction, or 0 */
	uint64_t target;       /* of a direct branch */
	uint32_t mark, nmarks; /* in engine.mark */
	struct site_ref ref;
	uint16_t pop;
	uint8_t kind; /* enum insn_kind of what is there */
	uint8_t len, cond, pushed;
	uint8_t ntrap;
	uint8_t trap[PROBE_TRAP_MAX], orig[PROBE_TRAP_MAX];
};

/* A file mapped into the target, for unwind data of callers. */
struct engine_image {
	uint64_t lo, hi, bias;
	const struct image *im;
};

struct engine;

/* One thread of the target; the back end keeps it. */
struct engine_thread {
	const struct engine *of; /* the engine that made it */
	int tid;
	int process;		/* address space it runs in; 0: the only one */
	struct probe_stack own; /* its native stack */
	uint64_t *count;	/* count_only: [func * EVENT_KINDS + kind] */
	uint64_t *total;	/* count_only: ns of all exits, by func */
	struct engine_thread *next;
};

struct engine_stats {
	_Atomic uint64_t hits, events, collapsed, swapped, lost;
};

int engine_create(struct engine **out, const struct probe_target_ops *ops,
		  struct probe_target *t, const struct engine_options *opt,
		  probe_sink sink, void *opaque);
void engine_destroy(struct engine *en); /* NULL is fine */

/* The address space it is armed in, where there is more than one. */
void engine_set_process(struct engine *en, int process);

/* The image must outlive the engine. */
int engine_add_image(struct engine *en, const struct image *im, uint64_t lo,
		     uint64_t hi, uint64_t bias);
/* fn has its sites; both must outlive the engine.  Returns its number. */
int engine_add_func(struct engine *en, const struct probe_func *fn,
		    const char *module, uint64_t bias, struct err *e);
size_t engine_nfuncs(const struct engine *en);
const struct engine_func *engine_func(const struct engine *en, unsigned int i);
const struct engine_stats *engine_stats(const struct engine *en);

/* Write the breakpoints.  All of them, or none and an error. */
int engine_arm(struct engine *en, struct err *e);
/*
 * Put the bytes back in one address space (a fork has its own); the engine is
 * disarmed with the first one's, which therefore comes last.  Frames in
 * flight return through the trampolines by themselves; *in_flight says
 * whether any do, and then the trampolines must stay.
 */
int engine_disarm(struct engine *en, int process, bool *in_flight);
/*
 * An armed engine of a target without memory for trampolines, as bytes; and
 * an empty one (created with ops and options; the latter are replaced) filled
 * from them, armed, its breakpoints being in memory already.  'shift' is
 * added to the times of what is pending.  Nothing is written; on failure the
 * engine is only good for engine_destroy().
 */
void engine_save(const struct engine *en, struct wire_out *o);
int engine_load(struct engine *en, struct wire_in *in, int64_t shift,
		struct err *e);

/* Breakpoint number i as it stands in memory; false behind the last. */
bool engine_trap(const struct engine *en, size_t i,
		 uint8_t trap[PROBE_TRAP_MAX], unsigned int *n);
/* Are swapped return addresses this one? */
bool engine_swaps_to(const struct engine *en, uint64_t addr);

/*
 * Return addresses of ours that are not where they were put.  After disarming
 * they may be in the keeping of another tool that swaps them, or be gone.
 */
size_t engine_swapped(const struct engine *en);

/* Give back the memory of trampolines and copies; none may be in use. */
void engine_unmap(struct engine *en);

/*
 * A thread met a breakpoint at r->rip.  0: handled, run with *r;
 * -ENOENT: not ours, nothing was changed; -ESRCH: it was ours and has been
 * disarmed, run again at r->rip.
 */
int engine_hit(struct engine *en, struct engine_thread *th,
	       struct probe_regs *r);

/* As engine_hit(), but nothing is reported: for hits inside a handler. */
int engine_pass(struct engine *en, struct probe_regs *r);

/*
 * The same for entries replaced by a jump: what happens at func's entry, r's
 * stack pointer at the slot.  Returns the class of the trampoline to call
 * 'body' from, its header written; or -1: go on in the body.
 */
int engine_enter(struct engine *en, struct engine_thread *th,
		 struct probe_regs *r, uint16_t func, uint64_t body);
/*
 * And for a tail call turned to a stub: func leaves for 'to'.  Returns where
 * to go: a trampoline with its header written, or 'to' itself.
 */
uint64_t engine_tail(struct engine *en, struct engine_thread *th,
		     struct probe_regs *r, uint16_t func, uint64_t to);
/* Back in that trampoline; returns the slot to return through. */
uint64_t engine_leave(struct engine *en, struct engine_thread *th,
		      struct probe_regs *r, unsigned int cls);
/* Over all threads, count_only. */
uint64_t engine_count(const struct engine *en, unsigned int func,
		      enum probe_event_kind kind);

/* Is rip in a relocated copy, or a trampoline?  Then a detach must wait. */
bool engine_owns(const struct engine *en, uint64_t rip);

/*
 * The unwinder removed a frame of ours whose slot is at 'sp'; called by
 * targets that can tell.
 */
void engine_unwound(struct engine *en, struct engine_thread *th, uint64_t sp);

/*
 * Report as abandoned what is not in the chain of callers of a thread stopped
 * at *r (NULL: all of it, the thread has ended).  For the end of a session;
 * in between, a thread's own hits tell.
 */
void engine_reap(struct engine *en, struct engine_thread *th,
		 const struct probe_regs *r);

struct engine_frame {
	uint64_t pc;
	uint64_t slot; /* where its return address stands */
};

/* The chain of callers, trampolines looked through.  Returns how many. */
size_t engine_backtrace(struct engine *en, struct engine_thread *th,
			const struct probe_regs *r, struct engine_frame *f,
			size_t max);

/* Activations not ended, over all stacks. */
size_t engine_pending(struct engine *en);

/* A thread's state, made at its first hit. */
struct engine_thread *engine_thread(struct engine *en, int tid, int process);
/* A fork: what is pending on all of from's stacks is pending in the child's
 * first thread too. */
struct engine_thread *engine_fork(struct engine *en,
				  const struct engine_thread *from, int tid,
				  int process);
void engine_thread_gone(struct engine *en, struct engine_thread *th);

#endif
