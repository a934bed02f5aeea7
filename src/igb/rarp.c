#include "igb/rarp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define FIRST_NS 50000000ull
#define STEP_NS	 100000000ull

size_t rarp_frame(uint8_t *buf, const uint8_t *mac, unsigned int vid)
{
	/* RARP, Ethernet and IPv4, six and four bytes, "request reverse" */
	static const uint8_t fixed[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
	uint8_t *p = buf;

	memset(buf, 0, RARP_MAX);
	memset(p, 0xff, 6);
	memcpy(p + 6, mac, 6);
	p += 12;
	if (vid) {
		p[0] = 0x81;
		p[2] = (uint8_t)(vid >> 8 & 0xf);
		p[3] = (uint8_t)vid;
		p += 4;
	}
	memcpy(p, fixed, sizeof(fixed));
	p += sizeof(fixed);
	/* Sender and target are the same station; no address above it. */
	memcpy(p, mac, 6);
	memcpy(p + 10, mac, 6);
	return vid ? 64 : 60;
}

static bool one(const uint8_t *mac, unsigned int vid, rarp_send_fn send,
		void *opaque, unsigned int *n)
{
	uint8_t buf[RARP_MAX];

	if (!send(opaque, buf, rarp_frame(buf, mac, vid)))
		return false;
	++*n;
	return true;
}

unsigned int rarp_send(const struct mbx_state *s, rarp_send_fn send,
		       void *opaque)
{
	unsigned int n = 0;

	for (int i = -1; i < (int)s->nfilters; i++) {
		const uint8_t *mac = i < 0 ? s->mac : s->filter[i];

		if (!mbx_mac_ok(mac))
			continue;
		if (!one(mac, 0, send, opaque, &n))
			return n;
		for (unsigned int vid = 1; vid < 4096; vid++)
			if (s->vlan[vid / 64] >> vid % 64 & 1 &&
			    !one(mac, vid, send, opaque, &n))
				return n;
	}
	return n;
}

/* ---- rounds ---- */

struct rarp_rounds {
	struct loop_source *timer;
	loop_fn round;
	void *opaque;
	unsigned int done;
};

static void on_round(void *opaque)
{
	struct rarp_rounds *r = opaque;

	r->round(r->opaque);
	if (++r->done < RARP_ROUNDS)
		loop_mod_timer(r->timer, FIRST_NS + (r->done - 1) * STEP_NS, 0);
}

int rarp_rounds_create(struct rarp_rounds **out, struct loop *l, loop_fn round,
		       void *opaque)
{
	struct rarp_rounds *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->round = round;
	r->opaque = opaque;
	r->done = RARP_ROUNDS;
	ret = loop_add_timer(l, UINT64_MAX / 4, 0, on_round, r, &r->timer);
	if (ret < 0) {
		free(r);
		return ret;
	}
	*out = r;
	return 0;
}

void rarp_rounds_destroy(struct rarp_rounds *r)
{
	if (!r)
		return;
	loop_remove(r->timer);
	free(r);
}

void rarp_rounds_start(struct rarp_rounds *r)
{
	r->done = 0;
	on_round(r);
}

void rarp_rounds_stop(struct rarp_rounds *r)
{
	loop_mod_timer(r->timer, UINT64_MAX / 4, 0);
	r->done = RARP_ROUNDS;
}
