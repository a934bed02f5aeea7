// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/sock.c src/base/wire.c src/migrate/chan.c src/migrate/manifest.c src/migrate/pace.c src/migrate/place.c src/migrate/plan.c src/migrate/proto.c src/migrate/ram.c src/migrate/sender.c src/migrate/source.c src/migrate/source_handover.c src/migrate/source_rounds.c src/migrate/source_switch.c src/migrate/source_watch.c src/migrate/stream.c src/migrate/tls.c src/migrate/traffic.c src/migrate/verify.c fuzz/peer.c libs: ssl crypto zstd xxhash jansson
/*
 * A source's whole engine against a destination that says anything, in any
 * order: sections with right sums, some of them right altogether.
 *
 * Input: operations of a kind, a length and as many bytes.  They are said on
 * the main channel; what is left when the source has hung up, on its queries.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/proto.h"
#include "peer.h"

#define RAM_BYTES (128u << 10)
#define OPS_MAX	  24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a VM that is nothing but memory ---- */

static struct {
	struct mig_vm vm;
	struct host_ram ram;
	int paused, engaged, logging;
} src;

static size_t f_ram(struct mig_vm *vm, const struct host_ram **out)
{
	*out = &src.ram;
	return 1;
}

static void f_describe(struct mig_vm *vm, struct mig_manifest *out)
{
	peer_describe(out, RAM_BYTES);
}

static int f_dirty_start(struct mig_vm *vm)
{
	src.logging++;
	return 0;
}

static int f_dirty_fetch(struct mig_vm *vm, uint64_t *map)
{
	map[0] |= 1;
	return 0;
}

static void f_dirty_stop(struct mig_vm *vm)
{
	src.logging--;
}

static int f_engage(struct mig_vm *vm, const struct mig_plan *plan,
		    struct err *e)
{
	/* No plan that refuses may get this far. */
	if (plan->n != 1 || plan->d[0].action == MIG_REFUSE)
		abort();
	src.engaged++;
	return 0;
}

static int f_none(struct mig_vm *vm, struct err *e)
{
	return 0;
}

static void f_release(struct mig_vm *vm)
{
	src.engaged--;
}

static int f_pause(struct mig_vm *vm)
{
	src.paused++;
	return 0;
}

static void f_resume(struct mig_vm *vm)
{
	src.paused--;
}

static const char *f_part(struct mig_vm *vm, unsigned int n)
{
	return n ? NULL : "machine";
}

static int f_save(struct mig_vm *vm, unsigned int n, struct wire_out *o)
{
	put_u64(o, 1);
	return 0;
}

static const struct mig_vm_ops ops = {
	.ram = f_ram,
	.describe = f_describe,
	.dirty_start = f_dirty_start,
	.dirty_fetch = f_dirty_fetch,
	.dirty_stop = f_dirty_stop,
	.engage = f_engage,
	.quiesce = f_none,
	.drain = f_none,
	.release = f_release,
	.pause = f_pause,
	.resume = f_resume,
	.part = f_part,
	.save = f_save,
};

/* ---- a destination that says anything ---- */

struct dest {
	struct chan_listener *l;
	struct peer in;
	bool ran, gave_up; /* it has said so */
};

static size_t right(struct dest *d, uint16_t id)
{
	struct mig_plan plan = { .n = 1,
				 .d = { { .device = peer_net0,
					  .offer = peer_net0,
					  .action = MIG_KEEP } } };
	struct wire_out o;

	wire_out_init(&o, d->in.buf, STREAM_PAYLOAD_MAX);
	switch (id) {
	case SEC_HELLO:
		put_u16(&o, 1);
		put_u16(&o, 1);
		put_u16(&o, 0);
		put_u64(&o, 0);
		put_u64(&o, 0);
		put_str(&o, "fuzz");
		break;
	case SEC_PLAN: mig_plan_put(&o, &plan); break;
	case SEC_TIMES:
		put_u32(&o, 1);
		put_str(&o, "machine");
		put_u64(&o, 1);
		break;
	case SEC_ABORT: put_str(&o, "no"); break;
	case SEC_OUTCOME: put_u32(&o, OUTCOME_RUNNING); break;
	default: break;
	}
	return wire_used(&o);
}

/* Says what is left of the input, or the first 'max' of it. */
static void speak(struct dest *d, struct chan *c, unsigned int max)
{
	uint8_t op[2];
	size_t n;

	for (unsigned int i = 0; i < max && peer_next(&d->in, op, 2, &n); i++) {
		uint16_t id = op[0] % PEER_KINDS;

		if (!n)
			n = right(d, id);
		d->ran |= id == SEC_RUNNING ||
			  (id == SEC_OUTCOME && n == 4 && d->in.buf[0] == 2);
		d->gave_up |= id == SEC_OUTCOME && n == 4 && d->in.buf[0] != 2;
		stream_send(c, id, 1, 1, d->in.buf, (uint32_t)n);
	}
}

static void *listen_on(void *opaque)
{
	char hole[4096];

	/* A source that hears nothing more must not wait for it. */
	chan_timeout(opaque, 20);
	while (chan_recv(opaque, hole, 1) == 0)
		;
	chan_abort(opaque);
	return NULL;
}

/* Everybody is accepted, listened to and, the first and all askers, told. */
static void *serve(void *opaque)
{
	struct dest *d = opaque;
	struct chan *c[32];
	pthread_t drain[32];
	unsigned int n = 0;

	while (n < 32 && chan_accept(d->l, &c[n], -1, NULL) == 0) {
		struct proto_hello h = { .channel = 1 };
		chan_timeout(c[n], 100);
		proto_recv_hello(c[n], &h, NULL);
		if (h.channel == CHANNEL_MAIN)
			speak(d, c[n], OPS_MAX);
		else if (h.channel == CHANNEL_QUERY)
			speak(d, c[n], 2);
		pthread_create(&drain[n], NULL, listen_on, c[n]);
		n++;
	}
	while (n--) {
		chan_abort(c[n]);
		pthread_join(drain[n], NULL);
		chan_close(c[n]);
	}
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dest d = { 0 };
	struct mig_params p = { .connections = 1, .recovery_ms = 1 };
	struct mig_result r;
	struct mig_source *s;
	enum mig_outcome out;
	struct err e = { 0 };
	char addr[64];
	pthread_t t;

	peer_init(&d.in, data, size);
	memset(&src, 0, sizeof(src));
	src.vm.ops = &ops;
	src.ram = peer_ram(RAM_BYTES);
	memset(src.ram.guest, 0, RAM_BYTES);
	d.l = peer_listen(addr, sizeof(addr));
	p.dest = addr;
	p.max_downtime_ns = UINT64_MAX;
	if (mig_source_create(&s, &src.vm, &p) < 0)
		abort();
	pthread_create(&t, NULL, serve, &d);
	out = mig_run(s, &r, &e);
	chan_listener_abort(d.l);
	pthread_join(t, NULL);
	chan_listener_close(d.l);
	json_decref(r.devices);
	mig_source_destroy(s);

	/* There only if it was said; here, then all is as it was. */
	if (out == MIG_RUNS_THERE && !d.ran)
		abort();
	if (out == MIG_RUNS_HERE && (src.paused || src.engaged || src.logging))
		abort();
	if (out != MIG_RUNS_HERE && !src.paused)
		abort();
	/* After a hand-over it comes back only for a word that it may. */
	if (out == MIG_RUNS_HERE && r.phase_at[MIG_HANDOVER] && !d.gave_up)
		abort();
	peer_fini(&d.in);
	return 0;
}
