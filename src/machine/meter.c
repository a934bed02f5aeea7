#include "machine/meter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/util.h"
#include "netdev/netdev.h"

#define SAMPLES_MAX 4096

/*
 * Registers have 32 bits and roll over: bytes of a 10 Gb/s port in less than
 * four seconds.  A difference that no port of the family could have carried
 * is a counter that was reset with its function, and counts from zero.
 */
#define FRAMES_PER_S 40e6
#define BYTES_PER_S  2.5e9
#define SLACK_NS     20000000ull

struct meter {
	struct machine *m;
	struct netdev_counts last[MACHINE_DEVS_MAX];
	struct mig_sample sum;
	struct loop_source *timer;
	size_t max; /* of a run */
	bool on;

	pthread_mutex_t lock; /* those two, for meter_copy() */
	struct mig_sample sample[SAMPLES_MAX];
	size_t n;
};

int meter_create(struct meter **out, struct machine *m)
{
	struct meter *mt = calloc(1, sizeof(*mt));

	if (!mt)
		return -ENOMEM;
	mt->m = m;
	pthread_mutex_init(&mt->lock, NULL);
	*out = mt;
	return 0;
}

void meter_destroy(struct meter *mt)
{
	if (!mt)
		return;
	meter_stop(mt);
	pthread_mutex_destroy(&mt->lock);
	free(mt);
}

uint64_t meter_since(uint32_t now, uint32_t was, double per_s, uint64_t ns)
{
	uint32_t d = now - was;

	return d > per_s * (double)(ns + SLACK_NS) / 1e9 ? now : d;
}

static void add(struct meter *mt, uint64_t ns)
{
	for (unsigned int i = 0; i < machine_ndevs(mt->m); i++) {
		struct netdev_counts *was = &mt->last[i], now;

		netdev_counts(machine_dev(mt->m, i)->nd, &now);
		/* A function that is gone answers with all ones. */
		if (now.frames[0] == UINT32_MAX && now.bytes[0] == UINT32_MAX)
			continue;
		for (unsigned int way = 0; way < 2; way++) {
			mt->sum.frames +=
				meter_since(now.frames[way], was->frames[way],
					    FRAMES_PER_S, ns);
			mt->sum.bytes +=
				meter_since(now.bytes[way], was->bytes[way],
					    BYTES_PER_S, ns);
		}
		*was = now;
	}
}

/* A migration may take hours: then every other sample says enough. */
static void thin(struct meter *mt)
{
	for (size_t i = 1; i < SAMPLES_MAX / 2; i++)
		mt->sample[i] = mt->sample[2 * i];
	mt->n = SAMPLES_MAX / 2;
}

static void keep(struct meter *mt)
{
	pthread_mutex_lock(&mt->lock);
	if (mt->n == SAMPLES_MAX)
		thin(mt);
	mt->sample[mt->n++] = mt->sum;
	pthread_mutex_unlock(&mt->lock);
}

void meter_start(struct meter *mt)
{
	meter_stop(mt);
	pthread_mutex_lock(&mt->lock);
	mt->n = 0;
	pthread_mutex_unlock(&mt->lock);
	mt->sum = (struct mig_sample){ .at_ns = now_ns() };
	for (unsigned int i = 0; i < machine_ndevs(mt->m); i++)
		netdev_counts(machine_dev(mt->m, i)->nd, &mt->last[i]);
	mt->on = true;
	keep(mt);
}

struct mig_sample meter_sample(struct meter *mt)
{
	uint64_t now = now_ns();

	if (!mt->on)
		return (struct mig_sample){ 0 };
	add(mt, now - mt->sum.at_ns);
	mt->sum.at_ns = now;
	keep(mt);
	return mt->sum;
}

void meter_stop(struct meter *mt)
{
	loop_remove(mt->timer);
	mt->timer = NULL;
	mt->on = false;
}

size_t meter_samples(const struct meter *mt, const struct mig_sample **out)
{
	*out = mt->sample;
	return mt->n;
}

static void on_timer(void *opaque)
{
	struct meter *mt = opaque;

	meter_sample(mt);
	if (mt->n >= mt->max)
		meter_stop(mt);
}

int meter_run(struct meter *mt, uint64_t ns, size_t max)
{
	uint64_t period = MAX(ns / (max - 1), 1ull);

	meter_start(mt);
	mt->max = max;
	return loop_add_timer(machine_loop(mt->m), period, period, on_timer, mt,
			      &mt->timer);
}

size_t meter_copy(struct meter *mt, struct mig_sample *out, size_t max)
{
	size_t n;

	pthread_mutex_lock(&mt->lock);
	n = MIN(mt->n, max);
	for (size_t i = 0; i < n; i++) {
		out[i] = mt->sample[i];
		out[i].at_ns -= mt->sample[0].at_ns;
	}
	pthread_mutex_unlock(&mt->lock);
	return n;
}
