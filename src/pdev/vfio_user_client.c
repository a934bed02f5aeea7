#include "pdev/vfio_user_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/util.h"
#include "pdev/vfio_user_call.h"

#define PREFIX	 "vfio-user:"
#define MAPS_MAX 4096

struct client {
	struct pdev p;
	struct vfio_user_link link;
	struct vfio_user_caps peer;
	atomic_bool posted; /* writes nobody has waited for yet */
	struct {
		int fd; /* -1: not mappable */
		uint64_t offset;
	} region[PDEV_NREGIONS];

	/* What the server's DMA messages may reach. */
	pthread_mutex_t maps_lock;
	struct pdev_dma *maps;
	size_t nmaps;
};

static struct client *client_of(struct pdev *p)
{
	return container_of(p, struct client, p);
}

/* A command whose reply has exactly 'reply_len' bytes (which may be 0). */
static int ask(struct client *c, uint16_t cmd, const void *head, size_t len,
	       void *reply, size_t reply_len)
{
	struct vfio_user_call call = { .cmd = cmd,
				       .head = head,
				       .head_len = len,
				       .reply = reply,
				       .reply_room = reply_len };
	int ret = vfio_user_do(&c->link, &call);

	close_fd(&call.reply_fd);
	if (ret == 0 && call.reply_len != reply_len)
		return -EPROTO;
	return ret;
}

/* --- the server's DMA messages ------------------------------------------ */

/* With maps_lock. */
static uint8_t *dma_ptr(struct client *c, uint64_t iova, uint64_t len,
			uint32_t prot)
{
	for (size_t i = 0; i < c->nmaps; i++) {
		const struct pdev_dma *m = &c->maps[i];

		if (iova >= m->iova && len <= m->size &&
		    iova - m->iova <= m->size - len && (m->prot & prot))
			return (uint8_t *)m->va + (iova - m->iova);
	}
	return NULL;
}

static int on_dma(void *opaque, struct vfio_user_rx *rx, uint8_t *reply,
		  size_t *len)
{
	struct client *c = opaque;
	bool write = rx->hdr.cmd == VFIO_USER_DMA_WRITE;
	struct vfio_user_dma_rw rw;
	uint8_t *p;

	if (!write && rx->hdr.cmd != VFIO_USER_DMA_READ)
		return -ENOTSUP;
	if (rx->len < sizeof(rw))
		return -EINVAL;
	memcpy(&rw, rx->body, sizeof(rw));
	if (rw.count == 0 || rw.count > VFIO_USER_XFER_DEFAULT ||
	    rx->len != sizeof(rw) + (write ? rw.count : 0))
		return -EINVAL;

	pthread_mutex_lock(&c->maps_lock);
	p = dma_ptr(c, rw.addr, rw.count, write ? PDEV_WRITE : PDEV_READ);
	if (p && write)
		memcpy(p, rx->body + sizeof(rw), rw.count);
	else if (p)
		memcpy(reply + sizeof(rw), p, rw.count);
	pthread_mutex_unlock(&c->maps_lock);
	if (!p) {
		log_limited(&c->link.limit, LOG_WARN,
			    "%s: device reaches for %llu bytes at %#llx, which "
			    "are not its to reach",
			    c->link.name, (unsigned long long)rw.count,
			    (unsigned long long)rw.addr);
		return -EFAULT;
	}
	memcpy(reply, &rw, sizeof(rw));
	*len = sizeof(rw) + (write ? 0 : rw.count);
	return 0;
}

/* --- ops ---------------------------------------------------------------- */

static void client_close(struct pdev *p)
{
	struct client *c = client_of(p);

	vfio_user_link_close(&c->link);
	for (unsigned int i = 0; i < PDEV_NREGIONS; i++)
		close_fd(&c->region[i].fd);
	pthread_mutex_destroy(&c->maps_lock);
	free(c->maps);
	free(c);
}

static size_t xfer_max(const struct client *c)
{
	return MIN(c->peer.max_data_xfer_size, VFIO_USER_XFER_DEFAULT);
}

static int read_some(struct client *c, unsigned int region, uint64_t off,
		     void *buf, size_t len)
{
	struct vfio_user_region_rw rw = { off, region, (uint32_t)len };
	uint8_t small[sizeof(rw) + 64], *reply = small;
	size_t want = sizeof(rw) + len;
	int ret;

	if (want > sizeof(small)) {
		reply = malloc(want);
		if (!reply)
			return -ENOMEM;
	}
	ret = ask(c, VFIO_USER_REGION_READ, &rw, sizeof(rw), reply, want);
	if (ret == 0 && memcmp(reply, &rw, sizeof(rw)))
		ret = -EPROTO;
	if (ret == 0)
		memcpy(buf, reply + sizeof(rw), len);
	if (reply != small)
		free(reply);
	return ret;
}

static int client_read(struct pdev *p, unsigned int region, uint64_t off,
		       void *buf, size_t len)
{
	struct client *c = client_of(p);

	for (size_t done = 0; done < len;) {
		size_t n = MIN(len - done, xfer_max(c));
		int ret = read_some(c, region, off + done,
				    (uint8_t *)buf + done, n);

		if (ret < 0) {
			memset(buf, 0xff, len);
			return ret;
		}
		done += n;
	}
	return 0;
}

/*
 * A write to a register is posted, as on the bus: the server works in order,
 * so whatever is asked next comes after it.  Everything else is answered.
 */
static int client_write(struct pdev *p, unsigned int region, uint64_t off,
			const void *buf, size_t len)
{
	struct client *c = client_of(p);
	bool posted = region <= PDEV_BAR5 && len <= 8;

	for (size_t done = 0; done < len;) {
		size_t n = MIN(len - done, xfer_max(c));
		struct vfio_user_region_rw back = { 0 },
					   rw = { off + done, region,
						  (uint32_t)n };
		struct vfio_user_call call = {
			.cmd = VFIO_USER_REGION_WRITE,
			.posted = posted,
			.head = &rw,
			.head_len = sizeof(rw),
			.data = (const uint8_t *)buf + done,
			.data_len = n,
			.reply = &back,
			.reply_room = sizeof(back),
		};
		int ret = vfio_user_do(&c->link, &call);

		close_fd(&call.reply_fd);
		if (ret == 0 && !posted &&
		    (call.reply_len != sizeof(back) ||
		     memcmp(&back, &rw, sizeof(rw))))
			ret = -EPROTO;
		if (ret < 0)
			return ret;
		if (posted)
			c->posted = true;
		done += n;
	}
	return 0;
}

static int client_flush(struct pdev *p)
{
	struct client *c = client_of(p);
	uint16_t vendor;
	int ret;

	if (!atomic_exchange(&c->posted, false))
		return 0;
	ret = client_read(p, PDEV_CONFIG, 0, &vendor, sizeof(vendor));
	if (ret < 0)
		c->posted = true;
	return ret;
}

static int client_mmap(struct pdev *p, unsigned int region, uint64_t off,
		       uint64_t len, void **va)
{
	struct client *c = client_of(p);
	void *m;

	if (c->region[region].fd < 0)
		return -ENOTSUP;
	m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
		 c->region[region].fd, (off_t)(c->region[region].offset + off));
	if (m == MAP_FAILED)
		return -errno;
	*va = m;
	return 0;
}

static int set_irqs(struct client *c, uint32_t flags, unsigned int index,
		    unsigned int start, unsigned int count, const int *fds,
		    size_t nfds)
{
	const size_t len = offsetof(struct vfio_irq_set, data);
	struct vfio_irq_set q = { .argsz = (uint32_t)len,
				  .flags = flags | VFIO_IRQ_SET_ACTION_TRIGGER,
				  .index = index,
				  .start = start,
				  .count = count };
	struct vfio_user_call call = { .cmd = VFIO_USER_SET_IRQS,
				       .head = &q,
				       .head_len = len,
				       .fds = fds,
				       .nfds = nfds };
	int ret = vfio_user_do(&c->link, &call);

	close_fd(&call.reply_fd);
	return ret;
}

/*
 * A message has room for so many descriptors and no way to say "none" in the
 * middle: runs of armed and of disarmed vectors go by themselves.
 */
static int client_irq_set(struct pdev *p, unsigned int index,
			  unsigned int start, unsigned int count,
			  const int *fds)
{
	struct client *c = client_of(p);
	unsigned int max = MIN(c->peer.max_msg_fds, (uint32_t)SOCK_FDS_MAX);

	if (count == 0)
		return set_irqs(c, VFIO_IRQ_SET_DATA_NONE, index, 0, 0, NULL,
				0);
	for (unsigned int i = 0, n; i < count; i += n) {
		bool armed = fds[i] >= 0;
		int ret;

		for (n = 1; i + n < count && (fds[i + n] >= 0) == armed; n++)
			if (armed && n == max)
				break;
		ret = set_irqs(c, VFIO_IRQ_SET_DATA_EVENTFD, index, start + i,
			       n, fds + i, armed ? n : 0);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int remember(struct client *c, const struct pdev_dma *m)
{
	struct pdev_dma *maps;
	int ret = 0;

	pthread_mutex_lock(&c->maps_lock);
	if (c->nmaps >= MIN(c->peer.max_dma_maps, (uint32_t)MAPS_MAX)) {
		ret = -ENOSPC;
		goto unlock;
	}
	maps = realloc(c->maps, (c->nmaps + 1) * sizeof(*maps));
	if (!maps) {
		ret = -ENOMEM;
		goto unlock;
	}
	c->maps = maps;
	c->maps[c->nmaps++] = *m;
unlock:
	pthread_mutex_unlock(&c->maps_lock);
	return ret;
}

static void forget(struct client *c, uint64_t iova)
{
	pthread_mutex_lock(&c->maps_lock);
	for (size_t i = 0; i < c->nmaps; i++)
		if (c->maps[i].iova == iova) {
			c->maps[i] = c->maps[--c->nmaps];
			break;
		}
	pthread_mutex_unlock(&c->maps_lock);
}

static int client_dma_map(struct pdev *p, const struct pdev_dma *m)
{
	struct client *c = client_of(p);
	struct vfio_user_dma_map q = {
		.argsz = sizeof(q),
		.flags = (m->prot & PDEV_READ ? VFIO_USER_DMA_READABLE : 0) |
			 (m->prot & PDEV_WRITE ? VFIO_USER_DMA_WRITEABLE : 0),
		.offset = m->fd >= 0 ? m->fd_offset : 0,
		.addr = m->iova,
		.size = m->size,
	};
	struct vfio_user_call call = { .cmd = VFIO_USER_DMA_MAP,
				       .head = &q,
				       .head_len = sizeof(q),
				       .fds = &m->fd,
				       .nfds = m->fd >= 0 };
	/* First: the server may reach for it before we have its answer. */
	int ret = remember(c, m);

	if (ret < 0)
		return ret;
	ret = vfio_user_do(&c->link, &call);
	close_fd(&call.reply_fd);
	if (ret < 0)
		forget(c, m->iova);
	return ret;
}

/* After its reply the server has let go of the range, says the protocol. */
static int client_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	struct client *c = client_of(p);
	struct vfio_user_dma_unmap back,
		q = { .argsz = sizeof(q), .addr = iova, .size = size };
	int ret =
		ask(c, VFIO_USER_DMA_UNMAP, &q, sizeof(q), &back, sizeof(back));

	/* A server that has gone reaches nothing by messages either. */
	if (ret == 0 || ret == -ENODEV)
		forget(c, iova);
	return ret;
}

static int client_reset(struct pdev *p)
{
	return ask(client_of(p), VFIO_USER_RESET, NULL, 0, NULL, 0);
}

static void client_on_gone(struct pdev *p, void (*fn)(void *opaque),
			   void *opaque)
{
	vfio_user_link_on_gone(&client_of(p)->link, fn, opaque);
}

/* --- dirty log ---------------------------------------------------------- */

static int client_log_start(struct pdev *p, uint64_t iova, uint64_t size)
{
	struct {
		struct vfio_user_feature f;
		struct vfio_user_log_start l;
		struct vfio_user_log_range r;
	} back, q = {
		.f = { sizeof(q), VFIO_DEVICE_FEATURE_DMA_LOGGING_START |
					  VFIO_DEVICE_FEATURE_SET },
		.l = { .page_size = PAGE_SIZE, .num_ranges = 1 },
		.r = { iova, size },
	};

	return ask(client_of(p), VFIO_USER_FEATURE, &q, sizeof(q), &back,
		   sizeof(back));
}

static int client_log_stop(struct pdev *p)
{
	struct vfio_user_feature back,
		q = { sizeof(q), VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP |
					 VFIO_DEVICE_FEATURE_SET };

	return ask(client_of(p), VFIO_USER_FEATURE, &q, sizeof(q), &back,
		   sizeof(back));
}

struct report {
	struct vfio_user_feature f;
	struct vfio_user_log_report q;
	uint64_t bits[];
};

/* One message's worth; its reply has 'words' words of bitmap. */
static int report_some(struct client *c, struct report *back, uint64_t iova,
		       uint64_t size, size_t words)
{
	const size_t len = sizeof(*back) + words * sizeof(uint64_t);
	struct report q = {
		.f = { (uint32_t)len, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT |
					      VFIO_DEVICE_FEATURE_GET },
		.q = { iova, size, PAGE_SIZE },
	};
	int ret = ask(c, VFIO_USER_FEATURE, &q, sizeof(q), back, len);

	if (ret == 0 && (back->q.iova != iova || back->q.length != size ||
			 back->q.page_size != PAGE_SIZE))
		ret = -EPROTO;
	return ret;
}

/* Pages in one message: half of what fits, and whole words. */
#define REPORT_PAGES (4ull * VFIO_USER_XFER_DEFAULT)

static int client_log_report(struct pdev *p, uint64_t iova, uint64_t size,
			     uint64_t *bitmap)
{
	uint64_t pages = size / PAGE_SIZE;
	uint64_t chunk = MIN(pages, REPORT_PAGES);
	struct report *back = malloc(sizeof(*back) + (chunk + 63) / 64 * 8);
	int ret = 0;

	if (!back)
		return -ENOMEM;
	for (uint64_t at = 0; at < pages && ret == 0; at += chunk) {
		uint64_t n = MIN(chunk, pages - at);
		size_t words = (size_t)((n + 63) / 64);

		ret = report_some(client_of(p), back, iova + at * PAGE_SIZE,
				  n * PAGE_SIZE, words);
		if (ret < 0)
			break;
		/* Bits past the end would be somebody else's memory. */
		if (n % 64)
			back->bits[words - 1] &= (1ull << (n % 64)) - 1;
		for (size_t i = 0; i < words; i++)
			bitmap[at / 64 + i] |= back->bits[i];
	}
	free(back);
	return ret;
}

#define OPS                                                                \
	.name = "vfio-user", .close = client_close, .read = client_read,   \
	.write = client_write, .flush = client_flush, .mmap = client_mmap, \
	.irq_set = client_irq_set, .dma_map = client_dma_map,              \
	.dma_unmap = client_dma_unmap, .on_gone = client_on_gone

/* By what the server can: reset, and a log of its DMA. */
static const struct pdev_ops ops[2][2] = {
	{ { OPS },
	  { OPS, .dma_log_start = client_log_start,
	    .dma_log_stop = client_log_stop,
	    .dma_log_report = client_log_report } },
	{ { OPS, .reset = client_reset },
	  { OPS, .reset = client_reset, .dma_log_start = client_log_start,
	    .dma_log_stop = client_log_stop,
	    .dma_log_report = client_log_report } },
};

/* --- getting to know the device ----------------------------------------- */

static int agree(struct client *c, struct err *e)
{
	struct vfio_user_version v = { VFIO_USER_MAJOR, VFIO_USER_MINOR };
	struct vfio_user_caps ours = {
		.max_msg_fds = SOCK_FDS_MAX,
		.max_data_xfer_size = VFIO_USER_XFER_DEFAULT,
		.max_dma_maps = MAPS_MAX,
		.pgsizes = PAGE_SIZE,
		.named = VFIO_USER_CAP_ALL & ~VFIO_USER_CAP_MULTI,
	};
	char *text = vfio_user_caps_text(&ours);
	uint8_t *reply = malloc(VFIO_USER_VERSION_MAX);
	struct vfio_user_call call = { .cmd = VFIO_USER_VERSION,
				       .head = &v,
				       .head_len = sizeof(v),
				       .data = text,
				       .data_len = text ? strlen(text) + 1 : 0,
				       .reply = reply,
				       .reply_room = VFIO_USER_VERSION_MAX };
	int ret = -ENOMEM;

	if (!text || !reply)
		goto free;
	ret = vfio_user_do(&c->link, &call);
	close_fd(&call.reply_fd);
	if (ret == -ENODEV) {
		err_set(e, ret,
			"%s: the server closed the connection; another client "
			"may be using the device",
			c->link.name);
		goto free;
	}
	if (ret < 0 || call.reply_len < sizeof(v)) {
		ret = err_sys(e, ret < 0 ? ret : -EPROTO,
			      "%s: server refuses our protocol version %u.%u",
			      c->link.name, VFIO_USER_MAJOR, VFIO_USER_MINOR);
		goto free;
	}
	memcpy(&v, reply, sizeof(v));
	ret = v.major == VFIO_USER_MAJOR && v.minor <= VFIO_USER_MINOR
		      ? vfio_user_caps_parse((char *)reply + sizeof(v),
					     call.reply_len - sizeof(v),
					     &c->peer)
		      : -EPROTONOSUPPORT;
	if (ret == 0 && !(c->peer.pgsizes & PAGE_SIZE))
		ret = -ENOTSUP;
	if (ret < 0)
		err_sys(e, ret, "%s: server speaks version %u.%u, we %u.%u",
			c->link.name, v.major, v.minor, VFIO_USER_MAJOR,
			VFIO_USER_MINOR);
free:
	free(reply);
	free(text);
	return ret;
}

/* The areas of the first sparse capability; false: the list makes no sense. */
static bool parse_areas(struct pdev_region *r, const uint8_t *p, size_t len,
			size_t at)
{
	struct vfio_region_info_cap_sparse_mmap cap;

	/* Offsets must grow, or a list could go round for ever. */
	for (size_t next; at; at = next) {
		if (at < sizeof(struct vfio_region_info) || at > len ||
		    len - at < sizeof(cap.header))
			return false;
		memcpy(&cap.header, p + at, sizeof(cap.header));
		next = cap.header.next;
		if (next && next <= at)
			return false;
		if (cap.header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
			break;
	}
	if (!at)
		return true;
	if (len - at < sizeof(cap))
		return false;
	memcpy(&cap, p + at, sizeof(cap));
	at += sizeof(cap);
	if (cap.nr_areas > (len - at) / sizeof(cap.areas[0]))
		return false;
	for (uint32_t i = 0; i < cap.nr_areas; i++) {
		struct vfio_region_sparse_mmap_area a;

		memcpy(&a, p + at + i * sizeof(a), sizeof(a));
		if (a.offset % PAGE_SIZE || a.size % PAGE_SIZE || !a.size ||
		    a.offset > r->size || a.size > r->size - a.offset)
			return false;
		/* More than we have room for are reached by messages. */
		if (i < PDEV_AREAS_MAX)
			r->area[r->nareas++] =
				(struct pdev_area){ a.offset, a.size };
	}
	return true;
}

/*
 * A file that can shrink would turn guest accesses into SIGBUS at the will
 * of the server; what is not sealed is reached by messages.
 */
static bool may_map(const struct pdev_region *r, int fd, uint64_t offset)
{
	uint64_t end = r->nareas ? 0 : r->size;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	for (uint32_t i = 0; i < r->nareas; i++)
		end = MAX(end, r->area[i].off + r->area[i].len);
	return seals >= 0 && seals & F_SEAL_SHRINK && fstat(fd, &st) == 0 &&
	       offset % PAGE_SIZE == 0 && st.st_size >= 0 &&
	       end <= (uint64_t)st.st_size &&
	       offset <= (uint64_t)st.st_size - end;
}

static int learn_region(struct client *c, unsigned int index)
{
	/* Room for the areas we can hold and as many again. */
	uint8_t reply[sizeof(struct vfio_region_info) +
		      sizeof(struct vfio_region_info_cap_sparse_mmap) +
		      2 * PDEV_AREAS_MAX *
			      sizeof(struct vfio_region_sparse_mmap_area)];
	struct vfio_region_info v = { .argsz = sizeof(reply), .index = index };
	struct vfio_user_call call = { .cmd = VFIO_USER_GET_REGION_INFO,
				       .head = &v,
				       .head_len = sizeof(v),
				       .reply = reply,
				       .reply_room = sizeof(reply) };
	struct pdev_region *r = &c->p.region[index];
	bool map;
	int ret = vfio_user_do(&c->link, &call);

	if (ret < 0)
		return ret;
	if (call.reply_len < sizeof(v)) {
		close_fd(&call.reply_fd);
		return -EPROTO;
	}
	memcpy(&v, reply, sizeof(v));
	if (v.index != index || v.size > INT64_MAX || v.offset > INT64_MAX) {
		close_fd(&call.reply_fd);
		return -EPROTO;
	}
	r->size = v.size;
	r->flags = (v.flags & VFIO_REGION_INFO_FLAG_READ ? PDEV_READ : 0) |
		   (v.flags & VFIO_REGION_INFO_FLAG_WRITE ? PDEV_WRITE : 0);
	map = v.flags & VFIO_REGION_INFO_FLAG_MMAP && call.reply_fd >= 0 &&
	      v.argsz <= call.reply_len && r->size;
	if (map && v.flags & VFIO_REGION_INFO_FLAG_CAPS)
		map = parse_areas(r, reply, call.reply_len, v.cap_offset);
	if (map)
		map = may_map(r, call.reply_fd, v.offset);
	if (!map) {
		if (v.flags & VFIO_REGION_INFO_FLAG_MMAP)
			log_info("%s: region %u will not be mapped",
				 c->link.name, index);
		r->nareas = 0;
		close_fd(&call.reply_fd);
		return 0;
	}
	r->flags |= PDEV_MMAP;
	c->region[index].fd = call.reply_fd;
	c->region[index].offset = v.offset;
	return 0;
}

static int learn_irqs(struct client *c, unsigned int index)
{
	struct vfio_irq_info back, q = { .argsz = sizeof(q), .index = index };
	int ret = ask(c, VFIO_USER_GET_IRQ_INFO, &q, sizeof(q), &back,
		      sizeof(back));

	if (ret < 0)
		return ret;
	if (back.index != index || back.count > 2048)
		return -EPROTO;
	if (back.flags & VFIO_IRQ_INFO_EVENTFD)
		c->p.nirqs[index] = back.count;
	return 0;
}

static bool can_log(struct client *c)
{
	struct vfio_user_feature back,
		q = { sizeof(q), VFIO_DEVICE_FEATURE_DMA_LOGGING_START |
					 VFIO_DEVICE_FEATURE_SET |
					 VFIO_DEVICE_FEATURE_PROBE };

	return ask(c, VFIO_USER_FEATURE, &q, sizeof(q), &back, sizeof(back)) ==
	       0;
}

static int learn(struct client *c, struct err *e)
{
	struct vfio_user_info info = { .argsz = sizeof(info) }, back;
	int ret = ask(c, VFIO_USER_GET_INFO, &info, sizeof(info), &back,
		      sizeof(back));

	if (ret < 0)
		return err_sys(e, ret, "%s: device information", c->link.name);
	if (!(back.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    back.num_regions < PDEV_NREGIONS)
		return err_set(e, -ENODEV, "%s: is not a PCI device",
			       c->link.name);
	for (unsigned int i = 0; i < PDEV_NREGIONS; i++) {
		ret = learn_region(c, i);
		if (ret < 0)
			return err_sys(e, ret, "%s: region %u", c->link.name,
				       i);
	}
	for (unsigned int i = 0; i < MIN(back.num_irqs, (uint32_t)PDEV_NIRQS);
	     i++) {
		ret = learn_irqs(c, i);
		if (ret < 0)
			return err_sys(e, ret, "%s: interrupt index %u",
				       c->link.name, i);
	}
	c->p.ops = &ops[!!(back.flags & VFIO_DEVICE_FLAGS_RESET)][can_log(c)];
	return 0;
}

int vfio_user_open_fd(struct pdev **out, int fd, const char *name,
		      struct err *e)
{
	struct client *c = calloc(1, sizeof(*c));
	int ret;

	if (!c) {
		close(fd);
		return err_sys(e, -ENOMEM, "%s", name);
	}
	snprintf(c->p.name, sizeof(c->p.name), "%s", name);
	for (unsigned int i = 0; i < PDEV_NREGIONS; i++)
		c->region[i].fd = -1;
	pthread_mutex_init(&c->maps_lock, NULL);
	snprintf(c->link.name, sizeof(c->link.name), "%s", name);
	c->link.command = on_dma;
	c->link.opaque = c;
	ret = vfio_user_link_open(&c->link, fd);
	if (ret < 0) {
		err_sys(e, ret, "%s: start", name);
		close(fd);
		goto free;
	}
	ret = agree(c, e);
	if (ret == 0)
		ret = learn(c, e);
	if (ret < 0)
		goto close;
	*out = &c->p;
	return 0;

close:
	client_close(&c->p);
	return ret;
free:
	pthread_mutex_destroy(&c->maps_lock);
	free(c);
	return ret;
}

int vfio_user_open(struct pdev **out, const char *path, struct err *e)
{
	char name[sizeof((*out)->name)];
	int fd = sock_connect(path, SOCK_STREAM, e);

	if (fd == -ENOENT || fd == -ECONNREFUSED) {
		err_clear(e);
		return err_set(e, fd,
			       PREFIX
			       "%s: nobody serves a device there: "
			       "'pagurus nic' does, VFs only while 'pagurus "
			       "pf' has them enabled",
			       path);
	}
	if (fd < 0)
		return err_prefix(e, PREFIX "%s", path);
	snprintf(name, sizeof(name), PREFIX "%s", path);
	return vfio_user_open_fd(out, fd, name, e);
}
