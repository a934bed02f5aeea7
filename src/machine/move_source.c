#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "base/util.h"
#include "machine/move_priv.h"
#include "machine/probing.h"
#include "migrate/report.h"
#include "netdev/netdev.h"

#define CONNECTIONS	2
#define CONNECTIONS_TLS 4 /* a core encrypts less than a network carries */
#define MAX_DOWNTIME_MS 300
#define RECOVERY_MS	30000
#define RESOLVE_MS	5000
/* What the destination has to say may take its time on the way. */
#define WATCH_NS (MIG_WATCH_NS + 1000000000ull)

/* ---- progress ---- */

static json_t *progress_json(const struct mig_progress *p)
{
	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I}",
			 "phase", mig_phase_name(p->phase), "round",
			 (int)p->round, "ram", (json_int_t)p->ram, "sent",
			 (json_int_t)p->sent, "remaining",
			 (json_int_t)p->remaining, "rate", (json_int_t)p->rate,
			 "dirty_rate", (json_int_t)p->dirty_rate, "downtime_ns",
			 (json_int_t)p->downtime_ns, "throttle",
			 (int)p->throttle, "elapsed_ns",
			 (json_int_t)p->elapsed_ns);
}

static void in_loop_tell(void *opaque)
{
	struct move *mv = opaque;
	struct mig_progress p;

	pthread_mutex_lock(&mv->lock);
	p = mv->progress;
	mv->told = true;
	pthread_mutex_unlock(&mv->lock);
	meter_sample(mv->meter);
	if (mv->call)
		ctl_event(mv->call, progress_json(&p));
}

/* In the engine's thread; one message is on its way at most. */
static void on_progress(void *opaque, const struct mig_progress *p)
{
	struct move *mv = opaque;
	bool send;

	pthread_mutex_lock(&mv->lock);
	mv->progress = *p;
	send = mv->told;
	mv->told = false;
	pthread_mutex_unlock(&mv->lock);
	if (send)
		loop_call(machine_loop(mv->m), in_loop_tell, mv);
}

/* ---- one migration ---- */

static void clear(struct move *mv)
{
	meter_stop(mv->meter);
	loop_remove(mv->watch_end);
	mv->watch_end = NULL;
	mig_source_destroy(mv->source);
	chan_tls_free(mv->tls);
	json_decref(mv->last_stats);
	mv->last_stats = NULL;
	json_decref(mv->result.devices);
	mv->result.devices = NULL;
	mv->source = NULL;
	mv->tls = NULL;
	mv->call = NULL;
	machine_unclaim(mv->m);
}

static void end_check(struct move *mv)
{
	json_t *o;

	if (mv->ret < 0) {
		ctl_fail(mv->call, mv->ret, &mv->err);
		return;
	}
	o = json_pack("{s:b, s:o}", "possible",
		      mig_plan_verdict(&mv->plan, NULL) == 0, "plan",
		      mig_plan_json(&mv->plan));
	ctl_reply(mv->call, o);
}

static json_t *result_json(struct move *mv)
{
	mv->traffic.n = meter_samples(mv->meter, &mv->traffic.sample);
	return mig_result_json(&mv->result, machine_get_config(mv->m)->name,
			       mv->dest, mv->outcome,
			       mv->err.code ? mv->err.text : NULL,
			       &mv->traffic);
}

static void on_watch_end(void *opaque)
{
	struct move *mv = opaque;

	mig_watch_stop(mv->source);
}

/*
 * It runs there.  Whoever wants a report waits a little longer for what the
 * destination sees; nobody else does.  The outcome is told at once, VFs and
 * memory are given up at once, and what stays until then is this process.
 */
static void linger(struct move *mv)
{
	bool heard = ctl_event(mv->call, result_json(mv));

	mv->moved = true;
	machine_unbuild(mv->m);
	if (!heard || loop_add_timer(machine_loop(mv->m), WATCH_NS, 0,
				     on_watch_end, mv, &mv->watch_end) < 0)
		mig_watch_stop(mv->source);
}

static void in_loop_watched(void *opaque)
{
	struct move *mv = opaque;

	pthread_join(mv->thread, NULL);
	mv->traffic.nafter = mv->nafter;
	memcpy(mv->traffic.after, mv->after, sizeof(mv->after));
	ctl_reply(mv->call, result_json(mv));
	clear(mv);
	machine_quit(mv->m, 0);
}

static void in_loop_ended(void *opaque)
{
	struct move *mv = opaque;
	struct machine *m = mv->m;

	if (mv->outcome == MIG_RUNS_THERE && !mv->check_only) {
		log_info("moved to %s: outage %.1f ms", mv->dest,
			 (double)mv->result.downtime_ns / 1e6);
		probing_moved(machine_probing(m), mv->dest);
		if (mv->measure) {
			linger(mv);
			return;
		}
		in_loop_watched(mv);
		return;
	}
	pthread_join(mv->thread, NULL);
	if (mv->check_only) {
		end_check(mv);
		clear(mv);
		return;
	}
	meter_sample(mv->meter);
	ctl_reply(mv->call, result_json(mv));
	switch (mv->outcome) {
	case MIG_UNDECIDED:
		/* The source stays, to be asked again. */
		log_error("%s", mv->err.text);
		mv->undecided = true;
		mv->call = NULL;
		return;
	default:
		log_warn("still here: %s", err_text(&mv->err, -EIO));
		clear(mv);
		return;
	}
}

static void *engine(void *opaque)
{
	struct move *mv = opaque;

	if (mv->check_only)
		mv->ret = mig_check(mv->source, &mv->plan, &mv->err);
	else
		mv->outcome = mig_run(mv->source, &mv->result, &mv->err);
	loop_call(machine_loop(mv->m), in_loop_ended, mv);
	if (mv->check_only || !mv->measure || mv->outcome != MIG_RUNS_THERE)
		return NULL;
	mv->nafter = mig_watch(mv->source, mv->after);
	loop_call(machine_loop(mv->m), in_loop_watched, mv);
	return NULL;
}

static uint64_t number(const json_t *params, const char *key, uint64_t none)
{
	const json_t *v = json_object_get(params, key);

	return json_is_integer(v) && json_integer_value(v) >= 0
		       ? (uint64_t)json_integer_value(v)
		       : none;
}

static const char *string(const json_t *params, const char *key)
{
	return json_string_value(json_object_get(params, key));
}

/* Half of the cores: the guest and its rings have work to do, too. */
static unsigned int connections_tls(void)
{
	long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;

	return half <= CONNECTIONS	 ? CONNECTIONS
	       : half >= CONNECTIONS_TLS ? CONNECTIONS_TLS
					 : (unsigned int)half;
}

static int open_source(struct move *mv, const json_t *params, struct err *e)
{
	const char *dest = string(params, "dest"), *tls = string(params, "tls");
	const char *fallback = string(params, "fallback");
	struct mig_params p = {
		.max_downtime_ns =
			number(params, "max_downtime_ms", MAX_DOWNTIME_MS) *
			1000000,
		.bandwidth = number(params, "bandwidth", 0),
		.connections = (unsigned int)number(params, "connections", 0),
		.zstd_level = (int)MIN(number(params, "zstd", 0), 20ull),
		.stall_is_final = json_is_true(
			json_object_get(params, "cancel_on_stall")),
		.verify = json_is_true(json_object_get(params, "verify")),
		.measure = mv->measure,
		.recovery_ms = RECOVERY_MS,
		.progress = on_progress,
		.opaque = mv,
	};
	int ret;

	if (!dest || strlen(dest) >= sizeof(mv->dest))
		return err_set(e, -EINVAL, "dest: an address is needed");
	if (!tls && !chan_is_unix(dest) &&
	    !json_is_true(json_object_get(params, "insecure")))
		return err_set(e, -EPERM,
			       "%s: guest memory would cross the network in "
			       "the clear; give --tls DIR, or --insecure if "
			       "that is meant",
			       dest);
	if (fallback && strcmp(fallback, "software"))
		return err_set(e, -EINVAL,
			       "fallback '%s': only 'software' exists",
			       fallback);
	if (p.zstd_level > 19)
		return err_set(e, -EINVAL, "zstd: level 1 to 19, or 0 for off");
	if (!p.connections)
		p.connections = tls ? connections_tls() : CONNECTIONS;
	if (p.connections > MIG_CHANNELS_MAX)
		return err_set(e, -EINVAL, "connections: 1 to %u",
			       MIG_CHANNELS_MAX);
	p.policy.fallback_software = fallback != NULL;
	if (tls) {
		ret = chan_tls_load(&mv->tls, tls, string(params, "tls_name"),
				    e);
		if (ret < 0)
			return ret;
	}
	strcpy(mv->dest, dest);
	p.dest = mv->dest;
	p.tls = mv->tls;
	ret = mig_source_create(&mv->source, &mv->vm, &p);
	if (ret < 0) {
		chan_tls_free(mv->tls);
		mv->tls = NULL;
	}
	return ret;
}

static int begin(struct move *mv, struct ctl_call *c, const json_t *params,
		 bool check_only, struct err *e)
{
	int ret;

	if (!machine_vm(mv->m))
		return err_set(e, -ENODATA, "there is no VM here yet");
	if (mv->undecided)
		return err_set(e, -EBUSY,
			       "the last migration is undecided; resolve it "
			       "first");
	if (mv->source)
		return err_set(e, -EBUSY, "a migration to %s is going on",
			       mv->dest);
	for (unsigned int i = 0; i < machine_ndevs(mv->m); i++) {
		ret = netdev_movable(machine_dev(mv->m, i)->nd, e);
		if (ret < 0)
			return ret;
	}
	ret = machine_claim(mv->m, "a migration", e);
	if (ret < 0)
		return ret;
	mv->measure = json_is_true(json_object_get(params, "measure"));
	ret = open_source(mv, params, e);
	if (ret < 0) {
		machine_unclaim(mv->m);
		return ret;
	}
	mv->call = c;
	mv->check_only = check_only;
	mv->told = true;
	mv->traffic = (struct mig_traffic){ 0 };
	mv->nafter = 0;
	meter_start(mv->meter);
	mv->traffic.mark[MIG_MARK_BEGIN] = meter_sample(mv->meter);
	mv->traced = trace_last(machine_trace(mv->m));
	err_clear(&mv->err);
	ret = -pthread_create(&mv->thread, NULL, engine, mv);
	if (ret < 0) {
		clear(mv);
		return err_sys(e, ret, "starting the migration");
	}
	return CTL_LATER;
}

/* ---- methods ---- */

static int do_migrate(void *opaque, struct ctl_call *c, const json_t *params,
		      json_t **result, struct err *e)
{
	return begin(opaque, c, params, false, e);
}

static int do_check(void *opaque, struct ctl_call *c, const json_t *params,
		    json_t **result, struct err *e)
{
	return begin(opaque, c, params, true, e);
}

static int do_cancel(void *opaque, struct ctl_call *c, const json_t *params,
		     json_t **result, struct err *e)
{
	struct move *mv = opaque;

	if (!mv->source || mv->undecided)
		return err_set(e, -ENODATA, "no migration is going on");
	if (mig_cancel(mv->source) < 0)
		return err_set(e, -EBUSY, "too late: the hand-over has begun");
	return 0;
}

/* Blocks the loop for some seconds: the VM is paused anyway. */
static int do_resolve(void *opaque, struct ctl_call *c, const json_t *params,
		      json_t **result, struct err *e)
{
	struct move *mv = opaque;
	bool here = json_is_true(json_object_get(params, "resume_here"));
	enum mig_outcome out = MIG_RUNS_HERE;

	if (!mv->undecided)
		return err_set(e, -ENODATA, "no migration is undecided");
	if (here)
		mig_resume_here(mv->source);
	else
		out = mig_resolve(mv->source, RESOLVE_MS, e);
	if (out == MIG_UNDECIDED)
		return -ETIMEDOUT;
	err_clear(e);
	*result = json_pack("{s:i}", "outcome", (int)out);
	mv->undecided = false;
	clear(mv);
	if (out == MIG_RUNS_THERE) {
		probing_moved(machine_probing(mv->m), mv->dest);
		machine_quit(mv->m, 0);
	}
	return 0;
}

static const struct ctl_method methods[] = {
	{ "migrate", "move to {dest}; events tell the progress", do_migrate },
	{ "check", "what a migration to {dest} would do; moves nothing",
	  do_check },
	{ "cancel", "end the migration that is going on", do_cancel },
	{ "resolve", "ask the destination of an undecided migration again",
	  do_resolve },
	{ NULL, NULL, NULL },
};

/*
 * The machine goes down under a migration: end it first, or if the hand-over
 * has begun, wait for what it comes to.  The engine may be waiting for this
 * very loop, so that is kept turning.
 */
static void unbuild(struct machine *m, void *opaque)
{
	struct move *mv = opaque;

	if (!mv->source || mv->moved)
		return;
	if (mv->undecided) {
		mv->undecided = false;
		clear(mv);
		return;
	}
	mig_cancel(mv->source);
	while (mv->source && !mv->undecided)
		loop_once(machine_loop(m), -1);
}

int move_create(struct move **out, struct machine *m, struct err *e)
{
	struct move *mv = calloc(1, sizeof(*mv));
	const struct machine_part part = { .unbuild = unbuild, .opaque = mv };
	int ret;

	if (!mv)
		return -ENOMEM;
	mv->vm.ops = &move_vm_ops;
	mv->m = m;
	pthread_mutex_init(&mv->lock, NULL);
	ret = throttle_create(&mv->throttle);
	if (ret == 0)
		ret = meter_create(&mv->meter, m);
	if (ret == 0)
		ret = machine_add(m, &part);
	if (ret == 0)
		ret = ctl_server_add(machine_ctl(m), methods, mv);
	if (ret < 0) {
		move_destroy(mv);
		return err_sys(e, ret, "migration methods");
	}
	*out = mv;
	return 0;
}

void move_destroy(struct move *mv)
{
	if (!mv)
		return;
	/* Told to stop while it lingered: the report does without. */
	if (mv->moved && mv->source) {
		mig_watch_stop(mv->source);
		pthread_join(mv->thread, NULL);
		clear(mv);
	}
	meter_destroy(mv->meter);
	throttle_destroy(mv->throttle);
	pthread_mutex_destroy(&mv->lock);
	free(mv);
}
