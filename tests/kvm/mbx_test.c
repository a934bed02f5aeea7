/*
 * REQUIREMENTS A on KVM: the test guest's igbvf-like driver, the mailbox
 * page of a software NIC's VF really mapped into the guest, the PF driver
 * and the virtual mailbox.
 *
 * argv[1] is the guest "net".  Skipped (77) where /dev/kvm cannot be opened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/regs.h"
#include "world.h"

#define EVENTS 65536

static const char *kernel;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

struct scene {
	struct world w;
	struct trace *trace;
	struct trace_event *ev; /* as of the last look */
	size_t nev;
};

static struct scene *current; /* what a failed test leaves behind */

/* Page 0 direct, as a hardware VF's is. */
static void set_up(struct scene *s, unsigned int guests, bool compact,
		   const char *args)
{
	static struct nic_conf nic;
	struct world_conf c = {
		.kernel = kernel, .guests = guests, .nic = &nic, .mailbox = true
	};
	char append[WORLD_GUESTS][256];

	if (!getenv("VERBOSE"))
		log_set_sink(no_log, NULL);
	memset(s, 0, sizeof(*s));
	nic = (struct nic_conf){ .model = NIC_82576,
				 .vfs = WORLD_GUESTS,
				 .direct_pages = 0xd,
				 .compact = compact,
				 .mac = { 2, 0x70, 0x67, 0, 0, 1 } };
	assert_int_equal(trace_create(&s->trace, EVENTS), 0);
	s->ev = calloc(EVENTS, sizeof(*s->ev));
	assert_non_null(s->ev);
	c.trace = s->trace;
	for (unsigned int i = 0; i < guests; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u stay=1 stat_ms=200 limit_s=1000 holdoff_ms=300 "
			 "tick_ms=500 %s",
			 i + 1, args);
		c.append[i] = append[i];
	}
	world_create(&s->w, &c);
	world_start(&s->w);
	current = s;
	for (unsigned int i = 0; i < guests; i++)
		if (!world_reaches(&s->w, i, "V", "link", 1,
				   WORLD_PATIENCE_MS)) {
			world_dump(&s->w, i);
			fail_msg("guest %u has no link", i);
		}
}

static void tear_down(struct scene *s)
{
	current = NULL;
	world_destroy(&s->w);
	trace_destroy(s->trace);
	free(s->ev);
}

static int clean_up(void **state)
{
	if (current)
		tear_down(current);
	return 0;
}

static struct vdev_mbx_counts counts(struct scene *s, unsigned int g)
{
	struct vdev_mbx_counts c;

	vdev_mbx_get_counts(s->w.g[g].mbx, &c);
	return c;
}

static bool is_direct(struct scene *s, unsigned int g)
{
	return vdev_page_direct(s->w.g[g].v, 0, 0);
}

/* Or say all there is to know. */
static void reach(struct scene *s, unsigned int g, const char *tag,
		  const char *key, uint64_t v)
{
	char *json;

	if (world_reaches(&s->w, g, tag, key, v, v + 1 ? WORLD_PATIENCE_MS : 0))
		return;
	world_dump(&s->w, g);
	json = trace_json(s->trace);
	fprintf(stderr, "%s\n", json);
	free(json);
	fail_msg("guest %u: %s %s does not reach %llu", g, tag, key,
		 (unsigned long long)v);
}

static void becomes_direct(struct scene *s, unsigned int g)
{
	uint64_t end = now_ns() + WORLD_PATIENCE_MS * 1000000ull;

	while (!is_direct(s, g)) {
		assert_true(now_ns() < end);
		usleep(5000);
	}
}

/* Until the page is direct and stays so: no exchange is going on. */
static void settle(struct scene *s, unsigned int g)
{
	uint64_t end = now_ns() + WORLD_PATIENCE_MS * 1000000ull;
	unsigned int calm = 0;
	uint64_t last = 0;

	while (calm < 10 && now_ns() < end) {
		uint64_t n = counts(s, g).episodes;

		calm = is_direct(s, g) && n == last ? calm + 1 : 0;
		last = n;
		usleep(20000);
	}
	if (calm < 10)
		fail_msg("the page is not direct, state %s",
			 vdev_mbx_state_name(s->w.g[g].mbx));
}

static void look(struct scene *s, uint64_t after)
{
	uint64_t lost;

	s->nev = trace_read(s->trace, after, s->ev, EVENTS, &lost);
	assert_int_equal(lost, 0);
}

static const struct trace_event *next(struct scene *s, size_t *i,
				      unsigned int unit, const char *what)
{
	for (; *i < s->nev; ++*i)
		if (s->ev[*i].unit == unit && !strcmp(s->ev[*i].what, what))
			return &s->ev[(*i)++];
	return NULL;
}

/*
 * Every guest-started exchange in the trace: the PF driver's callback, the
 * trap before anything is published, the answer through intercepted reads,
 * and the page direct at the end, in this order and nothing missing.
 */
static unsigned int check_episodes(struct scene *s, unsigned int unit)
{
	static const char *const steps[] = {
		"pf-request", "pf-callback", "callback",   "trap",
		"import",     "request",     "pf-verdict", "publish",
		"read",	      "export",	     "untrap"
	};
	unsigned int n = 0;
	size_t i = 0;

	while (next(s, &i, unit, "pf-request")) {
		const struct trace_event *e = &s->ev[i - 1];
		uint64_t trap = 0, publish = 0;
		size_t k = i;

		for (size_t j = 1; j < ARRAY_SIZE(steps); j++) {
			const char *was = steps[j - 1];

			e = next(s, &k, unit, steps[j]);
			if (!e)
				fail_msg("no %s after %s", steps[j], was);
			if (!strcmp(e->what, "trap"))
				trap = e->ns;
			if (!strcmp(e->what, "publish"))
				publish = e->ns;
		}
		assert_true(trap < publish);
		n++;
	}
	return n;
}

static unsigned int how_many(struct scene *s, unsigned int unit,
			     const char *what)
{
	unsigned int n = 0;
	size_t i = 0;

	while (next(s, &i, unit, what))
		n++;
	return n;
}

/* A1, A3, A4, A5, A8, and the milestone: one episode an exchange. */
static void a_driver_comes_up(void **state)
{
	struct vdev_mbx_counts c;
	static struct scene s;
	unsigned int n;

	set_up(&s, 1, false, "mode=poll send=0 vlan=100");
	settle(&s, 0);
	look(&s, 0);
	c = counts(&s, 0);
	/* Reset, address, multicasts, filter clear, VLAN, frame size. */
	n = check_episodes(&s, 0);
	assert_true(n >= 6);
	assert_int_equal(c.exchanges, n);
	assert_int_equal(how_many(&s, 0, "pf-callback"),
			 how_many(&s, 0, "callback"));
	assert_int_equal(c.exchanges + c.posts, c.episodes);
	assert_int_equal(how_many(&s, 0, "trap"), c.episodes);
	assert_int_equal(how_many(&s, 0, "untrap"), c.episodes);
	assert_int_equal(c.timeouts, 0);
	assert_int_equal(c.no_rule, 0);
	assert_int_equal(world_stat(&s.w, 0, "V", "timeouts"), 0);
	printf("%u exchanges, %llu episodes, %llu intercepted reads, %llu "
	       "writes\n",
	       n, (unsigned long long)c.episodes, (unsigned long long)c.reads,
	       (unsigned long long)c.writes);

	/* Once more on demand: interface down and up. */
	world_say(&s.w, 0, "reinit");
	reach(&s, 0, "V", "ups", 2);
	settle(&s, 0);
	look(&s, 0);
	c = counts(&s, 0);
	assert_int_equal(check_episodes(&s, 0), c.exchanges);
	assert_int_equal(how_many(&s, 0, "trap"), c.episodes);
	assert_true(c.exchanges >= n + 6);
	assert_int_equal(c.timeouts, 0);
	tear_down(&s);
}

/*
 * Say it, and wait for its answer, which must not have come before; as long
 * as it gets somewhere, for on a busy machine thousands of messages take long.
 */
static void command(struct scene *s, unsigned int g, const char *line,
		    const char *answer)
{
	uint64_t seen;

	world_say(&s->w, g, line);
	do {
		seen = counts(s, g).exchanges;
		if (world_says(&s->w, g, answer, WORLD_PATIENCE_MS))
			return;
	} while (counts(s, g).exchanges != seen);
	world_dump(&s->w, g);
	fail_msg("guest %u: no '%s'", g, answer);
}

/*
 * A2: nothing goes on, a guest looks a million times, the driver's watchdog
 * looks, traffic flows.
 */
static void nothing_is_intercepted_between(void **state)
{
	struct vdev_counts before, after;
	struct vdev_mbx_counts c0, c1;
	static struct scene s;
	uint64_t tails, frames;

	set_up(&s, 2, false, "mode=poll size=200 count=30000 send=0");
	for (unsigned int g = 0; g < 2; g++)
		settle(&s, g);
	vdev_get_counts(s.w.g[0].v, &before);
	tails = world_stat(&s.w, 0, "V", "tails");
	c0 = counts(&s, 0);
	command(&s, 0, "hammer 1000000", "O hammer 1000000 ");
	vdev_get_counts(s.w.g[0].v, &after);
	printf("a million reads of the page: %llu exits there\n",
	       (unsigned long long)(after.mbx_page - before.mbx_page));
	assert_int_equal(after.mbx_page, before.mbx_page);
	assert_int_equal(after.traps, before.traps);
	/* The same where it is trapped: what counts, counts. */
	assert_int_equal(vdev_trap(s.w.g[0].v, 0, 0, VDEV_TRAP_STATS), 0);
	command(&s, 0, "hammer 1000", "O hammer 1000 ");
	assert_int_equal(vdev_untrap(s.w.g[0].v, 0, 0, VDEV_TRAP_STATS), 0);
	/* One access may have been on its way out; after this it is back. */
	command(&s, 0, "hammer 1", "O hammer 1 ");
	vdev_get_counts(s.w.g[0].v, &after);
	assert_true(after.mbx_page - before.mbx_page >= 1000);
	before = after;
	for (unsigned int g = 0; g < 2; g++)
		world_say(&s.w, g, "start");
	reach(&s, 0, "T", "acked", 30000);
	reach(&s, 1, "T", "acked", 30000);
	/* A line of its own, and a little later. */
	reach(&s, 0, "V", "tails", tails + 20001);
	vdev_get_counts(s.w.g[0].v, &after);
	c1 = counts(&s, 0);
	tails = world_stat(&s.w, 0, "V", "tails") - tails;
	frames = world_stat(&s.w, 0, "T", "sent");
	printf("%llu tail writes, %llu frames: %llu exits at the mailbox page, "
	       "%llu at doorbells\n",
	       (unsigned long long)tails, (unsigned long long)frames,
	       (unsigned long long)(after.mbx_page - before.mbx_page),
	       (unsigned long long)(after.doorbell - before.doorbell));
	assert_int_equal(after.mbx_page, before.mbx_page);
	assert_int_equal(after.doorbell, before.doorbell);
	assert_int_equal(after.traps, before.traps);
	assert_int_equal(c1.reads + c1.writes, c0.reads + c0.writes);
	tear_down(&s);
}

static void kick0(void *opaque)
{
	struct scene *s = opaque;

	assert_int_equal(pf_kick(s->w.pf, 0), 0);
}

static void ping(void *opaque)
{
	struct scene *s = opaque;
	const struct pf_event ev = { .kind = PF_EV_LINK, .link = true };

	vdev_mbx_callback(s->w.g[0].mbx, &ev);
}

/*
 * A6, A7: mailbox, tails and heads share one page.  What is submitted while
 * it is trapped is sent, once and in order.
 */
static void submission_registers_share_the_page(void **state)
{
	struct vdev_counts before, after;
	static struct scene s;
	uint64_t reinits[2];
	unsigned int posts = 0;

	set_up(&s, 2, true,
	       "mode=poll compact=1 size=200 count=10000 rate=1000 send=0");
	for (unsigned int g = 0; g < 2; g++)
		settle(&s, g);
	vdev_get_counts(s.w.g[0].v, &before);
	for (unsigned int g = 0; g < 2; g++)
		world_say(&s.w, g, "start");
	for (unsigned int g = 0; g < 2; g++) {
		reach(&s, g, "T", "acked", 1);
		reinits[g] = world_stat(&s.w, g, "V", "reinits");
	}
	while (!world_reaches(&s.w, 0, "T", "acked", 10000, 40) ||
	       !world_reaches(&s.w, 1, "T", "acked", 10000, 40)) {
		world_call(&s.w, s.w.loop, ping, &s);
		if (++posts > 2000)
			fail_msg("traffic does not end");
	}
	vdev_get_counts(s.w.g[0].v, &after);
	printf("%u host words under load, %llu accesses met the trap\n", posts,
	       (unsigned long long)(after.mbx_page - before.mbx_page));
	assert_true(posts > 5);
	assert_true(after.mbx_page - before.mbx_page > posts);
	for (unsigned int g = 0; g < 2; g++) {
		reach(&s, g, "T", "got", 10000);
		assert_int_equal(world_stat(&s.w, g, "T", "got"), 10000);
		assert_int_equal(world_stat(&s.w, g, "T", "lost"), 0);
		assert_int_equal(world_stat(&s.w, g, "T", "doubled"), 0);
		assert_int_equal(world_stat(&s.w, g, "T", "reordered"), 0);
		assert_int_equal(world_stat(&s.w, g, "T", "corrupt"), 0);
		/* Nor did the driver find it necessary to start over. */
		if (world_stat(&s.w, g, "V", "reinits") != reinits[g])
			reach(&s, g, "V", "reinits", UINT64_MAX);
	}
	reach(&s, 0, "H", "heads", 101);
	assert_int_equal(world_stat(&s.w, 0, "H", "bad"), 0);
	tear_down(&s);
}

/* A9: the host speaks first. */
static void host_started_exchanges(void **state)
{
	static struct scene s;

	set_up(&s, 1, false, "mode=irq send=0");
	settle(&s, 0);
	/* Start over: down, reset, up. */
	usleep(400000); /* the driver's hold-off */
	world_call(&s.w, s.w.loop, kick0, &s);
	reach(&s, 0, "V", "reinits", 1);
	reach(&s, 0, "V", "ups", 2);
	settle(&s, 0);
	assert_true(counts(&s, 0).posts >= 1);
	assert_int_equal(counts(&s, 0).timeouts, 0);
	/* A second trigger while the first is going on. */
	world_call(&s.w, s.w.loop, ping, &s);
	world_call(&s.w, s.w.loop, kick0, &s);
	reach(&s, 0, "V", "reinits", 2);
	reach(&s, 0, "V", "ups", 3);
	settle(&s, 0);
	tear_down(&s);
}

static size_t saved(struct scene *s, unsigned int g)
{
	static uint8_t buf[2 * VDEV_MBX_SAVE_SIZE];
	struct wire_out o;

	wire_out_init(&o, buf, sizeof(buf));
	vdev_mbx_save(s->w.g[g].mbx, &o);
	assert_int_equal(o.err, 0);
	return wire_used(&o);
}

/*
 * A10, A11: thousands of messages, each answered long before the guest would
 * give up, and nothing grows.  A million of them: src/vdev/mbx_state_test.c.
 */
static void messages_leave_nothing_behind(void **state)
{
	struct vdev_mbx_counts before, after;
	static struct scene s;
	size_t size;

	set_up(&s, 1, false, "mode=poll send=0");
	settle(&s, 0);
	size = saved(&s, 0);
	before = counts(&s, 0);
	command(&s, 0, "messages 4000", "O messages 4000 granted=4000 ");
	settle(&s, 0);
	after = counts(&s, 0);
	assert_int_equal(after.exchanges - before.exchanges, 4000);
	assert_int_equal(after.granted - before.granted, 4000);
	assert_int_equal(after.episodes - before.episodes,
			 4000 + after.posts - before.posts);
	assert_int_equal(after.timeouts, 0);
	assert_int_equal(saved(&s, 0), size);
	reach(&s, 0, "V", "timeouts", 0);
	assert_int_equal(world_stat(&s.w, 0, "V", "timeouts"), 0);
	/* In polls of the guest's, which allows itself 2000 a phase. */
	printf("saved state %zu bytes, %llu us a message, the longest wait "
	       "%llu of 2000 polls\n",
	       size,
	       (unsigned long long)(world_stat(&s.w, 0, "O", "us") / 4000),
	       (unsigned long long)world_stat(&s.w, 0, "V", "polls"));
	assert_true(world_stat(&s.w, 0, "V", "polls") < 2000);
	tear_down(&s);
}

static void reset_vf0(void *opaque)
{
	struct scene *s = opaque;
	struct vdev *v = s->w.g[0].v;

	vdev_lock(v);
	pdev_reset(vdev_pdev(v));
	vdev_mbx_vf_reset(s->w.g[0].mbx);
	vdev_unlock(v);
}

/* A9: struck at whatever moment, the driver comes back and the page too. */
static void never_stuck(void **state)
{
	static struct scene s;
	uint64_t ups;

	set_up(&s, 1, false, "mode=irq send=0");
	settle(&s, 0);
	for (unsigned int i = 0; i < 12; i++) {
		ups = world_stat(&s.w, 0, "V", "ups");
		world_say(&s.w, 0, "reinit");
		usleep(3000 * i);
		if (i % 2) {
			world_call(&s.w, s.w.loop, reset_vf0, &s);
		} else {
			world_pf_dies(&s.w);
			/* With nobody there, and not because the next came. */
			becomes_direct(&s, 0);
			world_pf_again(&s.w);
		}
		/* Whatever it lost it finds by its own watchdog. */
		reach(&s, 0, "V", "ups", ups + 1);
		settle(&s, 0);
	}
	tear_down(&s);
}

#define T(f) cmocka_unit_test_teardown(f, clean_up)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_driver_comes_up),
		T(nothing_is_intercepted_between),
		T(submission_registers_share_the_page),
		T(host_started_exchanges),
		T(messages_leave_nothing_behind),
		T(never_stuck),
	};

	if (argc < 2 || !world_possible())
		return 77;
	kernel = argv[1];
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
