/*
 * A relay between two hosts, as a tunnel or a port forwarding is one: what it
 * says of a connection it does not say for the destination.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/mig_rig.h"
#include "migrate/place.h"
#include "migrate/source_priv.h"

struct relayed {
	struct run x;
	struct proxy proxy;
	struct mig_params p;
	void (*strike)(struct relayed *);
	bool struck;
	/* Where the relay leads later. */
	struct chan_listener *other;
	struct machine stranger;
	struct mig_incoming *keep;
	pthread_t thread;
};

/* The hand-over goes through, its answer does not. */
static void at_hand_over(void *opaque, const struct mig_progress *p)
{
	struct relayed *t = opaque;

	if (p->phase != MIG_HANDOVER || t->struck)
		return;
	t->struck = true;
	t->strike(t);
	chan_abort_recv(t->x.s->main);
}

static void begin(struct relayed *t, void (*strike)(struct relayed *))
{
	memset(t, 0, sizeof(*t));
	t->p = params(NULL);
	t->p.dest = strdup(via("proxy"));
	t->p.progress = at_hand_over;
	t->p.opaque = t;
	t->p.recovery_ms = 500;
	t->strike = strike;
	run_init(&t->x);
	proxy_start(&t->proxy, -1, false);
	run_start(&t->x, &t->p);
	t->x.out = mig_run(t->x.s, &t->x.r, &t->x.src_err);
	pthread_join(t->x.thread, NULL);
}

/* It runs there, and who cannot know that does nothing. */
static void waits(struct relayed *t)
{
	assert_true(t->struck);
	assert_true(runs(&t->x.dst));
	assert_false(runs(&t->x.src));
	assert_int_equal(t->x.out, MIG_UNDECIDED);
	assert_non_null(strstr(t->x.src_err.text, "--resolve"));
}

static void end(struct relayed *t)
{
	run_fini(&t->x);
	proxy_stop(&t->proxy);
	free((void *)t->p.dest);
}

static void die(struct relayed *t)
{
	assert_int_equal(unlink(t->proxy.path), 0);
}

static void a_relay_that_died_proves_nothing(void **state)
{
	struct relayed t;
	struct proxy again;

	begin(&t, die);
	waits(&t);
	proxy_start(&again, -1, false);
	t.x.out = mig_resolve(t.x.s, 20000, NULL);
	assert_int_equal(t.x.out, MIG_RUNS_THERE);
	assert_true(runs(&t.x.dst) && !runs(&t.x.src));
	proxy_stop(&again);
	t.proxy.path[0] = '\0';
	end(&t);
}

static void *stranger(void *opaque)
{
	struct relayed *t = opaque;

	mig_receive(&t->stranger.vm, t->other, &t->keep, NULL);
	return NULL;
}

static void turn(struct relayed *t)
{
	assert_int_equal(chan_listen(&t->other, via("dest2"), NULL, NULL), 0);
	machine_init(&t->stranger, &machine_ops, false);
	pthread_create(&t->thread, NULL, stranger, t);
	strcpy(t->proxy.to, chan_listener_addr(t->other) + strlen("unix:"));
}

/* "I never had it", says another destination, to which it leads by now. */
static void a_relay_that_turned_proves_nothing(void **state)
{
	struct relayed t;

	begin(&t, turn);
	waits(&t);
	strcpy(t.proxy.to, chan_listener_addr(t.x.l) + strlen("unix:"));
	t.x.out = mig_resolve(t.x.s, 20000, NULL);
	assert_int_equal(t.x.out, MIG_RUNS_THERE);
	chan_listener_abort(t.other);
	pthread_join(t.thread, NULL);
	assert_false(runs(&t.stranger));
	mig_incoming_close(t.keep, 0);
	chan_listener_close(t.other);
	machine_fini(&t.stranger);
	end(&t);
}

static void the_same_place(const char *listen_at, const char *dial, bool same)
{
	char here[PLACE_MAX], there[PLACE_MAX], addr[96];
	struct chan_listener *l;
	struct chan *a, *b;

	assert_int_equal(chan_listen(&l, listen_at, NULL, NULL), 0);
	snprintf(addr, sizeof(addr), "%s%s", dial,
		 chan_is_unix(dial) ? "" : strrchr(chan_listener_addr(l), ':'));
	assert_int_equal(chan_connect(&a, addr, NULL, NULL), 0);
	assert_int_equal(chan_accept(l, &b, 5000, NULL), 0);
	place_here(here, b, l);
	place_there(there, a);
	if (place_same(here, there) != same)
		fail_msg("'%s' and '%s'", here, there);
	chan_close(a);
	chan_close(b);
	chan_listener_close(l);
}

static void both_ends_name_the_same_place(void **state)
{
	char path[64], link[64];

	the_same_place("127.0.0.1:0", "127.0.0.1", true);
	the_same_place("127.0.0.1:0", "localhost", true);
	/* Whatever it listens at, it was reached at one address. */
	the_same_place("0.0.0.0:0", "127.0.0.2", true);
	the_same_place("[::]:0", "127.0.0.1", true);
	snprintf(path, sizeof(path), "%s", via("place"));
	the_same_place(path, path, true);
	snprintf(link, sizeof(link), "%s", via("link"));
	assert_int_equal(
		symlink(path + strlen("unix:"), link + strlen("unix:")), 0);
	the_same_place(path, link, true);
	unlink(link + strlen("unix:"));
}

static void what_cannot_be_told_is_not_the_same(void **state)
{
	assert_false(place_same("", ""));
	assert_false(place_same("10.0.0.1:4444", ""));
	assert_false(place_same("10.0.0.1:4444", "10.0.0.2:4444"));
	assert_true(place_same("10.0.0.1:4444", "10.0.0.1:4444"));
}

/* A loopback's address is told with its machine. */
static void loopback_is_of_one_machine(void **state)
{
	char place[PLACE_MAX];
	struct chan_listener *l;
	struct chan *a;

	assert_int_equal(chan_listen(&l, "127.0.0.1:0", NULL, NULL), 0);
	assert_int_equal(chan_connect(&a, chan_listener_addr(l), NULL, NULL),
			 0);
	place_there(place, a);
	assert_non_null(strstr(place, "127.0.0.1:"));
	assert_non_null(strstr(place, " on "));
	assert_non_null(strstr(place, "net:["));
	chan_close(a);
	chan_listener_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_relay_that_died_proves_nothing),
		cmocka_unit_test(a_relay_that_turned_proves_nothing),
		cmocka_unit_test(both_ends_name_the_same_place),
		cmocka_unit_test(what_cannot_be_told_is_not_the_same),
		cmocka_unit_test(loopback_is_of_one_machine),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
