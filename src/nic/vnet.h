/*
 * Frames from a packet socket as a wire would bring them.
 *
 * The kernel hands a packet socket what its own stack works with: several
 * TCP segments merged into one (GRO, or a local sender's TSO), checksums
 * not yet computed.  The virtio_net_hdr in front says so.  Here they become
 * frames again.
 */
#ifndef NIC_VNET_H
#define NIC_VNET_H

#include <linux/virtio_net.h>
#include <stdint.h>

#include "nic/pkt.h"

struct vnet {
	uint8_t *data;
	uint32_t len;
	uint32_t n; /* frames it is */
	struct pkt_offload o;
};

/*
 * Look at one received buffer; 'data' may be changed in place.  n is 0 for
 * what cannot be a frame.  The buffer stays the caller's and must stay put.
 */
void vnet_open(struct vnet *v, const struct virtio_net_hdr *h, uint8_t *data,
	       uint32_t len);
/*
 * Frame i; 'out' has room for a header and gso_size, and is used only when
 * there are several.  Returns where the frame is.
 */
const uint8_t *vnet_frame(const struct vnet *v, uint32_t i, uint8_t *out,
			  uint32_t *len);

#endif
