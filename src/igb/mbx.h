/*
 * The words a VF and its PF exchange through the mailbox, and what a VF's
 * requests add up to.
 *
 * Sixteen dwords: word 0 holds type, info and flags, the rest is payload.
 * A request is copied out of the mailbox once and decoded from the copy; the
 * guest may go on writing.  What was granted is kept as *state*, never as a
 * log of messages, so that ten messages and ten million take the same room.
 *
 * Facts: Linux igb e1000_mbx.h, igb_main.c; igbvf mbx.h, vf.c.
 */
#ifndef IGB_MBX_H
#define IGB_MBX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/wire.h"

#define MBX_WORDS      16
#define MBX_HASHES_MAX 30 /* multicast hashes in one message */
#define MBX_FILTERS    4  /* extra unicast addresses of one VF */
#define MBX_VLAN_WORDS 64 /* 4096 bits */

#define MBX_ACK	       (1u << 31) /* PF: granted */
#define MBX_NACK       (1u << 30) /* PF: refused */
#define MBX_CTS	       (1u << 29) /* PF: clear to send */
#define MBX_FLAGS      (MBX_ACK | MBX_NACK | MBX_CTS)
#define MBX_TYPE       0xffffu
#define MBX_INFO_SHIFT 16
#define MBX_INFO       (0xffu << MBX_INFO_SHIFT)

enum mbx_type {
	MBX_VF_RESET = 1,
	MBX_SET_MAC = 2,
	MBX_SET_MULTICAST = 3,
	MBX_SET_VLAN = 4,
	MBX_SET_LPE = 5,
	MBX_SET_PROMISC = 6,
	MBX_PF_CONTROL = 0x100, /* PF to VF: "look here" */
};

/* Info values. */
#define MBX_MAC_CLEAR	      1
#define MBX_MAC_ADD	      2
#define MBX_PROMISC_UNICAST   1
#define MBX_PROMISC_MULTICAST 2

/* Frame sizes count header, one VLAN tag and CRC. */
#define MBX_FRAME_OVERHEAD 22
#define MBX_FRAME_DEFAULT  1522
#define MBX_FRAME_MIN	   68
#define MBX_FRAME_MAX	   9728

struct mbx_msg {
	uint32_t w[MBX_WORDS];
	unsigned int len; /* words in use, 1..MBX_WORDS */
};

/* What a request asks for; NONE is what no rule knows. */
enum mbx_op {
	MBX_OP_NONE,
	MBX_OP_RESET,
	MBX_OP_SET_MAC,
	MBX_OP_MAC_CLEAR, /* drop all extra addresses */
	MBX_OP_MAC_ADD,
	MBX_OP_MULTICAST,
	MBX_OP_VLAN,
	MBX_OP_LPE,
	MBX_OP_PROMISC,
	MBX_OPS,
};

const char *mbx_op_name(enum mbx_op op); /* "set-mac", never NULL */

struct mbx_req {
	enum mbx_op op;
	uint8_t mac[6];		       /* SET_MAC, MAC_ADD */
	bool add;		       /* VLAN */
	uint16_t vid;		       /* VLAN: 0..4095 */
	uint16_t frame;		       /* LPE: bytes */
	uint8_t promisc;	       /* PROMISC: MBX_PROMISC_* */
	uint8_t nhashes;	       /* MULTICAST */
	uint16_t hash[MBX_HASHES_MAX]; /* 12 bits each */
};

/*
 * Decode the words a VF wrote; 'm->len' is not believed, the length follows
 * from the type.  0; -EALREADY: no request at all but an old answer or the
 * PF's own word, which is not to be answered; -ENOENT: a type or an info
 * nobody knows (op is NONE); -EINVAL: a known one with impossible values.
 */
int mbx_decode(const struct mbx_msg *m, struct mbx_req *r);

/* The words a VF would write to ask for 'r'. */
void mbx_encode(const struct mbx_req *r, struct mbx_msg *m);

/*
 * The PF's answer to 'req'.  'mac' only matters for a reset, where NULL or
 * zeroes mean that no address is assigned.  A reset is answered without CTS
 * whatever 'cts' says, for the drivers compare the whole word.
 */
void mbx_answer(const struct mbx_msg *req, bool ok, bool cts,
		const uint8_t *mac, struct mbx_msg *out);

/* Unicast and not zero. */
bool mbx_mac_ok(const uint8_t *mac);

/*
 * The canonical state of a VF: what the PF has granted it.  Fixed size, no
 * pointers; a copy is a snapshot.
 */
struct mbx_state {
	uint8_t api; /* 0: the igb family has one version only */
	bool cts;    /* a reset was answered: requests are served */
	uint8_t mac[6];
	uint8_t promisc;
	uint16_t frame; /* largest frame */
	uint8_t nfilters, nhashes;
	uint8_t filter[MBX_FILTERS][6];
	uint16_t hash[MBX_HASHES_MAX];
	uint64_t vlan[MBX_VLAN_WORDS]; /* bit vid */
};

void mbx_state_init(struct mbx_state *s, const uint8_t *mac); /* NULL: none */

/*
 * The VF was reset: all but the address is gone until it asks again.  'cts'
 * stays off until the reset message is answered.
 */
void mbx_state_reset(struct mbx_state *s);

/* 'r' was granted.  -ENOSPC, unchanged: no room for one more address. */
int mbx_state_apply(struct mbx_state *s, const struct mbx_req *r);

/* Version 1 of its bytes; always MBX_STATE_SIZE. */
#define MBX_STATE_SIZE	  (1 + 1 + 1 + 6 + 1 + 2 + 1 + 1 + 4 * 6 + 30 * 2 + 512)
#define MBX_STATE_VERSION 1

void mbx_state_save(const struct mbx_state *s, struct wire_out *o);
/* Nothing is stored unless all of it was read and makes sense. */
int mbx_state_load(struct mbx_state *s, struct wire_in *in);

#endif
