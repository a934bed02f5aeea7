/*
 * The destination's engine.
 *
 * The peer is not trusted: every message is held to its rule, every length
 * to a constant, RAM goes only where the manifest said RAM is, and nothing
 * of the state is loaded before all of it has come.  mig_receive() reads
 * like the protocol; door_decide() is the one place where the VM becomes
 * ours.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/log.h"
#include "base/util.h"
#include "migrate/dest_priv.h"
#include "migrate/place.h"
#include "migrate/proto.h"

#define IDLE_MS 60000 /* the source, between two messages */

const char *dest_busy(const struct incoming *in, char *text, size_t size)
{
	snprintf(text, size,
		 "it is busy with the VM '%s', which is arriving; another VM "
		 "needs a 'pagurus receive' of its own",
		 in->manifest.vm);
	return text;
}

/* ---- before RAM ---- */

static int take_manifest(struct incoming *in, struct err *e)
{
	struct stream_section s;
	struct wire_out o;
	struct wire_in w;
	int ret;

	ret = proto_recv(in->main, &s, in->buf, e);
	if (ret == 0 && s.id == SEC_CPU) {
		wire_in_init(&w, in->buf, s.len);
		if (in->vm->ops->cpu_check)
			ret = in->vm->ops->cpu_check(in->vm, &w, e);
		if (ret == 0)
			ret = proto_recv(in->main, &s, in->buf, e);
	}
	if (ret < 0)
		return ret;
	if (s.id != SEC_MANIFEST)
		return err_set(e, -EPROTO, "'%s' where 'manifest' was expected",
			       proto_name(s.id));
	wire_in_init(&w, in->buf, s.len);
	in->policy.fallback_software = get_u8(&w);
	ret = mig_manifest_get(&w, &in->manifest, e);
	if (ret < 0)
		return ret;
	ret = in->vm->ops->offer(in->vm, &in->manifest, &in->policy, &in->plan,
				 e);
	if (ret < 0)
		return ret;
	wire_out_init(&o, in->buf, STREAM_PAYLOAD_MAX);
	mig_plan_put(&o, &in->plan);
	ret = o.err ? o.err
		    : proto_send(in->main, SEC_PLAN, in->buf, wire_used(&o));
	return ret < 0 ? err_sys(e, ret, "answering with the plan") : 0;
}

/* How long is the source's wish; that it is no longer is ours. */
static void take_watch(struct incoming *in, size_t len)
{
	struct wire_in w;
	uint64_t ns;

	wire_in_init(&w, in->buf, len);
	ns = get_u64(&w);
	in->watch_ns = MIN(ns, MIG_WATCH_MAX_NS);
}

static int answer_prepared(struct incoming *in)
{
	char place[PLACE_MAX];
	struct wire_out o;

	place_here(place, in->main, in->listener);
	wire_out_init(&o, in->buf, STREAM_PAYLOAD_MAX);
	put_str(&o, place);
	return proto_send(in->main, SEC_PREPARED, in->buf, wire_used(&o));
}

/* 1: the source only wanted to know. */
static int take_prepare(struct incoming *in, struct err *e)
{
	struct stream_section s;
	struct wire_in w;
	int ret = proto_recv(in->main, &s, in->buf, e);

	if (ret == 0 && s.id == SEC_WATCH) {
		take_watch(in, s.len);
		ret = proto_recv(in->main, &s, in->buf, e);
	}
	if (ret < 0)
		return ret;
	if (s.id == SEC_BYE)
		return 1;
	if (s.id != SEC_PREPARE)
		return err_set(e, -EPROTO, "'%s' where 'prepare' was expected",
			       proto_name(s.id));
	ret = mig_plan_verdict(&in->plan, e);
	if (ret < 0)
		return ret;
	wire_in_init(&w, in->buf, s.len);
	in->nreaders = get_u32(&w);
	if (!in->nreaders || in->nreaders > MIG_CHANNELS_MAX) {
		in->nreaders = 0;
		return err_set(e, -EPROTO, "channels: must be 1..%u",
			       MIG_CHANNELS_MAX);
	}
	ret = in->vm->ops->prepare(in->vm, &in->manifest, &in->plan, e);
	if (ret < 0)
		return ret;
	in->prepared = true;
	in->target.n = in->vm->ops->ram(in->vm, &in->target.ram);
	in->target.written = in->written;
	if (in->target.n != in->manifest.nram)
		return err_set(e, -EINVAL, "RAM: not as in the manifest");
	for (size_t i = 0; i < in->target.n; i++) {
		in->written[i] =
			bitmap_alloc(in->target.ram[i].size >> PAGE_SHIFT);
		if (!in->written[i])
			return -ENOMEM;
		in->target.by_file |=
			(uint32_t)ram_is_sparse(&in->target.ram[i]) << i;
	}
	ret = answer_prepared(in);
	if (ret < 0)
		return err_sys(e, ret, "answering 'prepared'");
	return dest_accept_readers(in, e);
}

/* ---- state ---- */

static struct part *part_of(struct incoming *in, const char *name,
			    uint32_t total, struct err *e)
{
	struct part *p;

	for (unsigned int i = 0; i < in->nparts; i++)
		if (!strcmp(in->part[i].name, name))
			return &in->part[i];
	if (in->nparts == MIG_PARTS_MAX || total > MIG_PART_SIZE_MAX ||
	    in->part_bytes + total > MIG_STATE_SIZE_MAX) {
		err_set(e, -EFBIG, "state part '%s': too many or too large",
			name);
		return NULL;
	}
	p = &in->part[in->nparts];
	p->bytes = malloc(total ? total : 1);
	if (!p->bytes) {
		err_set(e, -ENOMEM, "state part '%s': no memory", name);
		return NULL;
	}
	strcpy(p->name, name);
	p->total = total;
	p->got = 0;
	in->part_bytes += total;
	in->nparts++;
	return p;
}

static int take_state(struct incoming *in, size_t len, struct err *e)
{
	char name[MIG_NAME_MAX];
	uint32_t at, total;
	struct wire_in w;
	struct part *p;
	size_t n;

	wire_in_init(&w, in->buf, len);
	get_text(&w, name, sizeof(name));
	at = get_u32(&w);
	total = get_u32(&w);
	n = wire_left(&w);
	if (w.err || !name[0])
		return err_set(e, -EBADMSG, "state: malformed");
	p = part_of(in, name, total, e);
	if (!p)
		return e && e->code ? e->code : -EBADMSG;
	/* Pieces come in order, none twice, none beyond the promise. */
	if (total != p->total || at != p->got || n > total - at)
		return err_set(e, -EBADMSG, "state part '%s': out of order",
			       name);
	get_bytes(&w, p->bytes + at, n);
	p->got += (uint32_t)n;
	return 0;
}

static int take_commit(struct incoming *in, size_t len, struct err *e)
{
	struct wire_in w;
	uint64_t parts, bytes;

	wire_in_init(&w, in->buf, len);
	parts = get_u64(&w);
	bytes = get_u64(&w);
	if (parts != in->nparts || bytes != in->part_bytes)
		return err_set(e, -EBADMSG,
			       "commit: %" PRIu64 " parts of %" PRIu64
			       " bytes announced, %u of %" PRIu64 " came",
			       parts, bytes, in->nparts, in->part_bytes);
	for (unsigned int i = 0; i < in->nparts; i++)
		if (in->part[i].got != in->part[i].total)
			return err_set(e, -EBADMSG, "state part '%s': short",
				       in->part[i].name);
	return 0;
}

/* It comes after the last RAM: what is still on its way arrives first. */
static int take_digest(struct incoming *in, size_t len, struct err *e)
{
	int ret = dest_join_readers(in, false, e);

	if (ret < 0)
		return ret;
	return verify_take(&in->verify, in->target.ram, in->target.n, in->buf,
			   len, e);
}

static int take_all(struct incoming *in, struct err *e)
{
	struct stream_section s;
	int ret;

	for (;;) {
		ret = proto_recv(in->main, &s, in->buf, e);
		if (ret < 0)
			return ret;
		if (s.id == SEC_COMMIT)
			break;
		if (s.id == SEC_DIGEST) {
			ret = take_digest(in, s.len, e);
			if (ret < 0)
				return ret;
			continue;
		}
		if (s.id != SEC_STATE)
			return err_set(e, -EPROTO,
				       "'%s' where 'state' was expected",
				       proto_name(s.id));
		ret = take_state(in, s.len, e);
		if (ret < 0)
			return ret;
	}
	ret = take_commit(in, s.len, e);
	if (ret == 0)
		ret = dest_join_readers(in, false, e);
	if (ret == 0 && in->verify.pages)
		ret = verify_end(&in->verify, in->target.ram, in->target.n, e);
	return ret;
}

static int load_all(struct incoming *in, struct err *e)
{
	for (unsigned int i = 0; i < in->nparts; i++) {
		struct part *p = &in->part[i];
		uint64_t t0 = now_ns();
		struct wire_in w;
		int ret;

		wire_in_init(&w, p->bytes, p->total);
		ret = in->vm->ops->load(in->vm, p->name, &w, e);
		p->load_ns = now_ns() - t0;
		if (ret == 0)
			ret = wire_done(&w);
		if (ret < 0)
			return err_sys(e, ret, "state part '%s'", p->name);
	}
	return in->vm->ops->ready(in->vm, e);
}

/* For the source's report; one that does not know it skips it. */
static int tell_times(struct incoming *in)
{
	struct wire_out o;

	wire_out_init(&o, in->buf, STREAM_PAYLOAD_MAX);
	put_u32(&o, in->nparts);
	for (unsigned int i = 0; i < in->nparts; i++) {
		put_str(&o, in->part[i].name);
		put_u64(&o, in->part[i].load_ns);
	}
	return stream_send(in->main, SEC_TIMES, 1, 0, in->buf,
			   (uint32_t)wire_used(&o));
}

/* ---- the whole ---- */

static int greet_source(struct incoming *in, struct err *e)
{
	struct proto_hello h, me = { .version_min = PROTO_VERSION_MIN,
				     .version_max = PROTO_VERSION_MAX,
				     .program = "pagurus " PAGURUS_VERSION };
	int ret;

	chan_timeout(in->main, GREETING_MS);
	ret = proto_recv_hello(in->main, &h, e);
	if (ret < 0)
		return ret;
	if (h.channel == CHANNEL_QUERY) {
		struct chan *c = in->main;

		in->main = NULL;
		door_turn_away(c, &h, NULL);
		return 1;
	}
	if (h.channel != CHANNEL_MAIN)
		return err_set(e, -EPROTO,
			       "a data channel of a migration that is not "
			       "going on here");
	memcpy(in->session, h.session, SESSION_BYTES);
	memcpy(me.session, h.session, SESSION_BYTES);
	ret = proto_send_hello(in->main, &me);
	if (ret < 0)
		return err_sys(e, ret, "greeting the source");
	chan_timeout(in->main, IDLE_MS);
	return 0;
}

static struct door the_door(const struct incoming *in)
{
	return (struct door){ .listener = in->listener,
			      .main = in->main,
			      .session = in->session,
			      .vm = in->vm,
			      .watch_ns = in->watch_ns };
}

/* 0: hand-over; 1: a mere check. */
static int converse(struct incoming *in, struct err *e)
{
	int ret = greet_source(in, e);
	struct door door;
	char text[240];

	if (ret == 0)
		ret = take_manifest(in, e);
	if (ret == 0)
		ret = take_prepare(in, e);
	if (ret != 0)
		return ret;
	door = the_door(in);
	ret = doorman_create(&in->doorman, &door,
			     dest_busy(in, text, sizeof(text)));
	if (ret < 0)
		return ret;
	/* Pre-copy takes what it takes; keepalive notices a dead peer. */
	chan_timeout(in->main, 0);
	ret = take_all(in, e);
	if (ret == 0)
		ret = load_all(in, e);
	if (ret < 0)
		return ret;
	doorman_dismiss(in->doorman);
	ret = tell_times(in);
	if (ret == 0)
		ret = proto_send(in->main, SEC_READY, NULL, 0);
	if (ret < 0)
		return err_sys(e, ret, "answering 'ready'");
	return door_decide(&door, in->buf, e);
}

static void clear(struct incoming *in)
{
	doorman_destroy(in->doorman);
	dest_close_readers(in);
	for (unsigned int i = 0; i < MIG_RAM_MAX; i++)
		free(in->written[i]);
	for (unsigned int i = 0; i < in->nparts; i++)
		free(in->part[i].bytes);
	free(in->buf);
	free(in);
}

/* What went wrong: a reader's failure explains a broken main channel. */
static void explain(struct incoming *in, struct err *e)
{
	struct err first = { 0 };

	if (dest_join_readers(in, true, &first) < 0 && e && e->code == -EPIPE &&
	    first.code != -EPIPE)
		*e = first;
}

/*
 * 0: ours; 1: wait for the next, this was a check or never got as far as
 * making a VM; -errno: a migration came to nothing.
 */
static int serve(struct mig_vm *vm, struct chan_listener *l, struct chan *main,
		 struct mig_incoming **keep, struct err *e)
{
	struct incoming *in = calloc(1, sizeof(*in));
	int ret;

	if (!in) {
		chan_close(main);
		return -ENOMEM;
	}
	in->vm = vm;
	in->listener = l;
	in->main = main;
	in->buf = malloc(STREAM_PAYLOAD_MAX);
	ret = in->buf ? converse(in, e) : -ENOMEM;
	if (ret == 0) {
		struct door door;

		if (!vm->ops->watch || !vm->ops->watched)
			in->watch_ns = 0;
		if (in->watch_ns)
			vm->ops->watch(vm, in->watch_ns);
		vm->ops->run(vm);
		door = the_door(in);
		/* Without a witness the source times out and asks in vain. */
		if (door_testify(&door, keep) < 0) {
			log_error("receive: no memory to confirm the "
				  "hand-over");
			chan_close(in->main);
			*keep = NULL;
		}
		clear(in);
		return 0;
	}
	if (ret == 1)
		log_info("receive: a question was answered");
	if (ret < 0) {
		explain(in, e);
		proto_send_abort(in->main, err_text(e, ret));
		if (in->prepared) {
			vm->ops->drop(vm);
		} else {
			log_warn("receive: %s", err_text(e, ret));
			ret = 1;
		}
	}
	chan_close(in->main);
	clear(in);
	return ret;
}

int mig_receive(struct mig_vm *vm, struct chan_listener *l,
		struct mig_incoming **keep, struct err *e)
{
	*keep = NULL;
	for (;;) {
		struct err why = { 0 };
		struct chan *c;
		int ret = chan_accept(l, &c, -1, &why);

		/* Somebody who cannot shake hands ends nothing. */
		if (ret == -EPROTO) {
			log_warn("receive: %s", err_text(&why, ret));
			continue;
		}
		if (ret == 0)
			ret = serve(vm, l, c, keep, &why);
		if (ret < 0)
			return err_set(e, ret, "%s", err_text(&why, ret));
		if (ret == 0)
			return 0;
	}
}
