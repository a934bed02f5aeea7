/*
 * What only a report wants to know: the devices' traffic before they are
 * touched, and after the VM runs elsewhere.
 */
#include <errno.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "migrate/source_priv.h"

#define LOOK_NS 50000000l

/*
 * A rate needs a while.  A meter that always ran would give it at once, and
 * would cost every VM on every day; so the migration starts this much later
 * instead, and only where a report was asked for.  Connecting and preparing
 * count: the devices are direct as yet.  It comes before the dirty log is
 * on, so that nothing slows the guest down while it is looked at.
 */
int source_baseline(struct mig_source *s, struct err *e)
{
	const struct timespec nap = { .tv_nsec = LOOK_NS };
	uint64_t until = s->r->t0_ns + MIG_BASELINE_NS;
	int ret = 0;

	if (!s->p.measure || now_ns() >= until)
		return 0;
	source_enter(s, MIG_BASELINE);
	while (ret == 0 && now_ns() < until) {
		nanosleep(&nap, NULL);
		source_report(s); /* whoever listens takes a sample */
		ret = source_cancelled(s, e);
	}
	return ret;
}

/* A destination that does not know it skips it. */
int source_ask_watch(struct mig_source *s, struct err *e)
{
	struct wire_out o;
	uint8_t buf[8];
	int ret;

	if (!s->p.measure)
		return 0;
	wire_out_init(&o, buf, sizeof(buf));
	put_u64(&o, MIG_WATCH_NS);
	ret = stream_send(s->main, SEC_WATCH, 1, 0, buf, sizeof(buf));
	return ret < 0 ? err_sys(e, ret, "asking %s for its traffic", s->p.dest)
		       : 0;
}

size_t mig_watch(struct mig_source *s, struct mig_sample out[MIG_AFTER_MAX])
{
	struct err why = { 0 };
	struct wire_in in;
	size_t len;
	int ret;

	if (!s->watched)
		return 0;
	ret = proto_expect(s->main, SEC_TRAFFIC, s->buf, &len, &why);
	if (ret == 0) {
		wire_in_init(&in, s->buf, len);
		ret = mig_after_get(&in, out);
	}
	if (ret < 0)
		log_info("the report will not tell what %s did afterwards: %s",
			 s->p.dest, err_text(&why, ret));
	pthread_mutex_lock(&s->lock);
	chan_close(s->main);
	s->main = NULL;
	s->watched = false;
	pthread_mutex_unlock(&s->lock);
	return ret < 0 ? 0 : (size_t)ret;
}

void mig_watch_stop(struct mig_source *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->main)
		chan_abort(s->main);
	pthread_mutex_unlock(&s->lock);
}
