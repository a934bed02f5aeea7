/*
 * Generations of the igb family: what tells a 82576 from an I350 and makes a
 * difference to us.
 *
 * A generation is a type and a version, "igb/82576".  Structures of a VF may
 * move between two devices as they are only if both are equal.  Facts: Linux
 * igb (e1000_82575.c), igbvf (vf.c, netdev.c), DPDK igbvf.
 */
#ifndef IGB_GEN_H
#define IGB_GEN_H

#include <stdbool.h>
#include <stdint.h>

struct gen {
	const char *name;    /* "igb/82576" */
	const char *type;    /* the family: "igb" */
	const char *version; /* "82576" */
	uint16_t vendor, pf_device, vf_device;

	unsigned int vf_queues;	 /* queue pairs of a VF */
	unsigned int pf_queues;	 /* of the whole device */
	unsigned int vf_vectors; /* MSI-X */
	unsigned int vfs_max;	 /* one of the 8 pools is the PF's own */
	unsigned int rar;	 /* unicast filters */

	uint32_t txswc;		  /* loopback and anti-spoof register */
	bool dvmolr;		  /* VLAN strip is in DVMOLR, not in VMOLR */
	unsigned int vfta_writes; /* erratum: the I350 wants ten */
	bool lb_vlan_be;	  /* tag of looped-back frames is big-endian */
	bool wthresh_one; /* erratum: WTHRESH of a VF's queues must be 1 */
};

extern const struct gen gen_table[];
extern const unsigned int gen_count;

const struct gen *gen_by_name(const char *name); /* NULL: unknown */
const struct gen *gen_by_pf(uint16_t vendor, uint16_t device);
const struct gen *gen_by_vf(uint16_t vendor, uint16_t device);

/* Type and version equal: no quiescing needed. */
bool gen_equal(const struct gen *a, const struct gen *b);

/* The device's number of queue pair q of VF vf. */
unsigned int gen_vf_queue(const struct gen *g, unsigned int vf, unsigned int q);

#endif
