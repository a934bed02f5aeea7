#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "base/util.h"
#include "machine/move.h"
#include "machine/probing.h"
#include "machine/throttle.h"
#include "migrate/report.h"
#include "netdev/netdev.h"

#define SAMPLES_MAX	4096
#define CONNECTIONS	2
#define CONNECTIONS_TLS 4 /* a core encrypts less than a network carries */
#define MAX_DOWNTIME_MS 300
#define RECOVERY_MS	30000
#define RESOLVE_MS	5000

struct move {
	struct mig_vm vm;
	struct machine *m;
	struct throttle *throttle;

	/* One migration, from the call to its end. */
	struct ctl_call *call;
	struct mig_source *source;
	struct chan_tls *tls;
	char dest[256];
	bool check_only, undecided;
	pthread_t thread;

	pthread_mutex_t lock; /* progress: engine to loop */
	struct mig_progress progress;
	bool told;

	/* The engine's, until it has ended. */
	struct mig_plan plan;
	struct mig_result result;
	enum mig_outcome outcome;
	json_t *last_stats; /* of devices that have been retired */
	uint64_t traced;    /* events from before this migration */
	int ret;
	struct err err;
	struct mig_sample sample[SAMPLES_MAX];
	size_t nsamples;
};

#define MV(vm_) container_of(vm_, struct move, vm)

/* ---- the machine as the engine sees it ---- */

/* What a call into the loop's thread takes along. */
struct carried {
	struct move *mv;
	struct mig_manifest *manifest;
	unsigned int n;
	struct wire_out *o;
	json_t *json;
	struct err *e;
};

static int carry(int (*fn)(void *carried), struct carried *c)
{
	return loop_ask(machine_loop(c->mv->m), fn, c);
}

static size_t op_ram(struct mig_vm *vm, const struct host_ram **out)
{
	struct host *h = vm_host(machine_vm(MV(vm)->m));

	return h->ops->ram(h, out);
}

static int in_loop_describe(void *opaque)
{
	struct carried *c = opaque;

	move_manifest(c->mv->m, c->manifest);
	return 0;
}

static void op_describe(struct mig_vm *vm, struct mig_manifest *out)
{
	struct carried c = { .mv = MV(vm), .manifest = out };

	carry(in_loop_describe, &c);
}

static int in_loop_cpu(void *opaque)
{
	struct carried *c = opaque;

	vm_cpu_save(machine_vm(c->mv->m), c->o);
	return 0;
}

static void op_cpu(struct mig_vm *vm, struct wire_out *o)
{
	struct carried c = { .mv = MV(vm), .o = o };

	carry(in_loop_cpu, &c);
}

static int op_dirty_start(struct mig_vm *vm)
{
	return vm_dirty_start(machine_vm(MV(vm)->m));
}

static int op_dirty_fetch(struct mig_vm *vm, uint64_t *bitmap)
{
	return vm_dirty_fetch(machine_vm(MV(vm)->m), bitmap);
}

static void op_dirty_stop(struct mig_vm *vm)
{
	vm_dirty_stop(machine_vm(MV(vm)->m));
}

/* The plan names devices in the manifest's order, which is the machine's. */
static int op_engage(struct mig_vm *vm, const struct mig_plan *plan,
		     struct err *e)
{
	struct machine *m = MV(vm)->m;
	int ret = 0;

	for (unsigned int i = 0; i < machine_ndevs(m); i++)
		shadow_set_shared(netdev_shadow(machine_dev(m, i)->nd),
				  machine_ndevs(m) > 1);
	for (unsigned int i = 0; ret == 0 && i < machine_ndevs(m); i++)
		ret = netdev_engage(machine_dev(m, i)->nd, plan->d[i].action,
				    e);
	return ret;
}

static int in_loop_quiesce(void *opaque)
{
	struct carried *c = opaque;
	struct machine *m = c->mv->m;
	int ret = 0, n = 0;

	for (unsigned int i = 0; ret >= 0 && i < machine_ndevs(m); i++) {
		struct netdev *nd = machine_dev(m, i)->nd;

		if (netdev_action(nd) != MIG_REBUILD)
			continue;
		ret = netdev_quiesce(nd, c->e);
		n += ret == 0;
	}
	return ret < 0 ? ret : n > 0;
}

static int op_quiesce(struct mig_vm *vm, struct err *e)
{
	struct carried c = { .mv = MV(vm), .e = e };

	return carry(in_loop_quiesce, &c);
}

static int op_quiesced(struct mig_vm *vm, struct err *e)
{
	struct machine *m = MV(vm)->m;

	for (unsigned int i = 0; i < machine_ndevs(m); i++) {
		struct netdev *nd = machine_dev(m, i)->nd;
		int ret = netdev_action(nd) == MIG_REBUILD ? netdev_quiesced(nd)
							   : 1;

		if (ret < 0)
			return err_sys(e, ret,
				       "%s: the guest's driver does not give "
				       "up the device",
				       netdev_name(nd));
		if (ret == 0)
			return 0;
	}
	return 1;
}

static int op_drain(struct mig_vm *vm, struct err *e)
{
	struct machine *m = MV(vm)->m;
	int ret = 0;

	for (unsigned int i = 0; ret == 0 && i < machine_ndevs(m); i++)
		ret = netdev_drain(machine_dev(m, i)->nd, e);
	return ret;
}

static int in_loop_release(void *opaque)
{
	struct carried *c = opaque;

	for (unsigned int i = 0; i < machine_ndevs(c->mv->m); i++)
		netdev_release(machine_dev(c->mv->m, i)->nd);
	return 0;
}

static void op_release(struct mig_vm *vm)
{
	struct carried c = { .mv = MV(vm) };

	carry(in_loop_release, &c);
}

static int in_loop_freeze(void *opaque)
{
	struct carried *c = opaque;

	probing_freeze(machine_probing(c->mv->m));
	return 0;
}

static int in_loop_thaw(void *opaque)
{
	struct carried *c = opaque;

	probing_thaw(machine_probing(c->mv->m));
	return 0;
}

static int op_pause(struct mig_vm *vm)
{
	struct vm *v = machine_vm(MV(vm)->m);
	struct carried c = { .mv = MV(vm) };
	int ret;

	carry(in_loop_freeze, &c);
	ret = vm_pause(v);
	if (ret == 0) {
		ret = vm_park(v);
		if (ret < 0)
			vm_resume(v);
	}
	if (ret < 0)
		carry(in_loop_thaw, &c);
	return ret;
}

static void op_resume(struct mig_vm *vm)
{
	struct carried c = { .mv = MV(vm) };

	vm_resume(machine_vm(MV(vm)->m));
	carry(in_loop_thaw, &c);
}

static void op_throttle(struct mig_vm *vm, unsigned int percent)
{
	throttle_set(MV(vm)->throttle, machine_vm(MV(vm)->m), percent);
}

static const char *op_part(struct mig_vm *vm, unsigned int n)
{
	struct machine *m = MV(vm)->m;

	if (n == 0)
		return "machine";
	if (n <= machine_ndevs(m))
		return machine_dev(m, n - 1)->name;
	/* Frozen: so this stays as it is. */
	return n == machine_ndevs(m) + 1 && probing_active(machine_probing(m))
		       ? PROBING_PART
		       : NULL;
}

static int in_loop_save(void *opaque)
{
	struct carried *c = opaque;
	struct machine *m = c->mv->m;

	if (c->n == 0)
		return vm_save(machine_vm(m), c->o);
	if (c->n > machine_ndevs(m))
		probing_save(machine_probing(m), c->o);
	else
		netdev_save(machine_dev(m, c->n - 1)->nd, c->o);
	return c->o->err;
}

static int op_save(struct mig_vm *vm, unsigned int n, struct wire_out *o)
{
	struct carried c = { .mv = MV(vm), .n = n, .o = o };

	return carry(in_loop_save, &c);
}

/* What was done to a device in this migration, in its order. */
static json_t *events_json(struct move *mv, unsigned int unit)
{
	struct trace_event ev[64];
	uint64_t after = mv->traced;
	json_t *a = json_array();
	size_t n;

	while ((n = trace_read(machine_trace(mv->m), after, ev, ARRAY_SIZE(ev),
			       NULL)) > 0) {
		after = ev[n - 1].seq;
		for (size_t i = 0; i < n; i++)
			if (ev[i].unit == unit &&
			    (!strcmp(ev[i].state, "device") ||
			     !strcmp(ev[i].what, "drop")))
				json_array_append_new(
					a, json_pack("{s:I, s:s, s:I}", "ns",
						     (json_int_t)ev[i].ns,
						     "what", ev[i].what, "val",
						     (json_int_t)ev[i].val));
	}
	return a;
}

static int in_loop_stats(void *opaque)
{
	struct carried *c = opaque;

	c->json = json_object();
	for (unsigned int i = 0; i < machine_ndevs(c->mv->m); i++) {
		struct machine_dev *d = machine_dev(c->mv->m, i);
		json_t *o = netdev_status(d->nd);

		json_object_set_new(o, "events", events_json(c->mv, i));
		json_object_set_new(c->json, d->name, o);
	}
	return 0;
}

static json_t *op_device_stats(struct mig_vm *vm)
{
	struct carried c = { .mv = MV(vm) };
	struct move *mv = MV(vm);

	if (mv->last_stats) {
		c.json = mv->last_stats;
		mv->last_stats = NULL;
	} else {
		carry(in_loop_stats, &c);
	}
	return c.json;
}

/* Until the filters go, others on the same card send to a VF nobody reads. */
static int in_loop_gone(void *opaque)
{
	struct carried *c = opaque;
	struct machine *m = c->mv->m;

	in_loop_stats(c);
	c->mv->last_stats = c->json;
	for (unsigned int i = 0; i < machine_ndevs(m); i++)
		netdev_retire(machine_dev(m, i)->nd);
	return 0;
}

static void op_gone(struct mig_vm *vm)
{
	struct carried c = { .mv = MV(vm) };

	carry(in_loop_gone, &c);
}

static const struct mig_vm_ops ops = {
	.ram = op_ram,
	.describe = op_describe,
	.cpu = op_cpu,
	.dirty_start = op_dirty_start,
	.dirty_fetch = op_dirty_fetch,
	.dirty_stop = op_dirty_stop,
	.engage = op_engage,
	.quiesce = op_quiesce,
	.quiesced = op_quiesced,
	.drain = op_drain,
	.release = op_release,
	.pause = op_pause,
	.resume = op_resume,
	.throttle = op_throttle,
	.part = op_part,
	.save = op_save,
	.gone = op_gone,
	.device_stats = op_device_stats,
};

void move_manifest(struct machine *m, struct mig_manifest *out)
{
	struct host *h = vm_host(machine_vm(m));
	const struct host_ram *ram;
	size_t n = h->ops->ram(h, &ram);

	*out = (struct mig_manifest){
		.cpus = vm_cpus(machine_vm(m)),
		.nram = (uint32_t)MIN(n, (size_t)MIG_RAM_MAX),
		.ndevices = machine_ndevs(m),
	};
	snprintf(out->vm, sizeof(out->vm), "%s", vm_name(machine_vm(m)));
	for (uint32_t i = 0; i < out->nram; i++)
		out->ram[i] = (struct mig_ram){ ram[i].gpa.v, ram[i].size,
						ram[i].page };
	for (uint32_t i = 0; i < out->ndevices; i++)
		netdev_describe(machine_dev(m, i)->nd, &out->device[i]);
	snprintf(out->machine, sizeof(out->machine),
		 "mem=%" PRIu64 " hugepages=%d", machine_get_config(m)->mem,
		 machine_get_config(m)->hugepages);
}

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

/* Frames the VFs have counted, for the report's curve. */
static void sample(struct move *mv, uint64_t at_ns)
{
	struct mig_sample *s = &mv->sample[mv->nsamples];

	if (mv->nsamples == SAMPLES_MAX)
		return;
	*s = (struct mig_sample){ .at_ns = at_ns };
	for (unsigned int i = 0; i < machine_ndevs(mv->m); i++)
		netdev_traffic(machine_dev(mv->m, i)->nd, &s->frames,
			       &s->bytes);
	mv->nsamples++;
}

static void in_loop_tell(void *opaque)
{
	struct move *mv = opaque;
	struct mig_progress p;

	pthread_mutex_lock(&mv->lock);
	p = mv->progress;
	mv->told = true;
	pthread_mutex_unlock(&mv->lock);
	sample(mv, p.elapsed_ns);
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
	mig_source_destroy(mv->source);
	chan_tls_free(mv->tls);
	json_decref(mv->last_stats);
	mv->last_stats = NULL;
	json_decref(mv->result.devices);
	mv->result.devices = NULL;
	mv->source = NULL;
	mv->tls = NULL;
	mv->call = NULL;
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

static void in_loop_ended(void *opaque)
{
	struct move *mv = opaque;
	struct machine *m = mv->m;
	enum mig_outcome out = mv->outcome;

	pthread_join(mv->thread, NULL);
	if (mv->check_only) {
		end_check(mv);
		clear(mv);
		return;
	}
	sample(mv, mv->result.total_ns);
	ctl_reply(mv->call,
		  mig_result_json(&mv->result, vm_name(machine_vm(m)), mv->dest,
				  out, mv->err.code ? mv->err.text : NULL,
				  mv->sample, mv->nsamples));
	switch (out) {
	case MIG_RUNS_THERE:
		log_info("moved to %s: outage %.1f ms", mv->dest,
			 (double)mv->result.downtime_ns / 1e6);
		probing_moved(machine_probing(m), mv->dest);
		clear(mv);
		machine_quit(m, 0);
		return;
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
	ret = open_source(mv, params, e);
	if (ret < 0)
		return ret;
	mv->call = c;
	mv->check_only = check_only;
	mv->told = true;
	mv->nsamples = 0;
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

	if (!mv->source)
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
	mv->vm.ops = &ops;
	mv->m = m;
	pthread_mutex_init(&mv->lock, NULL);
	ret = throttle_create(&mv->throttle);
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
	throttle_destroy(mv->throttle);
	pthread_mutex_destroy(&mv->lock);
	free(mv);
}
