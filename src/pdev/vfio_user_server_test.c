#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "pdev/vfio_user_hand.h"

/* --- what is agreed ----------------------------------------------------- */

static void version_reply_is_a_subset(void **state)
{
	struct hand *f = *state;
	static const uint8_t head[4] = { 0 };

	assert_int_equal(f->d.attached, 0);
	hand_hello(f);
	assert_memory_equal(f->body, head, 4);
	assert_int_equal(f->body[f->len - 1], 0);
	assert_string_equal((char *)f->body + 4,
			    "{\"capabilities\":{\"max_msg_fds\":16,"
			    "\"write_multiple\":true}}");
	assert_int_equal(f->d.attached, 1);
	/* A second one is refused, and changes nothing. */
	assert_int_equal(hand_ask(f, VFIO_USER_VERSION, HAND_HELLO,
				  sizeof(HAND_HELLO)),
			 -EINVAL);
	assert_int_equal(f->d.attached, 1);
}

static void version_without_data_is_fine(void **state)
{
	struct hand *f = *state;

	assert_int_equal(hand_ask(f, VFIO_USER_VERSION, "\0\0\5\0", 4), 0);
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
	struct hand *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(hand_ask(f, bad[i].cmd, bad[i].p, bad[i].len) < 0);
		assert_false(hand_recv_reply(f));
		close_fd(&f->fd);
		hand_plug(f);
	}
	assert_int_equal(hand_counts(f).broken, ARRAY_SIZE(bad));
	assert_int_equal(f->d.attached, 0);
	assert_int_equal(f->d.detached, 0);
	hand_hello(f);
}

/* --- what the device says ----------------------------------------------- */

static void info_layouts(void **state)
{
	struct hand *f = *state;
	uint32_t q[4] = { 16 };
	static const uint32_t info[4] = { 16, 3, 9, 5 };
	static const uint32_t irq[4] = { 16, 1, 2, 3 };
	static const uint32_t intx[4] = { 16, 7, 0, 1 };

	assert_int_equal(hand_ask(f, VFIO_USER_GET_INFO, q, 16), 0);
	assert_memory_equal(f->body, info, 16);
	q[2] = PDEV_MSIX;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), 0);
	assert_memory_equal(f->body, irq, 16);
	q[2] = PDEV_INTX;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), 0);
	assert_memory_equal(f->body, intx, 16);
	q[2] = 5;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_IRQ_INFO, q, 16), -EINVAL);
	q[0] = 15;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_INFO, q, 16), -EINVAL);
	assert_int_equal(hand_ask(f, VFIO_USER_GET_INFO, q, 12), -EINVAL);
}

static void region_info_with_sparse_areas(void **state)
{
	struct hand *f = *state;
	uint32_t q[8] = { 64, 0, PDEV_BAR0 };
	/* argsz flags index cap | size offset || id+version next n res | off len */
	static const uint32_t full[16] = { 64,	 0xf, 0,       32, 8192, 0,
					   4096, 0,   0x10001, 0,  1,	 0,
					   4096, 0,   4096,    0 };
	static const uint32_t config[8] = { 32, 3, PDEV_CONFIG, 0, 4096 };
	int a, b;

	assert_int_equal(hand_ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 64);
	assert_memory_equal(f->body, full, 64);
	assert_true(f->got_fd >= 0);
	/* It is the device's memory, and cannot shrink under the client. */
	a = ftruncate(f->got_fd, 0);
	b = ftruncate(f->d.fd, 0);
	assert_int_equal(a, -1);
	assert_int_equal(b, -1);

	q[0] = 32; /* no room: told how much it takes */
	assert_int_equal(hand_ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 32);
	assert_int_equal(((uint32_t *)(void *)f->body)[0], 64);
	assert_true(f->got_fd < 0);

	q[2] = PDEV_CONFIG;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_REGION_INFO, q, 32), 0);
	assert_int_equal(f->len, 32);
	assert_memory_equal(f->body, config, 32);
	q[2] = 9;
	assert_int_equal(hand_ask(f, VFIO_USER_GET_REGION_INFO, q, 32),
			 -EINVAL);
}

/* --- regions ------------------------------------------------------------ */

static void reads_and_writes(void **state)
{
	struct hand *f = *state;
	struct {
		struct vfio_user_region_rw h;
		uint8_t data[4];
	} m = { { .offset = 0x20, .region = PDEV_BAR0, .count = 4 },
		{ 1, 2, 3, 4 } };

	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, &m, 20), 0);
	assert_int_equal(f->len, 16);
	assert_memory_equal(f->body, &m, 16);
	assert_memory_equal(f->d.bar + 0x20, m.data, 4);
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_READ, &m, 16), 0);
	assert_int_equal(f->len, 20);
	assert_memory_equal(f->body, &m, 20);
	/* The device's own refusal reaches the client. */
	m.h.offset = 0x100;
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, &m, 20), -EIO);
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
	struct hand *f = *state;
	uint8_t *msg = calloc(1, 16 + VFU_XFER_MAX + 1);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vfio_user_region_rw rw = { bad[i].off, bad[i].region,
						  bad[i].count };

		memcpy(msg, &rw, sizeof(rw));
		assert_int_equal(hand_ask(f, VFIO_USER_REGION_READ, msg, 16),
				 bad[i].err);
		if (bad[i].count > 4)
			continue;
		assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, msg,
					  16 + bad[i].count),
				 bad[i].err);
	}
	/* A count that is not what came. */
	memcpy(msg, &(struct vfio_user_region_rw){ 0, PDEV_BAR0, 4 }, 16);
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, msg, 19), -EINVAL);
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, msg, 21), -EINVAL);
	memcpy(msg, &(struct vfio_user_region_rw){ 0, PDEV_ROM, 4 }, 16);
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE, msg, 20), -EPERM);
	assert_int_equal(f->d.reads + f->d.writes, 0);
	free(msg);
}

static void many_writes_in_one(void **state)
{
	struct hand *f = *state;
	struct {
		uint64_t n;
		struct vfio_user_write_one w[3];
	} m = { 3,
		{ { 0x10, 0, 4, { 1, 1, 1, 1 } },
		  { 0x14, 0, 8, { 2, 2, 2, 2, 2, 2, 2, 2 } },
		  { 0x100, 0, 4, { 3 } } } };
	uint64_t done;

	assert_int_equal(
		hand_ask(f, VFIO_USER_REGION_WRITE_MULTI, &m, sizeof(m)), 0);
	memcpy(&done, f->body, 8);
	assert_int_equal(done, 2); /* the third is refused */
	assert_memory_equal(f->d.bar + 0x10, "\1\1\1\1\2\2\2\2\2\2\2\2", 12);
	m.w[0].count = 9;
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE_MULTI, &m,
				  sizeof(m)),
			 -EINVAL);
	m.n = 4;
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE_MULTI, &m,
				  sizeof(m)),
			 -EINVAL);
	m.n = 1ull << 61;
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_WRITE_MULTI, &m,
				  sizeof(m)),
			 -EINVAL);
}

static void no_reply_means_none(void **state)
{
	struct hand *f = *state;
	struct {
		struct vfio_user_region_rw h;
		uint8_t data[4];
	} m = { { 0x20, PDEV_BAR0, 4 }, { 9, 9, 9, 9 } };

	hand_send_raw(f, VFIO_USER_REGION_WRITE, VFIO_USER_F_NO_REPLY, &m, 20,
		      NULL, 0);
	m.h.region = 77; /* an error needs no answer either */
	hand_send_raw(f, VFIO_USER_REGION_WRITE, VFIO_USER_F_NO_REPLY, &m, 20,
		      NULL, 0);
	m.h.region = PDEV_BAR0;
	assert_int_equal(hand_ask(f, VFIO_USER_REGION_READ, &m, 16), 0);
	assert_memory_equal(f->body + 16, m.data, 4);
}

static void unknown_commands_are_refused(void **state)
{
	static const uint16_t cmd[] = {
		0,    VFIO_USER_GET_REGION_IO_FDS, 11, 12, 14, 17, 18, 19, 99,
		65535
	};
	struct hand *f = *state;
	uint8_t zero[64] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cmd); i++)
		assert_int_equal(hand_ask(f, cmd[i], zero, sizeof(zero)),
				 -ENOTSUP);
	assert_int_equal(hand_ask(f, VFIO_USER_RESET, NULL, 0), 0);
	assert_int_equal(f->d.resets, 1);
}

#define T(name) \
	cmocka_unit_test_setup_teardown(name, hand_setup_hello, hand_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(version_reply_is_a_subset,
						hand_setup, hand_teardown),
		cmocka_unit_test_setup_teardown(version_without_data_is_fine,
						hand_setup, hand_teardown),
		cmocka_unit_test_setup_teardown(no_version_no_service,
						hand_setup, hand_teardown),
		T(info_layouts),
		T(region_info_with_sparse_areas),
		T(reads_and_writes),
		T(accesses_outside_never_reach_the_device),
		T(many_writes_in_one),
		T(no_reply_means_none),
		T(unknown_commands_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
