/*
 * Probes in another process, by ptrace: all its threads, one stop an event.
 *
 * The traced program is stopped only at breakpoints and while the session
 * starts and ends; ending it puts the bytes back.  One thread does all of
 * this: ptrace insists that it be the same one throughout.
 */
#ifndef PROBE_PTRACE_H
#define PROBE_PTRACE_H

#include <stdbool.h>

#include "base/err.h"
#include "probe/engine.h"
#include "probe/select.h"

struct tracer;

struct tracer_options {
	struct engine_options engine;
	bool children; /* forks are probed too */
};

/* Seize a running process and all its threads. */
int tracer_attach(struct tracer **out, int pid, const char *patterns,
		  const struct tracer_options *opt, probe_sink sink,
		  void *opaque, struct err *e);
/* Start a program and stop it where its own code begins. */
int tracer_spawn(struct tracer **out, char *const argv[], const char *patterns,
		 const struct tracer_options *opt, probe_sink sink,
		 void *opaque, struct err *e);

/*
 * Until the process ends (1), *stop is not 0 or a signal came (0).  Events
 * come from here and from tracer_stop() alone.
 */
int tracer_wait(struct tracer *t, const volatile int *stop);

/* Bytes back, threads released; what is known stays readable. */
void tracer_stop(struct tracer *t);
void tracer_close(struct tracer *t); /* NULL is fine; stops it first */

struct engine *tracer_engine(struct tracer *t);
const struct selection *tracer_selection(const struct tracer *t);
int tracer_pid(const struct tracer *t);
/* wait()'s status of the first process once it has ended, else -1. */
int tracer_status(const struct tracer *t);

/* The stopped thread the sink is being called for, to look further. */
const struct probe_regs *tracer_regs(const struct tracer *t);
struct engine_thread *tracer_thread(const struct tracer *t);

#endif
