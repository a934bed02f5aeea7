/*
 * The messages of the main channel, and who may say which when.
 */
#ifndef MIGRATE_PROTO_H
#define MIGRATE_PROTO_H

#include "migrate/stream.h"

#define PROTO_VERSION_MIN 1
#define PROTO_VERSION_MAX 1

#define SESSION_BYTES 16

/* Section ids.  Never reuse a number; docs/stream.md describes each. */
enum {
	SEC_HELLO = 1, /* both ways, first on every channel */
	SEC_MANIFEST,  /* source: what would move, under which policy */
	SEC_PLAN,      /* destination: action and reason a device */
	SEC_PREPARE,   /* source: go on, so many data channels follow */
	SEC_PREPARED,  /* destination: where it listens, place.h */
	SEC_RAM,       /* data channels */
	SEC_RAM_END,   /* data channels: how many RAM sections there were */
	SEC_STATE,     /* a piece of a named part */
	SEC_COMMIT,    /* source: that was all; counts */
	SEC_READY,     /* destination: loaded, could run */
	SEC_HANDOVER,  /* source: it is yours */
	SEC_RUNNING,   /* destination: it runs */
	SEC_BYE,       /* source: heard */
	SEC_ABORT,     /* either: why */
	SEC_QUERY,     /* source, on a new channel: what became of it? */
	SEC_OUTCOME,   /* destination: enum proto_outcome */
	SEC_ROUND,     /* source, optional: a round ended */
	SEC_DIGEST,    /* source: sums of the final RAM's pages */
	SEC_TIMES,     /* destination, optional: what loading a part took */
	SEC_CPU,       /* source, optional: the CPU its guest sees */
	SEC_WATCH,     /* source, optional: tell me what its VFs do there */
	SEC_TRAFFIC,   /* destination, optional: that */
};

enum proto_outcome {
	OUTCOME_ABORTED = 1,
	OUTCOME_RUNNING = 2,
	OUTCOME_UNKNOWN = 3, /* who answers never had it */
};

enum { CHANNEL_MAIN = 0, CHANNEL_QUERY = 0xffff };

struct proto_hello {
	uint16_t version_min, version_max;
	uint16_t channel; /* 0: main; 1..: data; CHANNEL_QUERY */
	uint8_t session[SESSION_BYTES];
	char program[32];
};

/* Send one message whose payload a 'put' of wire.h built in 'o'. */
int proto_send(struct chan *c, uint16_t id, const void *payload, size_t len);
int proto_send_hello(struct chan *c, const struct proto_hello *h);
/* Sends the reason; its own failure does not matter any more. */
void proto_send_abort(struct chan *c, const char *why);

/*
 * The next message, which must be 'want'.  An ABORT instead is -ECANCELED
 * with the peer's reason.  buf has STREAM_PAYLOAD_MAX bytes.
 */
int proto_expect(struct chan *c, uint16_t want, void *buf, size_t *len,
		 struct err *e);
/* Any message of the main channel. */
int proto_recv(struct chan *c, struct stream_section *s, void *buf,
	       struct err *e);
int proto_recv_hello(struct chan *c, struct proto_hello *h, struct err *e);

/* For the data channels' reader. */
extern const struct stream_rule proto_data_rules[];

const char *proto_name(uint16_t id);

#endif
