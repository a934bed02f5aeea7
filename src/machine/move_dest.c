#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/memory.h"
#include "machine/meter.h"
#include "machine/move.h"
#include "machine/priv.h"
#include "machine/probing.h"
#include "netdev/netdev.h"

struct arrival {
	struct mig_vm vm;
	struct machine *m;
	struct chan_tls *tls;
	struct chan_listener *listener;
	struct mig_incoming *witness; /* once it runs here */
	pthread_t thread;
	bool started;

	/* VFs that may back devices; NULL where one has been taken. */
	struct netvf *vf[MACHINE_DEVS_MAX];
	unsigned int nvfs;

	struct meter *meter;
	uint64_t watch_ns; /* what the source wants to know; 0: nothing */

	/* For the part's hook, while the machine is built. */
	const struct mig_plan *plan;

	/* The loop's: the engine's thread, and who unbuilds. */
	bool engine_ended, engine_calls, stopping;

	int ret;
	struct err err;
};

#define AV(vm_) container_of(vm_, struct arrival, vm)

/* What a call into the loop's thread takes along. */
struct carried {
	struct arrival *a;
	const struct mig_manifest *manifest;
	const struct mig_policy *policy;
	const struct mig_plan *plan;
	struct mig_plan *out;
	const char *part;
	struct wire_in *in;
	struct err *e;
};

static int carry(int (*fn)(void *carried), struct carried *c)
{
	return loop_ask(machine_loop(c->a->m), fn, c);
}

static size_t op_ram(struct mig_vm *vm, const struct host_ram **out)
{
	struct host *h = vm_host(machine_vm(AV(vm)->m));

	return h->ops->ram(h, out);
}

/* ---- before RAM ---- */

static int in_loop_offer(void *opaque)
{
	struct carried *c = opaque;
	struct mig_device offer[MACHINE_DEVS_MAX];
	unsigned int n = 0;

	for (unsigned int i = 0; i < c->a->nvfs; i++)
		if (c->a->vf[i])
			netvf_describe(c->a->vf[i], &offer[n++]);
	mig_plan_make(c->out, c->manifest, offer, n, c->policy);
	return 0;
}

static int op_offer(struct mig_vm *vm, const struct mig_manifest *m,
		    const struct mig_policy *policy, struct mig_plan *out,
		    struct err *e)
{
	struct carried c = {
		.a = AV(vm), .manifest = m, .policy = policy, .out = out
	};
	uint64_t page = 0;
	int ret;

	for (uint32_t i = 0; i < m->nram; i++)
		page = MAX(page, m->ram[i].page);
	ret = memory_suffices(mig_manifest_ram(m), page, MEMINFO, e);
	return ret < 0 ? ret : carry(in_loop_offer, &c);
}

static int op_cpu_check(struct mig_vm *vm, struct wire_in *in, struct err *e)
{
	return vm_cpu_check(in, e);
}

/* The VF that the plan named, taken out of the pool. */
static struct netvf *take_vf(struct arrival *a, const char *spec)
{
	struct netvf *vf;

	for (unsigned int i = 0; i < a->nvfs; i++) {
		struct mig_device d;

		if (!a->vf[i])
			continue;
		netvf_describe(a->vf[i], &d);
		if (strcmp(d.name, spec))
			continue;
		vf = a->vf[i];
		a->vf[i] = NULL;
		return vf;
	}
	return NULL;
}

static int plug(struct arrival *a, const struct mig_decision *d, struct err *e)
{
	const struct vdev_model *model = vdev_model_find(d->device.model);
	struct netvf *vf;
	int ret;

	if (!model)
		return err_set(e, -EPROTO, "%s: no model '%s' here",
			       d->device.name, d->device.model);
	vf = take_vf(a, d->offer.name);
	if (!vf)
		return err_set(e, -ENODEV, "%s: '%s' is not on offer",
			       d->device.name, d->offer.name);
	/* With the netdev it lives and dies; back in the pool on failure. */
	ret = machine_plug(a->m, vf, model, e);
	for (unsigned int i = 0; ret < 0 && i < a->nvfs; i++)
		if (!a->vf[i]) {
			a->vf[i] = vf;
			break;
		}
	return ret;
}

/*
 * The machine goes down under a migration that is coming in: the engine
 * must have let go of its memory first.  The engine may be waiting for this
 * very loop, so that is kept turning.
 */
static void unbuild(struct machine *m, void *opaque)
{
	struct arrival *a = opaque;

	meter_stop(a->meter);
	if (!a->started || a->engine_ended || a->engine_calls)
		return;
	a->stopping = true;
	chan_listener_abort(a->listener);
	while (!a->engine_ended)
		loop_once(machine_loop(m), -1);
}

static int built(struct machine *m, void *opaque, struct err *e)
{
	struct arrival *a = opaque;
	int ret = 0;

	for (uint32_t i = 0; a->plan && ret == 0 && i < a->plan->n; i++)
		ret = plug(a, &a->plan->d[i], e);
	return ret;
}

static int same_ram(struct machine *m, const struct mig_manifest *want,
		    struct err *e)
{
	struct mig_manifest have;

	move_manifest(m, &have);
	if (have.nram != want->nram ||
	    memcmp(have.ram, want->ram, sizeof(have.ram)))
		return err_set(e, -EPROTO,
			       "the VM's RAM layout cannot be made here");
	return 0;
}

static int in_loop_prepare(void *opaque)
{
	struct carried *c = opaque;
	struct arrival *a = c->a;
	struct machine_config *cfg = machine_get_config(a->m);
	unsigned long long mem;
	int huge, ret;

	if (sscanf(c->manifest->machine, "mem=%llu hugepages=%d", &mem,
		   &huge) != 2)
		return err_set(c->e, -EPROTO, "manifest: machine '%.60s'",
			       c->manifest->machine);
	cfg->mem = mem;
	cfg->hugepages = huge;
	cfg->cpus = c->manifest->cpus;
	cfg->kernel = NULL;
	cfg->nvfs = 0;
	a->plan = c->plan;
	a->engine_calls = true;
	ret = machine_build(a->m, c->e);
	a->plan = NULL;
	if (ret == 0) {
		ret = same_ram(a->m, c->manifest, c->e);
		if (ret < 0)
			machine_unbuild(a->m);
	}
	a->engine_calls = false;
	return ret;
}

static int op_prepare(struct mig_vm *vm, const struct mig_manifest *m,
		      const struct mig_plan *plan, struct err *e)
{
	struct carried c = { .a = AV(vm), .manifest = m, .plan = plan, .e = e };

	return carry(in_loop_prepare, &c);
}

/* ---- state ---- */

static int in_loop_load(void *opaque)
{
	struct carried *c = opaque;
	struct machine *m = c->a->m;

	if (!strcmp(c->part, "machine"))
		return vm_load(machine_vm(m), c->in, c->e);
	if (!strcmp(c->part, PROBING_PART))
		return probing_load(machine_probing(m), c->in, c->e);
	for (unsigned int i = 0; i < machine_ndevs(m); i++)
		if (!strcmp(c->part, machine_dev(m, i)->name))
			return netdev_load(machine_dev(m, i)->nd, c->in, c->e);
	return err_set(c->e, -EPROTO, "state of '%s': no such device", c->part);
}

static int op_load(struct mig_vm *vm, const char *part, struct wire_in *in,
		   struct err *e)
{
	struct carried c = { .a = AV(vm), .part = part, .in = in, .e = e };

	return carry(in_loop_load, &c);
}

static int op_ready(struct mig_vm *vm, struct err *e)
{
	struct machine *m = AV(vm)->m;
	int ret = 0;

	for (unsigned int i = 0; ret == 0 && i < machine_ndevs(m); i++)
		ret = machine_dev_ready(m, machine_dev(m, i), e);
	return ret;
}

static int in_loop_run(void *opaque)
{
	struct carried *c = opaque;
	struct machine *m = c->a->m;
	struct err e = { 0 };

	for (unsigned int i = 0; i < machine_ndevs(m); i++)
		netdev_run(machine_dev(m, i)->nd);
	if (machine_start(m, &e) < 0) {
		log_error("the VM arrived and cannot be started: %s", e.text);
		machine_quit(m, 1);
	}
	/* Behind what the guest waits for. */
	if (c->a->watch_ns)
		meter_run(c->a->meter, c->a->watch_ns, MIG_AFTER_MAX);
	return 0;
}

static void op_watch(struct mig_vm *vm, uint64_t ns)
{
	AV(vm)->watch_ns = ns;
}

/* In the engine's thread, which the loop's may be waiting for. */
static size_t op_watched(struct mig_vm *vm, struct mig_sample *out)
{
	return meter_copy(AV(vm)->meter, out, MIG_AFTER_MAX);
}

static void op_run(struct mig_vm *vm)
{
	struct carried c = { .a = AV(vm) };

	carry(in_loop_run, &c);
}

static int in_loop_drop(void *opaque)
{
	struct arrival *a = ((struct carried *)opaque)->a;

	/* Whoever stops the engine is unbuilding already. */
	if (a->stopping)
		return 0;
	a->engine_calls = true;
	machine_unbuild(a->m);
	a->engine_calls = false;
	return 0;
}

static void op_drop(struct mig_vm *vm)
{
	struct carried c = { .a = AV(vm) };

	carry(in_loop_drop, &c);
}

static const struct mig_vm_ops ops = {
	.ram = op_ram,
	.cpu_check = op_cpu_check,
	.offer = op_offer,
	.prepare = op_prepare,
	.load = op_load,
	.ready = op_ready,
	.run = op_run,
	.drop = op_drop,
	.watch = op_watch,
	.watched = op_watched,
};

/* ---- life ---- */

static void in_loop_ended(void *opaque)
{
	struct arrival *a = opaque;

	a->engine_ended = true;
	if (a->stopping)
		return;
	if (a->ret == 0) {
		log_info("the VM runs here");
		return;
	}
	log_error("%s", err_text(&a->err, a->ret));
	machine_quit(a->m, 1);
}

static void *engine(void *opaque)
{
	struct arrival *a = opaque;

	a->ret = mig_receive(&a->vm, a->listener, &a->witness, &a->err);
	loop_call(machine_loop(a->m), in_loop_ended, a);
	return NULL;
}

int arrival_create(struct arrival **out, struct machine *m,
		   const struct arrival_config *c, struct err *e)
{
	struct arrival *a = calloc(1, sizeof(*a));
	const struct machine_part part = {
		.name = NULL, .built = built, .unbuild = unbuild, .opaque = a
	};
	int ret;

	if (!a)
		return -ENOMEM;
	a->vm.ops = &ops;
	a->m = m;
	ret = meter_create(&a->meter, m);
	if (ret < 0) {
		err_sys(e, ret, "receiving");
		goto destroy;
	}
	if (!c->tls && !c->insecure && !chan_is_unix(c->listen)) {
		ret = err_set(e, -EPERM,
			      "--listen %s: guest memory would cross the "
			      "network in the clear; give --tls DIR, or "
			      "--insecure if that is meant",
			      c->listen);
		goto destroy;
	}
	ret = machine_add(m, &part);
	for (unsigned int i = 0; ret == 0 && i < c->nvfs; i++) {
		ret = netvf_open(&a->vf[i], c->vf[i],
				 machine_get_config(m)->name, machine_loop(m),
				 machine_trace(m), e);
		a->nvfs += ret == 0;
	}
	if (ret == 0 && c->tls)
		ret = chan_tls_load(&a->tls, c->tls, NULL, e);
	if (ret == 0)
		ret = chan_listen(&a->listener, c->listen, a->tls, e);
	if (ret == 0)
		ret = -pthread_create(&a->thread, NULL, engine, a);
	if (ret < 0) {
		err_sys(e, ret, "receiving");
		goto destroy;
	}
	a->started = true;
	*out = a;
	return 0;

destroy:
	arrival_destroy(a);
	return ret;
}

void arrival_destroy(struct arrival *a)
{
	if (!a)
		return;
	/* It may still wait for somebody: close the door on it. */
	if (a->started)
		unbuild(a->m, a);
	if (a->started)
		pthread_join(a->thread, NULL);
	mig_incoming_close(a->witness, MIG_ASKING_MS);
	meter_destroy(a->meter);
	chan_listener_close(a->listener);
	chan_tls_free(a->tls);
	for (unsigned int i = 0; i < a->nvfs; i++)
		netvf_close(a->vf[i]);
	free(a);
}

const char *arrival_addr(const struct arrival *a)
{
	return chan_listener_addr(a->listener);
}
