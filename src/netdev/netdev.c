#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/regs.h"
#include "netdev/netdev_priv.h"

#define STATE_VERSION 1

/* A device that cannot get its queued frames out in this time keeps them. */
#define DRAIN_NS      2000000ull
#define KNOCK_WAIT_NS 14000000000ull
/*
 * A guest without a driver does not knock and is not waited for.  One that
 * had rings takes them down before it resets the VF and knocks, so that none
 * being on means little until it has lasted.
 */
#define UNUSED_NS 50000000ull
#define GONE_NS	  2000000000ull

void netdev_trace(struct netdev *nd, const char *what, uint64_t val)
{
	trace_add(nd->trace, nd->unit, what, "device", 0, val);
}

void netdev_nobody_waits(void *opaque, const struct pf_verdict *v)
{
}

/* ---- life ---- */

static void on_quiet(void *opaque, enum vdev_mbx_quiet what);

int netdev_create(struct netdev **out, const struct netdev_conf *c,
		  const struct vdev_model *model, struct host *host,
		  struct loop *loop, struct err *e)
{
	struct netdev *nd = calloc(1, sizeof(*nd));
	int ret;

	if (!nd)
		return -ENOMEM;
	snprintf(nd->name, sizeof(nd->name), "%s", c->name);
	nd->trace = c->trace;
	nd->unit = c->unit;
	ret = vdev_create(&nd->vdev, nd->name, model, host, loop, e);
	if (ret == 0)
		ret = shadow_create(&nd->shadow, nd->vdev, &c->shadow, e);
	if (ret == 0)
		ret = rebase_create(&nd->rebase, nd->vdev);
	if (ret == 0)
		ret = rarp_rounds_create(&nd->rounds, loop,
					 netdev_announce_round, nd);
	if (ret < 0) {
		netdev_destroy(nd);
		return ret;
	}
	*out = nd;
	return 0;
}

void netdev_destroy(struct netdev *nd)
{
	if (!nd)
		return;
	rarp_rounds_destroy(nd->rounds);
	vdev_mbx_close(nd->mbx);
	shadow_destroy(nd->shadow);
	rebase_destroy(nd->rebase);
	vdev_destroy(nd->vdev);
	netvf_close(nd->vf);
	free(nd);
}

static int open_mailbox(struct netdev *nd, struct netvf *vf, struct err *e)
{
	const struct vdev_mbx_conf c = {
		.mode = vf->kernel_pf ? VDEV_MBX_KERNEL : VDEV_MBX_ON_DEMAND,
		.port = vf->port,
		.trace = nd->trace,
		.unit = nd->unit,
		.quiet = on_quiet,
		.opaque = nd,
	};

	/* A software NIC without a PF driver: there is nobody to talk to. */
	if (!vf->port && !vf->kernel_pf)
		return 0;
	return vdev_mbx_open(&nd->mbx, nd->vdev, &c, e);
}

/* Its own generation, which it probed and keeps. */
static const struct gen *identity(const struct netdev *nd)
{
	return gen_by_name(vdev_get_model(nd->vdev)->name);
}

/*
 * The guest's driver reads the tag of a looped-back frame in the byte order
 * of the generation it probed.  On one that writes it the other way round
 * tags stay in the frames, where stacks find them as well; without a PF
 * driver that can do so there must be no VLANs.  Reading wrong would deliver
 * frames to a network they are not of.
 */
int netdev_suit(struct netdev *nd, struct netvf *vf, struct err *e)
{
	const struct gen *g = identity(nd);
	bool differs = g && g->lb_vlan_be != vf->gen->lb_vlan_be;
	int ret = 0;

	if (vf->port)
		ret = vf->port->ops->keep_tags(vf->port, differs);
	else if (nd->mbx)
		vdev_mbx_refuse_vlans(nd->mbx, differs);
	netdev_trace(nd, "keep-tags", differs);
	return ret < 0 ? err_sys(e, ret, "%s: the PF driver", nd->name) : 0;
}

int netdev_attach(struct netdev *nd, struct netvf *vf, struct err *e)
{
	int ret = vdev_bind(nd->vdev, vf->pdev, vf->backing, e);

	if (ret < 0)
		return ret;
	vf->pdev = NULL;
	ret = open_mailbox(nd, vf, e);
	if (ret == 0)
		ret = netdev_suit(nd, vf, e);
	if (ret < 0) {
		vdev_mbx_close(nd->mbx);
		nd->mbx = NULL;
		vf->pdev = vdev_unbind(nd->vdev);
		return ret;
	}
	nd->vf = vf;
	return 0;
}

struct vdev *netdev_vdev(struct netdev *nd)
{
	return nd->vdev;
}

struct vdev_mbx *netdev_mbx(struct netdev *nd)
{
	return nd->mbx;
}

struct shadow *netdev_shadow(struct netdev *nd)
{
	return nd->shadow;
}

struct netvf *netdev_vf(struct netdev *nd)
{
	return nd->vf;
}

const char *netdev_name(const struct netdev *nd)
{
	return nd->name;
}

enum mig_action netdev_action(const struct netdev *nd)
{
	return nd->action;
}

/* ---- source ---- */

int netdev_movable(struct netdev *nd, struct err *e)
{
	if (!nd->vf)
		return err_set(e, -EOPNOTSUPP, "%s has no VF behind it",
			       nd->name);
	if (!nd->mbx)
		return err_set(e, -EOPNOTSUPP,
			       "%s: nobody drives the PF of '%s', so what the "
			       "guest was granted cannot be granted elsewhere; "
			       "run 'pagurus pf' and give the VM --vf "
			       "pf:SOCKET",
			       nd->name, nd->vf->spec);
	return 0;
}

void netdev_read_rings(struct netdev *nd, struct igb_vf_state *st)
{
	struct pdev *p = vdev_pdev(nd->vdev);

	if (!p || netdev_orphaned(nd) || igb_vf_read(p, st) < 0)
		memset(st, 0, sizeof(*st));
}

/*
 * igbvf takes a threshold of one whatever it drives, others what suits the
 * generation they probed: they would use it on any other, too.
 */
static bool above_one(const struct igb_ring *r)
{
	return r->ctl & IGB_DCTL_ENABLE &&
	       (r->ctl >> IGB_DCTL_WTHRESH_SHIFT & IGB_DCTL_THRESH_MASK) > 1;
}

static bool uses_wthresh(struct netdev *nd, const struct igb_vf_state *st)
{
	bool used = false;

	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++)
		used |= above_one(&st->rx[q]) || above_one(&st->tx[q]);
	/* Where it is wrong already, it gets no worse elsewhere. */
	return used && !nd->vf->gen->wthresh_one;
}

static uint64_t used_features(struct netdev *nd, const struct igb_vf_state *st)
{
	const struct gen *g = identity(nd);
	uint64_t f = 0, vlans;
	struct mbx_state s;

	if (!nd->mbx)
		return 0;
	vdev_mbx_get_state(nd->mbx, &s);
	vlans = s.vlan[0] & ~1ull; /* 0 is no VLAN, but a priority */
	for (size_t i = 1; i < ARRAY_SIZE(s.vlan); i++)
		vlans |= s.vlan[i];
	if (vlans)
		f |= MIG_FEAT_VLAN | (g && g->lb_vlan_be ? MIG_FEAT_LB_TAG_BE
							 : MIG_FEAT_LB_TAG_LE);
	if (s.nhashes)
		f |= MIG_FEAT_MULTICAST;
	if (s.promisc)
		f |= MIG_FEAT_PROMISC;
	if (s.frame > MBX_FRAME_DEFAULT)
		f |= MIG_FEAT_JUMBO;
	if (uses_wthresh(nd, st))
		f |= MIG_FEAT_WTHRESH;
	return f;
}

void netdev_describe(struct netdev *nd, struct mig_device *out)
{
	struct igb_vf_state st;

	netdev_read_rings(nd, &st);
	netvf_describe(nd->vf, out);
	snprintf(out->name, sizeof(out->name), "%s", nd->name);
	/* What the guest uses, not what the VF could. */
	out->queues = igb_vf_enabled(&st) & (IGB_RXQ(1) | IGB_TXQ(1)) ? 2 : 1;
	out->features = used_features(nd, &st);
	snprintf(out->model, sizeof(out->model), "%s",
		 vdev_get_model(nd->vdev)->name);
}

bool netdev_orphaned(const struct netdev *nd)
{
	return nd->vf && vdev_get_backing(nd->vdev) == VDEV_NONE;
}

int netdev_engage(struct netdev *nd, enum mig_action action, struct err *e)
{
	nd->action = action;
	netdev_trace(nd, "engage", (uint64_t)action);
	/* No device: no ring is worked on, nothing to keep in step with. */
	if (netdev_orphaned(nd) && action == MIG_REBUILD)
		return 0;
	return shadow_engage(nd->shadow, IGB_ALLQ, e);
}

/* ---- quiescing ---- */

static void deleted(struct netdev *nd)
{
	struct igb_vf_state st = { 0 };

	/* Zero, or what the hardware does not let go of. */
	igb_vf_read(vdev_pdev(nd->vdev), &st);
	nd->quiet = DELETED;
	netdev_trace(nd, "deleted", igb_vf_structures(&st));
}

static void filters_gone(void *opaque, const struct pf_verdict *v)
{
	struct netdev *nd = opaque;

	if (nd->quiet != DELETING)
		return; /* released meanwhile */
	netdev_trace(nd, "delete-filters", v->ok);
	deleted(nd);
}

/*
 * The guest has dropped its rings, or never had any.  Nothing of them stays
 * behind on the hardware.  In the loop's thread; nd->quiet is DELETING.
 */
static void delete_structures(struct netdev *nd)
{
	struct pdev *p = vdev_pdev(nd->vdev);
	struct pf_port *port = nd->vf->port;
	struct mbx_state none;

	netdev_trace(nd, "delete-rings", igb_vf_delete_rings(p));
	netdev_trace(nd, "delete-vectors", igb_vf_delete_vectors(p));
	/*
	 * A reset may zero the counters, and the guest, who waits in its own
	 * reset, may read them before it is somewhere else.
	 */
	rebase_capture(nd->rebase);
	vdev_reset(nd->vdev);
	rebase_apply(nd->rebase);

	mbx_state_init(&none, NULL);
	/* A kernel's PF driver dropped them with the reset. */
	if (!port || port->ops->restore(port, &none, filters_gone, nd) < 0)
		filters_gone(nd, &(struct pf_verdict){ .ok = !port });
}

static void delete_unused(void *opaque)
{
	struct netdev *nd = opaque;

	if (nd->quiet == DELETING)
		delete_structures(nd);
}

/* Once, whoever comes first. */
static bool begin_deleting(struct netdev *nd)
{
	int busy = BUSY;

	return atomic_compare_exchange_strong(&nd->quiet, &busy, DELETING);
}

/* In the loop's thread, from the mailbox. */
static void on_quiet(void *opaque, enum vdev_mbx_quiet what)
{
	struct netdev *nd = opaque;

	switch (what) {
	case VDEV_MBX_SAW_BUSY: netdev_trace(nd, "saw-busy", 0); break;
	case VDEV_MBX_RESET: netdev_trace(nd, "guest-reset", 0); break;
	case VDEV_MBX_KNOCKS: netdev_trace(nd, "knocks", 0); break;
	}
	if (what == VDEV_MBX_KNOCKS && begin_deleting(nd))
		delete_structures(nd);
}

int netdev_quiesce(struct netdev *nd, struct err *e)
{
	struct igb_vf_state st = { 0 };
	int ret;

	igb_vf_read(vdev_pdev(nd->vdev), &st);
	nd->had_rings = igb_vf_enabled(&st) != 0;
	nd->off_since = 0;
	nd->busy_since = now_ns();
	nd->quiet = BUSY;
	netdev_trace(nd, "quiesce", 0);
	ret = vdev_mbx_quiesce(nd->mbx);
	if (ret < 0) {
		nd->quiet = ACTIVE;
		return err_sys(e, ret, "%s: quiescing", nd->name);
	}
	return 0;
}

/* No driver, or its interface is down. */
static bool unused(struct netdev *nd, uint64_t now)
{
	struct igb_vf_state st;

	if (igb_vf_read(vdev_pdev(nd->vdev), &st) < 0)
		return false;
	if (igb_vf_enabled(&st))
		nd->off_since = 0;
	else if (!nd->off_since)
		nd->off_since = now;
	return nd->off_since &&
	       now - nd->off_since > (nd->had_rings ? GONE_NS : UNUSED_NS);
}

int netdev_quiesced(struct netdev *nd)
{
	uint64_t now = now_ns();
	int quiet = nd->quiet;

	if (quiet == DELETED)
		return 1;
	if (quiet == ACTIVE)
		return -EINVAL;
	if (quiet == BUSY && unused(nd, now) && begin_deleting(nd))
		loop_call(vdev_loop(nd->vdev), delete_unused, nd);
	return now - nd->busy_since > KNOCK_WAIT_NS ? -ETIMEDOUT : 0;
}

int netdev_drain(struct netdev *nd, struct err *e)
{
	uint64_t t0 = now_ns();
	int ret;

	rebase_capture(nd->rebase);
	if (nd->quiet == DELETED)
		return 0;
	netdev_trace(nd, "drain", 0);
	ret = shadow_drain(nd->shadow, DRAIN_NS, &nd->regs, &nd->drain, e);
	nd->drained = ret == 0;
	nd->drain_ns = now_ns() - t0;
	return ret;
}

void netdev_save(struct netdev *nd, struct wire_out *o)
{
	/* Here, or loaded so and not run yet: it never came to have rings. */
	bool rebuilt = nd->quiet == DELETED || nd->rebuilt;

	put_u16(o, STATE_VERSION);
	put_u8(o, rebuilt);
	vdev_save(nd->vdev, o);
	vdev_mbx_save(nd->mbx, o);
	rebase_save(nd->rebase, o);
	if (!rebuilt)
		igb_vf_save(&nd->regs, o);
	netdev_trace(nd, "migrate", wire_used(o));
}

void netdev_release(struct netdev *nd)
{
	struct err e = { 0 };
	int ret = 0;

	netdev_trace(nd, "release", 0);
	if (nd->drained)
		ret = shadow_undrain(nd->shadow, &e);
	nd->drained = false;
	if (ret == 0 && shadow_engaged(nd->shadow))
		ret = shadow_release(nd->shadow, &e);
	if (ret == -EBUSY)
		log_info("%s", err_text(&e, ret));
	else if (ret < 0)
		log_error("%s: the device does not go back to direct: %s",
			  nd->name, err_text(&e, ret));
	if (nd->quiet != ACTIVE) {
		bool deleted = nd->quiet != BUSY;

		/*
		 * Deleted or not: the guest's driver builds anew here, and its
		 * address is back before it asks.
		 */
		nd->quiet = ACTIVE;
		if (deleted)
			vdev_mbx_restore(nd->mbx, netdev_nobody_waits, NULL);
		vdev_mbx_unquiesce(nd->mbx);
		netdev_trace(nd, "reconfigure", 0);
	}
}

void netdev_retire(struct netdev *nd)
{
	struct netvf *vf = nd->vf;

	netdev_trace(nd, "retire", 0);
	rarp_rounds_stop(nd->rounds);
	vdev_mbx_set_port(nd->mbx, NULL);
	pf_port_close(vf->port);
	vf->port = NULL;
}

/* ---- destination ---- */

static void granted(void *opaque, const struct pf_verdict *v)
{
	struct grant_ask *a = opaque;
	struct netdev *nd = a->nd;

	if (a != &nd->ask[nd->asked])
		return; /* of a VF that we are not on any more */
	nd->grant = v->ok ? GRANT_GIVEN : GRANT_REFUSED;
	netdev_trace(nd, "filters", v->ok);
}

int netdev_load(struct netdev *nd, struct wire_in *in, struct err *e)
{
	uint16_t version = get_u16(in);
	bool rebuilt = get_u8(in);
	int ret;

	if (version != STATE_VERSION && !in->err)
		return err_set(e, -EPROTO,
			       "%s: state version %u, this host reads %u",
			       nd->name, version, STATE_VERSION);
	ret = vdev_load(nd->vdev, in, e);
	if (ret == 0)
		ret = vdev_mbx_load(nd->mbx, in, e);
	if (ret == 0)
		ret = rebase_load(nd->rebase, in);
	if (ret == 0 && !rebuilt)
		ret = igb_vf_load(&nd->regs, in, e);
	if (ret < 0)
		return err_set(e, ret, "%s: damaged device state", nd->name);
	netdev_trace(nd, "load", rebuilt);
	nd->rebuilt = rebuilt;
	nd->grant = GRANT_ASKED;
	nd->asked = !nd->asked;
	nd->ask[nd->asked].nd = nd;
	ret = vdev_mbx_restore(nd->mbx, granted, &nd->ask[nd->asked]);
	if (ret < 0)
		return err_sys(e, ret,
			       "%s: the PF driver does not take over what the "
			       "guest was granted",
			       nd->name);
	return 0;
}

int netdev_ready(struct netdev *nd, struct err *e)
{
	int grant = nd->grant, ret;

	switch (grant) {
	case GRANT_ASKED: return 0;
	case GRANT_REFUSED:
		return err_set(e, -EPERM,
			       "%s: the PF driver refuses what the guest was "
			       "granted at the source (see its policy)",
			       nd->name);
	default: break;
	}
	/* Filters first, queues last; nothing moves before netdev_run(). */
	if (!nd->rebuilt) {
		ret = shadow_adopt(nd->shadow, &nd->regs, e);
		if (ret < 0)
			return ret;
	}
	return 1;
}

void netdev_run(struct netdev *nd)
{
	struct err e = { 0 };
	int ret;

	rebase_apply(nd->rebase);
	ret = vdev_mbx_resume(nd->mbx, &e);
	if (ret == 0 && !nd->rebuilt) {
		ret = shadow_start(nd->shadow, &e);
		netdev_trace(nd, "start", shadow_offset(nd->shadow));
	} else if (ret == 0) {
		ret = vdev_mbx_unquiesce(nd->mbx);
		netdev_trace(nd, "reconfigure", 0);
	}
	/* It is ours and it runs; a device that fails now is kicked. */
	if (ret < 0) {
		log_error("%s: %s; its driver is told to start over", nd->name,
			  err_text(&e, ret));
		vdev_mbx_kick(nd->mbx);
	}
	nd->rebuilt = false;
	netdev_announce(nd);
}
