/*
 * What a VF may ask of the PF: the host's policy, read from a JSON file.
 *
 *	{ "default": { "mac": "guest", "vlans": [0, 100], "mtu": 1500 },
 *	  "vf": { "0": { "mac": "02:00:00:00:00:01", "vlans": "any" } } }
 *
 * A VF's own object overrides the default member by member.  An unknown
 * member is an error, so that a misspelt restriction is not an open door.
 * docs/pf-policy.md lists the members.
 */
#ifndef IGB_PF_POLICY_H
#define IGB_PF_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "igb/mbx.h"

#define PF_VFS_MAX 8

struct pf_vf_policy {
	bool guest_mac; /* the guest may set its address */
	uint8_t mac[6]; /* else, and until then, this; zeroes: none */
	uint64_t vlan[MBX_VLAN_WORDS]; /* allowed ids */
	uint8_t multicast;	       /* hashes at most */
	uint8_t filters;	       /* extra addresses at most */
	uint8_t promisc;	       /* MBX_PROMISC_* allowed */
	bool spoof_check;	       /* drop frames with another source */
	uint16_t frame;		       /* largest frame */
};

struct pf_policy {
	struct pf_vf_policy vf[PF_VFS_MAX];
};

/* Guest-chosen MAC, all VLANs, no promiscuity, anti-spoof on, MTU 1500. */
void pf_policy_default(struct pf_policy *p);

/* *p is untouched on failure; the message names file, place and remedy. */
int pf_policy_load(struct pf_policy *p, const char *path, struct err *e);
int pf_policy_parse(struct pf_policy *p, const char *text, struct err *e);

/*
 * Whether a VF with this state may have 'r'.  NULL: yes; else the reason
 * in a few words, a string literal.
 */
const char *pf_policy_refuses(const struct pf_vf_policy *p,
			      const struct mbx_state *s,
			      const struct mbx_req *r);

/* As above for a whole state, as pf_port_ops.restore has it. */
const char *pf_policy_refuses_state(const struct pf_vf_policy *p,
				    const struct mbx_state *s);

#endif
