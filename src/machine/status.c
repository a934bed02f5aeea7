/*
 * The status object: one place that names all of its fields.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "machine/priv.h"

static json_t *exits(struct vm *vm, int cpu)
{
	struct vm_exit_counts n;
	json_t *all = json_object();
	uint64_t sum = 0;

	vm_exit_counts(vm, cpu, &n);
	for (unsigned int i = 0; i < VM_NEXITS; i++) {
		json_object_set_new(all, vm_exit_name((enum vm_exit)i),
				    json_integer((json_int_t)n.n[i]));
		sum += n.n[i];
	}
	json_object_set_new(all, "total", json_integer((json_int_t)sum));
	return all;
}

static const struct {
	uint32_t bit;
	const char *name;
} reasons[] = {
	{ VDEV_TRAP_MBX, "mailbox" },
	{ VDEV_TRAP_SHADOW, "shadow" },
	{ VDEV_TRAP_QUIESCE, "quiesce" },
	{ VDEV_TRAP_STATS, "statistics" },
	{ VDEV_TRAP_KERNEL, "kernel" },
	{ VDEV_TRAP_UNBACKED, "unbacked" },
	{ VDEV_TRAP_UNMAPPABLE, "unmappable" },
};

static json_t *page(struct vdev *v, unsigned int bar, unsigned int n)
{
	uint32_t why = vdev_trap_reasons(v, bar, n);
	json_t *names = json_array();
	uint64_t reads, writes;

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (why & reasons[i].bit)
			json_array_append_new(names,
					      json_string(reasons[i].name));
	vdev_page_counts(v, bar, n, &reads, &writes);
	return json_pack("{s:i, s:i, s:b, s:o, s:I, s:I}", "bar", (int)bar,
			 "page", (int)n, "direct", vdev_page_direct(v, bar, n),
			 "reasons", names, "reads", (json_int_t)reads, "writes",
			 (json_int_t)writes);
}

static json_t *counts(struct vdev *v)
{
	struct vdev_counts c;

	vdev_get_counts(v, &c);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "reads",
			 (json_int_t)c.reads, "writes", (json_int_t)c.writes,
			 "mailbox_page", (json_int_t)c.mbx_page, "doorbell",
			 (json_int_t)c.doorbell, "other", (json_int_t)c.other,
			 "traps", (json_int_t)c.traps, "untraps",
			 (json_int_t)c.untraps, "nonsense", (json_int_t)c.bad);
}

static json_t *device(struct machine_dev *d)
{
	static const char *const backings[] = {
		[VDEV_NONE] = "none",
		[VDEV_SOFTWARE] = "software",
		[VDEV_HARDWARE] = "hardware",
	};
	const struct vdev_model *model = vdev_get_model(d->v);
	struct pdev *p = vdev_pdev(d->v);
	json_t *pages = json_array(), *all, *own;
	char address[16];

	for (unsigned int bar = 0; bar < 6; bar++)
		for (unsigned int n = 0; n < model->bar_size[bar] / PAGE_SIZE;
		     n++)
			json_array_append_new(pages, page(d->v, bar, n));
	snprintf(address, sizeof(address), "00:%02x.%x",
		 vdev_func(d->v)->devfn >> 3, vdev_func(d->v)->devfn & 7);
	all = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:o, s:o}", "name", d->name,
			"model", model->name, "address", address, "backing",
			backings[vdev_get_backing(d->v)], "pdev",
			p ? p->name : NULL, "counts", counts(d->v), "pages",
			pages);
	own = netdev_status(d->nd);
	json_object_update(all, own);
	json_decref(own);
	return all;
}

static const char *state(const struct machine *m)
{
	if (!m->vm)
		return "empty";
	if (m->end != VM_RUNS)
		return "ended";
	if (!m->started)
		return "built";
	return vm_paused(m->vm) ? "paused" : "running";
}

json_t *machine_status(struct machine *m)
{
	json_t *devs = json_array(), *cpus = json_array();
	json_t *all = json_pack(
		"{s:s, s:s, s:i, s:s, s:I, s:i, s:f, s:i}", "name", m->cfg.name,
		"version", PAGURUS_VERSION, "pid", (int)getpid(), "state",
		state(m), "memory", (json_int_t)m->cfg.mem, "cpus",
		(int)m->cfg.cpus, "uptime_s",
		m->started ? (double)(now_ns() - m->started_ns) / 1e9 : 0.0,
		"boots", (int)m->boots);

	for (unsigned int i = 0; i < m->ndevs; i++)
		json_array_append_new(devs, device(&m->dev[i]));
	json_object_set_new(all, "devices", devs);
	if (m->vm) {
		json_object_set_new(all, "exits", exits(m->vm, -1));
		for (unsigned int i = 0; i < vm_cpus(m->vm); i++)
			json_array_append_new(cpus, exits(m->vm, (int)i));
	}
	json_object_set_new(all, "exits_per_cpu", cpus);
	for (unsigned int i = 0; i < m->nparts; i++) {
		struct machine_part *p = &m->part[i];
		json_t *own = p->status ? p->status(m, p->opaque) : NULL;

		if (own)
			json_object_set_new(all, p->name, own);
	}
	return all;
}
