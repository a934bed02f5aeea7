#include "traffic.h"

#define ETHERTYPE 0x88b5u /* IEEE: for local experiments */
#define MAGIC	  0x70616775u
#define PROBE_NS  200000000ull
#define RING_ROOM 768u /* of the frames of all peers */
#define FRAME_MIN 82u  /* the headers; what is shorter cannot be checked */

/* PROBE: "what have you got?", and an ACK is the answer. */
enum { HELLO = 1, DATA, ACK, PROBE };

struct hdr {
	uint8_t dst[6], src[6];
	uint8_t type[2];
	uint16_t len; /* of the frame */
	uint32_t magic;
	uint32_t kind, from, to, epoch;
	uint64_t seq;	    /* DATA: its number */
	uint64_t ack;	    /* what we expect next from the receiver */
	uint64_t ack_epoch; /* of the receiver, as far as we know it */
	uint64_t total;
	uint64_t sum; /* over all else */
	uint16_t pad;
} __attribute__((packed));

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, 8);
	return v;
}

/* Over the headers with 'sum' zero, and the payload. */
static uint64_t sum_of(const uint8_t *f, uint32_t len)
{
	const uint32_t at = offsetof(struct hdr, sum);
	uint64_t h = len;
	uint32_t i;

	for (i = 0; i + 8 <= at; i += 8)
		h = mix(h, load64(f + i));
	for (; i < at; i++)
		h = mix(h, f[i]);
	for (i = at + 8; i + 8 <= len; i += 8)
		h = mix(h, load64(f + i));
	for (; i < len; i++)
		h = mix(h, f[i]);
	return h;
}

/* The payload follows from who, whom and which. */
static uint64_t seed_of(const struct hdr *h)
{
	return mix(mix((uint64_t)h->from << 32 | h->to, h->epoch), h->seq);
}

static void fill(uint8_t *p, uint32_t len, uint64_t x)
{
	for (; len >= 8; p += 8, len -= 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		__builtin_memcpy(p, &x, 8);
	}
	for (; len; len--)
		*p++ = (uint8_t)(x >>= 8);
}

static bool filled(const uint8_t *p, uint32_t len, uint64_t x)
{
	for (; len >= 8; p += 8, len -= 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		if (load64(p) != x)
			return false;
	}
	for (; len; len--)
		if (*p++ != (uint8_t)(x >>= 8))
			return false;
	return true;
}

static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 };

static bool send(struct traffic *t, struct peer *p, uint32_t kind, uint32_t len,
		 uint64_t seq)
{
	uint8_t *f = igbvf_tx_buf(t->v);
	struct hdr h = {
		.type = { ETHERTYPE >> 8, ETHERTYPE & 0xff },
		.len = (uint16_t)len,
		.magic = MAGIC,
		.kind = kind,
		.from = t->id,
		.epoch = t->epoch,
		.seq = seq,
		.total = t->count,
	};

	if (!f)
		return false;
	memcpy(h.dst, p ? p->mac : everybody, 6);
	memcpy(h.src, t->v->mac, 6);
	if (p) {
		h.to = p->id;
		h.ack = p->next;
		h.ack_epoch = p->epoch;
		p->unacked = 0;
	}
	memcpy(f, &h, sizeof(h));
	fill(f + sizeof(h), len - sizeof(h), seed_of(&h));
	h.sum = sum_of(f, len);
	memcpy(f + offsetof(struct hdr, sum), &h.sum, 8);
	igbvf_send(t->v, len);
	return true;
}

static uint32_t size_of(const struct traffic *t, uint64_t seq)
{
	if (t->size_min >= t->size)
		return t->size;
	return t->size_min +
	       (uint32_t)(mix(seq, t->id) % (t->size - t->size_min + 1));
}

/* One frame to one peer, if it has room. */
static bool send_data(struct traffic *t, struct peer *p, uint64_t now)
{
	bool all = t->count && p->sent >= t->count;

	if (!p->knows)
		return false;
	if (all ? p->acked < p->sent : p->sent - p->acked >= t->window) {
		/* The last frames, or the word that they came, may be lost. */
		if (now < p->probe_at)
			return false;
		t->probes++;
		p->probe_at = now + PROBE_NS;
		return send(t, p, PROBE, FRAME_MIN, p->sent);
	}
	t->pinged = now;
	if (all || !send(t, p, DATA, size_of(t, p->sent), p->sent))
		return false;
	p->sent++;
	p->probe_at = now + PROBE_NS;
	return true;
}

unsigned int traffic_send(struct traffic *t)
{
	uint64_t now = now_ns();
	unsigned int n = 0;

	if (!t->v->link)
		return 0;
	if (t->hello_ns && now >= t->next_hello) {
		t->next_hello = now + t->hello_ns;
		send(t, NULL, HELLO, FRAME_MIN, 0);
	}
	for (unsigned int i = 0; i < t->npeers; i++)
		if (t->peer[i].unacked >= t->ack_every)
			send(t, &t->peer[i], ACK, FRAME_MIN, t->peer[i].sent);
	if (!t->on || t->npeers < t->wanted)
		return 0;
	for (unsigned int idle = 0; idle < t->npeers && n < 32;) {
		if (t->gap_ns && now < t->next_tx)
			break;
		if (send_data(t, &t->peer[t->turn++ % t->npeers], now)) {
			idle = 0;
			n++;
			/* No debt piles up over a stop. */
			t->next_tx = t->next_tx + t->gap_ns;
			if (t->next_tx + 100000000ull < now)
				t->next_tx = now;
		} else {
			idle++;
		}
	}
	return n;
}

static struct peer *peer_of(struct traffic *t, uint32_t id)
{
	for (unsigned int i = 0; i < t->npeers; i++)
		if (t->peer[i].id == id)
			return &t->peer[i];
	return NULL;
}

static void on_hello(struct traffic *t, const struct hdr *h)
{
	struct peer *p = peer_of(t, h->from);

	if (!p) {
		if (t->npeers == PEERS_MAX)
			return;
		p = &t->peer[t->npeers++];
		memset(p, 0, sizeof(*p));
		p->id = h->from;
		p->epoch = h->epoch;
		p->last_rx = now_ns();
		printf("P peer=%u t=%lu\n", p->id, now_ns() / 1000000);
	}
	if (p->epoch != h->epoch) {
		/* It starts again from nothing, and so do we with it. */
		memset(p, 0, sizeof(*p));
		p->id = h->from;
		p->epoch = h->epoch;
		p->last_rx = now_ns();
	}
	/* After a re-init its address may be another one. */
	memcpy(p->mac, h->src, 6);
	p->total = h->total;
	/*
	 * Answer, so that it learns that we know it.  It may have missed the
	 * first answer, and of one who sends nothing there is no other word.
	 */
	if (!p->knows || !t->on)
		p->unacked = t->ack_every;
}

static bool was_seen(struct peer *p, uint64_t seq)
{
	uint64_t bit = seq % SEEN_FRAMES;

	return p->seen[bit / 64] >> (bit % 64) & 1;
}

static void mark(struct peer *p, uint64_t seq, bool on)
{
	uint64_t bit = seq % SEEN_FRAMES;

	if (on)
		p->seen[bit / 64] |= 1ull << (bit % 64);
	else
		p->seen[bit / 64] &= ~(1ull << (bit % 64));
}

/* All below 'seq' that are missing are lost until they turn up. */
static void expect(struct peer *p, uint64_t seq)
{
	for (; p->next < seq; p->next++) {
		mark(p, p->next, false);
		p->lost++;
	}
}

static void on_data(struct peer *p, const struct hdr *h, uint32_t len)
{
	uint64_t now = now_ns();

	if (p->got && now - p->last_rx > p->gap)
		p->gap = now - p->last_rx;
	p->last_rx = now;
	p->unacked++;
	if (h->seq < p->next) {
		if (p->next - h->seq > SEEN_FRAMES || was_seen(p, h->seq)) {
			p->doubled++;
			return;
		}
		p->reordered++;
		p->lost--;
		mark(p, h->seq, true);
	} else {
		expect(p, h->seq);
		mark(p, h->seq, true);
		p->next = h->seq + 1;
	}
	p->got++;
	p->bytes += len;
}

void traffic_rx(void *opaque, const uint8_t *f, uint32_t len, uint16_t vlan)
{
	struct traffic *t = opaque;
	struct peer *p;
	struct hdr h;

	if (len < sizeof(h) || f[12] != ETHERTYPE >> 8 ||
	    f[13] != (ETHERTYPE & 0xff)) {
		t->strangers++;
		return;
	}
	memcpy(&h, f, sizeof(h));
	p = peer_of(t, h.from);
	if (h.magic != MAGIC || h.len != len || h.sum != sum_of(f, len) ||
	    vlan != t->v->conf.vlan ||
	    !filled(f + sizeof(h), len - sizeof(h), seed_of(&h))) {
		if (p)
			p->corrupt++;
		else
			t->strangers++;
		return;
	}
	if (h.from == t->id) {
		t->strangers++; /* our own voice */
		return;
	}
	if (h.kind == HELLO) {
		on_hello(t, &h);
		return;
	}
	if (!p || h.to != t->id || h.epoch != p->epoch) {
		t->strangers++;
		return;
	}
	if (h.ack_epoch == t->epoch) {
		p->knows = true;
		if (h.ack > p->acked && h.ack <= p->sent) {
			p->acked = h.ack;
			if (t->ping)
				rtt_add(&t->rtt, now_ns() - t->pinged);
		}
	}
	p->total = h.total;
	if (h.kind == DATA)
		on_data(p, &h, len);
	else if (h.seq > p->next && h.seq - p->next < 1u << 20)
		expect(p, h.seq);
	if (h.kind == PROBE)
		p->unacked = t->ack_every;
}

bool traffic_done(const struct traffic *t)
{
	if (!t->count || t->npeers < t->wanted || !t->npeers)
		return false;
	for (unsigned int i = 0; i < t->npeers; i++) {
		const struct peer *p = &t->peer[i];

		if (p->sent < t->count || p->acked < p->sent || !p->total ||
		    p->next < p->total)
			return false;
	}
	return true;
}

bool traffic_clean(const struct traffic *t)
{
	for (unsigned int i = 0; i < t->npeers; i++) {
		const struct peer *p = &t->peer[i];

		if (p->lost || p->doubled || p->reordered || p->corrupt)
			return false;
	}
	return true;
}

void traffic_print(const struct traffic *t, char letter)
{
	for (unsigned int i = 0; i < t->npeers; i++) {
		const struct peer *p = &t->peer[i];

		printf("%c peer=%u sent=%lu acked=%lu got=%lu lost=%lu "
		       "doubled=%lu reordered=%lu corrupt=%lu bytes=%lu "
		       "gap_us=%lu\n",
		       letter, p->id, p->sent, p->acked, p->got, p->lost,
		       p->doubled, p->reordered, p->corrupt, p->bytes,
		       p->gap / 1000);
	}
}

void traffic_init(struct traffic *t, struct igbvf *v, uint32_t id)
{
	uint64_t full;

	memset(t, 0, sizeof(*t));
	t->v = v;
	t->id = id;
	t->epoch = (uint32_t)(rdtsc() >> 8) | 1;
	t->count = arg_u64("count", 0);
	t->size = (uint32_t)arg_u64("size", 256);
	t->size_min = (uint32_t)arg_u64("size_min", t->size);
	t->wanted = (unsigned int)arg_u64("peers", 1);
	t->ping = arg_u64("ping", 0);
	full = t->wanted ? RING_ROOM / t->wanted : RING_ROOM;
	t->window = arg_u64("window", t->ping ? 1 : full);
	t->ack_every = t->window / 4 < 32 ? t->window / 4 + 1 : 32;
	t->gap_ns = arg_u64("rate", 0) ? 1000000000ull / arg_u64("rate", 1) : 0;
	t->hello_ns = arg_u64("hello_ms", 100) * 1000000;
	t->on = arg_u64("send", 1);
	if (t->size < FRAME_MIN)
		t->size = FRAME_MIN;
	if (t->size > IGBVF_BUF - 64)
		t->size = IGBVF_BUF - 64;
	if (t->size_min < FRAME_MIN)
		t->size_min = FRAME_MIN;
}
