/*
 * A trace: the last few thousand events of a process, for tests and for
 * people who ask what happened.
 *
 * An event has a time, a unit (the VF or the vdev's number), two words and
 * two numbers.  The words are string literals: nothing is copied, so an
 * event costs a lock and forty bytes, and a trace may be left on for ever.
 * The oldest event makes room for the newest; 'lost' says how many did.
 *
 * Any thread may add.  A NULL trace is fine everywhere and records nothing.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace_event {
	uint64_t seq;	   /* from 1, without gaps */
	uint64_t ns;	   /* CLOCK_MONOTONIC */
	uint16_t unit;	   /* VF number */
	const char *what;  /* "trap", "write", "callback" */
	const char *state; /* of whoever recorded it, after the event */
	uint32_t off;	   /* register offset, or 0 */
	uint64_t val;
};

struct trace;

int trace_create(struct trace **out, size_t events);
void trace_destroy(struct trace *t); /* NULL is fine */

void trace_add(struct trace *t, unsigned int unit, const char *what,
	       const char *state, uint32_t off, uint64_t val);

/*
 * Copy up to 'max' events after event number 'after', oldest first; returns
 * how many.  *lost, if not NULL, gets the events after 'after' that are gone.
 */
size_t trace_read(struct trace *t, uint64_t after, struct trace_event *out,
		  size_t max, uint64_t *lost);

uint64_t trace_last(struct trace *t); /* number of the newest, 0: none */

/*
 * All events as JSON text, to be freed: {"lost":n,"events":[{"seq":..,
 * "ns":..,"vf":..,"what":"..","state":"..","off":..,"val":..},...]}.
 * NULL only without memory.
 */
char *trace_json(struct trace *t);

#endif
