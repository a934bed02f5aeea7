#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/loop.h"

struct bench {
	struct loop *l;
	struct loop_source *a, *b;
	int hits, order[8];
	bool nested;
};

static int setup(void **state)
{
	static struct bench b;

	b = (struct bench){ 0 };
	*state = &b;
	return loop_create(&b.l);
}

static int teardown(void **state)
{
	struct bench *b = *state;

	loop_destroy(b->l);
	return 0;
}

static void on_read(int fd, uint32_t events, void *opaque)
{
	struct bench *b = opaque;
	eventfd_t n;

	assert_true(events & EPOLLIN);
	eventfd_read(fd, &n);
	b->hits += (int)n;
	loop_stop(b->l);
}

static void fds_are_served(void **state)
{
	struct bench *b = *state;
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(loop_add_fd(b->l, fd, EPOLLIN, on_read, b, &b->a), 0);
	eventfd_write(fd, 3);
	assert_int_equal(loop_run(b->l), 0);
	assert_int_equal(b->hits, 3);

	loop_mod_fd(b->a, 0);
	eventfd_write(fd, 1);
	assert_int_equal(loop_once(b->l, 0), 0);
	assert_int_equal(b->hits, 3);
	loop_remove(b->a);
	close(fd);
}

static void bad_fd_is_refused(void **state)
{
	struct bench *b = *state;

	assert_int_equal(loop_add_fd(b->l, -1, EPOLLIN, on_read, b, &b->a),
			 -EBADF);
	assert_null(b->a);
}

static void remove_both(int fd, uint32_t events, void *opaque)
{
	struct bench *b = opaque;

	b->hits++;
	loop_remove(b->a);
	loop_remove(b->b);
}

/* Two events in one round, and the first callback removes the second. */
static void removal_during_dispatch_is_safe(void **state)
{
	struct bench *b = *state;
	int f1 = eventfd(1, 0), f2 = eventfd(1, 0);

	loop_add_fd(b->l, f1, EPOLLIN, remove_both, b, &b->a);
	loop_add_fd(b->l, f2, EPOLLIN, remove_both, b, &b->b);
	loop_once(b->l, 0);
	loop_once(b->l, 0);
	assert_int_equal(b->hits, 1);
	close(f1);
	close(f2);
}

static void tick(void *opaque)
{
	struct bench *b = opaque;

	if (++b->hits == 3)
		loop_stop(b->l);
}

static void timers_repeat(void **state)
{
	struct bench *b = *state;

	assert_int_equal(loop_add_timer(b->l, 0, 100000, tick, b, NULL), 0);
	assert_int_equal(loop_run(b->l), 0);
	assert_int_equal(b->hits, 3);
}

static void on_signal(int signo, void *opaque)
{
	struct bench *b = opaque;

	b->hits = signo;
	loop_stop(b->l);
}

static void signals_arrive_in_the_loop(void **state)
{
	struct bench *b = *state;

	assert_int_equal(loop_add_signal(b->l, SIGUSR1, on_signal, b, NULL), 0);
	kill(getpid(), SIGUSR1);
	assert_int_equal(loop_run(b->l), 0);
	assert_int_equal(b->hits, SIGUSR1);
}

static void note(void *opaque)
{
	struct bench *b = opaque;

	b->hits++;
	if (b->hits == 1000)
		loop_stop(b->l);
}

static void *caller(void *opaque)
{
	struct bench *b = opaque;

	for (int i = 0; i < 1000; i++)
		loop_call(b->l, note, b);
	return NULL;
}

static void calls_cross_threads(void **state)
{
	struct bench *b = *state;
	pthread_t t;

	pthread_create(&t, NULL, caller, b);
	assert_int_equal(loop_run(b->l), 0);
	pthread_join(t, NULL);
	assert_int_equal(b->hits, 1000);
}

/* From within the loop's thread, too, where it cannot be waited for. */
static int hits(void *opaque)
{
	struct bench *b = opaque;
	b->nested = !b->nested;
	return b->nested ? loop_ask(b->l, hits, b) : b->hits;
}

static void *waiting_caller(void *opaque)
{
	struct bench *b = opaque;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(loop_call_wait(b->l, note, b), 0);
		assert_int_equal(loop_ask(b->l, hits, b), i + 1);
		/* It has run when the call comes back. */
		b->order[0] += b->hits == i + 1;
	}
	loop_stop(b->l);
	return NULL;
}

static void waiting_calls_have_run(void **state)
{
	struct bench *b = *state;
	pthread_t t;

	pthread_create(&t, NULL, waiting_caller, b);
	assert_int_equal(loop_run(b->l), 0);
	pthread_join(t, NULL);
	assert_int_equal(b->hits, 100);
	assert_int_equal(b->order[0], 100);
}

/*
 * A callback may go round itself, as one does that waits for a thread which
 * in turn waits for the loop: what the outer round has still to serve stays.
 */
static void remove_other_and_go_round(int fd, uint32_t events, void *opaque)
{
	struct bench *b = opaque;

	if (b->hits++)
		return;
	loop_remove(fd == b->order[0] ? b->b : b->a);
	assert_int_equal(loop_once(b->l, 0), 0);
	assert_int_equal(loop_once(b->l, 0), 0);
}

static void removal_in_a_nested_round_is_safe(void **state)
{
	struct bench *b = *state;
	int f1 = eventfd(1, 0), f2 = eventfd(1, 0);

	b->order[0] = f1;
	loop_add_fd(b->l, f1, EPOLLIN, remove_other_and_go_round, b, &b->a);
	loop_add_fd(b->l, f2, EPOLLIN, remove_other_and_go_round, b, &b->b);
	assert_int_equal(loop_once(b->l, 0), 0);
	/* The first, twice in its rounds; the second, removed, never. */
	assert_int_equal(b->hits, 3);
	close(f1);
	close(f2);
}

static void last_call(void *opaque)
{
	struct bench *b = opaque;

	b->order[b->hits++] = 3;
}

static void second_call(void *opaque)
{
	struct bench *b = opaque;

	b->order[b->hits++] = 2;
}

/* Waits for what was called before the round it is in had begun. */
static void first_call(void *opaque)
{
	struct bench *b = opaque;

	b->order[b->hits++] = 1;
	loop_call(b->l, last_call, b);
	for (int i = 0; i < 10 && b->hits < 3; i++)
		loop_once(b->l, 0);
	b->nested = b->hits == 3;
}

static void a_nested_round_runs_earlier_calls(void **state)
{
	struct bench *b = *state;

	loop_call(b->l, first_call, b);
	loop_call(b->l, second_call, b);
	assert_int_equal(loop_once(b->l, 0), 0);
	assert_true(b->nested);
	for (int i = 0; i < 3; i++)
		assert_int_equal(b->order[i], i + 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(fds_are_served),
		T(bad_fd_is_refused),
		T(removal_during_dispatch_is_safe),
		T(timers_repeat),
		T(signals_arrive_in_the_loop),
		T(calls_cross_threads),
		T(waiting_calls_have_run),
		T(removal_in_a_nested_round_is_safe),
		T(a_nested_round_runs_earlier_calls),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
