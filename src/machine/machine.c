#include "machine/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "machine/priv.h"

#define STATUS_CRASHED 2

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
	char pdev[128];
	const struct vdev_model *model; /* NULL: the pdev's own */
};

static int parse(struct dev_spec *out, const char *spec, struct err *e)
{
	static const char key[] = ",model=";
	const char *at = strstr(spec, key);
	size_t len = at ? (size_t)(at - spec) : strlen(spec);

	if (!len || len >= sizeof(out->pdev))
		return err_set(e, -EINVAL, "'%s' names no device", spec);
	memcpy(out->pdev, spec, len);
	out->pdev[len] = '\0';
	out->model = at ? vdev_model_find(at + sizeof(key) - 1) : NULL;
	if (at && !out->model)
		return err_set(e, -EINVAL,
			       "'%s' is no model; there are igb/82576 and "
			       "igb/i350",
			       at + sizeof(key) - 1);
	return 0;
}

static enum vdev_backing backing(const char *spec)
{
	return strncmp(spec, "vfio-user:", 10) ? VDEV_HARDWARE : VDEV_SOFTWARE;
}

static int add_device(struct machine *m, const char *text, struct err *e)
{
	struct machine_dev *d = &m->dev[m->ndevs];
	struct pdev *p = NULL;
	struct dev_spec spec;
	int ret = parse(&spec, text, e);

	if (ret < 0)
		return ret;
	*d = (struct machine_dev){ .v = NULL };
	snprintf(d->name, sizeof(d->name), "net%u", m->ndevs);
	snprintf(d->pdev, sizeof(d->pdev), "%s", spec.pdev);
	if (strcmp(spec.pdev, "none")) {
		ret = pdev_open(&p, spec.pdev, e);
		if (ret < 0)
			return ret;
		if (!spec.model)
			spec.model = vdev_model_of_pdev(p, e);
	}
	if (!spec.model) {
		ret = err_set(e, -EINVAL,
			      "'%s': a device that nothing backs needs "
			      "model=MODEL",
			      text);
		goto close;
	}
	ret = vdev_create(&d->v, d->name, spec.model, vm_host(m->vm), m->loop,
			  e);
	if (ret < 0)
		goto close;
	/* Counted from here on: unbuild takes it down with all the rest. */
	m->ndevs++;
	if (p) {
		ret = vdev_bind(d->v, p, backing(spec.pdev), e);
		if (ret < 0)
			goto close;
	}
	return vm_pci_add(m->vm, vdev_func(d->v), -1, e);

close:
	pdev_close(p);
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
		vdev_destroy(m->dev[--m->ndevs].v);
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
	console_destroy(m->console);
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

struct ctl_server *machine_ctl(struct machine *m)
{
	return m->ctl;
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
