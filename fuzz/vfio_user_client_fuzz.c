// sources: src/pdev/vfio_user_call.c src/pdev/vfio_user_caps.c src/pdev/vfio_user_client.c src/pdev/vfio_user_msg.c src/base/err.c src/base/log.c src/base/sock.c libs: jansson
/*
 * A hostile server against the vfio-user client.
 *
 * The input is a list of answers: how, length (two bytes), payload.  For
 * each command of the client one is sent, with the right id unless 'how'
 * wants a wrong one, and before it perhaps a command of the server's own.
 * An honest start (learned from 'how' bits) keeps the fuzzer from having to
 * guess the whole handshake.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "pdev/vfio_user_client.h"
#include "pdev/vfio_user_proto.h"

#define REQUIRE(x)               \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

struct server {
	int fd;
	const uint8_t *data;
	size_t size;
	unsigned int served;
};

static int sealed_fd;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_set_sink(no_log, NULL);
	sealed_fd = memfd_create("bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	REQUIRE(ftruncate(sealed_fd, 8192) == 0);
	REQUIRE(fcntl(sealed_fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	return 0;
}

static bool read_all(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = sock_recv(fd, (uint8_t *)buf + got, len - got, NULL,
				      NULL);

		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

/* What a good server would say, as the ground the input digs in. */
static size_t honest(const struct vfio_user_hdr *h, const uint8_t *req,
		     size_t len, uint8_t *out)
{
	static const char version[] = "\0\0\0\0{\"capabilities\":{}}";
	static const uint32_t info[4] = { 16, 3, 9, 5 };
	static const uint32_t region[16] = { 64,   0xf, 0,	 32, 8192, 0,
					     0,	   0,	0x10001, 0,  1,	   0,
					     4096, 0,	4096,	 0 };
	uint32_t irq[4] = { 16, 1, 0, 3 };

	memset(out, 0, 65536);
	switch (h->cmd) {
	case VFIO_USER_VERSION:
		memcpy(out, version, sizeof(version));
		return sizeof(version);
	case VFIO_USER_GET_INFO: memcpy(out, info, 16); return 16;
	case VFIO_USER_GET_REGION_INFO:
		memcpy(out, region, 64);
		memcpy(out + 8, req + 8, 4);
		return 64;
	case VFIO_USER_GET_IRQ_INFO:
		memcpy(&irq[2], req + 8, 4);
		memcpy(out, irq, 16);
		return 16;
	case VFIO_USER_REGION_READ:
		memcpy(out, req, MIN(len, 16u));
		return 16 +
		       MIN(*(const uint32_t *)(const void *)(req + 12), 1024u);
	case VFIO_USER_REGION_WRITE: memcpy(out, req, 16); return 16;
	case VFIO_USER_DMA_UNMAP:
	case VFIO_USER_FEATURE: memcpy(out, req, len); return len;
	}
	return 0;
}

static void *serve(void *arg)
{
	static uint8_t req[65536], msg[16 + 65536];
	struct server *s = arg;
	struct vfio_user_hdr h;

	while (read_all(s->fd, &h, sizeof(h)) && h.size >= 16 &&
	       h.size - 16 <= sizeof(req) &&
	       read_all(s->fd, req, h.size - 16)) {
		uint8_t how = s->size ? s->data[0] : 0;
		size_t len = s->size >= 3 ? s->data[1] | s->data[2] << 8 : 0;
		size_t n, used = MIN(s->size, 3u);

		if (h.flags & (VFIO_USER_F_REPLY | VFIO_USER_F_NO_REPLY))
			continue;
		s->data += used;
		s->size -= used;
		if (s->size == 0 && s->served > 40)
			break;
		s->served++;
		len = MIN(len, s->size);
		n = honest(&h, req, h.size - 16, msg + 16);
		if (how & 1 && len) {
			/* Some of it from the input: at an offset, or all. */
			size_t at = how & 2 ? s->data[0] % (n + 1) : 0;

			len = MIN(len, 65536 - at);
			memcpy(msg + 16 + at, s->data, len);
			n = how & 2 ? MAX(n, at + len) : len;
		}
		s->data += len;
		s->size -= len;
		h.flags = how & 4 ? VFIO_USER_F_REPLY | VFIO_USER_F_ERROR
				  : VFIO_USER_F_REPLY;
		h.error = how & 4 ? len : 0;
		if (how & 8) { /* one of its own first, made of the same */
			struct vfio_user_hdr c = { .cmd = how & 16 ? 12 : 11,
						   .size = (uint32_t)(16 + n) };

			memcpy(msg, &c, sizeof(c));
			sock_send(s->fd, msg, c.size, NULL, 0);
		}
		h.id = (uint16_t)(h.id + (how & 32 ? 1 : 0));
		h.size = (uint32_t)(16 + n);
		memcpy(msg, &h, sizeof(h));
		if (sock_send(s->fd, msg, h.size, &sealed_fd,
			      how & 64 || n == 64) < 0 ||
		    how & 32 || how & 128)
			break;
	}
	close(s->fd);
	return NULL;
}

static void use(struct pdev *p)
{
	uint64_t map[32] = { 0 };
	int fds[5] = { 0, 0, -1, -1, 0 };
	uint8_t buf[1000];
	void *va;
	struct pdev_dma m = { .iova = 0x10000,
			      .size = sizeof(buf),
			      .va = buf,
			      .fd = -1,
			      .prot = PDEV_READ | PDEV_WRITE };

	for (unsigned int r = 0; r < PDEV_NREGIONS; r++) {
		const struct pdev_region *g = &p->region[r];

		REQUIRE(g->nareas <= PDEV_AREAS_MAX);
		for (uint32_t i = 0; i < g->nareas; i++)
			REQUIRE(g->area[i].off + g->area[i].len <= g->size);
		if (g->flags & PDEV_MMAP && g->nareas &&
		    p->ops->mmap(p, r, g->area[0].off, 4096, &va) == 0) {
			*(volatile uint8_t *)va = 1; /* must be there */
			munmap(va, 4096);
		}
	}
	p->ops->read(p, 0, 0, buf, 4);
	p->ops->read(p, PDEV_CONFIG, 0, buf, sizeof(buf));
	p->ops->write(p, PDEV_CONFIG, 0, buf, 100);
	p->ops->write(p, 0, 0, buf, 4);
	p->ops->dma_map(p, &m);
	fds[0] = fds[1] = fds[4] = sealed_fd;
	if (p->nirqs[PDEV_MSIX] >= 5)
		p->ops->irq_set(p, PDEV_MSIX, 0, 5, fds);
	if (p->ops->dma_log_start) {
		p->ops->dma_log_start(p, 0, 1 << 20);
		p->ops->dma_log_report(p, 0, 1000 << 12, map);
		REQUIRE(map[15] >> (1000 % 64) == 0);
		for (int i = 16; i < 32; i++)
			REQUIRE(map[i] == 0);
		p->ops->dma_log_stop(p);
	}
	p->ops->dma_unmap(p, m.iova, m.size);
	if (p->ops->reset)
		p->ops->reset(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct server s = { .data = data, .size = size };
	struct pdev *p;
	pthread_t t;
	int sv[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	s.fd = sv[1];
	REQUIRE(pthread_create(&t, NULL, serve, &s) == 0);
	if (vfio_user_open_fd(&p, sv[0], "fuzz", NULL) == 0) {
		use(p);
		pdev_close(p);
	}
	pthread_join(t, NULL);
	return 0;
}

/* pdev.c would bring kernel VFIO along; this is all of it that is needed. */
void pdev_close(struct pdev *p)
{
	p->ops->close(p);
}
