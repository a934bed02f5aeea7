#include "migrate/proto.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "base/wire.h"
#include "migrate/place.h"
#include "migrate/ram.h"
#include "migrate/traffic.h"

#define ABORT_TEXT_MAX 400

#define ANY STREAM_PAYLOAD_MAX

static const struct stream_rule main_rules[] = {
	/* id, versions, bytes */
	{ SEC_HELLO, 1, 1, 24, 128, "hello" },
	{ SEC_MANIFEST, 1, 1, 16, 8192, "manifest" },
	{ SEC_PLAN, 1, 1, 4, 16384, "plan" },
	{ SEC_PREPARE, 1, 1, 4, 4, "prepare" },
	{ SEC_PREPARED, 1, 1, 0, PLACE_MAX + 2, "prepared" },
	{ SEC_STATE, 1, 1, 8, ANY, "state" },
	{ SEC_COMMIT, 1, 1, 16, 16, "commit" },
	{ SEC_READY, 1, 1, 0, 0, "ready" },
	{ SEC_HANDOVER, 1, 1, 0, 0, "hand-over" },
	{ SEC_RUNNING, 1, 1, 0, 0, "running" },
	{ SEC_BYE, 1, 1, 0, 0, "bye" },
	{ SEC_ABORT, 1, 1, 2, ABORT_TEXT_MAX + 2, "abort" },
	{ SEC_QUERY, 1, 1, 0, 0, "query" },
	{ SEC_OUTCOME, 1, 1, 4, 4, "outcome" },
	{ SEC_DIGEST, 1, 1, 16, ANY, "digest" },
	{ SEC_TIMES, 1, 1, 4, 8192, "times" },
	{ SEC_CPU, 1, 1, 2, 65536, "CPU model" },
	{ SEC_WATCH, 1, 1, 8, 8, "watch" },
	{ SEC_TRAFFIC, 1, 1, 4, 4 + 24 * MIG_AFTER_MAX, "traffic" },
	{ 0 },
};

const struct stream_rule proto_data_rules[] = {
	{ SEC_RAM, 1, 1, RAM_HEADER, RAM_PAYLOAD_MAX, "RAM" },
	{ SEC_RAM_END, 1, 1, 8, 8, "end of RAM" },
	{ 0 },
};

const char *proto_name(uint16_t id)
{
	for (const struct stream_rule *r = main_rules; r->id; r++)
		if (r->id == id)
			return r->name;
	return "?";
}

int proto_send(struct chan *c, uint16_t id, const void *payload, size_t len)
{
	return stream_send(c, id, 1, STREAM_MANDATORY, payload, (uint32_t)len);
}

int proto_send_hello(struct chan *c, const struct proto_hello *h)
{
	uint8_t buf[128];
	struct wire_out o;

	wire_out_init(&o, buf, sizeof(buf));
	put_u16(&o, h->version_min);
	put_u16(&o, h->version_max);
	put_u16(&o, h->channel);
	put_bytes(&o, h->session, SESSION_BYTES);
	put_str(&o, h->program);
	return proto_send(c, SEC_HELLO, buf, wire_used(&o));
}

int proto_recv_hello(struct chan *c, struct proto_hello *h, struct err *e)
{
	uint8_t buf[ABORT_TEXT_MAX + 2];
	struct stream_section s;
	struct wire_in in;
	int ret;

	/* The first words of a stranger: no large buffer for them. */
	ret = stream_recv(c, main_rules, &s, buf, sizeof(buf), e);
	if (ret < 0)
		return ret;
	wire_in_init(&in, buf, s.len);
	if (s.id == SEC_ABORT) {
		char why[ABORT_TEXT_MAX];

		get_text(&in, why, sizeof(why));
		return err_set(e, -ECANCELED, "the other side gave up: %s",
			       why);
	}
	if (s.id != SEC_HELLO)
		return err_set(e, -EPROTO, "'%s' where 'hello' was expected",
			       proto_name(s.id));
	h->version_min = get_u16(&in);
	h->version_max = get_u16(&in);
	h->channel = get_u16(&in);
	get_bytes(&in, h->session, SESSION_BYTES);
	get_text(&in, h->program, sizeof(h->program));
	if (wire_done(&in) < 0)
		return err_set(e, -EBADMSG, "'hello': malformed");
	if (h->version_min > PROTO_VERSION_MAX ||
	    h->version_max < PROTO_VERSION_MIN)
		return err_set(e, -EPROTO,
			       "the peer (%s) speaks stream versions %u..%u, "
			       "this side %u..%u; upgrade the older one",
			       h->program, h->version_min, h->version_max,
			       PROTO_VERSION_MIN, PROTO_VERSION_MAX);
	return 0;
}

void proto_send_abort(struct chan *c, const char *why)
{
	uint8_t buf[ABORT_TEXT_MAX + 2];
	char text[ABORT_TEXT_MAX];
	struct wire_out o;
	size_t n = MIN(strlen(why), sizeof(text) - 1);

	memcpy(text, why, n);
	text[n] = '\0';
	wire_out_init(&o, buf, sizeof(buf));
	put_str(&o, text);
	proto_send(c, SEC_ABORT, buf, wire_used(&o));
}

int proto_recv(struct chan *c, struct stream_section *s, void *buf,
	       struct err *e)
{
	char why[ABORT_TEXT_MAX];
	struct wire_in in;
	int ret = stream_recv(c, main_rules, s, buf, STREAM_PAYLOAD_MAX, e);

	if (ret < 0 || s->id != SEC_ABORT)
		return ret;
	wire_in_init(&in, buf, s->len);
	get_text(&in, why, sizeof(why));
	return err_set(e, -ECANCELED, "the other side gave up: %s",
		       why[0] ? why : "no reason given");
}

int proto_expect(struct chan *c, uint16_t want, void *buf, size_t *len,
		 struct err *e)
{
	struct stream_section s;
	int ret = proto_recv(c, &s, buf, e);

	if (ret < 0)
		return ret;
	if (s.id != want)
		return err_set(e, -EPROTO, "'%s' where '%s' was expected",
			       proto_name(s.id), proto_name(want));
	*len = s.len;
	return 0;
}
