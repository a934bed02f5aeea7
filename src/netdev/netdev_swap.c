#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "netdev/netdev_priv.h"

/*
 * The VF leaves the device, its pdev with it.  What it was granted is given
 * back: the PF driver lets no address be in two places.
 */
static struct netvf *detach(struct netdev *nd)
{
	struct netvf *vf = nd->vf;
	struct mbx_state none;

	mbx_state_init(&none, NULL);
	if (vf->port)
		vf->port->ops->restore(vf->port, &none, netdev_nobody_waits,
				       NULL);
	rarp_rounds_stop(nd->rounds);
	vdev_mbx_set_port(nd->mbx, NULL);
	vf->pdev = vdev_unbind(nd->vdev);
	nd->vf = NULL;
	return vf;
}

static int reattach(struct netdev *nd, struct netvf *vf, const uint8_t *state,
		    size_t len, struct err *e)
{
	struct wire_in in;
	int ret = vdev_bind(nd->vdev, vf->pdev, vf->backing, e);

	if (ret < 0)
		return ret;
	vf->pdev = NULL;
	nd->vf = vf;
	ret = vdev_mbx_set_port(nd->mbx, vf->port);
	if (ret < 0)
		return err_sys(e, ret, "%s: the PF driver", nd->name);
	ret = netdev_suit(nd, vf, e);
	if (ret < 0)
		return ret;
	wire_in_init(&in, state, len);
	return netdev_load(nd, &in, e);
}

int netdev_swap(struct netdev *nd, struct netvf *vf, struct netvf **old,
		struct err *e)
{
	uint8_t *state = malloc(NETDEV_STATE_MAX);
	struct netvf *was;
	struct wire_out o;
	int ret;

	if (!state)
		return -ENOMEM;
	wire_out_init(&o, state, NETDEV_STATE_MAX);
	netdev_save(nd, &o);
	if (o.err) {
		free(state);
		return err_sys(e, o.err, "%s: state", nd->name);
	}
	/*
	 * The rings are one again; the new VF's are shadowed only if need be.
	 * A device that was rebuilt has none: nothing of it was drained.
	 */
	ret = nd->drained		   ? shadow_leave(nd->shadow, e)
	      : shadow_engaged(nd->shadow) ? shadow_release(nd->shadow, e)
					   : 0;
	if (ret < 0) {
		free(state);
		return ret;
	}
	nd->drained = false;
	nd->quiet = ACTIVE;
	was = detach(nd);
	ret = reattach(nd, vf, state, wire_used(&o), e);
	if (ret == 0) {
		netdev_trace(nd, "swap", (uint64_t)vf->backing);
		*old = was;
	} else {
		if (nd->vf)
			detach(nd);
		if (was->pdev)
			pdev_reset(was->pdev);
		if (reattach(nd, was, state, wire_used(&o), NULL) < 0)
			log_error("%s: the old VF does not take it back",
				  nd->name);
	}
	free(state);
	return ret;
}
