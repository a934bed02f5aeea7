// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/sock.c src/base/wire.c src/migrate/chan.c src/migrate/dest.c src/migrate/dest_ram.c src/migrate/door.c src/migrate/manifest.c src/migrate/place.c src/migrate/plan.c src/migrate/proto.c src/migrate/ram.c src/migrate/stream.c src/migrate/tls.c src/migrate/traffic.c src/migrate/verify.c fuzz/peer.c libs: ssl crypto zstd xxhash jansson
/*
 * A destination's whole engine against a source that says anything, in any
 * order, on any channel: sections with right sums, some of them right
 * altogether, so that every phase is reached.
 *
 * Input: operations of a kind, a channel, a length and as many bytes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/proto.h"
#include "peer.h"

#define RAM_BYTES (1u << 20)
#define DATA	  3 /* channels opened at most */
#define OPS_MAX	  64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a VM that is nothing but memory ---- */

static struct {
	struct mig_vm vm;
	struct host_ram ram;
	unsigned int prepared, loaded, ready, runs, dropped;
} dst;

static size_t f_ram(struct mig_vm *vm, const struct host_ram **out)
{
	*out = &dst.ram;
	return 1;
}

static int f_cpu_check(struct mig_vm *vm, struct wire_in *in, struct err *e)
{
	return get_u32(in) == 0xbad ? err_set(e, -ENOTSUP, "not here") : 0;
}

static int f_offer(struct mig_vm *vm, const struct mig_manifest *m,
		   const struct mig_policy *policy, struct mig_plan *out,
		   struct err *e)
{
	struct mig_device offer = peer_net0;

	strcpy(offer.name, "vf0");
	mig_plan_make(out, m, &offer, 1, policy);
	return 0;
}

static int f_prepare(struct mig_vm *vm, const struct mig_manifest *m,
		     const struct mig_plan *plan, struct err *e)
{
	if (dst.prepared != dst.dropped)
		abort(); /* twice without a drop between */
	if (m->nram != 1 || m->ram[0].gpa || m->ram[0].size != RAM_BYTES)
		return -EINVAL;
	dst.prepared++;
	return 0;
}

static int f_load(struct mig_vm *vm, const char *part, struct wire_in *in,
		  struct err *e)
{
	dst.loaded++;
	while (wire_left(in) && !in->err)
		get_u8(in);
	return in->err;
}

static int f_ready(struct mig_vm *vm, struct err *e)
{
	dst.ready++;
	return 0;
}

static void f_run(struct mig_vm *vm)
{
	if (!dst.ready || dst.prepared != dst.dropped + 1)
		abort();
	dst.runs++;
}

static void f_drop(struct mig_vm *vm)
{
	dst.dropped++;
}

static const struct mig_vm_ops ops = {
	.ram = f_ram,
	.cpu_check = f_cpu_check,
	.offer = f_offer,
	.prepare = f_prepare,
	.load = f_load,
	.ready = f_ready,
	.run = f_run,
	.drop = f_drop,
};

/* ---- a source that says anything ---- */

struct source {
	char addr[64];
	struct chan *main, *data[DATA];
	uint64_t sections[DATA];
	uint64_t parts, bytes;
	struct peer in;
};

static struct chan *dial(struct source *s, uint16_t number)
{
	struct proto_hello h = { .version_min = PROTO_VERSION_MIN,
				 .version_max = PROTO_VERSION_MAX,
				 .channel = number,
				 .program = "fuzz" };
	struct chan *c;

	if (chan_connect(&c, s->addr, NULL, NULL) < 0)
		abort();
	chan_timeout(c, 200);
	proto_send_hello(c, &h);
	return c;
}

/* What belongs there, where the input gave nothing. */
static size_t right(struct source *s, uint16_t id, unsigned int k)
{
	struct mig_manifest m;
	struct wire_out o;

	wire_out_init(&o, s->in.buf, STREAM_PAYLOAD_MAX);
	switch (id) {
	case SEC_MANIFEST:
		put_u8(&o, 1);
		peer_describe(&m, RAM_BYTES);
		mig_manifest_put(&o, &m);
		break;
	case SEC_PREPARE: put_u32(&o, DATA); break;
	case SEC_STATE:
		put_str(&o, k ? "net0" : "machine");
		put_u32(&o, 0);
		put_u32(&o, 8);
		put_u64(&o, 0x0123456789abcdef);
		break;
	case SEC_COMMIT:
		put_u64(&o, s->parts);
		put_u64(&o, s->bytes);
		break;
	case SEC_RAM:
		put_u64(&o, 0);
		put_u64(&o, 1);
		put_u64(&o, 1);
		put_u64(&o, 0);
		break;
	case SEC_RAM_END: put_u64(&o, s->sections[k]); break;
	default: break;
	}
	return wire_used(&o);
}

/* The n bytes in its buffer, or what belongs there. */
static void speak(struct source *s, size_t n, uint8_t kind, uint8_t where)
{
	uint16_t id = kind % PEER_KINDS;
	bool ram = id == SEC_RAM || id == SEC_RAM_END;
	unsigned int k = where % DATA;
	struct chan *c = ram != (where >= 128) ? s->data[k] : s->main;

	if (!n)
		n = right(s, id, k);
	/* Channels that are announced come, or it would be waited for them. */
	if (id == SEC_PREPARE && n == 4 && s->in.buf[0] <= 16 && !s->in.buf[1])
		s->in.buf[0] %= DATA + 1;
	if (!c)
		return;
	if (id == SEC_STATE && n >= 10) {
		s->parts++;
		s->bytes += 8;
	}
	s->sections[k] += id == SEC_RAM;
	stream_send(c, id, 1, STREAM_MANDATORY, s->in.buf, (uint32_t)n);
	for (unsigned int i = 0; id == SEC_PREPARE && i < DATA; i++)
		if (i < s->in.buf[0] && !s->data[i])
			s->data[i] = dial(s, (uint16_t)(i + 1));
}

struct receiver {
	struct chan_listener *l;
	struct mig_incoming *keep;
};

static void *receive(void *opaque)
{
	struct receiver *r = opaque;

	mig_receive(&dst.vm, r->l, &r->keep, NULL);
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t answer[STREAM_PAYLOAD_MAX];
	struct receiver r = { NULL, NULL };
	struct source s = { 0 };
	struct stream_section got;
	uint8_t op[3];
	pthread_t t;
	size_t n;

	peer_init(&s.in, data, size);
	memset(&dst, 0, sizeof(dst));
	dst.vm.ops = &ops;
	dst.ram = peer_ram(RAM_BYTES);
	r.l = peer_listen(s.addr, sizeof(s.addr));
	pthread_create(&t, NULL, receive, &r);
	s.main = dial(&s, CHANNEL_MAIN);
	for (unsigned int i = 0; i < OPS_MAX && peer_next(&s.in, op, 3, &n);
	     i++)
		speak(&s, n, op[0], op[1]);
	for (unsigned int i = 0; i < DATA; i++)
		chan_close(s.data[i]);
	/* All that was sent is read before the end of it is. */
	proto_send(s.main, SEC_BYE, NULL, 0);
	chan_timeout(s.main, 5);
	while (proto_recv(s.main, &got, answer, NULL) == 0)
		;
	chan_listener_abort(r.l);
	chan_close(s.main);
	pthread_join(t, NULL);
	mig_incoming_close(r.keep, 0);
	chan_listener_close(r.l);
	if (dst.runs > 1 || dst.prepared != dst.dropped + dst.runs)
		abort();
	peer_fini(&s.in);
	return 0;
}
