#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sock.h"
#include "base/util.h"
#include "pdev/vfio_user_hand.h"

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
		{ VFIO_USER_SET_IRQS,
		  { 20, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		    2, 0, 1 },
		  20 },
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
	struct hand *f = *state;
	uint8_t all[1024];
	size_t at[16], len = script(all, at);
	int ram = hand_memory(PAGE_SIZE), ev = eventfd(0, 0);
	unsigned int fds = 0;

	for (size_t cut = 0; cut <= len; cut++) {
		/* Descriptors travel with the first bytes, whatever they are */
		if (cut)
			sock_send(f->fd, all, cut, (int[]){ ram, ev },
				  1 + cut % 2);
		close_fd(&f->fd);
		hand_pump(f);
		hand_plug(f);
		hand_hello(f);
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
		assert_true(hand_recv_reply(f));
		assert_false(f->hdr.flags & VFIO_USER_F_ERROR);
	}
	/* No descriptor of all those stayed behind. */
	close(ram);
	close(ev);
	close_fd(&f->fd);
	hand_pump(f);
	for (int i = 0; i < 256; i++)
		fds += fcntl(i, F_GETFD) >= 0;
	assert_true(fds < 32);
}

static void impossible_sizes_end_the_connection(void **state)
{
	static const uint32_t size[] = { 0, 1, 15, 17 + VFIO_USER_PAYLOAD_MAX,
					 UINT32_MAX };
	struct hand *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(size); i++) {
		struct vfio_user_hdr h = { .cmd = VFIO_USER_RESET,
					   .size = size[i] };

		sock_send(f->fd, &h, sizeof(h), NULL, 0);
		hand_pump(f);
		assert_false(hand_recv_reply(f));
		close_fd(&f->fd);
		hand_plug(f);
		hand_hello(f);
	}
	assert_int_equal(hand_counts(f).broken, ARRAY_SIZE(size));
}

static void too_many_descriptors_are_refused(void **state)
{
	struct hand *f = *state;
	int fd = hand_memory(PAGE_SIZE), two[2] = { fd, fd };
	struct vfio_user_dma_map m = { .argsz = 32, .flags = 3, .size = 4096 };

	assert_int_equal(hand_ask_fds(f, VFIO_USER_DMA_MAP, &m, 32, two, 2),
			 -EINVAL);
	assert_int_equal(hand_ask_fds(f, VFIO_USER_RESET, NULL, 0, two, 1),
			 -EINVAL);
	assert_int_equal(f->d.resets, 0);
	close(fd);
}

/* The whole BAR, please. */
static const struct {
	struct vfio_user_hdr h;
	struct vfio_user_region_rw rw;
} read_all = { { .cmd = VFIO_USER_REGION_READ, .size = 32 },
	       { 0, PDEV_BAR0, 8192 } };

static void a_client_that_never_reads(void **state)
{
	struct hand *f = *state;
	unsigned int sent = 0, quiet = 0, replies = 0;

	/* Until nothing moves any more. */
	while (quiet < 100) {
		ssize_t n = sock_try_send(f->fd, &read_all, sizeof(read_all),
					  NULL, 0);

		quiet = n == sizeof(read_all) ? 0 : quiet + 1;
		sent += n == sizeof(read_all);
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
			assert_true(hand_recv_reply(f));
			assert_int_equal(f->len, 16 + 8192);
			replies++;
		}
		loop_once(f->l, 0);
	}
	assert_int_equal(f->d.reads, sent);
}

static void a_client_that_never_reads_goes(void **state)
{
	struct hand *f = *state;

	for (int i = 0; i < 5000; i++) {
		sock_try_send(f->fd, &read_all, sizeof(read_all), NULL, 0);
		loop_once(f->l, 0);
	}
	close_fd(&f->fd);
	hand_pump(f);
	assert_int_equal(f->d.detached, 1);
	hand_plug(f);
	hand_hello(f);
}

/* --- connections -------------------------------------------------------- */

static void one_client_at_a_time(void **state)
{
	char dir[] = "/tmp/vfu-XXXXXX", path[64], c;
	struct loop *l;
	struct testdev d;
	int a, b;

	hand_quiet_log();
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

#define T(name) \
	cmocka_unit_test_setup_teardown(name, hand_setup_hello, hand_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(cut_at_every_byte),
		T(impossible_sizes_end_the_connection),
		T(too_many_descriptors_are_refused),
		T(a_client_that_never_reads),
		T(a_client_that_never_reads_goes),
		cmocka_unit_test(one_client_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
