#include "vdev/mbx_bench.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"

const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa };
const uint8_t mac_b[6] = { 2, 0, 0, 0, 0, 0xb };

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

void spin(struct bench *b)
{
	for (int i = 0; i < 6; i++)
		loop_once(b->loop, 0);
}

void spin_ms(struct bench *b, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;

	while (now_ns() < end)
		loop_once(b->loop, 5);
}

/* ---- the guest's and the VF's view of one device ---- */

static bool has_meaning(uint32_t off)
{
	return off == IGBVF_CTRL || off == IGBVF_STATUS ||
	       off == IGBVF_V2PMAILBOX ||
	       (off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 64);
}

static void vf_on_read(struct fake_pdev *fp, unsigned int bar, uint32_t off)
{
	struct vm *vm = fp->opaque;

	if (bar == 0 && has_meaning(off))
		fake_pdev_set(fp, off,
			      fake_igb_vf_read(&vm->b->d, vm->vf, off));
}

static void vf_on_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
			uint32_t val)
{
	struct vm *vm = fp->opaque;

	if (bar == 0 && has_meaning(off))
		fake_igb_vf_write(&vm->b->d, vm->vf, off, val);
}

uint32_t g_read(void *opaque, uint32_t off)
{
	struct vm *vm = opaque;

	if (fake_exits(&vm->h, 0, off)) {
		vm->trapped++;
		return fake_read(&vm->h, 0, off);
	}
	vm->direct++;
	return has_meaning(off) ? fake_igb_vf_read(&vm->b->d, vm->vf, off)
				: fake_read(&vm->h, 0, off);
}

void g_write(void *opaque, uint32_t off, uint32_t val)
{
	struct vm *vm = opaque;

	if (fake_exits(&vm->h, 0, off)) {
		vm->trapped++;
		fake_write(&vm->h, 0, off, val);
		return;
	}
	vm->direct++;
	if (has_meaning(off)) {
		trace_add(vm->b->trace, vm->vf, "guest-write", "", off, val);
		fake_igb_vf_write(&vm->b->d, vm->vf, off, val);
	} else {
		fake_write(&vm->h, 0, off, val);
	}
}

void g_pause(void *opaque, unsigned int us)
{
	struct vm *vm = opaque;
	struct bench *b = vm->b;

	if (b->in && --b->in == 0)
		b->then(b);
	if (b->slow)
		usleep(us);
	if (!b->still)
		spin(b);
}

static void g_quiet(void *opaque, enum vdev_mbx_quiet what)
{
	((struct vm *)opaque)->quiet[what]++;
}

/* What the VF's page shows where nobody asks the device. */
void set_link(struct bench *b, bool up)
{
	fake_igb_set_link(&b->d, up);
	for (unsigned int n = 0; n < NVMS; n++)
		if (b->vm[n].fp)
			fake_pdev_set(b->vm[n].fp, IGBVF_STATUS,
				      up ? IGB_STATUS_LU : 0);
}

/* ---- bench ---- */

void open_pf(struct bench *b)
{
	struct pf_conf conf = { .trace = b->trace };
	struct err e = { 0 };

	pf_policy_default(&conf.policy);
	if (pf_open(&b->pf, fake_igb_pdev(&b->d), b->loop, &conf, &e) < 0)
		fail_msg("%s", e.text);
}

void open_mbx(struct vm *vm, enum vdev_mbx_mode mode)
{
	const struct vdev_mbx_conf conf = { .mode = mode,
					    .port = vm->port,
					    .trace = vm->b->trace,
					    .unit = vm->vf,
					    .quiet = g_quiet,
					    .opaque = vm };
	struct err e = { 0 };

	if (vdev_mbx_open(&vm->m, vm->v, &conf, &e) < 0)
		fail_msg("%s", e.text);
}

static void open_vm(struct bench *b, unsigned int n, enum vdev_mbx_mode mode)
{
	const struct vdev_model *model = vdev_model_find("igb/82576");
	struct vm *vm = &b->vm[n];
	struct err e = { 0 };

	vm->b = b;
	vm->vf = n;
	assert_int_equal(fake_host_init(&vm->h, 1 << 20), 0);
	if (vdev_create(&vm->v, "vf", model, &vm->h.h, b->loop, &e) < 0)
		fail_msg("%s", e.text);
	fake_plug(&vm->h, vdev_func(vm->v));
	fake_msix_on(&vm->h, model);
	assert_int_equal(fake_pdev_open(&vm->fp, 0x8086, 0x10ca), 0);
	vm->fp->on_read = vf_on_read;
	vm->fp->on_write = vf_on_write;
	vm->fp->opaque = vm;
	fake_pdev_set(vm->fp, IGBVF_IVAR_MISC, IGB_IVAR_VALID | 2);
	if (vdev_bind(vm->v, &vm->fp->p, VDEV_HARDWARE, &e) < 0)
		fail_msg("%s", e.text);
	if (mode == VDEV_MBX_ON_DEMAND &&
	    pf_claim(&vm->port, b->pf, n, "test", &e) < 0)
		fail_msg("%s", e.text);
	open_mbx(vm, mode);
	vm->g = (struct guest_model){
		.read = g_read, .write = g_write, .pause = g_pause, .opaque = vm
	};
}

struct bench *start_mode(unsigned int vms, enum vdev_mbx_mode mode)
{
	struct bench *b = calloc(1, sizeof(*b));

	log_set_sink(no_log, NULL);
	fake_igb_init(&b->d, IGB_DEV_82576);
	assert_int_equal(loop_create(&b->loop), 0);
	assert_int_equal(trace_create(&b->trace, 4096), 0);
	open_pf(b);
	for (unsigned int n = 0; n < vms; n++)
		open_vm(b, n, mode);
	set_link(b, true);
	spin(b);
	/* The guest's driver reads the "reset done" of the PF's start. */
	for (unsigned int n = 0; n < IGB_POOLS; n++)
		fake_igb_vf_read(&b->d, n, IGBVF_V2PMAILBOX);
	return b;
}

struct bench *start(unsigned int vms)
{
	return start_mode(vms, VDEV_MBX_ON_DEMAND);
}

void stop(struct bench *b)
{
	for (unsigned int n = 0; n < NVMS; n++) {
		struct vm *vm = &b->vm[n];

		if (!vm->v)
			continue;
		vdev_mbx_close(vm->m);
		pf_port_close(vm->port);
		vdev_destroy(vm->v);
		fake_host_fini(&vm->h);
	}
	spin(b);
	pf_close(b->pf);
	loop_destroy(b->loop);
	trace_destroy(b->trace);
	free(b);
}

bool is_direct(struct vm *vm)
{
	return !fake_exits(&vm->h, 0, IGBVF_V2PMAILBOX);
}

/* Open the device, and wait until the unread answer has been given up. */
int up(struct vm *vm, const uint8_t *mac)
{
	int ret = guest_up(&vm->g, mac);

	for (unsigned int i = 0; i < 20 && vm->m && !is_direct(vm); i++)
		spin_ms(vm->b, 5);
	return ret;
}

struct vdev_mbx_counts counts(struct vm *vm)
{
	struct vdev_mbx_counts c;

	vdev_mbx_get_counts(vm->m, &c);
	return c;
}

/* Sequence number of the first such event after 'after', or 0. */
static uint64_t find(struct bench *b, uint64_t after, const char *what)
{
	static struct trace_event ev[4096];
	size_t n = trace_read(b->trace, after, ev, 4096, NULL);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(ev[i].what, what))
			return ev[i].seq;
	return 0;
}

unsigned int how_many(struct bench *b, uint64_t after, const char *what)
{
	unsigned int n = 0;

	while ((after = find(b, after, what)) != 0)
		n++;
	return n;
}

/* These events, in this order, others between them. */
void assert_order(struct bench *b, uint64_t after, const char *const *what,
		  size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t seq = find(b, after, what[i]);

		if (!seq) {
			char *json = trace_json(b->trace);

			fprintf(stderr, "%s\n", json);
			free(json);
			fail_msg("no '%s' after event %llu", what[i],
				 (unsigned long long)after);
		}
		after = seq;
	}
}

void kick_pf(struct bench *b)
{
	assert_int_equal(pf_kick(b->pf, 0), 0);
}

size_t saved(struct vm *vm, uint8_t *buf, size_t size)
{
	struct wire_out o;

	wire_out_init(&o, buf, size);
	vdev_mbx_save(vm->m, &o);
	assert_int_equal(o.err, 0);
	return wire_used(&o);
}

struct bench *moved(struct vm *vm, enum vdev_mbx_mode mode)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE];
	struct wire_in in;
	struct bench *b;

	saved(vm, buf, sizeof(buf));
	b = start_mode(1, mode);
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(vdev_mbx_load(b->vm[0].m, &in, NULL), 0);
	return b;
}

void unquiesce(struct vm *vm)
{
	assert_int_equal(vdev_mbx_unquiesce(vm->m), 0);
	spin(vm->b);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_PFACK);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x80000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
}

/* ---- a port that says what a test wants, when it wants ---- */

static void odd_close(struct pf_port *p)
{
}

static int odd_listen(struct pf_port *p, pf_event_fn fn, void *opaque)
{
	((struct odd_port *)p)->fn = fn;
	((struct odd_port *)p)->fn_opaque = opaque;
	return 0;
}

static int odd_ask(struct pf_port *p, const struct mbx_msg *req,
		   pf_verdict_fn done, void *opaque)
{
	struct odd_port *o = (struct odd_port *)p;

	o->asks++;
	o->done = done;
	o->opaque = opaque;
	return o->ret;
}

static int odd_restore(struct pf_port *p, const struct mbx_state *st,
		       pf_verdict_fn done, void *opaque)
{
	const struct pf_verdict v = { .ok = true };

	done(opaque, &v);
	return 0;
}

static const struct pf_port_ops odd_ops = { .close = odd_close,
					    .listen = odd_listen,
					    .ask = odd_ask,
					    .restore = odd_restore };

struct bench *start_odd(struct odd_port *o)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	*o = (struct odd_port){ .p = { .ops = &odd_ops } };
	vdev_mbx_close(vm->m);
	pf_port_close(vm->port);
	spin(b);
	vm->port = &o->p;
	open_mbx(vm, VDEV_MBX_ON_DEMAND);
	return b;
}
