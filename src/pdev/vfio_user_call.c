#include "pdev/vfio_user_call.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"

/* Messages up to this size need no allocation; register accesses are. */
#define SMALL 256

/* A caller that waits; on its stack, in l->waits under l->lock. */
struct vfio_user_wait {
	struct vfio_user_wait *next;
	struct vfio_user_call *call;
	uint16_t id;
	bool done;
	int ret;
};

/* With l->lock. */
static void end_locked(struct vfio_user_link *l)
{
	l->gone = true;
	for (struct vfio_user_wait *w = l->waits; w; w = w->next)
		if (!w->done) {
			w->done = true;
			w->ret = -ENODEV;
		}
	pthread_cond_broadcast(&l->done);
	/* The reader wakes up from it, and tells the owner. */
	shutdown(l->fd, SHUT_RDWR);
}

void vfio_user_give_up(struct vfio_user_link *l, const char *why)
{
	bool first;

	pthread_mutex_lock(&l->lock);
	first = !l->gone;
	if (first)
		end_locked(l);
	pthread_mutex_unlock(&l->lock);
	if (first && why)
		log_warn("%s: device is gone: %s", l->name, why);
}

/* --- the receiving thread ----------------------------------------------- */

static int error_of(const struct vfio_user_hdr *h)
{
	if (!(h->flags & VFIO_USER_F_ERROR))
		return 0;
	/* "It may be zero even if the Error bit is set." */
	return h->error > 0 && h->error < 4096 ? -(int)h->error : -EIO;
}

static void on_reply(struct vfio_user_link *l)
{
	struct vfio_user_rx *rx = &l->rx;

	pthread_mutex_lock(&l->lock);
	for (struct vfio_user_wait *w = l->waits; w; w = w->next) {
		struct vfio_user_call *c = w->call;

		if (w->done || w->id != rx->hdr.id || c->cmd != rx->hdr.cmd)
			continue;
		w->ret = error_of(&rx->hdr);
		if (w->ret == 0 && rx->len > c->reply_room)
			w->ret = -EPROTO;
		if (w->ret == 0) {
			if (rx->len)
				memcpy(c->reply, rx->body, rx->len);
			c->reply_len = rx->len;
			if (rx->nfds)
				c->reply_fd = vfio_user_rx_take(rx, 0);
		}
		w->done = true;
		pthread_cond_broadcast(&l->done);
		break;
	}
	pthread_mutex_unlock(&l->lock);
}

static int send_locked(struct vfio_user_link *l, const void *msg, size_t len,
		       const int *fds, size_t nfds)
{
	int ret;

	pthread_mutex_lock(&l->send_lock);
	ret = sock_send_until(l->fd, msg, len, fds, nfds,
			      now_ns() + l->call_ns);
	pthread_mutex_unlock(&l->send_lock);
	/* Part of it may be out: nothing can follow it. */
	if (ret < 0)
		vfio_user_give_up(l, strerror(-ret));
	return ret;
}

static void on_command(struct vfio_user_link *l)
{
	struct vfio_user_rx *rx = &l->rx;
	struct vfio_user_hdr h = { .id = rx->hdr.id,
				   .cmd = rx->hdr.cmd,
				   .flags = VFIO_USER_F_REPLY };
	uint8_t *msg = malloc(sizeof(h) + VFIO_USER_PAYLOAD_MAX);
	size_t len = 0;
	int ret;

	if (!msg) {
		vfio_user_give_up(l, strerror(ENOMEM));
		return;
	}
	ret = l->command(l->opaque, rx, msg + sizeof(h), &len);
	if (ret < 0) {
		h.flags |= VFIO_USER_F_ERROR;
		h.error = (uint32_t)-ret;
		len = 0;
	}
	h.size = (uint32_t)(sizeof(h) + len);
	memcpy(msg, &h, sizeof(h));
	if (!(rx->hdr.flags & VFIO_USER_F_NO_REPLY))
		send_locked(l, msg, h.size, NULL, 0);
	free(msg);
}

static void tell(struct vfio_user_link *l)
{
	pthread_mutex_lock(&l->tell_lock);
	l->told = true;
	if (l->gone_fn)
		l->gone_fn(l->gone_opaque);
	pthread_mutex_unlock(&l->tell_lock);
}

static void *reader(void *arg)
{
	struct vfio_user_link *l = arg;
	int ret;

	for (;;) {
		struct pollfd p = { .fd = l->fd, .events = POLLIN };

		ret = vfio_user_rx(&l->rx, l->fd);
		if (ret == 0) {
			poll(&p, 1, -1);
			continue;
		}
		if (ret < 0)
			break;
		switch (l->rx.hdr.flags & VFIO_USER_F_TYPE) {
		case VFIO_USER_F_REPLY: on_reply(l); break;
		case VFIO_USER_F_COMMAND: on_command(l); break;
		default: break; /* no type we know, so not for us */
		}
		vfio_user_rx_next(&l->rx);
	}
	vfio_user_give_up(l, ret == -EPIPE ? "the server closed the socket"
					   : strerror(-ret));
	tell(l);
	return NULL;
}

void vfio_user_link_on_gone(struct vfio_user_link *l, void (*fn)(void *opaque),
			    void *opaque)
{
	pthread_mutex_lock(&l->tell_lock);
	l->gone_fn = fn;
	l->gone_opaque = opaque;
	if (l->told && fn)
		fn(opaque);
	pthread_mutex_unlock(&l->tell_lock);
}

/* --- calls -------------------------------------------------------------- */

/* With l->lock: an id no other waiting call has. */
static uint16_t new_id(struct vfio_user_link *l)
{
	struct vfio_user_wait *w;
	uint16_t id;

	do {
		id = l->next_id++;
		for (w = l->waits; w && w->id != id; w = w->next)
			;
	} while (w);
	return id;
}

static int enlist(struct vfio_user_link *l, struct vfio_user_wait *w)
{
	int ret = 0;

	pthread_mutex_lock(&l->lock);
	if (l->gone) {
		ret = -ENODEV;
	} else {
		w->id = new_id(l);
		/* A reply to a posted command would be nobody's. */
		if (!w->call->posted) {
			w->next = l->waits;
			l->waits = w;
		}
	}
	pthread_mutex_unlock(&l->lock);
	return ret;
}

static int send_call(struct vfio_user_link *l, struct vfio_user_call *c,
		     uint16_t id)
{
	struct vfio_user_hdr h = { .id = id, .cmd = c->cmd };
	size_t len = sizeof(h) + c->head_len + c->data_len;
	uint8_t small[SMALL], *msg = small;
	int ret;

	if (len > sizeof(small)) {
		msg = malloc(len);
		if (!msg)
			return -ENOMEM;
	}
	h.size = (uint32_t)len;
	h.flags = c->posted ? VFIO_USER_F_NO_REPLY : 0;
	memcpy(msg, &h, sizeof(h));
	if (c->head_len)
		memcpy(msg + sizeof(h), c->head, c->head_len);
	if (c->data_len)
		memcpy(msg + sizeof(h) + c->head_len, c->data, c->data_len);
	ret = send_locked(l, msg, len, c->fds, c->nfds);
	if (msg != small)
		free(msg);
	return ret == 0 ? 0 : ret == -ENOMEM ? ret : -ENODEV;
}

/* Wait for the reply and take the call off the list. */
static bool await(struct vfio_user_link *l, struct vfio_user_wait *w)
{
	uint64_t end = now_ns() + l->call_ns;
	struct timespec ts = { .tv_sec = (time_t)(end / 1000000000ull),
			       .tv_nsec = (long)(end % 1000000000ull) };
	struct vfio_user_wait **p = &l->waits;
	bool answered;

	pthread_mutex_lock(&l->lock);
	while (!w->done && pthread_cond_timedwait(&l->done, &l->lock, &ts) == 0)
		;
	answered = w->done;
	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	pthread_mutex_unlock(&l->lock);
	return answered;
}

int vfio_user_do(struct vfio_user_link *l, struct vfio_user_call *c)
{
	struct vfio_user_wait w = { .call = c };
	int ret = enlist(l, &w), sent;

	c->reply_len = 0;
	c->reply_fd = -1;
	if (ret < 0)
		return ret;
	sent = send_call(l, c, w.id);
	if (c->posted)
		return sent;
	if (sent == -ENOMEM) {
		/* Not one byte is out: only this call has failed. */
		pthread_mutex_lock(&l->lock);
		w.done = true;
		w.ret = sent;
		pthread_mutex_unlock(&l->lock);
	}
	if (!await(l, &w)) {
		vfio_user_give_up(l, "no answer in time");
		return -ENODEV;
	}
	return w.ret;
}

/* --- life --------------------------------------------------------------- */

int vfio_user_link_open(struct vfio_user_link *l, int fd)
{
	int flags = fcntl(fd, F_GETFL), ret;
	pthread_condattr_t a;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	l->fd = fd;
	if (!l->call_ns)
		l->call_ns = VFIO_USER_CALL_NS;
	pthread_mutex_init(&l->send_lock, NULL);
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->tell_lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&l->done, &a);
	pthread_condattr_destroy(&a);
	ret = -pthread_create(&l->reader, NULL, reader, l);
	if (ret < 0)
		goto destroy;
	return 0;

destroy:
	pthread_cond_destroy(&l->done);
	pthread_mutex_destroy(&l->tell_lock);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->send_lock);
	return ret;
}

void vfio_user_link_close(struct vfio_user_link *l)
{
	vfio_user_link_on_gone(l, NULL, NULL);
	vfio_user_give_up(l, NULL);
	pthread_join(l->reader, NULL);
	vfio_user_rx_free(&l->rx);
	close_fd(&l->fd);
	pthread_cond_destroy(&l->done);
	pthread_mutex_destroy(&l->tell_lock);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->send_lock);
}
