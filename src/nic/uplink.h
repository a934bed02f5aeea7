/*
 * The wire: where frames go that leave the switch.
 *
 *	unix:PATH	datagram socket, one frame a datagram.  Two NICs given
 *			the same PATH find each other: the first binds PATH,
 *			the second PATH.peer.
 *	unix:A,B	bind A, send to B (QEMU's -netdev dgram is the peer)
 *	tap:IF		TAP interface, made if it is not there
 *	packet:IF	AF_PACKET on an existing interface, promiscuous
 *	none		nothing
 *
 * Frames are without FCS.  One thread.
 */
#ifndef NIC_UPLINK_H
#define NIC_UPLINK_H

#include <stdint.h>

#include "base/err.h"
#include "nic/nic.h"

struct uplink;

int uplink_open(struct uplink **out, const char *spec, struct err *e);
void uplink_close(struct uplink *u); /* NULL is fine */

/* For nic_set_wire(), with the uplink as opaque. */
extern const struct nic_wire_ops uplink_wire_ops;

/* -1 for "none".  Readable when there is something to receive. */
int uplink_fd(const struct uplink *u);

/*
 * Hand what has come to the nic.  Frames the nic wants later are kept.
 * Returns frames handed over.
 */
unsigned int uplink_receive(struct uplink *u, struct nic *nic);
/* Whether frames are kept: come again soon. */
bool uplink_holds(const struct uplink *u);

#endif
