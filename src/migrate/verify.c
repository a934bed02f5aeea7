#include "migrate/verify.h"

#include <errno.h>
#include <inttypes.h>

#include <xxh_x86dispatch.h>

#include "base/util.h"
#include "base/wire.h"
#include "migrate/proto.h"

#define HEAD	  8u /* gpa of the first page */
#define SUM	  8u
#define PAGES_MAX ((STREAM_PAYLOAD_MAX - HEAD) / SUM)

static int send_region(struct chan *c, const struct host_ram *r, uint8_t *buf,
		       uint64_t *pages)
{
	uint64_t left = r->size >> PAGE_SHIFT, at = 0;
	struct wire_out o;
	int ret = 0;

	while (ret == 0 && left) {
		uint64_t n = MIN(left, (uint64_t)PAGES_MAX);

		wire_out_init(&o, buf, STREAM_PAYLOAD_MAX);
		put_u64(&o, r->gpa.v + at);
		for (uint64_t i = 0; i < n; i++, at += PAGE_SIZE)
			put_u64(&o, XXH3_64bits((const uint8_t *)r->guest + at,
						PAGE_SIZE));
		ret = proto_send(c, SEC_DIGEST, buf, wire_used(&o));
		left -= n;
		*pages += n;
	}
	return ret;
}

int verify_send(struct chan *c, const struct host_ram *ram, size_t n,
		uint8_t *buf, uint64_t *pages)
{
	int ret = 0;

	*pages = 0;
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = send_region(c, &ram[i], buf, pages);
	return ret;
}

int verify_take(struct verify *v, const struct host_ram *ram, size_t n,
		const uint8_t *payload, size_t len, struct err *e)
{
	const struct host_ram *r = NULL;
	struct wire_in in;
	uint64_t gpa, count;

	wire_in_init(&in, payload, len);
	gpa = get_u64(&in);
	count = wire_left(&in) / SUM;
	for (size_t i = 0; i < n; i++)
		if (gpa >= ram[i].gpa.v && gpa - ram[i].gpa.v < ram[i].size)
			r = &ram[i];
	if (in.err || !count || wire_left(&in) % SUM)
		return err_set(e, -EBADMSG, "digest: malformed");
	if (!r || gpa % PAGE_SIZE ||
	    count > (r->size - (gpa - r->gpa.v)) >> PAGE_SHIFT)
		return err_set(e, -EBADMSG,
			       "digest: 0x%" PRIx64 " is not RAM here", gpa);
	for (uint64_t i = 0; i < count; i++, gpa += PAGE_SIZE) {
		const uint8_t *p =
			(const uint8_t *)r->backing + (gpa - r->gpa.v);

		v->pages++;
		if (get_u64(&in) == XXH3_64bits(p, PAGE_SIZE))
			continue;
		if (!v->bad++)
			v->first_bad = gpa;
	}
	return 0;
}

int verify_end(const struct verify *v, const struct host_ram *ram, size_t n,
	       struct err *e)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < n; i++)
		pages += ram[i].size >> PAGE_SHIFT;
	if (v->bad)
		return err_set(e, -EILSEQ,
			       "verification: %" PRIu64 " of %" PRIu64
			       " pages differ from the source's, the first at "
			       "0x%" PRIx64,
			       v->bad, v->pages, v->first_bad);
	if (v->pages != pages)
		return err_set(e, -EBADMSG,
			       "verification: %" PRIu64 " of %" PRIu64
			       " pages were compared",
			       v->pages, pages);
	return 0;
}
