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
#include "migrate/mig.h"
#include "migrate/proto.h"
#include "migrate/sender.h"

#define PROGRESS_MS   200
#define REPLY_MS      30000 /* the destination may be pinning memory */
#define ROUNDS_MAX    1000
#define STALLS_FINAL  8 /* rounds without progress, throttle at its end */
#define THROTTLE_STEP 20
#define THROTTLE_MAX  80
/* Below this a round is over before its dirty rate means anything. */
#define SMALL_PAGES 256
/* How often RAM is brought up to date while drivers give up their rings. */
#define QUIESCE_ROUND_NS 200000000ull

struct mig_source {
	struct mig_vm *vm;
	struct mig_params p;
	struct mig_result *r;
	uint8_t session[SESSION_BYTES];

	/* The lock only keeps mig_cancel() from a channel being closed. */
	pthread_mutex_t lock;
	struct chan *main, *data[MIG_CHANNELS_MAX];
	struct sender *sender;
	uint8_t *buf; /* a message */
	uint64_t *dirty;
	uint64_t pages;
	struct mig_manifest manifest;

	struct mig_progress now;
	uint64_t last_bytes, last_ns;

	/* What must be undone if it comes to nothing. */
	bool logging, engaged, paused;

	/* 0: may be cancelled, 1: cancelled, 2: too late */
	_Atomic int fate;
};

const char *mig_phase_name(enum mig_phase p)
{
	static const char *const names[MIG_PHASES] = {
		[MIG_CONNECT] = "connect",   [MIG_CHECK] = "check",
		[MIG_PREPARE] = "prepare",   [MIG_ENGAGE] = "engage",
		[MIG_PRECOPY] = "pre-copy",  [MIG_QUIESCE] = "quiesce",
		[MIG_PAUSE] = "pause",	     [MIG_DRAIN] = "drain",
		[MIG_LAST_RAM] = "last RAM", [MIG_STATE] = "state",
		[MIG_LOAD] = "load",	     [MIG_HANDOVER] = "hand-over",
		[MIG_DONE] = "done",
	};

	return (unsigned int)p < MIG_PHASES ? names[p] : "?";
}

/* ---- progress ---- */

static void report(struct mig_source *s)
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

static void enter(struct mig_source *s, enum mig_phase phase)
{
	uint64_t now = now_ns();

	if (phase != s->now.phase || !s->r->phase_at[phase]) {
		uint64_t at = s->r->phase_at[s->now.phase];

		if (at)
			s->r->phase_ns[s->now.phase] += now - at;
		s->r->phase_at[phase] = now;
	}
	s->now.phase = phase;
	log_debug("migration: %s", mig_phase_name(phase));
	report(s);
}

static int cancelled(struct mig_source *s, struct err *e)
{
	return atomic_load(&s->fate) == 1 ? err_set(e, -ECANCELED, "cancelled")
					  : 0;
}

/* ---- the conversation ---- */

static int greet(struct mig_source *s, struct chan *c, uint16_t channel,
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

/* Connect and show the channel to mig_cancel(). */
static int dial(struct mig_source *s, struct chan **where, struct err *e)
{
	struct chan *c;
	int ret = chan_connect(&c, s->p.dest, s->p.tls, e);

	if (ret < 0)
		return ret;
	chan_timeout(c, REPLY_MS);
	pthread_mutex_lock(&s->lock);
	*where = c;
	pthread_mutex_unlock(&s->lock);
	return cancelled(s, e);
}

static int converse_hello(struct mig_source *s, struct err *e)
{
	struct proto_hello h;
	int ret = dial(s, &s->main, e);

	if (ret < 0)
		return ret;
	snprintf(s->r->transport, sizeof(s->r->transport), "%s",
		 chan_describe(s->main));
	ret = greet(s, s->main, CHANNEL_MAIN, e);
	if (ret < 0)
		return ret;
	return proto_recv_hello(s->main, &h, e);
}

static int converse_plan(struct mig_source *s, struct err *e)
{
	struct wire_out o;
	struct wire_in in;
	size_t len;
	int ret;

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
	enter(s, MIG_CONNECT);
	ret = converse_hello(s, e);
	if (ret < 0)
		return ret;
	enter(s, MIG_CHECK);
	ret = converse_plan(s, e);
	return ret < 0 ? ret : cancelled(s, e);
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

	enter(s, MIG_PREPARE);
	wire_out_init(&o, buf, sizeof(buf));
	put_u32(&o, s->p.connections);
	ret = proto_send(s->main, SEC_PREPARE, buf, sizeof(buf));
	if (ret < 0)
		return err_sys(e, ret, "asking %s to prepare", s->p.dest);
	ret = proto_expect(s->main, SEC_PREPARED, s->buf, &len, e);
	if (ret < 0)
		return ret;
	for (unsigned int i = 0; i < s->p.connections; i++) {
		ret = dial(s, &s->data[i], e);
		if (ret < 0)
			return ret;
		ret = greet(s, s->data[i], (uint16_t)(i + 1), e);
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
	ret = sender_create(&s->sender, &cfg);
	if (ret < 0)
		return err_sys(e, ret, "starting the senders");
	s->last_ns = now_ns();
	return cancelled(s, e);
}

static int engage(struct mig_source *s, struct err *e)
{
	int ret;

	enter(s, MIG_ENGAGE);
	/* Log first: nothing the devices write from here on goes unseen. */
	ret = s->vm->ops->dirty_start(s->vm);
	if (ret < 0)
		return err_sys(e, ret, "starting the dirty log");
	s->logging = true;
	s->engaged = true;
	ret = s->vm->ops->engage(s->vm, &s->r->plan, e);
	return ret < 0 ? ret : cancelled(s, e);
}

/* ---- rounds ---- */

static int send_round(struct mig_source *s, struct err *e)
{
	struct mig_round done = { 0 }, *kept;
	uint64_t todo = bitmap_count(s->dirty, s->pages);
	int ret;

	sender_start(s->sender, s->dirty);
	while ((ret = sender_wait(s->sender, PROGRESS_MS, &done, e)) == 1) {
		s->now.remaining =
			(todo - MIN(todo, sender_pages_done(s->sender)))
			<< PAGE_SHIFT;
		report(s);
	}
	if (ret < 0)
		return ret;
	/* Only what was sent is forgotten: fetch() adds to what is left. */
	memset(s->dirty, 0, BITMAP_WORDS(s->pages) * sizeof(*s->dirty));
	kept = &s->r->round[MIN(s->r->rounds, MIG_ROUNDS_KEPT - 1u)];
	*kept = done;
	s->r->rounds++;
	return cancelled(s, e);
}

static int fetch(struct mig_source *s, uint64_t *pages, struct err *e)
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

static void set_throttle(struct mig_source *s, unsigned int percent)
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
 * Pre-copy: until what is left can be sent within the allowed outage.
 * Speed is in pages, measured over rounds after the first, whose zero pages
 * would flatter it.
 */
static int precopy(struct mig_source *s, struct err *e)
{
	uint64_t left, last = UINT64_MAX, page_ns = 0;
	unsigned int stalls = 0;
	int ret;

	enter(s, MIG_PRECOPY);
	bitmap_set_range(s->dirty, 0, s->pages);
	skip_holes(s);
	for (unsigned int n = 0; n < ROUNDS_MAX; n++) {
		const struct mig_round *r;

		s->now.round = n + 1;
		ret = send_round(s, e);
		if (ret < 0)
			return ret;
		r = &s->r->round[MIN(s->r->rounds, MIG_ROUNDS_KEPT) - 1];
		if (r->pages > r->zero_pages)
			page_ns = r->ns / (r->pages - r->zero_pages);
		ret = fetch(s, &left, e);
		if (ret < 0)
			return ret;
		if (r->ns)
			s->now.dirty_rate =
				(uint64_t)((double)(left << PAGE_SHIFT) * 1e9 /
					   (double)r->ns);
		s->now.downtime_ns = left * page_ns;
		report(s);
		if (s->now.downtime_ns <= s->p.max_downtime_ns)
			return 0;

		stalls = left > last - last / 10 && left > SMALL_PAGES
				 ? stalls + 1
				 : 0;
		last = left;
		if (stalls && s->now.throttle < THROTTLE_MAX)
			set_throttle(s, s->now.throttle + THROTTLE_STEP);
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
static int quiesce(struct mig_source *s, struct err *e)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	uint64_t left, last = 0;
	int ret = s->vm->ops->quiesce(s->vm, e);

	if (ret <= 0)
		return ret;
	enter(s, MIG_QUIESCE);
	while ((ret = s->vm->ops->quiesced(s->vm, e)) == 0) {
		ret = cancelled(s, e);
		if (ret < 0)
			return ret;
		if (now_ns() - last < QUIESCE_ROUND_NS) {
			nanosleep(&nap, NULL);
			continue;
		}
		ret = fetch(s, &left, e);
		if (ret == 0)
			ret = send_round(s, e);
		if (ret < 0)
			return ret;
		last = now_ns();
	}
	return ret < 0 ? ret : 0;
}

/* ---- switch-over ---- */

static int send_part(struct mig_source *s, const char *name, unsigned int n,
		     uint8_t *state, struct err *e)
{
	const size_t room = STREAM_PAYLOAD_MAX - 256;
	struct wire_out o;
	size_t len, at = 0;
	int ret;

	wire_out_init(&o, state, MIG_PART_SIZE_MAX);
	ret = s->vm->ops->save(s->vm, n, &o);
	if (ret == 0)
		ret = o.err;
	if (ret < 0)
		return err_sys(e, ret, "saving the state of '%s'", name);
	len = wire_used(&o);
	s->r->state_bytes += len;
	do {
		size_t piece = MIN(len - at, room);

		wire_out_init(&o, s->buf, STREAM_PAYLOAD_MAX);
		put_str(&o, name);
		put_u32(&o, (uint32_t)at);
		put_u32(&o, (uint32_t)len);
		put_bytes(&o, state + at, piece);
		ret = proto_send(s->main, SEC_STATE, s->buf, wire_used(&o));
		if (ret < 0)
			return err_sys(e, ret, "sending the state of '%s'",
				       name);
		at += piece;
	} while (at < len);
	return 0;
}

static int send_state(struct mig_source *s, struct err *e)
{
	uint8_t *state = malloc(MIG_PART_SIZE_MAX), buf[16];
	struct wire_out o;
	const char *name;
	unsigned int n;
	int ret = 0;

	if (!state)
		return -ENOMEM;
	for (n = 0; !ret && (name = s->vm->ops->part(s->vm, n)); n++)
		ret = send_part(s, name, n, state, e);
	free(state);
	if (ret < 0)
		return ret;
	wire_out_init(&o, buf, sizeof(buf));
	put_u64(&o, n);
	put_u64(&o, s->r->state_bytes);
	ret = proto_send(s->main, SEC_COMMIT, buf, sizeof(buf));
	return ret < 0 ? err_sys(e, ret, "committing the state") : 0;
}

static int switch_over(struct mig_source *s, struct err *e)
{
	uint64_t left;
	size_t len;
	int ret;

	enter(s, MIG_PAUSE);
	ret = s->vm->ops->pause(s->vm);
	if (ret < 0)
		return err_sys(e, ret, "pausing the vCPUs");
	s->paused = true;
	enter(s, MIG_DRAIN);
	ret = s->vm->ops->drain(s->vm, e);
	if (ret < 0)
		return ret;
	enter(s, MIG_LAST_RAM);
	sender_bandwidth(s->sender, 0);
	ret = fetch(s, &left, e);
	if (ret == 0)
		ret = send_round(s, e);
	if (ret == 0)
		ret = sender_end(s->sender, e);
	if (ret < 0)
		return ret;
	enter(s, MIG_STATE);
	ret = send_state(s, e);
	if (ret < 0)
		return ret;
	enter(s, MIG_LOAD);
	return proto_expect(s->main, SEC_READY, s->buf, &len, e);
}

/* ---- hand-over ---- */

static enum mig_outcome ask(struct mig_source *s, struct err *e, bool *silent)
{
	struct chan *c = NULL;
	struct proto_hello h;
	struct err why = { 0 };
	enum mig_outcome out = MIG_UNDECIDED;
	struct wire_in in;
	size_t len;
	int ret;

	*silent = false;
	ret = chan_connect(&c, s->p.dest, s->p.tls, &why);
	if (ret == -ECONNREFUSED || ret == -ENOENT) {
		/*
		 * Its host says that nobody listens.  The listener lives as
		 * long as the process that may run the VM, so that is no more.
		 */
		err_set(e, -ECONNREFUSED,
			"the destination died in the hand-over");
		return MIG_RUNS_HERE;
	}
	if (ret < 0)
		goto undecided;
	chan_timeout(c, 5000);
	ret = greet(s, c, CHANNEL_QUERY, &why);
	if (ret == 0)
		ret = proto_recv_hello(c, &h, &why);
	if (ret == 0)
		ret = proto_send(c, SEC_QUERY, NULL, 0);
	if (ret == 0)
		ret = proto_expect(c, SEC_OUTCOME, s->buf, &len, &why);
	if (ret < 0)
		goto undecided;
	wire_in_init(&in, s->buf, len);
	switch (get_u32(&in)) {
	case OUTCOME_RUNNING: out = MIG_RUNS_THERE; break;
	case OUTCOME_ABORTED:
		out = MIG_RUNS_HERE;
		err_set(e, -ECANCELED,
			"the destination gave up in the hand-over");
		break;
	default: break;
	}
	chan_close(c);
	return out;

undecided:
	*silent = true;
	chan_close(c);
	return MIG_UNDECIDED;
}

static enum mig_outcome find_out(struct mig_source *s, unsigned int ms,
				 struct err *e)
{
	uint64_t until = now_ns() + ms * 1000000ull;
	struct timespec nap = { .tv_nsec = 200000000 };
	enum mig_outcome out;
	bool silent;

	do {
		out = ask(s, e, &silent);
		if (out != MIG_UNDECIDED)
			return out;
		nanosleep(&nap, NULL);
	} while (now_ns() < until);
	err_set(e, -ETIMEDOUT,
		"the connection broke in the hand-over and %s does not answer: "
		"the VM may be running there, so it stays paused here. Restore "
		"the connection and ask again with 'pagurus migrate "
		"--resolve', "
		"or, if that host is certainly down, 'pagurus migrate "
		"--resume-here'",
		s->p.dest);
	return MIG_UNDECIDED;
}

static enum mig_outcome hand_over(struct mig_source *s, struct err *e)
{
	struct err why = { 0 };
	int may_cancel = 0, ret;
	size_t len;

	enter(s, MIG_HANDOVER);
	if (!atomic_compare_exchange_strong(&s->fate, &may_cancel, 2)) {
		err_set(e, -ECANCELED, "cancelled");
		return MIG_RUNS_HERE;
	}
	/*
	 * From the first byte of this message on, only the destination knows:
	 * even a send that failed may have arrived.
	 */
	ret = proto_send(s->main, SEC_HANDOVER, NULL, 0);
	if (ret == 0)
		ret = proto_expect(s->main, SEC_RUNNING, s->buf, &len, &why);
	if (ret < 0) {
		log_warn("migration: hand-over unanswered (%s), asking",
			 err_text(&why, ret));
		return find_out(s, s->p.recovery_ms, e);
	}
	if (s->vm->ops->gone)
		s->vm->ops->gone(s->vm);
	proto_send(s->main, SEC_BYE, NULL, 0);
	return MIG_RUNS_THERE;
}

/* ---- the whole ---- */

static void hang_up(struct mig_source *s)
{
	sender_destroy(s->sender);
	s->sender = NULL;
	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < MIG_CHANNELS_MAX; i++) {
		chan_close(s->data[i]);
		s->data[i] = NULL;
	}
	chan_close(s->main);
	s->main = NULL;
	pthread_mutex_unlock(&s->lock);
	free(s->dirty);
	s->dirty = NULL;
	s->pages = 0;
}

/* Back to how it was: devices direct, log off, vCPUs running. */
static void resume_here(struct mig_source *s)
{
	if (s->engaged)
		s->vm->ops->release(s->vm);
	if (s->logging)
		s->vm->ops->dirty_stop(s->vm);
	if (s->paused)
		s->vm->ops->resume(s->vm);
	s->engaged = s->logging = s->paused = false;
}

static int until_handover(struct mig_source *s, struct err *e)
{
	int ret = meet(s, e);

	if (ret == 0)
		ret = mig_plan_verdict(&s->r->plan, e);
	if (ret == 0)
		ret = prepare(s, e);
	if (ret == 0)
		ret = engage(s, e);
	if (ret == 0)
		ret = precopy(s, e);
	if (ret == 0)
		ret = quiesce(s, e);
	if (ret == 0)
		ret = switch_over(s, e);
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
	enter(s, MIG_DONE);
	if (s->now.throttle)
		set_throttle(s, 0);
	if (s->sender)
		r->bytes = sender_bytes(s->sender);
	if (s->main)
		r->bytes += chan_bytes_sent(s->main);
	if (s->paused)
		r->downtime_ns = r->phase_at[MIG_DONE] - r->phase_at[MIG_PAUSE];
	r->total_ns = r->phase_at[MIG_DONE] - r->t0_ns;
	if (out == MIG_RUNS_THERE) {
		s->now.downtime_ns = r->downtime_ns;
		s->now.remaining = 0;
		report(s);
	}
	if (s->vm->ops->device_stats && s->engaged)
		r->devices = s->vm->ops->device_stats(s->vm);
}

enum mig_outcome mig_run(struct mig_source *s, struct mig_result *r,
			 struct err *e)
{
	enum mig_outcome out = MIG_RUNS_HERE;
	int ret;

	memset(r, 0, sizeof(*r));
	s->r = r;
	r->t0_ns = now_ns();
	ret = until_handover(s, e);
	if (ret == 0)
		out = hand_over(s, e);
	else if (s->main)
		proto_send_abort(s->main, err_text(e, ret));
	finish(s, out);
	hang_up(s);
	if (out == MIG_RUNS_HERE)
		resume_here(s);
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
	ret = meet(s, e);
	if (ret == 0) {
		*plan = r->plan;
		proto_send(s->main, SEC_BYE, NULL, 0);
	}
	hang_up(s);
	s->r = NULL;
	free(r);
	return ret;
}

enum mig_outcome mig_resolve(struct mig_source *s, unsigned int timeout_ms,
			     struct err *e)
{
	enum mig_outcome out = find_out(s, timeout_ms, e);

	if (out == MIG_RUNS_HERE)
		resume_here(s);
	return out;
}

void mig_resume_here(struct mig_source *s)
{
	resume_here(s);
}

int mig_cancel(struct mig_source *s)
{
	int may = 0;

	if (!atomic_compare_exchange_strong(&s->fate, &may, 1))
		return may == 2 ? -EBUSY : 0;
	/* Wake whatever the engine is blocked in. */
	pthread_mutex_lock(&s->lock);
	if (s->main)
		chan_abort(s->main);
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
	pthread_mutex_destroy(&s->lock);
	free(s->buf);
	free(s);
}
