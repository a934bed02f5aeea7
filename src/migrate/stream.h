/*
 * The migration stream: sections on channels.
 *
 * Each section is a 24-byte header and a payload, little-endian:
 *
 *	u32 magic, u16 id, u16 version, u32 flags, u32 length, u64 sum
 *
 * The sum is XXH3-64 of the payload, seeded with XXH3-64 of the sixteen
 * bytes before it.  A section nobody knows is fatal if its MANDATORY flag
 * is set and skipped if not.  docs/stream.md lists the sections.
 */
#ifndef MIGRATE_STREAM_H
#define MIGRATE_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "migrate/chan.h"

#define STREAM_MAGIC	   0x31536750u /* "PgS1" */
#define STREAM_HEADER	   24u	       /* bytes */
#define STREAM_PAYLOAD_MAX (1u << 20)

#define STREAM_MANDATORY (1u << 0)

/* What a reader knows; a table of these ends with id 0. */
struct stream_rule {
	uint16_t id;
	uint16_t version_min, version_max;
	uint32_t len_min, len_max; /* bytes of payload */
	const char *name;
};

struct stream_section {
	uint16_t id, version;
	uint32_t flags, len;
};

/* Fill the header for a payload; 'out' has STREAM_HEADER bytes. */
void stream_header(uint8_t *out, uint16_t id, uint16_t version, uint32_t flags,
		   const void *payload, uint32_t len);

int stream_send(struct chan *c, uint16_t id, uint16_t version, uint32_t flags,
		const void *payload, uint32_t len);

/*
 * The next section that 'rules' knows; 'buf' takes its payload.  Anything
 * else than a section within its rule is -EBADMSG (damaged), -EPROTO (not
 * ours to read) with a message, or the channel's own error.
 */
int stream_recv(struct chan *c, const struct stream_rule *rules,
		struct stream_section *s, void *buf, size_t size,
		struct err *e);

/*
 * The same piece by piece, for a payload that goes straight to where it
 * belongs: head, then as many bytes as s->len in pieces, then end, which is
 * the first to know whether they were right.  One sum a thread, reused.
 */
struct stream_sum {
	void *state; /* the hash's */
	uint64_t want;
	size_t left; /* bytes not received yet */
};

int stream_sum_init(struct stream_sum *sum);
void stream_sum_fini(struct stream_sum *sum);
int stream_recv_head(struct chan *c, const struct stream_rule *rules,
		     struct stream_section *s, struct stream_sum *sum,
		     struct err *e);
int stream_recv_some(struct chan *c, struct stream_sum *sum, void *buf,
		     size_t len, struct err *e);
int stream_recv_end(struct stream_sum *sum, const struct stream_section *s,
		    struct err *e);

/*
 * The same on bytes in memory, for tests and fuzzers: *used gets how many
 * were consumed.  -EAGAIN: more bytes are needed.
 */
int stream_parse(const uint8_t *p, size_t n, const struct stream_rule *rules,
		 struct stream_section *s, const uint8_t **payload,
		 size_t *used, struct err *e);

#endif
