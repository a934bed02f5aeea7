/*
 * Client memory without a file: read and written by messages.
 *
 * A worker puts a request on the server's list and asks the loop to send
 * it; the loop finds it again by its id when the reply comes.  Whoever sees
 * the request last frees it: a worker that gave up leaves it to the loop.
 */
#include "pdev/vfio_user_server_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define WAIT_NS	 1000000000ull
#define REQS_MAX 64

struct vfu_dma_req {
	struct vfu_dma_req *next; /* in s->reqs, under s->req_lock */
	struct vfu_server *s;	  /* NULL: the server has gone */
	uint16_t id, cmd;
	bool waited, sent, done;
	int ret;
	uint64_t iova;
	size_t len;
	uint8_t data[];
};

static void unlink_req(struct vfu_server *s, struct vfu_dma_req *r)
{
	struct vfu_dma_req **p = &s->reqs;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	s->nreqs--;
}

/* With req_lock: the loop is done with it. */
static void finish(struct vfu_server *s, struct vfu_dma_req *r, int ret)
{
	unlink_req(s, r);
	r->ret = ret;
	r->done = true;
	if (r->waited)
		pthread_cond_broadcast(&s->req_done);
	else
		free(r);
}

/* In the loop's thread. */
static void send_req(void *opaque)
{
	struct vfu_dma_req *r = opaque;
	struct vfu_server *s = r->s;
	bool write = r->cmd == VFIO_USER_DMA_WRITE;
	struct vfio_user_dma_rw rw = { .addr = r->iova, .count = r->len };
	struct vfu_out *o;

	if (!s) {
		free(r);
		return;
	}
	pthread_mutex_lock(&s->req_lock);
	if (!r->waited || s->fd < 0 || !s->agreed) {
		finish(s, r, -EPIPE);
		goto unlock;
	}
	o = vfu_out_new(sizeof(rw) + (write ? r->len : 0));
	if (!o) {
		finish(s, r, -ENOMEM);
		goto unlock;
	}
	o->hdr.id = r->id;
	o->hdr.cmd = r->cmd;
	o->hdr.flags = VFIO_USER_F_COMMAND;
	memcpy(o->payload, &rw, sizeof(rw));
	if (write)
		memcpy(o->payload + sizeof(rw), r->data, r->len);
	r->sent = true;
	pthread_mutex_unlock(&s->req_lock);
	vfu_out_send(s, o);
	return;

unlock:
	pthread_mutex_unlock(&s->req_lock);
}

static int check_reply(struct vfu_dma_req *r, const struct vfio_user_rx *rx)
{
	struct vfio_user_dma_rw rw = { 0 };
	bool write = r->cmd == VFIO_USER_DMA_WRITE;
	size_t fixed = write ? VFIO_USER_DMA_WRITE_REPLY_MIN : sizeof(rw);

	if (rx->hdr.flags & VFIO_USER_F_ERROR)
		return -EFAULT;
	if (rx->len < fixed)
		return -EPROTO;
	memcpy(&rw, rx->body, MIN(rx->len, sizeof(rw)));
	if (rw.addr != r->iova || rw.count != r->len)
		return -EPROTO;
	if (write)
		return 0;
	if (rx->len != sizeof(rw) + r->len)
		return -EPROTO;
	memcpy(r->data, rx->body + sizeof(rw), r->len);
	return 0;
}

void vfu_dma_reply(struct vfu_server *s, const struct vfio_user_rx *rx)
{
	pthread_mutex_lock(&s->req_lock);
	for (struct vfu_dma_req *r = s->reqs; r; r = r->next)
		if (r->sent && r->id == rx->hdr.id && r->cmd == rx->hdr.cmd) {
			finish(s, r, check_reply(r, rx));
			break;
		}
	/* One nobody asked for is late or made up: either way dropped. */
	pthread_mutex_unlock(&s->req_lock);
}

void vfu_dma_req_fail(struct vfu_server *s, int err)
{
	struct vfu_dma_req *r, *next;

	pthread_mutex_lock(&s->req_lock);
	for (r = s->reqs; r; r = next) {
		next = r->next;
		/* What was not sent, send_req() will fail by itself. */
		if (r->sent)
			finish(s, r, err);
	}
	pthread_mutex_unlock(&s->req_lock);
}

void vfu_dma_req_forget(struct vfu_server *s)
{
	while (s->reqs) {
		struct vfu_dma_req *r = s->reqs;

		s->reqs = r->next;
		r->s = NULL;
	}
}

static struct vfu_dma_req *new_req(struct vfu_server *s, uint16_t cmd,
				   uint64_t iova, size_t len)
{
	struct vfu_dma_req *r = calloc(1, sizeof(*r) + len);

	if (!r)
		return NULL;
	r->s = s;
	r->cmd = cmd;
	r->iova = iova;
	r->len = len;
	r->waited = true;
	return r;
}

/* One message's worth.  'in' for a write, 'out' for a read. */
static int by_message(struct vfu_server *s, uint64_t iova, const void *in,
		      void *out, size_t len)
{
	uint64_t end = now_ns() + WAIT_NS;
	struct timespec ts = { .tv_sec = (time_t)(end / 1000000000ull),
			       .tv_nsec = (long)(end % 1000000000ull) };
	struct vfu_dma_req *r;
	int ret;

	if (pthread_equal(pthread_self(), s->thread))
		return -EDEADLK;
	r = new_req(s, in ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ, iova,
		    len);
	if (!r)
		return -ENOMEM;
	if (in)
		memcpy(r->data, in, len);

	pthread_mutex_lock(&s->req_lock);
	if (s->nreqs >= REQS_MAX) {
		/* Left behind by a client that answers nothing. */
		pthread_mutex_unlock(&s->req_lock);
		free(r);
		return -ETIMEDOUT;
	}
	r->id = s->next_id++;
	r->next = s->reqs;
	s->reqs = r;
	s->nreqs++;
	ret = loop_call(s->loop, send_req, r);
	if (ret < 0) {
		unlink_req(s, r);
		pthread_mutex_unlock(&s->req_lock);
		free(r);
		return ret;
	}
	while (!r->done &&
	       pthread_cond_timedwait(&s->req_done, &s->req_lock, &ts) == 0)
		;
	if (r->done) {
		ret = r->ret;
		if (ret == 0 && out)
			memcpy(out, r->data, len);
		free(r);
	} else {
		ret = -ETIMEDOUT;
		r->waited = false;
	}
	pthread_mutex_unlock(&s->req_lock);
	return ret;
}

/*
 * What of [iova, iova + len) one access can do: copied at once if it is
 * mapped (*n bytes, returns 0), or 1 if it takes a message of *n bytes.
 */
static int step(struct vfu_server *s, uint64_t iova, const void *in, void *out,
		size_t len, size_t *n)
{
	uint32_t prot = in ? PDEV_WRITE : PDEV_READ;
	struct vfu_map *m;
	uint64_t off;
	int ret = 0;

	vfu_enter(s);
	m = vfu_dma_at(&s->dma, iova);
	if (!m || !(m->prot & prot)) {
		s->dma.faults++;
		ret = -EFAULT;
		goto leave;
	}
	off = iova - m->iova;
	*n = MIN(len, m->size - off);
	if (!m->va) {
		*n = MIN(*n, MIN(s->peer.max_data_xfer_size, VFU_XFER_MAX));
		ret = 1;
		goto leave;
	}
	if (in) {
		memcpy(m->va + off, in, *n);
		vfu_dma_log(&s->dma, iova, *n);
	} else if (out) {
		memcpy(out, m->va + off, *n);
	}
leave:
	vfu_leave(s);
	return ret;
}

static int copy(struct vfu_server *s, uint64_t iova, const uint8_t *in,
		uint8_t *out, size_t len)
{
	while (len) {
		size_t n = 0;
		int ret = step(s, iova, in, out, len, &n);

		if (ret == 1) {
			ret = by_message(s, iova, in, out, n);
			if (ret == 0 && in) {
				vfu_enter(s);
				vfu_dma_log(&s->dma, iova, n);
				vfu_leave(s);
			}
		}
		if (ret < 0)
			return ret;
		iova += n;
		len -= n;
		if (in)
			in += n;
		else
			out += n;
	}
	return 0;
}

int vfu_dma_read(struct vfu_server *s, uint64_t iova, void *buf, size_t len)
{
	return copy(s, iova, NULL, buf, len);
}

int vfu_dma_write(struct vfu_server *s, uint64_t iova, const void *buf,
		  size_t len)
{
	return copy(s, iova, buf, NULL, len);
}
