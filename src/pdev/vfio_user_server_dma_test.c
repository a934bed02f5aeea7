#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "pdev/vfio_user_hand.h"

static int map(struct hand *f, uint64_t iova, uint64_t size, uint32_t flags,
	       int fd, uint64_t offset)
{
	struct vfio_user_dma_map m = { .argsz = sizeof(m),
				       .flags = flags,
				       .offset = offset,
				       .addr = iova,
				       .size = size };

	return hand_ask_fds(f, VFIO_USER_DMA_MAP, &m, sizeof(m), &fd, fd >= 0);
}

static int unmap(struct hand *f, uint64_t iova, uint64_t size)
{
	struct vfio_user_dma_unmap u = { .argsz = sizeof(u),
					 .addr = iova,
					 .size = size };
	int ret = hand_ask(f, VFIO_USER_DMA_UNMAP, &u, sizeof(u));

	if (ret == 0) {
		assert_int_equal(f->len, sizeof(u));
		assert_memory_equal(f->body, &u, sizeof(u));
	}
	return ret;
}

static uint8_t *find(struct hand *f, uint64_t iova, uint64_t len, uint32_t prot)
{
	uint8_t *p;

	vfu_enter(f->d.s);
	p = vfu_dma_find(f->d.s, iova, len, prot);
	vfu_leave(f->d.s);
	return p;
}

/* --- memory ------------------------------------------------------------- */

static void mapped_memory_is_the_clients(void **state)
{
	struct hand *f = *state;
	int fd = hand_memory(4 * PAGE_SIZE);
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
	assert_int_equal(hand_counts(f).faults, 6);

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
	struct hand *f = *state;
	int fd = hand_memory(4 * PAGE_SIZE), dev = open("/dev/zero", O_RDWR);
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
	struct hand *f = *state;

	for (uint64_t i = 0; i < VFU_MAPS_MAX; i++)
		assert_int_equal(map(f, i * PAGE_SIZE, PAGE_SIZE, 3, -1, 0), 0);
	assert_int_equal(map(f, 1ull << 40, PAGE_SIZE, 3, -1, 0), -ENOSPC);
	assert_int_equal(unmap(f, 17 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(map(f, 17 * PAGE_SIZE, PAGE_SIZE, 3, -1, 0), 0);
}

static void memory_taken_away_kills_nobody(void **state)
{
	struct hand *f = *state;
	int fd = hand_memory(2 * PAGE_SIZE);
	volatile uint8_t *p;

	assert_int_equal(map(f, 0, 2 * PAGE_SIZE, 3, fd, 0), 0);
	p = find(f, 0, 2 * PAGE_SIZE, PDEV_READ | PDEV_WRITE);
	p[PAGE_SIZE] = 5;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(p[PAGE_SIZE], 0);
	p[0] = 7;
	assert_int_equal(p[0], 7);
	assert_int_equal(unmap(f, 0, 2 * PAGE_SIZE), 0);
	assert_int_equal(hand_counts(f).holes, 1);
	close(fd);
}

static void *stay_inside(void *arg)
{
	struct hand *f = arg;
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
	struct hand *f = *state;
	int fd = hand_memory(PAGE_SIZE);
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
	struct hand *f;
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
	struct hand *f = *state;
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
		assert_true(hand_recv_reply(f));
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
		hand_send_raw(f, VFIO_USER_RESET, VFIO_USER_F_REPLY, NULL, 0,
			      NULL, 0);
		f->id = (uint16_t)(f->hdr.id - 1);
		hand_send_raw(f, f->hdr.cmd, VFIO_USER_F_REPLY, reply,
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

static int feature(struct hand *f, uint32_t flags, const void *p, size_t len)
{
	uint8_t m[256];
	uint32_t h[2] = { sizeof(m), flags };

	memcpy(m, h, 8);
	if (len)
		memcpy(m + 8, p, len);
	return hand_ask(f, VFIO_USER_FEATURE, m, 8 + len);
}

static uint64_t report(struct hand *f, uint64_t iova, uint64_t len,
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
	struct hand *f = *state;
	uint64_t s[2] = { 4096, 0 }, q[3] = { 0, 64 * PAGE_SIZE, PAGE_SIZE };
	int fd = hand_memory(64 * PAGE_SIZE);

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

#define T(name) \
	cmocka_unit_test_setup_teardown(name, hand_setup_hello, hand_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(mapped_memory_is_the_clients),
		T(mappings_are_checked),
		T(table_is_bounded),
		T(memory_taken_away_kills_nobody),
		T(unmap_waits_for_the_worker),
		T(memory_without_a_file),
		T(writes_are_logged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
