#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

struct trace {
	pthread_mutex_t lock;
	uint64_t last; /* number of the newest event */
	size_t size;
	struct trace_event ring[];
};

int trace_create(struct trace **out, size_t events)
{
	struct trace *t;

	if (events == 0 || events > 1u << 20)
		return -EINVAL;
	t = calloc(1, sizeof(*t) + events * sizeof(t->ring[0]));
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->size = events;
	*out = t;
	return 0;
}

void trace_destroy(struct trace *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void trace_add(struct trace *t, unsigned int unit, const char *what,
	       const char *state, uint32_t off, uint64_t val)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->last++;
	/* The clock is read inside, so that numbers and times agree. */
	t->ring[t->last % t->size] = (struct trace_event){
		.seq = t->last,
		.ns = now_ns(),
		.unit = (uint16_t)unit,
		.what = what,
		.state = state,
		.off = off,
		.val = val,
	};
	pthread_mutex_unlock(&t->lock);
}

size_t trace_read(struct trace *t, uint64_t after, struct trace_event *out,
		  size_t max, uint64_t *lost)
{
	uint64_t first;
	size_t n = 0;

	if (lost)
		*lost = 0;
	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	first = after + 1;
	if (t->last >= t->size && first <= t->last - t->size) {
		if (lost)
			*lost = t->last - t->size + 1 - first;
		first = t->last - t->size + 1;
	}
	for (; first <= t->last && n < max; first++)
		out[n++] = t->ring[first % t->size];
	pthread_mutex_unlock(&t->lock);
	return n;
}

uint64_t trace_last(struct trace *t)
{
	uint64_t last;

	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	last = t->last;
	pthread_mutex_unlock(&t->lock);
	return last;
}

/* The words are ours, without anything JSON would want escaped. */
static void print_event(FILE *f, const struct trace_event *e)
{
	fprintf(f,
		"{\"seq\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"vf\":%u,"
		"\"what\":\"%s\",\"state\":\"%s\",\"off\":%" PRIu32
		",\"val\":%" PRIu64 "}",
		e->seq, e->ns, e->unit, e->what, e->state ? e->state : "",
		e->off, e->val);
}

char *trace_json(struct trace *t)
{
	struct trace_event *ev;
	size_t len, n, size = t ? t->size : 1;
	uint64_t lost;
	char *text = NULL;
	FILE *f;

	ev = calloc(size, sizeof(*ev));
	if (!ev)
		return NULL;
	n = trace_read(t, 0, ev, size, &lost);

	f = open_memstream(&text, &len);
	if (!f)
		goto free;
	fprintf(f, "{\"lost\":%" PRIu64 ",\"events\":[", lost);
	for (size_t i = 0; i < n; i++) {
		if (i)
			fputs(",\n", f);
		print_event(f, &ev[i]);
	}
	fputs("]}", f);
	if (fclose(f) != 0) {
		free(text);
		text = NULL;
	}
free:
	free(ev);
	return text;
}
