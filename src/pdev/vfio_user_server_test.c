#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "pdev/vfio_user_proto.h"
#include "pdev/vfio_user_testdev.h"

/* A client made by hand: what it sends is what the test says. */
struct fix {
	struct loop *l;
	struct testdev d;
	int fd;
	uint16_t id;
	struct vfio_user_hdr hdr; /* of the last reply */
	uint8_t body[VFIO_USER_PAYLOAD_MAX];
	size_t len;
	int got_fd;
};

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void plug(struct fix *f)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
			 0);
	assert_int_equal(vfu_server_adopt(f->d.s, sv[0]), 0);
	f->fd = sv[1];
	fcntl(f->fd, F_SETFL, O_NONBLOCK);
}

static void pump(struct fix *f)
{
	for (int i = 0; i < 4; i++)
		loop_once(f->l, 0);
}

static void send_raw(struct fix *f, uint16_t cmd, uint32_t flags, const void *p,
		     size_t len, const int *fds, size_t nfds)
{
	struct vfio_user_hdr h = { .id = ++f->id,
				   .cmd = cmd,
				   .size = (uint32_t)(sizeof(h) + len),
				   .flags = flags };
	uint8_t *msg = malloc(sizeof(h) + len);

	memcpy(msg, &h, sizeof(h));
	if (len)
		memcpy(msg + sizeof(h), p, len);
	assert_int_equal(sock_send(f->fd, msg, sizeof(h) + len, fds, nfds), 0);
	free(msg);
}

/* One reply; false at the end of the stream, fails if there is none. */
static bool recv_reply(struct fix *f)
{
	size_t nfds = 1, want, got = 0;
	ssize_t n;

	close_fd(&f->got_fd);
	n = sock_recv(f->fd, &f->hdr, sizeof(f->hdr), &f->got_fd, &nfds);
	if (n == 0 || n == -ECONNRESET)
		return false;
	assert_int_equal(n, sizeof(f->hdr));
	want = f->hdr.size - sizeof(f->hdr);
	assert_true(want <= sizeof(f->body));
	while (got < want) {
		n = sock_recv(f->fd, f->body + got, want - got, NULL, NULL);
		if (n == -EAGAIN) {
			pump(f);
			continue;
		}
		assert_true(n > 0);
		got += (size_t)n;
	}
	f->len = want;
	return true;
}

/* Send a command and get its reply: 0 or the error number it carries. */
static int ask_fds(struct fix *f, uint16_t cmd, const void *p, size_t len,
		   const int *fds, size_t nfds)
{
	send_raw(f, cmd, 0, p, len, fds, nfds);
	pump(f);
	assert_true(recv_reply(f));
	assert_int_equal(f->hdr.id, f->id);
	assert_int_equal(f->hdr.cmd, cmd);
	assert_int_equal(f->hdr.flags & VFIO_USER_F_TYPE, VFIO_USER_F_REPLY);
	if (!(f->hdr.flags & VFIO_USER_F_ERROR))
		return 0;
	assert_int_equal(f->len, 0); /* "must only include the header" */
	return -(int)f->hdr.error;
}

static int ask(struct fix *f, uint16_t cmd, const void *p, size_t len)
{
	return ask_fds(f, cmd, p, len, NULL, 0);
}

#define HELLO                                           \
	"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8," \
	"\"write_multiple\":true,\"somebody\":\"else\"}}"

static void hello(struct fix *f)
{
	assert_int_equal(ask(f, VFIO_USER_VERSION, HELLO, sizeof(HELLO)), 0);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	log_set_sink(no_log, NULL);
	f->got_fd = -1;
	assert_int_equal(loop_create(&f->l), 0);
	testdev_open(&f->d, f->l, NULL);
	plug(f);
	*state = f;
	return 0;
}

static int setup_hello(void **state)
{
	setup(state);
	hello(*state);
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	close_fd(&f->fd);
	close_fd(&f->got_fd);
	testdev_close(&f->d);
	pump(f);
	loop_destroy(f->l);
	free(f);
	return 0;
}

static struct vfu_counts counts(struct fix *f)
{
	struct vfu_counts c;

	vfu_server_counts(f->d.s, &c);
	return c;
}

static int memory(size_t size)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static int map(struct fix *f, uint64_t iova, uint64_t size, uint32_t flags,
	       int fd, uint64_t offset)
{
	struct vfio_user_dma_map m = { .argsz = sizeof(m),
				       .flags = flags,
				       .offset = offset,
				       .addr = iova,
				       .size = size };

	return ask_fds(f, VFIO_USER_DMA_MAP, &m, sizeof(m), &fd, fd >= 0);
}

static int unmap(struct fix *f, uint64_t iova, uint64_t size)
{
	struct vfio_user_dma_unmap u = { .argsz = sizeof(u),
					 .addr = iova,
					 .size = size };
	int ret = ask(f, VFIO_USER_DMA_UNMAP, &u, sizeof(u));

	if (ret == 0) {
		assert_int_equal(f->len, sizeof(u));
		assert_memory_equal(f->body, &u, sizeof(u));
	}
	return ret;
}

static uint8_t *find(struct fix *f, uint64_t iova, uint64_t len, uint32_t prot)
{
	uint8_t *p;

	vfu_enter(f->d.s);
	p = vfu_dma_find(f->d.s, iova, len, prot);
	vfu_leave(f->d.s);
	return p;
}

/* --- what is agreed ----------------------------------------------------- */

static void version_reply_is_a_subset(void **state)
{
	struct fix *f = *state;
	static const uint8_t head[4] = { 0 };

	assert_int_equal(f->d.attached, 0);
	hello(f);
	assert_memory_equal(f->body, head, 4);
	assert_int_equal(f->body[f->len - 1], 0);
	assert_string_equal((char *)f->body + 4,
			    "{\"capabilities\":{\"max_msg_fds\":16,"
			    "\"write_multiple\":true}}");
	assert_int_equal(f->d.attached, 1);
	/* A second one is refused, and changes nothing. */
	assert_int_equal(ask(f, VFIO_USER_VERSION, HELLO, sizeof(HELLO)),
			 -EINVAL);
	assert_int_equal(f->d.attached, 1);
}

static void version_without_data_is_fine(void **state)
{
	struct fix *f = *state;

	assert_int_equal(ask(f, VFIO_USER_VERSION, "\0\0\5\0", 4), 0);
	assert_string_equal((char *)f->body + 4, "{\"capabilities\":{}}");
	assert_int_equal(f->body[2], 0); /* minor: no more than ours */
}

static void no_version_no_service(void **state)
{
	static const struct {
		const char *p;
		size_t len;
		uint16_t cmd;
	} bad[] = {
		{ "", 0, VFIO_USER_RESET },
		{ "\1\0\0\0", 4, VFIO_USER_VERSION },
		{ "\0\0", 2, VFIO_USER_VERSION },
		{ "\0\0\0\0{}", 6, VFIO_USER_VERSION }, /* no NUL */
		{ "\0\0\0\0{", 6, VFIO_USER_VERSION },
		{ "\0\0\0\0[]", 7, VFIO_USER_VERSION },
		{ "\0\0\0\0{\"capabilities\":3}", 23, VFIO_USER_VERSION },
		{ "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":0}}", 39,
		  VFIO_USER_VERSION },
		{ "\0\0\0\0{\"capabilities\":{\"pgsizes\":-1}}", 36,
		  VFIO_USER_VERSION },
	};
	struct fix *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(ask(f, bad[i].cmd, bad[i].p, bad[i].len) < 0);
		assert_false(recv_reply(f));
		close_fd(&f->fd);
		plug(f);
	}
	assert_int_equal(counts(f).broken, ARRAY_SIZE(bad));
	assert_int_equal(f->d.attached, 0);
	assert_int_equal(f->d.detached, 0);
	hello(f);
}

/* --- what the device says ----------------------------------------------- */

static void info_layouts(void **state)
{
	struct fix *f = *state;
	uint32_t q[4] = { 16 };
	static const uint32_t info[4] = { 16, 3, 9, 5 };
	static const uint32_t irq[4] = { 16, 1, 2, 3 };
	static const uint32_t intx[4] = { 16, 7, 0, 1 };

	assert_int_equal(ask(f, VFIO_USER_GET_INFO, q, 16), 0);
	assert_memory_equal(f->body, info, 16);
	q[2] = PDEV_MSIX;
	assert_int_equal(ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), 0);
	assert_memory_equal(f->body, irq, 16);
	q[2] = PDEV_INTX;
	assert_int_equal(ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), 0);
	assert_memory_equal(f->body, intx, 16);
	q[2] = 5;
	assert_int_equal(ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), -EINVAL);
	q[0] = 15;
	assert_int_equal(ask(f, VFIO_USER_GET_INFO, q, 16), -EINVAL);
	assert_int_equal(ask(f, VFIO_USER_GET_INFO, q, 12), -EINVAL);
}

static void region_info_with_sparse_areas(void **state)
{
	struct fix *f = *state;
	uint32_t q[8] = { 64, 0, PDEV_BAR0 };
	/* argsz flags index cap | size offset || id+version next n res | off len */
	static const uint32_t full[16] = { 64,	 0xf, 0,       32, 8192, 0,
					   4096, 0,   0x10001, 0,  1,	 0,
					   4096, 0,   4096,    0 };
	static const uint32_t config[8] = { 32, 3, PDEV_CONFIG, 0, 4096 };
	int a, b;

	assert_int_equal(ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 64);
	assert_memory_equal(f->body, full, 64);
	assert_true(f->got_fd >= 0);
	/* It is the device's memory, and cannot shrink under the client. */
	a = ftruncate(f->got_fd, 0);
	b = ftruncate(f->d.fd, 0);
	assert_int_equal(a, -1);
	assert_int_equal(b, -1);

	q[0] = 32; /* no room: told how much it takes */
	assert_int_equal(ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 32);
	assert_int_equal(((uint32_t *)(void *)f->body)[0], 64);
	assert_true(f->got_fd < 0);

	q[2] = PDEV_CONFIG;
	assert_int_equal(ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 32);
	assert_memory_equal(f->body, config, 32);
	q[2] = 9;
	assert_int_equal(ask(f, VFIO_USER_GET_REGION_INFO, q, 32), -EINVAL);
}

/* --- regions ------------------------------------------------------------ */

static void reads_and_writes(void **state)
{
	struct fix *f = *state;
	struct {
		struct vfio_user_region_rw h;
		uint8_t data[4];
	} m = { { .offset = 0x20, .region = PDEV_BAR0, .count = 4 },
		{ 1, 2, 3, 4 } };

	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, &m, 20), 0);
	assert_int_equal(f->len, 16);
	assert_memory_equal(f->body, &m, 16);
	assert_memory_equal(f->d.bar + 0x20, m.data, 4);
	assert_int_equal(ask(f, VFIO_USER_REGION_READ, &m, 16), 0);
	assert_int_equal(f->len, 20);
	assert_memory_equal(f->body, &m, 20);
	/* The device's own refusal reaches the client. */
	m.h.offset = 0x100;
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, &m, 20), -EIO);
}

static void accesses_outside_never_reach_the_device(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t region, count;
		int err;
	} bad[] = {
		{ 0, 9, 4, -EINVAL },
		{ 0, UINT32_MAX, 4, -EINVAL },
		{ 8192, PDEV_BAR0, 4, -EINVAL },
		{ 8190, PDEV_BAR0, 4, -EINVAL },
		{ UINT64_MAX, PDEV_BAR0, 4, -EINVAL },
		{ UINT64_MAX - 3, PDEV_BAR0, 4, -EINVAL },
		{ 0, PDEV_BAR0, 0, -EINVAL },
		{ 0, PDEV_BAR0, VFU_XFER_MAX + 1, -EINVAL },
		{ 0, PDEV_BAR1, 4, -EINVAL },
	};
	struct fix *f = *state;
	uint8_t *msg = calloc(1, 16 + VFU_XFER_MAX + 1);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vfio_user_region_rw rw = { bad[i].off, bad[i].region,
						  bad[i].count };

		memcpy(msg, &rw, sizeof(rw));
		assert_int_equal(ask(f, VFIO_USER_REGION_READ, msg, 16),
				 bad[i].err);
		if (bad[i].count > 4)
			continue;
		assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, msg,
				     16 + bad[i].count),
				 bad[i].err);
	}
	/* A count that is not what came. */
	memcpy(msg, &(struct vfio_user_region_rw){ 0, PDEV_BAR0, 4 }, 16);
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, msg, 19), -EINVAL);
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, msg, 21), -EINVAL);
	memcpy(msg, &(struct vfio_user_region_rw){ 0, PDEV_ROM, 4 }, 16);
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE, msg, 20), -EPERM);
	assert_int_equal(f->d.reads + f->d.writes, 0);
	free(msg);
}

static void many_writes_in_one(void **state)
{
	struct fix *f = *state;
	struct {
		uint64_t n;
		struct vfio_user_write_one w[3];
	} m = { 3,
		{ { 0x10, 0, 4, { 1, 1, 1, 1 } },
		  { 0x14, 0, 8, { 2, 2, 2, 2, 2, 2, 2, 2 } },
		  { 0x100, 0, 4, { 3 } } } };
	uint64_t done;

	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE_MULTI, &m, sizeof(m)),
			 0);
	memcpy(&done, f->body, 8);
	assert_int_equal(done, 2); /* the third is refused */
	assert_memory_equal(f->d.bar + 0x10, "\1\1\1\1\2\2\2\2\2\2\2\2", 12);
	m.w[0].count = 9;
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE_MULTI, &m, sizeof(m)),
			 -EINVAL);
	m.n = 4;
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE_MULTI, &m, sizeof(m)),
			 -EINVAL);
	m.n = 1ull << 61;
	assert_int_equal(ask(f, VFIO_USER_REGION_WRITE_MULTI, &m, sizeof(m)),
			 -EINVAL);
}

static void no_reply_means_none(void **state)
{
	struct fix *f = *state;
	struct {
		struct vfio_user_region_rw h;
		uint8_t data[4];
	} m = { { 0x20, PDEV_BAR0, 4 }, { 9, 9, 9, 9 } };

	send_raw(f, VFIO_USER_REGION_WRITE, VFIO_USER_F_NO_REPLY, &m, 20, NULL,
		 0);
	m.h.region = 77; /* an error needs no answer either */
	send_raw(f, VFIO_USER_REGION_WRITE, VFIO_USER_F_NO_REPLY, &m, 20, NULL,
		 0);
	m.h.region = PDEV_BAR0;
	assert_int_equal(ask(f, VFIO_USER_REGION_READ, &m, 16), 0);
	assert_memory_equal(f->body + 16, m.data, 4);
}

static void unknown_commands_are_refused(void **state)
{
	static const uint16_t cmd[] = {
		0,    VFIO_USER_GET_REGION_IO_FDS, 11, 12, 14, 17, 18, 19, 99,
		65535
	};
	struct fix *f = *state;
	uint8_t zero[64] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cmd); i++)
		assert_int_equal(ask(f, cmd[i], zero, sizeof(zero)), -ENOTSUP);
	assert_int_equal(ask(f, VFIO_USER_RESET, NULL, 0), 0);
	assert_int_equal(f->d.resets, 1);
}

/* --- memory ------------------------------------------------------------- */

static void mapped_memory_is_the_clients(void **state)
{
	struct fix *f = *state;
	int fd = memory(4 * PAGE_SIZE);
	uint8_t *mine = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED, fd, 0);
	uint8_t *p;

	assert_int_equal(map(f, 0x10000, 2 * PAGE_SIZE, 3, fd, PAGE_SIZE), 0);
	p = find(f, 0x10010, 16, PDEV_READ | PDEV_WRITE);
	assert_non_null(p);
	memcpy(p, "pagurus", 8);
	assert_string_equal((char *)mine + PAGE_SIZE + 0x10, "pagurus");

	/* Up to the last byte and no further. */
	assert_non_null(find(f, 0x10000, 2 * PAGE_SIZE, PDEV_READ));
	assert_non_null(find(f, 0x11fff, 1, PDEV_READ));
	assert_null(find(f, 0x11fff, 2, PDEV_READ));
	assert_null(find(f, 0xffff, 1, PDEV_READ));
	assert_null(find(f, 0x12000, 1, PDEV_READ));
	assert_null(find(f, 0x10000, UINT64_MAX, PDEV_READ));
	assert_null(find(f, UINT64_MAX, 1, PDEV_READ));
	assert_null(find(f, 0x10000, 0, PDEV_READ));
	assert_int_equal(counts(f).faults, 6);

	assert_int_equal(f->d.maps, 1);
	assert_int_equal(unmap(f, 0x10000, PAGE_SIZE), -ENOENT);
	assert_int_equal(unmap(f, 0x10000, 2 * PAGE_SIZE), 0);
	assert_int_equal(f->d.unmaps, 1);
	assert_null(find(f, 0x10010, 16, PDEV_READ));
	munmap(mine, 4 * PAGE_SIZE);
	close(fd);
}

static void mappings_are_checked(void **state)
{
	struct fix *f = *state;
	int fd = memory(4 * PAGE_SIZE), dev = open("/dev/zero", O_RDWR);
	const uint64_t pg = PAGE_SIZE;

	assert_int_equal(map(f, 0x10000, pg, 3, fd, 4 * pg), -EINVAL);
	assert_int_equal(map(f, 0x10000, 5 * pg, 3, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg, 3, fd, 0x10), -EINVAL);
	assert_int_equal(map(f, 0x10010, pg, 3, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg - 1, 3, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, 0, 3, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg, 0, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg, 7, fd, 0), -EINVAL);
	assert_int_equal(map(f, -pg, 2 * pg, 3, fd, 0), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg, 3, fd, ~0ull - pg + 1), -EINVAL);
	assert_int_equal(map(f, 0x10000, pg, 3, dev, 0), -EINVAL);
	assert_int_equal(map(f, 0, 1ull << 62, 3, -1, 0), -ENOSPC);
	assert_int_equal(map(f, -pg, pg, 3, fd, 0), 0); /* the last page */
	assert_non_null(find(f, UINT64_MAX, 1, PDEV_READ));

	assert_int_equal(map(f, 0x10000, 2 * pg, 1, fd, 0), 0);
	assert_int_equal(map(f, 0x10000, 2 * pg, 3, fd, 0), -EEXIST);
	assert_int_equal(map(f, 0x11000, pg, 3, fd, 0), -EEXIST);
	assert_int_equal(map(f, 0xf000, 2 * pg, 3, fd, 0), -EEXIST);
	assert_int_equal(map(f, 0xf000, 4 * pg, 3, fd, 0), -EEXIST);
	assert_int_equal(map(f, 0xf000, pg, 3, fd, 0), 0);
	assert_int_equal(map(f, 0x12000, pg, 3, fd, 0), 0);
	/* Each is its own: no access runs from one into the next. */
	assert_null(find(f, 0xfff0, 32, PDEV_READ));
	assert_null(find(f, 0x10000, 1, PDEV_WRITE)); /* readable only */
	close(fd);
	close(dev);
}

static void table_is_bounded(void **state)
{
	struct fix *f = *state;

	for (uint64_t i = 0; i < VFU_MAPS_MAX; i++)
		assert_int_equal(map(f, i * PAGE_SIZE, PAGE_SIZE, 3, -1, 0), 0);
	assert_int_equal(map(f, 1ull << 40, PAGE_SIZE, 3, -1, 0), -ENOSPC);
	assert_int_equal(unmap(f, 17 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(map(f, 17 * PAGE_SIZE, PAGE_SIZE, 3, -1, 0), 0);
}

static void memory_taken_away_kills_nobody(void **state)
{
	struct fix *f = *state;
	int fd = memory(2 * PAGE_SIZE);
	volatile uint8_t *p;

	assert_int_equal(map(f, 0, 2 * PAGE_SIZE, 3, fd, 0), 0);
	p = find(f, 0, 2 * PAGE_SIZE, PDEV_READ | PDEV_WRITE);
	p[PAGE_SIZE] = 5;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(p[PAGE_SIZE], 0);
	p[0] = 7;
	assert_int_equal(p[0], 7);
	assert_int_equal(unmap(f, 0, 2 * PAGE_SIZE), 0);
	assert_int_equal(counts(f).holes, 1);
	close(fd);
}

static void *stay_inside(void *arg)
{
	struct fix *f = arg;
	volatile uint8_t *p;

	vfu_enter(f->d.s);
	p = vfu_dma_find(f->d.s, 0, 1, PDEV_WRITE);
	__atomic_store_n(&f->d.reads, 1, __ATOMIC_RELEASE); /* we are in */
	for (int i = 0; i < 20; i++) {
		usleep(1000);
		p[0]++; /* crashes if it was unmapped under us */
	}
	__atomic_store_n(&f->d.reads, 2, __ATOMIC_RELEASE);
	vfu_leave(f->d.s);
	return NULL;
}

static void unmap_waits_for_the_worker(void **state)
{
	struct fix *f = *state;
	int fd = memory(PAGE_SIZE);
	pthread_t t;

	assert_int_equal(map(f, 0, PAGE_SIZE, 3, fd, 0), 0);
	pthread_create(&t, NULL, stay_inside, f);
	while (__atomic_load_n(&f->d.reads, __ATOMIC_ACQUIRE) == 0)
		usleep(100);
	assert_int_equal(unmap(f, 0, PAGE_SIZE), 0);
	assert_int_equal(f->d.reads, 2);
	pthread_join(t, NULL);
	close(fd);
}

/* --- memory by messages ------------------------------------------------- */

struct job {
	struct fix *f;
	uint8_t buf[64];
	int ret;
	bool write;
	_Atomic bool done;
};

static void *access_by_message(void *arg)
{
	struct job *j = arg;

	j->ret = j->write ? vfu_dma_write(j->f->d.s, 0x1000, j->buf, 64)
			  : vfu_dma_read(j->f->d.s, 0x1000, j->buf, 64);
	j->done = true;
	return NULL;
}

static void memory_without_a_file(void **state)
{
	struct fix *f = *state;
	struct job j = { .f = f };
	struct vfio_user_dma_rw rw;
	uint8_t reply[16 + 64];
	pthread_t t;

	assert_int_equal(map(f, 0x1000, PAGE_SIZE, 3, -1, 0), 0);
	assert_null(find(f, 0x1000, 1, PDEV_READ));
	assert_int_equal(vfu_dma_read(f->d.s, 0x1000, j.buf, 4), -EDEADLK);

	for (int i = 0; i < 2; i++) {
		j.write = i == 1;
		j.done = false;
		pthread_create(&t, NULL, access_by_message, &j);
		while (poll(&(struct pollfd){ .fd = f->fd, .events = POLLIN },
			    1, 0) == 0)
			loop_once(f->l, 10);
		assert_true(recv_reply(f));
		assert_int_equal(f->hdr.flags, VFIO_USER_F_COMMAND);
		assert_int_equal(f->hdr.cmd,
				 i ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ);
		memcpy(&rw, f->body, sizeof(rw));
		assert_int_equal(rw.addr, 0x1000);
		assert_int_equal(rw.count, 64);
		memcpy(reply, &rw, sizeof(rw));
		memset(reply + 16, 0x5a, 64);
		if (i)
			assert_int_equal(f->body[16 + 63], 0x5a);
		f->id = (uint16_t)(f->hdr.id - 1);
		/* One nobody asked for, then the right one. */
		send_raw(f, VFIO_USER_RESET, VFIO_USER_F_REPLY, NULL, 0, NULL,
			 0);
		f->id = (uint16_t)(f->hdr.id - 1);
		send_raw(f, f->hdr.cmd, VFIO_USER_F_REPLY, reply,
			 i ? 16 : sizeof(reply), NULL, 0);
		while (!j.done)
			loop_once(f->l, 10);
		pthread_join(t, NULL);
		assert_int_equal(j.ret, 0);
		assert_int_equal(j.buf[63], 0x5a);
	}
	/* A client that goes lets the worker go too. */
	j.done = false;
	pthread_create(&t, NULL, access_by_message, &j);
	while (poll(&(struct pollfd){ .fd = f->fd, .events = POLLIN }, 1, 0) ==
	       0)
		loop_once(f->l, 10);
	close_fd(&f->fd);
	while (!j.done)
		loop_once(f->l, 10);
	pthread_join(t, NULL);
	assert_int_equal(j.ret, -EPIPE);
}

/* --- the log ------------------------------------------------------------ */

static int feature(struct fix *f, uint32_t flags, const void *p, size_t len)
{
	uint8_t m[256];
	uint32_t h[2] = { sizeof(m), flags };

	memcpy(m, h, 8);
	if (len)
		memcpy(m + 8, p, len);
	return ask(f, VFIO_USER_FEATURE, m, 8 + len);
}

static uint64_t report(struct fix *f, uint64_t iova, uint64_t len,
		       uint64_t page)
{
	uint64_t q[3] = { iova, len, page }, bits;

	assert_int_equal(feature(f,
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT |
					 VFIO_DEVICE_FEATURE_GET,
				 q, sizeof(q)),
			 0);
	assert_int_equal(f->len, 8 + 24 + 8);
	memcpy(&bits, f->body + 32, 8);
	return bits;
}

static void writes_are_logged(void **state)
{
	const uint32_t set = VFIO_DEVICE_FEATURE_SET;
	const uint32_t start = VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
	struct fix *f = *state;
	uint64_t s[2] = { 4096, 0 }, q[3] = { 0, 64 * PAGE_SIZE, PAGE_SIZE };
	int fd = memory(64 * PAGE_SIZE);

	assert_int_equal(feature(f, start | VFIO_DEVICE_FEATURE_PROBE | set,
				 NULL, 0),
			 0);
	assert_int_equal(feature(f, 1 | VFIO_DEVICE_FEATURE_PROBE, NULL, 0),
			 -ENOTTY);
	assert_int_equal(feature(f,
				 VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT |
					 VFIO_DEVICE_FEATURE_GET,
				 q, sizeof(q)),
			 -EINVAL); /* not started */
	assert_int_equal(map(f, 0, 32 * PAGE_SIZE, 3, fd, 0), 0);
	s[0] = 65536;
	assert_int_equal(feature(f, start | set, s, sizeof(s)), 0);
	memcpy(&s[0], f->body + 8, 8);
	assert_int_equal(s[0], PAGE_SIZE); /* what it really tracks */
	/* Mapped while it runs: logged as well. */
	assert_int_equal(map(f, 32 * PAGE_SIZE, 32 * PAGE_SIZE, 3, fd,
			     32 * PAGE_SIZE),
			 0);
	vfu_enter(f->d.s);
	vfu_dma_mark(f->d.s, 3 * PAGE_SIZE + 4000, 200);
	vfu_dma_mark(f->d.s, 32 * PAGE_SIZE - 1, 2);
	vfu_dma_mark(f->d.s, 64 * PAGE_SIZE - 1, 1000);
	vfu_leave(f->d.s);
	assert_true(report(f, 0, 4 * PAGE_SIZE, PAGE_SIZE) == 0x8);
	assert_true(report(f, 0, 64 * PAGE_SIZE, PAGE_SIZE) ==
		    0x8000000180000010);
	assert_true(report(f, 0, 64 * PAGE_SIZE, PAGE_SIZE) == 0);
	vfu_enter(f->d.s);
	vfu_dma_mark(f->d.s, 5 * PAGE_SIZE, 1);
	vfu_leave(f->d.s);
	assert_true(report(f, 0, 64 * PAGE_SIZE, 4 * PAGE_SIZE) == 2);

	q[2] = 2048;
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 24),
			 -EINVAL);
	q[2] = 3 * PAGE_SIZE;
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 24),
			 -EINVAL);
	q[2] = PAGE_SIZE;
	q[1] = 0;
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 24),
			 -EINVAL);
	q[1] = 1ull << 60;
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 24),
			 -EINVAL);
	q[0] = UINT64_MAX;
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 24),
			 -EINVAL);
	assert_int_equal(feature(f, 8 | VFIO_DEVICE_FEATURE_GET, q, 23),
			 -EINVAL);
	assert_int_equal(feature(f, 7 | set, NULL, 0), 0);
	assert_int_equal(feature(f, 7 | set, NULL, 0), -EINVAL);
	s[1] = 1000; /* more ranges than came */
	assert_int_equal(feature(f, start | set, s, sizeof(s)), -EINVAL);
	close(fd);
}

/* --- interrupts --------------------------------------------------------- */

static int set_irqs(struct fix *f, uint32_t flags, uint32_t index,
		    uint32_t start, uint32_t count, const int *fds, size_t nfds)
{
	uint32_t q[5] = { 20, flags, index, start, count };

	return ask_fds(f, VFIO_USER_SET_IRQS, q, 20, fds, nfds);
}

static uint64_t signals(int fd)
{
	eventfd_t n = 0;

	return eventfd_read(fd, &n) == 0 ? n : 0;
}

static bool raise_irq(struct fix *f, unsigned int index, unsigned int vector)
{
	bool ret;

	vfu_enter(f->d.s);
	ret = vfu_irq_raise(f->d.s, index, vector);
	vfu_leave(f->d.s);
	return ret;
}

#define ARM  (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NONE (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

static void vectors_are_armed_and_disarmed(void **state)
{
	struct fix *f = *state;
	int fd[3];

	for (int i = 0; i < 3; i++)
		fd[i] = eventfd(0, EFD_NONBLOCK);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 3, fd, 3), 0);
	assert_int_equal(f->d.irqs, 1);
	assert_true(raise_irq(f, PDEV_MSIX, 1));
	assert_int_equal(signals(fd[0]), 0);
	assert_int_equal(signals(fd[1]), 1);
	/* The client's own trigger. */
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 2, 1, NULL, 0), 0);
	assert_int_equal(signals(fd[2]), 1);
	/* Without descriptors: disarm those. */
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 1, 1, NULL, 0), 0);
	assert_false(raise_irq(f, PDEV_MSIX, 1));
	assert_true(raise_irq(f, PDEV_MSIX, 2));
	assert_int_equal(signals(fd[2]), 1);
	/* A full eventfd is signal enough, and nobody blocks on it. */
	assert_int_equal(eventfd_write(fd[2], UINT64_MAX - 1), 0);
	fcntl(fd[2], F_SETFL, 0);
	assert_true(raise_irq(f, PDEV_MSIX, 2));
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 0, 0, NULL, 0), 0);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	assert_false(raise_irq(f, PDEV_MSIX, 3));
	assert_false(raise_irq(f, 77, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

static void bad_irq_sets_change_nothing(void **state)
{
	struct fix *f = *state;
	int fd[3] = { eventfd(0, EFD_NONBLOCK), open("/dev/null", O_RDWR),
		      eventfd(0, EFD_NONBLOCK) };

	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 2, fd, 2), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 2, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 0, fd, 0), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 3, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 2, UINT32_MAX, fd, 1),
			 -EINVAL);
	assert_int_equal(set_irqs(f, ARM, 5, 0, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 0, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, NONE | ARM, PDEV_MSIX, 0, 1, fd, 1),
			 -EINVAL);
	assert_int_equal(set_irqs(f, VFIO_IRQ_SET_DATA_NONE, PDEV_MSIX, 0, 1,
				  NULL, 0),
			 -EINVAL);
	assert_int_equal(set_irqs(f, 1 << 8 | NONE, PDEV_MSIX, 0, 1, NULL, 0),
			 -EINVAL);
	assert_int_equal(set_irqs(f,
				  VFIO_IRQ_SET_DATA_BOOL |
					  VFIO_IRQ_SET_ACTION_TRIGGER,
				  PDEV_MSIX, 0, 3, NULL, 0),
			 -EINVAL); /* no bools came */
	assert_int_equal(
		set_irqs(f, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK,
			 PDEV_MSIX, 0, 1, NULL, 0),
		-EINVAL);
	assert_int_equal(f->d.irqs, 0);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

static void intx_stays_quiet_until_unmasked(void **state)
{
	const uint32_t unmask =
		VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
	struct fix *f = *state;
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(set_irqs(f, ARM, PDEV_INTX, 0, 1, &fd, 1), 0);
	raise_irq(f, PDEV_INTX, 0);
	raise_irq(f, PDEV_INTX, 0);
	assert_int_equal(signals(fd), 1);
	assert_int_equal(set_irqs(f, unmask, PDEV_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(signals(fd), 1); /* the one kept back */
	assert_int_equal(set_irqs(f, unmask, PDEV_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(signals(fd), 0);
	raise_irq(f, PDEV_INTX, 0);
	assert_int_equal(signals(fd), 1);
	close(fd);
}

/* --- hostile streams ---------------------------------------------------- */

/* One of each command, with descriptors where it may have some. */
static size_t script(uint8_t *p, size_t *at)
{
	static const struct {
		uint16_t cmd;
		uint32_t w[16];
		size_t len;
	} m[] = {
		{ VFIO_USER_DMA_MAP, { 32, 3, 0, 0, 0, 0, 0, 0 }, 32 },
		{ VFIO_USER_GET_INFO, { 16 }, 16 },
		{ VFIO_USER_GET_REGION_INFO, { 64 }, 32 },
		{ VFIO_USER_GET_IRQ_INFO, { 16, 0, 2 }, 16 },
		{ VFIO_USER_SET_IRQS, { 20, ARM, 2, 0, 1 }, 20 },
		{ VFIO_USER_REGION_READ, { 0, 0, 0, 64 }, 16 },
		{ VFIO_USER_REGION_WRITE, { 0, 0, 0, 4, 7 }, 20 },
		{ VFIO_USER_REGION_WRITE_MULTI, { 1, 0, 0, 0, 0, 4, 1 }, 32 },
		{ VFIO_USER_FEATURE, { 64, 6 | 1 << 17, 4096 }, 24 },
		{ VFIO_USER_RESET, { 0 }, 0 },
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(m); i++) {
		struct vfio_user_hdr h = { .cmd = m[i].cmd,
					   .size = (uint32_t)(16 + m[i].len) };

		at[i] = n;
		memcpy(p + n, &h, sizeof(h));
		memcpy(p + n + 16, m[i].w, m[i].len);
		if (m[i].cmd == VFIO_USER_DMA_MAP)
			memcpy(p + n + 16 + 24, &(uint64_t){ PAGE_SIZE }, 8);
		n += h.size;
	}
	return n;
}

static void cut_at_every_byte(void **state)
{
	struct fix *f = *state;
	uint8_t all[1024];
	size_t at[16], len = script(all, at);
	int ram = memory(PAGE_SIZE), ev = eventfd(0, 0);
	unsigned int fds = 0;

	for (size_t cut = 0; cut <= len; cut++) {
		/* Descriptors travel with the first bytes, whatever they are */
		if (cut)
			sock_send(f->fd, all, cut, (int[]){ ram, ev },
				  1 + cut % 2);
		close_fd(&f->fd);
		pump(f);
		plug(f);
		hello(f);
	}
	assert_int_equal(f->d.attached, len + 2);
	assert_int_equal(f->d.detached, len + 1);
	assert_int_equal(f->d.unmaps, f->d.maps);
	/* The same in single bytes: nothing depends on how it is cut. */
	for (size_t i = 0; i < len; i++) {
		int fd = i == at[4] ? ev : ram;

		assert_int_equal(sock_send(f->fd, all + i, 1, &fd,
					   i == at[0] || i == at[4]),
				 0);
		loop_once(f->l, 0);
	}
	for (size_t i = 0; i < 10; i++) {
		assert_true(recv_reply(f));
		assert_false(f->hdr.flags & VFIO_USER_F_ERROR);
	}
	/* No descriptor of all those stayed behind. */
	close(ram);
	close(ev);
	close_fd(&f->fd);
	pump(f);
	for (int i = 0; i < 256; i++)
		fds += fcntl(i, F_GETFD) >= 0;
	assert_true(fds < 32);
}

static void impossible_sizes_end_the_connection(void **state)
{
	static const uint32_t size[] = { 0, 1, 15, 17 + VFIO_USER_PAYLOAD_MAX,
					 UINT32_MAX };
	struct fix *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(size); i++) {
		struct vfio_user_hdr h = { .cmd = VFIO_USER_RESET,
					   .size = size[i] };

		sock_send(f->fd, &h, sizeof(h), NULL, 0);
		pump(f);
		assert_false(recv_reply(f));
		close_fd(&f->fd);
		plug(f);
		hello(f);
	}
	assert_int_equal(counts(f).broken, ARRAY_SIZE(size));
}

static void too_many_descriptors_are_refused(void **state)
{
	struct fix *f = *state;
	int fd = memory(PAGE_SIZE), two[2] = { fd, fd };
	struct vfio_user_dma_map m = { .argsz = 32, .flags = 3, .size = 4096 };

	assert_int_equal(ask_fds(f, VFIO_USER_DMA_MAP, &m, 32, two, 2),
			 -EINVAL);
	assert_int_equal(ask_fds(f, VFIO_USER_RESET, NULL, 0, two, 1), -EINVAL);
	assert_int_equal(f->d.resets, 0);
	close(fd);
}

static void a_client_that_never_reads(void **state)
{
	struct fix *f = *state;
	struct {
		struct vfio_user_hdr h;
		struct vfio_user_region_rw rw;
	} m = { { .cmd = VFIO_USER_REGION_READ, .size = 32 },
		{ 0, PDEV_BAR0, 8192 } };
	unsigned int sent = 0, quiet = 0, replies = 0;

	/* Until nothing moves any more. */
	while (quiet < 100) {
		ssize_t n = sock_try_send(f->fd, &m, sizeof(m), NULL, 0);

		quiet = n == sizeof(m) ? 0 : quiet + 1;
		sent += n == sizeof(m);
		loop_once(f->l, 0);
		assert_true(sent < 100000);
	}
	/* It served only what its own queue and the socket hold. */
	assert_true(f->d.reads < sent);
	assert_true(f->d.reads * 8192ull < 6u << 20);
	/* And when the client reads, everything comes, in order. */
	while (replies < sent) {
		if (poll(&(struct pollfd){ .fd = f->fd, .events = POLLIN }, 1,
			 0) == 1) {
			assert_true(recv_reply(f));
			assert_int_equal(f->len, 16 + 8192);
			replies++;
		}
		loop_once(f->l, 0);
	}
	assert_int_equal(f->d.reads, sent);
}

static void a_client_that_never_reads_goes(void **state)
{
	struct fix *f = *state;
	struct {
		struct vfio_user_hdr h;
		struct vfio_user_region_rw rw;
	} m = { { .cmd = VFIO_USER_REGION_READ, .size = 32 },
		{ 0, PDEV_BAR0, 8192 } };

	for (int i = 0; i < 5000; i++) {
		sock_try_send(f->fd, &m, sizeof(m), NULL, 0);
		loop_once(f->l, 0);
	}
	close_fd(&f->fd);
	pump(f);
	assert_int_equal(f->d.detached, 1);
	plug(f);
	hello(f);
}

/* --- connections -------------------------------------------------------- */

static void one_client_at_a_time(void **state)
{
	char dir[] = "/tmp/vfu-XXXXXX", path[64], c;
	struct loop *l;
	struct testdev d;
	int a, b;

	log_set_sink(no_log, NULL);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	loop_create(&l);
	testdev_open(&d, l, path);
	a = sock_connect(path, SOCK_STREAM, NULL);
	loop_once(l, 0);
	b = sock_connect(path, SOCK_STREAM, NULL);
	loop_once(l, 0);
	assert_int_equal(read(b, &c, 1), 0); /* turned away */
	close(b);
	/* The first goes; the next comes before the loop has looked. */
	close(a);
	b = sock_connect(path, SOCK_STREAM, NULL);
	loop_once(l, 0);
	loop_once(l, 0);
	assert_int_equal(recv(b, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(b);
	testdev_close(&d);
	assert_int_equal(access(path, F_OK), -1);
	loop_destroy(l);
	rmdir(dir);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup_hello, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(version_reply_is_a_subset,
						setup, teardown),
		cmocka_unit_test_setup_teardown(version_without_data_is_fine,
						setup, teardown),
		cmocka_unit_test_setup_teardown(no_version_no_service, setup,
						teardown),
		T(info_layouts),
		T(region_info_with_sparse_areas),
		T(reads_and_writes),
		T(accesses_outside_never_reach_the_device),
		T(many_writes_in_one),
		T(no_reply_means_none),
		T(unknown_commands_are_refused),
		T(mapped_memory_is_the_clients),
		T(mappings_are_checked),
		T(table_is_bounded),
		T(memory_taken_away_kills_nobody),
		T(unmap_waits_for_the_worker),
		T(memory_without_a_file),
		T(writes_are_logged),
		T(vectors_are_armed_and_disarmed),
		T(bad_irq_sets_change_nothing),
		T(intx_stays_quiet_until_unmasked),
		T(cut_at_every_byte),
		T(impossible_sizes_end_the_connection),
		T(too_many_descriptors_are_refused),
		T(a_client_that_never_reads),
		T(a_client_that_never_reads_goes),
		cmocka_unit_test(one_client_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
