#include "igb/pf_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "igb/pf_proto.h"

struct conn {
	struct pf_server *s;
	int fd; /* -1: free */
	struct loop_source *src;
	struct pf_port *port;
	uint32_t seq;	/* of the question being answered */
	uint64_t since; /* the how manieth connection it is */
	bool dead;	/* to be closed when its message is done */
};

struct pf_server {
	struct pf *pf;
	struct loop *loop;
	int fd;
	char *path;
	struct loop_source *src;
	struct conn conn[PF_SERVER_CONNS];
	struct pf_server_counts counts;
	struct log_limit limit;
};

/* Not from within a call of its own port; see 'dead'. */
static void conn_close(struct conn *c)
{
	if (c->fd < 0)
		return;
	loop_remove(c->src);
	close_fd(&c->fd);
	pf_port_close(c->port);
	c->port = NULL;
	c->s->counts.live--;
}

static void conn_send(struct conn *c, const struct pf_msg *m)
{
	uint8_t buf[PF_PROTO_MAX];
	ssize_t n;

	if (c->fd < 0 || c->dead)
		return;
	n = sock_try_send(c->fd, buf, pf_msg_encode(m, buf), NULL, 0);
	if (n < 0) {
		c->dead = true;
		/* It is noticed by its hang-up; a slow one hangs up so. */
		if (n == -EAGAIN) {
			c->s->counts.slow++;
			log_limited(&c->s->limit, LOG_WARN,
				    "a VM does not read its socket; "
				    "disconnected");
		}
		shutdown(c->fd, SHUT_RDWR);
	}
}

static void send_error(struct conn *c, uint32_t seq, int code, const char *text)
{
	struct pf_msg m = { .type = PF_MSG_ERROR, .seq = seq, .code = code };

	strncpy(m.text, text, sizeof(m.text) - 1);
	conn_send(c, &m);
}

static void on_event(void *opaque, const struct pf_event *ev)
{
	const struct pf_msg m = { .type = PF_MSG_EVENT, .event = *ev };

	if (ev->kind < PF_EV_GONE)
		conn_send(opaque, &m);
}

static void on_verdict(void *opaque, const struct pf_verdict *v)
{
	struct conn *c = opaque;
	const struct pf_msg m = { .type = PF_MSG_VERDICT,
				  .seq = c->seq,
				  .verdict = *v };

	conn_send(c, &m);
}

static void do_claim(struct conn *c, const struct pf_msg *m)
{
	struct pf_msg r = { .type = PF_MSG_CLAIMED, .seq = m->seq };
	struct err e = { 0 };
	int ret;

	if (c->port) {
		send_error(c, m->seq, -EALREADY, "a connection is one VF");
		return;
	}
	ret = pf_claim(&c->port, c->s->pf, m->vf, m->who, &e);
	if (ret < 0) {
		c->port = NULL;
		send_error(c, m->seq, ret, err_text(&e, ret));
		return;
	}
	r.vf = c->port->vf;
	r.running = pf_vf_kept(c->s->pf, c->port->vf);
	r.link = c->port->link;
	memcpy(r.mac, c->port->mac, 6);
	strcpy(r.gen, c->port->gen);
	strcpy(r.spec, c->port->spec);
	conn_send(c, &r);
}

static void serve(struct conn *c, const struct pf_msg *m)
{
	int ret = 0;

	if (m->type == PF_MSG_CLAIM) {
		do_claim(c, m);
		return;
	}
	if (!c->port) {
		send_error(c, m->seq, -EINVAL, "no VF was claimed");
		return;
	}
	c->seq = m->seq;
	switch (m->type) {
	case PF_MSG_LISTEN:
		ret = c->port->ops->listen(c->port, m->on ? on_event : NULL, c);
		break;
	case PF_MSG_ASK:
		ret = c->port->ops->ask(c->port, &m->words, on_verdict, c);
		break;
	case PF_MSG_RESTORE:
		ret = c->port->ops->restore(c->port, &m->state, on_verdict, c);
		break;
	case PF_MSG_TAGS: ret = c->port->ops->keep_tags(c->port, m->on); break;
	case PF_MSG_ANNOUNCE: ret = c->port->ops->announce(c->port); break;
	default: ret = -EBADMSG; /* one of ours, sent back */
	}
	if (ret < 0)
		send_error(c, m->seq, ret, strerror(-ret));
}

static void on_conn(int fd, uint32_t events, void *opaque)
{
	uint8_t buf[PF_PROTO_MAX + 1];
	struct conn *c = opaque;
	struct pf_server *s = c->s;
	struct pf_msg m;
	size_t nfds = 0;
	ssize_t n = sock_recv(fd, buf, sizeof(buf), NULL, &nfds);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n > 0 && !c->dead) {
		if (pf_msg_decode(&m, buf, (size_t)n) == 0) {
			s->counts.messages++;
			serve(c, &m);
			if (!c->dead)
				return;
		} else {
			s->counts.bad++;
			log_limited(&s->limit, LOG_WARN,
				    "a VM sent what is no message (%zd bytes)",
				    n);
		}
	}
	conn_close(c);
}

/*
 * Room for one more.  Whoever does not say which VF it wants has to go when
 * others come: else a few idle connections would keep all VMs out.
 */
static struct conn *room(struct pf_server *s)
{
	struct conn *idle = NULL;

	for (unsigned int i = 0; i < PF_SERVER_CONNS; i++) {
		struct conn *c = &s->conn[i];

		if (c->fd < 0)
			return c;
		if (!c->port && (!idle || c->since < idle->since))
			idle = c;
	}
	s->counts.refused++;
	if (idle)
		conn_close(idle);
	return idle;
}

int pf_server_adopt(struct pf_server *s, int fd)
{
	struct conn *c = room(s);
	int ret = c ? 0 : -EBUSY;

	if (c)
		ret = loop_add_fd(s->loop, fd, EPOLLIN, on_conn, c, &c->src);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	*c = (struct conn){
		.s = s, .fd = fd, .src = c->src, .since = ++s->counts.connects
	};
	s->counts.live++;
	return 0;
}

static void on_listen(int fd, uint32_t events, void *opaque)
{
	int c = sock_accept(fd);

	if (c >= 0)
		pf_server_adopt(opaque, c);
}

int pf_server_create(struct pf_server **out, struct pf *pf, struct loop *l,
		     const char *path, struct err *e)
{
	struct pf_server *s = calloc(1, sizeof(*s));
	int ret = 0;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->pf = pf;
	s->loop = l;
	s->fd = -1;
	for (unsigned int i = 0; i < PF_SERVER_CONNS; i++)
		s->conn[i] = (struct conn){ .s = s, .fd = -1 };
	if (path) {
		s->path = strdup(path);
		s->fd = s->path ? sock_listen(path, SOCK_SEQPACKET, e)
				: err_set(e, -ENOMEM, "out of memory");
		ret = s->fd;
		if (ret >= 0)
			ret = loop_add_fd(l, s->fd, EPOLLIN, on_listen, s,
					  &s->src);
	}
	if (ret < 0) {
		if (s->fd >= 0)
			unlink(path);
		close_fd(&s->fd);
		free(s->path);
		free(s);
		return err_sys(e, ret, "%s", path);
	}
	*out = s;
	return 0;
}

void pf_server_destroy(struct pf_server *s)
{
	if (!s)
		return;
	for (unsigned int i = 0; i < PF_SERVER_CONNS; i++)
		conn_close(&s->conn[i]);
	loop_remove(s->src);
	if (s->fd >= 0)
		unlink(s->path);
	close_fd(&s->fd);
	free(s->path);
	free(s);
}

void pf_server_get_counts(const struct pf_server *s,
			  struct pf_server_counts *out)
{
	*out = s->counts;
}
