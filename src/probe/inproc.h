/*
 * Probes in this very process: a library, and its SIGTRAP handler.
 *
 * The sink runs in the handler, with all signals blocked: it may touch
 * memory and nothing else.  Functions the handler itself needs (a few of
 * libc's) may be probed; their hits inside it are passed over in silence.
 *
 * A thread that blocks SIGTRAP and then meets a breakpoint is killed by the
 * kernel, whoever does this; programs that do are for the ptrace target.
 */
#ifndef PROBE_INPROC_H
#define PROBE_INPROC_H

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"
#include "probe/engine.h"

struct inproc;

/*
 * jump_form: replace entries by jumps where they are long enough and no other
 * thread runs yet.
 *
 * inproc_start() is these two: find everything, then write the breakpoints.
 * Between them the engine says which functions there are.  A session that is
 * prepared and not armed is ended by inproc_stop() too.
 */
int inproc_prepare(struct inproc **out, const char *patterns,
		   const struct engine_options *opt, bool jump_form,
		   probe_sink sink, void *opaque, struct err *e);
int inproc_arm(struct inproc *ip, struct err *e);

/* One at a time in a process: -EBUSY.  Patterns as in select.h. */
int inproc_start(struct inproc **out, const char *patterns,
		 const struct engine_options *opt, bool jump_form,
		 probe_sink sink, void *opaque, struct err *e);
/* Bytes back; what is left on this thread's stack is reported. */
void inproc_stop(struct inproc *ip);
/* The handler for traps that are not ours, as by sigaction(2); false if the
 * session is not armed. */
bool inproc_next_handler(struct inproc *ip, const struct sigaction *act,
			 struct sigaction *old);
struct engine *inproc_engine(struct inproc *ip);

#endif
