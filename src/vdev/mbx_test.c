/*
 * REQUIREMENTS A on devices made of memory, with a model of stock igbvf as
 * the guest.  The same on KVM and the software NIC: tests/mbx_kvm_test.c.
 */
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
#include "igb/fake_igb.h"
#include "igb/pf.h"
#include "vdev/fake.h"
#include "vdev/guest_model.h"
#include "vdev/mbx.h"

#define NVMS 2

struct bench;

struct vm {
	struct bench *b;
	unsigned int vf;
	struct fake_host h;
	struct fake_pdev *fp;
	struct vdev *v;
	struct pf_port *port;
	struct vdev_mbx *m;
	struct guest_model g;
	uint64_t direct, trapped; /* guest accesses to the mailbox page */
	unsigned int irqs_seen;
	unsigned int quiet[3];
};

struct bench {
	struct fake_igb d;
	struct loop *loop;
	struct trace *trace;
	struct pf *pf;
	struct vm vm[NVMS];
	bool slow;  /* pauses take their time */
	bool still; /* the loop does not run in pauses */
	/* Called once in the guest's n-th pause from now. */
	unsigned int in;
	void (*then)(struct bench *b);
};

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa };
static const uint8_t mac_b[6] = { 2, 0, 0, 0, 0, 0xb };

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void spin(struct bench *b)
{
	for (int i = 0; i < 6; i++)
		loop_once(b->loop, 0);
}

static void spin_ms(struct bench *b, unsigned int ms)
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

static uint32_t g_read(void *opaque, uint32_t off)
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

static void g_write(void *opaque, uint32_t off, uint32_t val)
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

static void g_pause(void *opaque, unsigned int us)
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
static void set_link(struct bench *b, bool up)
{
	fake_igb_set_link(&b->d, up);
	for (unsigned int n = 0; n < NVMS; n++)
		if (b->vm[n].fp)
			fake_pdev_set(b->vm[n].fp, IGBVF_STATUS,
				      up ? IGB_STATUS_LU : 0);
}

/* ---- bench ---- */

static void open_pf(struct bench *b)
{
	struct pf_conf conf = { .trace = b->trace };
	struct err e = { 0 };

	pf_policy_default(&conf.policy);
	if (pf_open(&b->pf, fake_igb_pdev(&b->d), b->loop, &conf, &e) < 0)
		fail_msg("%s", e.text);
}

static void open_mbx(struct vm *vm, enum vdev_mbx_mode mode)
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

static struct bench *start_mode(unsigned int vms, enum vdev_mbx_mode mode)
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

static struct bench *start(unsigned int vms)
{
	return start_mode(vms, VDEV_MBX_ON_DEMAND);
}

static void stop(struct bench *b)
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

static bool is_direct(struct vm *vm)
{
	return !fake_exits(&vm->h, 0, IGBVF_V2PMAILBOX);
}

/* Open the device, and wait until the unread answer has been given up. */
static int up(struct vm *vm, const uint8_t *mac)
{
	int ret = guest_up(&vm->g, mac);

	for (unsigned int i = 0; i < 20 && vm->m && !is_direct(vm); i++)
		spin_ms(vm->b, 5);
	return ret;
}

static struct vdev_mbx_counts counts(struct vm *vm)
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

static unsigned int how_many(struct bench *b, uint64_t after, const char *what)
{
	unsigned int n = 0;

	while ((after = find(b, after, what)) != 0)
		n++;
	return n;
}

/* These events, in this order, others between them. */
static void assert_order(struct bench *b, uint64_t after,
			 const char *const *what, size_t n)
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

#define ORDER(b, after, ...)                                    \
	do {                                                    \
		static const char *const w[] = { __VA_ARGS__ }; \
		assert_order(b, after, w, ARRAY_SIZE(w));       \
	} while (0)

#define REQ(...) (&(const struct mbx_req){ __VA_ARGS__ })

/* ---- A1, A3, A4, A5, A8 ---- */

static void an_exchange_is_one_episode(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	void *page = fake_host_direct(&vm->h, vm->h.bar_gpa[0] + 0xc40);
	uint64_t mark = trace_last(b->trace);
	struct vdev_mbx_counts c;

	assert_non_null(page);
	assert_int_equal(guest_reset(&vm->g), 0);
	/*
	 * The guest writes, the device interrupts, the PF driver calls back,
	 * the page is trapped, the request read, and only then something
	 * published; the guest's read meets it, its ack ends it.
	 */
	ORDER(b, mark, "guest-write", "pf-irq", "pf-request", "pf-callback",
	      "callback", "trap", "import", "request", "pf-verdict", "publish",
	      "read", "write", "ack", "export", "untrap");
	assert_int_equal(how_many(b, mark, "trap"), 1);
	assert_int_equal(how_many(b, mark, "untrap"), 1);
	assert_int_equal(how_many(b, mark, "publish"), 1);
	/* Nobody but the PF driver calls: reset and request, no more. */
	assert_int_equal(how_many(b, mark, "callback"), 2);
	assert_int_equal(how_many(b, mark, "pf-callback"), 2);

	/* The mapping is what it was. */
	assert_true(is_direct(vm));
	assert_ptr_equal(fake_host_direct(&vm->h, vm->h.bar_gpa[0] + 0xc40),
			 page);
	c = counts(vm);
	assert_int_equal(c.exchanges, 1);
	assert_int_equal(c.episodes, 1);
	assert_int_equal(c.granted, 1);
	assert_true(c.reads >= 2);
	/* In the guest's words: no address assigned, CTS not set. */
	assert_memory_equal(vm->g.perm, "\0\0\0\0\0\0", 6);

	/* The hardware holds the answer and no bit that was seen already. */
	assert_int_equal(b->d.v2p[0], 0);
	assert_int_equal(fake_igb_vf_read(&b->d, 0, IGBVF_VMBMEM), 0x40000001);
	stop(b);
}

/* Where tags would be misread and nobody can help it. */
static void vlans_can_be_refused(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	vdev_mbx_refuse_vlans(vm->m, true);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		-EACCES);
	/* No VLAN, and one to be rid of. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_VLAN, .add = true),
				       NULL),
			 0);
	assert_int_equal(
		guest_request(&vm->g, REQ(.op = MBX_OP_VLAN, .vid = 100), NULL),
		0);
	vdev_mbx_refuse_vlans(vm->m, false);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		0);
	stop(b);
}

static void every_request_works(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_state st;
	uint32_t w0;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(counts(vm).episodes, 4);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      &w0),
		0);
	assert_int_equal(w0, 0xa0010004); /* echoed, ACK and CTS */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_MAC_ADD,
					   .mac = { 2, 0, 0, 0, 1, 1 }),
				       NULL),
			 0);
	/* By policy, by rule, by sense: each refused, each answered. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_PROMISC, .promisc = 2),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60020006);
	assert_int_equal(guest_request(&vm->g, REQ(.op = MBX_OP_NONE), &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60000000);
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_VLAN, .vid = 5000),
				       NULL),
			 -EACCES);
	assert_int_equal(counts(vm).no_rule, 1);
	assert_int_equal(counts(vm).refused, 3);
	assert_int_equal(counts(vm).exchanges, counts(vm).episodes);

	vdev_mbx_get_state(vm->m, &st);
	assert_true(st.cts);
	assert_memory_equal(st.mac, mac_a, 6);
	assert_int_equal(st.vlan[1], 1ull << 36);
	assert_int_equal(st.nhashes, 1);
	assert_int_equal(st.nfilters, 1);

	/* The link check reads the last answer directly, and is content. */
	vm->trapped = 0;
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_true(vm->g.link);
	assert_int_equal(vm->trapped, 0);
	stop(b);
}

static void nothing_is_served_before_a_reset(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint32_t w0;

	vm->g.mbx_on = true;
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_LPE, .frame = 1522),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x40000005); /* no CTS: the driver must reset */
	assert_true(is_direct(vm));
	stop(b);
}

/* ---- A2 ---- */

static void no_exchange_no_intercept(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct vdev_counts before, after;

	assert_int_equal(up(vm, mac_a), 0);
	vdev_get_counts(vm->v, &before);
	vm->direct = vm->trapped = 0;
	for (unsigned int i = 0; i < 250000; i++) {
		g_read(vm, IGBVF_V2PMAILBOX);
		g_read(vm, IGBVF_STATUS);
		g_read(vm, IGBVF_VFGPRC);
		g_read(vm, IGBVF_VMBMEM);
		if (i % 50000 == 0)
			spin(b);
	}
	vdev_get_counts(vm->v, &after);
	assert_int_equal(vm->direct, 1000000);
	assert_int_equal(vm->trapped, 0);
	assert_int_equal(after.reads - before.reads, 0);
	assert_int_equal(after.writes - before.writes, 0);
	assert_int_equal(after.traps, before.traps);
	stop(b);
}

/* ---- A6, A7 ---- */

static unsigned int compact_writes;
static uint32_t compact_last;

/* In the middle of an exchange: other registers of the page. */
static void use_other_registers(struct bench *b)
{
	struct vm *vm = &b->vm[0];

	assert_false(is_direct(vm));
	fake_pdev_set(vm->fp, IGBVF_VFGPRC, 1234);
	assert_int_equal(g_read(vm, IGBVF_VFGPRC), 1234);
	for (uint32_t tail = 1; tail <= 5; tail++) {
		g_write(vm, IGBVF_COMPACT_TDT, tail);
		compact_writes++;
		compact_last = fake_pdev_get(vm->fp, IGBVF_COMPACT_TDT);
		assert_int_equal(compact_last, tail); /* once, in order */
		fake_pdev_set(vm->fp, IGBVF_COMPACT_TDH, tail);
		assert_int_equal(g_read(vm, IGBVF_COMPACT_TDH), tail);
	}
	assert_false(is_direct(vm));
}

static void other_registers_of_the_page_work(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	compact_writes = 0;
	/* Direct. */
	fake_pdev_set(vm->fp, IGBVF_VFGPRC, 77);
	assert_int_equal(g_read(vm, IGBVF_VFGPRC), 77);
	g_write(vm, IGBVF_COMPACT_TDT, 9);
	assert_int_equal(fake_pdev_get(vm->fp, IGBVF_COMPACT_TDT), 9);
	/* Trapped: in the 10 ms between the two halves of a reset. */
	b->then = use_other_registers;
	b->in = 2;
	assert_int_equal(guest_reset(&vm->g), 0);
	assert_int_equal(compact_writes, 5);
	assert_true(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_COMPACT_TDT), 5);
	stop(b);
}

/* ---- A9: host-started ---- */

static void host_started_exchanges(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark;
	unsigned int fired;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	fired = fake_host_fired_data(&vm->h, 0x4002);

	/* Link down: the driver looks at STATUS and no further. */
	mark = trace_last(b->trace);
	set_link(b, false);
	spin(b);
	ORDER(b, mark, "pf-callback", "callback", "trap", "publish", "inject");
	assert_int_equal(fake_host_fired_data(&vm->h, 0x4002), fired + 1);
	assert_false(is_direct(vm));
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 1);
	assert_true(is_direct(vm));
	assert_int_equal(how_many(b, mark, "trap"), 1);

	/* And up: it reads the word and acknowledges it. */
	set_link(b, true);
	spin(b);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_true(is_direct(vm));
	assert_int_equal(counts(vm).posts, 2);

	/* Start over: an error for the driver, in one look. */
	assert_int_equal(pf_kick(b->pf, 0), 0);
	assert_false(is_direct(vm));
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);

	/* A ceiling above what it uses is only news, below is a reset. */
	assert_int_equal(pf_set_frame(b->pf, 0, 9022), 0);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(pf_set_frame(b->pf, 0, 1000), 0);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

static void a_host_word_nobody_reads(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(pf_kick(b->pf, 0), 0);
	assert_false(is_direct(vm));
	spin_ms(b, 3200);
	assert_true(is_direct(vm));
	assert_int_equal(counts(vm).timeouts, 1);
	/* It is in the hardware for whoever looks later. */
	assert_int_equal(guest_watchdog(&vm->g), 0); /* no reason to look */
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	stop(b);
}

static void kick_pf(struct bench *b)
{
	assert_int_equal(pf_kick(b->pf, 0), 0);
}

static void change_link(struct bench *b)
{
	set_link(b, false);
	spin(b);
	set_link(b, true);
	spin(b);
}

/* In the middle of an exchange: queued, said after, not lost. */
static void a_second_trigger_is_queued(void **s)
{
	for (unsigned int kind = 0; kind < 2; kind++) {
		struct bench *b = start(1);
		struct vm *vm = &b->vm[0];
		uint64_t mark;

		assert_int_equal(up(vm, mac_a), 0);
		mark = trace_last(b->trace);
		b->then = kind ? kick_pf : change_link;
		b->in = 2; /* answered, in the driver's 10 ms of rest */
		assert_int_equal(guest_reset(&vm->g), 0);
		assert_int_equal(b->in, 0);
		spin(b);
		/* Its own episode, after that of the request. */
		assert_int_equal(how_many(b, mark, "trap"), 2);
		assert_false(is_direct(vm));
		assert_true(counts(vm).queued > 0);
		/* And one more on top of that. */
		kick_pf(b);
		guest_irq(&vm->g);
		assert_int_equal(guest_watchdog(&vm->g), kind ? -EIO : 0);
		spin(b);
		assert_int_equal(how_many(b, mark, "trap"), 3);
		assert_int_equal(guest_watchdog(&vm->g), -EIO);
		assert_true(is_direct(vm));
		stop(b);
	}
}

/* A VF reset brings about what any word of ours could: nothing is said. */
static void a_reset_makes_a_post_moot(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	b->then = kick_pf;
	b->in = 1; /* rung, and the interrupt not yet served */
	assert_int_equal(up(vm, mac_a), 0);
	spin(b);
	assert_true(is_direct(vm));
	assert_int_equal(guest_watchdog(&vm->g), 0);
	stop(b);
}

/* The guest holds the lock when the host wants to speak. */
static void the_lock_is_respected(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, 0x12345);
	kick_pf(b);
	/* Trapped, its lock and words as they were, nothing published. */
	assert_false(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), IGB_V2P_VFU);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x12345);
	g_write(vm, IGBVF_VMBMEM, 0x23456);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x23456);
	/* Let go of: published at once. */
	g_write(vm, IGBVF_V2PMAILBOX, 0);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_RSTD);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	assert_int_equal(b->d.v2p[0], 0);
	stop(b);
}

/* Caught between taking the lock and ringing: goes on as if nothing was. */
static void a_request_half_written(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_msg msg;

	assert_int_equal(up(vm, mac_a), 0);
	mbx_encode(REQ(.op = MBX_OP_VLAN, .vid = 9, .add = true), &msg);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_read(vm, IGBVF_V2PMAILBOX);
	g_write(vm, IGBVF_VMBMEM, msg.w[0]);
	kick_pf(b);
	assert_false(is_direct(vm));
	g_write(vm, IGBVF_VMBMEM + 4, msg.w[1]);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_true(g_read(vm, IGBVF_V2PMAILBOX) & IGB_V2P_PFACK);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0xa0010004);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	spin(b);
	/* And then the host's word. */
	assert_false(is_direct(vm));
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_read(vm, IGBVF_V2PMAILBOX);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	stop(b);
}

/* Rung in the instant before the page was trapped for the host's word. */
static void a_request_crosses_a_post(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct mbx_msg msg;
	uint32_t w;

	assert_int_equal(up(vm, mac_a), 0);
	mbx_encode(REQ(.op = MBX_OP_VLAN, .vid = 9, .add = true), &msg);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, msg.w[0]);
	g_write(vm, IGBVF_VMBMEM + 4, msg.w[1]);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	kick_pf(b); /* before the interrupt is served */
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	spin(b);
	assert_string_equal(vdev_mbx_state_name(vm->m), "answered");
	w = g_read(vm, IGBVF_V2PMAILBOX);
	assert_true(w & IGB_V2P_PFACK && w & IGB_V2P_PFSTS);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0xa0010004);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	spin(b);
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	stop(b);
}

/* ---- A9: VFs are independent ---- */

static void other_reset(struct bench *b)
{
	struct vm *vm = &b->vm[1];

	assert_false(is_direct(&b->vm[0]));
	assert_true(is_direct(vm));
	assert_int_equal(guest_reset(&vm->g), 0);
	assert_int_equal(guest_set_mac(&vm->g, mac_b), 0);
	assert_true(is_direct(vm));
	assert_false(is_direct(&b->vm[0]));
}

static void vfs_are_independent(void **s)
{
	struct bench *b = start(2);

	b->then = other_reset;
	b->in = 2;
	assert_int_equal(up(&b->vm[0], mac_a), 0);
	assert_int_equal(b->in, 0);
	assert_int_equal(counts(&b->vm[0]).episodes, 4);
	assert_int_equal(counts(&b->vm[1]).episodes, 2);
	stop(b);
}

/* ---- A9: never stuck ---- */

static void reset_vf_direct(struct bench *b)
{
	/* As an FLR from the host's side: the PF driver is told. */
	fake_igb_vf_write(&b->d, 0, IGBVF_CTRL, IGB_CTRL_RST);
}

static void reset_vf_by_guest(struct bench *b)
{
	g_write(&b->vm[0], IGBVF_CTRL, IGB_CTRL_RST);
}

static void close_the_pf(struct bench *b)
{
	pf_close(b->pf);
	b->pf = NULL;
}

static void close_the_mailbox(struct bench *b)
{
	vdev_mbx_close(b->vm[0].m);
	b->vm[0].m = NULL;
}

/*
 * What strikes in the n-th pause of a driver that starts up, for every n:
 * afterwards the page is direct, and the driver's next try works.
 */
static void strike_anywhere(void (*what)(struct bench *), bool pf_dies)
{
	for (unsigned int n = 1; n <= 8; n++) {
		struct bench *b = start(1);
		struct vm *vm = &b->vm[0];

		b->then = what;
		b->in = n;
		up(vm, mac_a);
		if (b->in) { /* there were not that many */
			stop(b);
			return;
		}
		if (!is_direct(vm))
			spin_ms(b, 1700);
		if (!is_direct(vm))
			fail_msg("trapped after %u pauses", n);
		if (pf_dies) {
			/* A new driver, the VM comes back. */
			struct err e = { 0 };

			vdev_mbx_set_port(vm->m, NULL);
			pf_port_close(vm->port);
			open_pf(b);
			if (pf_claim(&vm->port, b->pf, 0, "test", &e) < 0)
				fail_msg("%s", e.text);
			assert_int_equal(vdev_mbx_set_port(vm->m, vm->port), 0);
		}
		if (!vm->m)
			open_mbx(vm, VDEV_MBX_ON_DEMAND);
		assert_int_equal(up(vm, mac_a), 0);
		assert_int_equal(guest_watchdog(&vm->g), 0);
		assert_true(is_direct(vm));
		stop(b);
	}
	fail_msg("a start has more pauses than were tried");
}

static void vf_reset_anywhere(void **s)
{
	strike_anywhere(reset_vf_direct, false);
	strike_anywhere(reset_vf_by_guest, false);
}

static void pf_death_anywhere(void **s)
{
	strike_anywhere(close_the_pf, true);
}

static void vm_end_anywhere(void **s)
{
	strike_anywhere(close_the_mailbox, false);
}

/* ---- a port that says what a test wants, when it wants ---- */

struct odd_port {
	struct pf_port p;
	pf_verdict_fn done;
	void *opaque;
	pf_event_fn fn;
	void *fn_opaque;
	unsigned int asks;
	int ret;
};

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

static struct bench *start_odd(struct odd_port *o)
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

/* The PF driver calls back, then says nothing: refused within the second. */
static void a_mute_pf_driver(void **s)
{
	const struct pf_event ev = { .kind = PF_EV_REQUEST };
	const struct pf_verdict yes = { .ok = true };
	struct odd_port o;
	struct bench *b = start_odd(&o);
	struct vm *vm = &b->vm[0];
	uint64_t t0;

	vm->g.mbx_on = true;
	b->slow = true;
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	o.fn(o.fn_opaque, &ev);
	spin(b);
	assert_int_equal(o.asks, 1);
	assert_string_equal(vdev_mbx_state_name(vm->m), "asked");
	t0 = now_ns();
	while (!(g_read(vm, IGBVF_V2PMAILBOX) & IGB_V2P_PFSTS))
		g_pause(vm, 500);
	/* Below the guest's second per phase. */
	assert_in_range((now_ns() - t0) / 1000000, 400, 900);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	/* Too late: nobody is interested any more. */
	o.done(o.opaque, &yes);
	assert_string_equal(vdev_mbx_state_name(vm->m), "answered");
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	o.done(o.opaque, &yes);
	assert_true(is_direct(vm));

	/* One that cannot even be asked: refused at once. */
	o.ret = -EPIPE;
	fake_igb_vf_write(&b->d, 0, IGBVF_VMBMEM, MBX_VF_RESET);
	o.fn(o.fn_opaque, &ev);
	spin(b);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x40000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	stop(b);
}

/* The guest rings and goes away: direct again by itself. */
static void a_guest_that_never_acks(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_false(is_direct(vm));
	spin_ms(b, 1700);
	assert_int_equal(counts(vm).timeouts, 1);
	/* Whoever may still wait for an answer is told to start over. */
	assert_string_equal(vdev_mbx_state_name(vm->m), "posted");
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(b->d.v2p[0], 0);
	stop(b);
}

/* A page that cannot be trapped: nothing is published, and it recovers. */
static void a_trap_that_fails(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark = trace_last(b->trace);

	vm->h.fail_in = 1;
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(how_many(b, mark, "publish"), 0);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

/* Garbage on the trapped page: answered like hardware, never fatal. */
static void a_guest_that_writes_anything(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	unsigned int seed = 5;

	for (unsigned int i = 0; i < 30000; i++) {
		uint32_t off, val = (uint32_t)rand_r(&seed);

		switch (rand_r(&seed) % 4) {
		case 0:
			off = IGBVF_V2PMAILBOX;
			val &= 0xff;
			break;
		case 1:
			off = IGBVF_VMBMEM;
			val %= 0x20;
			break;
		default:
			off = IGBVF_VMBMEM + (uint32_t)(rand_r(&seed) % 16 * 4);
		}
		if (rand_r(&seed) % 300 == 0) {
			off = IGBVF_CTRL;
			val = IGB_CTRL_RST;
		}
		if (rand_r(&seed) % 2)
			g_write(vm, off, val);
		else
			g_read(vm, off);
		if (rand_r(&seed) % 8 == 0)
			loop_once(b->loop, 0);
		if (rand_r(&seed) % 500 == 0)
			pf_kick(b->pf, 0);
	}
	assert_true(counts(vm).exchanges > 100);
	spin_ms(b, 50);
	vdev_mbx_vf_reset(vm->m);
	spin(b);
	g_write(vm, IGBVF_V2PMAILBOX, 0);
	vm->g.v2p = 0;
	if (up(vm, mac_a) < 0)
		assert_int_equal(up(vm, mac_a), 0);
	guest_watchdog(&vm->g);
	spin_ms(b, 10);
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

/* ---- A10 ---- */

static void answers_are_in_time(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(up(vm, mac_a), 0);
	/* In rounds of 500 us; the driver has 2000. */
	assert_true(vm->g.worst <= 4);
	/* A PF that was reset: RSTI goes with it, the guest waits 1 ms. */
	stop(b);
}

/* ---- A11 ---- */

static size_t saved(struct vm *vm, uint8_t *buf, size_t size)
{
	struct wire_out o;

	wire_out_init(&o, buf, size);
	vdev_mbx_save(vm->m, &o);
	assert_int_equal(o.err, 0);
	return wire_used(&o);
}

static void saved_state_has_one_size(void **s)
{
	uint8_t buf[2 * VDEV_MBX_SAVE_SIZE];
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(saved(vm, buf, sizeof(buf)), VDEV_MBX_SAVE_SIZE);
	assert_int_equal(up(vm, mac_a), 0);
	for (uint16_t i = 0; i < 5000; i++) {
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = i % 4096,
				  .add = i % 3 != 0),
			      NULL);
		assert_int_equal(saved(vm, buf, sizeof(buf)),
				 VDEV_MBX_SAVE_SIZE);
	}
	assert_true(counts(vm).exchanges > 5000);
	stop(b);
}

/* ---- state moves ---- */

/* Cut in any state of an exchange, it goes on at another device. */
static void an_exchange_moves(void **s)
{
	static const char *const states[] = { "asked", "answered", "posted",
					      "direct" };
	uint8_t buf[VDEV_MBX_SAVE_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		const struct pf_event ev = { .kind = PF_EV_REQUEST };
		const struct pf_event kick = { .kind = PF_EV_KICK };
		const struct pf_verdict yes = { .ok = true,
						.mac = { 2, 0, 0, 0, 0, 0xa } };
		struct odd_port o;
		struct bench *b = start_odd(&o), *c;
		struct vm *vm = &b->vm[0], *to;
		struct wire_in in;
		struct err e = { 0 };

		g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
		o.fn(o.fn_opaque, i == 2 ? &kick : &ev);
		spin(b);
		if (i == 1 || i == 3)
			o.done(o.opaque, &yes);
		if (i == 3)
			g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
		assert_string_equal(vdev_mbx_state_name(vm->m), states[i]);
		saved(vm, buf, sizeof(buf));

		c = start(1);
		to = &c->vm[0];
		wire_in_init(&in, buf, sizeof(buf));
		assert_int_equal(vdev_mbx_load(to->m, &in, &e), 0);
		assert_int_equal(vdev_mbx_resume(to->m, &e), 0);
		spin(c);
		assert_int_equal(is_direct(to), i == 3);
		if (i < 2) {
			assert_true(g_read(to, IGBVF_V2PMAILBOX) &
				    IGB_V2P_PFSTS);
			assert_int_equal(g_read(to, IGBVF_VMBMEM) & 0xf, 1);
		} else if (i == 3) {
			assert_int_equal(g_read(to, IGBVF_VMBMEM), 0x80000001);
		} else {
			assert_int_equal(g_read(to, IGBVF_VMBMEM), MBX_NACK);
			g_read(to, IGBVF_V2PMAILBOX);
		}
		if (i != 3) {
			g_write(to, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
			assert_true(is_direct(to));
		}
		stop(c);
		stop(b);
	}
}

static void load_believes_nothing(void **s)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE], bad[VDEV_MBX_SAVE_SIZE];
	static const size_t at[] = { 0, 1, 2, 6, 10 };
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct wire_in in;

	assert_int_equal(up(vm, mac_a), 0);
	saved(vm, buf, sizeof(buf));
	for (size_t cut = 0; cut < sizeof(buf); cut++) {
		wire_in_init(&in, buf, cut);
		assert_int_not_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		memcpy(bad, buf, sizeof(bad));
		bad[at[i]] = 0xff;
		wire_in_init(&in, bad, sizeof(bad));
		assert_int_not_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	}
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	stop(b);
}

/* ---- quiescing ---- */

static void quiesce_and_resume_here(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint64_t mark;
	uint32_t w0;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	mark = trace_last(b->trace);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	ORDER(b, mark, "quiesce", "trap", "publish", "inject");
	assert_false(is_direct(vm));
	/* The driver sees it at once, and would start over. */
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_SAW_BUSY], 1);
	/* New requests are refused, without CTS. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_LPE, .frame = 1522),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x40000005);
	assert_false(is_direct(vm));

	/* Its reset is noticed, its reset message held. */
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), 0);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_RESET], 1);
	assert_int_equal(vm->quiet[VDEV_MBX_KNOCKS], 1);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX), 0);

	/* Answered when the quiesce ends. */
	assert_int_equal(vdev_mbx_unquiesce(vm->m), 0);
	spin(b);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_PFACK);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x80000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(vm));
	assert_int_equal(vdev_mbx_unquiesce(vm->m), -EALREADY);
	stop(b);
}

static void quiesce_before_the_guest_looked(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(vdev_mbx_unquiesce(vm->m), 0);
	/* Told to start over, and served when it does. */
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_true(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

static void quiesce_vm0(struct bench *b)
{
	assert_int_equal(vdev_mbx_quiesce(b->vm[0].m), 0);
}

/* Messages in flight are dropped and counted; the guest is not left alone. */
static void quiesce_in_flight(void **s)
{
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	uint32_t w;

	assert_int_equal(up(vm, mac_a), 0);
	b->still = true;
	g_write(vm, IGBVF_VMBMEM, MBX_SET_LPE);
	g_write(vm, IGBVF_VMBMEM + 4, 1522);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	quiesce_vm0(b); /* before the PF's interrupt */
	spin(b);	/* which comes now */
	assert_int_equal(counts(vm).dropped, 1);
	w = g_read(vm, IGBVF_V2PMAILBOX);
	assert_true(w & IGB_V2P_PFACK && w & IGB_V2P_PFSTS);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), MBX_NACK);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_false(is_direct(vm));
	stop(b);
}

static void a_held_reset_moves(void **s)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE];
	struct bench *b = start(1), *c;
	struct vm *vm = &b->vm[0], *to;
	struct wire_in in;
	struct err e = { 0 };

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");
	saved(vm, buf, sizeof(buf));

	c = start(1);
	to = &c->vm[0];
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(vdev_mbx_load(to->m, &in, &e), 0);
	assert_int_equal(vdev_mbx_resume(to->m, &e), 0);
	assert_false(is_direct(to));
	assert_true(vdev_mbx_quiesced(to->m));
	assert_int_equal(vdev_mbx_unquiesce(to->m), 0);
	spin(c);
	assert_int_equal(g_read(to, IGBVF_V2PMAILBOX) & IGB_V2P_PFACK,
			 IGB_V2P_PFACK);
	assert_int_equal(g_read(to, IGBVF_VMBMEM) & 0xff, MBX_VF_RESET);
	g_write(to, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_true(is_direct(to));
	to->g.mbx_on = true;
	assert_int_equal(guest_set_mac(&to->g, mac_a), 0);
	stop(c);

	/* Here the guest gives up after its second: it may knock again. */
	for (unsigned int i = 0; i < 2000; i++)
		g_read(vm, IGBVF_V2PMAILBOX);
	assert_string_equal(vdev_mbx_state_name(vm->m), "busy");
	spin(b);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	spin(b);
	assert_int_equal(vm->quiet[VDEV_MBX_KNOCKS], 2);
	stop(b);
}

/* ---- mode kernel: the PF driver here plays the host's own ---- */

static void kernel_mode_forwards(void **s)
{
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL);
	struct vm *vm = &b->vm[0];
	struct pf_vf_counts c;
	struct mbx_state st;
	uint64_t mark = trace_last(b->trace);
	uint32_t w0;

	assert_false(is_direct(vm));
	assert_int_equal(up(vm, mac_a), 0);
	ORDER(b, mark, "request", "forward", "pf-request", "collect", "ack");
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 4); /* in the hardware's mailbox */
	assert_int_equal(c.callbacks, 0);
	/* Refused by the host: its words reach the guest. */
	assert_int_equal(guest_request(&vm->g,
				       REQ(.op = MBX_OP_PROMISC, .promisc = 3),
				       &w0),
			 -EACCES);
	assert_int_equal(w0, 0x60030006);
	/* Without a rule: the host does not even see it. */
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 5);
	assert_int_equal(guest_request(&vm->g, REQ(.op = MBX_OP_NONE), &w0),
			 -EACCES);
	pf_get_counts(b->pf, 0, &c);
	assert_int_equal(c.answered, 5);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 3, .add = true),
			      NULL),
		0);
	vdev_mbx_get_state(vm->m, &st);
	assert_true(st.cts);
	assert_memory_equal(st.mac, mac_a, 6);
	assert_int_equal(st.vlan[0], 1 << 3);
	assert_int_equal(st.promisc, 0);

	/* The link check, and the host's own words. */
	assert_int_equal(guest_watchdog(&vm->g), 0);
	set_link(b, false);
	spin(b);
	set_link(b, true);
	spin(b);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x20000100);
	assert_false(b->d.v2p[0] & (IGB_V2P_VFU | IGB_V2P_PFU));
	pf_kick(b->pf, 0);
	guest_irq(&vm->g);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(guest_watchdog(&vm->g), 0);
	assert_false(is_direct(vm));
	stop(b);
}

/* ---- a host's driver that answers while a VM waits in a call ---- */

static void *serve_pf(void *opaque)
{
	struct bench *b = opaque;

	loop_run(b->loop);
	return NULL;
}

static bool replayed;

static void on_replayed(void *opaque, const struct pf_verdict *v)
{
	replayed = v->ok;
}

/* What was granted elsewhere is asked for again, by the VF itself. */
static void kernel_mode_restores(void **s)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE];
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL), *c;
	struct vm *vm = &b->vm[0], *to;
	struct wire_in in;
	pthread_t t;
	json_t *st, *vf;

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(
		guest_request(&vm->g,
			      REQ(.op = MBX_OP_VLAN, .vid = 100, .add = true),
			      NULL),
		0);
	saved(vm, buf, sizeof(buf));
	c = start_mode(1, VDEV_MBX_KERNEL);
	to = &c->vm[0];
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(vdev_mbx_load(to->m, &in, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, serve_pf, c), 0);
	replayed = false;
	assert_int_equal(vdev_mbx_restore(to->m, on_replayed, NULL), 0);
	loop_stop(c->loop);
	pthread_join(t, NULL);
	assert_true(replayed);
	st = pf_status(c->pf);
	vf = json_array_get(json_object_get(st, "vfs"), 0);
	assert_string_equal(json_string_value(json_object_get(vf, "mac")),
			    "02:00:00:00:00:0a");
	assert_int_equal(json_array_size(json_object_get(vf, "vlans")), 1);
	assert_int_equal(json_integer_value(json_object_get(vf, "multicast")),
			 1);
	json_decref(st);
	/* Nobody there to answer: refused after the guest's own second. */
	assert_int_equal(vdev_mbx_restore(to->m, on_replayed, NULL), 0);
	assert_false(replayed);
	stop(c);
	stop(b);
}

static void kernel_mode_quiesces(void **s)
{
	struct bench *b = start_mode(1, VDEV_MBX_KERNEL);
	struct vm *vm = &b->vm[0];

	assert_int_equal(up(vm, mac_a), 0);
	assert_int_equal(vdev_mbx_quiesce(vm->m), 0);
	assert_int_equal(guest_watchdog(&vm->g), -EIO);
	g_write(vm, IGBVF_CTRL, IGB_CTRL_RST);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	assert_string_equal(vdev_mbx_state_name(vm->m), "held");
	assert_int_equal(vdev_mbx_unquiesce(vm->m), 0);
	spin(b);
	assert_int_equal(g_read(vm, IGBVF_V2PMAILBOX),
			 IGB_V2P_PFSTS | IGB_V2P_PFACK);
	assert_int_equal(g_read(vm, IGBVF_VMBMEM), 0x80000001);
	g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	assert_int_equal(up(vm, mac_a), 0);
	stop(b);
}

static void status_says_it_all(void **s)
{
	struct bench *b = start(1);
	json_t *o;

	assert_int_equal(up(&b->vm[0], mac_a), 0);
	o = vdev_mbx_status(b->vm[0].m);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "state")),
			    "direct");
	assert_int_equal(json_integer_value(json_object_get(o, "episodes")), 4);
	json_decref(o);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exchange_is_one_episode),
		cmocka_unit_test(vlans_can_be_refused),
		cmocka_unit_test(every_request_works),
		cmocka_unit_test(nothing_is_served_before_a_reset),
		cmocka_unit_test(no_exchange_no_intercept),
		cmocka_unit_test(other_registers_of_the_page_work),
		cmocka_unit_test(host_started_exchanges),
		cmocka_unit_test(a_host_word_nobody_reads),
		cmocka_unit_test(a_second_trigger_is_queued),
		cmocka_unit_test(a_reset_makes_a_post_moot),
		cmocka_unit_test(the_lock_is_respected),
		cmocka_unit_test(a_request_half_written),
		cmocka_unit_test(a_request_crosses_a_post),
		cmocka_unit_test(vfs_are_independent),
		cmocka_unit_test(vf_reset_anywhere),
		cmocka_unit_test(pf_death_anywhere),
		cmocka_unit_test(vm_end_anywhere),
		cmocka_unit_test(a_mute_pf_driver),
		cmocka_unit_test(a_guest_that_never_acks),
		cmocka_unit_test(a_trap_that_fails),
		cmocka_unit_test(a_guest_that_writes_anything),
		cmocka_unit_test(answers_are_in_time),
		cmocka_unit_test(saved_state_has_one_size),
		cmocka_unit_test(an_exchange_moves),
		cmocka_unit_test(load_believes_nothing),
		cmocka_unit_test(quiesce_and_resume_here),
		cmocka_unit_test(quiesce_before_the_guest_looked),
		cmocka_unit_test(quiesce_in_flight),
		cmocka_unit_test(a_held_reset_moves),
		cmocka_unit_test(kernel_mode_forwards),
		cmocka_unit_test(kernel_mode_restores),
		cmocka_unit_test(kernel_mode_quiesces),
		cmocka_unit_test(status_says_it_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
