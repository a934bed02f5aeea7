/*
 * Messages between `pagurus pf` and the VMs of its VFs: one SOCK_SEQPACKET
 * message each, docs/pf-socket.md has the bytes.
 *
 * Both sides take the other for hostile: a message that is too long, too
 * short, of another version or out of range is -EBADMSG, and the connection
 * ends.
 */
#ifndef IGB_PF_PROTO_H
#define IGB_PF_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "igb/mbx.h"
#include "igb/pf_port.h"

#define PF_PROTO_VERSION 1
#define PF_PROTO_MAX	 1024 /* bytes of any message */

enum pf_msg_type {
	PF_MSG_CLAIM = 1,    /* VM: vf, who */
	PF_MSG_LISTEN = 2,   /* VM: on */
	PF_MSG_ASK = 3,	     /* VM: words; answered by VERDICT */
	PF_MSG_RESTORE = 4,  /* VM: state; answered by VERDICT */
	PF_MSG_ANNOUNCE = 5, /* VM: tell the switches; not answered */
	PF_MSG_TAGS = 6,     /* VM: leave VLAN tags in frames; not answered */
	PF_MSG_CLAIMED = 16, /* answer to CLAIM */
	PF_MSG_VERDICT = 17,
	PF_MSG_EVENT = 18, /* the callback */
	PF_MSG_ERROR = 19, /* answer to what could not be done */
};

struct pf_msg {
	enum pf_msg_type type;
	uint32_t seq;	      /* of the request, and of its answer; EVENT: 0 */
	uint32_t vf;	      /* CLAIM, CLAIMED */
	bool on;	      /* LISTEN, TAGS */
	bool running;	      /* CLAIMED: VFs kept their state (pf_vf_kept) */
	bool link;	      /* CLAIMED */
	uint8_t mac[6];	      /* CLAIMED */
	struct mbx_msg words; /* ASK */
	struct mbx_state state;	   /* RESTORE */
	struct pf_verdict verdict; /* VERDICT */
	struct pf_event event;	   /* EVENT */
	int32_t code;		   /* ERROR: negative errno */
	char who[64];		   /* CLAIM: the VM's name */
	char gen[32], spec[256];   /* CLAIMED */
	char text[256];		   /* ERROR */
};

/* Bytes written to 'buf' of PF_PROTO_MAX. */
size_t pf_msg_encode(const struct pf_msg *m, void *buf);
/* 0 or -EBADMSG, -EPROTO for another version. */
int pf_msg_decode(struct pf_msg *m, const void *buf, size_t len);

#endif
