/*
 * A NIC of a VM that is passed through: the vdev, its virtual mailbox and
 * its shadow, and the VF behind them.
 *
 * This is the one place that knows in which order the three go through a
 * migration; the machine sees devices, not mailboxes and rings.
 *
 *	source, same generation		 source, other generation
 *	engage   shadow_engage		 engage   shadow_engage
 *					 quiesce  busy posted, until the guest
 *						  has reset the VF and knocks
 *					 delete   FLR: no structure is left
 *	drain    shadow_drain		 drain	  (nothing runs)
 *	release  whatever happened: direct again, the guest's reset answered
 *
 *	destination
 *	create, attach, load, ready, run
 *
 * Calls are for the loop's thread, but for those marked [any].
 */
#ifndef NETDEV_NETDEV_H
#define NETDEV_NETDEV_H

#include <jansson.h>
#include <stdbool.h>

#include "migrate/plan.h"
#include "netdev/netvf.h"
#include "shadow/shadow.h"
#include "vdev/mbx.h"

#define NETDEV_STATE_MAX (64u * 1024) /* bytes a saved state never exceeds */

struct netdev;

struct netdev_conf {
	const char *name; /* "net0" */
	struct shadow_opts shadow;
	struct trace *trace;
	unsigned int unit; /* in the trace */
};

/* Unbacked until netdev_attach(). */
int netdev_create(struct netdev **out, const struct netdev_conf *c,
		  const struct vdev_model *model, struct host *host,
		  struct loop *loop, struct err *e);
void netdev_destroy(struct netdev *nd); /* closes its VF; NULL is fine */

/* Owns 'vf' on success. */
int netdev_attach(struct netdev *nd, struct netvf *vf, struct err *e);

struct vdev *netdev_vdev(struct netdev *nd);
struct vdev_mbx *netdev_mbx(struct netdev *nd); /* NULL: nobody at the PF */
struct shadow *netdev_shadow(struct netdev *nd);
struct netvf *netdev_vf(struct netdev *nd);
const char *netdev_name(const struct netdev *nd);

/* ---- source ---- */

/* Can it move at all?  -EOPNOTSUPP with the reason. */
int netdev_movable(struct netdev *nd, struct err *e);
/* The VF behind it has died: it can only be rebuilt on another one. */
bool netdev_orphaned(const struct netdev *nd);
void netdev_describe(struct netdev *nd, struct mig_device *out);

int netdev_engage(struct netdev *nd, enum mig_action action,
		  struct err *e); /* [any] */
/*
 * Begin to quiesce a device that will be rebuilt.  netdev_quiesced() is 1
 * when its structures are deleted and the guest waits for the answer to its
 * reset (or has no driver that would), 0 while not yet.
 */
int netdev_quiesce(struct netdev *nd, struct err *e);
int netdev_quiesced(struct netdev *nd); /* [any] */
/* vCPUs are paused. */
int netdev_drain(struct netdev *nd, struct err *e); /* [any] */
void netdev_save(struct netdev *nd, struct wire_out *o);
/* Back to direct, wherever it got to. */
void netdev_release(struct netdev *nd);

/* It runs elsewhere: the VF goes back to its PF driver, filters and all. */
void netdev_retire(struct netdev *nd);

/* ---- destination ---- */

/* RAM is loaded, nothing runs. */
int netdev_load(struct netdev *nd, struct wire_in *in, struct err *e);
/* 1: ready to run; 0: the PF driver has not granted everything yet. */
int netdev_ready(struct netdev *nd, struct err *e);
void netdev_run(struct netdev *nd);

/* ---- on one host ---- */

/*
 * Put the device on another VF.  The vCPUs are paused and it is drained or
 * quiesced; on success *old is the VF it came from, to be closed, and
 * netdev_ready() and netdev_run() finish as after a migration.  On failure
 * it is on the old VF again and the same two bring it back to life.
 */
int netdev_swap(struct netdev *nd, struct netvf *vf, struct netvf **old,
		struct err *e);

enum mig_action netdev_action(const struct netdev *nd); /* of the plan */

/* What the VF has counted, received and sent; all of them roll over. */
struct netdev_counts {
	uint32_t frames[2], bytes[2];
};
void netdev_counts(struct netdev *nd, struct netdev_counts *out);

/* VF, generation, shadow, mailbox; a new reference. */
json_t *netdev_status(struct netdev *nd);

#endif
