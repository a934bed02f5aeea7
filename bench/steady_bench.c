/*
 * What Pagurus costs a VM that is not migrated: frames a second of the same
 * guests on vdevs, mailbox and shadow at the ready, and on plain functions
 * that pass the VF through and do nothing else.
 *
 * Two worlds of two guests each; turn by turn one runs and the other stands
 * still, so that what else the machine does is in both of a pair.  Turns are
 * short and many, and the goal is held against the median of the pairs'
 * ratios.  Two worlds of the same kind may differ by a hundredth for good:
 * after some turns there are new ones.
 *
 * usage: steady_bench [TURNS [ROW [same]]], ROW a part of a row's name; with
 * "same" both ways are plain, which shows how far this can be trusted
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
#include "goal.h"
#include "pin.h"
#include "plain_func.h"
#include "shadow/shadow.h"
#include "world.h"

#define GUESTS	  2
#define TURNS_MAX 999
#define SETTLE_US 30000
#define TURN_US	  100000
#define READY_MS  60000
#define WORLDS	  5 /* one after the other, for a row */
#define LEAST	  0.99

struct side {
	const char *name;
	bool plain;
	struct world w;
	struct plain *func[GUESTS];
	struct shadow *sh[GUESTS];
	unsigned int nfuncs;
	double rate[TURNS_MAX];
	uint64_t frames, exits, mmio; /* of all turns */
};

static struct side side[2] = { { .name = "plain", .plain = true },
			       { .name = "vdev" } };
static unsigned int turns = 125;
static const char *only;
static bool same;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static struct pci_func *make_plain(void *opaque, struct pdev *p, struct host *h)
{
	struct side *s = opaque;
	struct plain **f = &s->func[s->nfuncs];

	if (plain_open(f, p, h) < 0)
		return NULL;
	s->nfuncs++;
	return plain_func(*f);
}

/* ---- a side ---- */

static void still(struct side *s)
{
	for (unsigned int i = 0; i < GUESTS; i++)
		vm_pause(s->w.g[i].vm);
}

static void run(struct side *s)
{
	for (unsigned int i = 0; i < GUESTS; i++)
		vm_resume(s->w.g[i].vm);
}

/* Statistics cost exits, so they are asked for and not told. */
static void wait_for_traffic(struct side *s)
{
	uint64_t end = now_ns() + READY_MS * 1000000ull;

	for (unsigned int i = 0; i < GUESTS; i++)
		do {
			if (now_ns() > end) {
				world_dump(&s->w, i);
				fail_msg("%s: no traffic", s->name);
			}
			world_say(&s->w, i, "stat");
		} while (!world_reaches(&s->w, i, "T", "got", 1000, 200));
}

static void start(struct side *s, const char *args)
{
	static const struct nic_conf nic = {
		.model = NIC_82576,
		.vfs = WORLD_GUESTS,
		.direct_pages = NIC_DIRECT_DEFAULT,
		.mac = { 2, 0x70, 0x67, 0, 0, 1 },
	};
	struct world_conf c = { .nic = &nic,
				.kernel = BENCH_GUEST,
				.guests = GUESTS,
				.func = s->plain ? make_plain : NULL,
				.opaque = s,
				.mailbox = !s->plain };
	const struct shadow_opts o = { 0 };
	char append[GUESTS][128];

	for (unsigned int i = 0; i < GUESTS; i++) {
		snprintf(append[i], sizeof(append[i]),
			 "id=%u stay=1 holdoff_ms=500 %s", i + 1, args);
		c.append[i] = append[i];
	}
	s->nfuncs = 0;
	world_create(&s->w, &c);
	for (unsigned int i = 0; !s->plain && i < GUESTS; i++)
		assert_int_equal(
			shadow_create(&s->sh[i], s->w.g[i].v, &o, NULL), 0);
	world_start(&s->w);
	wait_for_traffic(s);
	still(s);
}

/* No throughput counts that was had by losing the frames' content. */
static void end(struct side *s)
{
	run(s);
	wait_for_traffic(s);
	for (unsigned int i = 0; i < GUESTS; i++) {
		assert_int_equal(world_stat(&s->w, i, "T", "corrupt"), 0);
		assert_int_equal(world_stat(&s->w, i, "T", "doubled"), 0);
	}
	still(s);
	for (unsigned int i = 0; i < GUESTS; i++) {
		vm_park(s->w.g[i].vm);
		plain_close(s->func[i]);
		s->func[i] = NULL;
		shadow_destroy(s->sh[i]);
		s->sh[i] = NULL;
	}
	world_destroy(&s->w);
}

/* ---- a turn ---- */

struct sample {
	struct side *s;
	uint64_t ns, frames, exits, mmio;
};

/* In the NIC's thread.  Frames put into rings: the guests need not ask. */
static void look(void *opaque)
{
	struct sample *p = opaque;
	struct nic_counts c;

	nic_get_counts(p->s->w.nic, &c);
	p->frames = c.rx_frames;
	p->ns = now_ns();
}

static struct sample sample(struct side *s)
{
	struct sample p = { .s = s };

	world_call(&s->w, s->w.nic_loop, look, &p);
	for (unsigned int i = 0; i < GUESTS; i++) {
		struct vm_exit_counts n;

		vm_exit_counts(s->w.g[i].vm, -1, &n);
		for (unsigned int k = 0; k < VM_NEXITS; k++)
			p.exits += n.n[k];
		p.mmio += n.n[VM_EXIT_MMIO];
	}
	return p;
}

static void turn(struct side *s, unsigned int n)
{
	struct sample a, b;

	run(s);
	usleep(SETTLE_US);
	a = sample(s);
	usleep(TURN_US);
	b = sample(s);
	still(s);
	s->rate[n] =
		(double)(b.frames - a.frames) * 1e9 / (double)(b.ns - a.ns);
	s->frames += b.frames - a.frames;
	s->exits += b.exits - a.exits;
	s->mmio += b.mmio - a.mmio;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static double middle(double *v)
{
	qsort(v, turns, sizeof(*v), by_value);
	return v[turns / 2];
}

static void print_side(const struct side *s, const char *args)
{
	printf("%-20s %-6s frames/s %7.0f (%7.0f..%7.0f)  exits a frame %.4f, "
	       "of them for BARs %.4f\n",
	       args, s->name, s->rate[turns / 2], s->rate[0],
	       s->rate[turns - 1], (double)s->exits / (double)s->frames,
	       (double)s->mmio / (double)s->frames);
}

/* Its part of the turns.  Each way is made and goes first as often. */
static void turns_of_world(unsigned int w, const char *args, double *pair)
{
	for (unsigned int i = 0; i < 2; i++)
		start(&side[(w + i) % 2], args);
	pin_threads();
	for (unsigned int n = w * turns / WORLDS; n < (w + 1) * turns / WORLDS;
	     n++) {
		turn(&side[n % 2], n);
		turn(&side[!(n % 2)], n);
		pair[n] = side[1].rate[n] / side[0].rate[n];
	}
	for (unsigned int i = 0; i < 2; i++)
		end(&side[i]);
}

static void row(const char *args)
{
	static double pair[TURNS_MAX];
	unsigned int k = 0;
	double ratio;
	char what[64];

	for (unsigned int i = 0; i < 2; i++)
		side[i].frames = side[i].exits = side[i].mmio = 0;
	for (unsigned int w = 0; w < WORLDS; w++)
		turns_of_world(w, args, pair);
	ratio = middle(pair);
	for (unsigned int i = 0; i < 2; i++) {
		middle(side[i].rate);
		print_side(&side[i], args);
	}
	/* Ranks that hold the true median, 95 in 100 times. */
	while ((k + 1) * (k + 1) * 100 <= 96 * turns && k < turns / 2)
		k++;
	printf("%-20s ratios of %u pairs of turns: median %.3f (95 %%: "
	       "%.3f..%.3f)\n",
	       args, turns, ratio, pair[turns / 2 - k],
	       pair[MIN(turns / 2 + k, turns - 1)]);
	if (same)
		return;
	snprintf(what, sizeof(what), "frames/s against a plain function, %s",
		 args);
	if (!goal_least(what, ratio, LEAST, "") &&
	    pair[MIN(turns / 2 + k, turns - 1)] >= LEAST)
		goal_limit("this run cannot tell: its pairs of turns leave "
			   "%.3f..%.3f open",
			   pair[turns / 2 - k],
			   pair[MIN(turns / 2 + k, turns - 1)]);
}

static void all(void **state)
{
	static const char *const rows[] = { "mode=poll size=1500",
					    "mode=poll size=82",
					    "mode=irq size=1500",
					    "mode=irq size=82" };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!only || strstr(rows[i], only))
			row(rows[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all) };

	if (!world_possible())
		return 77;
	if (argc > 1)
		turns = (unsigned int)atoi(argv[1]);
	only = argc > 2 ? argv[2] : NULL;
	same = argc > 3 && !strcmp(argv[3], "same");
	if (same) {
		side[1].plain = true;
		side[1].name = "again";
	}
	if (!turns || turns > TURNS_MAX)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_set_sink(no_log, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
