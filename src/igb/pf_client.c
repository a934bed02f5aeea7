#include "igb/pf_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "igb/pf_proto.h"

#define OPEN_MS	     2000
#define RECONNECT_NS 250000000ull
#define WAITS	     8 /* questions on their way; a VF has one at a time */

/* Where a connection is. */
enum stage {
	DOWN,	   /* none; knocking */
	CLAIMING,  /* a driver is there, the VF not ours yet */
	RESTORING, /* ours, what it was granted is being restored */
	UP,
};

struct wait {
	uint32_t seq; /* 0: free */
	pf_verdict_fn done;
	void *opaque;
	bool restore;
	struct mbx_req req; /* what is granted if it is */
	struct mbx_state state;
};

struct client {
	struct pf_port port;
	struct loop *loop;
	struct trace *trace;
	char *path; /* NULL: no reconnect */
	char who[64];
	int fd;
	struct loop_source *src, *timer;
	enum stage stage;
	bool lost;
	uint32_t seq;
	struct wait wait[WAITS];
	pf_event_fn fn;
	void *opaque;
	struct mbx_state state; /* what the VF has been granted */
	bool keep_tags;
	struct log_limit limit;
};

static struct client *client(struct pf_port *p)
{
	return (struct client *)p;
}

static int client_send(struct client *c, const struct pf_msg *m)
{
	uint8_t buf[PF_PROTO_MAX];
	ssize_t n;

	if (c->fd < 0)
		return -ENOTCONN;
	n = sock_try_send(c->fd, buf, pf_msg_encode(m, buf), NULL, 0);
	return n < 0 ? (int)n : 0;
}

static uint32_t next_seq(struct client *c)
{
	if (++c->seq == 0)
		c->seq = 1;
	return c->seq;
}

static void tell(struct client *c, enum pf_event_kind kind, bool lost)
{
	const struct pf_event ev = { .kind = kind,
				     .vf = c->port.vf,
				     .link = c->port.link,
				     .lost = lost };

	trace_add(c->trace, c->port.vf, "pf-callback", pf_event_name(kind), 0,
		  kind);
	if (c->fn)
		c->fn(c->opaque, &ev);
}

static int send_claim(struct client *c, unsigned int vf)
{
	struct pf_msg m = { .type = PF_MSG_CLAIM,
			    .seq = next_seq(c),
			    .vf = vf };

	strcpy(m.who, c->who);
	return client_send(c, &m);
}

static int send_listen(struct client *c, bool on)
{
	const struct pf_msg m = { .type = PF_MSG_LISTEN,
				  .seq = next_seq(c),
				  .on = on };

	return client_send(c, &m);
}

static int send_tags(struct client *c)
{
	const struct pf_msg m = { .type = PF_MSG_TAGS,
				  .seq = next_seq(c),
				  .on = c->keep_tags };

	return client_send(c, &m);
}

/* ---- the driver went ---- */

static void disconnect(struct client *c, const char *why)
{
	static const struct pf_verdict no;
	bool was_up = c->stage == UP;

	if (c->fd < 0)
		return;
	/* One that comes and goes would fill the log, four times a second. */
	log_limited(&c->limit, LOG_INFO, "PF driver %s: %s",
		    c->path ? c->path : "(socket)", why);
	loop_remove(c->src);
	c->src = NULL;
	close_fd(&c->fd);
	c->stage = DOWN;
	for (unsigned int i = 0; i < WAITS; i++) {
		struct wait w = c->wait[i];

		c->wait[i].seq = 0;
		if (w.seq && w.done)
			w.done(w.opaque, &no);
	}
	if (was_up)
		tell(c, PF_EV_GONE, false);
	if (c->path)
		loop_mod_timer(c->timer, RECONNECT_NS, RECONNECT_NS);
}

/* ---- messages ---- */

static void settle(struct client *c, const struct pf_msg *m)
{
	static const struct pf_verdict no;
	const struct pf_verdict *v =
		m->type == PF_MSG_VERDICT ? &m->verdict : &no;

	for (unsigned int i = 0; i < WAITS; i++) {
		struct wait w = c->wait[i];

		if (!w.seq || w.seq != m->seq)
			continue;
		c->wait[i].seq = 0;
		if (v->ok && w.restore)
			c->state = w.state;
		else if (v->ok)
			mbx_state_apply(&c->state, &w.req);
		if (v->ok)
			memcpy(c->state.mac, v->mac, 6);
		if (w.done)
			w.done(w.opaque, v);
		return;
	}
}

static void restored(void *opaque, const struct pf_verdict *v)
{
	struct client *c = opaque;

	if (c->stage != RESTORING)
		return;
	if (!v->ok) {
		log_warn("VF %u: the PF driver does not restore what it was "
			 "granted; its guest starts over",
			 c->port.vf);
		c->lost = true;
	}
	c->stage = UP;
	if (c->fn)
		send_listen(c, true);
	tell(c, PF_EV_BACK, c->lost);
}

static int restore(struct pf_port *p, const struct mbx_state *st,
		   pf_verdict_fn done, void *opaque);

static void claimed(struct client *c, const struct pf_msg *m)
{
	c->port.link = m->link;
	if (m->vf != c->port.vf) {
		disconnect(c, "gave us another VF");
		return;
	}
	c->lost = !m->running;
	c->stage = RESTORING;
	log_info("PF driver %s is back", c->path);
	if (send_tags(c) < 0 || restore(&c->port, &c->state, restored, c) < 0)
		disconnect(c, "does not take what the VF was granted");
}

static void dispatch(struct client *c, const struct pf_msg *m)
{
	struct pf_event ev = m->event;

	switch (m->type) {
	case PF_MSG_EVENT:
		ev.vf = c->port.vf;
		if (ev.kind == PF_EV_LINK)
			c->port.link = ev.link;
		if (ev.kind == PF_EV_RESET)
			mbx_state_reset(&c->state);
		trace_add(c->trace, ev.vf, "pf-callback",
			  pf_event_name(ev.kind), 0, ev.kind);
		if (c->fn && c->stage == UP)
			c->fn(c->opaque, &ev);
		break;
	case PF_MSG_CLAIMED:
		if (c->stage == CLAIMING)
			claimed(c, m);
		break;
	case PF_MSG_ERROR:
		if (c->stage == CLAIMING)
			disconnect(c, m->text);
		else
			settle(c, m);
		break;
	case PF_MSG_VERDICT: settle(c, m); break;
	default: disconnect(c, "speaks out of turn");
	}
}

static void on_socket(int fd, uint32_t events, void *opaque)
{
	uint8_t buf[PF_PROTO_MAX + 1];
	struct client *c = opaque;
	struct pf_msg m;
	size_t nfds = 0;
	ssize_t n = sock_recv(fd, buf, sizeof(buf), NULL, &nfds);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		disconnect(c, "has gone");
	else if (pf_msg_decode(&m, buf, (size_t)n) < 0)
		disconnect(c, "sent what is no message");
	else
		dispatch(c, &m);
}

static int attach(struct client *c, int fd)
{
	int ret = loop_add_fd(c->loop, fd, EPOLLIN, on_socket, c, &c->src);

	if (ret == 0)
		c->fd = fd;
	return ret;
}

static void knock(void *opaque)
{
	struct client *c = opaque;
	int fd;

	if (c->stage != DOWN)
		return;
	fd = sock_connect(c->path, SOCK_SEQPACKET, NULL);
	if (fd < 0)
		return; /* the timer goes on */
	if (attach(c, fd) < 0) {
		close_fd(&fd);
		return;
	}
	c->stage = CLAIMING;
	loop_mod_timer(c->timer, UINT64_MAX / 4, 0);
	if (send_claim(c, c->port.vf) < 0)
		disconnect(c, "does not read");
}

/* ---- port ops ---- */

/*
 * A driver that has come back and was not met yet keeps the VF as it was for
 * us: seconds of frames for a VM that has gone elsewhere.
 */
static void give_back(struct client *c)
{
	c->fd = sock_connect(c->path, SOCK_SEQPACKET, NULL);
	if (c->fd >= 0)
		send_claim(c, c->port.vf);
}

static void client_close(struct pf_port *p)
{
	struct client *c = client(p);

	if (c->stage == DOWN && c->path && c->fd < 0)
		give_back(c);
	loop_remove(c->src);
	loop_remove(c->timer);
	close_fd(&c->fd);
	free(c->path);
	free(c);
}

static int client_listen(struct pf_port *p, pf_event_fn fn, void *opaque)
{
	struct client *c = client(p);

	c->fn = fn;
	c->opaque = opaque;
	/* With nobody there it is made up for when there is. */
	return c->stage == UP ? send_listen(c, fn != NULL) : 0;
}

static struct wait *free_wait(struct client *c)
{
	for (unsigned int i = 0; i < WAITS; i++)
		if (!c->wait[i].seq)
			return &c->wait[i];
	return NULL;
}

static int question(struct client *c, struct pf_msg *m, const struct wait *w)
{
	struct wait *room = free_wait(c);
	int ret;

	if (!room)
		return -EBUSY;
	m->seq = next_seq(c);
	ret = client_send(c, m);
	if (ret < 0)
		return ret;
	*room = *w;
	room->seq = m->seq;
	return 0;
}

static int ask(struct pf_port *p, const struct mbx_msg *req, pf_verdict_fn done,
	       void *opaque)
{
	struct pf_msg m = { .type = PF_MSG_ASK, .words = *req };
	struct wait w = { .done = done, .opaque = opaque };

	if (client(p)->stage != UP)
		return -ENOTCONN;
	mbx_decode(req, &w.req);
	return question(client(p), &m, &w);
}

static int restore(struct pf_port *p, const struct mbx_state *st,
		   pf_verdict_fn done, void *opaque)
{
	struct pf_msg m = { .type = PF_MSG_RESTORE, .state = *st };
	const struct wait w = {
		.done = done, .opaque = opaque, .restore = true, .state = *st
	};

	if (client(p)->stage != UP && client(p)->stage != RESTORING)
		return -ENOTCONN;
	return question(client(p), &m, &w);
}

static int announce(struct pf_port *p)
{
	struct pf_msg m = { .type = PF_MSG_ANNOUNCE };
	struct client *c = client(p);

	if (c->stage != UP)
		return -ENOTCONN;
	m.seq = next_seq(c);
	return client_send(c, &m);
}

static int keep_tags(struct pf_port *p, bool keep)
{
	struct client *c = client(p);

	c->keep_tags = keep;
	return c->stage == UP ? send_tags(c) : 0;
}

static const struct pf_port_ops ops = {
	.close = client_close,
	.listen = client_listen,
	.ask = ask,
	.restore = restore,
	.announce = announce,
	.keep_tags = keep_tags,
};

/* ---- opening ---- */

/* The answer to the claim, waited for: nothing else runs yet. */
static int wait_claimed(struct client *c, int fd, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t buf[PF_PROTO_MAX + 1];
	struct pf_msg m;
	size_t nfds = 0;
	ssize_t n;
	int ret;

	do {
		ret = poll(&p, 1, OPEN_MS);
	} while (ret < 0 && errno == EINTR);
	if (ret <= 0)
		return err_set(e, -ETIMEDOUT,
			       "the PF driver does not answer; is it stopped?");
	n = sock_recv(fd, buf, sizeof(buf), NULL, &nfds);
	if (n <= 0)
		return err_set(e, -EPIPE, "the PF driver hung up");
	ret = pf_msg_decode(&m, buf, (size_t)n);
	if (ret == -EPROTO)
		return err_set(e, ret,
			       "the PF driver speaks another version; run the "
			       "same pagurus for both");
	if (ret == 0 && m.type == PF_MSG_ERROR)
		return err_set(e, m.code, "%s", m.text);
	if (ret < 0 || m.type != PF_MSG_CLAIMED)
		return err_set(e, -EBADMSG, "that is no PF driver");
	c->port.vf = m.vf;
	c->port.link = m.link;
	memcpy(c->port.mac, m.mac, 6);
	strcpy(c->port.gen, m.gen);
	strcpy(c->port.spec, m.spec);
	return 0;
}

static int open_on(struct pf_port **out, int fd, const char *path,
		   unsigned int vf, const char *who, struct loop *l,
		   struct trace *t, struct err *e)
{
	struct client *c = calloc(1, sizeof(*c));
	int ret;

	if (!c) {
		close_fd(&fd);
		return err_set(e, -ENOMEM, "out of memory");
	}
	c->port.ops = &ops;
	c->loop = l;
	c->trace = t;
	c->fd = fd;
	snprintf(c->who, sizeof(c->who), "%s", who);
	c->path = path ? strdup(path) : NULL;
	ret = path && !c->path ? -ENOMEM : send_claim(c, vf);
	if (ret == 0)
		ret = wait_claimed(c, fd, e);
	if (ret == 0)
		ret = loop_add_timer(l, UINT64_MAX / 4, 0, knock, c, &c->timer);
	if (ret == 0)
		ret = attach(c, fd);
	if (ret < 0) {
		err_sys(e, ret, "the PF driver's socket");
		client_close(&c->port);
		return ret;
	}
	mbx_state_init(&c->state, c->port.mac);
	c->stage = UP;
	*out = &c->port;
	return 0;
}

int pf_client_open_fd(struct pf_port **out, int fd, unsigned int vf,
		      const char *who, struct loop *l, struct trace *t,
		      struct err *e)
{
	return open_on(out, fd, NULL, vf, who, l, t, e);
}

int pf_client_open(struct pf_port **out, const char *path, unsigned int vf,
		   const char *who, struct loop *l, struct trace *t,
		   struct err *e)
{
	int fd = sock_connect(path, SOCK_SEQPACKET, e), ret;

	if (fd < 0) {
		err_prefix(e, "no PF driver (start 'pagurus pf')");
		return fd;
	}
	ret = open_on(out, fd, path, vf, who, l, t, e);
	if (ret < 0)
		err_prefix(e, "%s", path);
	return ret;
}
