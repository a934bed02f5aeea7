#include "base/log.h"
#include "igb/hostpf.h"
#include "netdev/netdev_priv.h"

static bool send_one(void *opaque, const void *frame, size_t len)
{
	struct netdev *nd = opaque;
	int ret = hostpf_raw_send(nd->vf->spec, frame, len);

	nd->frames += ret == 0;
	nd->unannounced += ret < 0;
	return ret == 0;
}

void netdev_announce_round(void *opaque)
{
	struct netdev *nd = opaque;
	struct mbx_state st;

	if (!nd->vf || !nd->mbx)
		return;
	vdev_mbx_get_state(nd->mbx, &st);
	rarp_send(&st, send_one, nd);
}

void netdev_announce(struct netdev *nd)
{
	int ret = 0;

	nd->announced++;
	netdev_trace(nd, "announce", 0);
	if (!nd->vf)
		return;
	if (nd->vf->port)
		ret = nd->vf->port->ops->announce(nd->vf->port);
	else if (nd->vf->kernel_pf)
		rarp_rounds_start(nd->rounds);
	if (ret == 0)
		return;
	nd->unannounced++;
	log_info("%s: not announced (%d); switches learn its place from its "
		 "own frames",
		 nd->name, ret);
}
