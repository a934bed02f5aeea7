#include "igb/regs.h"
#include "netdev/netdev_priv.h"

void netdev_counts(struct netdev *nd, struct netdev_counts *out)
{
	out->frames[0] = vdev_reg_read(nd->vdev, IGBVF_VFGPRC);
	out->frames[1] = vdev_reg_read(nd->vdev, IGBVF_VFGPTC);
	out->bytes[0] = vdev_reg_read(nd->vdev, IGBVF_VFGORC);
	out->bytes[1] = vdev_reg_read(nd->vdev, IGBVF_VFGOTC);
}

static json_t *queue_json(const struct shadow_queue_stats *q)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:i}", "submitted",
			 (json_int_t)q->submitted, "completed",
			 (json_int_t)q->completed, "bytes",
			 (json_int_t)q->bytes_written, "bad",
			 (json_int_t)q->bad, "inflight", (int)q->inflight);
}

static json_t *shadow_json(struct netdev *nd)
{
	struct shadow_stats s;

	shadow_get_stats(nd->shadow, &s);
	return json_pack(
		"{s:i, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"engaged", (int)shadow_engaged(nd->shadow), "rx",
		queue_json(&s.rx[0]), "tx", queue_json(&s.tx[0]), "engage_ns",
		(json_int_t)s.engage_ns, "release_ns", (json_int_t)s.release_ns,
		"paused_ns", (json_int_t)s.paused_ns, "marked_pages",
		(json_int_t)s.marked_pages, "marked_bytes",
		(json_int_t)s.marked_bytes, "split_pages",
		(json_int_t)s.split_pages, "interrupts", (json_int_t)s.irqs,
		"polls", (json_int_t)s.polls);
}

static json_t *ring_json(const struct igb_ring *r)
{
	return json_pack(
		"{s:b, s:I, s:i, s:i}", "on", (r->ctl & IGB_DCTL_ENABLE) != 0,
		"base", (json_int_t)r->base, "descriptors",
		(int)(r->len / IGB_DESC_SIZE), "wthresh",
		(int)(r->ctl >> IGB_DCTL_WTHRESH_SHIFT & IGB_DCTL_THRESH_MASK));
}

/* What the guest's driver has built on the VF. */
static json_t *structures_json(struct netdev *nd)
{
	struct igb_vf_state st;
	json_t *rx = json_array(), *tx = json_array();

	netdev_read_rings(nd, &st);
	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		json_array_append_new(rx, ring_json(&st.rx[q]));
		json_array_append_new(tx, ring_json(&st.tx[q]));
	}
	return json_pack("{s:o, s:o, s:i}", "rx", rx, "tx", tx, "vectors",
			 __builtin_popcount(igb_vf_vectors(&st)));
}

json_t *netdev_status(struct netdev *nd)
{
	json_t *o =
		json_pack("{s:s, s:s, s:o, s:o, s:{s:I, s:I, s:I}}", "vf",
			  nd->vf ? nd->vf->spec : "", "generation",
			  nd->vf ? nd->vf->gen->name : "", "shadow",
			  shadow_json(nd), "structures", structures_json(nd),
			  "announce", "times", (json_int_t)nd->announced,
			  "frames", (json_int_t)nd->frames, "failed",
			  (json_int_t)nd->unannounced);

	if (o)
		json_object_set_new(o, "drain_ns",
				    json_integer((json_int_t)nd->drain_ns));
	if (o && nd->mbx)
		json_object_set_new(o, "mailbox", vdev_mbx_status(nd->mbx));
	return o;
}
