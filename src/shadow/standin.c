/*
 * Doorbells without exits.
 *
 * A guest that sends fast leaves for us at every packet.  While it does, its
 * doorbell pages are memory of ours: its writes land there, and the poller
 * takes them from there.  Registers it reads are as we left them a moment
 * ago; a write to any but a tail ends the arrangement, and is then done as
 * if it had exited.  Resets go through the mailbox page or a function-level
 * reset, which are never replaced.
 *
 * What is lost is the order of writes between two looks.  An access that exits
 * looks first (follow.c): a driver that switches a queue off, and reads a
 * register of another page to have that written, has it done.  igbvf does,
 * and waits 10 ms besides.  A queue found set up anew was off in between.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "shadow/priv.h"

/* Registers of a queue, in the order to write them; the tail comes last. */
static const struct {
	uint32_t reg;
	bool rx, tx;
} words[] = {
	{ IGB_Q_BAL, true, true },   { IGB_Q_BAH, true, true },
	{ IGB_Q_LEN, true, true },   { IGB_Q_SRRCTL, true, false },
	{ IGB_Q_DCA, true, true },   { IGB_Q_WBAL, false, true },
	{ IGB_Q_WBAH, false, true }, { IGB_Q_HEAD, true, true },
	{ IGB_Q_DCTL, true, true },  { IGB_Q_TAIL, true, true },
};

static bool has(const struct ring *r, size_t w)
{
	return r->tx ? words[w].tx : words[w].rx;
}

static uint32_t *word(struct shadow *s, const struct ring *r, uint32_t reg)
{
	uint32_t off = shadow_reg(r, reg) % PAGE_SIZE;

	return (uint32_t *)(s->stand_in + (r->tx ? PAGE_SIZE : 0) + off);
}

static uint32_t *seen(struct shadow *s, const struct ring *r, uint32_t reg)
{
	return &s->seen[r - s->ring][reg / 4];
}

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void show(struct shadow *s, const struct ring *r, uint32_t reg,
		 uint32_t v)
{
	*seen(s, r, reg) = v;
	__atomic_store_n(word(s, r, reg), v, __ATOMIC_RELEASE);
}

int shadow_stand_in(struct shadow *s)
{
	int ret;

	if (s->standing)
		return 0;
	if (!s->stand_in) {
		void *p = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return -errno;
		s->stand_in = p;
	}
	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
			if (has(r, w))
				show(s, r, words[w].reg,
				     shadow_ring_read(s, r, words[w].reg));
		}
	}
	ret = vdev_page_stand_in(s->v, 0, IGBVF_PAGE_RX, s->stand_in);
	if (ret == 0)
		ret = vdev_page_stand_in(s->v, 0, IGBVF_PAGE_TX,
					 s->stand_in + PAGE_SIZE);
	s->standing = true;
	if (ret)
		shadow_stand_down(s, false);
	else
		s->stats.stand_ins++;
	return ret;
}

/* Anything but the tail of a ring that is on. */
static bool other_written(struct shadow *s)
{
	bool other = false;

	for (unsigned int k = 0; k < NRINGS; k++) {
		const struct ring *r = &s->ring[k];

		for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
			uint32_t reg = words[w].reg;

			if (has(r, w) && (reg != IGB_Q_TAIL || !r->slot))
				other |= load(word(s, r, reg)) !=
					 *seen(s, r, reg);
		}
	}
	return other;
}

static unsigned int pass_on_tails(struct shadow *s, const uint32_t *tail)
{
	unsigned int n = 0;

	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		if (!r->slot || tail[k] == *seen(s, r, IGB_Q_TAIL))
			continue;
		*seen(s, r, IGB_Q_TAIL) = tail[k];
		shadow_tail(s, r, tail[k]);
		n++;
	}
	return n;
}

/*
 * Looks backwards, acts forwards: a guest gives receive buffers back and then
 * sends the word that there is room.  Transmit tails are looked at first and
 * passed on last, or that word would overtake the buffers, and what is sent in
 * answer finds none.  (Receive rings come first in s->ring.)
 *
 * For the same reason tails come before all else: one that belongs to a ring
 * set up anew is not looked at without what set it up.  None is passed on
 * then; the caller stands down, which does all of it in order.
 */
unsigned int shadow_stand_look(struct shadow *s, bool *other)
{
	uint32_t tail[NRINGS];
	unsigned int n;

	for (unsigned int k = NRINGS; k--;)
		tail[k] = load(word(s, &s->ring[k], IGB_Q_TAIL));
	*other = other_written(s);
	if (*other)
		return 0;
	n = pass_on_tails(s, tail);
	for (unsigned int k = 0; k < NRINGS; k++) {
		struct ring *r = &s->ring[k];

		if (r->slot && (!r->tx || ring_inflight(r)) &&
		    load(word(s, r, IGB_Q_HEAD)) == *seen(s, r, IGB_Q_HEAD))
			show(s, r, IGB_Q_HEAD,
			     shadow_ring_read(s, r, IGB_Q_HEAD));
	}
	return n;
}

/* Whether a queue that is on was given what only one that is off takes. */
static bool set_up_anew(struct shadow *s, const struct ring *r)
{
	static const uint32_t regs[] = { IGB_Q_BAL, IGB_Q_BAH, IGB_Q_LEN,
					 IGB_Q_HEAD };
	bool anew = false;

	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		anew |= load(word(s, r, regs[i])) != *seen(s, r, regs[i]);
	return anew && *seen(s, r, IGB_Q_DCTL) & IGB_DCTL_ENABLE;
}

/* Do what the guest has written to one queue since. */
static void replay(struct shadow *s, struct ring *r)
{
	uint32_t ctl = load(word(s, r, IGB_Q_DCTL));
	bool anew = set_up_anew(s, r);

	/*
	 * Off before anything: the rest is meant for a queue that is off.
	 * It may be on again, with a tail that only looks like the old one.
	 */
	if (anew ||
	    (ctl != *seen(s, r, IGB_Q_DCTL) && !(ctl & IGB_DCTL_ENABLE))) {
		shadow_ring_write(s, r, IGB_Q_DCTL, ctl & ~IGB_DCTL_ENABLE);
		*seen(s, r, IGB_Q_DCTL) = ctl & ~IGB_DCTL_ENABLE;
	}
	if (anew)
		*seen(s, r, IGB_Q_TAIL) = UINT32_MAX;
	for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
		uint32_t reg = words[w].reg;
		uint32_t v = has(r, w) ? load(word(s, r, reg)) : 0;

		if (has(r, w) && v != *seen(s, r, reg))
			shadow_ring_write(s, r, reg, v);
	}
}

void shadow_stand_down(struct shadow *s, bool keep)
{
	int ret, other;

	if (!s->standing)
		return;
	s->standing = false;
	ret = vdev_page_stand_in(s->v, 0, IGBVF_PAGE_RX, NULL);
	other = vdev_page_stand_in(s->v, 0, IGBVF_PAGE_TX, NULL);
	/* A guest that still rings a bell nobody hears must not move. */
	if (ret || other)
		s->unfit = true;
	for (unsigned int k = 0; keep && k < NRINGS; k++)
		replay(s, &s->ring[k]);
}
