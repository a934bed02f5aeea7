#include "vdev/mbx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdev/mbx_priv.h"

#define TICK_NS	  10000000ull
#define REPOST_NS 1000000000ull /* a host's word that had to wait */
#define NEVER	  (UINT64_MAX / 4)

/* ---- the loop's thread ---- */

struct later {
	struct vdev_mbx *m;
	void (*fn)(struct vdev_mbx *m);
};

static void put(struct vdev_mbx *m)
{
	struct vdev *v = m->v;
	bool last;

	vdev_lock(v);
	last = --m->refs == 0;
	vdev_unlock(v);
	if (last)
		free(m);
}

static void run_later(void *opaque)
{
	struct later *l = opaque;
	struct vdev_mbx *m = l->m;

	if (!m->closed) {
		vdev_lock(m->v);
		l->fn(m);
		vdev_unlock(m->v);
		put(m);
	} else if (--m->refs == 0) {
		free(m); /* the vdev may be gone too */
	}
	free(l);
}

void mbx_later(struct vdev_mbx *m, void (*fn)(struct vdev_mbx *m))
{
	struct later *l = malloc(sizeof(*l));

	if (!l)
		return; /* the state's limit gets the page back */
	*l = (struct later){ m, fn };
	m->refs++;
	if (loop_call(vdev_loop(m->v), run_later, l) < 0) {
		m->refs--;
		free(l);
	}
}

/* Runs only while there is something to look after. */
static void tick(void *opaque)
{
	struct vdev_mbx *m = opaque;
	uint64_t now = now_ns();

	vdev_lock(m->v);
	if (mbx_overdue(m, now))
		mbx_event(m, EV_LIMIT);
	/* Passed over: for a request that never came back, for a lock. */
	if (m->st == ST_DIRECT && m->pending && now > m->since &&
	    now - m->since > REPOST_NS)
		mbx_event(m, EV_POST);
	if (m->st == ST_DIRECT && !m->pending) {
		m->ticking = false;
		loop_mod_timer(m->timer, NEVER, 0);
	}
	vdev_unlock(m->v);
}

void mbx_tick_on(struct vdev_mbx *m)
{
	loop_mod_timer(m->timer, TICK_NS, TICK_NS);
}

static void post(struct vdev_mbx *m, uint32_t what)
{
	m->pending |= what;
	mbx_event(m, EV_POST);
}

/* ---- asking the PF driver ---- */

static void answered(void *opaque, const struct pf_verdict *verdict)
{
	struct mbx_ask *a = opaque;
	struct vdev_mbx *m = a->m;
	uint64_t cookie;
	bool refused;

	vdev_lock(m->v);
	cookie = a->cookie;
	refused = a->refused;
	a->cookie = 0;
	/* The guest, or a reset, may have gone on meanwhile. */
	if (m->st == ST_ASKED && cookie == m->cookie) {
		m->verdict = *verdict;
		m->cookie = 0;
		mbx_event(m, EV_VERDICT);
	} else if (cookie && refused && verdict->ok) {
		/* The filters and the guest's driver disagree for good. */
		mbx_trace(m, "late", 0, cookie);
		post(m, POST_RESET);
	}
	vdev_unlock(m->v);
}

void mbx_ask_port(struct vdev_mbx *m)
{
	static const struct pf_verdict no;
	struct mbx_ask *a = NULL;

	if (m->st != ST_ASKED || !m->cookie)
		return;
	for (unsigned int i = 0; i < MBX_ASKS && !a; i++) {
		struct mbx_ask *at = &m->ask[m->asking][i];

		if (at->cookie == m->cookie)
			return; /* is being asked */
		if (!at->cookie)
			a = at;
	}
	if (a) {
		*a = (struct mbx_ask){ .m = m, .cookie = m->cookie };
		if (m->conf.port &&
		    m->conf.port->ops->ask(m->conf.port, &m->req, answered,
					   a) == 0)
			return;
		a->cookie = 0;
	}
	m->verdict = no;
	m->cookie = 0;
	mbx_event(m, EV_VERDICT);
}

/* ---- the callback ---- */

void vdev_mbx_callback(void *opaque, const struct pf_event *ev)
{
	struct vdev_mbx *m = opaque;

	vdev_lock(m->v);
	mbx_trace(m, "callback", 0, ev->kind);
	switch (ev->kind) {
	case PF_EV_REQUEST: mbx_event(m, EV_RING); break;
	case PF_EV_RESET:
		m->counts.vf_resets++;
		mbx_state_reset(&m->state);
		mbx_event(m, EV_RESET);
		break;
	case PF_EV_LINK: post(m, POST_LINK); break;
	case PF_EV_MTU:
		/* The only way to make a driver ask for less is to reset it. */
		post(m, m->state.frame > ev->frame ? POST_RESET : POST_LINK);
		break;
	case PF_EV_KICK: post(m, POST_RESET); break;
	case PF_EV_GONE: mbx_event(m, EV_GONE); break;
	case PF_EV_BACK:
		if (ev->lost)
			post(m, POST_RESET);
		break;
	case PF_EVS: break;
	}
	vdev_unlock(m->v);
}

/* A function-level reset by the guest; the PF driver will say so too. */
static void flr(void *opaque)
{
	vdev_mbx_vf_reset(opaque);
}

void vdev_mbx_vf_reset(struct vdev_mbx *m)
{
	vdev_lock(m->v);
	m->resetting = true;
	if (m->conf.mode == VDEV_MBX_KERNEL)
		mbx_state_reset(&m->state);
	mbx_event(m, EV_RESET);
	vdev_unlock(m->v);
}

/* ---- life ---- */

static int listen_port(struct vdev_mbx *m, struct err *e)
{
	struct pf_port *p = m->conf.port;
	int ret;

	if (!p || m->listening || !vdev_pdev(m->v))
		return 0;
	ret = p->ops->listen(p, vdev_mbx_callback, m);
	if (ret < 0)
		return err_sys(e, ret, "%s: the PF driver takes no callback",
			       vdev_name(m->v));
	m->listening = true;
	return 0;
}

static void unlisten_port(struct vdev_mbx *m)
{
	if (m->listening)
		m->conf.port->ops->listen(m->conf.port, NULL, NULL);
	m->listening = false;
}

/* What belongs to a pdev being there: the trap of mode kernel, the port. */
static int attach(struct vdev_mbx *m, struct err *e)
{
	int ret = 0;

	if (m->conf.mode == VDEV_MBX_KERNEL)
		ret = vdev_trap(m->v, 0, m->page, VDEV_TRAP_KERNEL);
	if (ret < 0)
		return err_sys(e, ret, "%s: the mailbox page cannot be trapped",
			       vdev_name(m->v));
	return listen_port(m, e);
}

int vdev_mbx_open(struct vdev_mbx **out, struct vdev *v,
		  const struct vdev_mbx_conf *c, struct err *e)
{
	struct vdev_mbx *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return err_set(e, -ENOMEM, "%s: out of memory", vdev_name(v));
	m->v = v;
	m->conf = *c;
	m->refs = 1;
	m->page = vdev_get_model(v)->mbx_page;
	m->watch = (struct vdev_watch){ .reset = flr, .opaque = m };
	mbx_state_init(&m->state, c->port ? c->port->mac : NULL);
	ret = loop_add_timer(vdev_loop(v), NEVER, 0, tick, m, &m->timer);
	if (ret < 0) {
		err_sys(e, ret, "%s: timer", vdev_name(v));
		goto free;
	}
	mbx_taps_add(m);
	vdev_watch_add(v, &m->watch);
	ret = attach(m, e);
	if (ret < 0)
		goto undo;
	*out = m;
	return 0;

undo:
	vdev_watch_del(v, &m->watch);
	mbx_taps_del(m);
	loop_remove(m->timer);
free:
	free(m);
	return ret;
}

void vdev_mbx_close(struct vdev_mbx *m)
{
	struct vdev *v;

	if (!m)
		return;
	v = m->v;
	unlisten_port(m);
	vdev_lock(v);
	m->pending = 0;
	vdev_watch_del(v, &m->watch);
	mbx_taps_del(m);
	m->st = ST_DIRECT;
	mbx_trace(m, "close", 0, 0);
	vdev_untrap(v, 0, m->page,
		    VDEV_TRAP_MBX | VDEV_TRAP_QUIESCE | VDEV_TRAP_KERNEL);
	m->closed = true;
	vdev_unlock(v);
	loop_remove(m->timer);
	if (--m->refs == 0)
		free(m);
}

int vdev_mbx_set_port(struct vdev_mbx *m, struct pf_port *port)
{
	struct err e = { 0 };

	vdev_lock(m->v);
	unlisten_port(m);
	/*
	 * What the old port was asked it may still answer, until it is closed:
	 * into slots of its own, where nobody waits.
	 */
	for (unsigned int i = 0; i < MBX_ASKS; i++)
		m->ask[m->asking][i].cookie = 0;
	if (port)
		m->asking = !m->asking;
	m->conf.port = port;
	if (m->st == ST_ASKED)
		mbx_later(m, mbx_ask_port);
	vdev_unlock(m->v);
	return listen_port(m, &e);
}

void vdev_mbx_refuse_vlans(struct vdev_mbx *m, bool refuse)
{
	vdev_lock(m->v);
	m->no_vlans = refuse;
	vdev_unlock(m->v);
}

/* ---- quiescing ---- */

#define NOTIFY(name, which)                                     \
	static void name(struct vdev_mbx *m)                    \
	{                                                       \
		if (m->conf.quiet)                              \
			m->conf.quiet(m->conf.opaque, (which)); \
	}
NOTIFY(tell_busy, VDEV_MBX_SAW_BUSY)
NOTIFY(tell_reset, VDEV_MBX_RESET)
NOTIFY(tell_knock, VDEV_MBX_KNOCKS)

void mbx_notice(struct vdev_mbx *m, enum vdev_mbx_quiet what)
{
	static void (*const tell[])(struct vdev_mbx *) = {
		[VDEV_MBX_SAW_BUSY] = tell_busy,
		[VDEV_MBX_RESET] = tell_reset,
		[VDEV_MBX_KNOCKS] = tell_knock,
	};

	if (m->told >> what & 1)
		return;
	m->told |= (uint8_t)(1u << what);
	mbx_trace(m, "quiet", 0, what);
	mbx_later(m, tell[what]);
}

int vdev_mbx_quiesce(struct vdev_mbx *m)
{
	int ret;

	vdev_lock(m->v);
	if (!m->quiesced)
		mbx_event(m, EV_QUIESCE);
	ret = m->quiesced ? 0 : -EIO;
	vdev_unlock(m->v);
	return ret;
}

int vdev_mbx_unquiesce(struct vdev_mbx *m)
{
	int ret = -EALREADY;

	vdev_lock(m->v);
	if (m->quiesced) {
		mbx_event(m, EV_RESUME);
		ret = 0;
	}
	vdev_unlock(m->v);
	return ret;
}

bool vdev_mbx_quiesced(const struct vdev_mbx *m)
{
	bool q;

	vdev_lock(m->v);
	q = m->quiesced;
	vdev_unlock(m->v);
	return q;
}

void vdev_mbx_kick(struct vdev_mbx *m)
{
	vdev_lock(m->v);
	post(m, POST_RESET);
	vdev_unlock(m->v);
}

/* ---- looking in ---- */

void vdev_mbx_get_state(struct vdev_mbx *m, struct mbx_state *out)
{
	vdev_lock(m->v);
	*out = m->state;
	vdev_unlock(m->v);
}

void vdev_mbx_get_counts(struct vdev_mbx *m, struct vdev_mbx_counts *out)
{
	vdev_lock(m->v);
	*out = m->counts;
	vdev_unlock(m->v);
}

const char *vdev_mbx_state_name(struct vdev_mbx *m)
{
	const char *name;

	vdev_lock(m->v);
	name = mbx_st_name(m->st);
	vdev_unlock(m->v);
	return name;
}

json_t *vdev_mbx_status(struct vdev_mbx *m)
{
	struct vdev_mbx_counts c;
	json_t *o;

	vdev_mbx_get_counts(m, &c);
	o = json_pack("{s:s, s:s, s:b, s:b}", "mode",
		      m->conf.mode == VDEV_MBX_KERNEL ? "kernel" : "on-demand",
		      "state", vdev_mbx_state_name(m), "quiesced",
		      vdev_mbx_quiesced(m), "clear_to_send", m->state.cts);
#define C(name) json_object_set_new(o, #name, json_integer((json_int_t)c.name));
	C(exchanges)
	C(posts)
	C(episodes)
	C(granted)
	C(refused)
	C(no_rule)
	C(queued)
	C(dropped)
	C(timeouts)
	C(unread)
	C(vf_resets)
	C(reads)
	C(writes)
#undef C
	return o;
}

/* An exchange was cut by a migration: go on with it on the new device. */
int vdev_mbx_resume(struct vdev_mbx *m, struct err *e)
{
	int ret = attach(m, e);

	if (ret < 0)
		return ret;
	vdev_lock(m->v);
	m->since = now_ns();
	if (m->quiesced)
		ret = vdev_trap(m->v, 0, m->page, VDEV_TRAP_QUIESCE);
	else if (m->st != ST_DIRECT)
		ret = vdev_trap(m->v, 0, m->page, VDEV_TRAP_MBX);
	else if (m->conf.mode == VDEV_MBX_ON_DEMAND)
		mbx_export(m); /* the words the guest's link check reads */
	if (ret == 0 && m->st == ST_ASKED)
		mbx_again(m);
	vdev_unlock(m->v);
	return ret < 0 ? err_sys(e, ret,
				 "%s: the mailbox page cannot be "
				 "trapped",
				 vdev_name(m->v))
		       : 0;
}
