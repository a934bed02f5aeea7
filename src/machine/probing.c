#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/probing_priv.h"

#define TICK_NS	  50000000ull
#define DRAIN_NS  5000000000ull
#define LINGER_NS 60000000000ull /* of a session that came without client */

#define HAS_KEEP  1u
#define HAS_STACK 2u

static uint64_t real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* ---- the end of a session ---- */

static json_t *end_json(struct probing *p, const char *how)
{
	const struct engine_stats *st = engine_stats(guest_probe_engine(p->g));

	return json_pack("{s:s, s:o, s:I, s:I}", "end", how, "functions",
			 probing_sums(p), "dropped", (json_int_t)p->q.dropped,
			 "lost", (json_int_t)st->lost);
}

/* Whatever is left of it, once nothing of the guest needs it any more. */
static void clear(struct probing *p)
{
	loop_remove(p->timer);
	p->timer = NULL;
	probing_queue_close(&p->q);
	free(p->symbols);
	free(p->functions);
	p->symbols = p->functions = NULL;
	p->state = PROBING_IDLE;
	p->call = NULL;
	p->ends = false;
}

/* The call, if there is one, gets 'result', which is taken. */
static void reply(struct probing *p, json_t *result)
{
	struct ctl_call *c = p->call;

	p->call = NULL;
	if (c)
		ctl_reply(c, result);
	else
		json_decref(result);
}

/* The last of it goes. */
static void finish(struct probing *p)
{
	guest_probe_stop(p->g);
	p->g = NULL;
	clear(p);
}

static void give_up(struct probing *p, int code, const struct err *e)
{
	struct ctl_call *c = p->call;

	finish(p);
	if (c)
		ctl_fail(c, code, e);
}

static void end(struct probing *p, const char *how)
{
	bool drained;
	json_t *o;

	if (p->state != PROBING_RUNS)
		return;
	if (p->frozen) {
		p->ends = true;
		return;
	}
	/* Nothing is reported any more once the guest is parked for this. */
	drained = guest_probe_disarm(p->g);
	probing_drain(p);
	o = end_json(p, how);
	log_info("probes of the guest's kernel are gone: %s", how);
	reply(p, o);
	if (drained) {
		finish(p);
		return;
	}
	p->state = PROBING_DRAINS;
	p->drain_until = now_ns() + DRAIN_NS;
	pthread_mutex_lock(&p->q.lock);
	p->q.keep = false;
	pthread_mutex_unlock(&p->q.lock);
}

void probing_moved(struct probing *p, const char *dest)
{
	json_t *o;

	if (p->state != PROBING_RUNS)
		return;
	probing_drain(p);
	o = end_json(p, "moved");
	json_object_set_new(o, "to", json_string(dest));
	reply(p, o);
	guest_probe_forget(p->g);
	p->g = NULL;
	p->frozen = false;
	clear(p);
}

/* ---- while it lasts ---- */

static void list_on(struct probing *p)
{
	const struct probe_func *fn;
	size_t n = 0;

	while (ctl_unread(p->call) >= 0 && ctl_unread(p->call) < 1 << 20 &&
	       (fn = guest_probe_matched(p->g, p->listed))) {
		ctl_event(p->call, probing_listed(p, fn));
		p->listed++;
		n++;
	}
	if (ctl_unread(p->call) >= 0 && guest_probe_matched(p->g, p->listed))
		return;
	reply(p, json_pack("{s:s}", "end", "listed"));
	finish(p);
}

static void on_tick(void *opaque)
{
	struct probing *p = opaque;

	if (p->state == PROBING_LISTS) {
		list_on(p);
		return;
	}
	if (p->state == PROBING_DRAINS &&
	    (guest_probe_drained(p->g) || now_ns() > p->drain_until))
		finish(p);
	if (p->state != PROBING_RUNS)
		return;
	if (p->call && !probing_drain(p)) {
		/* Replies to nobody: that frees the call. */
		reply(p, NULL);
		end(p, "the client is gone");
		return;
	}
	if (!p->call && !p->ends && now_ns() > p->orphan_until)
		end(p, "nobody asked for them");
}

static int run_timer(struct probing *p)
{
	return loop_add_timer(machine_loop(p->m), TICK_NS, TICK_NS, on_tick, p,
			      &p->timer);
}

/* ---- the beginning of a session ---- */

static int arm(struct probing *p, struct err *e)
{
	int ret;

	if (p->frozen)
		return err_set(e, -EBUSY,
			       "the VM is being switched over to another host");
	ret = probing_queue_open(&p->q,
				 engine_nfuncs(guest_probe_engine(p->g)));
	if (!ret)
		ret = run_timer(p);
	if (ret < 0)
		return ret;
	p->real0 = real_ns();
	p->offset = (int64_t)(p->real0 - now_ns());
	ret = guest_probe_arm(p->g, e);
	if (ret < 0)
		return ret;
	p->state = PROBING_RUNS;
	log_info("probes on %zu functions of the guest's kernel",
		 engine_nfuncs(guest_probe_engine(p->g)));
	ctl_event(p->call, probing_started(p));
	return 0;
}

static void in_loop_prepared(void *opaque)
{
	struct probing *p = opaque;

	pthread_join(p->worker, NULL);
	p->state = PROBING_IDLE;
	if (!p->ret && p->ends)
		p->ret = err_set(&p->err, -ECANCELED, "the VM ends");
	if (!p->ret && ctl_unread(p->call) < 0)
		p->ret = -EPIPE;
	if (!p->ret && p->list) {
		p->listed = 0;
		p->state = PROBING_LISTS;
		p->ret = run_timer(p);
	} else if (!p->ret) {
		p->ret = arm(p, &p->err);
	}
	if (p->ret < 0)
		give_up(p, p->ret, &p->err);
}

static void *prepare(void *opaque)
{
	struct probing *p = opaque;
	char *text;

	p->ret = guest_symbols_load(&text, p->symbols, &p->err);
	if (!p->ret) {
		p->ret = guest_probe_prepare(&p->g, machine_vm(p->m), text,
					     p->functions, &p->opt,
					     probing_sink, p, &p->err);
		free(text);
	}
	if (p->ret < 0)
		p->g = NULL;
	loop_call(machine_loop(p->m), in_loop_prepared, p);
	return NULL;
}

/* ---- methods ---- */

static bool flag(const json_t *params, const char *key, bool none)
{
	const json_t *v = json_object_get(params, key);

	return json_is_boolean(v) ? json_is_true(v) : none;
}

static int do_probe(void *opaque, struct ctl_call *c, const json_t *params,
		    json_t **result, struct err *e)
{
	const char *symbols =
		json_string_value(json_object_get(params, "symbols"));
	const char *functions =
		json_string_value(json_object_get(params, "functions"));
	struct probing *p = opaque;
	int ret;

	if (!machine_vm(p->m) || !machine_running(p->m))
		return err_set(e, -ENODATA, "no guest runs here yet");
	if (p->state == PROBING_DRAINS)
		finish(p);
	if (p->state != PROBING_IDLE)
		return err_set(e, -EBUSY,
			       "this guest's kernel is under probe already; "
			       "one session at a time");
	if (p->frozen)
		return err_set(e, -EBUSY,
			       "the VM is being switched over to another host");
	if (!symbols || *symbols != '/' || !functions || !*functions)
		return err_set(e, -EINVAL,
			       "symbols: a file's whole path; functions: which "
			       "ones");
	p->symbols = strdup(symbols);
	p->functions = strdup(functions);
	p->opt = (struct engine_options){
		.entry = flag(params, "entry", true),
		.exit = flag(params, "exit", true),
		.jump = flag(params, "jumps", false),
	};
	p->list = flag(params, "list", false);
	p->q.keep = flag(params, "events", true);
	p->q.stack = flag(params, "stack", false);
	err_clear(&p->err);
	p->ret = 0;
	p->call = c;
	p->state = PROBING_PREPARES;
	ret = p->symbols && p->functions
		      ? -pthread_create(&p->worker, NULL, prepare, p)
		      : -ENOMEM;
	if (ret < 0) {
		clear(p);
		return err_sys(e, ret, "preparing probes");
	}
	return CTL_LATER;
}

static int do_resume(void *opaque, struct ctl_call *c, const json_t *params,
		     json_t **result, struct err *e)
{
	struct probing *p = opaque;

	if (p->state != PROBING_RUNS || p->ends)
		return err_set(e, -ENODATA,
			       "no probes came here with this VM, or they have "
			       "been taken away already");
	if (p->call)
		return err_set(e, -EBUSY, "another client has them already");
	p->call = c;
	ctl_event(c, probing_started(p));
	probing_drain(p);
	return CTL_LATER;
}

static int do_stop(void *opaque, struct ctl_call *c, const json_t *params,
		   json_t **result, struct err *e)
{
	struct probing *p = opaque;

	if (p->state != PROBING_RUNS)
		return err_set(e, -ENODATA, "no probes are in force");
	end(p, "stopped");
	return 0;
}

static const struct ctl_method methods[] = {
	{ "probe",
	  "watch {functions} of the guest's kernel, which has {symbols}; "
	  "events tell",
	  do_probe },
	{ "probe_resume", "go on with probes that came with the VM",
	  do_resume },
	{ "probe_stop", "take the probes away", do_stop },
	{ NULL, NULL, NULL },
};

/* ---- moving ---- */

void probing_freeze(struct probing *p)
{
	if (p->state == PROBING_DRAINS)
		finish(p);
	p->frozen = true;
}

void probing_thaw(struct probing *p)
{
	p->frozen = false;
	if (p->ends)
		end(p, "stopped");
}

bool probing_active(const struct probing *p)
{
	return p->state == PROBING_RUNS;
}

void probing_save(struct probing *p, struct wire_out *o)
{
	put_u64(o, p->real0);
	put_u64(o, (uint64_t)p->offset);
	put_u8(o, (uint8_t)((p->q.keep ? HAS_KEEP : 0) |
			    (p->q.stack ? HAS_STACK : 0)));
	guest_probe_save(p->g, o);
	probing_put_sums(&p->q, o);
}

int probing_load(struct probing *p, struct wire_in *in, struct err *e)
{
	int64_t theirs;
	uint8_t has;
	int ret;

	if (p->state != PROBING_IDLE)
		return err_set(e, -EPROTO, "probes twice");
	p->real0 = get_u64(in);
	theirs = (int64_t)get_u64(in);
	has = get_u8(in);
	p->q.keep = has & HAS_KEEP;
	p->q.stack = has & HAS_STACK;
	p->offset = (int64_t)(real_ns() - now_ns());
	ret = guest_probe_load(&p->g, machine_vm(p->m), in, theirs - p->offset,
			       probing_sink, p, e);
	if (ret < 0) {
		p->g = NULL;
		return ret;
	}
	ret = probing_queue_open(&p->q,
				 engine_nfuncs(guest_probe_engine(p->g)));
	if (!ret) {
		probing_get_sums(&p->q, in);
		ret = in->err;
	}
	if (!ret)
		ret = run_timer(p);
	if (ret < 0) {
		guest_probe_forget(p->g);
		p->g = NULL;
		clear(p);
		return err_sys(e, ret, "probes");
	}
	p->orphan_until = now_ns() + LINGER_NS;
	p->state = PROBING_RUNS;
	log_info("probes on %zu functions of the guest's kernel came along; "
		 "'pagurus probe --vm %s --resume' goes on with them",
		 engine_nfuncs(guest_probe_engine(p->g)),
		 machine_get_config(p->m)->name);
	return 0;
}

/* ---- with the machine ---- */

static void unbuild(struct machine *m, void *opaque)
{
	struct probing *p = opaque;
	struct err e = { 0 };
	struct ctl_call *c;

	p->ends = true;
	while (p->state == PROBING_PREPARES)
		loop_once(machine_loop(m), -1);
	p->ends = false;
	p->frozen = false;
	if (p->state == PROBING_IDLE)
		return;
	/* The guest is no more: nothing to put back. */
	c = p->call;
	guest_probe_forget(p->g);
	p->g = NULL;
	clear(p);
	err_set(&e, -ESHUTDOWN, "the VM has ended or is starting anew");
	if (c)
		ctl_fail(c, e.code, &e);
}

static json_t *status(struct machine *m, void *opaque)
{
	struct probing *p = opaque;
	const struct engine_stats *st;
	uint64_t dropped;

	if (p->state != PROBING_RUNS)
		return NULL;
	st = engine_stats(guest_probe_engine(p->g));
	pthread_mutex_lock(&p->q.lock);
	dropped = p->q.dropped;
	pthread_mutex_unlock(&p->q.lock);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:b}", "functions",
			 (json_int_t)p->q.nsum, "hits", (json_int_t)st->hits,
			 "events", (json_int_t)st->events, "lost",
			 (json_int_t)st->lost, "dropped", (json_int_t)dropped,
			 "client", p->call != NULL);
}

int probing_create(struct probing **out, struct machine *m, struct err *e)
{
	struct probing *p = calloc(1, sizeof(*p));
	const struct machine_part part = { .name = "probes",
					   .unbuild = unbuild,
					   .status = status,
					   .opaque = p };
	int ret;

	if (!p)
		return -ENOMEM;
	p->m = m;
	pthread_mutex_init(&p->q.lock, NULL);
	ret = machine_add(m, &part);
	if (!ret)
		ret = ctl_server_add(machine_ctl(m), methods, p);
	if (ret < 0) {
		free(p);
		return err_sys(e, ret, "probe methods");
	}
	*out = p;
	return 0;
}

void probing_destroy(struct probing *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->q.lock);
	free(p);
}
