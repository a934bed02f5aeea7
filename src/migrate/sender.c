#include "migrate/sender.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "migrate/pace.h"
#include "migrate/proto.h"
#include "migrate/ram.h"

struct worker {
	struct sender *s;
	unsigned int index;
	struct chan *chan;
	struct pace_line line;
	struct ram_codec *codec;
	pthread_t thread;
	uint64_t sections; /* on this channel, in all */
	bool started;
};

struct sender {
	struct sender_config cfg;
	struct worker w[MIG_CHANNELS_MAX];

	pthread_mutex_t lock;
	pthread_cond_t go, done;
	uint64_t round;	   /* number of the current one */
	unsigned int busy; /* workers still at it */
	bool quit;
	int err; /* the first failure */
	const uint64_t *todo;
	uint64_t t0;

	_Atomic bool stop; /* a failure: all go home */
	_Atomic uint64_t pages, zero_pages, bytes, again, same;
	uint64_t bytes0, busy0; /* at the round's start */
	struct pace pace;
};

/* Bits [first, first + 64) of a map; those outside [0, n) are 0. */
static uint64_t bits_at(const uint64_t *map, int64_t first, uint64_t n)
{
	uint64_t mask = 0;

	if (first >= 0 && first % 64 == 0 && (uint64_t)first + 64 <= n)
		return map[first / 64];
	for (int64_t i = 0; i < 64; i++)
		if (first + i >= 0 && (uint64_t)(first + i) < n &&
		    bitmap_test(map, (size_t)(first + i)))
			mask |= 1ull << i;
	return mask;
}

static int send_chunk(struct worker *w, uint64_t gpa, const void *src,
		      uint64_t mask, uint64_t *sums)
{
	struct ram_again again = { .sums = sums };
	struct sender *s = w->s;
	unsigned int zeros;
	uint8_t *payload;
	size_t len;
	int ret;

	pace_begin(&w->line);
	ram_codec_compare(w->codec, sums ? &again : NULL);
	ret = ram_encode(w->codec, gpa, src, mask, STREAM_HEADER, &payload,
			 &len, &zeros);
	if (ret < 0)
		return ret;
	pace_book(&w->line, len + STREAM_HEADER);
	stream_header(payload - STREAM_HEADER, SEC_RAM, 1, STREAM_MANDATORY,
		      payload, (uint32_t)len);
	ret = chan_send(w->chan, payload - STREAM_HEADER, len + STREAM_HEADER);
	if (ret < 0)
		return ret;
	w->sections++;
	atomic_fetch_add(&s->pages, (uint64_t)__builtin_popcountll(mask));
	atomic_fetch_add(&s->zero_pages, zeros);
	atomic_fetch_add(&s->again, again.pages);
	atomic_fetch_add(&s->same, again.same);
	atomic_fetch_add(&s->bytes, len + STREAM_HEADER);
	return 0;
}

static int send_region(struct worker *w, const struct host_ram *r,
		       const uint64_t *todo, uint64_t base, uint64_t *chunk)
{
	uint64_t pages = r->size >> PAGE_SHIFT;
	uint64_t *sums = w->s->cfg.sums;
	uint64_t first = r->gpa.v & ~(uint64_t)(RAM_CHUNK_SIZE - 1);

	for (uint64_t gpa = first; gpa < r->gpa.v + r->size;
	     gpa += RAM_CHUNK_SIZE, (*chunk)++) {
		int64_t page = ((int64_t)gpa - (int64_t)r->gpa.v) >> PAGE_SHIFT;
		uint64_t mask = 0;
		int ret;

		if (*chunk % w->s->cfg.nchan != w->index)
			continue;
		if (atomic_load(&w->s->stop))
			return -ECANCELED;
		/* The region's own bits, wherever it starts in the map. */
		if (page >= 0)
			mask = bits_at(todo, (int64_t)base + page,
				       base + pages);
		else
			mask = bits_at(todo, (int64_t)base, base + pages)
			       << -page;
		if (!mask)
			continue;
		ret = send_chunk(
			w, gpa,
			(const uint8_t *)r->guest + page * (int64_t)PAGE_SIZE,
			mask, sums ? sums + (int64_t)base + page : NULL);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int send_share(struct worker *w)
{
	const struct sender_config *c = &w->s->cfg;
	uint64_t base = 0, chunk = 0;

	for (size_t i = 0; i < c->nram; i++) {
		int ret = send_region(w, &c->ram[i], w->s->todo, base, &chunk);

		if (ret < 0)
			return ret;
		base += c->ram[i].size >> PAGE_SHIFT;
	}
	return 0;
}

static void *work(void *opaque)
{
	struct worker *w = opaque;
	struct sender *s = w->s;
	uint64_t round = 0;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		int ret;

		while (!s->quit && s->round == round)
			pthread_cond_wait(&s->go, &s->lock);
		if (s->quit)
			break;
		round = s->round;
		pthread_mutex_unlock(&s->lock);

		ret = send_share(w);
		if (ret == 0)
			pace_end(&w->line);

		pthread_mutex_lock(&s->lock);
		if (ret < 0 && !s->err)
			s->err = ret;
		if (ret < 0)
			atomic_store(&s->stop, true);
		if (--s->busy == 0)
			pthread_cond_signal(&s->done);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int sender_create(struct sender **out, const struct sender_config *c)
{
	struct sender *s = calloc(1, sizeof(*s));
	pthread_condattr_t ca;
	int ret = 0;

	if (!s)
		return -ENOMEM;
	s->cfg = *c;
	pace_init(&s->pace, c->bandwidth, &s->stop);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->go, NULL);
	pthread_condattr_init(&ca);
	pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	pthread_cond_init(&s->done, &ca);
	pthread_condattr_destroy(&ca);

	for (unsigned int i = 0; i < c->nchan && !ret; i++) {
		struct worker *w = &s->w[i];

		w->s = s;
		w->index = i;
		w->chan = c->chan[i];
		w->line =
			(struct pace_line){ .pace = &s->pace, .chan = w->chan };
		ret = ram_codec_create(&w->codec, c->zstd_level);
		if (ret < 0)
			break;
		ret = -pthread_create(&w->thread, NULL, work, w);
		w->started = !ret;
	}
	if (ret < 0) {
		sender_destroy(s);
		return ret;
	}
	*out = s;
	return 0;
}

void sender_destroy(struct sender *s)
{
	if (!s)
		return;
	atomic_store(&s->stop, true);
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_broadcast(&s->go);
	pthread_mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < s->cfg.nchan; i++) {
		if (s->w[i].started)
			pthread_join(s->w[i].thread, NULL);
		ram_codec_destroy(s->w[i].codec);
	}
	pthread_cond_destroy(&s->go);
	pthread_cond_destroy(&s->done);
	pthread_mutex_destroy(&s->lock);
	pace_fini(&s->pace);
	free(s);
}

void sender_bandwidth(struct sender *s, uint64_t bytes_per_s)
{
	pace_set(&s->pace, bytes_per_s);
}

void sender_start(struct sender *s, const uint64_t *todo)
{
	pthread_mutex_lock(&s->lock);
	s->todo = todo;
	s->busy = s->cfg.nchan;
	s->round++;
	s->t0 = now_ns();
	s->bytes0 = s->bytes;
	s->busy0 = pace_busy_ns(&s->pace);
	s->pages = 0;
	s->zero_pages = 0;
	s->again = 0;
	s->same = 0;
	pthread_cond_broadcast(&s->go);
	pthread_mutex_unlock(&s->lock);
}

int sender_wait(struct sender *s, unsigned int ms, struct mig_round *r,
		struct err *e)
{
	uint64_t until = now_ns() + ms * 1000000ull;
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000000ull),
			       .tv_nsec = (long)(until % 1000000000ull) };
	int ret = 0;

	pthread_mutex_lock(&s->lock);
	while (s->busy && ret == 0)
		ret = pthread_cond_timedwait(&s->done, &s->lock, &ts);
	ret = s->busy ? 1 : s->err;
	pthread_mutex_unlock(&s->lock);

	if (ret < 0)
		return err_sys(e, ret, "sending RAM to the destination");
	if (ret == 0) {
		*r = (struct mig_round){ .pages = s->pages,
					 .zero_pages = s->zero_pages,
					 .bytes = s->bytes - s->bytes0,
					 .ns = now_ns() - s->t0,
					 .again_pages = s->again,
					 .same_pages = s->same };
		r->line_ns =
			pace_capped(&s->pace)
				? MIN(r->ns, pace_busy_ns(&s->pace) - s->busy0)
				: r->ns;
	}
	return ret;
}

uint64_t sender_pages_done(const struct sender *s)
{
	return atomic_load(&s->pages);
}

uint64_t sender_bytes(const struct sender *s)
{
	return atomic_load(&s->bytes);
}

int sender_end(struct sender *s, struct err *e)
{
	for (unsigned int i = 0; i < s->cfg.nchan; i++) {
		uint8_t buf[8];
		struct wire_out o;
		int ret;

		wire_out_init(&o, buf, sizeof(buf));
		put_u64(&o, s->w[i].sections);
		ret = proto_send(s->w[i].chan, SEC_RAM_END, buf, sizeof(buf));
		if (ret < 0)
			return err_sys(e, ret, "ending RAM channel %u", i);
	}
	return 0;
}
