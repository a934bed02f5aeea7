/*
 * What a probe reports, whichever target it is on.
 *
 * A function that ends in a tail call has two ends: the jump (its own code
 * is done) and the return (its caller runs again and its value exists).  They
 * are different events with different names.  A frame that longjmp or an
 * exception removed has neither: it was abandoned.
 */
#ifndef PROBE_EVENT_H
#define PROBE_EVENT_H

#include <stdint.h>

enum probe_event_kind {
	EVENT_ENTRY,
	EVENT_EXIT,	 /* back in the caller; 'value' is valid */
	EVENT_JUMP,	 /* left by a tail call; the exit is to come */
	EVENT_ABANDONED, /* the frame is gone and never returned */
	EVENT_KINDS
};

struct probe_event {
	uint8_t kind;
	uint16_t func;	  /* as numbered by the engine */
	int32_t tid;	  /* thread, or vCPU */
	uint32_t depth;	  /* of probed functions, 0 outermost */
	uint64_t time;	  /* ns, CLOCK_MONOTONIC */
	uint64_t latency; /* ns since entry; 0: entry not seen */
	uint64_t sp;	  /* where the return address stands */
	uint64_t caller;  /* entry: the return address */
	uint64_t value;	  /* exit: rax */
	uint64_t arg[6];  /* entry: rdi rsi rdx rcx r8 r9 */
};

/* In the in-process target this runs in a signal handler. */
typedef void (*probe_sink)(const struct probe_event *ev, void *opaque);

#endif
