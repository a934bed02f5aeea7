/*
 * The insides of the ptrace target, shared by ptrace*.c.
 */
#ifndef PROBE_PTRACE_PRIV_H
#define PROBE_PTRACE_PRIV_H

#include <sys/user.h>

#include "probe/ptrace.h"
#include "probe/select.h"

/* An address space: the process we were asked for, or a fork of it. */
struct probe_target {
	int pid;	/* any task in it, for reading */
	int mem;	/* /proc/PID/mem */
	int tid;	/* stopped, may run code for us */
	uint64_t entry; /* where that code is put for a moment */
	uint64_t fs_base;
	struct tracer *tracer;
	uint64_t unwind_obj;
};

struct tracee {
	int tid, process;
	struct engine_thread *th;
	bool stopped;
	bool early; /* stopped before its parent told us */
	bool quiet; /* hits are carried out, not reported */
	int signal; /* to deliver when it goes on */
	struct tracee *next;
};

struct tracer {
	struct probe_target target;
	struct tracer_options opt;
	struct engine *en;
	struct selection sel;
	struct tracee *tasks;
	struct probe_regs regs; /* of the hit being reported */
	struct tracee *current;
	int pid, status;
	bool ended, armed, detaching;
};

extern const struct probe_target_ops ptrace_ops;

void ptrace_to_regs(const struct user_regs_struct *u, struct probe_regs *r);
void ptrace_from_regs(const struct probe_regs *r, struct user_regs_struct *u);

/* Work on this address space and this stopped task from now on. */
int target_switch(struct probe_target *t, int pid, int tid);

#endif
