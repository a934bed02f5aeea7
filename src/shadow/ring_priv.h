/*
 * Inside of a ring; for the files ring*.c only.
 */
#ifndef SHADOW_RING_PRIV_H
#define SHADOW_RING_PRIV_H

#include "base/util.h"
#include "shadow/ring.h"

#define LEGACY_DD  (1ull << 32)
#define LEGACY_EOP (1ull << 33)
#define LEGACY_RXE (1ull << 47)

static inline uint32_t ring_next(const struct ring *r, uint32_t i)
{
	return ++i == r->n ? 0 : i;
}

static inline uint32_t ring_before(const struct ring *r, uint32_t i,
				   uint32_t by)
{
	return i >= by ? i - by : i + r->n - by;
}

/* Steps from 'from' to 'to', forward. */
static inline uint32_t ring_dist(const struct ring *r, uint32_t from,
				 uint32_t to)
{
	return to >= from ? to - from : to + r->n - from;
}

static inline uint32_t ring_guest_index(const struct ring *r, uint32_t dev)
{
	uint32_t g = dev + r->off;

	return g >= r->n ? g - r->n : g;
}

static inline union igb_desc *ring_dev_slot(const struct ring *r, uint32_t i)
{
	return &r->dev[ring_dev_index(r, i)];
}

/* The other side writes these words while we look: each is read once. */
static inline uint64_t ring_load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void ring_store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline bool ring_is_done(const struct ring *r, uint64_t qw1)
{
	if (r->tx)
		return qw1 >> 32 & IGB_TXD_DD;
	return qw1 & (r->legacy ? LEGACY_DD : IGB_RXD_DD);
}

static inline bool ring_is_eop(const struct ring *r, uint64_t qw1)
{
	return qw1 & (r->legacy ? LEGACY_EOP : IGB_RXD_EOP);
}

static inline uint64_t ring_without_dd(const struct ring *r, uint64_t qw1)
{
	if (r->tx)
		return qw1 & ~((uint64_t)IGB_TXD_DD << 32);
	return qw1 & ~(r->legacy ? LEGACY_DD : IGB_RXD_DD);
}

void ring_mark(struct ring *r, uint64_t gpa, uint64_t len);
/* Slots [from, from + count), which may wrap. */
void ring_mark_slots(struct ring *r, uint32_t from, uint32_t count);
/* The head word: the guest's, once the device has written its own. */
unsigned int ring_complete_wb(struct ring *r);

#endif
