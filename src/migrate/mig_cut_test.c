/*
 * The link between both engines is cut, by bytes and by phase.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/mig_rig.h"
#include "migrate/source_priv.h"

/*
 * The link is cut after each of many byte counts, the last message
 * boundaries among them.  Whatever happens: exactly one machine can run,
 * unless nobody can tell, and then none does until somebody can.
 */
static enum mig_outcome cut_at(int64_t at, bool dead_after, uint64_t *carried)
{
	struct mig_params p = params(via("proxy"));
	enum mig_outcome out;
	struct proxy proxy;
	struct run x;

	p.recovery_ms = dead_after ? 1 : 5000;
	run_init(&x);
	proxy_start(&proxy, at, dead_after);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	out = x.out;
	if (out == MIG_UNDECIDED) {
		assert_false(runs(&x.src));
		/* The link is mended: ask again. */
		proxy.dead_after = false;
		x.out = mig_resolve(x.s, 20000, &x.src_err);
		assert_int_not_equal(x.out, MIG_UNDECIDED);
	}
	/* A receiver nothing ever reached still waits: let it go. */
	if (x.out == MIG_RUNS_HERE && !x.dst.dropped)
		shutdown(chan_listener_fd(x.l), SHUT_RDWR);
	pthread_join(x.thread, NULL);
	if (runs(&x.src) + runs(&x.dst) != 1)
		fail_msg("cut at %ld: source %d, destination %d (%s / %s)",
			 (long)at, runs(&x.src), runs(&x.dst), x.src_err.text,
			 x.dst_err.text);
	assert_int_equal(x.out == MIG_RUNS_THERE, runs(&x.dst));
	if (x.out == MIG_RUNS_HERE)
		assert_int_equal(x.src.released, x.src.engaged);
	else
		assert_memory_equal(x.src.ram.guest, x.dst.ram.guest,
				    RAM_BYTES);
	*carried = proxy.carried;
	run_fini(&x);
	proxy_stop(&proxy);
	return out;
}

static void one_machine_wherever_the_link_is_cut(void **state)
{
	unsigned int seen[3] = { 0 };
	uint64_t whole, n;

	assert_int_equal(cut_at(-1, false, &whole), MIG_RUNS_THERE);
	for (int64_t at = 1; at < (int64_t)whole; at += (int64_t)whole / 24)
		seen[cut_at(at, false, &n)]++;
	/* Greeting and plan. */
	for (int64_t at = 1; at < 400; at += 40)
		seen[cut_at(at, false, &n)]++;
	assert_true(seen[MIG_RUNS_HERE] > 20);
}

/*
 * The totals differ from run to run, so the last messages cannot be hit by
 * counting from the front: cut so many bytes after the phase is entered.
 */
struct late {
	struct proxy *proxy;
	enum mig_phase phase;
	int64_t bytes;
};

static void cut_late(void *opaque, const struct mig_progress *p)
{
	struct late *l = opaque;

	if (p->phase == l->phase && l->proxy->left < 0 && !l->proxy->cut)
		l->proxy->left = l->bytes;
}

static void one_machine_at_the_hand_over(void **state)
{
	unsigned int seen[3] = { 0 };

	for (int64_t bytes = 1; bytes < 100; bytes += 6) {
		for (int dead = 0; dead < 2; dead++) {
			struct mig_params p = params(via("proxy"));
			struct proxy proxy;
			struct late late = { &proxy, MIG_HANDOVER, bytes };
			struct run x;

			p.progress = cut_late;
			p.opaque = &late;
			p.recovery_ms = dead ? 1 : 5000;
			run_init(&x);
			proxy_start(&proxy, -1, dead);
			run_start(&x, &p);
			x.out = mig_run(x.s, &x.r, &x.src_err);
			seen[x.out]++;
			if (x.out == MIG_UNDECIDED) {
				assert_false(runs(&x.src));
				proxy.dead_after = false;
				x.out = mig_resolve(x.s, 20000, NULL);
			}
			pthread_join(x.thread, NULL);
			assert_int_equal(runs(&x.src) + runs(&x.dst), 1);
			assert_int_equal(x.out == MIG_RUNS_THERE, runs(&x.dst));
			run_fini(&x);
			proxy_stop(&proxy);
		}
	}
	/* Every outcome was met, or this proved nothing. */
	assert_true(seen[MIG_RUNS_HERE] && seen[MIG_RUNS_THERE] &&
		    seen[MIG_UNDECIDED]);
}

/*
 * A name that stands for several hosts, or for another one by now: glibc's
 * is not asked.  Names are "hosts", its addresses those in 'hosts'.
 */
static const char *hosts[3];

int getaddrinfo(const char *node, const char *service,
		const struct addrinfo *hints, struct addrinfo **res)
{
	struct addrinfo *list = NULL, **end = &list;
	const char *one[] = { node, NULL }, **of = one;

	if (node && !strcmp(node, "hosts"))
		of = hosts;
	for (; *of; of++) {
		struct sockaddr_in *sa = calloc(1, sizeof(*sa));

		sa->sin_family = AF_INET;
		sa->sin_port = htons((uint16_t)strtoul(service, NULL, 10));
		inet_pton(AF_INET, *of, &sa->sin_addr);
		*end = calloc(1, sizeof(**end));
		(*end)->ai_family = AF_INET;
		(*end)->ai_socktype = SOCK_STREAM;
		(*end)->ai_addr = (struct sockaddr *)sa;
		(*end)->ai_addrlen = sizeof(*sa);
		end = &(*end)->ai_next;
	}
	*res = list;
	return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
	while (list) {
		struct addrinfo *next = list->ai_next;

		free(list->ai_addr);
		free(list);
		list = next;
	}
}

/* The answer is lost, and the name means a host where nobody listens. */
static void lose_answer(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	if (p->phase != MIG_HANDOVER)
		return;
	hosts[0] = "127.0.0.3";
	hosts[1] = NULL;
	chan_abort_recv(x->s->main);
}

static void only_who_was_met_is_asked(void **state)
{
	struct mig_params p = params(NULL);
	struct run x;
	char addr[64];

	hosts[0] = "127.0.0.1"; /* nobody there either */
	hosts[1] = "127.0.0.2";
	run_init(&x);
	p.progress = lose_answer;
	p.opaque = &x;
	run_start_on(&x, &p, "127.0.0.2:0");
	snprintf(addr, sizeof(addr), "hosts%s",
		 strrchr(chan_listener_addr(x.l), ':'));
	x.s->p.dest = addr;
	x.out = mig_run(x.s, &x.r, &x.src_err);
	chan_listener_abort(x.l);
	pthread_join(x.thread, NULL);
	if (x.out != MIG_RUNS_THERE || runs(&x.src) + runs(&x.dst) != 1)
		fail_msg("source %d, destination %d: %s", runs(&x.src),
			 runs(&x.dst), x.src_err.text);
	run_fini(&x);
}

struct lost {
	struct run *x;
	struct proxy *proxy;
	pthread_t mender;
	bool mends;
};

static void *mend_soon(void *opaque)
{
	usleep(300000);
	((struct proxy *)opaque)->dead_after = false;
	return NULL;
}

/* The answer is lost, and for a moment there is no way to ask for it. */
static void lose_answer_for_a_while(void *opaque, const struct mig_progress *p)
{
	struct lost *l = opaque;

	if (p->phase != MIG_HANDOVER || l->mends)
		return;
	l->proxy->dead_after = true;
	l->proxy->cut = true;
	chan_abort_recv(l->x->s->main);
	l->mends = !pthread_create(&l->mender, NULL, mend_soon, l->proxy);
}

static void *short_lived(void *opaque)
{
	struct run *x = opaque;

	x->dst_ret = mig_receive(&x->dst.vm, x->l, &x->keep, &x->dst_err);
	mig_incoming_close(x->keep, MIG_ASKING_MS);
	chan_listener_close(x->l);
	x->keep = NULL;
	x->l = NULL;
	return NULL;
}

/* A VM that ends as soon as it has arrived does not begin again here. */
static void a_short_life_is_heard_of(void **state)
{
	struct mig_params p = params(NULL);
	char *addr = strdup(via("proxy"));
	struct proxy proxy;
	struct run x;
	struct lost lost = { .x = &x, .proxy = &proxy };

	p.dest = addr;
	p.progress = lose_answer_for_a_while;
	p.opaque = &lost;
	p.recovery_ms = 5000;
	run_init(&x);
	proxy_start(&proxy, -1, false);
	assert_int_equal(chan_listen(&x.l, via("dest"), NULL, NULL), 0);
	pthread_create(&x.thread, NULL, short_lived, &x);
	assert_int_equal(mig_source_create(&x.s, &x.src.vm, &p), 0);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	pthread_join(lost.mender, NULL);
	if (x.out != MIG_RUNS_THERE)
		fail_msg("%d: %s", x.out, x.src_err.text);
	assert_false(runs(&x.src));
	proxy_stop(&proxy);
	run_fini(&x);
	free(addr);
}

struct second {
	struct run *x;
	struct machine dst;
	struct chan_listener *l;
	struct mig_incoming *keep;
	pthread_t thread;
};

static void *second_receiver(void *opaque)
{
	struct second *s = opaque;

	mig_receive(&s->dst.vm, s->l, &s->keep, NULL);
	return NULL;
}

/* The receiver is gone, and another has taken its address. */
static void replace(void *opaque, const struct mig_progress *p)
{
	struct second *s = opaque;

	if (p->phase != MIG_HANDOVER || s->l)
		return;
	chan_listener_abort(s->x->l);
	pthread_join(s->x->thread, NULL);
	chan_listener_close(s->x->l);
	s->x->l = NULL;
	assert_int_equal(chan_listen(&s->l, via("dest"), NULL, NULL), 0);
	pthread_create(&s->thread, NULL, second_receiver, s);
}

static void a_successor_never_had_it(void **state)
{
	struct mig_params p = params(via("dest"));
	struct second s = { 0 };
	struct run x;

	p.dest = strdup(p.dest);
	p.progress = replace;
	p.opaque = &s;
	run_init(&x);
	machine_init(&s.dst, &machine_ops, false);
	s.x = &x;
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	if (x.out != MIG_RUNS_HERE)
		fail_msg("%d: %s", x.out, x.src_err.text);
	assert_non_null(strstr(x.src_err.text, "another process"));
	assert_int_equal(runs(&x.src) + runs(&x.dst) + runs(&s.dst), 1);
	/* and it can go to the successor. */
	err_clear(&x.src_err);
	mig_source_destroy(x.s);
	assert_int_equal(mig_source_create(&x.s, &x.src.vm, &p), 0);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	if (x.out != MIG_RUNS_THERE)
		fail_msg("%s", x.src_err.text);
	pthread_join(s.thread, NULL);
	assert_int_equal(runs(&x.src) + runs(&x.dst), 0);
	assert_true(runs(&s.dst));
	run_fini(&x);
	mig_incoming_close(s.keep, 0);
	chan_listener_close(s.l);
	machine_fini(&s.dst);
	free((void *)p.dest);
}

static void knock(struct run *x)
{
	struct mig_params p = params(via("dest"));
	struct mig_source *s;
	struct mig_plan plan;
	struct err e = { 0 };

	assert_int_equal(mig_source_create(&s, &x->src.vm, &p), 0);
	assert_int_equal(mig_check(s, &plan, &e), -ECANCELED);
	if (!strstr(e.text, "busy with the VM 'test'"))
		fail_msg("'%s'", e.text);
	mig_source_destroy(s);
	x->src.looks = 1;
}

static void knock_in_precopy(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	if (p->phase == MIG_PRECOPY && !x->src.looks)
		knock(x);
}

/* Who comes while a VM arrives is told so, and at once. */
static void others_are_turned_away(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	run_init(&x);
	p.progress = knock_in_precopy;
	p.opaque = &x;
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	assert_int_equal(x.src.looks, 1);
	assert_int_equal(x.out, MIG_RUNS_THERE);
	run_fini(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_machine_wherever_the_link_is_cut),
		cmocka_unit_test(one_machine_at_the_hand_over),
		cmocka_unit_test(only_who_was_met_is_asked),
		cmocka_unit_test(a_short_life_is_heard_of),
		cmocka_unit_test(a_successor_never_had_it),
		cmocka_unit_test(others_are_turned_away),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
