/*
 * The source's engine.  Read mig_run() first: the phases in their order.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/log.h"
#include "base/util.h"
#include "migrate/place.h"
#include "migrate/source_priv.h"

#define REPLY_MS  30000 /* the destination may be pinning memory */
#define REASON_MS 1000	/* for why it hung up */

const char *mig_phase_name(enum mig_phase p)
{
	static const char *const names[MIG_PHASES] = {
		[MIG_CONNECT] = "connect",    [MIG_CHECK] = "check",
		[MIG_PREPARE] = "prepare",    [MIG_BASELINE] = "baseline",
		[MIG_ENGAGE] = "engage",      [MIG_PRECOPY] = "pre-copy",
		[MIG_QUIESCE] = "quiesce",    [MIG_PAUSE] = "pause",
		[MIG_DRAIN] = "drain",	      [MIG_LAST_RAM] = "last RAM",
		[MIG_STATE] = "state",	      [MIG_LOAD] = "load",
		[MIG_HANDOVER] = "hand-over", [MIG_DONE] = "done",
	};

	return (unsigned int)p < MIG_PHASES ? names[p] : "?";
}

/* ---- progress ---- */

void source_report(struct mig_source *s)
{
	uint64_t now = now_ns(), bytes;

	if (s->sender) {
		bytes = sender_bytes(s->sender);
		if (now - s->last_ns >= 100000000ull) {
			s->now.rate =
				(uint64_t)((double)(bytes - s->last_bytes) *
					   1e9 / (double)(now - s->last_ns));
			s->last_bytes = bytes;
			s->last_ns = now;
		}
		s->now.sent = bytes;
	}
	s->now.elapsed_ns = now - s->r->t0_ns;
	if (s->p.progress)
		s->p.progress(s->p.opaque, &s->now);
}

void source_enter(struct mig_source *s, enum mig_phase phase)
{
	uint64_t now = now_ns();

	if (phase != s->now.phase || !s->r->phase_at[phase]) {
		uint64_t at = s->r->phase_at[s->now.phase];

		if (at)
			s->r->phase_ns[s->now.phase] += now - at;
		s->r->phase_at[phase] = now;
	}
	s->now.phase = phase;
	/* What there was in place of what was expected. */
	if (phase == MIG_DONE)
		s->now.downtime_ns = s->paused
					     ? s->r->phase_at[MIG_DONE] -
						       s->r->phase_at[MIG_PAUSE]
					     : 0;
	log_debug("migration: %s", mig_phase_name(phase));
	source_report(s);
}

int source_cancelled(struct mig_source *s, struct err *e)
{
	return atomic_load(&s->fate) == 1 ? err_set(e, -ECANCELED, "cancelled")
					  : 0;
}

int source_hurry(struct mig_source *s, struct err *e)
{
	uint64_t now = now_ns();

	if (!s->until)
		return 0;
	if (now >= s->until)
		return err_set(e, -ETIMEDOUT,
			       "the switch-over took longer than %" PRIu64
			       " ms: the connection or %s is too slow",
			       (now - s->r->phase_at[MIG_PAUSE]) / 1000000,
			       s->p.dest);
	chan_timeout(s->main, (unsigned int)((s->until - now) / 1000000 + 1));
	return 0;
}

/* ---- the conversation ---- */

int source_greet(struct mig_source *s, struct chan *c, uint16_t channel,
		 struct err *e)
{
	struct proto_hello h = { .version_min = PROTO_VERSION_MIN,
				 .version_max = PROTO_VERSION_MAX,
				 .channel = channel,
				 .program = "pagurus " PAGURUS_VERSION };
	int ret;

	memcpy(h.session, s->session, SESSION_BYTES);
	ret = proto_send_hello(c, &h);
	if (ret < 0)
		return err_sys(e, ret, "greeting %s", s->p.dest);
	return 0;
}

int source_connect(struct mig_source *s, struct chan **out, struct err *e)
{
	return s->peer[0] ? chan_connect_again(out, s->peer, s->p.dest,
					       s->p.tls, e)
			  : chan_connect(out, s->p.dest, s->p.tls, e);
}

/* Connect and show the channel to mig_cancel(). */
static int dial(struct mig_source *s, struct chan **where, struct err *e)
{
	struct chan *c;
	int ret = source_connect(s, &c, e);

	if (ret < 0)
		return ret;
	chan_timeout(c, REPLY_MS);
	pthread_mutex_lock(&s->lock);
	*where = c;
	pthread_mutex_unlock(&s->lock);
	return source_cancelled(s, e);
}

static int converse_hello(struct mig_source *s, struct err *e)
{
	struct proto_hello h;
	struct err why = { 0 };
	int ret;

	s->peer[0] = '\0';
	ret = dial(s, &s->main, e);
	if (ret < 0)
		return ret;
	snprintf(s->peer, sizeof(s->peer), "%s", chan_peer(s->main));
	snprintf(s->r->transport, sizeof(s->r->transport), "%s",
		 chan_describe(s->main));
	ret = source_greet(s, s->main, CHANNEL_MAIN, e);
	if (ret < 0)
		return ret;
	ret = proto_recv_hello(s->main, &h, &why);
	if (ret == -ETIMEDOUT)
		return err_set(e, ret,
			       "%s takes connections and does not answer: is "
			       "that a 'pagurus receive', and has it no other "
			       "migration?",
			       s->p.dest);
	if (ret == -EPIPE && !s->p.tls && !chan_is_unix(s->p.dest))
		return err_set(e, -ECONNRESET,
			       "%s closed the connection without a word: if "
			       "it was started with --tls, give --tls here, "
			       "too",
			       s->p.dest);
	return ret < 0 ? err_set(e, ret, "%s: %s", s->p.dest,
				 err_text(&why, ret))
		       : 0;
}

/* One that does not know this section finds out when it loads the state. */
static int send_cpu(struct mig_source *s, struct err *e)
{
	struct wire_out o;
	int ret;

	if (!s->vm->ops->cpu)
		return 0;
	wire_out_init(&o, s->buf, STREAM_PAYLOAD_MAX);
	s->vm->ops->cpu(s->vm, &o);
	ret = o.err ? o.err
		    : stream_send(s->main, SEC_CPU, 1, 0, s->buf,
				  (uint32_t)wire_used(&o));
	return ret < 0 ? err_sys(e, ret, "sending the CPU model") : 0;
}

static int converse_plan(struct mig_source *s, struct err *e)
{
	struct wire_out o;
	struct wire_in in;
	size_t len;
	int ret;

	ret = send_cpu(s, e);
	if (ret < 0)
		return ret;
	s->vm->ops->describe(s->vm, &s->manifest);
	wire_out_init(&o, s->buf, STREAM_PAYLOAD_MAX);
	put_u8(&o, s->p.policy.fallback_software);
	mig_manifest_put(&o, &s->manifest);
	if (o.err)
		return err_set(e, o.err, "manifest: too large");
	ret = proto_send(s->main, SEC_MANIFEST, s->buf, wire_used(&o));
	if (ret < 0)
		return err_sys(e, ret, "sending the manifest");
	ret = proto_expect(s->main, SEC_PLAN, s->buf, &len, e);
	if (ret < 0)
		return ret;
	wire_in_init(&in, s->buf, len);
	ret = mig_plan_get(&in, &s->r->plan, e);
	if (ret < 0)
		return ret;
	if (wire_done(&in) < 0 || s->r->plan.n != s->manifest.ndevices)
		return err_set(e, -EBADMSG, "plan: malformed");
	/* The destination names our devices back, in our order. */
	for (uint32_t i = 0; i < s->r->plan.n; i++)
		if (strcmp(s->r->plan.d[i].device.name,
			   s->manifest.device[i].name))
			return err_set(e, -EBADMSG, "plan: not for this VM");
	return 0;
}

static int meet(struct mig_source *s, struct err *e)
{
	int ret;

	if (getrandom(s->session, sizeof(s->session), 0) != sizeof(s->session))
		return err_set(e, -EIO, "no random numbers");
	source_enter(s, MIG_CONNECT);
	ret = converse_hello(s, e);
	if (ret < 0)
		return ret;
	source_enter(s, MIG_CHECK);
	ret = converse_plan(s, e);
	return ret < 0 ? ret : source_cancelled(s, e);
}

/* Whether what this address says is the destination's own word. */
static int see_place(struct mig_source *s, size_t len, struct err *e)
{
	char theirs[PLACE_MAX] = "", ours[PLACE_MAX];
	struct wire_in in;

	if (len) {
		wire_in_init(&in, s->buf, len);
		get_text(&in, theirs, sizeof(theirs));
		if (wire_done(&in) < 0)
			return err_set(e, -EBADMSG, "'prepared': malformed");
	}
	place_there(ours, s->main);
	s->direct = place_same(ours, theirs);
	if (!s->direct)
		log_info("migration: something stands between here and the "
			 "destination, which listens at %s, and not at %s",
			 theirs[0] ? theirs : "a place it does not tell", ours);
	return 0;
}

static int prepare(struct mig_source *s, struct err *e)
{
	struct sender_config cfg = { .chan = s->data,
				     .nchan = s->p.connections,
				     .zstd_level = s->p.zstd_level,
				     .bandwidth = s->p.bandwidth };
	struct wire_out o;
	uint8_t buf[4];
	size_t len;
	int ret;

	source_enter(s, MIG_PREPARE);
	ret = source_ask_watch(s, e);
	if (ret < 0)
		return ret;
	wire_out_init(&o, buf, sizeof(buf));
	put_u32(&o, s->p.connections);
	ret = proto_send(s->main, SEC_PREPARE, buf, sizeof(buf));
	if (ret < 0)
		return err_sys(e, ret, "asking %s to prepare", s->p.dest);
	ret = proto_expect(s->main, SEC_PREPARED, s->buf, &len, e);
	if (ret == 0)
		ret = see_place(s, len, e);
	if (ret < 0)
		return ret;
	for (unsigned int i = 0; i < s->p.connections; i++) {
		ret = dial(s, &s->data[i], e);
		if (ret < 0)
			return ret;
		ret = source_greet(s, s->data[i], (uint16_t)(i + 1), e);
		if (ret < 0)
			return ret;
	}
	cfg.nram = s->vm->ops->ram(s->vm, &cfg.ram);
	for (size_t i = 0; i < cfg.nram; i++)
		s->pages += cfg.ram[i].size >> PAGE_SHIFT;
	s->now.ram = s->pages << PAGE_SHIFT;
	s->dirty = bitmap_alloc(s->pages);
	if (!s->dirty)
		return -ENOMEM;
	if (s->p.measure)
		s->sums = calloc(s->pages, sizeof(*s->sums));
	s->r->compared = s->sums != NULL;
	cfg.sums = s->sums;
	ret = sender_create(&s->sender, &cfg);
	if (ret < 0)
		return err_sys(e, ret, "starting the senders");
	s->last_ns = now_ns();
	return source_cancelled(s, e);
}

static int engage(struct mig_source *s, struct err *e)
{
	int ret;

	source_enter(s, MIG_ENGAGE);
	/* Log first: nothing the devices write from here on goes unseen. */
	ret = s->vm->ops->dirty_start(s->vm);
	if (ret < 0)
		return err_sys(e, ret, "starting the dirty log");
	s->logging = true;
	s->engaged = true;
	ret = s->vm->ops->engage(s->vm, &s->r->plan, e);
	return ret < 0 ? ret : source_cancelled(s, e);
}

/* ---- the whole ---- */

/* All but the main channel if there is more to come on it. */
static void hang_up(struct mig_source *s, bool all)
{
	/* A sender may sit there for as long as a call may take. */
	for (unsigned int i = 0; i < MIG_CHANNELS_MAX; i++)
		if (s->data[i])
			chan_abort(s->data[i]);
	sender_destroy(s->sender);
	s->sender = NULL;
	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < MIG_CHANNELS_MAX; i++) {
		chan_close(s->data[i]);
		s->data[i] = NULL;
	}
	if (all) {
		chan_close(s->main);
		s->main = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	free(s->dirty);
	s->dirty = NULL;
	free(s->sums);
	s->sums = NULL;
	s->pages = 0;
}

static int until_handover(struct mig_source *s, struct err *e)
{
	int ret = meet(s, e);

	if (ret == 0)
		ret = mig_plan_verdict(&s->r->plan, e);
	if (ret == 0)
		ret = prepare(s, e);
	if (ret == 0)
		ret = source_baseline(s, e);
	if (ret == 0)
		ret = engage(s, e);
	if (ret == 0)
		ret = source_precopy(s, e);
	if (ret == 0)
		ret = source_quiesce(s, e);
	if (ret == 0)
		ret = source_switch_over(s, e);
	/* A cancel shows as a broken channel; say what it was. */
	if (ret < 0 && atomic_load(&s->fate) == 1 && e) {
		err_clear(e);
		ret = err_set(e, -ECANCELED, "cancelled");
	}
	return ret;
}

static void finish(struct mig_source *s, enum mig_outcome out)
{
	struct mig_result *r = s->r;
	source_enter(s, MIG_DONE);
	if (s->now.throttle)
		source_throttle(s, 0);
	if (s->sender)
		r->bytes = sender_bytes(s->sender);
	if (s->main)
		r->bytes += chan_bytes_sent(s->main);
	if (s->paused)
		r->downtime_ns = s->now.downtime_ns;
	r->total_ns = r->phase_at[MIG_DONE] - r->t0_ns;
	if (out == MIG_RUNS_THERE) {
		s->now.remaining = 0;
		source_report(s);
	}
	if (s->vm->ops->device_stats && s->engaged)
		r->devices = s->vm->ops->device_stats(s->vm);
}

/* A channel that breaks may have been closed for a reason: it is told. */
static int hear_why(struct mig_source *s, int ret, struct err *e)
{
	struct err why = { 0 };
	size_t len;
	int told;

	if (ret != -EPIPE || !s->main || atomic_load(&s->fate))
		return ret;
	chan_timeout(s->main, REASON_MS);
	told = proto_expect(s->main, SEC_ABORT, s->buf, &len, &why);
	if (told != -ECANCELED && told != -EKEYREJECTED)
		return ret;
	if (e)
		*e = why;
	return told;
}

enum mig_outcome mig_run(struct mig_source *s, struct mig_result *r,
			 struct err *e)
{
	enum mig_outcome out = MIG_RUNS_HERE;
	int ret;

	memset(r, 0, sizeof(*r));
	s->r = r;
	s->watched = false;
	r->t0_ns = now_ns();
	s->until = 0;
	ret = until_handover(s, e);
	if (ret == 0)
		out = source_hand_over(s, e);
	finish(s, out);
	/* The VM first: whatever else there is to do may take time. */
	if (out == MIG_RUNS_HERE)
		source_resume(s);
	ret = hear_why(s, ret, e);
	if (ret < 0 && s->main) {
		chan_timeout(s->main, REASON_MS);
		proto_send_abort(s->main, err_text(e, ret));
	}
	hang_up(s, !s->watched);
	return out;
}

int mig_check(struct mig_source *s, struct mig_plan *plan, struct err *e)
{
	struct mig_result *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	s->r = r;
	r->t0_ns = now_ns();
	ret = hear_why(s, meet(s, e), e);
	if (ret == 0) {
		*plan = r->plan;
		proto_send(s->main, SEC_BYE, NULL, 0);
	}
	hang_up(s, true);
	s->r = NULL;
	free(r);
	return ret;
}

int mig_cancel(struct mig_source *s)
{
	int may = 0;

	if (!atomic_compare_exchange_strong(&s->fate, &may, 1))
		return may == 2 ? -EBUSY : 0;
	/* Wake whatever the engine is blocked in; it can still say why. */
	pthread_mutex_lock(&s->lock);
	if (s->main)
		chan_abort_recv(s->main);
	for (unsigned int i = 0; i < MIG_CHANNELS_MAX; i++)
		if (s->data[i])
			chan_abort(s->data[i]);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

int mig_source_create(struct mig_source **out, struct mig_vm *vm,
		      const struct mig_params *p)
{
	struct mig_source *s;

	if (!p->connections || p->connections > MIG_CHANNELS_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->vm = vm;
	s->p = *p;
	pthread_mutex_init(&s->lock, NULL);
	s->buf = malloc(STREAM_PAYLOAD_MAX);
	if (!s->buf) {
		mig_source_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void mig_source_destroy(struct mig_source *s)
{
	if (!s)
		return;
	chan_close(s->main); /* nobody waited for what came after */
	pthread_mutex_destroy(&s->lock);
	free(s->buf);
	free(s);
}
