#include "migrate/pace.h"

#include <time.h>

#include "base/util.h"

/* As much as one section with all of its pages, more or less. */
#define BURST (256u << 10)

#define NAP_NS 20000000ull /* then 'stop' is looked at */
/* How often a line that is busy is looked at: about a ninth too late. */
#define LOOK_MIN_NS 20000ull
#define LOOK_MAX_NS 1000000ull

void pace_init(struct pace *p, uint64_t rate, const _Atomic bool *stop)
{
	*p = (struct pace){ .stop = stop, .rate = rate };
	pthread_mutex_init(&p->lock, NULL);
}

void pace_fini(struct pace *p)
{
	pthread_mutex_destroy(&p->lock);
}

void pace_set(struct pace *p, uint64_t rate)
{
	atomic_store(&p->rate, rate);
}

bool pace_capped(const struct pace *p)
{
	return atomic_load_explicit(&p->rate, memory_order_relaxed) != 0;
}

static void set_busy(struct pace_line *l, bool busy)
{
	struct pace *p = l->pace;

	if (l->busy == busy)
		return;
	l->busy = busy;
	pthread_mutex_lock(&p->lock);
	if (busy && p->busy++ == 0)
		p->since = now_ns();
	if (!busy && --p->busy == 0)
		p->busy_ns += now_ns() - p->since;
	pthread_mutex_unlock(&p->lock);
}

static void wait_until(struct pace_line *l, uint64_t at)
{
	uint64_t t0 = now_ns(), now = t0;

	while (now < at && !atomic_load(l->pace->stop)) {
		struct timespec ts = { 0 };
		uint64_t nap = NAP_NS;

		if (l->busy && chan_unsent(l->chan) == 0)
			set_busy(l, false);
		if (l->busy)
			nap = MIN(MAX((now - t0) / 8, LOOK_MIN_NS),
				  LOOK_MAX_NS);
		ts.tv_nsec = (long)MIN(nap, at - now);
		nanosleep(&ts, NULL);
		now = now_ns();
	}
}

void pace_begin(struct pace_line *l)
{
	if (pace_capped(l->pace))
		set_busy(l, true);
}

void pace_book(struct pace_line *l, uint64_t n)
{
	struct pace *p = l->pace;
	uint64_t bw = atomic_load(&p->rate), at;

	if (!bw)
		return;
	pthread_mutex_lock(&p->lock);
	at = p->free_at;
	p->free_at =
		MAX(at, now_ns()) + (uint64_t)((double)n * 1e9 / (double)bw);
	pthread_mutex_unlock(&p->lock);
	if (l->burst && l->burst + n > BURST) {
		wait_until(l, at);
		l->burst = 0;
	}
	l->burst += n;
	set_busy(l, true);
}

void pace_end(struct pace_line *l)
{
	struct pace *p = l->pace;
	uint64_t at;

	if (!pace_capped(p))
		return;
	pthread_mutex_lock(&p->lock);
	at = p->free_at;
	pthread_mutex_unlock(&p->lock);
	wait_until(l, at);
	l->burst = 0;
	set_busy(l, false);
}

uint64_t pace_busy_ns(const struct pace *p)
{
	return p->busy_ns;
}
