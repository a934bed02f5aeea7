/*
 * The switch-over: from the pause of the vCPUs until the destination has all
 * it needs and is ready to run.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "migrate/source_priv.h"
#include "migrate/verify.h"

#define SWITCH_MS 30000 /* from the pause to READY, beyond the expected */

static int send_part(struct mig_source *s, const char *name, unsigned int n,
		     uint8_t *state, struct err *e)
{
	const size_t room = STREAM_PAYLOAD_MAX - 256;
	uint64_t t0 = now_ns();
	struct wire_out o;
	size_t len, at = 0;
	int ret;

	wire_out_init(&o, state, MIG_PART_SIZE_MAX);
	ret = s->vm->ops->save(s->vm, n, &o);
	if (ret == 0)
		ret = o.err;
	if (ret < 0)
		return err_sys(e, ret, "saving the state of '%s'", name);
	len = wire_used(&o);
	s->r->state_bytes += len;
	do {
		size_t piece = MIN(len - at, room);

		wire_out_init(&o, s->buf, STREAM_PAYLOAD_MAX);
		put_str(&o, name);
		put_u32(&o, (uint32_t)at);
		put_u32(&o, (uint32_t)len);
		put_bytes(&o, state + at, piece);
		ret = source_hurry(s, e);
		if (ret < 0)
			return ret;
		ret = proto_send(s->main, SEC_STATE, s->buf, wire_used(&o));
		if (ret < 0)
			return err_sys(e, ret, "sending the state of '%s'",
				       name);
		at += piece;
	} while (at < len);
	if (n < MIG_PARTS_MAX) {
		struct mig_part_time *t = &s->r->part[n];

		snprintf(t->name, sizeof(t->name), "%s", name);
		t->save_ns = now_ns() - t0;
		s->r->nparts = n + 1;
	}
	return 0;
}

static int send_state(struct mig_source *s, struct err *e)
{
	uint8_t *state = malloc(MIG_PART_SIZE_MAX);
	const char *name;
	int ret = 0;

	if (!state)
		return -ENOMEM;
	s->parts = 0;
	for (; !ret && (name = s->vm->ops->part(s->vm, s->parts)); s->parts++)
		ret = send_part(s, name, s->parts, state, e);
	free(state);
	return ret;
}

/* After the state: saving it may itself have written to RAM. */
static int send_digest(struct mig_source *s, struct err *e)
{
	const struct host_ram *ram;
	size_t n = s->vm->ops->ram(s->vm, &ram);
	int ret = verify_send(s->main, ram, n, s->buf, &s->r->verified);

	return ret < 0 ? err_sys(e, ret, "sending the digest of RAM") : 0;
}

static int send_commit(struct mig_source *s, struct err *e)
{
	struct wire_out o;
	uint8_t buf[16];
	int ret;

	wire_out_init(&o, buf, sizeof(buf));
	put_u64(&o, s->parts);
	put_u64(&o, s->r->state_bytes);
	ret = proto_send(s->main, SEC_COMMIT, buf, sizeof(buf));
	return ret < 0 ? err_sys(e, ret, "committing the state") : 0;
}

/* What the destination says of its times is for the report only. */
static void take_times(struct mig_source *s, size_t len)
{
	struct wire_in in;
	uint32_t n;

	wire_in_init(&in, s->buf, len);
	n = get_u32(&in);
	for (uint32_t i = 0; i < n && !in.err; i++) {
		char name[MIG_NAME_MAX];
		uint64_t ns;

		get_text(&in, name, sizeof(name));
		ns = get_u64(&in);
		for (unsigned int k = 0; !in.err && k < s->r->nparts; k++)
			if (!strcmp(s->r->part[k].name, name))
				s->r->part[k].load_ns = ns;
	}
}

static int hear_ready(struct mig_source *s, struct err *e)
{
	struct stream_section m;
	int ret = source_hurry(s, e);

	if (ret == 0)
		ret = proto_recv(s->main, &m, s->buf, e);
	if (ret == 0 && m.id == SEC_TIMES) {
		take_times(s, m.len);
		ret = proto_recv(s->main, &m, s->buf, e);
	}
	if (ret == 0 && m.id != SEC_READY)
		return err_set(e, -EPROTO, "'%s' where 'ready' was expected",
			       proto_name(m.id));
	return ret;
}

int source_switch_over(struct mig_source *s, struct err *e)
{
	uint64_t left;
	int ret;

	source_enter(s, MIG_PAUSE);
	ret = s->vm->ops->pause(s->vm);
	if (ret < 0)
		return err_sys(e, ret, "pausing the vCPUs");
	s->paused = true;
	s->r->expected_ns = s->now.downtime_ns;
	if (!s->p.verify)
		s->until = now_ns() + 4 * s->now.downtime_ns +
			   (s->p.switch_ms ? s->p.switch_ms : SWITCH_MS) *
				   1000000ull;
	source_enter(s, MIG_DRAIN);
	ret = s->vm->ops->drain(s->vm, e);
	if (ret < 0)
		return ret;
	source_enter(s, MIG_LAST_RAM);
	sender_bandwidth(s->sender, 0);
	ret = source_fetch(s, &left, e);
	if (ret == 0)
		ret = source_round(s, e);
	if (ret == 0)
		ret = sender_end(s->sender, e);
	if (ret < 0)
		return ret;
	source_enter(s, MIG_STATE);
	ret = send_state(s, e);
	if (ret == 0 && s->p.verify)
		ret = send_digest(s, e);
	if (ret == 0)
		ret = send_commit(s, e);
	if (ret < 0)
		return ret;
	source_enter(s, MIG_LOAD);
	ret = hear_ready(s, e);
	return ret == -ETIMEDOUT && e
		       ? err_prefix(e, "in the switch-over, with the VM "
				       "standing still")
		       : ret;
}
