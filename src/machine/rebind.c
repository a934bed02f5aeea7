#include "machine/rebind.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/priv.h"
#include "migrate/plan.h"

struct rebind {
	struct machine *m;

	/* One rebind, from the call to its end. */
	struct ctl_call *call;
	struct machine_dev *dev;
	struct netvf *vf, *old;
	struct mig_decision plan;
	pthread_t thread;
	bool active;
	uint64_t quiesce_ns, outage_ns;
	int ret;
	struct err err;
};

static int carry(struct rebind *r, int (*fn)(void *rebind))
{
	return loop_ask(machine_loop(r->m), fn, r);
}

static void nap(long ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

static int in_loop_quiesce(void *opaque)
{
	struct rebind *r = opaque;

	return netdev_quiesce(r->dev->nd, &r->err);
}

static int in_loop_release(void *opaque)
{
	struct rebind *r = opaque;

	netdev_release(r->dev->nd);
	return 0;
}

static int in_loop_swap(void *opaque)
{
	struct rebind *r = opaque;

	return netdev_swap(r->dev->nd, r->vf, &r->old, &r->err);
}

static int in_loop_run(void *opaque)
{
	struct rebind *r = opaque;

	netdev_run(r->dev->nd);
	return 0;
}

/* The guest gives up its rings while it runs on. */
static int wait_quiesced(struct rebind *r)
{
	uint64_t start = now_ns();
	int ret = carry(r, in_loop_quiesce);

	while (ret == 0) {
		ret = netdev_quiesced(r->dev->nd);
		if (ret == 0)
			nap(1000000);
	}
	r->quiesce_ns = now_ns() - start;
	return ret < 0 ? err_sys(&r->err, ret,
				 "%s: the guest's driver does not give up the "
				 "device",
				 r->dev->name)
		       : 0;
}

/* The new VF is no good: the device goes back where it was. */
static void swap_back(struct rebind *r)
{
	struct err why = r->err;
	struct netvf *bad = r->vf, *old = r->old;

	err_clear(&r->err);
	r->vf = old;
	if (carry(r, in_loop_swap) < 0 ||
	    machine_dev_ready(r->m, r->dev, &r->err) < 0)
		log_error("%s: not back on its old VF: %s", r->dev->name,
			  r->err.text);
	/* That may fail too; whichever it is on is not ours to close. */
	r->old = netdev_vf(r->dev->nd) == old ? NULL : old;
	r->vf = netdev_vf(r->dev->nd) == bad ? NULL : bad;
	r->err = why;
}

static int swap(struct rebind *r)
{
	struct vm *vm = machine_vm(r->m);
	uint64_t start = now_ns();
	int ret = vm_pause(vm);

	if (ret < 0)
		return err_sys(&r->err, ret, "pausing the vCPUs");
	ret = vm_park(vm);
	if (ret == 0)
		ret = netdev_drain(r->dev->nd, &r->err);
	if (ret < 0) {
		carry(r, in_loop_release);
		vm_resume(vm);
		return ret;
	}
	ret = carry(r, in_loop_swap);
	if (ret < 0) {
		struct err e = { 0 };

		machine_dev_ready(r->m, r->dev, &e); /* on the old VF again */
	} else {
		ret = machine_dev_ready(r->m, r->dev, &r->err);
		if (ret < 0)
			swap_back(r);
	}
	/* On whichever it is, it must run. */
	carry(r, in_loop_run);
	vm_resume(vm);
	r->outage_ns = now_ns() - start;
	return ret;
}

static void in_loop_ended(void *opaque)
{
	struct rebind *r = opaque;

	pthread_join(r->thread, NULL);
	/* The VF it is not on any more, or never came to be on. */
	netvf_close(r->old);
	if (r->ret < 0)
		netvf_close(r->vf);
	if (r->ret < 0)
		ctl_fail(r->call, r->ret, &r->err);
	else
		ctl_reply(r->call,
			  json_pack("{s:s, s:s, s:s, s:I, s:I}", "device",
				    r->dev->name, "action",
				    mig_action_name(r->plan.action), "reason",
				    r->plan.reason, "quiesce_ns",
				    (json_int_t)r->quiesce_ns, "outage_ns",
				    (json_int_t)r->outage_ns));
	r->active = false;
	machine_unclaim(r->m);
}

static void *work(void *opaque)
{
	struct rebind *r = opaque;
	struct netdev *nd = r->dev->nd;

	shadow_set_shared(netdev_shadow(nd), machine_ndevs(r->m) > 1);
	r->ret = netdev_engage(nd, r->plan.action, &r->err);
	if (r->ret == 0 && r->plan.action == MIG_REBUILD)
		r->ret = wait_quiesced(r);
	if (r->ret < 0)
		carry(r, in_loop_release);
	else
		r->ret = swap(r);
	loop_call(machine_loop(r->m), in_loop_ended, r);
	return NULL;
}

static struct machine_dev *find(struct machine *m, const char *name)
{
	for (unsigned int i = 0; i < machine_ndevs(m); i++)
		if (!name || !strcmp(machine_dev(m, i)->name, name))
			return machine_dev(m, i);
	return NULL;
}

static int begin(struct rebind *r, struct ctl_call *c, const json_t *params,
		 struct err *e)
{
	/* Who asks for another VF by name means it, software or not. */
	static const struct mig_policy policy = { .fallback_software = true };
	const char *spec = json_string_value(json_object_get(params, "vf"));
	const char *name = json_string_value(json_object_get(params, "device"));
	struct mig_device have, offer;
	int ret;

	if (!spec)
		return err_set(e, -EINVAL, "vf: a spec is needed");
	r->dev = find(r->m, name);
	if (!r->dev)
		return err_set(e, -ENODEV, "no device '%s'",
			       name ? name : "net0");
	ret = netdev_movable(r->dev->nd, e);
	if (ret < 0)
		return ret;
	r->old = NULL;
	ret = netvf_open(&r->vf, spec, machine_get_config(r->m)->name,
			 machine_loop(r->m), machine_trace(r->m), e);
	if (ret < 0)
		return ret;
	netdev_describe(r->dev->nd, &have);
	netvf_describe(r->vf, &offer);
	mig_decide(&r->plan, &have, &offer, &policy);
	if (r->plan.action != MIG_REFUSE && offer.backing == MIG_SOFTWARE &&
	    have.backing == MIG_HARDWARE)
		snprintf(r->plan.reason, sizeof(r->plan.reason),
			 "the software NIC was asked for");
	if (r->plan.action != MIG_REFUSE && netdev_orphaned(r->dev->nd)) {
		/* Its rings' positions died with it. */
		r->plan.action = MIG_REBUILD;
		snprintf(r->plan.reason, sizeof(r->plan.reason),
			 "the VF behind it is gone");
	}
	if (r->plan.action == MIG_REFUSE) {
		netvf_close(r->vf);
		return err_set(e, -EOPNOTSUPP, "%s: %s", r->dev->name,
			       r->plan.reason);
	}
	err_clear(&r->err);
	r->quiesce_ns = r->outage_ns = 0;
	r->call = c;
	r->active = true;
	ret = -pthread_create(&r->thread, NULL, work, r);
	if (ret < 0) {
		r->active = false;
		netvf_close(r->vf);
		return err_sys(e, ret, "starting the rebind");
	}
	return CTL_LATER;
}

static int do_rebind(void *opaque, struct ctl_call *c, const json_t *params,
		     json_t **result, struct err *e)
{
	struct rebind *r = opaque;
	int ret = machine_claim(r->m, "a rebind", e);

	if (ret < 0)
		return ret;
	ret = begin(r, c, params, e);
	if (ret != CTL_LATER)
		machine_unclaim(r->m);
	return ret;
}

static const struct ctl_method methods[] = {
	{ "rebind", "put {device} on the VF {vf}", do_rebind },
	{ NULL, NULL, NULL },
};

/* The machine goes down: let a rebind come to its end first. */
static void unbuild(struct machine *m, void *opaque)
{
	struct rebind *r = opaque;

	while (r->active)
		loop_once(machine_loop(m), -1);
}

int rebind_create(struct rebind **out, struct machine *m, struct err *e)
{
	struct rebind *r = calloc(1, sizeof(*r));
	const struct machine_part part = { .unbuild = unbuild, .opaque = r };
	int ret;

	if (!r)
		return -ENOMEM;
	r->m = m;
	ret = machine_add(m, &part);
	if (ret == 0)
		ret = ctl_server_add(machine_ctl(m), methods, r);
	if (ret < 0) {
		free(r);
		return err_sys(e, ret, "the rebind method");
	}
	*out = r;
	return 0;
}

void rebind_destroy(struct rebind *r)
{
	free(r);
}
