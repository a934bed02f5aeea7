/*
 * A virtual function claimed for a VM: the pdev, and the line to the PF
 * driver if there is one.
 *
 * Specs:
 *	pf:SOCKET[,vf=N]		from `pagurus pf`, token included
 *	0000:01:10.0[,vf-token=UUID]	kernel VFIO; the PF is the kernel's
 *	vfio-user:SOCKET		the software NIC, nobody at its PF
 *
 * Opened early, at the destination long before a device is put on it, so
 * that what is on offer is really there when it is needed.
 */
#ifndef NETDEV_NETVF_H
#define NETDEV_NETVF_H

#include <stdbool.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/trace.h"
#include "igb/gen.h"
#include "igb/pf_port.h"
#include "migrate/manifest.h"
#include "pdev/pdev.h"
#include "vdev/vdev.h"

struct netvf {
	char spec[256];
	struct pf_port *port;		/* NULL: no PF driver of ours */
	struct pdev *pdev;		/* NULL while a vdev has it */
	const struct vdev_model *model; /* what it is by itself */
	const struct gen *gen;
	enum vdev_backing backing;
	bool kernel_pf; /* the host's own driver owns the PF */
};

/*
 * Before a role gives up its rights: what a VF of a host's own PF driver will
 * need, to be announced and to get its guest's address.  The latter is the
 * work of another process, which calls drop() first.  Nothing for other
 * specs.
 */
void netvf_prepare(const char *const *spec, unsigned int n,
		   int (*drop)(struct err *e));

/* In the loop's thread.  'who' is the VM's name, for the PF's status. */
int netvf_open(struct netvf **out, const char *spec, const char *who,
	       struct loop *l, struct trace *t, struct err *e);
void netvf_close(struct netvf *vf); /* NULL is fine */

/*
 * What migration may count on.  A PF driver of ours can leave tags in
 * frames, and then their byte order is nobody's concern.
 */
uint64_t netvf_features(const struct gen *g, bool pf_driver);

/* What it is, for the decision before a migration. */
void netvf_describe(const struct netvf *vf, struct mig_device *out);

#endif
