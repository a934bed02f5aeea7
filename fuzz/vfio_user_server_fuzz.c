// sources: src/pdev/vfio_user_caps.c src/pdev/vfio_user_commands.c src/pdev/vfio_user_dma.c src/pdev/vfio_user_dmamsg.c src/pdev/vfio_user_guard.c src/pdev/vfio_user_irq.c src/pdev/vfio_user_msg.c src/pdev/vfio_user_server.c src/base/bitmap.c src/base/err.c src/base/log.c src/base/loop.c src/base/sock.c libs: jansson
/*
 * A hostile client against the vfio-user server.
 *
 * The input is a list of messages: how, command, flags, length (two bytes),
 * payload.  'how' says which descriptors go along, and whether the header's
 * size is left to the input, which is where streams lose their step.
 * Checked: the device is only asked for what is there, every reply is well
 * formed and answers the command just sent, found memory can be touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "pdev/vfio_user_proto.h"
#include "pdev/vfio_user_server.h"

#define REQUIRE(x)               \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static uint8_t bar[8192];
static int bar_fd, ram_fd;
static struct loop *loop;

static int dev_read(void *dev, unsigned int region, uint64_t off, void *buf,
		    size_t len)
{
	REQUIRE(region == 0 && len && off + len <= sizeof(bar));
	memcpy(buf, bar + off, len);
	return 0;
}

static int dev_write(void *dev, unsigned int region, uint64_t off,
		     const void *buf, size_t len)
{
	REQUIRE(region == 0 && len && off + len <= sizeof(bar));
	memcpy(bar + off, buf, len);
	return off == 0 ? -EIO : 0;
}

static int dev_reset(void *dev)
{
	return 0;
}

static const struct vfu_ops ops = { .read = dev_read,
				    .write = dev_write,
				    .reset = dev_reset };

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	log_set_sink(no_log, NULL);
	bar_fd = vfu_memfd("bar", 8192);
	ram_fd = memfd_create("ram", MFD_CLOEXEC);
	REQUIRE(ftruncate(ram_fd, 65536) == 0);
	REQUIRE(loop_create(&loop) == 0);
	return 0;
}

/* Read what there is; false when the server has hung up. */
static bool drain(int fd, const struct vfio_user_hdr *sent)
{
	static uint8_t buf[VFIO_USER_PAYLOAD_MAX + 64];
	struct vfio_user_hdr h;
	int fds[4];

	for (;;) {
		size_t nfds = 4;
		ssize_t n = sock_recv(fd, &h, sizeof(h), fds, &nfds);

		for (size_t i = 0; n >= 0 && i < nfds; i++)
			close(fds[i]);
		if (n == -EAGAIN)
			return true;
		if (n <= 0)
			return false;
		REQUIRE(n == sizeof(h) && h.size >= sizeof(h));
		REQUIRE((h.flags & VFIO_USER_F_TYPE) == VFIO_USER_F_REPLY);
		if (sent)
			REQUIRE(h.cmd == sent->cmd && h.id == sent->id);
		if (h.flags & VFIO_USER_F_ERROR)
			REQUIRE(h.size == sizeof(h) && h.error);
		for (size_t left = h.size - sizeof(h); left;) {
			n = sock_recv(fd, buf, left, NULL, NULL);
			if (n == -EAGAIN) {
				loop_once(loop, 0);
				continue;
			}
			REQUIRE(n > 0);
			left -= (size_t)n;
		}
	}
}

static void touch(struct vfu_server *s)
{
	vfu_enter(s);
	for (uint64_t a = 0; a < 16; a++) {
		volatile uint8_t *p =
			vfu_dma_find(s, a * 4096, 4096, PDEV_READ | PDEV_WRITE);

		if (p) {
			p[0]++;
			p[4095]++;
			vfu_dma_mark(s, a * 4096, 4096);
		}
	}
	for (unsigned int i = 0; i < 6; i++)
		vfu_irq_raise(s, i, i % 3);
	vfu_leave(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t hello[] = "\0\0\0\0{\"capabilities\":{}}";
	struct vfu_config c = { .name = "fuzz", .ops = &ops };
	struct vfu_server *s;
	int sv[2], ev;
	bool in_step = true;
	struct {
		struct vfio_user_hdr h;
		uint8_t payload[65536];
	} *m = calloc(1, sizeof(*m));

	c.region[0] = (struct vfu_region){
		.info = { .size = sizeof(bar),
			  .flags = PDEV_READ | PDEV_WRITE | PDEV_MMAP,
			  .nareas = 1,
			  .area = { { 4096, 4096 } } },
		.fd = bar_fd,
	};
	c.nirqs[PDEV_INTX] = 1;
	c.nirqs[PDEV_MSIX] = 3;
	REQUIRE(vfu_server_create(&s, loop, NULL, &c, NULL) == 0);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	REQUIRE(vfu_server_adopt(s, sv[0]) == 0);
	fcntl(sv[1], F_SETFL, O_NONBLOCK);
	ev = eventfd(0, EFD_NONBLOCK);

	/* Odd sizes greet properly, even ones have to find out how. */
	if (size % 2) {
		m->h = (struct vfio_user_hdr){ .cmd = VFIO_USER_VERSION,
					       .size = 16 + sizeof(hello) };
		memcpy(m->payload, hello, sizeof(hello));
		sock_send(sv[1], m, m->h.size, NULL, 0);
		loop_once(loop, 0);
		REQUIRE(drain(sv[1], &m->h));
	}
	while (size >= 5) {
		uint8_t how = data[0];
		size_t len = data[3] | data[4] << 8;
		int fds[3] = { ram_fd, ev, ev };

		if (how & 4)
			fds[0] = ev;
		m->h = (struct vfio_user_hdr){ .id = (uint16_t)(m->h.id + 1),
					       .cmd = data[1],
					       .flags = data[2] };
		data += 5;
		size -= 5;
		len = MIN(len, size);
		memcpy(m->payload, data, len);
		data += len;
		size -= len;
		m->h.size = (uint32_t)(16 + len);
		if (how & 0x80) {
			m->h.size += how >> 3 & 7;
			in_step = false;
		}
		if (sock_send_until(sv[1], m, 16 + len, fds, how & 3, 0) < 0)
			break;
		loop_once(loop, 0);
		if (!drain(sv[1], in_step ? &m->h : NULL))
			break;
		touch(s);
	}
	close(sv[1]);
	close(ev);
	loop_once(loop, 0);
	vfu_server_destroy(s);
	loop_once(loop, 0);
	free(m);
	return 0;
}
