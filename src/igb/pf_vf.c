/*
 * What VFs do: they ring, they acknowledge, they are reset; and what is
 * granted to them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "igb/pf_priv.h"

#define NACK_EVERY_NS 2000000000ull /* as igb_rcv_ack_from_vf */
/* A driver that waits for a word looks every 2 s. */
#define KNOCKS	   3u
#define KNOCK_NS   5000000000ull
#define LOCK_TRIES 10

static bool in_use(const struct pf_vf *v)
{
	return v->port || v->inherited || v->st.cts;
}

/* An address belongs to one VF: two would each get half the frames. */
static bool mac_taken(const struct pf *pf, unsigned int vf, const uint8_t *mac)
{
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		const struct mbx_state *s = &pf->vf[n].st;

		if (n == vf)
			continue;
		if (!memcmp(s->mac, mac, 6))
			return true;
		for (unsigned int i = 0; i < s->nfilters; i++)
			if (!memcmp(s->filter[i], mac, 6))
				return true;
		/* Promised to somebody, used or not. */
		if (!memcmp(pf->policy.vf[n].mac, mac, 6))
			return true;
	}
	return false;
}

static void refuse(struct pf *pf, unsigned int vf, const char *op,
		   const char *why)
{
	struct pf_vf *v = &pf->vf[vf];

	v->counts.refused++;
	v->last_refusal = why;
	log_limited(&v->limit, LOG_WARN, "%s: VF %u: %s refused: %s", pf->name,
		    vf, op, why);
}

/* The address a reset is answered with. */
static void assign_mac(struct pf *pf, unsigned int vf, struct mbx_state *s)
{
	const struct pf_vf_policy *p = &pf->policy.vf[vf];

	if (!p->guest_mac || !mbx_mac_ok(s->mac))
		memcpy(s->mac, p->mac, 6);
}

static bool judge(struct pf *pf, unsigned int vf, const struct mbx_msg *m)
{
	struct pf_vf *v = &pf->vf[vf];
	struct mbx_state next = v->st;
	struct mbx_req r;
	const char *why = NULL;
	int ret = mbx_decode(m, &r);

	v->counts.requests++;
	if (ret == -ENOENT || ret == -EALREADY)
		why = "no such request";
	else if (ret < 0)
		why = "impossible value";
	else if (!v->st.cts && r.op != MBX_OP_RESET)
		why = "not reset before";
	else
		why = pf_policy_refuses(&pf->policy.vf[vf], &v->st, &r);
	if (!why && (r.op == MBX_OP_SET_MAC || r.op == MBX_OP_MAC_ADD) &&
	    mac_taken(pf, vf, r.mac))
		why = "another VF has that MAC";
	if (!why && mbx_state_apply(&next, &r) < 0)
		why = "too many MAC filters";
	if (!why && r.op == MBX_OP_RESET)
		assign_mac(pf, vf, &next);
	if (!why && pf_filters_fit(pf, vf, &next) < 0)
		why = "the device's filter tables are full";
	if (why) {
		refuse(pf, vf, mbx_op_name(r.op), why);
		return false;
	}
	v->st = next;
	if (pf_filters_write(pf) < 0) {
		refuse(pf, vf, mbx_op_name(r.op), "the device is gone");
		return false;
	}
	return true;
}

/* ---- VFs nobody listens for: answered in the mailbox itself ---- */

static int lock_mailbox(struct pf *pf, unsigned int vf)
{
	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		pf_wr(pf, IGB_P2VMAILBOX(vf), IGB_P2V_PFU);
		if (pf_rd(pf, IGB_P2VMAILBOX(vf)) & IGB_P2V_PFU)
			return pf->gone ? -ENODEV : 0;
	}
	return -EBUSY;
}

static void send_word(struct pf *pf, unsigned int vf, uint32_t w)
{
	if (lock_mailbox(pf, vf) < 0)
		return;
	pf_wr(pf, IGB_VMBMEM(vf), w);
	pf_wr(pf, IGB_P2VMAILBOX(vf), IGB_P2V_STS);
}

static void answer_here(struct pf *pf, unsigned int vf)
{
	struct pf_vf *v = &pf->vf[vf];
	struct mbx_msg m = { .len = MBX_WORDS }, out;
	struct mbx_req r;

	/* Locked, so that the VF cannot change what is being judged. */
	if (lock_mailbox(pf, vf) < 0)
		return; /* it holds the buffer, so it did not finish a request */
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		m.w[i] = pf_rd(pf, IGB_VMBMEM(vf) + 4 * i);
	pf_wr(pf, IGB_P2VMAILBOX(vf), IGB_P2V_ACK | IGB_P2V_PFU);
	if (mbx_decode(&m, &r) == -EALREADY) {
		pf_wr(pf, IGB_P2VMAILBOX(vf), 0);
		return;
	}
	mbx_answer(&m, judge(pf, vf, &m), v->st.cts, v->st.mac, &out);
	for (unsigned int i = 0; i < out.len; i++)
		pf_wr(pf, IGB_VMBMEM(vf) + 4 * i, out.w[i]);
	pf_wr(pf, IGB_P2VMAILBOX(vf), IGB_P2V_STS);
	v->counts.answered++;
}

static void event_here(struct pf *pf, unsigned int vf,
		       const struct pf_event *ev)
{
	switch (ev->kind) {
	case PF_EV_REQUEST: answer_here(pf, vf); break;
	case PF_EV_LINK:
		send_word(pf, vf,
			  MBX_PF_CONTROL | (pf->vf[vf].st.cts ? MBX_CTS : 0));
		break;
	case PF_EV_MTU:
	case PF_EV_KICK: send_word(pf, vf, MBX_NACK); break;
	case PF_EV_RESET:
	case PF_EV_GONE:
	case PF_EV_BACK:
	case PF_EVS: break;
	}
}

/* ---- events ---- */

/*
 * The VM of a VF that the driver before had is on its way: it restores what
 * it knows and listens.  An answer from here would be undone by that and the
 * guest's driver would never know.  Link and ceiling come with the claim.
 */
static void keep(struct pf_vf *v, enum pf_event_kind kind)
{
	if (kind == PF_EV_RESET)
		v->missed = 0; /* what was asked before is void */
	/* One after the claim is its own: before it restores. */
	if (kind == PF_EV_RESET && v->port)
		return;
	if (kind == PF_EV_RESET || kind == PF_EV_REQUEST || kind == PF_EV_KICK)
		v->missed |= 1u << kind;
}

void pf_event(struct pf *pf, unsigned int vf, const struct pf_event *ev)
{
	struct pf_vf *v = &pf->vf[vf];

	if (!v->fn && v->awaited) {
		keep(v, ev->kind);
		return;
	}
	if (!v->fn) {
		event_here(pf, vf, ev);
		return;
	}
	v->counts.callbacks++;
	trace_add(pf->trace, vf, "pf-callback", pf_event_name(ev->kind), 0,
		  ev->kind);
	v->fn(v->opaque, ev);
}

static void catch_up(struct pf *pf, unsigned int vf)
{
	static const enum pf_event_kind order[] = { PF_EV_RESET, PF_EV_REQUEST,
						    PF_EV_KICK };
	struct pf_vf *v = &pf->vf[vf];
	unsigned int missed = v->missed;

	v->awaited = false;
	v->missed = 0;
	if (missed >> PF_EV_RESET & 1) {
		/* What was restored is from before. */
		mbx_state_reset(&v->st);
		pf_filters_write(pf);
	}
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct pf_event ev = { .kind = order[i], .vf = vf };

		if (missed >> order[i] & 1)
			pf_event(pf, vf, &ev);
	}
}

void pf_await_over(struct pf *pf, unsigned int vf)
{
	if (pf->vf[vf].awaited && !pf->vf[vf].fn)
		catch_up(pf, vf);
}

/*
 * An ack without CTS comes from a driver that does not know yet that it must
 * start over: its reset failed, or the PF forgot it.  It would wait for ever.
 *
 * So would one that gave up waiting for the answer to its reset, which came
 * all the same: to us it is up, and what it finds in the buffer, each time
 * it looks, is neither CTS nor NACK.  A driver with a link looks once; to
 * one that keeps looking we say once more that we are here.
 */
static void acked(struct pf *pf, unsigned int vf)
{
	struct pf_event ev = { .kind = PF_EV_KICK, .vf = vf };
	struct pf_vf *v = &pf->vf[vf];
	uint64_t now = now_ns();

	v->counts.acks++;
	if (v->awaited)
		return; /* it looks again when its VM is back */
	v->knocks = now - v->last_ack < KNOCK_NS ? v->knocks + 1 : 1;
	v->last_ack = now;
	if (v->st.cts) {
		if (v->knocks < KNOCKS)
			return;
		ev.kind = PF_EV_LINK;
		ev.link = pf->link;
	}
	if (now - v->last_nack < NACK_EVERY_NS)
		return;
	v->last_nack = now;
	v->knocks = 0;
	pf_event(pf, vf, &ev);
}

static void vf_was_reset(struct pf *pf, unsigned int vf)
{
	const struct pf_event ev = { .kind = PF_EV_RESET, .vf = vf };

	pf->vf[vf].counts.resets++;
	trace_add(pf->trace, vf, "pf-vflre", "", IGB_VFLRE, 1u << vf);
	mbx_state_reset(&pf->vf[vf].st);
	pf_filters_write(pf);
	pf_event(pf, vf, &ev);
}

/*
 * Resets before requests: both bits are set when a driver resets its VF and
 * rings at once, and its request is about the VF after the reset.  Requests
 * before acks: a word sent because of the ack would overwrite the request.
 */
void pf_service(struct pf *pf)
{
	uint32_t icr = pf_rd(pf, IGB_MBVFICR), lre;

	/* Read after it: the reset before a request we see is there too. */
	lre = pf_rd(pf, IGB_VFLRE);
	if (pf->gone)
		return;
	if (lre)
		pf_wr(pf, IGB_VFLRE, lre);
	for (unsigned int n = 0; n < pf->nvfs; n++)
		if (lre >> n & 1)
			vf_was_reset(pf, n);

	if (pf->gone || !icr)
		return;
	/* Cleared first: a VF that rings again meanwhile is seen again. */
	pf_wr(pf, IGB_MBVFICR, icr);
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		const struct pf_event ev = { .kind = PF_EV_REQUEST, .vf = n };

		if (icr >> (IGB_MBVFICR_REQ_SHIFT + n) & 1) {
			trace_add(pf->trace, n, "pf-request", "", IGB_MBVFICR,
				  icr);
			pf->vf[n].knocks = 0;
			pf_event(pf, n, &ev);
		}
		if (icr >> (IGB_MBVFICR_ACK_SHIFT + n) & 1) {
			trace_add(pf->trace, n, "pf-ack", "", IGB_MBVFICR, icr);
			acked(pf, n);
		}
	}
}

void pf_vf_drop(struct pf *pf, unsigned int vf)
{
	struct pf_vf *v = &pf->vf[vf];

	pf_announce_stop(pf, vf);
	v->fn = NULL;
	v->port = NULL;
	v->inherited = false;
	v->keep_tags = false;
	v->awaited = false;
	v->missed = 0;
	v->who[0] = 0;
	mbx_state_init(&v->st, NULL);
	assign_mac(pf, vf, &v->st);
	/* Its rings must not reach memory that is somebody else's by now. */
	pf_wr(pf, IGB_PVTCTRL(vf), IGB_CTRL_RST);
	pf_filters_write(pf);
	trace_add(pf->trace, vf, "pf-drop", "", 0, 0);
}

/* ---- ports ---- */

static struct pf_local *local(struct pf_port *p)
{
	return (struct pf_local *)p;
}

static void local_close(struct pf_port *p)
{
	struct pf *pf = local(p)->pf;

	if (pf)
		pf_vf_drop(pf, p->vf);
	free(p);
}

static int local_listen(struct pf_port *p, pf_event_fn fn, void *opaque)
{
	struct pf *pf = local(p)->pf;

	if (!pf)
		return -ENODEV;
	pf->vf[p->vf].fn = fn;
	pf->vf[p->vf].opaque = opaque;
	trace_add(pf->trace, p->vf, fn ? "pf-listen" : "pf-unlisten", "", 0, 0);
	if (fn)
		catch_up(pf, p->vf);
	return 0;
}

static int local_ask(struct pf_port *p, const struct mbx_msg *req,
		     pf_verdict_fn done, void *opaque)
{
	struct pf *pf = local(p)->pf;
	struct pf_verdict v = { 0 };

	if (!pf)
		return -ENODEV;
	/* A reset that was before this request must be handled before it. */
	pf_service(pf);
	v.ok = judge(pf, p->vf, req);
	memcpy(v.mac, pf->vf[p->vf].st.mac, 6);
	trace_add(pf->trace, p->vf, "pf-verdict", v.ok ? "granted" : "refused",
		  0, req->w[0]);
	done(opaque, &v);
	return 0;
}

static int local_restore(struct pf_port *p, const struct mbx_state *st,
			 pf_verdict_fn done, void *opaque)
{
	struct pf *pf = local(p)->pf;
	struct pf_verdict v = { 0 };
	struct mbx_state old;
	const char *why;

	if (!pf)
		return -ENODEV;
	/* A reset from before must not undo this later. */
	pf_service(pf);
	old = pf->vf[p->vf].st;
	why = pf_policy_refuses_state(&pf->policy.vf[p->vf], st);
	if (!why && mbx_mac_ok(st->mac) && mac_taken(pf, p->vf, st->mac))
		why = "another VF has that MAC";
	for (unsigned int i = 0; !why && i < st->nfilters; i++)
		if (mac_taken(pf, p->vf, st->filter[i]))
			why = "another VF has that MAC";
	if (!why && pf_filters_fit(pf, p->vf, st) < 0)
		why = "the device's filter tables are full";
	if (!why) {
		pf->vf[p->vf].st = *st;
		if (pf_filters_write(pf) < 0) {
			why = "the device is gone";
			pf->vf[p->vf].st = old;
		}
	}
	if (why)
		refuse(pf, p->vf, "restore", why);
	v.ok = !why;
	memcpy(v.mac, pf->vf[p->vf].st.mac, 6);
	trace_add(pf->trace, p->vf, "pf-restore", v.ok ? "granted" : "refused",
		  0, 0);
	done(opaque, &v);
	return 0;
}

static int local_announce(struct pf_port *p)
{
	struct pf *pf = local(p)->pf;

	return pf ? pf_announce(pf, p->vf) : -ENODEV;
}

static int local_keep_tags(struct pf_port *p, bool keep)
{
	struct pf *pf = local(p)->pf;

	if (!pf)
		return -ENODEV;
	pf->vf[p->vf].keep_tags = keep;
	trace_add(pf->trace, p->vf, "pf-keep-tags", "", 0, keep);
	return pf_filters_write(pf);
}

static const struct pf_port_ops local_ops = {
	.close = local_close,
	.listen = local_listen,
	.ask = local_ask,
	.restore = local_restore,
	.announce = local_announce,
	.keep_tags = local_keep_tags,
};

static int pick_vf(struct pf *pf, unsigned int *vf, struct err *e)
{
	if (*vf == PF_ANY_VF) {
		for (unsigned int n = 0; n < pf->nvfs; n++)
			if (!pf->vf[n].port && !pf->vf[n].inherited) {
				*vf = n;
				return 0;
			}
		return err_set(e, -EBUSY, "%s: none of its %u VFs is free",
			       pf->name, pf->nvfs);
	}
	if (*vf >= pf->nvfs)
		return err_set(e, -ENODEV, "%s has no VF %u, only 0 to %u",
			       pf->name, *vf, pf->nvfs - 1);
	if (pf->vf[*vf].port)
		return err_set(e, -EBUSY, "%s: VF %u is in use by %s", pf->name,
			       *vf, pf->vf[*vf].who);
	return 0;
}

int pf_claim(struct pf_port **out, struct pf *pf, unsigned int vf,
	     const char *who, struct err *e)
{
	struct pf_local *l;
	struct pf_vf *v;
	int ret = pick_vf(pf, &vf, e);

	if (ret < 0)
		return ret;
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	v = &pf->vf[vf];
	l->pf = pf;
	l->port = (struct pf_port){ .ops = &local_ops,
				    .vf = vf,
				    .link = pf->link };
	snprintf(l->port.gen, sizeof(l->port.gen), "%s", pf->gen->name);
	if (pf->conf.vf_spec) {
		ret = pf->conf.vf_spec(pf->conf.opaque, vf, l->port.spec,
				       sizeof(l->port.spec));
		if (ret < 0) {
			free(l);
			return err_sys(e, ret, "%s: VF %u cannot be found",
				       pf->name, vf);
		}
	}
	v->port = l;
	v->inherited = false;
	snprintf(v->who, sizeof(v->who), "%s", who);
	assign_mac(pf, vf, &v->st);
	memcpy(l->port.mac, v->st.mac, 6);
	trace_add(pf->trace, vf, "pf-claim", "", 0, 0);
	*out = &l->port;
	return 0;
}

/* ---- host-started ---- */

static int start(struct pf *pf, unsigned int vf, struct pf_event ev)
{
	if (vf != PF_ANY_VF && vf >= pf->nvfs)
		return -ENODEV;
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		ev.vf = n;
		if (vf == n || (vf == PF_ANY_VF && in_use(&pf->vf[n])))
			pf_event(pf, n, &ev);
	}
	return 0;
}

int pf_kick(struct pf *pf, unsigned int vf)
{
	return start(pf, vf, (struct pf_event){ .kind = PF_EV_KICK });
}

int pf_set_frame(struct pf *pf, unsigned int vf, uint16_t frame)
{
	if (frame < MBX_FRAME_MIN || frame > MBX_FRAME_MAX)
		return -EINVAL;
	if (vf >= pf->nvfs)
		return -ENODEV;
	pf->policy.vf[vf].frame = frame;
	pf_filters_write(pf);
	return start(pf, vf,
		     (struct pf_event){ .kind = PF_EV_MTU, .frame = frame });
}
