/*
 * The event loop: epoll, timers, signals, and calls from other threads.
 *
 * One thread runs a loop and owns all its sources; only loop_call(),
 * loop_stop() and loop_mod_fd() of a source that stays may come from
 * elsewhere.  A callback may remove any source, itself included: storage is
 * freed once the round of events is over.  It may also go round itself, to
 * wait for something that needs the loop.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdint.h>

struct loop;
struct loop_source;

typedef void (*loop_fd_fn)(int fd, uint32_t events, void *opaque);
typedef void (*loop_fn)(void *opaque);
typedef void (*loop_signal_fn)(int signo, void *opaque);

int loop_create(struct loop **out);
void loop_destroy(struct loop *l); /* NULL is fine; fds stay open */

/* Events are EPOLLIN and friends, level-triggered.  The fd stays yours. */
int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn,
		void *opaque, struct loop_source **out);
int loop_mod_fd(struct loop_source *s, uint32_t events);

/* First after 'delay_ns', then each 'period_ns' if that is not 0. */
int loop_add_timer(struct loop *l, uint64_t delay_ns, uint64_t period_ns,
		   loop_fn fn, void *opaque, struct loop_source **out);
int loop_mod_timer(struct loop_source *s, uint64_t delay_ns,
		   uint64_t period_ns);

/*
 * Blocks the signal in the calling thread and takes it here instead.  Call
 * it before other threads start, or they will not have it blocked.
 */
int loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *opaque,
		    struct loop_source **out);

void loop_remove(struct loop_source *s); /* NULL is fine */

/* From any thread: run fn(opaque) in the loop's thread, in order. */
int loop_call(struct loop *l, loop_fn fn, void *opaque);

/* The same, and wait until it has run; in the loop's own thread, at once. */
int loop_call_wait(struct loop *l, loop_fn fn, void *opaque);
/* And have what it returns; -errno if there was no way to call. */
int loop_ask(struct loop *l, int (*fn)(void *opaque), void *opaque);

/* Until loop_stop(); returns 0, or -errno if epoll itself failed. */
int loop_run(struct loop *l);
/* One round: wait at most timeout_ms (-1: for ever), dispatch, return. */
int loop_once(struct loop *l, int timeout_ms);
/* As that in nanoseconds, UINT64_MAX: for ever; rounds up on old kernels. */
int loop_once_ns(struct loop *l, uint64_t timeout_ns);
void loop_stop(struct loop *l);

#endif
