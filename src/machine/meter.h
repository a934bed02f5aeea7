/*
 * What a machine's VFs have carried, sampled by whoever calls: nothing of it
 * runs while nobody moves the machine.
 *
 * All calls are for the loop's thread, but meter_copy().
 */
#ifndef MACHINE_METER_H
#define MACHINE_METER_H

#include "machine/machine.h"
#include "migrate/traffic.h"

struct meter;

int meter_create(struct meter **out, struct machine *m);
void meter_destroy(struct meter *mt); /* NULL is fine */

/* Forget everything and take the first sample. */
void meter_start(struct meter *mt);
/* One more, at the monotonic clock's time; nothing before start. */
struct mig_sample meter_sample(struct meter *mt);
/* The devices are about to go: no more samples. */
void meter_stop(struct meter *mt);

/* All samples in order, the meter's own until the next call of another. */
size_t meter_samples(const struct meter *mt, const struct mig_sample **out);

/*
 * How far a counter of 32 bits has come in 'ns': it rolls over, or was reset
 * if nothing that carries 'per_s' at most could have brought it there.
 */
uint64_t meter_since(uint32_t now, uint32_t was, double per_s, uint64_t ns);

/*
 * start, and from then on samples by itself, 'max' at most in 'ns'; stop
 * ends that, too.
 */
int meter_run(struct meter *mt, uint64_t ns, size_t max);
/* From any thread: at most 'max' of them, times from the first one on. */
size_t meter_copy(struct meter *mt, struct mig_sample *out, size_t max);

#endif
