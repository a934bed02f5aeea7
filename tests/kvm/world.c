#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/uplink.h"

#define MEM (64ull << 20)
/*
 * Rings direct, the mailbox by messages: a NIC that polls the mailbox on a
 * machine with more work than CPUs may miss the guest's 1 ms of patience.
 */
#define WORLD_DIRECT 0xcu

bool world_possible(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static struct world *current; /* what a failed case leaves behind */

static void must(int ret, const struct err *e, const char *what)
{
	if (ret < 0)
		fail_msg("%s: %s", what, err_text(e, ret));
}

/* ---- the NIC ---- */

static void *run_nic(void *arg)
{
	serve_run(arg);
	return NULL;
}

static void stop_nic(void *opaque)
{
	serve_stop(opaque);
}

static void create_nic(struct world *w, const struct nic_conf *conf)
{
	struct nic_conf c = {
		.model = NIC_82576,
		.vfs = WORLD_GUESTS,
		.direct_pages = WORLD_DIRECT,
		.mac = { 2, 0x70, 0x67, 0, 0, 1 },
	};
	struct serve_conf sc = { .dir = w->dir };
	struct err e = { 0 };

	must(nic_create(&w->nic, conf ? conf : &c, &e), &e, "nic");
	must(uplink_open(&w->uplink, "none", &e), &e, "uplink");
	nic_set_wire(w->nic, &uplink_wire_ops, w->uplink);
	must(loop_create(&w->nic_loop), &e, "loop");
	sc.nic = w->nic;
	sc.uplink = w->uplink;
	sc.loop = w->nic_loop;
	must(serve_create(&w->serve, &sc, &e), &e, "serve");
	nic_set_carrier(w->nic, true);
	assert_int_equal(
		pthread_create(&w->nic_thread, NULL, run_nic, w->serve), 0);
}

static void create_pf(struct world *w, unsigned int vfs)
{
	struct pf_conf pc = { .vfs = vfs, .trace = w->trace };
	struct err e = { 0 };
	struct pdev *p;
	char spec[128];

	snprintf(spec, sizeof(spec), "vfio-user:%s/pf.sock", w->dir);
	must(pdev_open(&p, spec, &e), &e, "pf device");
	pf_policy_default(&pc.policy);
	must(pf_open(&w->pf, p, w->loop, &pc, &e), &e, "pf driver");
	/*
	 * A VF that is reset while the PF tells of a link change may take
	 * that word for its answer, with a stock PF driver too.
	 */
	for (int i = 0; i < WORLD_PATIENCE_MS / 10 && !pf_link(w->pf); i++)
		loop_once(w->loop, 10);
	assert_true(pf_link(w->pf));
}

/* ---- guests ---- */

static void console(void *opaque, const void *buf, size_t len)
{
	struct world_guest *g = opaque;
	char *out;

	pthread_mutex_lock(&g->lock);
	out = realloc(g->out, g->len + len + 1);
	if (out) {
		g->out = out;
		memcpy(out + g->len, buf, len);
		g->len += len;
		out[g->len] = '\0';
	}
	pthread_mutex_unlock(&g->lock);
}

static void create_mailbox(struct world *w, unsigned int i)
{
	struct world_guest *g = &w->g[i];
	struct vdev_mbx_conf mc = { .trace = w->trace, .unit = i };
	struct err e = { 0 };

	must(pf_claim(&g->port, w->pf, i, "guest", &e), &e, "claim");
	mc.port = g->port;
	must(vdev_mbx_open(&g->mbx, g->v, &mc, &e), &e, "mailbox");
}

static struct pci_func *create_vdev(struct world *w, struct world_guest *g,
				    const char *name, struct pdev *p)
{
	const struct vdev_model *model;
	struct err e = { 0 };

	model = vdev_model_of_pdev(p, &e);
	must(model ? 0 : -ENODEV, &e, "model");
	must(vdev_create(&g->v, name, model, vm_host(g->vm), w->loop, &e), &e,
	     "vdev");
	must(vdev_bind(g->v, p, VDEV_SOFTWARE, &e), &e, "bind");
	return vdev_func(g->v);
}

static void create_guest(struct world *w, unsigned int i,
			 const struct world_conf *c)
{
	struct world_guest *g = &w->g[i];
	struct vm_config vc = {
		.mem = MEM,
		.cpus = 1,
		.kernel = c->kernel,
		.append = c->append[i],
		.console = console,
		.opaque = g,
	};
	struct err e = { 0 };
	char name[16], spec[128];
	struct pci_func *f;
	struct pdev *p = NULL;

	pthread_mutex_init(&g->lock, NULL);
	snprintf(name, sizeof(name), "guest%u", i);
	vc.name = name;
	must(vm_create(&g->vm, &vc, &e), &e, "vm");
	snprintf(spec, sizeof(spec), "vfio-user:%s/vf%u.sock", w->dir, i);
	/* The socket comes when the NIC gets to it, after SR-IOV is on. */
	for (int k = 0;
	     pdev_open(&p, spec, NULL) == -ENOENT && k < WORLD_PATIENCE_MS / 10;
	     k++)
		usleep(10000);
	if (!p)
		must(pdev_open(&p, spec, &e), &e, "vf device");
	f = c->func ? c->func(c->opaque, p, vm_host(g->vm))
		    : create_vdev(w, g, name, p);
	must(f ? 0 : -ENODEV, &e, "function");
	must(vm_pci_add(g->vm, f, -1, &e), &e, "plug");
	if (c->mailbox)
		create_mailbox(w, i);
	w->n = i + 1;
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

void world_create(struct world *w, const struct world_conf *c)
{
	memset(w, 0, sizeof(*w));
	w->trace = c->trace;
	strcpy(w->dir, "/tmp/world-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(loop_create(&w->loop), 0);
	create_nic(w, c->nic);
	create_pf(w, c->guests);
	for (unsigned int i = 0; i < c->guests; i++)
		create_guest(w, i, c);
}

static void pf_dies(void *opaque)
{
	struct world *w = opaque;

	pf_close(w->pf);
	w->pf = NULL;
}

void world_pf_dies(struct world *w)
{
	world_call(w, w->loop, pf_dies, w);
}

static void pf_again(void *opaque)
{
	struct world *w = opaque;

	create_pf(w, w->n);
	for (unsigned int i = 0; i < w->n; i++) {
		struct world_guest *g = &w->g[i];
		struct err e = { 0 };

		vdev_mbx_set_port(g->mbx, NULL);
		pf_port_close(g->port);
		must(pf_claim(&g->port, w->pf, i, "guest", &e), &e, "claim");
		assert_int_equal(vdev_mbx_set_port(g->mbx, g->port), 0);
	}
}

void world_pf_again(struct world *w)
{
	world_call(w, w->loop, pf_again, w);
}

void world_start(struct world *w)
{
	struct err e = { 0 };

	assert_int_equal(
		pthread_create(&w->loop_thread, NULL, run_loop, w->loop), 0);
	current = w;
	for (unsigned int i = 0; i < w->n; i++)
		must(vm_start(w->g[i].vm, &e), &e, "start");
}

int world_clean_up(void **state)
{
	if (current)
		world_destroy(current);
	return 0;
}

struct call {
	loop_fn fn;
	void *opaque;
	_Atomic bool done;
};

static void run_call(void *opaque)
{
	struct call *c = opaque;

	c->fn(c->opaque);
	c->done = true;
}

void world_call(struct world *w, struct loop *l, loop_fn fn, void *opaque)
{
	struct call c = { .fn = fn, .opaque = opaque };

	assert_int_equal(loop_call(l, run_call, &c), 0);
	while (!c.done)
		usleep(100);
}

static void unbind(void *opaque)
{
	pdev_close(vdev_unbind(opaque));
}

void world_kill(struct world *w, unsigned int guest)
{
	struct world_guest *g = &w->g[guest];

	vm_pause(g->vm);
	vm_park(g->vm);
	world_call(w, w->loop, unbind, g->v);
}

void world_destroy(struct world *w)
{
	current = NULL;
	for (unsigned int i = 0; i < w->n; i++) {
		vm_pause(w->g[i].vm);
		vm_park(w->g[i].vm);
	}
	loop_stop(w->loop);
	pthread_join(w->loop_thread, NULL);
	for (unsigned int i = 0; i < w->n; i++) {
		vdev_mbx_close(w->g[i].mbx);
		pf_port_close(w->g[i].port);
	}
	loop_once(w->loop, 0); /* calls that were on their way */
	for (unsigned int i = 0; i < w->n; i++) {
		struct world_guest *g = &w->g[i];

		vdev_destroy(g->v);
		vm_destroy(g->vm);
		free(g->out);
		pthread_mutex_destroy(&g->lock);
	}
	pf_close(w->pf);
	loop_call(w->nic_loop, stop_nic, w->serve);
	pthread_join(w->nic_thread, NULL);
	serve_destroy(w->serve);
	uplink_close(w->uplink);
	nic_destroy(w->nic);
	loop_destroy(w->nic_loop);
	loop_destroy(w->loop);
	rmdir(w->dir);
}

/* ---- what guests say ---- */

int world_wait(struct world *w, unsigned int guest, int timeout_ms)
{
	int code = -1;
	enum vm_end end = vm_wait(w->g[guest].vm, timeout_ms, &code);

	return end == VM_END_EXIT ? code : -1;
}

void world_say(struct world *w, unsigned int guest, const char *line)
{
	vm_console_in(w->g[guest].vm, line, strlen(line));
	vm_console_in(w->g[guest].vm, "\n", 1);
}

/* The last whole line with this tag. */
static const char *last_line(const char *text, const char *tag)
{
	const char *found = NULL;
	size_t len = strlen(tag);

	for (const char *p = text, *end; (end = strchr(p, '\n')); p = end + 1)
		if (!strncmp(p, tag, len) && p[len] == ' ')
			found = p;
	return found;
}

uint64_t world_stat(struct world *w, unsigned int guest, const char *tag,
		    const char *key)
{
	struct world_guest *g = &w->g[guest];
	uint64_t v = UINT64_MAX;
	const char *line, *at;
	char want[32];

	snprintf(want, sizeof(want), " %s=", key);
	pthread_mutex_lock(&g->lock);
	line = g->out ? last_line(g->out, tag) : NULL;
	at = line ? strstr(line, want) : NULL;
	if (at && at < strchr(line, '\n'))
		v = strtoull(at + strlen(want), NULL, 10);
	pthread_mutex_unlock(&g->lock);
	return v;
}

bool world_reaches(struct world *w, unsigned int guest, const char *tag,
		   const char *key, uint64_t v, int timeout_ms)
{
	uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000;

	do {
		uint64_t is = world_stat(w, guest, tag, key);

		if (is != UINT64_MAX && is >= v)
			return true;
		usleep(5000);
	} while (now_ns() < end);
	return false;
}

bool world_says(struct world *w, unsigned int guest, const char *text,
		int timeout_ms)
{
	uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000;
	struct world_guest *g = &w->g[guest];
	bool found;

	do {
		pthread_mutex_lock(&g->lock);
		found = g->out && strstr(g->out, text);
		pthread_mutex_unlock(&g->lock);
		if (found)
			return true;
		usleep(5000);
	} while (now_ns() < end);
	return false;
}

void world_dump(struct world *w, unsigned int guest)
{
	struct world_guest *g = &w->g[guest];

	pthread_mutex_lock(&g->lock);
	fprintf(stderr, "--- guest %u\n%s---\n", guest, g->out ? g->out : "");
	pthread_mutex_unlock(&g->lock);
}
