/*
 * A probe session's insides, for probing*.c alone.
 */
#ifndef MACHINE_PROBING_PRIV_H
#define MACHINE_PROBING_PRIV_H

#include <pthread.h>

#include "machine/probing.h"
#include "probe/guest.h"

#define PROBING_STACK	16    /* callers an event carries */
#define PROBING_QUEUE	16384 /* events that wait for the client */
#define PROBING_BUCKETS 64

/* What a function's events add up to; exact, whatever was dropped. */
struct probing_sum {
	uint64_t count[EVENT_KINDS];
	uint64_t timed, total, min, max;  /* latencies, ns */
	uint64_t bucket[PROBING_BUCKETS]; /* by power of two */
};

struct probing_event {
	struct probe_event ev;
	uint32_t nstack;
	uint64_t stack[PROBING_STACK];
};

/* Between vCPU threads, which write, and the loop, which reads. */
struct probing_queue {
	pthread_mutex_t lock;
	struct probing_event *ev; /* [PROBING_QUEUE]; NULL: no session */
	uint64_t head, tail;	  /* written, read */
	uint64_t dropped;
	bool keep;  /* events; else only sums */
	bool stack; /* callers too */
	bool called;
	struct probing_sum *sum; /* by function */
	size_t nsum;
};

enum probing_state {
	PROBING_IDLE,
	PROBING_PREPARES, /* the worker reads symbols and code */
	PROBING_LISTS,	  /* what it found goes to the client */
	PROBING_RUNS,
	PROBING_DRAINS, /* ended, but for calls that return to us */
};

struct probing {
	struct machine *m;
	enum probing_state state;
	struct ctl_call *call; /* NULL: nobody listens */
	struct guest_probe *g;
	struct probing_queue q;
	struct loop_source *timer;
	uint64_t orphan_until; /* monotonic ns; without a client */
	uint64_t drain_until;
	bool frozen, ends; /* ends: as soon as it may */
	size_t listed;

	/* Times are told from the session's start, wherever it is now. */
	uint64_t real0; /* CLOCK_REALTIME at the start */
	int64_t offset; /* CLOCK_REALTIME - CLOCK_MONOTONIC here */

	/* The worker's, while it prepares. */
	pthread_t worker;
	char *symbols, *functions;
	struct engine_options opt;
	bool list;
	int ret;
	struct err err;
};

/* probing_events.c */
int probing_queue_open(struct probing_queue *q, size_t nfunc);
void probing_queue_close(struct probing_queue *q);
/* The engine's sink; opaque is the session. */
void probing_sink(const struct probe_event *ev, void *opaque);
/* In the loop: to the client, as far as it reads.  False: it is gone. */
bool probing_drain(struct probing *p);
json_t *probing_started(const struct probing *p);
json_t *probing_sums(struct probing *p);
json_t *probing_listed(struct probing *p, const struct probe_func *fn);
void probing_put_sums(struct probing_queue *q, struct wire_out *o);
void probing_get_sums(struct probing_queue *q, struct wire_in *in);

#endif
