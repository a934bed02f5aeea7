/*
 * The adaptive poller, for guests that look at their rings without ever
 * taking an interrupt or writing a tail.
 *
 * It runs at its longest interval as long as interrupts bring the work, and
 * goes down to the shortest within a few rounds once it finds work that no
 * interrupt announced.  At a slow pace it also looks whether the guest has
 * routed its interrupts elsewhere and whether the device has dropped a
 * queue on its own (a reset by the PF), which no trap tells.
 */
#include <errno.h>
#include <sys/prctl.h>

#include "base/util.h"
#include "shadow/priv.h"

#define SHORTEST_NS 50000ull
#define LONGEST_NS  5000000ull
#define LOOK_NS	    10000000ull

/* Doorbells stop to exit above this many a second, and exit again after. */
#define TAILS_PER_S 4000u
#define RATE_NS	    2000000ull
#define QUIET_NS    20000000ull
#define STANDING_NS 100000ull /* longest interval while they do not */

static uint64_t shortest(const struct shadow *s)
{
	return s->opts.poll_ns ? s->opts.poll_ns : SHORTEST_NS;
}

/* Vectors the guest has come to use since; what they missed is made up. */
static void follow_vectors(struct shadow *s)
{
	bool had[IGB_VF_VECTORS];

	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++)
		had[i] = s->vec[i].taken;
	shadow_take_vectors(s);
	for (unsigned int i = 0; i < IGB_VF_VECTORS; i++) {
		if (s->vec[i].taken && !had[i])
			vdev_irq_inject(s->v, i);
	}
}

/* A queue that is off by itself does no more DMA. */
static uint32_t gone(struct shadow *s)
{
	uint32_t set = 0;

	for (unsigned int k = 0; k < NRINGS; k++) {
		const struct ring *r = &s->ring[k];

		if (r->slot &&
		    !(vdev_reg_read(s->v, shadow_reg(r, IGB_Q_DCTL)) &
		      IGB_DCTL_ENABLE))
			set |= shadow_bit(k);
	}
	return set;
}

/* Take what the guest has rung where no exit tells; returns the bells. */
static unsigned int look_at_bells(struct shadow *s, uint64_t now)
{
	struct poller *p = &s->poll;
	unsigned int n = 0;
	bool other = false;

	if (s->standing) {
		n = shadow_stand_look(s, &other);
		if (n)
			p->busy = now;
		if (other || now - p->busy > QUIET_NS)
			shadow_stand_down(s, true);
		p->tails = s->tails;
		p->rated = now;
		return n;
	}
	if (now - p->rated < RATE_NS)
		return 0;
	if (!s->opts.trap &&
	    (s->tails - p->tails) * 1000000000ull / (now - p->rated) >
		    TAILS_PER_S) {
		p->busy = now;
		shadow_stand_in(s);
	}
	p->tails = s->tails;
	p->rated = now;
	return 0;
}

static void pace(struct shadow *s, bool unannounced)
{
	struct poller *p = &s->poll;
	uint64_t min = shortest(s);
	uint64_t max = MAX(s->standing ? STANDING_NS : LONGEST_NS, min);

	p->interval = unannounced ? MAX(p->interval / 2, min)
				  : p->interval + p->interval / 16;
	p->interval = MIN(p->interval, max);
}

/* Returns whether there is something to do that needs the vCPUs stopped. */
static bool round_locked(struct shadow *s)
{
	struct poller *p = &s->poll;
	uint64_t now = now_ns();
	uint64_t irqs = s->stats.irqs;
	unsigned int n, bells;

	if (s->drained) {
		p->interval = MAX(LONGEST_NS, shortest(s));
		return false;
	}
	bells = look_at_bells(s, now);
	n = shadow_sync_locked(s);
	s->stats.polls++;
	s->stats.polls_hit += n != 0;
	if (n && irqs == p->irqs)
		follow_vectors(s);
	pace(s, bells || (n && irqs == p->irqs));
	p->irqs = irqs;
	if (s->leave && !shadow_held(s))
		return true;
	if (now - p->looked < LOOK_NS)
		return false;
	p->looked = now;
	follow_vectors(s);
	return gone(s) != 0;
}

/* Merging stops the vCPUs, which is not for a thread that holds the lock. */
static void settle(struct shadow *s)
{
	uint32_t set;

	if (s->host->ops->pause(s->host) < 0)
		return;
	vdev_lock(s->v);
	if (s->up && !s->drained) {
		shadow_stand_down(s, true);
		shadow_sync_locked(s);
		set = gone(s);
		if (set) {
			shadow_drop(s, set, false);
			s->stats.resets++;
		}
		if (s->leave && !shadow_held(s))
			shadow_release_locked(s);
	}
	vdev_unlock(s->v);
	s->host->ops->resume(s->host);
}

static bool stopped(struct poller *p, uint64_t ns)
{
	uint64_t until = now_ns() + ns;
	const struct timespec ts = {
		.tv_sec = (time_t)(until / 1000000000),
		.tv_nsec = (long)(until % 1000000000),
	};
	bool stop;

	pthread_mutex_lock(&p->lock);
	while (!p->stop &&
	       pthread_cond_timedwait(&p->wake, &p->lock, &ts) != ETIMEDOUT)
		;
	stop = p->stop;
	pthread_mutex_unlock(&p->lock);
	return stop;
}

static void *poll_main(void *opaque)
{
	struct shadow *s = opaque;
	uint64_t ns = shortest(s);

	/* The default slack is as long as our shortest interval. */
	prctl(PR_SET_TIMERSLACK, 1000);
	while (!stopped(&s->poll, ns)) {
		bool more;

		vdev_lock(s->v);
		more = s->up && round_locked(s);
		ns = s->poll.interval;
		vdev_unlock(s->v);
		if (more)
			settle(s);
	}
	return NULL;
}

int shadow_poll_start(struct shadow *s)
{
	struct poller *p = &s->poll;
	int ret;

	if (s->opts.poll_ns == SHADOW_POLL_OFF)
		return 0;
	shadow_poll_stop(s);
	/* Engaged already: the guest rings, and somebody may ask. */
	vdev_lock(s->v);
	p->interval = MAX(LONGEST_NS / 8, shortest(s));
	p->irqs = 0;
	p->looked = now_ns();
	p->rated = p->looked;
	p->tails = s->tails;
	vdev_unlock(s->v);
	p->stop = false;
	ret = -pthread_create(&p->thread, NULL, poll_main, s);
	p->started = ret == 0;
	return ret;
}

void shadow_poll_quit(struct shadow *s)
{
	struct poller *p = &s->poll;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void shadow_poll_stop(struct shadow *s)
{
	if (!s->poll.started)
		return;
	shadow_poll_quit(s);
	pthread_join(s->poll.thread, NULL);
	s->poll.started = false;
}
