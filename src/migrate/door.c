#include "migrate/door.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "migrate/traffic.h"

#define GREETING_MS 5000
#define HANDOVER_MS 10000 /* READY to HANDOVER */
#define RECOVERY_MS 10000 /* a lost link, to QUERY */

/* ---- questions ---- */

/* Hello was heard: hello, the question, the answer. */
static int answer(struct chan *c, const struct proto_hello *h,
		  enum proto_outcome outcome)
{
	struct proto_hello me = { .version_min = PROTO_VERSION_MIN,
				  .version_max = PROTO_VERSION_MAX,
				  .channel = CHANNEL_QUERY,
				  .program = "pagurus " PAGURUS_VERSION };
	uint8_t *buf = malloc(STREAM_PAYLOAD_MAX), word[4];
	struct wire_out o;
	size_t len;
	int ret;

	if (!buf)
		return -ENOMEM;
	memcpy(me.session, h->session, SESSION_BYTES);
	ret = proto_send_hello(c, &me);
	if (ret == 0)
		ret = proto_expect(c, SEC_QUERY, buf, &len, NULL);
	free(buf);
	if (ret < 0)
		return ret;
	wire_out_init(&o, word, sizeof(word));
	put_u32(&o, outcome);
	return proto_send(c, SEC_OUTCOME, word, sizeof(word));
}

void door_turn_away(struct chan *c, const struct proto_hello *h,
		    const char *why)
{
	if (h->channel == CHANNEL_QUERY)
		answer(c, h, OUTCOME_UNKNOWN);
	else
		proto_send_abort(c, why);
	chan_close(c);
}

/* One connection; 0: it was our source, and knows now. */
static int answer_one(const struct door *d, enum proto_outcome outcome)
{
	struct proto_hello h;
	struct chan *c;
	int ret = chan_accept(d->listener, &c, 500, NULL);

	if (ret < 0)
		return ret;
	chan_timeout(c, GREETING_MS);
	ret = proto_recv_hello(c, &h, NULL);
	if (ret < 0) {
		chan_close(c);
		return ret;
	}
	if (h.channel != CHANNEL_QUERY ||
	    memcmp(h.session, d->session, SESSION_BYTES)) {
		door_turn_away(c, &h, "this process has its VM");
		return -EPROTO;
	}
	ret = answer(c, &h, outcome);
	chan_close(c);
	return ret;
}

/* ---- while a VM arrives ---- */

struct doorman {
	struct door d;
	char text[240];
	pthread_t thread;
	int quit; /* eventfd */
};

static void *keep_door(void *opaque)
{
	struct doorman *m = opaque;
	struct pollfd p[2] = { { .fd = m->quit, .events = POLLIN },
			       { .fd = chan_listener_fd(m->d.listener),
				 .events = POLLIN } };

	while (poll(p, 2, -1) >= 0 && !p[0].revents) {
		struct proto_hello h;
		struct chan *c;
		int ret = chan_accept(m->d.listener, &c, 0, NULL);

		if (ret == -ESHUTDOWN)
			break;
		if (ret < 0)
			continue;
		chan_timeout(c, GREETING_MS);
		if (proto_recv_hello(c, &h, NULL) == 0)
			door_turn_away(c, &h, m->text);
		else
			chan_close(c);
	}
	return NULL;
}

int doorman_create(struct doorman **out, const struct door *d, const char *why)
{
	struct doorman *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return -ENOMEM;
	m->d = *d;
	snprintf(m->text, sizeof(m->text), "%s", why);
	m->quit = eventfd(0, EFD_CLOEXEC);
	ret = m->quit < 0 ? -errno
			  : -pthread_create(&m->thread, NULL, keep_door, m);
	if (ret < 0) {
		close_fd(&m->quit);
		free(m);
		return ret;
	}
	*out = m;
	return 0;
}

void doorman_dismiss(struct doorman *m)
{
	if (m)
		eventfd_write(m->quit, 1);
}

void doorman_destroy(struct doorman *m)
{
	if (!m)
		return;
	doorman_dismiss(m);
	pthread_join(m->thread, NULL);
	close(m->quit);
	free(m);
}

/* ---- the hand-over ---- */

int door_decide(const struct door *d, void *buf, struct err *e)
{
	uint64_t until;
	size_t len;
	int ret;

	chan_timeout(d->main, HANDOVER_MS);
	ret = proto_expect(d->main, SEC_HANDOVER, buf, &len, e);
	if (ret == 0 || ret == -ECANCELED)
		return ret;
	/*
	 * The link broke, and the source may have sent what never came.  It
	 * will ask; stay until it has, or can be assumed to have resumed.
	 */
	until = now_ns() + RECOVERY_MS * 1000000ull;
	while (now_ns() < until) {
		int heard = answer_one(d, OUTCOME_ABORTED);

		/* Heard, or the listener is closed on us. */
		if (heard == 0 || heard == -ESHUTDOWN)
			break;
	}
	return ret;
}

struct mig_incoming {
	struct door d;
	uint8_t session[SESSION_BYTES];
	pthread_t thread;
	int quit;	/* eventfd */
	uint64_t since; /* the hand-over (now_ns) */
	_Atomic bool heard;
};

/* When the devices have been watched for so long, what was seen. */
static void tell_traffic(struct mig_incoming *k)
{
	struct mig_sample s[MIG_AFTER_MAX];
	uint64_t until = k->since + k->d.watch_ns, now = now_ns();
	struct pollfd quit = { .fd = k->quit, .events = POLLIN };
	uint8_t buf[4 + sizeof(s)];
	struct wire_out o;
	size_t n;

	if (now < until &&
	    poll(&quit, 1, (int)((until - now) / 1000000 + 1)) != 0)
		return;
	n = k->d.vm->ops->watched(k->d.vm, s);
	if (n < 2)
		return;
	wire_out_init(&o, buf, sizeof(buf));
	mig_after_put(&o, s, n);
	stream_send(k->d.main, SEC_TRAFFIC, 1, 0, buf, (uint32_t)wire_used(&o));
}

static void *testify(void *opaque)
{
	struct mig_incoming *k = opaque;
	struct pollfd p[2] = { { .fd = k->quit, .events = POLLIN },
			       { .fd = chan_listener_fd(k->d.listener),
				 .events = POLLIN } };
	uint8_t *buf = malloc(STREAM_PAYLOAD_MAX);
	bool heard = false;
	size_t len;

	if (proto_send(k->d.main, SEC_RUNNING, NULL, 0) == 0 && buf) {
		chan_timeout(k->d.main, HANDOVER_MS);
		heard = proto_expect(k->d.main, SEC_BYE, buf, &len, NULL) == 0;
	}
	free(buf);
	k->heard = heard;
	if (heard && k->d.watch_ns)
		tell_traffic(k);
	while (!heard && poll(p, 2, -1) >= 0 && !p[0].revents) {
		int ret = answer_one(&k->d, OUTCOME_RUNNING);

		heard = ret == 0 || ret == -ESHUTDOWN;
	}
	k->heard = heard;
	return NULL;
}

int door_testify(const struct door *d, struct mig_incoming **out)
{
	struct mig_incoming *k = calloc(1, sizeof(*k));
	int ret;

	if (!k)
		return -ENOMEM;
	k->d = *d;
	memcpy(k->session, d->session, SESSION_BYTES);
	k->d.session = k->session;
	k->since = now_ns();
	k->quit = eventfd(0, EFD_CLOEXEC);
	ret = k->quit < 0 ? -errno
			  : -pthread_create(&k->thread, NULL, testify, k);
	if (ret < 0) {
		close_fd(&k->quit);
		free(k);
		return ret;
	}
	*out = k;
	return 0;
}

void mig_incoming_close(struct mig_incoming *k, unsigned int ms)
{
	const struct timespec nap = { .tv_nsec = 20000000 };
	bool told = false;

	if (!k)
		return;
	/*
	 * A listener that is gone means to the source that its VM never came
	 * to run; it would run it once more.
	 */
	while (!k->heard && now_ns() - k->since < ms * 1000000ull) {
		if (!told)
			log_warn("receive: the VM has ended, and its source "
				 "has not heard yet that it ran here: waiting "
				 "for it to ask, %u s after the hand-over at "
				 "most",
				 ms / 1000);
		told = true;
		nanosleep(&nap, NULL);
	}
	eventfd_write(k->quit, 1);
	chan_abort(k->d.main);
	pthread_join(k->thread, NULL);
	chan_close(k->d.main);
	close(k->quit);
	free(k);
}
