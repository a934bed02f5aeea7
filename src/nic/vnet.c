#include "nic/vnet.h"

#include "base/util.h"

/* The pseudo header's sum, without a length: each segment brings its own. */
static void seed(const struct pkt *p, uint8_t *data, uint32_t field)
{
	uint8_t proto[2] = { 0, p->proto };
	uint64_t sum;

	sum = p->ip4 ? pkt_sum(data + p->l3 + 12, 8)
		     : pkt_sum(data + p->l3 + 8, 32);
	pkt_put16(data + p->l4 + field, pkt_fold(sum + pkt_sum(proto, 2)));
}

static void open_gso(struct vnet *v, const struct virtio_net_hdr *h)
{
	bool tcp;
	struct pkt p;

	/* Lengths in a merged packet's IP header are those of the whole. */
	pkt_parse(&p, v->data, v->len);
	tcp = p.proto == 6;
	if (!p.payload || (!tcp && p.proto != 17) ||
	    h->gso_type == VIRTIO_NET_HDR_GSO_UDP) /* IP fragments */
		return;
	v->o.maclen = p.l3;
	v->o.iplen = p.l4 - p.l3;
	v->o.l4len = p.payload - p.l4;
	v->o.l4t = tcp;
	v->o.ip4 = p.ip4;
	v->o.mss = h->gso_size;
	v->o.tso = true;
	seed(&p, v->data, tcp ? 16 : 6);
	v->n = pkt_segments(v->len, &v->o);
}

void vnet_open(struct vnet *v, const struct virtio_net_hdr *h, uint8_t *data,
	       uint32_t len)
{
	*v = (struct vnet){ .data = data, .len = len };
	if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		open_gso(v, h);
		return;
	}
	if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		uint32_t at = (uint32_t)h->csum_start + h->csum_offset;

		/* The field holds the pseudo header's sum. */
		if (at + 2 > len)
			return;
		pkt_put16(data + at,
			  (uint16_t)~pkt_fold(pkt_sum(data + h->csum_start,
						      len - h->csum_start)));
	}
	v->n = 1;
}

const uint8_t *vnet_frame(const struct vnet *v, uint32_t i, uint8_t *out,
			  uint32_t *len)
{
	if (!v->o.tso) {
		*len = v->len;
		return v->data;
	}
	*len = pkt_segment(out, v->data, v->len, &v->o, i);
	return out;
}
