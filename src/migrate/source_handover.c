/*
 * Whose the VM is.  docs/stream.md, "Who may run the VM": up to the first
 * byte of HANDOVER it is ours; from then on only the destination knows, and
 * is asked.
 */
#include <errno.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "migrate/source_priv.h"

#define REPLY_MS 10000 /* then it is asked */

/* Back to how it was: devices direct, log off, vCPUs running. */
void source_resume(struct mig_source *s)
{
	if (s->engaged)
		s->vm->ops->release(s->vm);
	if (s->logging)
		s->vm->ops->dirty_stop(s->vm);
	if (s->paused)
		s->vm->ops->resume(s->vm);
	s->engaged = s->logging = s->paused = false;
}

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
	ret = source_connect(s, &c, &why);
	if (s->direct && (ret == -ECONNREFUSED || ret == -ENOENT)) {
		/*
		 * Its host says that nobody listens.  The listener lives as
		 * long as the process that may run the VM, so that is no more.
		 * From a relay the same only means that the relay is gone.
		 */
		err_set(e, -ECONNREFUSED,
			"the destination died in the hand-over");
		return MIG_RUNS_HERE;
	}
	if (ret < 0)
		goto undecided;
	chan_timeout(c, 5000);
	ret = source_greet(s, c, CHANNEL_QUERY, &why);
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
	case OUTCOME_UNKNOWN:
		if (!s->direct)
			goto undecided; /* a relay may lead elsewhere now */
		/* One listener an address: who had it has gone before. */
		out = MIG_RUNS_HERE;
		err_set(e, -ECONNREFUSED,
			"the destination died in the hand-over; another "
			"process listens in its place");
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

enum mig_outcome source_hand_over(struct mig_source *s, struct err *e)
{
	struct err why = { 0 };
	int may_cancel = 0, ret;
	size_t len;

	source_enter(s, MIG_HANDOVER);
	if (!atomic_compare_exchange_strong(&s->fate, &may_cancel, 2)) {
		err_set(e, -ECANCELED, "cancelled");
		/* Or it would wait for a question about a hand-over. */
		proto_send_abort(s->main, "cancelled");
		return MIG_RUNS_HERE;
	}
	/*
	 * From the first byte of this message on, only the destination knows:
	 * even a send that failed may have arrived.
	 */
	chan_timeout(s->main, REPLY_MS);
	ret = proto_send(s->main, SEC_HANDOVER, NULL, 0);
	if (ret == 0)
		ret = proto_expect(s->main, SEC_RUNNING, s->buf, &len, &why);
	if (ret < 0) {
		log_warn("migration: hand-over unanswered (%s), asking",
			 err_text(&why, ret));
		/* So that it stops listening there and hears us ask. */
		chan_abort(s->main);
		return find_out(s, s->p.recovery_ms, e);
	}
	/* The outage is over: what is let go of here lengthens it no more. */
	source_enter(s, MIG_DONE);
	if (s->vm->ops->gone)
		s->vm->ops->gone(s->vm);
	s->watched = proto_send(s->main, SEC_BYE, NULL, 0) == 0 && s->p.measure;
	return MIG_RUNS_THERE;
}

enum mig_outcome mig_resolve(struct mig_source *s, unsigned int timeout_ms,
			     struct err *e)
{
	enum mig_outcome out = find_out(s, timeout_ms, e);

	if (out == MIG_RUNS_HERE)
		source_resume(s);
	return out;
}

void mig_resume_here(struct mig_source *s)
{
	source_resume(s);
}
