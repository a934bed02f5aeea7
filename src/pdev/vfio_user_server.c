#include "pdev/vfio_user_server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/sock.h"
#include "base/util.h"

/*
 * With this much unread by the client we stop reading from it: it waits for
 * itself.  One largest reply may come on top.
 */
#define OUT_MAX (4u << 20)
/* Messages served in one go, so that one client cannot hold the loop. */
#define BATCH 64
/* A client that has not agreed on a version may be pushed out after this. */
#define AGREE_NS 5000000000ull

static void conn_end(struct vfu_server *s, int reason);

/* --- out ---------------------------------------------------------------- */

struct vfu_out *vfu_out_new(size_t len)
{
	struct vfu_out *o = calloc(1, sizeof(*o) + len);

	static_assert(offsetof(struct vfu_out, payload) ==
			      offsetof(struct vfu_out, hdr) + sizeof(o->hdr),
		      "sent as one piece");
	if (!o)
		return NULL;
	o->len = sizeof(o->hdr) + len;
	o->fd = -1;
	o->hdr.size = (uint32_t)o->len;
	return o;
}

static void set_events(struct vfu_server *s)
{
	uint32_t ev = s->out ? EPOLLOUT : 0;

	if (s->out_bytes < OUT_MAX)
		ev |= EPOLLIN;
	if (ev == s->events)
		return;
	s->events = ev;
	loop_mod_fd(s->src, ev);
}

static void flush(struct vfu_server *s)
{
	while (s->out && !s->broken) {
		struct vfu_out *o = s->out;
		const uint8_t *p = (const uint8_t *)&o->hdr + o->sent;
		ssize_t n = sock_try_send(s->fd, p, o->len - o->sent, &o->fd,
					  o->fd >= 0 && o->sent == 0);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			s->broken = (int)n;
			break;
		}
		o->sent += (size_t)n;
		s->out_bytes -= (size_t)n;
		if (o->sent < o->len)
			continue;
		s->out = o->next;
		if (!s->out)
			s->out_last = &s->out;
		free(o);
	}
	set_events(s);
}

void vfu_out_send(struct vfu_server *s, struct vfu_out *o)
{
	*s->out_last = o;
	s->out_last = &o->next;
	s->out_bytes += o->len;
	flush(s);
}

/* --- in ----------------------------------------------------------------- */

static void answer(struct vfu_server *s, struct vfu_cmd *c, int ret)
{
	struct vfu_out *o = c->reply;

	if (ret < 0) {
		s->counts.errors++;
		free(o);
		o = NULL;
	}
	if (c->hdr->flags & VFIO_USER_F_NO_REPLY) {
		free(o);
		return;
	}
	if (!o)
		o = vfu_out_new(0);
	if (!o) {
		s->broken = -ENOMEM;
		return;
	}
	o->hdr.id = c->hdr->id;
	o->hdr.cmd = c->hdr->cmd;
	o->hdr.flags = VFIO_USER_F_REPLY;
	if (ret < 0) {
		o->hdr.flags |= VFIO_USER_F_ERROR;
		o->hdr.error = (uint32_t)-ret;
	}
	vfu_out_send(s, o);
}

static void serve(struct vfu_server *s)
{
	struct vfio_user_rx *rx = &s->rx;
	struct vfu_cmd c = {
		.hdr = &rx->hdr, .body = rx->body, .len = rx->len, .rx = rx
	};
	uint32_t type = rx->hdr.flags & VFIO_USER_F_TYPE;
	int ret;

	if (type == VFIO_USER_F_REPLY) {
		vfu_dma_reply(s, rx);
		return;
	}
	if (type != VFIO_USER_F_COMMAND) {
		answer(s, &c, -EINVAL);
		return;
	}
	ret = vfu_command(s, &c);
	answer(s, &c, ret);
	/* The first message must be a version we can speak. */
	if (!s->agreed && !s->broken)
		s->broken = -EPROTO;
}

static void on_client(int fd, uint32_t events, void *opaque)
{
	struct vfu_server *s = opaque;

	s->thread = pthread_self();
	if (events & EPOLLOUT)
		flush(s);
	for (int i = 0; i < BATCH && !s->broken && s->out_bytes < OUT_MAX;
	     i++) {
		int ret = vfio_user_rx(&s->rx, fd);

		if (ret == 0)
			break;
		if (ret < 0) {
			s->broken = ret;
			break;
		}
		serve(s);
		vfio_user_rx_next(&s->rx);
	}
	/*
	 * A hung-up peer with a full queue: we would not read, epoll would
	 * not stop telling us.
	 */
	if (!s->broken && (events & (EPOLLHUP | EPOLLERR)) &&
	    s->out_bytes >= OUT_MAX)
		s->broken = -EPIPE;
	if (s->broken)
		conn_end(s, s->broken);
}

/* --- connections -------------------------------------------------------- */

static void unmapped(void *opaque, uint64_t iova, uint64_t size)
{
	struct vfu_server *s = opaque;

	if (s->ops->dma_unmap)
		s->ops->dma_unmap(s->opaque, iova, size);
}

static void conn_end(struct vfu_server *s, int reason)
{
	bool agreed = s->agreed;

	if (reason != -EPIPE && reason != -ECONNRESET) {
		s->counts.broken++;
		log_limited(&s->limit, LOG_WARN, "%s: client dropped: %s",
			    s->name, strerror(-reason));
	}
	loop_remove(s->src);
	s->src = NULL;
	close_fd(&s->fd);
	vfio_user_rx_free(&s->rx);
	while (s->out) {
		struct vfu_out *o = s->out;

		s->out = o->next;
		free(o);
	}
	s->out_last = &s->out;
	s->out_bytes = 0;
	s->broken = 0;
	s->agreed = false;
	vfu_dma_req_fail(s, -EPIPE);
	vfu_irq_disarm(s, PDEV_NIRQS);
	vfu_dma_del_all(&s->dma, unmapped, s);
	if (agreed && s->ops->detached)
		s->ops->detached(s->opaque);
}

int vfu_server_adopt(struct vfu_server *s, int fd)
{
	int flags = fcntl(fd, F_GETFL), ret;

	if (s->fd >= 0)
		return -EBUSY;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	ret = loop_add_fd(s->loop, fd, EPOLLIN, on_client, s, &s->src);
	if (ret < 0)
		return ret;
	s->events = EPOLLIN;
	s->fd = fd;
	s->since = now_ns();
	s->counts.connects++;
	vfio_user_caps_parse(NULL, 0, &s->peer);
	return 0;
}

/* The client we have may be over without our having been told yet. */
static bool client_is_over(const struct vfu_server *s)
{
	struct pollfd p = { .fd = s->fd };

	if (!s->agreed && now_ns() - s->since > AGREE_NS)
		return true;
	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

static void on_listen(int lfd, uint32_t events, void *opaque)
{
	struct vfu_server *s = opaque;
	int fd = sock_accept(lfd);

	if (fd < 0)
		return;
	s->thread = pthread_self();
	if (s->fd >= 0 && client_is_over(s))
		conn_end(s, -EPIPE);
	if (vfu_server_adopt(s, fd) < 0) {
		s->counts.refused++;
		log_limited(&s->limit, LOG_WARN,
			    "%s: second client turned away", s->name);
		close(fd);
	}
}

/* --- life --------------------------------------------------------------- */

static int check_config(const struct vfu_config *c, struct err *e)
{
	for (unsigned int i = 0; i < PDEV_NIRQS; i++)
		if (c->nirqs[i] > VFU_IRQS_MAX)
			return err_set(e, -EINVAL, "%s: %u vectors", c->name,
				       c->nirqs[i]);
	for (unsigned int i = 0; i < PDEV_NREGIONS; i++) {
		const struct pdev_region *r = &c->region[i].info;

		if (r->nareas > PDEV_AREAS_MAX ||
		    (r->flags & PDEV_MMAP && c->region[i].fd < 0))
			return err_set(e, -EINVAL, "%s: region %u", c->name, i);
		for (uint32_t a = 0; a < r->nareas; a++)
			if (r->area[a].off > r->size ||
			    r->area[a].len > r->size - r->area[a].off)
				return err_set(e, -EINVAL,
					       "%s: region %u, area %u",
					       c->name, i, a);
	}
	return 0;
}

static int make_irqs(struct vfu_server *s)
{
	for (unsigned int i = 0; i < PDEV_NIRQS; i++) {
		s->irq[i] = calloc(MAX(s->nirqs[i], 1u), sizeof(**s->irq));
		if (!s->irq[i])
			return -ENOMEM;
		for (unsigned int v = 0; v < s->nirqs[i]; v++)
			s->irq[i][v].fd = -1;
	}
	return 0;
}

static void free_irqs(struct vfu_server *s)
{
	for (unsigned int i = 0; i < PDEV_NIRQS; i++)
		free(s->irq[i]);
}

static int listen_on(struct vfu_server *s, const char *path, struct err *e)
{
	int ret;

	s->path = strdup(path);
	if (!s->path)
		return err_sys(e, -ENOMEM, "%s", path);
	s->lfd = sock_listen(path, SOCK_STREAM, e);
	if (s->lfd < 0) {
		ret = s->lfd;
		goto free;
	}
	ret = loop_add_fd(s->loop, s->lfd, EPOLLIN, on_listen, s, &s->lsrc);
	if (ret < 0) {
		err_sys(e, ret, "watch %s", path);
		goto unlink;
	}
	return 0;

unlink:
	unlink(path);
	close_fd(&s->lfd);
free:
	free(s->path);
	s->path = NULL;
	return ret;
}

int vfu_server_create(struct vfu_server **out, struct loop *l, const char *path,
		      const struct vfu_config *c, struct err *e)
{
	struct vfu_server *s;
	pthread_condattr_t a;
	int ret = check_config(c, e);

	if (ret < 0)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_sys(e, -ENOMEM, "%s", c->name);
	s->loop = l;
	s->fd = s->lfd = -1;
	s->out_last = &s->out;
	s->ops = c->ops;
	s->opaque = c->opaque;
	s->thread = pthread_self();
	strncpy(s->name, c->name, sizeof(s->name) - 1);
	memcpy(s->region, c->region, sizeof(c->region));
	memcpy(s->nirqs, c->nirqs, sizeof(s->nirqs));
	pthread_mutex_init(&s->req_lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&s->req_done, &a);
	pthread_condattr_destroy(&a);
	ret = vfu_dma_init(&s->dma, VFU_MAPS_MAX);
	if (ret < 0) {
		err_sys(e, ret, "%s", c->name);
		goto free;
	}
	ret = make_irqs(s);
	if (ret < 0) {
		err_sys(e, ret, "%s", c->name);
		goto free_irqs;
	}
	ret = path ? listen_on(s, path, e) : 0;
	if (ret < 0)
		goto free_irqs;
	*out = s;
	return 0;

free_irqs:
	free_irqs(s);
	vfu_dma_fini(&s->dma);
free:
	pthread_cond_destroy(&s->req_done);
	pthread_mutex_destroy(&s->req_lock);
	free(s);
	return ret;
}

void vfu_server_destroy(struct vfu_server *s)
{
	if (!s)
		return;
	s->agreed = false; /* no 'detached' */
	if (s->fd >= 0)
		conn_end(s, -EPIPE);
	vfu_dma_req_forget(s);
	if (s->lfd >= 0) {
		loop_remove(s->lsrc);
		unlink(s->path);
		close_fd(&s->lfd);
	}
	free(s->path);
	free_irqs(s);
	vfu_dma_fini(&s->dma);
	pthread_cond_destroy(&s->req_done);
	pthread_mutex_destroy(&s->req_lock);
	free(s);
}

void vfu_server_counts(struct vfu_server *s, struct vfu_counts *out)
{
	*out = s->counts;
	out->faults = s->dma.faults;
	out->holes = s->dma.holes;
}

int vfu_memfd(const char *name, uint64_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), ret;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* --- for workers -------------------------------------------------------- */

void vfu_enter(struct vfu_server *s)
{
	vfu_dma_enter(&s->dma);
}

void vfu_leave(struct vfu_server *s)
{
	vfu_dma_leave(&s->dma);
}

void *vfu_dma_find(struct vfu_server *s, uint64_t iova, uint64_t len,
		   uint32_t prot)
{
	return vfu_dma_ptr(&s->dma, iova, len, prot);
}

void vfu_dma_mark(struct vfu_server *s, uint64_t iova, uint64_t len)
{
	vfu_dma_log(&s->dma, iova, len);
}
