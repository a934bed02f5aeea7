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
 * Until the process ends, or *stop is not 0 (a signal handler sets it).
 * Returns 0 if stopped, 1 if the process ended.
 */
int tracer_run(struct tracer *t, const volatile int *stop);

/* Bytes back, threads released.  Also after the process has ended. */
void tracer_detach(struct tracer *t);

struct engine *tracer_engine(struct tracer *t);
int tracer_pid(const struct tracer *t);
/* wait()'s status of the first process once it has ended, else -1. */
int tracer_status(const struct tracer *t);

/* The stopped thread the sink is being called for, to look further. */
const struct probe_regs *tracer_regs(const struct tracer *t);
struct engine_thread *tracer_thread(const struct tracer *t);

#endif
