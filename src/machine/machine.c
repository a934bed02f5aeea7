#include "machine/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/priv.h"
#include "machine/probing.h"

#define STATUS_CRASHED 2
#define TRACE_EVENTS   8192

static void on_end(void *opaque);

/* On a vCPU thread. */
static void ended(void *opaque, enum vm_end end, int code)
{
	struct machine *m = opaque;

	m->end_code = code;
	m->end = (int)end;
	loop_call(m->loop, on_end, m);
}

static void output(void *opaque, const void *buf, size_t len)
{
	struct machine *m = opaque;

	console_output(m->console, buf, len);
}

static size_t input(void *opaque, const void *buf, size_t len)
{
	struct machine *m = opaque;

	return m->vm ? vm_console_in(m->vm, buf, len) : len;
}

void machine_quit(struct machine *m, int status)
{
	m->quit = true;
	m->status = status;
	loop_stop(m->loop);
}

static void on_escape(void *opaque)
{
	struct machine *m = opaque;

	log_info("stopped from the console");
	machine_quit(m, 0);
}

static void on_signal(int signo, void *opaque)
{
	struct machine *m = opaque;

	log_info("stopped by signal %d", signo);
	machine_quit(m, 0);
}

/* ---- devices ---- */

struct dev_spec {
	char vf[256];
	const struct vdev_model *model; /* NULL: the VF's own */
};

static int parse(struct dev_spec *out, const char *spec, struct err *e)
{
	static const char key[] = ",model=";
	const char *at = strstr(spec, key);
	size_t len = at ? (size_t)(at - spec) : strlen(spec);

	if (!len || len >= sizeof(out->vf))
		return err_set(e, -EINVAL, "'%s' names no device", spec);
	memcpy(out->vf, spec, len);
	out->vf[len] = '\0';
	out->model = at ? vdev_model_find(at + sizeof(key) - 1) : NULL;
	if (at && !out->model)
		return err_set(e, -EINVAL,
			       "'%s' is no model; there are igb/82576 and "
			       "igb/i350",
			       at + sizeof(key) - 1);
	return 0;
}

int machine_plug(struct machine *m, struct netvf *vf,
		 const struct vdev_model *model, struct err *e)
{
	struct machine_dev *d = &m->dev[m->ndevs];
	const struct netdev_conf conf = {
		.name = d->name,
		.shadow = m->cfg.shadow,
		.trace = m->trace,
		.unit = m->ndevs,
	};
	int ret;

	if (m->ndevs == MACHINE_DEVS_MAX)
		return err_set(e, -ENOSPC, "at most %d devices",
			       MACHINE_DEVS_MAX);
	*d = (struct machine_dev){ .nd = NULL };
	snprintf(d->name, sizeof(d->name), "net%u", m->ndevs);
	ret = netdev_create(&d->nd, &conf, model, vm_host(m->vm), m->loop, e);
	if (ret < 0)
		return ret;
	d->v = netdev_vdev(d->nd);
	ret = vm_pci_add(m->vm, vdev_func(d->v), -1, e);
	if (ret == 0 && vf)
		ret = netdev_attach(d->nd, vf, e);
	if (ret < 0) {
		netdev_destroy(d->nd);
		return ret;
	}
	m->ndevs++;
	return 0;
}

static int add_device(struct machine *m, const char *text, struct err *e)
{
	struct netvf *vf = NULL;
	struct dev_spec spec;
	int ret = parse(&spec, text, e);

	if (ret < 0)
		return ret;
	if (strcmp(spec.vf, "none")) {
		ret = netvf_open(&vf, spec.vf, m->cfg.name, m->loop, m->trace,
				 e);
		if (ret < 0)
			return ret;
		if (!spec.model)
			spec.model = vf->model;
	}
	if (!spec.model)
		ret = err_set(e, -EINVAL,
			      "'%s': a device that nothing backs needs "
			      "model=MODEL",
			      text);
	else
		ret = machine_plug(m, vf, spec.model, e);
	if (ret < 0)
		netvf_close(vf);
	return ret;
}

/* ---- life ---- */

void machine_unbuild(struct machine *m)
{
	if (!m->vm)
		return;
	/* No vCPU shall be in a device when it goes. */
	vm_pause(m->vm);
	vm_park(m->vm);
	console_connect(m->console, NULL, NULL);
	while (m->nbuilt) {
		struct machine_part *p = &m->part[--m->nbuilt];

		if (p->unbuild)
			p->unbuild(m, p->opaque);
	}
	while (m->ndevs)
		netdev_destroy(m->dev[--m->ndevs].nd);
	vm_destroy(m->vm);
	m->vm = NULL;
	m->started = false;
}

int machine_build(struct machine *m, struct err *e)
{
	const struct vm_config vc = {
		.name = m->cfg.name,
		.mem = m->cfg.mem,
		.hugepages = m->cfg.hugepages,
		.cpus = m->cfg.cpus,
		.kernel = m->cfg.kernel,
		.initrd = m->cfg.initrd,
		.append = m->cfg.append,
		.console = output,
		.ended = ended,
		.opaque = m,
	};
	int ret;

	m->end = VM_RUNS;
	ret = vm_create(&m->vm, &vc, e);
	if (ret < 0) {
		m->vm = NULL;
		return ret;
	}
	for (unsigned int i = 0; ret == 0 && i < m->cfg.nvfs; i++)
		ret = add_device(m, m->cfg.vf[i], e);
	while (ret == 0 && m->nbuilt < m->nparts) {
		struct machine_part *p = &m->part[m->nbuilt];

		ret = p->built ? p->built(m, p->opaque, e) : 0;
		if (ret == 0)
			m->nbuilt++;
	}
	if (ret < 0) {
		machine_unbuild(m);
		return ret;
	}
	console_connect(m->console, input, m);
	return 0;
}

int machine_start(struct machine *m, struct err *e)
{
	int ret = vm_start(m->vm, e);

	if (ret < 0)
		return ret;
	m->started = true;
	m->started_ns = now_ns();
	m->boots++;
	return 0;
}

int machine_claim(struct machine *m, const char *what, struct err *e)
{
	/* One that is still arriving is the arrival's. */
	if (!machine_running(m))
		return err_set(e, -ENODATA, "no VM runs here");
	if (m->claimed)
		return err_set(e, -EBUSY, "%s is going on", m->claimed);
	m->claimed = what;
	return 0;
}

void machine_unclaim(struct machine *m)
{
	m->claimed = NULL;
}

static int reboot(struct machine *m)
{
	struct err e = { 0 };
	int ret;

	log_info("the guest reboots");
	machine_unbuild(m);
	ret = machine_build(m, &e);
	if (ret == 0)
		ret = machine_start(m, &e);
	if (ret < 0)
		log_error("cannot start it again: %s", err_text(&e, ret));
	return ret;
}

static void on_end(void *opaque)
{
	struct machine *m = opaque;
	enum vm_end end = (enum vm_end)m->end;

	if (m->quit || end == VM_RUNS)
		return;
	switch (end) {
	case VM_END_REBOOT:
		if (!m->cfg.no_reboot) {
			if (reboot(m) < 0)
				machine_quit(m, 1);
			return;
		}
		machine_quit(m, 0);
		break;
	case VM_END_TRIPLE_FAULT:
		log_error("the guest's CPU gave up (triple fault): its kernel "
			  "crashed before it could say why, or does not suit "
			  "this machine");
		machine_quit(m, STATUS_CRASHED);
		break;
	case VM_END_CRASH: machine_quit(m, STATUS_CRASHED); break;
	case VM_END_EXIT: machine_quit(m, m->end_code); break;
	default: machine_quit(m, 0); break;
	}
	machine_stops_tell(m, vm_end_name(end));
}

int machine_serve(struct machine *m)
{
	int ret = 0;

	/* quit may have come before we got here. */
	while (!m->quit && ret == 0)
		ret = loop_run(m->loop);
	if (ret < 0) {
		log_error("event loop: %s", strerror(-ret));
		m->status = 1;
	}
	machine_unbuild(m);
	machine_stops_tell(m, "stopped");
	console_flush(m->console);
	return m->status;
}

int machine_create(struct machine **out, const struct machine_config *cfg,
		   struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct machine *m;
	int ret = ctl_name_check(cfg->name, e);

	if (ret < 0)
		return ret;
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->cfg = *cfg;
	ret = loop_create(&m->loop);
	if (ret == 0)
		ret = trace_create(&m->trace, TRACE_EVENTS);
	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(signals); i++)
		ret = loop_add_signal(m->loop, signals[i], on_signal, m, NULL);
	if (ret < 0) {
		err_sys(e, ret, "event loop");
		goto fail;
	}
	signal(SIGPIPE, SIG_IGN);
	ret = ctl_server_create(&m->ctl, m->loop, cfg->dir, cfg->name, e);
	if (ret < 0)
		goto fail;
	ret = ctl_server_add(m->ctl, machine_methods, m);
	if (ret == 0)
		ret = console_create(&m->console, m->loop, cfg->console,
				     on_escape, m, e);
	if (ret == 0)
		ret = probing_create(&m->probing, m, e);
	if (ret < 0)
		goto fail;
	*out = m;
	return 0;

fail:
	machine_destroy(m);
	return ret;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	machine_unbuild(m);
	ctl_server_destroy(m->ctl);
	probing_destroy(m->probing);
	console_destroy(m->console);
	trace_destroy(m->trace);
	loop_destroy(m->loop);
	free(m);
}

int machine_add(struct machine *m, const struct machine_part *part)
{
	if (m->nparts == PARTS_MAX)
		return -ENOSPC;
	m->part[m->nparts++] = *part;
	return 0;
}

struct vm *machine_vm(struct machine *m)
{
	return m->vm;
}

struct loop *machine_loop(struct machine *m)
{
	return m->loop;
}

struct trace *machine_trace(struct machine *m)
{
	return m->trace;
}

struct ctl_server *machine_ctl(struct machine *m)
{
	return m->ctl;
}

struct probing *machine_probing(struct machine *m)
{
	return m->probing;
}

bool machine_running(const struct machine *m)
{
	return m->started && m->end == VM_RUNS;
}

struct console *machine_console(struct machine *m)
{
	return m->console;
}

struct machine_config *machine_get_config(struct machine *m)
{
	return &m->cfg;
}

unsigned int machine_ndevs(const struct machine *m)
{
	return m->ndevs;
}

struct machine_dev *machine_dev(struct machine *m, unsigned int i)
{
	return i < m->ndevs ? &m->dev[i] : NULL;
}
