/*
 * The transport of a vfio-user client: calls from any thread, one thread
 * that receives.
 *
 * A call sends a command and waits for the reply with its id.  The receiving
 * thread also answers what the server asks (its DMA messages).  The first
 * thing that goes wrong with the stream, or a call that gets no answer in
 * time, ends the link for good: from then on every call is -ENODEV.
 */
#ifndef PDEV_VFIO_USER_CALL_H
#define PDEV_VFIO_USER_CALL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/log.h"
#include "pdev/vfio_user_msg.h"

/* How long a server may take over one command, reset included. */
#define VFIO_USER_CALL_NS 10000000000ull

struct vfio_user_wait;

struct vfio_user_link {
	int fd;
	char name[128]; /* for the log */
	pthread_t reader;
	struct vfio_user_rx rx; /* the reader's */
	uint64_t call_ns;	/* VFIO_USER_CALL_NS; tests shorten it */

	pthread_mutex_t send_lock; /* one message at a time */
	pthread_mutex_t lock;	   /* what follows */
	pthread_cond_t done;
	struct vfio_user_wait *waits;
	uint16_t next_id;
	bool gone;

	pthread_mutex_t tell_lock; /* held while gone_fn runs */
	bool told;
	void (*gone_fn)(void *opaque);
	void *gone_opaque;

	/*
	 * The server asks; in the reader's thread.  Fills 'reply' (room for
	 * VFIO_USER_PAYLOAD_MAX) and *len, or returns -errno.
	 */
	int (*command)(void *opaque, struct vfio_user_rx *rx, uint8_t *reply,
		       size_t *len);
	void *opaque;
	struct log_limit limit;
};

/* A command: 'head', then 'data', with descriptors; and where its reply goes. */
struct vfio_user_call {
	uint16_t cmd;
	bool posted; /* no reply wanted, no waiting */
	const void *head, *data;
	size_t head_len, data_len;
	const int *fds;
	size_t nfds;

	void *reply;
	size_t reply_room; /* more than this is a broken reply */
	size_t reply_len;  /* out */
	int reply_fd;	   /* out: -1, or the caller's to close */
};

/* Owns 'fd' if 0.  The fields 'name', 'command' and 'opaque' are set before. */
int vfio_user_link_open(struct vfio_user_link *l, int fd);
/* No call may be under way. */
void vfio_user_link_close(struct vfio_user_link *l);

/*
 * 0, -ENODEV for a link that is gone, -EPROTO for a reply too long, or the
 * error the server answered with.
 */
int vfio_user_do(struct vfio_user_link *l, struct vfio_user_call *c);

/* Ends the link, saying why in the log. */
void vfio_user_give_up(struct vfio_user_link *l, const char *why);

void vfio_user_link_on_gone(struct vfio_user_link *l, void (*fn)(void *opaque),
			    void *opaque);

#endif
