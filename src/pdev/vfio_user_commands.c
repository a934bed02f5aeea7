/*
 * The commands a vfio-user client may send, one function each.
 *
 * The dispatcher has checked that the fixed part of the payload is there
 * and how many descriptors came; everything else is checked here, before
 * the device is asked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "pdev/vfio_user_server_priv.h"

static int reply_room(struct vfu_cmd *c, size_t len)
{
	c->reply = vfu_out_new(len);
	return c->reply ? 0 : -ENOMEM;
}

static int reply_with(struct vfu_cmd *c, const void *p, size_t len)
{
	int ret = reply_room(c, len);

	if (ret == 0)
		memcpy(c->reply->payload, p, len);
	return ret;
}

/* --- version ------------------------------------------------------------ */

/* What we answer: ours, of those the client named ("a subset"). */
static int version_reply(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_version v = { VFIO_USER_MAJOR, VFIO_USER_MINOR };
	struct vfio_user_caps ours = {
		.max_msg_fds = SOCK_FDS_MAX,
		.max_data_xfer_size = VFU_XFER_MAX,
		.max_dma_maps = VFU_MAPS_MAX,
		.pgsizes = PAGE_SIZE,
		.write_multiple = s->peer.write_multiple,
		.named = s->peer.named,
	};
	char *text = vfio_user_caps_text(&ours);
	size_t len = text ? strlen(text) + 1 : 0;
	int ret = text ? reply_room(c, sizeof(v) + len) : -ENOMEM;

	if (ret == 0) {
		memcpy(c->reply->payload, &v, sizeof(v));
		memcpy(c->reply->payload + sizeof(v), text, len);
	}
	free(text);
	return ret;
}

static int do_version(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_version v;
	int ret;

	if (s->agreed || c->len > VFIO_USER_VERSION_MAX)
		return -EINVAL;
	memcpy(&v, c->body, sizeof(v));
	if (v.major != VFIO_USER_MAJOR)
		return -EPROTONOSUPPORT;
	ret = vfio_user_caps_parse((const char *)c->body + sizeof(v),
				   c->len - sizeof(v), &s->peer);
	if (ret == 0)
		ret = version_reply(s, c);
	if (ret < 0)
		return ret;
	s->agreed = true;
	if (s->ops->attached)
		s->ops->attached(s->opaque);
	return 0;
}

/* --- memory ------------------------------------------------------------- */

static int do_dma_map(struct vfu_server *s, struct vfu_cmd *c)
{
	const uint32_t known = VFIO_USER_DMA_READABLE | VFIO_USER_DMA_WRITEABLE;
	struct vfio_user_dma_map m;
	uint32_t prot = 0;
	int ret;

	memcpy(&m, c->body, sizeof(m));
	if (m.argsz < sizeof(m) || m.flags & ~known)
		return -EINVAL;
	if (m.flags & VFIO_USER_DMA_READABLE)
		prot |= PDEV_READ;
	if (m.flags & VFIO_USER_DMA_WRITEABLE)
		prot |= PDEV_WRITE;
	ret = vfu_dma_add(&s->dma, m.addr, m.size, prot,
			  c->rx->nfds ? c->rx->fds[0] : -1, m.offset);
	if (ret == 0 && s->ops->dma_map)
		s->ops->dma_map(s->opaque, m.addr, m.size);
	return ret;
}

static void unmapping(void *opaque, uint64_t iova, uint64_t size)
{
	struct vfu_server *s = opaque;

	if (s->ops->dma_unmap)
		s->ops->dma_unmap(s->opaque, iova, size);
}

static int do_dma_unmap(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_dma_unmap u;
	int ret;

	memcpy(&u, c->body, sizeof(u));
	if (u.flags == VFIO_DMA_UNMAP_FLAG_ALL && u.addr == 0 && u.size == 0) {
		vfu_dma_del_all(&s->dma, unmapping, s);
		return reply_with(c, &u, sizeof(u));
	}
	if (u.flags)
		return -EINVAL;
	ret = vfu_dma_del(&s->dma, u.addr, u.size, unmapping, s);
	return ret < 0 ? ret : reply_with(c, &u, sizeof(u));
}

/* --- what the device is ------------------------------------------------- */

static int do_info(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_info in, out = {
		.argsz = sizeof(out),
		.flags = VFIO_DEVICE_FLAGS_PCI |
			 (s->ops->reset ? VFIO_DEVICE_FLAGS_RESET : 0),
		.num_regions = VFIO_PCI_NUM_REGIONS,
		.num_irqs = PDEV_NIRQS,
	};

	memcpy(&in, c->body, sizeof(in));
	if (in.argsz < sizeof(out))
		return -EINVAL;
	return reply_with(c, &out, sizeof(out));
}

static void put_sparse(uint8_t *p, const struct pdev_region *r)
{
	struct vfio_region_info_cap_sparse_mmap cap = {
		.header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP,
			    .version = 1 },
		.nr_areas = r->nareas,
	};

	memcpy(p, &cap, sizeof(cap));
	p += sizeof(cap);
	for (uint32_t i = 0; i < r->nareas; i++) {
		struct vfio_region_sparse_mmap_area a = {
			.offset = r->area[i].off, .size = r->area[i].len
		};

		memcpy(p, &a, sizeof(a));
		p += sizeof(a);
	}
}

static int do_region_info(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_region_info in, out = { .argsz = sizeof(out) };
	const struct vfu_region *v;
	const struct pdev_region *r;
	bool caps;
	int ret;

	memcpy(&in, c->body, sizeof(in));
	if (in.argsz < sizeof(out) || in.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	v = &s->region[in.index];
	r = &v->info;
	caps = r->flags & PDEV_MMAP && r->nareas;
	if (caps)
		out.argsz +=
			sizeof(struct vfio_region_info_cap_sparse_mmap) +
			r->nareas * sizeof(struct vfio_region_sparse_mmap_area);
	out.index = in.index;
	out.size = r->size;
	out.offset = v->fd_offset;
	out.flags = (r->flags & PDEV_READ ? VFIO_REGION_INFO_FLAG_READ : 0) |
		    (r->flags & PDEV_WRITE ? VFIO_REGION_INFO_FLAG_WRITE : 0) |
		    (r->flags & PDEV_MMAP ? VFIO_REGION_INFO_FLAG_MMAP : 0) |
		    (caps ? VFIO_REGION_INFO_FLAG_CAPS : 0);
	/* Too little room: 'argsz' tells how much to come back with. */
	if (in.argsz < out.argsz)
		return reply_with(c, &out, sizeof(out));
	if (caps)
		out.cap_offset = sizeof(out);
	ret = reply_room(c, out.argsz);
	if (ret < 0)
		return ret;
	memcpy(c->reply->payload, &out, sizeof(out));
	if (caps)
		put_sparse(c->reply->payload + sizeof(out), r);
	if (r->flags & PDEV_MMAP)
		c->reply->fd = v->fd;
	return 0;
}

static int do_irq_info(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_irq_info q;

	memcpy(&q, c->body, sizeof(q));
	if (q.argsz < sizeof(q) || q.index >= PDEV_NIRQS)
		return -EINVAL;
	q.argsz = sizeof(q);
	q.count = s->nirqs[q.index];
	q.flags = VFIO_IRQ_INFO_EVENTFD;
	if (q.index == PDEV_INTX)
		q.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	return reply_with(c, &q, sizeof(q));
}

/* --- regions ------------------------------------------------------------ */

static int check_access(const struct vfu_server *s, uint32_t region,
			uint64_t off, uint64_t count, uint32_t flag)
{
	const struct pdev_region *r;

	if (region >= VFIO_PCI_NUM_REGIONS || count == 0 ||
	    count > VFU_XFER_MAX)
		return -EINVAL;
	r = &s->region[region].info;
	if (off > r->size || count > r->size - off)
		return -EINVAL;
	return r->flags & flag ? 0 : -EPERM;
}

static int do_region_read(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_region_rw rw;
	int ret;

	memcpy(&rw, c->body, sizeof(rw));
	ret = check_access(s, rw.region, rw.offset, rw.count, PDEV_READ);
	if (ret == 0)
		ret = reply_room(c, sizeof(rw) + rw.count);
	if (ret < 0)
		return ret;
	memcpy(c->reply->payload, &rw, sizeof(rw));
	return s->ops->read(s->opaque, rw.region, rw.offset,
			    c->reply->payload + sizeof(rw), rw.count);
}

static int do_region_write(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_region_rw rw;
	int ret;

	memcpy(&rw, c->body, sizeof(rw));
	if (c->len - sizeof(rw) != rw.count)
		return -EINVAL;
	ret = check_access(s, rw.region, rw.offset, rw.count, PDEV_WRITE);
	if (ret == 0)
		ret = s->ops->write(s->opaque, rw.region, rw.offset,
				    c->body + sizeof(rw), rw.count);
	return ret < 0 ? ret : reply_with(c, &rw, sizeof(rw));
}

static int do_write_multi(struct vfu_server *s, struct vfu_cmd *c)
{
	uint64_t n, done;
	int ret = 0;

	memcpy(&n, c->body, sizeof(n));
	if (n == 0 || n > VFU_XFER_MAX ||
	    c->len - sizeof(n) != n * sizeof(struct vfio_user_write_one))
		return -EINVAL;
	for (done = 0; done < n; done++) {
		struct vfio_user_write_one w;

		memcpy(&w, c->body + sizeof(n) + done * sizeof(w), sizeof(w));
		ret = w.count > sizeof(w.data)
			      ? -EINVAL
			      : check_access(s, w.region, w.offset, w.count,
					     PDEV_WRITE);
		if (ret == 0)
			ret = s->ops->write(s->opaque, w.region, w.offset,
					    w.data, w.count);
		if (ret < 0)
			break;
	}
	if (done == 0)
		return ret;
	return reply_with(c, &done, sizeof(done));
}

static int do_reset(struct vfu_server *s, struct vfu_cmd *c)
{
	return s->ops->reset ? s->ops->reset(s->opaque) : -ENOTSUP;
}

/* --- features ----------------------------------------------------------- */

static int log_start(struct vfu_server *s, struct vfu_cmd *c)
{
	const size_t head = sizeof(struct vfio_user_feature);
	struct vfio_user_log_start l;
	int ret;

	if (c->len < head + sizeof(l))
		return -EINVAL;
	memcpy(&l, c->body + head, sizeof(l));
	if (c->len - head - sizeof(l) <
	    (uint64_t)l.num_ranges * sizeof(struct vfio_user_log_range))
		return -EINVAL;
	/* Ranges are a licence to log less, which we do not use. */
	ret = vfu_dma_log_start(&s->dma);
	if (ret == 0)
		ret = reply_with(c, c->body, c->len);
	if (ret < 0)
		return ret;
	l.page_size = PAGE_SIZE;
	memcpy(c->reply->payload + head, &l, sizeof(l));
	return 0;
}

static int log_stop(struct vfu_server *s, struct vfu_cmd *c)
{
	int ret = vfu_dma_log_stop(&s->dma);

	return ret < 0 ? ret : reply_with(c, c->body, c->len);
}

static int log_report(struct vfu_server *s, struct vfu_cmd *c)
{
	struct vfio_user_feature f;
	struct vfio_user_log_report q;
	uint64_t bits, bytes;
	int ret;

	if (c->len < sizeof(f) + sizeof(q))
		return -EINVAL;
	memcpy(&f, c->body, sizeof(f));
	memcpy(&q, c->body + sizeof(f), sizeof(q));
	/* The length bounds the work as well as the reply. */
	if (q.length == 0 || q.iova + (q.length - 1) < q.iova ||
	    q.page_size < PAGE_SIZE || q.page_size & (q.page_size - 1) ||
	    q.length / PAGE_SIZE > 8ull * VFU_XFER_MAX)
		return -EINVAL;
	bits = (q.length - 1) / q.page_size + 1;
	bytes = (bits + 63) / 64 * 8;
	if (bytes > VFU_XFER_MAX)
		return -EINVAL;
	if (f.argsz < sizeof(f) + sizeof(q) + bytes) {
		f.argsz = (uint32_t)(sizeof(f) + sizeof(q) + bytes);
		ret = reply_with(c, c->body, sizeof(f) + sizeof(q));
		if (ret == 0)
			memcpy(c->reply->payload, &f, sizeof(f));
		return ret;
	}
	f.argsz = (uint32_t)(sizeof(f) + sizeof(q) + bytes);
	ret = reply_room(c, f.argsz);
	if (ret < 0)
		return ret;
	memcpy(c->reply->payload, &f, sizeof(f));
	memcpy(c->reply->payload + sizeof(f), &q, sizeof(q));
	/* 8 + 24 bytes into a payload that malloc aligned: whole words. */
	return vfu_dma_log_report(&s->dma, q.iova, q.length, q.page_size,
				  (uint64_t *)(void *)(c->reply->payload +
						       sizeof(f) + sizeof(q)));
}

static const struct {
	uint32_t index, methods;
	int (*fn)(struct vfu_server *s, struct vfu_cmd *c);
} features[] = {
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET,
	  log_start },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_SET,
	  log_stop },
	{ VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET,
	  log_report },
};

static int do_feature(struct vfu_server *s, struct vfu_cmd *c)
{
	const uint32_t both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
	const uint32_t known =
		VFIO_DEVICE_FEATURE_MASK | both | VFIO_DEVICE_FEATURE_PROBE;
	struct vfio_user_feature f;
	uint32_t how;

	memcpy(&f, c->body, sizeof(f));
	how = f.flags & both;
	if (f.argsz < sizeof(f) || f.flags & ~known)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (features[i].index != (f.flags & VFIO_DEVICE_FEATURE_MASK))
			continue;
		if (how & ~features[i].methods)
			return -ENOTTY;
		if (f.flags & VFIO_DEVICE_FEATURE_PROBE)
			return reply_with(c, c->body, c->len);
		return how ? features[i].fn(s, c) : -EINVAL;
	}
	return -ENOTTY; /* as the kernel says of a feature it has not */
}

/* --- dispatch ----------------------------------------------------------- */

static const struct {
	size_t min; /* fixed part of the payload */
	size_t fds; /* descriptors it may carry */
	int (*fn)(struct vfu_server *s, struct vfu_cmd *c);
} commands[] = {
	[VFIO_USER_VERSION] = { sizeof(struct vfio_user_version), 0,
				do_version },
	[VFIO_USER_DMA_MAP] = { sizeof(struct vfio_user_dma_map), 1,
				do_dma_map },
	[VFIO_USER_DMA_UNMAP] = { sizeof(struct vfio_user_dma_unmap), 0,
				  do_dma_unmap },
	[VFIO_USER_GET_INFO] = { sizeof(struct vfio_user_info), 0, do_info },
	[VFIO_USER_GET_REGION_INFO] = { sizeof(struct vfio_region_info), 0,
					do_region_info },
	[VFIO_USER_GET_IRQ_INFO] = { sizeof(struct vfio_irq_info), 0,
				     do_irq_info },
	[VFIO_USER_SET_IRQS] = { offsetof(struct vfio_irq_set, data),
				 SOCK_FDS_MAX, vfu_set_irqs },
	[VFIO_USER_REGION_READ] = { sizeof(struct vfio_user_region_rw), 0,
				    do_region_read },
	[VFIO_USER_REGION_WRITE] = { sizeof(struct vfio_user_region_rw), 0,
				     do_region_write },
	[VFIO_USER_RESET] = { 0, 0, do_reset },
	[VFIO_USER_REGION_WRITE_MULTI] = { sizeof(uint64_t), 0,
					   do_write_multi },
	[VFIO_USER_FEATURE] = { sizeof(struct vfio_user_feature), 0,
				do_feature },
	/*
	 * Not here, and so refused: GET_REGION_IO_FDS and MIG_DATA_*, both
	 * optional, and the commands that go from server to client.
	 */
};

int vfu_command(struct vfu_server *s, struct vfu_cmd *c)
{
	unsigned int cmd = c->hdr->cmd;

	s->counts.messages++;
	if (!s->agreed && cmd != VFIO_USER_VERSION)
		return -EPROTO;
	if (cmd >= ARRAY_SIZE(commands) || !commands[cmd].fn)
		return -ENOTSUP;
	if (c->len < commands[cmd].min || c->rx->nfds > commands[cmd].fds)
		return -EINVAL;
	return commands[cmd].fn(s, c);
}
