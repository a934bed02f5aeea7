#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "ctl/ctl.h"

#define TABLES	8
#define LAST_NS 1000000000ull /* at the end, for all clients together */
#define OUT_MAX (4u << 20)    /* bytes a client may leave unread */

struct conn {
	struct ctl_server *s;
	int fd; /* -1: this place is free */
	struct loop_source *src;
	char *in, *out;
	size_t in_len, out_len;
	unsigned int calls; /* that are going on */
};

/*
 * A call outlives its connection: what it does goes on when the client that
 * asked is gone, and its answer is dropped.
 */
struct ctl_call {
	struct ctl_call *next;
	struct ctl_server *s;
	struct conn *conn; /* NULL: gone */
	json_t *id;
};

struct ctl_server {
	struct loop *loop;
	int fd;
	struct loop_source *src;
	char path[PATH_MAX];
	dev_t dev;
	ino_t ino;
	struct conn conn[CTL_CONNS];
	struct ctl_call *calls;
	struct {
		const struct ctl_method *rows;
		void *opaque;
	} table[TABLES];
	unsigned int ntables;
	struct log_limit limit;
};

static void hang_up(struct conn *c)
{
	for (struct ctl_call *call = c->s->calls; call; call = call->next)
		if (call->conn == c)
			call->conn = NULL;
	loop_remove(c->src);
	c->src = NULL;
	close_fd(&c->fd);
	free(c->in);
	free(c->out);
	c->in = c->out = NULL;
	c->in_len = c->out_len = 0;
}

static void flush(struct conn *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out, c->out_len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			hang_up(c);
			return;
		}
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
	}
	loop_mod_fd(c->src, EPOLLIN | (c->out_len ? EPOLLOUT : 0));
}

/* Takes the reference. */
static void say(struct conn *c, json_t *j)
{
	char *line = j ? json_dumps(j, JSON_COMPACT) : NULL, *out;
	size_t len = line ? strlen(line) : 0;

	json_decref(j);
	if (!line || c->out_len + len + 1 > OUT_MAX) {
		log_limited(&c->s->limit, LOG_WARN,
			    "control: a client does not read; dropped");
		free(line);
		hang_up(c);
		return;
	}
	out = realloc(c->out, c->out_len + len + 1);
	if (!out) {
		free(line);
		hang_up(c);
		return;
	}
	memcpy(out + c->out_len, line, len);
	out[c->out_len + len] = '\n';
	c->out = out;
	c->out_len += len + 1;
	free(line);
	flush(c);
}

static void say_error(struct conn *c, json_t *id, int code, const struct err *e)
{
	say(c, json_pack("{s:O, s:{s:i, s:s}}", "id", id, "error", "code", code,
			 "text", err_text(e, code)));
}

static void end_call(struct ctl_call *call)
{
	for (struct ctl_call **at = &call->s->calls; *at; at = &(*at)->next)
		if (*at == call) {
			*at = call->next;
			break;
		}
	json_decref(call->id);
	free(call);
}

void ctl_reply(struct ctl_call *c, json_t *result)
{
	if (!result)
		result = json_object();
	if (c->conn)
		say(c->conn,
		    json_pack("{s:O, s:o}", "id", c->id, "result", result));
	else
		json_decref(result);
	end_call(c);
}

void ctl_fail(struct ctl_call *c, int code, const struct err *e)
{
	if (c->conn)
		say_error(c->conn, c->id, code, e);
	end_call(c);
}

bool ctl_event(struct ctl_call *c, json_t *event)
{
	if (!c->conn) {
		json_decref(event);
		return false;
	}
	say(c->conn, json_pack("{s:O, s:o}", "id", c->id, "event", event));
	return c->conn;
}

long ctl_unread(const struct ctl_call *c)
{
	return c->conn ? (long)c->conn->out_len : -1;
}

int ctl_take_fd(struct ctl_call *c)
{
	struct conn *conn = c->conn;
	int fd = -1;

	if (conn) {
		say(conn, json_pack("{s:O, s:{}}", "id", c->id, "result"));
		if (c->conn && !conn->out_len) {
			fd = conn->fd;
			loop_remove(conn->src);
			conn->src = NULL;
			conn->fd = -1;
		}
		if (c->conn)
			hang_up(conn);
	}
	end_call(c);
	return fd;
}

static const struct ctl_method *find(struct ctl_server *s, const char *name,
				     void **opaque)
{
	for (unsigned int i = 0; i < s->ntables; i++)
		for (const struct ctl_method *m = s->table[i].rows; m->name;
		     m++)
			if (!strcmp(m->name, name)) {
				*opaque = s->table[i].opaque;
				return m;
			}
	return NULL;
}

/* What a person types by hand into the socket: all methods there are. */
static json_t *help(struct ctl_server *s)
{
	json_t *all = json_object();

	for (unsigned int i = 0; i < s->ntables; i++)
		for (const struct ctl_method *m = s->table[i].rows; m->name;
		     m++)
			json_object_set_new(all, m->name, json_string(m->what));
	return all;
}

static void run(struct conn *c, const struct ctl_method *m, void *opaque,
		json_t *id, const json_t *params)
{
	struct ctl_call *call = calloc(1, sizeof(*call));
	json_t *result = NULL;
	struct err e = { 0 };
	int ret;

	if (!call) {
		hang_up(c);
		return;
	}
	*call = (struct ctl_call){
		.next = c->s->calls, .s = c->s, .conn = c, .id = json_incref(id)
	};
	c->s->calls = call;
	ret = m->run(opaque, call, params, &result, &e);
	if (ret == CTL_LATER)
		return;
	if (ret < 0)
		ctl_fail(call, ret, &e);
	else
		ctl_reply(call, result);
}

static void request(struct conn *c, const char *line, size_t len)
{
	json_error_t je;
	json_t *req = json_loadb(line, len, 0, &je);
	json_t *none = json_object(), *null = json_null();
	json_t *id = json_object_get(req, "id");
	json_t *params = json_object_get(req, "params");
	const char *name = json_string_value(json_object_get(req, "method"));
	const struct ctl_method *m;
	struct err e = { 0 };
	void *opaque;

	if (!id || !(json_is_integer(id) || json_is_string(id)))
		id = null;
	if (!params)
		params = none;
	if (!json_is_object(req)) {
		err_set(&e, -EINVAL, "not a JSON object: %s",
			req ? "something else" : je.text);
		say_error(c, id, -EINVAL, &e);
	} else if (!name || !json_is_object(params)) {
		err_set(&e, -EINVAL,
			"a request is {\"id\": 1, \"method\": NAME, "
			"\"params\": {...}}");
		say_error(c, id, -EINVAL, &e);
	} else if (!strcmp(name, "help")) {
		say(c, json_pack("{s:O, s:o}", "id", id, "result", help(c->s)));
	} else if (!(m = find(c->s, name, &opaque))) {
		err_set(&e, -ENOSYS,
			"no method '%.40s' in this kind of process; "
			"'help' lists those there are",
			name);
		say_error(c, id, -ENOSYS, &e);
	} else {
		run(c, m, opaque, id, params);
	}
	json_decref(none);
	json_decref(req);
}

static void on_conn(int fd, uint32_t events, void *opaque)
{
	struct conn *c = opaque;
	ssize_t n;
	char *eol;

	if (events & EPOLLOUT)
		flush(c);
	if (c->fd < 0 || !(events & ~(uint32_t)EPOLLOUT))
		return;
	n = recv(c->fd, c->in + c->in_len, CTL_LINE_MAX - c->in_len,
		 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(c);
		return;
	}
	c->in_len += (size_t)n;

	/* The connection may be hung up or given away by any request. */
	while (c->fd == fd && c->in && (eol = memchr(c->in, '\n', c->in_len))) {
		size_t len = (size_t)(eol - c->in);
		char *line = strndup(c->in, len);

		c->in_len -= len + 1;
		memmove(c->in, eol + 1, c->in_len);
		if (line)
			request(c, line, len);
		free(line);
	}
	if (c->fd == fd && c->in_len == CTL_LINE_MAX) {
		log_limited(&c->s->limit, LOG_WARN,
			    "control: a request longer than %d bytes",
			    CTL_LINE_MAX);
		hang_up(c);
	}
}

/* Nobody is ever asked to wait for the word of a full house. */
static void turn_away(int fd)
{
	static const char line[] =
		"{\"id\":null,\"error\":{\"code\":-16,\"text\":\"too many "
		"connections to its control socket: end some of the programs "
		"that hold one\"}}\n";

	send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_listen(int fd, uint32_t events, void *opaque)
{
	struct ctl_server *s = opaque;
	int new = sock_accept(fd);

	if (new < 0)
		return;
	for (unsigned int i = 0; i < CTL_CONNS; i++) {
		struct conn *c = &s->conn[i];

		if (c->fd >= 0)
			continue;
		c->in = malloc(CTL_LINE_MAX);
		if (!c->in || loop_add_fd(s->loop, new, EPOLLIN, on_conn, c,
					  &c->src) < 0) {
			free(c->in);
			c->in = NULL;
			break;
		}
		c->fd = new;
		return;
	}
	log_limited(&s->limit, LOG_WARN, "control: more than %d connections",
		    CTL_CONNS);
	turn_away(new);
	close(new);
}

/* Ours alone: who can write there could put a socket in our place. */
static int make_dir(const char *dir, struct err *e)
{
	char where[PATH_MAX];
	struct stat st;
	int ret = ctl_dir(where, sizeof(where), dir, e);

	if (ret < 0)
		return ret;
	if (mkdir(where, 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno,
			       "%s cannot be made: choose another place for "
			       "control sockets with --dir",
			       where);
	if (stat(where, &st) < 0)
		return err_sys(e, -errno, "%s", where);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 022))
		return err_set(e, -EPERM,
			       "%s must be a directory of this user that "
			       "nobody else can write to: chmod 700 it, or "
			       "choose another with --dir",
			       where);
	return 0;
}

int ctl_server_create(struct ctl_server **out, struct loop *l, const char *dir,
		      const char *name, struct err *e)
{
	struct ctl_server *s;
	struct stat st;
	int ret = make_dir(dir, e);

	if (ret < 0)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->loop = l;
	for (unsigned int i = 0; i < CTL_CONNS; i++)
		s->conn[i] = (struct conn){ .s = s, .fd = -1 };
	ret = ctl_path(s->path, sizeof(s->path), dir, name, "sock", e);
	if (ret < 0)
		goto free;
	s->fd = sock_listen(s->path, SOCK_STREAM, NULL);
	if (s->fd < 0) {
		ret = s->fd;
		if (ret == -EADDRINUSE)
			err_set(e, ret,
				"'%s' runs already (it listens on %s): choose "
				"another --name, or 'pagurus stop %s'",
				name, s->path, name);
		else
			err_sys(e, ret, "%s", s->path);
		goto free;
	}
	if (stat(s->path, &st) == 0) {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	ret = loop_add_fd(l, s->fd, EPOLLIN, on_listen, s, &s->src);
	if (ret < 0) {
		err_sys(e, ret, "%s", s->path);
		goto close;
	}
	*out = s;
	return 0;

close:
	close(s->fd);
	unlink(s->path);
free:
	free(s);
	return ret;
}

/* Clients that read get the end of what was said to them. */
static void say_last(struct ctl_server *s)
{
	uint64_t until = now_ns() + LAST_NS;

	for (unsigned int i = 0; i < CTL_CONNS; i++) {
		struct conn *c = &s->conn[i];

		while (c->fd >= 0 && c->out_len && now_ns() < until) {
			struct pollfd p = { .fd = c->fd, .events = POLLOUT };

			if (poll(&p, 1, 50) > 0)
				flush(c);
		}
	}
}

void ctl_server_destroy(struct ctl_server *s)
{
	struct stat st;

	if (!s)
		return;
	for (struct ctl_call *c = s->calls, *next; c; c = next) {
		next = c->next;
		ctl_fail(c, -ESHUTDOWN, NULL);
	}
	say_last(s);
	for (unsigned int i = 0; i < CTL_CONNS; i++)
		if (s->conn[i].fd >= 0)
			hang_up(&s->conn[i]);
	loop_remove(s->src);
	/* Only our own: a next process may have taken the name over. */
	if (stat(s->path, &st) == 0 && st.st_dev == s->dev &&
	    st.st_ino == s->ino)
		unlink(s->path);
	close(s->fd);
	free(s);
}

const char *ctl_server_path(const struct ctl_server *s)
{
	return s->path;
}

int ctl_server_add(struct ctl_server *s, const struct ctl_method *rows,
		   void *opaque)
{
	if (s->ntables == TABLES)
		return -ENOSPC;
	s->table[s->ntables].rows = rows;
	s->table[s->ntables++].opaque = opaque;
	return 0;
}
