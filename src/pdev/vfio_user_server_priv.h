/*
 * The inside of a vfio-user server, shared by its three files: connection
 * (vfio_user_server.c), commands (vfio_user_commands.c) and the server's
 * own requests to the client (vfio_user_dmamsg.c).
 */
#ifndef PDEV_VFIO_USER_SERVER_PRIV_H
#define PDEV_VFIO_USER_SERVER_PRIV_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "base/log.h"
#include "pdev/vfio_user_dma.h"
#include "pdev/vfio_user_msg.h"
#include "pdev/vfio_user_server.h"

/* A message on its way out. */
struct vfu_out {
	struct vfu_out *next;
	size_t len, sent;
	int fd; /* to go with it, -1: none; borrowed */
	/* 'len' counts from here; the payload behind it is aligned too. */
	alignas(16) struct vfio_user_hdr hdr;
	uint8_t payload[];
};

struct vfu_dma_req;

struct vfu_irq {
	int fd;			      /* -1: not armed */
	_Atomic bool masked, pending; /* INTx only */
};

struct vfu_server {
	struct loop *loop;
	char name[64];
	const struct vfu_ops *ops;
	void *opaque;
	struct vfu_region region[VFIO_PCI_NUM_REGIONS]; /* the last is VGA */
	unsigned int nirqs[PDEV_NIRQS];
	struct vfu_irq *irq[PDEV_NIRQS]; /* under dma.lock */
	struct vfu_dma dma;
	struct vfu_counts counts;
	struct log_limit limit;

	char *path; /* of the listening socket, or NULL */
	int lfd;
	struct loop_source *lsrc;

	/* The client; fd -1: none. */
	int fd;
	struct loop_source *src;
	uint32_t events;
	uint64_t since; /* now_ns() of the connection */
	struct vfio_user_rx rx;
	bool agreed; /* on a version */
	struct vfio_user_caps peer;
	int broken; /* -errno: to be ended */
	struct vfu_out *out, **out_last;
	size_t out_bytes;

	/* Our requests to the client. */
	_Atomic pthread_t thread; /* the loop's */
	pthread_mutex_t req_lock;
	pthread_cond_t req_done;
	struct vfu_dma_req *reqs; /* under req_lock */
	unsigned int nreqs;
	uint16_t next_id;
};

/* A command being served. */
struct vfu_cmd {
	const struct vfio_user_hdr *hdr;
	const uint8_t *body;
	size_t len;
	struct vfio_user_rx *rx; /* for its descriptors */
	struct vfu_out *reply;	 /* NULL: header only */
};

/* Payload of 'len' zeroed bytes behind a header; NULL: out of memory. */
struct vfu_out *vfu_out_new(size_t len);
/* Queue it and send what goes; owns it. */
void vfu_out_send(struct vfu_server *s, struct vfu_out *o);

/* Serve one command: 0 with c->reply as it wants it, or -errno. */
int vfu_command(struct vfu_server *s, struct vfu_cmd *c);

int vfu_set_irqs(struct vfu_server *s, struct vfu_cmd *c);
/* Close eventfds: all of an index, or with index PDEV_NIRQS all. */
void vfu_irq_disarm(struct vfu_server *s, unsigned int index);

/* A reply to one of our requests has come, or the connection went. */
void vfu_dma_reply(struct vfu_server *s, const struct vfio_user_rx *rx);
void vfu_dma_req_fail(struct vfu_server *s, int err);
/* The server goes: requests still on their way must not find it. */
void vfu_dma_req_forget(struct vfu_server *s);

#endif
