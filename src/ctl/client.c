#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/sock.h"
#include "base/util.h"
#include "ctl/ctl.h"

#define REPLY_MAX (16u << 20) /* bytes; more is no answer of ours */

struct ctl_client {
	int fd;
	unsigned int id;
	unsigned int patience_ms; /* 0: for ever */
	char name[CTL_NAME_MAX + 1];
	char *buf; /* received, not yet a line */
	size_t len, room;
};

int ctl_connect(struct ctl_client **out, const char *dir, const char *name,
		struct err *e)
{
	char path[PATH_MAX];
	struct ctl_client *c;
	int ret = ctl_path(path, sizeof(path), dir, name, "sock", e);

	if (ret < 0)
		return ret;
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->fd = sock_connect(path, SOCK_STREAM, NULL);
	if (c->fd < 0) {
		ret = c->fd;
		free(c);
		if (ret == -ENOENT || ret == -ECONNREFUSED)
			return err_set(e, ret,
				       "nothing named '%s' runs here (nobody "
				       "listens on %s): 'pagurus status' lists "
				       "what does",
				       name, path);
		if (ret == -ETIMEDOUT)
			return err_set(e, ret,
				       "%s: its process accepts no "
				       "connections on %s any more: it is "
				       "stopped or stuck",
				       name, path);
		return err_sys(e, ret, "%s", path);
	}
	*out = c;
	return 0;
}

void ctl_close(struct ctl_client *c)
{
	if (!c)
		return;
	close_fd(&c->fd);
	free(c->buf);
	free(c);
}

int ctl_fd(const struct ctl_client *c)
{
	return c->fd;
}

void ctl_patience(struct ctl_client *c, unsigned int ms)
{
	c->patience_ms = ms;
}

/*
 * Something to read before 'end', which is 0 for no end.  A process that is
 * stopped, or stuck, still has a kernel that accepts connections for it.
 */
static int wait_for(struct ctl_client *c, uint64_t end, struct err *e)
{
	struct ucred peer = { .pid = 0 };
	socklen_t len = sizeof(peer);
	int ret = 0;

	while (end && ret == 0) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		uint64_t now = now_ns();

		if (now >= end)
			break;
		ret = poll(&p, 1, (int)((end - now) / 1000000 + 1));
		if (ret < 0)
			return -errno;
	}
	if (!end || ret > 0)
		return 0;
	getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	return err_set(e, -ETIMEDOUT,
		       "%s: process %d has not answered for %u s: it is "
		       "starting, stopped ('kill -CONT %d' lets it go on) or "
		       "stuck ('kill -KILL %d' ends it, and its guest if "
		       "it is a VM)",
		       c->name, peer.pid, (c->patience_ms + 999) / 1000,
		       peer.pid, peer.pid);
}

/*
 * The next line as JSON; -EPIPE at the end.  Byte for byte no more than the
 * line is taken while nothing is buffered, because after a line the
 * connection may carry something else: peek, then take.
 */
static int next(struct ctl_client *c, json_t **out, struct err *e)
{
	uint64_t end =
		c->patience_ms ? now_ns() + c->patience_ms * 1000000ull : 0;
	char *eol = NULL;
	json_t *j;
	int ret;

	while (!eol) {
		ssize_t n;

		if (c->room - c->len < 4096) {
			char *buf = NULL;

			if (c->room < REPLY_MAX)
				buf = realloc(c->buf, c->room + 65536);
			if (!buf)
				return err_set(e, -ENOMEM,
					       "%s: the answer is too long",
					       c->name);
			c->buf = buf;
			c->room += 65536;
		}
		ret = wait_for(c, end, e);
		if (ret < 0)
			return ret;
		n = recv(c->fd, c->buf + c->len, c->room - c->len, MSG_PEEK);
		if (n < 0 && errno == EINTR)
			return -EINTR;
		if (n < 0)
			return err_sys(e, -errno, "%s", c->name);
		if (n == 0)
			return err_set(e, -EPIPE,
				       "%s: ended before it answered", c->name);
		eol = memchr(c->buf + c->len, '\n', (size_t)n);
		if (eol)
			n = eol - (c->buf + c->len) + 1;
		n = recv(c->fd, c->buf + c->len, (size_t)n, 0);
		if (n < 0)
			return err_sys(e, -errno, "%s", c->name);
		c->len += (size_t)n;
	}
	j = json_loadb(c->buf, c->len, 0, NULL);
	c->len = 0;
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(e, -EPROTO, "%s: speaks something else",
			       c->name);
	}
	*out = j;
	return 0;
}

static int outcome(const struct ctl_client *c, json_t *reply, json_t **result,
		   struct err *e)
{
	json_t *error = json_object_get(reply, "error");
	const char *text;
	int code;

	if (!error) {
		if (result)
			*result = json_incref(json_object_get(reply, "result"));
		return 0;
	}
	text = json_string_value(json_object_get(error, "text"));
	code = (int)json_integer_value(json_object_get(error, "code"));
	if (code >= 0)
		code = -EPROTO;
	return err_set(e, code, "%s", text ? text : "failed without a word");
}

int ctl_ask(struct ctl_client *c, const char *method, json_t *params,
	    bool (*on_event)(void *opaque, const json_t *event), void *opaque,
	    json_t **result, struct err *e)
{
	unsigned int id = ++c->id;
	json_t *req = json_pack("{s:i, s:s}", "id", (int)id, "method", method);
	char *line;
	int ret;

	if (result)
		*result = NULL;
	if (params)
		json_object_set_new(req, "params", params);
	line = json_dumps(req, JSON_COMPACT);
	json_decref(req);
	if (!line)
		return err_set(e, -ENOMEM, "out of memory");
	ret = sock_send(c->fd, line, strlen(line), NULL, 0);
	if (ret >= 0)
		ret = sock_send(c->fd, "\n", 1, NULL, 0);
	free(line);
	/* It may have said why before it hung up. */
	if (ret < 0 && ret != -EPIPE)
		return err_sys(e, ret, "%s", c->name);

	for (;;) {
		json_t *reply = NULL, *event, *to;
		bool go_on = true;

		ret = next(c, &reply, e);
		if (ret == -EINTR && on_event && on_event(opaque, NULL))
			continue;
		if (ret < 0)
			return ret;
		to = json_object_get(reply, "id");
		if (json_is_null(to)) {
			ret = outcome(c, reply, result, e);
			json_decref(reply);
			return ret;
		}
		if (json_integer_value(to) != id) {
			json_decref(reply);
			continue; /* of a call nobody waits for any more */
		}
		event = json_object_get(reply, "event");
		if (!event) {
			ret = outcome(c, reply, result, e);
			json_decref(reply);
			return ret;
		}
		if (on_event)
			go_on = on_event(opaque, event);
		json_decref(reply);
		if (!go_on)
			return -EINTR;
	}
}
