/*
 * The exchange as a machine.
 *
 * One table says, for each state and event, what is done and where that
 * leads.  An empty place means that the event changes nothing there.  An
 * action that cannot go on (the page cannot be trapped, the guest holds the
 * lock) returns another state itself; the table names the usual one.
 *
 *	                 guest rings            host has a word
 *	DIRECT --------------+------------------------+
 *	                     v                        v
 *	              [trap, import]            [trap, import]
 *	                     |                        |  (lock held: TRAPPED)
 *	                   ASKED                      |
 *	      PF driver judges|                       |
 *	                  ANSWERED                  POSTED
 *	           guest acks |                       | guest acks
 *	                      +-- [export, untrap] ---+--> DIRECT
 */
#include <errno.h>
#include <string.h>

#include "vdev/mbx_priv.h"

#define MS 1000000ull
/* Above the 10 ms igbvf rests between the two halves of its reset. */
#define UNREAD_NS (30 * MS)

static const char *const st_names[ST_MAX] = {
	[ST_DIRECT] = "direct", [ST_TRAPPED] = "trapped",
	[ST_ASKED] = "asked",	[ST_ANSWERED] = "answered",
	[ST_POSTED] = "posted", [ST_BUSY] = "busy",
	[ST_HELD] = "held",
};

static const char *const ev_names[EV_MAX] = {
	[EV_RING] = "ring",	   [EV_POST] = "post",
	[EV_REQ] = "request",	   [EV_ACK] = "ack",
	[EV_FREED] = "freed",	   [EV_VERDICT] = "verdict",
	[EV_RESET] = "vf-reset",   [EV_LIMIT] = "limit",
	[EV_GONE] = "pf-gone",	   [EV_QUIESCE] = "quiesce",
	[EV_RESUME] = "unquiesce",
};

/*
 * How long a state may last.  ASKED is below the second a stock driver waits
 * for its answer; ANSWERED and POSTED count from the guest's last access and
 * are above it, and above the two seconds of its watchdog.  BUSY and HELD
 * end by their owner's word.
 */
static const uint64_t limit_ns[ST_MAX] = {
	[ST_TRAPPED] = 1500 * MS,
	[ST_ASKED] = 500 * MS,
	[ST_ANSWERED] = 1500 * MS,
	[ST_POSTED] = 3000 * MS,
};

/*
 * What a guest may ask.  A request with no line here is refused, so leaving
 * one out is safe and adding one is a decision.
 */
static const struct rule {
	bool allowed;
	bool before_reset; /* served even before a reset was answered */
} rules[MBX_OPS] = {
	[MBX_OP_RESET] = { true, true },
	[MBX_OP_SET_MAC] = { true, false },
	[MBX_OP_MAC_CLEAR] = { true, false },
	[MBX_OP_MAC_ADD] = { true, false },
	[MBX_OP_MULTICAST] = { true, false },
	[MBX_OP_VLAN] = { true, false },
	[MBX_OP_LPE] = { true, false },
	[MBX_OP_PROMISC] = { true, false },
};

const char *mbx_st_name(enum mbx_st st)
{
	return (unsigned int)st < ST_MAX ? st_names[st] : "?";
}

void mbx_trace(struct vdev_mbx *m, const char *what, uint32_t off, uint64_t val)
{
	trace_add(m->conf.trace, m->conf.unit, what, st_names[m->st], off, val);
}

static void tick_on(struct vdev_mbx *m)
{
	if (m->ticking)
		return;
	m->ticking = true;
	mbx_later(m, mbx_tick_on);
}

static void go(struct vdev_mbx *m, enum mbx_st st)
{
	m->since = now_ns();
	if (m->st == st)
		return;
	m->st = st;
	mbx_trace(m, "state", 0, st);
	if (st != ST_DIRECT)
		tick_on(m);
}

/* ---- beginning and ending an episode ---- */

static int trap(struct vdev_mbx *m, uint32_t reason)
{
	int ret = vdev_trap(m->v, 0, m->page, reason);

	if (ret < 0) {
		log_limited(&m->limit, LOG_ERROR,
			    "%s: the mailbox page cannot be trapped (%d)",
			    vdev_name(m->v), ret);
		return ret;
	}
	if (reason == VDEV_TRAP_MBX)
		m->counts.episodes++;
	m->resetting = m->acked = false;
	m->out_bits = 0;
	go(m, ST_TRAPPED);
	mbx_trace(m, "trap", 0, reason);
	/* Mode kernel never left the page: nothing to take over. */
	if (m->conf.mode == VDEV_MBX_ON_DEMAND)
		mbx_import(m);
	return 0;
}

static void post_later(struct vdev_mbx *m)
{
	if (m->st == ST_DIRECT && m->pending)
		mbx_event(m, EV_POST);
}

/* The page goes direct. */
static enum mbx_st leave(struct vdev_mbx *m)
{
	m->out_bits = 0;
	m->cookie = 0;
	memset(&m->req, 0, sizeof(m->req));
	mbx_trace(m, "untrap", 0, VDEV_TRAP_MBX);
	vdev_untrap(m->v, 0, m->page, VDEV_TRAP_MBX);
	return ST_DIRECT;
}

/*
 * The exchange is over.  What the guest does next reaches the hardware, so
 * the hardware must hold what the guest believes before the mapping is back.
 */
static enum mbx_st give_back(struct vdev_mbx *m)
{
	if (m->conf.mode == VDEV_MBX_ON_DEMAND && !mbx_export(m))
		log_limited(&m->limit, LOG_WARN,
			    "%s: the PF keeps the mailbox locked; its words "
			    "are not restored",
			    vdev_name(m->v));
	return leave(m);
}

static enum mbx_st finish(struct vdev_mbx *m)
{
	/* Its own episode, from the loop: this may be a vCPU in an access. */
	if (m->pending)
		mbx_later(m, post_later);
	return give_back(m);
}

/* ---- answering ---- */

static void drop(struct vdev_mbx *m)
{
	m->cookie = 0;
	m->counts.dropped++;
	mbx_trace(m, "drop", 0, m->req.w[0]);
}

static enum mbx_st answer(struct vdev_mbx *m, bool ok, bool cts)
{
	if (ok)
		m->counts.granted++;
	else
		m->counts.refused++;
	mbx_answer(&m->req, ok, cts, m->state.mac, &m->out);
	m->out_bits = IGB_V2P_PFACK | IGB_V2P_PFSTS;
	mbx_publish(m); /* or when the guest lets go of the lock */
	return ST_ANSWERED;
}

static enum mbx_st refuse(struct vdev_mbx *m)
{
	return answer(m, false, m->state.cts);
}

void mbx_granted(struct vdev_mbx *m, const uint8_t *mac)
{
	mbx_state_apply(&m->state, &m->meaning);
	/* Whatever we still had to say: it has just started over. */
	if (m->meaning.op == MBX_OP_RESET)
		m->pending = 0;
	if (mac)
		memcpy(m->state.mac, mac, 6);
}

/* m->req is there; the next state. */
static enum mbx_st serve(struct vdev_mbx *m)
{
	int ret = mbx_decode(&m->req, &m->meaning);
	const struct rule *r = &rules[m->meaning.op];

	m->counts.exchanges++;
	m->resetting = m->acked = false;
	mbx_trace(m, "request", IGBVF_VMBMEM, m->req.w[0]);
	if (ret == -EALREADY)
		/* Nobody waits for an answer to an answer. */
		return finish(m);
	if (ret < 0 || !r->allowed) {
		m->counts.no_rule += ret == -ENOENT || !r->allowed;
		log_limited(&m->limit, LOG_WARN, "%s: request %08x %s; refused",
			    vdev_name(m->v), m->req.w[0],
			    ret == -EINVAL ? "has impossible values"
					   : "has no rule");
		return refuse(m);
	}
	if (!m->state.cts && !r->before_reset)
		return refuse(m);
	if (m->no_vlans && m->meaning.op == MBX_OP_VLAN && m->meaning.add &&
	    m->meaning.vid) {
		log_limited(&m->limit, LOG_WARN,
			    "%s: VLAN %u refused: the hardware is of another "
			    "generation, and its PF driver cannot leave tags "
			    "in frames",
			    vdev_name(m->v), m->meaning.vid);
		return refuse(m);
	}
	if (m->conf.mode == VDEV_MBX_KERNEL)
		return mbx_forward(m) ? ST_ASKED : refuse(m);
	if (!m->conf.port)
		return refuse(m);
	/* From the loop, where ports live; a verdict may come at once. */
	m->cookie++;
	if (!m->cookie)
		m->cookie++;
	mbx_later(m, mbx_ask_port);
	return ST_ASKED;
}

static enum mbx_st read_hw(struct vdev_mbx *m)
{
	/* The page is trapped, so these words do not change any more. */
	m->req = (struct mbx_msg){ .len = MBX_WORDS };
	mbx_hw_words(m, m->req.w);
	memcpy(m->mem, m->req.w, sizeof(m->mem));
	return serve(m);
}

static enum mbx_st read_virtual(struct vdev_mbx *m)
{
	m->req = (struct mbx_msg){ .len = MBX_WORDS };
	memcpy(m->req.w, m->mem, sizeof(m->mem));
	return serve(m);
}

/*
 * The guest has rung in the trapped page.  Its request goes where it would
 * have gone, to the hardware, and comes back by the PF driver's callback:
 * there is one way for an exchange to begin, and each has its own episode.
 */
static enum mbx_st pass_on(struct vdev_mbx *m)
{
	if (m->conf.mode == VDEV_MBX_KERNEL || !vdev_pdev(m->v) ||
	    !mbx_export(m))
		return read_virtual(m);
	leave(m);
	mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	mbx_trace(m, "pass-on", IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	return ST_DIRECT;
}

/* ---- actions: the next state, or the same to stay ---- */

static enum mbx_st ring_first(struct vdev_mbx *m)
{
	if (trap(m, VDEV_TRAP_MBX) < 0)
		return ST_DIRECT; /* the guest runs into its own time-out */
	return read_hw(m);
}

static enum mbx_st req_first(struct vdev_mbx *m)
{
	/* Only in mode kernel: elsewhere this access went to the hardware. */
	return read_virtual(m);
}

/* A request while another one is served: the guest has given that one up. */
static enum mbx_st ring_again(struct vdev_mbx *m)
{
	drop(m);
	return read_hw(m);
}

static enum mbx_st req_again(struct vdev_mbx *m)
{
	drop(m);
	return pass_on(m);
}

/* The guest's request first; what we had to say is said after. */
static enum mbx_st ring_over_post(struct vdev_mbx *m)
{
	m->pending |= m->said;
	m->counts.queued++;
	return read_hw(m);
}

static enum mbx_st req_over_post(struct vdev_mbx *m)
{
	m->pending |= m->said;
	m->counts.queued++;
	return pass_on(m);
}

static enum mbx_st post_now(struct vdev_mbx *m)
{
	bool reset = m->pending & POST_RESET;

	m->out = (struct mbx_msg){ .len = 1 };
	/*
	 * A reset is a NACK without CTS, and a driver only looks at the word
	 * if the status says so too.  A link change is the PF's "carry on".
	 */
	if (reset || !m->state.cts) {
		m->out.w[0] = MBX_NACK;
		m->out_bits = IGB_V2P_PFSTS | IGB_V2P_RSTD;
	} else {
		m->out.w[0] = MBX_PF_CONTROL | MBX_CTS;
		m->out_bits = IGB_V2P_PFSTS;
	}
	if (!mbx_publish(m))
		return ST_TRAPPED;
	m->said = m->pending;
	m->pending = 0;
	m->saw_ctl = false;
	m->counts.posts++;
	return ST_POSTED;
}

static enum mbx_st post_first(struct vdev_mbx *m)
{
	if (!m->pending || !vdev_pdev(m->v))
		return m->st;
	/* A driver that never asked for anything has nothing to hear. */
	if (!m->state.cts && !(m->pending & POST_RESET)) {
		m->pending = 0;
		return m->st;
	}
	if (trap(m, VDEV_TRAP_MBX) < 0) {
		tick_on(m); /* tries again */
		return ST_DIRECT;
	}
	return post_now(m);
}

static enum mbx_st queue(struct vdev_mbx *m)
{
	m->counts.queued++;
	return m->st;
}

static enum mbx_st verdict(struct vdev_mbx *m)
{
	if (m->conf.mode == VDEV_MBX_KERNEL)
		return ST_ANSWERED; /* by the host's driver, word for word */
	if (m->verdict.ok)
		mbx_granted(m, m->verdict.mac);
	return answer(m, m->verdict.ok, m->state.cts);
}

/* The lock is free: what waited for it is published. */
static enum mbx_st publish_now(struct vdev_mbx *m)
{
	if (m->out_bits)
		mbx_publish(m);
	return m->st;
}

static enum mbx_st acked(struct vdev_mbx *m)
{
	/*
	 * "Reset done" would be lost with the page direct; the next look at
	 * the status word is the end then.
	 */
	m->acked = true;
	return m->bits & IGB_V2P_RSTD ? m->st : finish(m);
}

/*
 * Nothing is left to be seen but the words, and those the hardware will
 * hold: stock drivers never read the answer to some requests.
 */
static bool all_seen(const struct vdev_mbx *m)
{
	return m->st == ST_ANSWERED && !m->out_bits &&
	       !(m->bits & (IGB_V2P_R2C | IGB_V2P_VFU));
}

static enum mbx_st too_long(struct vdev_mbx *m)
{
	if (all_seen(m)) {
		m->counts.unread++;
		return finish(m);
	}
	m->counts.timeouts++;
	/* The guest sits on the lock: not at once again, by the timer. */
	if (m->st == ST_TRAPPED)
		return give_back(m);
	/*
	 * An answer that came too late, or to nobody.  A stock driver may be
	 * left with a word that says neither yes nor no, and wait for ever.
	 */
	if (m->st == ST_ANSWERED)
		m->pending |= POST_RESET;
	return finish(m);
}

static enum mbx_st no_verdict(struct vdev_mbx *m)
{
	m->counts.timeouts++;
	/* A driver that hung and goes on may grant it yet. */
	for (unsigned int i = 0; i < MBX_ASKS; i++)
		if (m->cookie && m->ask[m->asking][i].cookie == m->cookie)
			m->ask[m->asking][i].refused = true;
	m->cookie = 0;
	/* There the guest's own time-out is the one that counts. */
	return m->conf.mode == VDEV_MBX_KERNEL ? finish(m) : refuse(m);
}

static enum mbx_st reset_during(struct vdev_mbx *m)
{
	/* Its reset message came first and is about the VF after the reset. */
	if (m->meaning.op == MBX_OP_RESET && !m->resetting &&
	    (m->st == ST_ASKED || m->st == ST_ANSWERED))
		return m->st;
	drop(m);
	m->bits &= IGB_V2P_RSTI;
	/*
	 * The hardware's words stay: the guest's next request may be among
	 * them already, rung before the page was trapped.
	 */
	memcpy(m->mem, m->hwmem, sizeof(m->mem));
	return finish(m);
}

/* ---- quiescing ---- */

static enum mbx_st post_busy(struct vdev_mbx *m, uint32_t more)
{
	m->out = (struct mbx_msg){ .w = { MBX_NACK }, .len = 1 };
	m->out_bits = IGB_V2P_PFSTS | IGB_V2P_RSTD | more;
	mbx_publish(m);
	m->counts.posts++;
	return ST_BUSY;
}

static enum mbx_st quiesce_first(struct vdev_mbx *m)
{
	if (trap(m, VDEV_TRAP_QUIESCE) < 0)
		return ST_DIRECT;
	m->quiesced = true;
	m->told = 0;
	m->state.cts = false;
	return post_busy(m, 0);
}

/* A guest that waits for an answer reads the busy word as a refusal. */
static enum mbx_st quiesce_during(struct vdev_mbx *m)
{
	bool waits = m->st == ST_ASKED;

	if (vdev_trap(m->v, 0, m->page, VDEV_TRAP_QUIESCE) < 0)
		return m->st;
	vdev_untrap(m->v, 0, m->page, VDEV_TRAP_MBX);
	if (waits)
		drop(m);
	m->quiesced = true;
	m->told = 0;
	m->state.cts = false;
	return post_busy(m, waits ? IGB_V2P_PFACK : 0);
}

static enum mbx_st busy_ring(struct vdev_mbx *m)
{
	/* Rung before the page was trapped; it was in flight. */
	m->req = (struct mbx_msg){ .len = MBX_WORDS };
	mbx_hw_words(m, m->req.w);
	drop(m);
	return post_busy(m, IGB_V2P_PFACK);
}

static enum mbx_st busy_req(struct vdev_mbx *m)
{
	m->req = (struct mbx_msg){ .len = MBX_WORDS };
	memcpy(m->req.w, m->mem, sizeof(m->mem));
	m->counts.exchanges++;
	m->resetting = false;
	mbx_trace(m, "request", IGBVF_VMBMEM, m->req.w[0]);
	if (mbx_decode(&m->req, &m->meaning) == 0 &&
	    m->meaning.op == MBX_OP_RESET) {
		m->polls = 0;
		mbx_notice(m, VDEV_MBX_KNOCKS);
		return ST_HELD;
	}
	m->counts.refused++;
	mbx_answer(&m->req, false, false, NULL, &m->out);
	m->out_bits = IGB_V2P_PFACK | IGB_V2P_PFSTS;
	mbx_publish(m);
	return m->st;
}

static enum mbx_st busy_ack(struct vdev_mbx *m)
{
	mbx_notice(m, VDEV_MBX_SAW_BUSY);
	return m->st;
}

static enum mbx_st busy_reset(struct vdev_mbx *m)
{
	/* The PF driver's news of the reset before the message that is held. */
	if (m->st == ST_HELD && !m->resetting)
		return m->st;
	/* Nothing of a message may survive its reset. */
	m->bits &= IGB_V2P_RSTI;
	m->out_bits = 0;
	mbx_notice(m, VDEV_MBX_RESET);
	return ST_BUSY;
}

/* The guest does not wait for its answer any more; it will knock again. */
static enum mbx_st gave_up(struct vdev_mbx *m)
{
	m->counts.timeouts++;
	m->told &= (uint8_t) ~(1u << VDEV_MBX_KNOCKS);
	m->mem[0] = MBX_NACK;
	return ST_BUSY;
}

static void end_quiesce(struct vdev_mbx *m)
{
	/* The page stays trapped, for the exchange that follows. */
	vdev_trap(m->v, 0, m->page, VDEV_TRAP_MBX);
	vdev_untrap(m->v, 0, m->page, VDEV_TRAP_QUIESCE);
	m->counts.episodes++;
	m->quiesced = false;
	m->bits &= ~IGB_V2P_RSTI;
}

static enum mbx_st resume_busy(struct vdev_mbx *m)
{
	end_quiesce(m);
	/* Wherever the guest is, starting over brings it back. */
	m->pending = POST_RESET;
	return post_now(m);
}

static enum mbx_st resume_held(struct vdev_mbx *m)
{
	end_quiesce(m);
	return serve(m);
}

void mbx_again(struct vdev_mbx *m)
{
	go(m, serve(m));
}

/* ---- the table ---- */

struct step {
	enum mbx_st (*act)(struct vdev_mbx *m);
};

static const struct step table[ST_MAX][EV_MAX] = {
	[ST_DIRECT] = {
		[EV_RING] = { ring_first },
		[EV_REQ] = { req_first },
		[EV_POST] = { post_first },
		[EV_QUIESCE] = { quiesce_first },
	},
	[ST_TRAPPED] = {
		[EV_RING] = { read_hw },
		[EV_REQ] = { pass_on },
		[EV_FREED] = { post_now },
		[EV_RESET] = { reset_during },
		[EV_LIMIT] = { too_long },
		[EV_QUIESCE] = { quiesce_during },
	},
	[ST_ASKED] = {
		[EV_RING] = { ring_again },
		[EV_REQ] = { req_again },
		[EV_POST] = { queue },
		[EV_VERDICT] = { verdict },
		[EV_RESET] = { reset_during },
		[EV_LIMIT] = { no_verdict },
		[EV_GONE] = { no_verdict },
		[EV_QUIESCE] = { quiesce_during },
	},
	[ST_ANSWERED] = {
		[EV_RING] = { read_hw },
		[EV_REQ] = { pass_on },
		[EV_POST] = { queue },
		[EV_ACK] = { acked },
		[EV_FREED] = { publish_now },
		[EV_RESET] = { reset_during },
		[EV_LIMIT] = { too_long },
		[EV_QUIESCE] = { quiesce_during },
	},
	[ST_POSTED] = {
		[EV_RING] = { ring_over_post },
		[EV_REQ] = { req_over_post },
		[EV_POST] = { queue },
		[EV_ACK] = { acked },
		[EV_RESET] = { reset_during },
		[EV_LIMIT] = { too_long },
		[EV_QUIESCE] = { quiesce_during },
	},
	[ST_BUSY] = {
		[EV_RING] = { busy_ring },
		[EV_REQ] = { busy_req },
		[EV_ACK] = { busy_ack },
		[EV_FREED] = { publish_now },
		[EV_RESET] = { busy_reset },
		[EV_RESUME] = { resume_busy },
	},
	[ST_HELD] = {
		[EV_REQ] = { busy_req },
		[EV_RESET] = { busy_reset },
		[EV_LIMIT] = { gave_up },
		[EV_RESUME] = { resume_held },
	},
};

void mbx_event(struct vdev_mbx *m, enum mbx_ev ev)
{
	const struct step *s = &table[m->st][ev];

	mbx_trace(m, ev_names[ev], 0, m->pending);
	if (s->act)
		go(m, s->act(m));
}

/* For the timer: has this state lasted too long? */
bool mbx_overdue(const struct vdev_mbx *m, uint64_t now)
{
	uint64_t limit = all_seen(m) ? UNREAD_NS : limit_ns[m->st];

	return limit && now > m->since && now - m->since > limit;
}
