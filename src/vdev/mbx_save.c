/*
 * The virtual mailbox on the wire: always VDEV_MBX_SAVE_SIZE bytes.
 */
#include <errno.h>
#include <string.h>

#include "vdev/mbx_priv.h"

#define VERSION 1

void vdev_mbx_save(struct vdev_mbx *m, struct wire_out *o)
{
	vdev_lock(m->v);
	put_u8(o, VERSION);
	put_u8(o, (uint8_t)m->st);
	put_u8(o, m->quiesced);
	put_u32(o, m->bits);
	put_u32(o, m->pending);
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		put_u32(o, m->mem[i]);
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		put_u32(o, m->req.w[i]);
	put_u32(o, m->polls);
	mbx_state_save(&m->state, o);
	vdev_unlock(m->v);
}

#define BITS (IGB_V2P_VFU | IGB_V2P_R2C | IGB_V2P_RSTI)

int vdev_mbx_load(struct vdev_mbx *m, struct wire_in *in, struct err *e)
{
	uint32_t bits, pending, mem[MBX_WORDS], req[MBX_WORDS], polls;
	struct mbx_state state;
	uint8_t version, st, quiesced;

	version = get_u8(in);
	if (!in->err && version != VERSION)
		return err_set(e, -EPROTO,
			       "%s: mailbox state version %u, this host reads "
			       "%u",
			       vdev_name(m->v), version, VERSION);
	st = get_u8(in);
	quiesced = get_u8(in);
	bits = get_u32(in);
	pending = get_u32(in);
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		mem[i] = get_u32(in);
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		req[i] = get_u32(in);
	polls = get_u32(in);
	if (st >= ST_MAX || quiesced > 1 || bits & ~BITS ||
	    pending & ~(POST_LINK | POST_RESET) ||
	    quiesced != (st == ST_BUSY || st == ST_HELD))
		wire_fail(in, -EBADMSG);
	if (mbx_state_load(&state, in) < 0 || in->err)
		return err_sys(e, in->err, "%s: damaged mailbox state",
			       vdev_name(m->v));

	vdev_lock(m->v);
	m->st = st;
	m->quiesced = quiesced;
	m->bits = bits;
	m->pending = pending;
	memcpy(m->mem, mem, sizeof(mem));
	m->req = (struct mbx_msg){ .len = MBX_WORDS };
	memcpy(m->req.w, req, sizeof(req));
	mbx_decode(&m->req, &m->meaning);
	m->polls = polls;
	m->state = state;
	m->told = 0;
	m->since = now_ns();
	/* What a new device holds is not what this guest knows. */
	memset(m->hwmem, 0xff, sizeof(m->hwmem));
	mbx_trace(m, "load", 0, st);
	vdev_unlock(m->v);
	return 0;
}

int vdev_mbx_restore(struct vdev_mbx *m, pf_verdict_fn done, void *opaque)
{
	struct pf_port *p = m->conf.port;
	struct pf_verdict v = { 0 };

	if (m->conf.mode == VDEV_MBX_KERNEL) {
		vdev_lock(m->v);
		v.ok = mbx_replay(m) == 0;
		memcpy(v.mac, m->state.mac, 6);
		vdev_unlock(m->v);
		done(opaque, &v);
		return 0;
	}
	return p ? p->ops->restore(p, &m->state, done, opaque) : -ENODEV;
}
