/*
 * A machine that moves away, as the migration's engine sees it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/trace.h"
#include "base/util.h"
#include "machine/move_priv.h"
#include "machine/probing.h"
#include "netdev/netdev.h"

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

static int in_loop_mark(void *opaque)
{
	struct carried *c = opaque;

	c->mv->traffic.mark[c->n] = meter_sample(c->mv->meter);
	return 0;
}

/* The plan names devices in the manifest's order, which is the machine's. */
static int op_engage(struct mig_vm *vm, const struct mig_plan *plan,
		     struct err *e)
{
	struct carried c = { .mv = MV(vm), .n = MIG_MARK_ENGAGE };
	struct machine *m = MV(vm)->m;
	int ret = 0;

	carry(in_loop_mark, &c);
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

	/* The last thing before the outage that does not lengthen it. */
	c->n = MIG_MARK_STOP;
	in_loop_mark(c);
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

	c->n = MIG_MARK_GONE;
	in_loop_mark(c);
	meter_stop(c->mv->meter);
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

const struct mig_vm_ops move_vm_ops = {
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
