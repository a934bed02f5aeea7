/*
 * A PF that the host's own driver owns: what its administrator can set, by
 * rtnetlink (`ip link set PF vf N mac ...`).
 */
#ifndef IGB_HOSTPF_H
#define IGB_HOSTPF_H

#include <stdint.h>

#include "base/err.h"

/*
 * Give the VF at PCI address 'vf' (what follows a comma is ignored) this
 * address.  Takes effect at the VF's next reset message.  Needs
 * CAP_NET_ADMIN.
 */
int hostpf_set_mac(const char *vf, const uint8_t mac[6], struct err *e);

#endif
