/*
 * Stock igbvf as seen from its mailbox, for tests: what it writes, how long
 * it waits, which bits it accumulates, what it makes of an answer.
 *
 * A model after Linux igbvf mbx.c, vf.c and netdev.c (6.12), not a copy.
 * Where the driver busy-waits, the model calls pause() once per round, so
 * that a test can let the rest of the world go on.  Not installed.
 */
#ifndef VDEV_GUEST_MODEL_H
#define VDEV_GUEST_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "igb/mbx.h"

struct guest_model {
	uint32_t (*read)(void *opaque, uint32_t off);
	void (*write)(void *opaque, uint32_t off, uint32_t val);
	/* About 'us' microseconds pass. */
	void (*pause)(void *opaque, unsigned int us);
	void *opaque;

	uint32_t v2p;	 /* read-to-clear bits not consumed yet */
	bool mbx_on;	 /* mbx->timeout != 0 */
	bool check_link; /* mac->get_link_status */
	bool link;
	uint8_t mac[6], perm[6];
	unsigned int polls; /* rounds of the last wait */
	unsigned int worst; /* of the longest wait for an answer */
};

/* 0, or -ETIMEDOUT, or -EACCES: refused. */
int guest_reset(struct guest_model *g); /* e1000_reset_hw_vf */
int guest_set_mac(struct guest_model *g, const uint8_t *mac);
int guest_request(struct guest_model *g, const struct mbx_req *r,
		  uint32_t *answer); /* write_posted, read_posted */
/* Multicasts and frame sizes: igbvf never reads the answer. */
int guest_send(struct guest_model *g, const struct mbx_req *r);
/* Reset, address, multicasts, frame size: what opening the device does. */
int guest_up(struct guest_model *g, const uint8_t *mac);
/*
 * e1000_check_for_link_vf: 0 up, 1 down, -EIO: the driver would start over
 * (igbvf_reinit_locked) if its last reset is more than ten seconds ago.
 */
int guest_watchdog(struct guest_model *g);
void guest_irq(struct guest_model *g); /* its mailbox vector */

#endif
