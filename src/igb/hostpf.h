/*
 * A PF that the host's own driver owns: what its administrator can set, by
 * rtnetlink (`ip link set PF vf N mac ...`).
 */
#ifndef IGB_HOSTPF_H
#define IGB_HOSTPF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Give the VF at PCI address 'vf' (what follows a comma is ignored) this
 * address.  Takes effect at the VF's next reset message.  Needs
 * CAP_NET_ADMIN, here or in the broker.
 */
int hostpf_set_mac(const char *vf, const uint8_t mac[6], struct err *e);

/*
 * Before a role gives up its rights, and has threads: a process that keeps
 * CAP_NET_ADMIN and sets addresses for this one, through hostpf_set_mac(),
 * until this one ends.  'drop' gives up what it does not need.
 */
int hostpf_broker_start(int (*drop)(struct err *e), struct err *e);
/* The broker's life: requests on a SEQPACKET socket until it is closed. */
void hostpf_serve(int fd);

/*
 * Send a frame from the PF of the VF at this address, by its network
 * interface.  The socket for that must be opened before a role gives up its
 * rights; it receives nothing.  Once a process; -EPERM without CAP_NET_RAW.
 */
int hostpf_raw_open(void);
int hostpf_raw_send(const char *vf, const void *frame, size_t len);

#endif
