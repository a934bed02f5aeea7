/*
 * The PF driver: one physical function of the igb family and its VFs.
 *
 * It brings the device up (link, switch, filters, anti-spoof), takes the
 * mailbox interrupt, and calls the callback of the VF that rang or was
 * reset.  A VF without a callback is answered here, in the mailbox itself,
 * as a host's own driver would.
 *
 * Nothing a VF asks for is believed: every request is decoded from a copy,
 * held against the policy, and counted.
 *
 * A PF whose VFs are alive must not be reset: an FLR or CTRL.RST of the PF
 * takes the VFs' registers with it.  So a driver that finds the device
 * running (after the death of the one before) takes over as it is.
 *
 * All calls are for the loop's thread.
 */
#ifndef IGB_PF_H
#define IGB_PF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/trace.h"
#include "igb/gen.h"
#include "igb/mbx.h"
#include "igb/pf_policy.h"
#include "igb/pf_port.h"
#include "pdev/pdev.h"

struct pf;

struct pf_conf {
	unsigned int vfs; /* to enable; 0: as many as there are */
	struct pf_policy policy;
	struct trace *trace; /* or NULL; stays the caller's */
	/*
	 * spec of VF n for pdev_open(), into buf; NULL: ports have none.
	 * Returns -errno.
	 */
	int (*vf_spec)(void *opaque, unsigned int vf, char *buf, size_t size);
	void *opaque;
};

/* Owns 'p' on success. */
int pf_open(struct pf **out, struct pdev *p, struct loop *l,
	    const struct pf_conf *conf, struct err *e);

/*
 * The device keeps running as it is, so that another driver may take over;
 * pf_shutdown() first stops the VFs.  NULL is fine for close.
 */
void pf_close(struct pf *pf);
void pf_shutdown(struct pf *pf);

const struct gen *pf_gen(const struct pf *pf);
unsigned int pf_vfs(const struct pf *pf);
bool pf_link(const struct pf *pf);
/* The device was found running: VFs kept their state. */
bool pf_was_running(const struct pf *pf);
/* The VF, which has been claimed, kept its state until then. */
bool pf_vf_kept(const struct pf *pf, unsigned int vf);

/*
 * Claim VF 'vf', or the first free one with PF_ANY_VF.  -EBUSY: somebody
 * has it; -ENODEV: there is no such VF.  'who' is for status.
 */
#define PF_ANY_VF (~0u)
int pf_claim(struct pf_port **out, struct pf *pf, unsigned int vf,
	     const char *who, struct err *e);

/* Host-started events, for all VFs in use with vf = PF_ANY_VF. */
int pf_kick(struct pf *pf, unsigned int vf);
/* Change a VF's ceiling; its guest is told to start over if it is above. */
int pf_set_frame(struct pf *pf, unsigned int vf, uint16_t frame);

/* Status, a new reference; docs/pf-socket.md has the members. */
json_t *pf_status(struct pf *pf);

struct pf_vf_counts {
	uint64_t requests;  /* judged */
	uint64_t refused;   /* of them, by policy or nonsense */
	uint64_t resets;    /* VF resets seen */
	uint64_t acks;	    /* acks seen by interrupt */
	uint64_t callbacks; /* times the callback was called */
	uint64_t answered;  /* requests answered in the mailbox itself */
	uint64_t announced; /* frames sent to tell switches of its addresses */
	uint64_t unannounced; /* those there was no way to send */
};
void pf_get_counts(const struct pf *pf, unsigned int vf,
		   struct pf_vf_counts *out);

#endif
