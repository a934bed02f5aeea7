#include "migrate/stream.h"

#include <errno.h>
#include <string.h>

#include <xxh_x86dispatch.h>

#include "base/wire.h"

#define HEADER_SUMMED 16 /* bytes of the header that the sum covers */

static uint64_t section_sum(const uint8_t *header, const void *payload,
			    size_t len)
{
	return XXH3_64bits_withSeed(payload, len,
				    XXH3_64bits(header, HEADER_SUMMED));
}

void stream_header(uint8_t *out, uint16_t id, uint16_t version, uint32_t flags,
		   const void *payload, uint32_t len)
{
	struct wire_out o;

	wire_out_init(&o, out, STREAM_HEADER);
	put_u32(&o, STREAM_MAGIC);
	put_u16(&o, id);
	put_u16(&o, version);
	put_u32(&o, flags);
	put_u32(&o, len);
	put_u64(&o, section_sum(out, payload, len));
}

int stream_send(struct chan *c, uint16_t id, uint16_t version, uint32_t flags,
		const void *payload, uint32_t len)
{
	uint8_t header[STREAM_HEADER];
	int ret;

	if (len > STREAM_PAYLOAD_MAX)
		return -EMSGSIZE;
	stream_header(header, id, version, flags, payload, len);
	ret = chan_send(c, header, sizeof(header));
	if (ret < 0 || !len)
		return ret;
	return chan_send(c, payload, len);
}

static const struct stream_rule *find(const struct stream_rule *rules,
				      uint16_t id)
{
	for (; rules->id; rules++)
		if (rules->id == id)
			return rules;
	return NULL;
}

/* *known: whether there is a rule; without one the section is skipped. */
static int judge(const uint8_t *header, const struct stream_rule *rules,
		 struct stream_section *s, uint64_t *sum, int *known,
		 struct err *e)
{
	const struct stream_rule *r;
	struct wire_in in;
	uint32_t magic;

	wire_in_init(&in, header, STREAM_HEADER);
	magic = get_u32(&in);
	s->id = get_u16(&in);
	s->version = get_u16(&in);
	s->flags = get_u32(&in);
	s->len = get_u32(&in);
	*sum = get_u64(&in);

	/* A record of a TLS handshake, and its version. */
	if ((magic & 0xffff) == 0x0316)
		return err_set(e, -EBADMSG,
			       "migration stream: the other side speaks TLS; "
			       "give this one --tls, too");
	if (magic != STREAM_MAGIC)
		return err_set(e, -EBADMSG,
			       "migration stream: 0x%08x where a section "
			       "should start; the peer is not Pagurus or the "
			       "stream is damaged",
			       magic);
	if (s->len > STREAM_PAYLOAD_MAX)
		return err_set(e, -EBADMSG,
			       "migration stream: section %u claims %u bytes, "
			       "%u are the most",
			       s->id, s->len, STREAM_PAYLOAD_MAX);
	r = find(rules, s->id);
	*known = r != NULL;
	if (!r && s->flags & STREAM_MANDATORY)
		return err_set(e, -EPROTO,
			       "migration stream: mandatory section %u is "
			       "unknown here or out of place; is this side "
			       "older?",
			       s->id);
	if (!r)
		return 0;
	if (s->version < r->version_min || s->version > r->version_max)
		return err_set(e, -EPROTO,
			       "section '%s': version %u, this side reads "
			       "%u..%u",
			       r->name, s->version, r->version_min,
			       r->version_max);
	if (s->len < r->len_min || s->len > r->len_max)
		return err_set(e, -EBADMSG,
			       "section '%s': %u bytes, must be %u..%u",
			       r->name, s->len, r->len_min, r->len_max);
	return 0;
}

static int check_sum(const uint8_t *header, const void *payload,
		     const struct stream_section *s, uint64_t sum,
		     struct err *e)
{
	if (section_sum(header, payload, s->len) == sum)
		return 0;
	return err_set(
		e, -EBADMSG,
		"migration stream: section %u arrived damaged (checksum)",
		s->id);
}

/* An optional section of no interest is read to its end and forgotten. */
static int skip(struct chan *c, uint32_t len)
{
	uint8_t hole[4096];

	while (len) {
		uint32_t n = len < sizeof(hole) ? len : sizeof(hole);
		int ret = chan_recv(c, hole, n);

		if (ret < 0)
			return ret;
		len -= n;
	}
	return 0;
}

int stream_recv_head(struct chan *c, const struct stream_rule *rules,
		     struct stream_section *s, struct stream_sum *sum,
		     struct err *e)
{
	uint8_t header[STREAM_HEADER];
	int ret, known;

	for (;;) {
		ret = chan_recv(c, header, sizeof(header));
		if (ret < 0)
			return chan_err(c, ret, e);
		ret = judge(header, rules, s, &sum->want, &known, e);
		if (ret < 0)
			return ret;
		if (known)
			break;
		ret = skip(c, s->len);
		if (ret < 0)
			return chan_err(c, ret, e);
	}
	XXH3_64bits_reset_withSeed(sum->state,
				   XXH3_64bits(header, HEADER_SUMMED));
	sum->left = s->len;
	return 0;
}

int stream_recv_some(struct chan *c, struct stream_sum *sum, void *buf,
		     size_t len, struct err *e)
{
	int ret;

	if (len > sum->left)
		return err_set(e, -EBADMSG,
			       "migration stream: a section is too short");
	ret = chan_recv(c, buf, len);
	if (ret < 0)
		return chan_err(c, ret, e);
	XXH3_64bits_update(sum->state, buf, len);
	sum->left -= len;
	return 0;
}

int stream_recv_end(struct stream_sum *sum, const struct stream_section *s,
		    struct err *e)
{
	if (sum->left)
		return err_set(e, -EBADMSG,
			       "migration stream: section %u is too long",
			       s->id);
	if (XXH3_64bits_digest(sum->state) != sum->want)
		return err_set(e, -EBADMSG,
			       "migration stream: section %u arrived damaged "
			       "(checksum)",
			       s->id);
	return 0;
}

int stream_sum_init(struct stream_sum *sum)
{
	sum->state = XXH3_createState();
	return sum->state ? 0 : -ENOMEM;
}

void stream_sum_fini(struct stream_sum *sum)
{
	XXH3_freeState(sum->state);
	sum->state = NULL;
}

int stream_recv(struct chan *c, const struct stream_rule *rules,
		struct stream_section *s, void *buf, size_t size, struct err *e)
{
	struct stream_sum sum;
	int ret = stream_sum_init(&sum);

	if (ret == 0)
		ret = stream_recv_head(c, rules, s, &sum, e);
	if (ret == 0 && s->len > size)
		ret = err_set(e, -EBADMSG, "section %u: no room for %u bytes",
			      s->id, s->len);
	if (ret == 0)
		ret = stream_recv_some(c, &sum, buf, s->len, e);
	if (ret == 0)
		ret = stream_recv_end(&sum, s, e);
	stream_sum_fini(&sum);
	return ret;
}

int stream_parse(const uint8_t *p, size_t n, const struct stream_rule *rules,
		 struct stream_section *s, const uint8_t **payload,
		 size_t *used, struct err *e)
{
	uint64_t sum;
	int ret, known;

	*used = 0;
	for (;;) {
		if (n - *used < STREAM_HEADER)
			return -EAGAIN;
		ret = judge(p + *used, rules, s, &sum, &known, e);
		if (ret < 0)
			return ret;
		if (n - *used - STREAM_HEADER < s->len)
			return -EAGAIN;
		*payload = p + *used + STREAM_HEADER;
		ret = known ? check_sum(p + *used, *payload, s, sum, e) : 0;
		if (ret < 0)
			return ret;
		*used += STREAM_HEADER + s->len;
		if (known)
			return 0;
	}
}
