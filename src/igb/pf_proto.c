#include "igb/pf_proto.h"

#include <errno.h>
#include <string.h>

#include "base/wire.h"

size_t pf_msg_encode(const struct pf_msg *m, void *buf)
{
	struct wire_out o;

	wire_out_init(&o, buf, PF_PROTO_MAX);
	put_u8(&o, PF_PROTO_VERSION);
	put_u8(&o, (uint8_t)m->type);
	put_u16(&o, 0);
	put_u32(&o, m->seq);
	switch (m->type) {
	case PF_MSG_CLAIM:
		put_u32(&o, m->vf);
		put_str(&o, m->who);
		break;
	case PF_MSG_TAGS:
	case PF_MSG_LISTEN: put_u8(&o, m->on); break;
	case PF_MSG_ASK:
		for (unsigned int i = 0; i < MBX_WORDS; i++)
			put_u32(&o, m->words.w[i]);
		break;
	case PF_MSG_RESTORE: mbx_state_save(&m->state, &o); break;
	case PF_MSG_ANNOUNCE: break;
	case PF_MSG_CLAIMED:
		put_u32(&o, m->vf);
		put_u8(&o, m->running);
		put_u8(&o, m->link);
		put_bytes(&o, m->mac, 6);
		put_str(&o, m->gen);
		put_str(&o, m->spec);
		break;
	case PF_MSG_VERDICT:
		put_u8(&o, m->verdict.ok);
		put_bytes(&o, m->verdict.mac, 6);
		break;
	case PF_MSG_EVENT:
		put_u8(&o, (uint8_t)m->event.kind);
		put_u8(&o, m->event.link);
		put_u16(&o, m->event.frame);
		break;
	case PF_MSG_ERROR:
		put_u32(&o, (uint32_t)-m->code);
		put_str(&o, m->text);
		break;
	}
	return wire_used(&o);
}

static bool get_bool(struct wire_in *in)
{
	uint8_t v = get_u8(in);

	if (v > 1)
		wire_fail(in, -EBADMSG);
	return v;
}

int pf_msg_decode(struct pf_msg *m, const void *buf, size_t len)
{
	struct wire_in in;
	uint32_t v;

	memset(m, 0, sizeof(*m));
	wire_in_init(&in, buf, len);
	v = get_u8(&in);
	if (!in.err && v != PF_PROTO_VERSION)
		return -EPROTO;
	m->type = get_u8(&in);
	if (get_u16(&in) != 0)
		wire_fail(&in, -EBADMSG);
	m->seq = get_u32(&in);
	switch (m->type) {
	case PF_MSG_CLAIM:
		m->vf = get_u32(&in);
		get_str(&in, m->who, sizeof(m->who));
		break;
	case PF_MSG_TAGS:
	case PF_MSG_LISTEN: m->on = get_bool(&in); break;
	case PF_MSG_ASK:
		m->words.len = MBX_WORDS;
		for (unsigned int i = 0; i < MBX_WORDS; i++)
			m->words.w[i] = get_u32(&in);
		break;
	case PF_MSG_RESTORE: mbx_state_load(&m->state, &in); break;
	case PF_MSG_ANNOUNCE: break;
	case PF_MSG_CLAIMED:
		m->vf = get_u32(&in);
		m->running = get_bool(&in);
		m->link = get_bool(&in);
		get_bytes(&in, m->mac, 6);
		get_str(&in, m->gen, sizeof(m->gen));
		get_str(&in, m->spec, sizeof(m->spec));
		break;
	case PF_MSG_VERDICT:
		m->verdict.ok = get_bool(&in);
		get_bytes(&in, m->verdict.mac, 6);
		break;
	case PF_MSG_EVENT:
		v = get_u8(&in);
		/* The driver's life and death are seen on the socket. */
		if (v >= PF_EV_GONE)
			wire_fail(&in, -EBADMSG);
		m->event.kind = v;
		m->event.link = get_bool(&in);
		m->event.frame = get_u16(&in);
		break;
	case PF_MSG_ERROR:
		v = get_u32(&in);
		if (v == 0 || v > 4095)
			wire_fail(&in, -EBADMSG);
		m->code = -(int32_t)(v & 4095);
		get_str(&in, m->text, sizeof(m->text));
		break;
	default: return -EBADMSG;
	}
	return wire_done(&in) < 0 ? -EBADMSG : 0;
}
