/*
 * RAM as it arrives: a channel a thread, each page where the manifest said
 * that RAM is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "migrate/dest_priv.h"
#include "migrate/proto.h"

#define REASON_MS 300 /* for why it hung up */

/* A chunk: plain pages go straight to where they belong, if that exists. */
static int read_chunk(struct reader *r, struct stream_sum *sum, size_t len)
{
	struct ram_stretch to[RAM_CHUNK_PAGES];
	unsigned int pages;
	int n, ret;

	ret = stream_recv_some(r->chan, sum, r->buf, RAM_HEADER, &r->e);
	if (ret < 0)
		return ret;
	n = ram_place(&r->in->target, r->buf, len, to, &pages, &r->e);
	for (int i = 0; i < n && ret == 0; i++)
		ret = stream_recv_some(r->chan, sum, to[i].p, to[i].len, &r->e);
	if (n < 0 || ret < 0)
		return n < 0 ? n : ret;
	if (!pages) {
		ret = stream_recv_some(r->chan, sum, r->buf + RAM_HEADER,
				       len - RAM_HEADER, &r->e);
		if (ret == 0)
			ret = ram_decode(r->codec, &r->in->target, r->buf, len,
					 &pages, &r->e);
	}
	r->sections++;
	r->pages += pages;
	return ret;
}

static int read_sections(struct reader *r, struct stream_sum *sum)
{
	struct stream_section s;
	struct wire_in in;
	int ret;

	for (;;) {
		ret = stream_recv_head(r->chan, proto_data_rules, &s, sum,
				       &r->e);
		if (ret < 0)
			return ret;
		if (s.id == SEC_RAM)
			ret = read_chunk(r, sum, s.len);
		else
			ret = stream_recv_some(r->chan, sum, r->buf, s.len,
					       &r->e);
		/* Damage shows only here: the VM is dropped, not run. */
		if (ret == 0)
			ret = stream_recv_end(sum, &s, &r->e);
		if (ret < 0)
			return ret;
		if (s.id == SEC_RAM_END)
			break;
	}
	wire_in_init(&in, r->buf, s.len);
	if (get_u64(&in) != r->sections)
		return err_set(&r->e, -EBADMSG,
			       "RAM channel: %" PRIu64
			       " sections came, another number was sent",
			       r->sections);
	return 0;
}

static int read_ram(struct reader *r)
{
	struct stream_sum sum;
	int ret = stream_sum_init(&sum);

	if (ret == 0)
		ret = read_sections(r, &sum);
	stream_sum_fini(&sum);
	return ret;
}

static void *reader_thread(void *opaque)
{
	const struct timespec moment = { .tv_nsec = REASON_MS * 1000000 };
	struct reader *r = opaque;

	r->ret = read_ram(r);
	/* A source that hangs up says why on the main channel. */
	if (r->ret == -EPIPE)
		nanosleep(&moment, NULL);
	/*
	 * The main channel's reader must not wait for a source that cannot;
	 * the reason can still be sent there.
	 */
	if (r->ret < 0)
		chan_abort_recv(r->in->main);
	return NULL;
}

static int reader_start(struct incoming *in, struct reader *r)
{
	int ret;

	r->in = in;
	r->buf = malloc(STREAM_PAYLOAD_MAX);
	if (!r->buf)
		return -ENOMEM;
	ret = ram_codec_create(&r->codec, 0);
	if (ret == 0)
		ret = -pthread_create(&r->thread, NULL, reader_thread, r);
	r->started = ret == 0;
	return ret;
}

/*
 * One connection that proves to be of this migration.  A stranger's is
 * closed and does not count.
 */
static int accept_data(struct incoming *in, struct err *e)
{
	struct proto_hello h;
	struct err why = { 0 };
	struct chan *c;
	int ret = chan_accept(in->listener, &c, GREETING_MS, &why);

	if (ret == -ETIMEDOUT)
		return err_set(e, ret, "the source opened too few channels");
	if (ret < 0)
		goto stranger;
	chan_timeout(c, GREETING_MS);
	ret = proto_recv_hello(c, &h, &why);
	if (ret < 0) {
		chan_close(c);
		goto stranger;
	}
	if (memcmp(h.session, in->session, SESSION_BYTES) || !h.channel ||
	    h.channel > in->nreaders || in->reader[h.channel - 1].chan) {
		char text[200];

		ret = err_set(&why, -EPROTO, "not of this migration");
		door_turn_away(c, &h, dest_busy(in, text, sizeof(text)));
		goto stranger;
	}
	chan_timeout(c, 0);
	in->reader[h.channel - 1].chan = c;
	return reader_start(in, &in->reader[h.channel - 1]);

stranger:
	log_warn("receive: a connection was refused: %s", err_text(&why, ret));
	return 1;
}

int dest_accept_readers(struct incoming *in, struct err *e)
{
	unsigned int strangers = 0;

	for (unsigned int n = 0; n < in->nreaders;) {
		int ret = accept_data(in, e);

		if (ret < 0)
			return ret;
		if (ret == 0)
			n++;
		else if (++strangers > 64)
			return err_set(e, -EPROTO, "too many strangers");
	}
	return 0;
}

int dest_join_readers(struct incoming *in, bool abort, struct err *e)
{
	int ret = 0;

	for (unsigned int i = 0; i < in->nreaders; i++) {
		struct reader *r = &in->reader[i];

		if (!r->started)
			continue;
		if (abort)
			chan_abort(r->chan);
		pthread_join(r->thread, NULL);
		r->started = false;
		if (r->ret < 0 && ret == 0) {
			ret = err_set(e, r->ret, "%s", err_text(&r->e, r->ret));
			abort = true;
		}
	}
	return ret;
}

void dest_close_readers(struct incoming *in)
{
	dest_join_readers(in, true, NULL);
	for (unsigned int i = 0; i < MIG_CHANNELS_MAX; i++) {
		chan_close(in->reader[i].chan);
		ram_codec_destroy(in->reader[i].codec);
		free(in->reader[i].buf);
	}
}
