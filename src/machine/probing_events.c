/*
 * From the vCPU that hit a probe to the client that wants to know.
 *
 * A vCPU never waits for the client: what finds the queue full is dropped,
 * and counted.  What has been queued is only turned into text as fast as the
 * client reads it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "machine/probing_priv.h"
#include "probe/finder.h"

#define BATCH	   256	      /* events a line */
#define UNREAD_MAX (1u << 20) /* bytes; then the client is waited for */

static const char *const kind_names[EVENT_KINDS] = {
	[EVENT_ENTRY] = "entry",
	[EVENT_EXIT] = "exit",
	[EVENT_JUMP] = "jump",
	[EVENT_ABANDONED] = "abandoned",
};

int probing_queue_open(struct probing_queue *q, size_t nfunc)
{
	q->head = q->tail = q->dropped = 0;
	q->ev = calloc(PROBING_QUEUE, sizeof(*q->ev));
	q->sum = calloc(nfunc + 1, sizeof(*q->sum));
	q->nsum = nfunc;
	if (q->ev && q->sum)
		return 0;
	probing_queue_close(q);
	return -ENOMEM;
}

void probing_queue_close(struct probing_queue *q)
{
	free(q->ev);
	free(q->sum);
	q->ev = NULL;
	q->sum = NULL;
	q->nsum = 0;
}

static void add_up(struct probing_sum *s, const struct probe_event *ev)
{
	s->count[ev->kind]++;
	if (ev->kind != EVENT_EXIT || !ev->latency)
		return;
	if (!s->timed || ev->latency < s->min)
		s->min = ev->latency;
	s->max = MAX(s->max, ev->latency);
	s->timed++;
	s->total += ev->latency;
	s->bucket[63 - __builtin_clzll(ev->latency)]++;
}

static void in_loop_drain(void *opaque)
{
	struct probing *p = opaque;

	pthread_mutex_lock(&p->q.lock);
	p->q.called = false;
	pthread_mutex_unlock(&p->q.lock);
	/* A client that is gone is seen by the timer. */
	if (p->state == PROBING_RUNS)
		probing_drain(p);
}

void probing_sink(const struct probe_event *ev, void *opaque)
{
	struct probing *p = opaque;
	struct probing_queue *q = &p->q;
	struct probing_event *to;
	bool call = false;

	pthread_mutex_lock(&q->lock);
	if (ev->func < q->nsum)
		add_up(&q->sum[ev->func], ev);
	if (q->keep && q->head - q->tail == PROBING_QUEUE) {
		q->dropped++;
	} else if (q->keep && q->ev) {
		to = &q->ev[q->head++ % PROBING_QUEUE];
		to->ev = *ev;
		to->nstack = 0;
		if (q->stack && ev->kind == EVENT_ENTRY)
			to->nstack = (uint32_t)guest_probe_stack(
				p->g, ev, to->stack, PROBING_STACK);
		call = !q->called;
		q->called = true;
	}
	pthread_mutex_unlock(&q->lock);
	if (call)
		loop_call(machine_loop(p->m), in_loop_drain, p);
}

static json_t *numbers(const uint64_t *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer((json_int_t)v[i]));
	return list;
}

static json_t *callers(const struct probing *p, const struct probing_event *q)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < q->nstack; i++) {
		uint64_t offset;
		const char *name =
			guest_probe_symbol(p->g, q->stack[i], &offset);

		json_array_append_new(
			list, name ? json_sprintf("%s+0x%lx", name, offset)
				   : json_sprintf("0x%lx", q->stack[i]));
	}
	return list;
}

/* docs/control.md has the order of the fields. */
static json_t *one(const struct probing *p, const struct probing_event *q)
{
	const struct probe_event *ev = &q->ev;
	uint64_t time = ev->time + (uint64_t)p->offset - p->real0;
	json_t *o = json_pack("[i, i, i, i, I, I]", ev->kind, ev->func,
			      ev->tid - 1, (int)MIN(ev->depth, 1u << 20),
			      (json_int_t)time, (json_int_t)ev->latency);

	if (ev->kind == EVENT_EXIT)
		json_array_append_new(o, json_integer((json_int_t)ev->value));
	if (ev->kind == EVENT_ENTRY)
		json_array_append_new(o, numbers(ev->arg, 6));
	if (q->nstack)
		json_array_append_new(o, callers(p, q));
	return o;
}

static size_t take(struct probing_queue *q, struct probing_event *out,
		   uint64_t *dropped)
{
	size_t n = 0;

	pthread_mutex_lock(&q->lock);
	while (n < BATCH && q->tail != q->head)
		out[n++] = q->ev[q->tail++ % PROBING_QUEUE];
	*dropped = q->dropped;
	pthread_mutex_unlock(&q->lock);
	return n;
}

bool probing_drain(struct probing *p)
{
	struct probing_event *ev;
	uint64_t dropped;
	json_t *list;
	long unread;
	size_t n;

	if (!p->call)
		return true; /* it may come yet, and the queue waits */
	ev = malloc(BATCH * sizeof(*ev));
	while (ev && (unread = ctl_unread(p->call)) >= 0 &&
	       unread < UNREAD_MAX) {
		n = take(&p->q, ev, &dropped);
		if (!n)
			break;
		list = json_array();
		for (size_t i = 0; i < n; i++)
			json_array_append_new(list, one(p, &ev[i]));
		ctl_event(p->call, json_pack("{s:o, s:I}", "probes", list,
					     "dropped", (json_int_t)dropped));
	}
	free(ev);
	return ctl_unread(p->call) >= 0;
}

json_t *probing_started(const struct probing *p)
{
	const struct engine *en = guest_probe_engine(p->g);
	json_t *names = json_array(), *refused = json_array();
	const struct probe_func *fn;

	for (unsigned int i = 0; i < engine_nfuncs(en); i++)
		json_array_append_new(names,
				      json_string(engine_func(en, i)->name));
	for (size_t i = 0; (fn = guest_probe_matched(p->g, i)); i++)
		if (!fn->nsite || fn->site->verdict == SITE_REFUSED)
			json_array_append_new(
				refused,
				json_pack("{s:s, s:s}", "function", fn->name,
					  "why",
					  fn->nsite ? site_why(fn->site->why)
						    : "no code"));
	return json_pack("{s:{s:o, s:o}}", "started", "functions", names,
			 "refused", refused);
}

static json_t *sum_json(const char *name, const struct probing_sum *s)
{
	json_t *o = json_pack("{s:s}", "function", name), *h;
	char ns[24];

	for (int k = 0; k < EVENT_KINDS; k++)
		json_object_set_new(o, kind_names[k],
				    json_integer((json_int_t)s->count[k]));
	if (!s->timed)
		return o;
	h = json_object();
	for (int b = 0; b < PROBING_BUCKETS; b++) {
		if (!s->bucket[b])
			continue;
		snprintf(ns, sizeof(ns), "%llu", 1ull << b);
		json_object_set_new(h, ns,
				    json_integer((json_int_t)s->bucket[b]));
	}
	json_object_set_new(o, "timed", json_integer((json_int_t)s->timed));
	json_object_set_new(o, "total_ns", json_integer((json_int_t)s->total));
	json_object_set_new(o, "min_ns", json_integer((json_int_t)s->min));
	json_object_set_new(o, "max_ns", json_integer((json_int_t)s->max));
	json_object_set_new(o, "histogram_ns", h);
	return o;
}

json_t *probing_sums(struct probing *p)
{
	const struct engine *en = guest_probe_engine(p->g);
	json_t *list = json_array();

	pthread_mutex_lock(&p->q.lock);
	for (unsigned int i = 0; i < p->q.nsum; i++)
		json_array_append_new(list, sum_json(engine_func(en, i)->name,
						     &p->q.sum[i]));
	pthread_mutex_unlock(&p->q.lock);
	return list;
}

json_t *probing_listed(struct probing *p, const struct probe_func *fn)
{
	json_t *sites = json_array(), *o;

	for (size_t i = 0; i < fn->nsite; i++) {
		const struct probe_site *s = &fn->site[i];

		json_array_append_new(
			sites, json_pack("{s:I, s:i, s:i, s:i, s:s?}",
					 "address", (json_int_t)s->addr, "kind",
					 s->kind, "verdict", s->verdict, "why",
					 s->why, "target", s->to));
	}
	o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:o}", "function",
		      fn->name, "module", guest_probe_module(p->g, fn->addr),
		      "address", (json_int_t)fn->addr, "size",
		      (json_int_t)fn->size, "gap", (json_int_t)fn->gap, "swaps",
		      fn->swaps, "sites", sites);
	return json_pack("{s:o}", "listed", o);
}

void probing_put_sums(struct probing_queue *q, struct wire_out *o)
{
	pthread_mutex_lock(&q->lock);
	put_u64(o, q->dropped + (q->head - q->tail));
	put_u32(o, (uint32_t)q->nsum);
	for (size_t i = 0; i < q->nsum; i++) {
		const struct probing_sum *s = &q->sum[i];

		for (int k = 0; k < EVENT_KINDS; k++)
			put_u64(o, s->count[k]);
		put_u64(o, s->timed);
		put_u64(o, s->total);
		put_u64(o, s->min);
		put_u64(o, s->max);
		for (int b = 0; s->timed && b < PROBING_BUCKETS; b++)
			put_u64(o, s->bucket[b]);
	}
	pthread_mutex_unlock(&q->lock);
}

void probing_get_sums(struct probing_queue *q, struct wire_in *in)
{
	q->dropped = get_u64(in);
	if (get_u32(in) != q->nsum)
		wire_fail(in, -EBADMSG);
	for (size_t i = 0; !in->err && i < q->nsum; i++) {
		struct probing_sum *s = &q->sum[i];

		for (int k = 0; k < EVENT_KINDS; k++)
			s->count[k] = get_u64(in);
		s->timed = get_u64(in);
		s->total = get_u64(in);
		s->min = get_u64(in);
		s->max = get_u64(in);
		for (int b = 0; s->timed && b < PROBING_BUCKETS; b++)
			s->bucket[b] = get_u64(in);
	}
}
