/*
 * What the parts of the simulation share: memory as the guest has it, the
 * judge, and the rings as the driver reads them.
 */
#ifndef SHADOW_SIM_PRIV_H
#define SHADOW_SIM_PRIV_H

#include "shadow/sim.h"

#define PAGES (SIM_RAM / PAGE_SIZE)

/* Byte 'i' of frame 'seq' of one direction. */
static inline uint8_t sim_frame_byte(bool tx, uint64_t seq, uint32_t i)
{
	return (uint8_t)((seq * 131 + i * 7 + (tx ? 89 : 0)) ^ (seq >> 8));
}

/* Lengths come from the number, so that both ends know them. */
static inline uint32_t sim_tx_len(uint64_t seq)
{
	return 60 + (uint32_t)(seq * 2654435761u >> 7) % 1400;
}

static inline void *sim_ptr(struct sim *s, uint64_t gpa)
{
	return (uint8_t *)s->fh.ram.guest + gpa;
}

static inline union igb_desc *sim_rx_slot(struct sim *s, uint32_t i)
{
	return sim_ptr(s, s->rx_ring + (uint64_t)i * IGB_DESC_SIZE);
}

static inline union igb_desc *sim_tx_slot(struct sim *s, uint32_t i)
{
	return sim_ptr(s, s->tx_ring + (uint64_t)i * IGB_DESC_SIZE);
}

static inline uint32_t sim_next(const struct sim_queue *q, uint32_t i)
{
	return (i + 1) % q->n;
}

/* sim_log.c: only the first fault is kept. */
void sim_fail(struct sim *s, const char *what, uint64_t a, uint64_t b);
void sim_wrote(struct sim *s, uint64_t gpa, uint64_t len);
void sim_mark_dirty(struct host *h, gpa_t gpa, uint64_t len);

/* sim_dev.c: behind every write to a register of the fake device. */
void sim_on_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
		  uint32_t val);

/* sim_guest.c: what a driver reads in a receive slot. */
struct sim_seen {
	bool done, eop, bad;
	uint32_t len, hdr;
};
struct sim_seen sim_look(struct sim *s, uint32_t i);
void sim_give_buf(struct sim *s, uint64_t b);

#endif
