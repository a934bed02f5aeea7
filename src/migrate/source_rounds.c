/*
 * Pre-copy: rounds of RAM until what is left fits the allowed outage.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/log.h"
#include "base/util.h"
#include "migrate/source_priv.h"

#define PROGRESS_MS   200
#define ROUNDS_MAX    1000
#define STALLS_FINAL  8 /* rounds without progress, throttle at its end */
#define THROTTLE_STEP 20
#define THROTTLE_MAX  80
/* Below this a round is over before its dirty rate means anything. */
#define SMALL_PAGES 256
/* How often RAM is brought up to date while drivers give up their rings. */
#define QUIESCE_ROUND_NS 200000000ull

int source_round(struct mig_source *s, struct err *e)
{
	struct mig_round done = { 0 }, *kept;
	uint64_t todo = bitmap_count(s->dirty, s->pages);
	int ret;

	sender_start(s->sender, s->dirty);
	while ((ret = sender_wait(s->sender, PROGRESS_MS, &done, e)) == 1) {
		s->now.remaining =
			(todo - MIN(todo, sender_pages_done(s->sender)))
			<< PAGE_SHIFT;
		source_report(s);
		/* A cap may have the senders sleep for long. */
		ret = source_cancelled(s, e);
		if (ret == 0)
			ret = source_hurry(s, e);
		if (ret < 0)
			return ret;
	}
	if (ret < 0)
		return ret;
	/* Only what was sent is forgotten: fetch() adds to what is left. */
	memset(s->dirty, 0, BITMAP_WORDS(s->pages) * sizeof(*s->dirty));
	kept = &s->r->round[MIN(s->r->rounds, MIG_ROUNDS_KEPT - 1u)];
	*kept = done;
	s->r->rounds++;
	return source_cancelled(s, e);
}

int source_fetch(struct mig_source *s, uint64_t *pages, struct err *e)
{
	int ret;

	ret = s->vm->ops->dirty_fetch(s->vm, s->dirty);
	if (ret < 0)
		return err_sys(e, ret, "reading the dirty log");
	*pages = bitmap_count(s->dirty, s->pages);
	s->r->round[MIN(s->r->rounds, MIG_ROUNDS_KEPT) - 1].dirty_pages =
		*pages;
	s->now.remaining = *pages << PAGE_SHIFT;
	return 0;
}

void source_throttle(struct mig_source *s, unsigned int percent)
{
	s->now.throttle = percent;
	s->r->max_throttle = MAX(s->r->max_throttle, percent);
	if (s->vm->ops->throttle)
		s->vm->ops->throttle(s->vm, percent);
}

/*
 * Pages that nobody ever touched are zero here as they are there: to read
 * them would only make them.  What is touched from now on is in the log.
 */
static void skip_holes(struct mig_source *s)
{
	const struct host_ram *ram;
	size_t n = s->vm->ops->ram(s->vm, &ram), base = 0;

	for (size_t i = 0; i < n; base += ram[i++].size >> PAGE_SHIFT) {
		const struct host_ram *r = &ram[i];
		off_t end = (off_t)(r->fd_offset + r->size);
		off_t hole = (off_t)r->fd_offset, data;

		while (r->fd >= 0 && hole < end) {
			data = lseek(r->fd, hole, SEEK_DATA);
			if (data < 0 ? errno != ENXIO : data < hole)
				break; /* no such knowledge: send all */
			if (data < 0 || data > end)
				data = end;
			bitmap_clear_range(
				s->dirty,
				base + ((uint64_t)hole - r->fd_offset) /
						PAGE_SIZE,
				(size_t)(data - hole) / PAGE_SIZE);
			hole = data < end ? lseek(r->fd, data, SEEK_HOLE) : end;
			if (hole <= data)
				break;
		}
	}
}

/*
 * Pre-copy: until what is left can be sent within the allowed outage, which
 * no cap slows down.  Speed is in pages that are not zero, and the last
 * round's: it is the one most like what comes.
 */
int source_precopy(struct mig_source *s, struct err *e)
{
	uint64_t left, last = UINT64_MAX, page_ns = 0;
	unsigned int stalls = 0;
	int ret;

	source_enter(s, MIG_PRECOPY);
	bitmap_set_range(s->dirty, 0, s->pages);
	skip_holes(s);
	for (unsigned int n = 0; n < ROUNDS_MAX; n++) {
		const struct mig_round *r;

		s->now.round = n + 1;
		ret = source_round(s, e);
		if (ret < 0)
			return ret;
		r = &s->r->round[MIN(s->r->rounds, MIG_ROUNDS_KEPT) - 1];
		/* A relay takes bursts before the destination does. */
		if (r->pages > r->zero_pages)
			page_ns = (s->direct ? r->line_ns : r->ns) /
				  (r->pages - r->zero_pages);
		ret = source_fetch(s, &left, e);
		if (ret < 0)
			return ret;
		if (r->ns)
			s->now.dirty_rate =
				(uint64_t)((double)(left << PAGE_SHIFT) * 1e9 /
					   (double)r->ns);
		s->now.downtime_ns = left * page_ns;
		source_report(s);
		if (s->now.downtime_ns <= s->p.max_downtime_ns)
			return 0;

		stalls = left > last - last / 10 && left > SMALL_PAGES
				 ? stalls + 1
				 : 0;
		last = left;
		if (stalls && s->now.throttle < THROTTLE_MAX)
			source_throttle(s, s->now.throttle + THROTTLE_STEP);
		if (stalls >= STALLS_FINAL && s->p.stall_is_final)
			break;
		if (stalls >= STALLS_FINAL) {
			log_warn("migration: the guest dirties memory faster "
				 "than it can be sent; switching over with an "
				 "expected outage of %" PRIu64 " ms",
				 s->now.downtime_ns / 1000000);
			return 0;
		}
	}
	return err_set(e, -ETIMEDOUT,
		       "does not converge: the guest dirties %" PRIu64
		       " MB/s, the connection carries %" PRIu64
		       " MB/s; raise --max-downtime (%" PRIu64
		       " ms expected) or --bandwidth",
		       s->now.dirty_rate / 1000000, s->now.rate / 1000000,
		       s->now.downtime_ns / 1000000);
}

/*
 * Devices of another generation: their drivers give up their rings while
 * the vCPUs run on, and RAM is kept nearly in step, so that the switch-over
 * can follow at once: the guest then spins for an answer.
 */
int source_quiesce(struct mig_source *s, struct err *e)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	uint64_t left, last = 0;
	int ret = s->vm->ops->quiesce(s->vm, e);

	if (ret <= 0)
		return ret;
	source_enter(s, MIG_QUIESCE);
	while ((ret = s->vm->ops->quiesced(s->vm, e)) == 0) {
		ret = source_cancelled(s, e);
		if (ret < 0)
			return ret;
		if (now_ns() - last < QUIESCE_ROUND_NS) {
			nanosleep(&nap, NULL);
			continue;
		}
		ret = source_fetch(s, &left, e);
		if (ret == 0)
			ret = source_round(s, e);
		if (ret < 0)
			return ret;
		last = now_ns();
	}
	return ret < 0 ? ret : 0;
}
