#include "machine/throttle.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define PERIOD_NS 20000000ull

struct throttle {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	struct vm *vm;
	unsigned int percent;
	bool running, quit;
};

/* Sleeps with the lock; wakes early when something changed. */
static void nap(struct throttle *t, uint64_t ns)
{
	struct timespec ts;
	uint64_t at;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	at = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec + ns;
	ts.tv_sec = (time_t)(at / 1000000000ull);
	ts.tv_nsec = (long)(at % 1000000000ull);
	pthread_cond_timedwait(&t->changed, &t->lock, &ts);
}

static void *work(void *opaque)
{
	struct throttle *t = opaque;

	pthread_mutex_lock(&t->lock);
	while (!t->quit && t->percent) {
		uint64_t held = PERIOD_NS * t->percent / 100;

		if (vm_pause(t->vm) == 0) {
			nap(t, held);
			vm_resume(t->vm);
		}
		if (!t->quit && t->percent)
			nap(t, PERIOD_NS - held);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int throttle_create(struct throttle **out)
{
	struct throttle *t = calloc(1, sizeof(*t));
	pthread_condattr_t ca;

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&t->changed, &ca);
	pthread_condattr_destroy(&ca);
	*out = t;
	return 0;
}

void throttle_set(struct throttle *t, struct vm *vm, unsigned int percent)
{
	pthread_mutex_lock(&t->lock);
	t->vm = vm;
	t->percent = percent > 99 ? 99 : percent;
	pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);

	if (t->percent && !t->running)
		t->running = pthread_create(&t->thread, NULL, work, t) == 0;
	if (!t->percent && t->running) {
		pthread_join(t->thread, NULL);
		t->running = false;
	}
}

void throttle_destroy(struct throttle *t)
{
	if (!t)
		return;
	throttle_set(t, t->vm, 0);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
