/*
 * The cap is kept, and does not pass for the speed of the line; nor does
 * that of a buffer.
 */
#include <pthread.h>
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
#include "migrate/pace.h"

#define BURST  (256u << 10)
#define PIECE  16384u
#define SLOWLY 2000000 /* ns before each piece: 8 MB/s at most */

struct line {
	struct chan_listener *l;
	struct chan *there;
	struct chan *here[2];
	pthread_t reader[2];
	struct sink {
		struct chan *c;
		unsigned int nap_ns;
	} sink[2];
	unsigned int n;
	struct pace pace;
	struct pace_line line[2];
	_Atomic bool stop;
};

static void *reads(void *opaque)
{
	struct sink *s = opaque;
	struct timespec nap = { .tv_nsec = s->nap_ns };
	static _Thread_local char buf[PIECE];

	do {
		if (s->nap_ns)
			nanosleep(&nap, NULL);
	} while (chan_recv(s->c, buf, sizeof(buf)) == 0);
	chan_close(s->c);
	return NULL;
}

static void line_open(struct line *x, const char *addr, unsigned int n,
		      uint64_t rate, unsigned int nap_ns)
{
	memset(x, 0, sizeof(*x));
	assert_int_equal(chan_listen(&x->l, addr, NULL, NULL), 0);
	pace_init(&x->pace, rate, &x->stop);
	for (x->n = 0; x->n < n; x->n++) {
		struct sink *s = &x->sink[x->n];

		assert_int_equal(chan_connect(&x->here[x->n],
					      chan_listener_addr(x->l), NULL,
					      NULL),
				 0);
		assert_int_equal(chan_accept(x->l, &s->c, -1, NULL), 0);
		s->nap_ns = nap_ns;
		x->line[x->n] = (struct pace_line){ .pace = &x->pace,
						    .chan = x->here[x->n] };
		pthread_create(&x->reader[x->n], NULL, reads, s);
	}
}

static void line_close(struct line *x)
{
	for (unsigned int i = 0; i < x->n; i++) {
		chan_close(x->here[i]);
		pthread_join(x->reader[i], NULL);
	}
	chan_listener_close(x->l);
	pace_fini(&x->pace);
}

/* One sender's share of a round; returns what it took. */
static uint64_t share(struct line *x, unsigned int i, uint64_t bytes,
		      uint64_t piece)
{
	char *buf = calloc(1, piece);
	uint64_t t0 = now_ns();

	for (uint64_t at = 0; at < bytes; at += piece) {
		pace_begin(&x->line[i]);
		pace_book(&x->line[i], piece);
		assert_int_equal(chan_send(x->here[i], buf, piece), 0);
	}
	pace_end(&x->line[i]);
	free(buf);
	return now_ns() - t0;
}

static const char *unix_addr(void)
{
	static char addr[64];
	static int n;

	snprintf(addr, sizeof(addr), "unix:/tmp/pagurus-pace-%d.%d", getpid(),
		 n++);
	return addr;
}

static uint64_t at_rate(uint64_t bytes, uint64_t rate)
{
	return bytes * 1000000000 / rate;
}

/* The share of a round's time that a line was busy. */
static double share_busy(const char *addr, uint64_t piece)
{
	uint64_t took, bytes = 4 * BURST / piece * piece;
	struct line x;
	double busy;

	line_open(&x, addr, 1, 5000000, 0);
	took = share(&x, 0, bytes, piece);
	assert_true(took >= at_rate(bytes, 5000000));
	assert_in_range(pace_busy_ns(&x.pace), 1, took);
	busy = (double)pace_busy_ns(&x.pace) / (double)took;
	line_close(&x);
	return busy;
}

/*
 * Pieces as large as a burst, and such that make one up.  Who reads may be
 * kept from it by others on the machine, and TCP paces itself at times; so
 * once is enough.
 */
static void a_fast_line_is_told_from_its_cap(void **state)
{
	const uint64_t piece[] = { BURST, 4096, 100000 };

	for (size_t i = 0; i < 2 * ARRAY_SIZE(piece); i++) {
		double busy = 1;

		for (int tries = 0; busy > 0.25 && tries < 30; tries++)
			busy = share_busy(i % 2 ? "127.0.0.1:0" : unix_addr(),
					  piece[i / 2]);
		if (busy > 0.25)
			fail_msg("busy for %.2f of the time", busy);
	}
}

/* The socket takes a burst at once; who reads it does not. */
static void a_buffer_is_not_a_fast_line(void **state)
{
	const uint64_t bytes = 4 * BURST;
	struct line x;
	uint64_t took;

	line_open(&x, unix_addr(), 1, 4000000, SLOWLY);
	took = share(&x, 0, bytes, BURST);
	assert_true(took >= at_rate(bytes, 4000000));
	assert_in_range(pace_busy_ns(&x.pace), bytes / PIECE * SLOWLY - SLOWLY,
			took);
	line_close(&x);
}

/* One that carries no more than the cap lets through is busy all the time. */
static void a_slow_line_is_busy(void **state)
{
	struct line x;
	uint64_t took;

	line_open(&x, unix_addr(), 1, 100000000, SLOWLY);
	took = share(&x, 0, 8 * BURST, BURST);
	/* The last burst or two may be in the buffer yet. */
	assert_in_range(pace_busy_ns(&x.pace), took * 9 / 10, took);
	line_close(&x);
}

struct second {
	struct line *x;
	uint64_t bytes;
};

static void *second_share(void *opaque)
{
	struct second *s = opaque;

	share(s->x, 1, s->bytes, BURST);
	return NULL;
}

/* The cap is for all together; time that two are busy counts once. */
static void two_share_a_line(void **state)
{
	struct line x;
	struct second s = { &x, 4 * BURST };
	uint64_t t0 = now_ns(), took;
	pthread_t t;

	line_open(&x, unix_addr(), 2, 10000000, SLOWLY);
	pthread_create(&t, NULL, second_share, &s);
	share(&x, 0, s.bytes, BURST);
	pthread_join(t, NULL);
	took = now_ns() - t0;
	assert_true(took >= at_rate(2 * s.bytes, 10000000));
	assert_in_range(pace_busy_ns(&x.pace), s.bytes / PIECE * SLOWLY * 3 / 4,
			took);
	line_close(&x);
}

static void *stops(void *opaque)
{
	struct line *x = opaque;

	usleep(20000);
	x->stop = true;
	return NULL;
}

/* A tiny cap would have it sleep for an hour. */
static void a_sleeper_can_be_stopped(void **state)
{
	struct line x;
	pthread_t t;

	line_open(&x, unix_addr(), 1, 100, 0);
	pthread_create(&t, NULL, stops, &x);
	share(&x, 0, 2 * BURST, BURST);
	pthread_join(t, NULL);
	line_close(&x);
}

static void without_a_cap_nobody_waits(void **state)
{
	struct line x;

	line_open(&x, unix_addr(), 1, 100, 0);
	pace_set(&x.pace, 0);
	assert_false(pace_capped(&x.pace));
	share(&x, 0, 2 * BURST, BURST);
	assert_int_equal(pace_busy_ns(&x.pace), 0);
	line_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fast_line_is_told_from_its_cap),
		cmocka_unit_test(a_buffer_is_not_a_fast_line),
		cmocka_unit_test(a_slow_line_is_busy),
		cmocka_unit_test(two_share_a_line),
		cmocka_unit_test(a_sleeper_can_be_stopped),
		cmocka_unit_test(without_a_cap_nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
