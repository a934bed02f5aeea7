#include "pdev/vfio_user_hand.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

void hand_plug(struct hand *f)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
			 0);
	assert_int_equal(vfu_server_adopt(f->d.s, sv[0]), 0);
	f->fd = sv[1];
	fcntl(f->fd, F_SETFL, O_NONBLOCK);
}

void hand_pump(struct hand *f)
{
	for (int i = 0; i < 4; i++)
		loop_once(f->l, 0);
}

void hand_send_raw(struct hand *f, uint16_t cmd, uint32_t flags, const void *p,
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

bool hand_recv_reply(struct hand *f)
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
			hand_pump(f);
			continue;
		}
		assert_true(n > 0);
		got += (size_t)n;
	}
	f->len = want;
	return true;
}

int hand_ask_fds(struct hand *f, uint16_t cmd, const void *p, size_t len,
		 const int *fds, size_t nfds)
{
	hand_send_raw(f, cmd, 0, p, len, fds, nfds);
	hand_pump(f);
	assert_true(hand_recv_reply(f));
	assert_int_equal(f->hdr.id, f->id);
	assert_int_equal(f->hdr.cmd, cmd);
	assert_int_equal(f->hdr.flags & VFIO_USER_F_TYPE, VFIO_USER_F_REPLY);
	if (!(f->hdr.flags & VFIO_USER_F_ERROR))
		return 0;
	assert_int_equal(f->len, 0); /* "must only include the header" */
	return -(int)f->hdr.error;
}

int hand_ask(struct hand *f, uint16_t cmd, const void *p, size_t len)
{
	return hand_ask_fds(f, cmd, p, len, NULL, 0);
}

void hand_hello(struct hand *f)
{
	assert_int_equal(hand_ask(f, VFIO_USER_VERSION, HAND_HELLO,
				  sizeof(HAND_HELLO)),
			 0);
}

void hand_quiet_log(void)
{
	log_set_sink(no_log, NULL);
}

int hand_setup(void **state)
{
	struct hand *f = calloc(1, sizeof(*f));

	hand_quiet_log();
	f->got_fd = -1;
	assert_int_equal(loop_create(&f->l), 0);
	testdev_open(&f->d, f->l, NULL);
	hand_plug(f);
	*state = f;
	return 0;
}

int hand_setup_hello(void **state)
{
	hand_setup(state);
	hand_hello(*state);
	return 0;
}

int hand_teardown(void **state)
{
	struct hand *f = *state;

	close_fd(&f->fd);
	close_fd(&f->got_fd);
	testdev_close(&f->d);
	hand_pump(f);
	loop_destroy(f->l);
	free(f);
	return 0;
}

struct vfu_counts hand_counts(struct hand *f)
{
	struct vfu_counts c;

	vfu_server_counts(f->d.s, &c);
	return c;
}

int hand_memory(size_t size)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}
