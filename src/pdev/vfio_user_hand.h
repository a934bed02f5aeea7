/*
 * A vfio-user client made by hand, for the tests of the server: what it sends
 * is what the test says.  It is connected to a testdev whose loop turns only
 * when the client pumps.  Whatever cannot be fails the test.
 */
#ifndef PDEV_VFIO_USER_HAND_H
#define PDEV_VFIO_USER_HAND_H

#include "pdev/vfio_user_proto.h"
#include "pdev/vfio_user_testdev.h"

struct hand {
	struct loop *l;
	struct testdev d;
	int fd;
	uint16_t id;
	struct vfio_user_hdr hdr; /* of the last reply */
	uint8_t body[VFIO_USER_PAYLOAD_MAX];
	size_t len;
	int got_fd; /* that came with it, or -1; the hand closes it */
};

#define HAND_HELLO                                      \
	"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8," \
	"\"write_multiple\":true,\"somebody\":\"else\"}}"

/* For cmocka; the second also says hello. */
int hand_setup(void **state);
int hand_setup_hello(void **state);
int hand_teardown(void **state);

void hand_quiet_log(void); /* what hostile clients are told, nobody reads */

/* A new connection; the one before it is the caller's to close. */
void hand_plug(struct hand *f);
void hand_pump(struct hand *f);
void hand_hello(struct hand *f);

void hand_send_raw(struct hand *f, uint16_t cmd, uint32_t flags, const void *p,
		   size_t len, const int *fds, size_t nfds);
/* One reply; false at the end of the stream, fails if there is none. */
bool hand_recv_reply(struct hand *f);
/* Send a command and get its reply: 0 or the error number it carries. */
int hand_ask_fds(struct hand *f, uint16_t cmd, const void *p, size_t len,
		 const int *fds, size_t nfds);
int hand_ask(struct hand *f, uint16_t cmd, const void *p, size_t len);

struct vfu_counts hand_counts(struct hand *f);
int hand_memory(size_t size); /* a memfd, the caller's */

#endif
