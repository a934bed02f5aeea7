/*
 * What is going to move, and what the destination can put behind it.
 *
 * The manifest travels before any RAM: the machine's shape and each device
 * with its family, generation and needs.  The destination answers with one
 * offer a device; plan.h turns the two into an action.
 */
#ifndef MIGRATE_MANIFEST_H
#define MIGRATE_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wire.h"

#define MIG_DEVICES_MAX 16
#define MIG_RAM_MAX	8
#define MIG_NAME_MAX	64

enum mig_backing { MIG_NONE, MIG_SOFTWARE, MIG_HARDWARE, MIG_BACKINGS };

/* A device as its guest knows it, or a function that could stand behind one. */
struct mig_device {
	char name[MIG_NAME_MAX]; /* "net0"; an offer's: the pdev */
	char model[32];		 /* the identity the guest probed */
	char family[16];	 /* "igb" */
	char type[16];		 /* "82576", "i350" */
	uint32_t version;	 /* of that type */
	uint16_t api;		 /* mailbox API */
	uint16_t queues;
	uint64_t features; /* MIG_FEAT_* in use / on offer */
	enum mig_backing backing;
};

/* Features a device may be using; what is not listed here is denied. */
#define MIG_FEAT_VLAN	   (1ull << 0)
#define MIG_FEAT_MULTICAST (1ull << 1)
#define MIG_FEAT_PROMISC   (1ull << 2)
#define MIG_FEAT_JUMBO	   (1ull << 3)
#define MIG_FEAT_MULTIQ	   (1ull << 4)
/*
 * The tag of a VLAN frame that came from another VF of the same card is in
 * this byte order, or is left in the frame: a guest with VLANs needs the
 * order of the generation it probed.
 */
#define MIG_FEAT_LB_TAG_LE (1ull << 5)
#define MIG_FEAT_LB_TAG_BE (1ull << 6)
/* Write-backs of several descriptors at once, which the 82576 VF may forget. */
#define MIG_FEAT_WTHRESH (1ull << 7)
#define MIG_FEAT_KNOWN	 0xffull
#define MIG_FEAT_NAMES                                                    \
	{                                                                 \
		"VLANs", "multicast", "promiscuous mode", "jumbo frames", \
			"several queues",                                 \
			"little-endian tags of looped-back frames",       \
			"big-endian tags of looped-back frames",          \
			"write-back thresholds above one"                 \
	}

struct mig_ram {
	uint64_t gpa, size, page; /* bytes */
};

struct mig_manifest {
	char vm[MIG_NAME_MAX];
	uint32_t cpus;
	uint64_t cpu_digest; /* of the CPUID shown */
	uint32_t nram;
	struct mig_ram ram[MIG_RAM_MAX];
	uint32_t ndevices;
	struct mig_device device[MIG_DEVICES_MAX];
	char machine[256]; /* the VMM's own, opaque here */
};

/* Every field is checked; nothing is stored unless all of it was right. */
void mig_manifest_put(struct wire_out *o, const struct mig_manifest *m);
int mig_manifest_get(struct wire_in *in, struct mig_manifest *m, struct err *e);

void mig_device_put(struct wire_out *o, const struct mig_device *d);
void mig_device_get(struct wire_in *in, struct mig_device *d);

const char *mig_backing_name(enum mig_backing b);

/* Bytes of RAM, or 0 if the sum overflows. */
uint64_t mig_manifest_ram(const struct mig_manifest *m);

#endif
