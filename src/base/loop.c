#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "base/util.h"

#define EVENTS_A_ROUND 64

enum kind { SRC_FD, SRC_TIMER, SRC_SIGNAL, SRC_WAKE };

struct loop_source {
	struct loop *loop;
	struct loop_source *next, *prev;
	enum kind kind;
	int fd;
	bool dead;
	union {
		loop_fd_fn on_fd;
		loop_fn on_timer;
		loop_signal_fn on_signal;
	};
	void *opaque;
};

struct call {
	struct call *next;
	loop_fn fn;
	void *opaque;
};

struct loop {
	int epfd, wakefd;
	_Atomic bool stop;
	struct loop_source sources; /* ring */
	struct loop_source *dead;   /* freed after the outermost round */
	unsigned int depth;	    /* of rounds within rounds */
	struct call *due;	    /* taken, and not run yet */
	_Atomic(pthread_t) thread;  /* the one that goes round last */

	pthread_mutex_t lock; /* calls */
	struct call *first, **last;
};

static int add(struct loop *l, enum kind kind, int fd, uint32_t events,
	       void *opaque, struct loop_source **out)
{
	struct loop_source *s = calloc(1, sizeof(*s));
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (!s)
		return -ENOMEM;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int ret = -errno;

		free(s);
		return ret;
	}
	s->loop = l;
	s->kind = kind;
	s->fd = fd;
	s->opaque = opaque;
	s->next = &l->sources;
	s->prev = l->sources.prev;
	s->prev->next = s;
	l->sources.prev = s;
	*out = s;
	return 0;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn fn,
		void *opaque, struct loop_source **out)
{
	struct loop_source *s = NULL;
	int ret = add(l, SRC_FD, fd, events, opaque, &s);

	if (!s)
		return ret;
	s->on_fd = fn;
	if (out)
		*out = s;
	return 0;
}

int loop_mod_fd(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	return epoll_ctl(s->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev) < 0 ? -errno
								       : 0;
}

static struct timespec ts_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000ull),
				  .tv_nsec = (long)(ns % 1000000000ull) };
}

int loop_mod_timer(struct loop_source *s, uint64_t delay_ns, uint64_t period_ns)
{
	struct itimerspec it = {
		/* Zero would disarm: "at once" is one nanosecond. */
		.it_value = ts_of(delay_ns ? delay_ns : 1),
		.it_interval = ts_of(period_ns),
	};

	return timerfd_settime(s->fd, 0, &it, NULL) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *l, uint64_t delay_ns, uint64_t period_ns,
		   loop_fn fn, void *opaque, struct loop_source **out)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct loop_source *s = NULL;
	int ret;

	if (fd < 0)
		return -errno;
	ret = add(l, SRC_TIMER, fd, EPOLLIN, opaque, &s);
	if (!s)
		goto close;
	s->on_timer = fn;
	ret = loop_mod_timer(s, delay_ns, period_ns);
	if (ret < 0) {
		loop_remove(s);
		return ret;
	}
	if (out)
		*out = s;
	return 0;

close:
	close(fd);
	return ret;
}

int loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *opaque,
		    struct loop_source **out)
{
	struct loop_source *s = NULL;
	sigset_t set;
	int fd, ret;

	sigemptyset(&set);
	sigaddset(&set, signo);
	ret = -pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (ret < 0)
		return ret;
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = add(l, SRC_SIGNAL, fd, EPOLLIN, opaque, &s);
	if (!s) {
		close(fd);
		return ret;
	}
	s->on_signal = fn;
	if (out)
		*out = s;
	return 0;
}

void loop_remove(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	epoll_ctl(s->loop->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->kind != SRC_FD)
		close(s->fd);
	s->prev->next = s->next;
	s->next->prev = s->prev;
	/* An event for it may wait in this round's array. */
	s->dead = true;
	s->next = s->loop->dead;
	s->loop->dead = s;
}

int loop_call(struct loop *l, loop_fn fn, void *opaque)
{
	struct call *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct call){ .fn = fn, .opaque = opaque };
	pthread_mutex_lock(&l->lock);
	*l->last = c;
	l->last = &c->next;
	pthread_mutex_unlock(&l->lock);
	return eventfd_write(l->wakefd, 1) < 0 ? -errno : 0;
}

struct wait {
	loop_fn fn;
	void *opaque;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_and_wake(void *opaque)
{
	struct wait *w = opaque;

	w->fn(w->opaque);
	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

int loop_call_wait(struct loop *l, loop_fn fn, void *opaque)
{
	struct wait w = { .fn = fn,
			  .opaque = opaque,
			  .lock = PTHREAD_MUTEX_INITIALIZER,
			  .cond = PTHREAD_COND_INITIALIZER };
	int ret;

	if (pthread_equal(l->thread, pthread_self())) {
		fn(opaque);
		return 0;
	}
	ret = loop_call(l, run_and_wake, &w);
	if (ret < 0)
		return ret;
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	return 0;
}

struct question {
	int (*fn)(void *opaque);
	void *opaque;
	int ret;
};

static void answer(void *opaque)
{
	struct question *q = opaque;

	q->ret = q->fn(q->opaque);
}

int loop_ask(struct loop *l, int (*fn)(void *opaque), void *opaque)
{
	struct question q = { .fn = fn, .opaque = opaque };
	int ret = loop_call_wait(l, answer, &q);

	return ret < 0 ? ret : q.ret;
}

/* One that goes round itself has the others run in that round. */
static void run_due(struct loop *l)
{
	struct call *c;

	while ((c = l->due)) {
		l->due = c->next;
		c->fn(c->opaque);
		free(c);
	}
}

static void run_calls(struct loop *l)
{
	eventfd_t n;

	eventfd_read(l->wakefd, &n);
	pthread_mutex_lock(&l->lock);
	l->due = l->first;
	l->first = NULL;
	l->last = &l->first;
	pthread_mutex_unlock(&l->lock);
	run_due(l);
}

static void dispatch(struct loop_source *s, uint32_t events)
{
	struct signalfd_siginfo si;
	uint64_t n;

	switch (s->kind) {
	case SRC_FD: s->on_fd(s->fd, events, s->opaque); break;
	case SRC_TIMER:
		/* Re-armed meanwhile: nothing to read, nothing due. */
		if (read(s->fd, &n, sizeof(n)) == sizeof(n))
			s->on_timer(s->opaque);
		break;
	case SRC_SIGNAL:
		if (read(s->fd, &si, sizeof(si)) == sizeof(si))
			s->on_signal((int)si.ssi_signo, s->opaque);
		break;
	case SRC_WAKE: run_calls(s->loop); break;
	}
}

/* epoll_pwait2 is younger (Linux 5.11) than some kernels and sandboxes. */
static int wait_ns(struct loop *l, struct epoll_event *ev, uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000),
			       .tv_nsec = (long)(ns % 1000000000) };
	uint64_t ms = ns / 1000000 + (ns % 1000000 != 0);
	int n;

	if (ns == UINT64_MAX)
		return epoll_wait(l->epfd, ev, EVENTS_A_ROUND, -1);
	if (ns == 0)
		return epoll_wait(l->epfd, ev, EVENTS_A_ROUND, 0);
	n = epoll_pwait2(l->epfd, ev, EVENTS_A_ROUND, &ts, NULL);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(l->epfd, ev, EVENTS_A_ROUND,
			       ms > INT_MAX ? INT_MAX : (int)ms);
	return n;
}

int loop_once_ns(struct loop *l, uint64_t timeout_ns)
{
	struct epoll_event ev[EVENTS_A_ROUND];
	int n;

	l->thread = pthread_self();
	/* What the round around this one has taken wakes nobody any more. */
	if (l->due) {
		run_due(l);
		timeout_ns = 0;
	}
	n = wait_ns(l, ev, timeout_ns);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	l->depth++;
	for (int i = 0; i < n; i++) {
		struct loop_source *s = ev[i].data.ptr;

		if (!s->dead)
			dispatch(s, ev[i].events);
	}
	/* Events for them may wait in the array of a round around this one. */
	l->depth--;
	while (l->dead && !l->depth) {
		struct loop_source *s = l->dead;

		l->dead = s->next;
		free(s);
	}
	return 0;
}

int loop_once(struct loop *l, int timeout_ms)
{
	return loop_once_ns(l, timeout_ms < 0 ? UINT64_MAX
					      : (uint64_t)timeout_ms * 1000000);
}

int loop_run(struct loop *l)
{
	int ret = 0;

	while (!l->stop && ret == 0)
		ret = loop_once(l, -1);
	l->stop = false;
	return ret;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
	eventfd_write(l->wakefd, 1);
}

int loop_create(struct loop **out)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct loop_source *wake;
	int ret;

	if (!l)
		return -ENOMEM;
	l->sources.next = l->sources.prev = &l->sources;
	l->last = &l->first;
	pthread_mutex_init(&l->lock, NULL);

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		ret = -errno;
		goto free;
	}
	l->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (l->wakefd < 0) {
		ret = -errno;
		goto close_ep;
	}
	ret = add(l, SRC_WAKE, l->wakefd, EPOLLIN, NULL, &wake);
	if (ret < 0)
		goto close_wake;
	*out = l;
	return 0;

close_wake:
	close(l->wakefd);
close_ep:
	close(l->epfd);
free:
	pthread_mutex_destroy(&l->lock);
	free(l);
	return ret;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	while (l->sources.next != &l->sources)
		loop_remove(l->sources.next);
	while (l->dead) {
		struct loop_source *s = l->dead;

		l->dead = s->next;
		free(s);
	}
	while (l->first) {
		struct call *c = l->first;

		l->first = c->next;
		free(c);
	}
	close(l->epfd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
