#include "shadow/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "shadow/priv.h"
#include "shadow/sim_priv.h"

/* xorshift64* */
uint32_t sim_rand(struct sim *s, uint32_t below)
{
	s->rnd ^= s->rnd >> 12;
	s->rnd ^= s->rnd << 25;
	s->rnd ^= s->rnd >> 27;
	return (uint32_t)((s->rnd * 0x2545f4914f6cdd1dull) >> 33) % below;
}

void sim_tick(struct sim *s)
{
	bool other;

	vdev_lock(s->v);
	if (s->sh->standing) {
		shadow_stand_look(s->sh, &other);
		if (other)
			shadow_stand_down(s->sh, true);
	}
	vdev_unlock(s->v);
}

void sim_settle(struct sim *s)
{
	struct sim_guest *g = &s->g;

	sim_guest_kick(s);
	for (unsigned int i = 0; i < 8; i++) {
		sim_tick(s);
		while (sim_dev_transmit(s))
			;
		sim_dev_flush(s, 2 * SIM_SLOTS, true);
		shadow_sync(s->sh);
		while (sim_guest_poll(s, 64))
			;
	}
	if (g->tx_seq != s->dev.tx_seq || g->tx_clean != g->tx_use)
		sim_fail(s, "frames were not sent, or the driver not told",
			 g->tx_seq, s->dev.tx_seq);
	if (g->rx_seq != s->dev.rx_seq)
		sim_fail(s, "frames received were lost or doubled", g->rx_seq,
			 s->dev.rx_seq);
}

/* ---- the other host ---- */

/* Frames in the ring that the guest has not looked at yet. */
static unsigned int frames_waiting(struct sim *s)
{
	unsigned int n = 0;

	for (uint32_t i = s->g.rx_clean; i != s->g.rx_use;
	     i = (i + 1) % s->o.nrx) {
		struct sim_seen d = sim_look(s, i);

		if (!d.done)
			break;
		n += d.eop && !d.bad;
	}
	return n;
}

int sim_move(struct sim *src, struct sim *dst, struct shadow_drain *d)
{
	uint8_t vf[IGB_VFSTATE_MAX], fn[4096];
	struct igb_vf_state st;
	struct wire_out o;
	struct wire_in in;
	int ret = shadow_drain(src->sh, 0, &st, d, NULL);

	if (ret)
		return ret;
	sim_check(src);
	wire_out_init(&o, fn, sizeof(fn));
	vdev_save(src->v, &o);
	wire_in_init(&in, fn, wire_used(&o));
	ret = o.err ? o.err : vdev_load(dst->v, &in, NULL);
	wire_out_init(&o, vf, sizeof(vf));
	igb_vf_save(&st, &o);
	wire_in_init(&in, vf, wire_used(&o));
	memset(&st, 0xa5, sizeof(st));
	if (ret == 0)
		ret = o.err ? o.err : igb_vf_load(&st, &in, NULL);
	if (ret)
		return ret;

	memcpy(dst->fh.ram.guest, src->dest, SIM_RAM);
	dst->g = src->g;
	for (uint32_t i = 0; i < SIM_SLOTS; i++)
		dst->g.rx_used[i] = true;
	memcpy(dst->foreign_ref, src->foreign_ref, sizeof(dst->foreign_ref));
	dst->dev.tx_seq = src->dev.tx_seq;
	dst->dev.rx_seq = dst->g.rx_seq + frames_waiting(dst);

	/* The device sees no work before it may: it would act on it. */
	ret = shadow_adopt(dst->sh, &st, NULL);
	if (ret)
		return ret;
	if (sim_dev_receive(dst, 100) || sim_dev_transmit(dst))
		sim_fail(dst, "DMA before the start", 0, 0);
	return shadow_start(dst->sh, NULL);
}

/* ---- set up ---- */

/*
 * With threads a pause waits for the end of the guest's turn; from the
 * guest's own thread, that is from a tap, it counts as stopped.
 */
static int sim_pause(struct host *h)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (s->threads && !pthread_equal(pthread_self(), s->guest))
		pthread_mutex_lock(&s->turn);
	return 0;
}

static void sim_resume(struct host *h)
{
	struct sim *s = container_of(container_of(h, struct fake_host, h),
				     struct sim, fh);

	if (s->threads && !pthread_equal(pthread_self(), s->guest))
		pthread_mutex_unlock(&s->turn);
}

static void layout(struct sim *s)
{
	uint64_t at = 0x10000;
	uint32_t rx = s->o.nrx * IGB_DESC_SIZE, tx = s->o.ntx * IGB_DESC_SIZE;

	if (s->o.tight) {
		/* Rings, words and buffers side by side, pages shared. */
		s->rx_ring = at + 0x400;
		s->tx_ring = ALIGN_UP(s->rx_ring + rx, 128);
		s->foreign = s->tx_ring + tx;
		s->foreign_len = 200;
		s->head_word = ALIGN_UP(s->foreign + s->foreign_len, 16);
		at = ALIGN_UP(s->head_word + 16, 64);
	} else {
		s->rx_ring = at;
		s->tx_ring = ALIGN_UP(at + rx, PAGE_SIZE);
		s->head_word = ALIGN_UP(s->tx_ring + tx, PAGE_SIZE) + 0x40;
		at = ALIGN_UP(s->head_word, PAGE_SIZE);
	}
	for (unsigned int i = 0; i < 3 * SIM_SLOTS; i++, at += SIM_BSIZE)
		sim_give_buf(s, at);
}

int sim_init(struct sim *s, const struct sim_opts *o)
{
	pthread_mutexattr_t attr;
	int ret;

	memset(s, 0, sizeof(*s));
	s->o = *o;
	s->o.batch = MAX(s->o.batch, 1u);
	s->rnd = o->seed * 2 + 88172645463325252ull;
	s->dest = malloc(SIM_RAM);
	s->marked = bitmap_alloc(PAGES);
	s->truth = bitmap_alloc(PAGES);
	if (!s->dest || !s->marked || !s->truth)
		return -ENOMEM;
	ret = fake_host_init(&s->fh, SIM_RAM);
	if (ret)
		return ret;
	if (o->unit)
		s->fh.ram.page = o->unit;
	s->ops = *s->fh.h.ops;
	s->ops.mark_dirty = sim_mark_dirty;
	s->ops.pause = sim_pause;
	s->ops.resume = sim_resume;
	s->fh.h.ops = &s->ops;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&s->turn, &attr);
	pthread_mutex_init(&s->chip, &attr);
	pthread_mutexattr_destroy(&attr);

	ret = fake_pdev_open(&s->fp, IGB_VENDOR_INTEL, IGB_DEV_82576_VF);
	if (ret)
		return ret;
	/* Every access must reach sim_on_write(). */
	s->fp->nomap[0] = 0xf;
	s->fp->on_write = sim_on_write;
	s->fp->opaque = s;
	s->dev.tx.tx = true;
	ret = loop_create(&s->loop);
	if (ret == 0)
		ret = vdev_create(&s->v, "sim", vdev_model_find("igb/82576"),
				  &s->fh.h, s->loop, NULL);
	if (ret)
		return ret;
	fake_plug(&s->fh, vdev_func(s->v));
	ret = vdev_bind(s->v, &s->fp->p, VDEV_SOFTWARE, NULL);
	if (ret == 0)
		fake_msix_on(&s->fh, vdev_model_find("igb/82576"));
	if (ret == 0)
		ret = shadow_create(&s->sh, s->v, &o->shadow, NULL);
	layout(s);
	return ret;
}

void sim_fini(struct sim *s)
{
	shadow_destroy(s->sh);
	vdev_destroy(s->v);
	loop_destroy(s->loop);
	fake_host_fini(&s->fh);
	pthread_mutex_destroy(&s->turn);
	pthread_mutex_destroy(&s->chip);
	free(s->dest);
	free(s->marked);
	free(s->truth);
}
