/*
 * What `pagurus probe` prints: events as they come, or what they add up to.
 */
#ifndef CLI_PROBE_REPORT_H
#define CLI_PROBE_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "probe/engine.h"
#include "probe/event.h"
#include "probe/select.h"

#define REPORT_BUCKETS 64

struct report_options {
	bool stream; /* a line an event */
	bool count, hist, json;
	bool ret, stack;
	bool guest; /* threads are vCPUs */
	unsigned int args;
};

struct report_func {
	const char *name, *module;
	uint64_t count[EVENT_KINDS];
	uint64_t timed, total, min, max; /* latencies, ns */
	uint64_t bucket[REPORT_BUCKETS]; /* by power of two */
};

struct report {
	struct report_options opt;
	FILE *out;
	struct report_func *func;
	uint32_t nfunc;
	uint64_t start, lost;
};

int report_open(struct report *r, const struct report_options *opt,
		uint32_t nfunc);
void report_name(struct report *r, uint32_t i, const char *name,
		 const char *module);
void report_close(struct report *r);

/* frames may be NULL; names come from sel. */
void report_event(struct report *r, const struct probe_event *ev,
		  const struct engine_frame *frames, size_t nframes,
		  const struct selection *sel);
/* Of a guest's kernel: 'stack' is names already, or NULL. */
void report_guest_event(struct report *r, const struct probe_event *ev,
			const json_t *stack);
/* The tables at the end. */
void report_end(struct report *r);

/* --list: one function and its sites. */
void report_list(FILE *out, bool json, const char *module,
		 const struct probe_func *fn);

#endif
