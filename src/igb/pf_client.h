/*
 * The line to a PF driver in another process: `pagurus pf`'s socket.
 *
 * See docs/pf-socket.md for the messages.  When the driver dies the callback
 * hears PF_EV_GONE, the VF goes on, and the client keeps knocking at the
 * socket; a new driver is given what the VF was granted (the state of the
 * last restore plus all that was granted since) and the callback hears
 * PF_EV_BACK.
 */
#ifndef IGB_PF_CLIENT_H
#define IGB_PF_CLIENT_H

#include "base/err.h"
#include "base/loop.h"
#include "base/trace.h"
#include "igb/pf_port.h"

/*
 * 'vf' may be PF_ANY_VF (pf.h); 'who' is the VM's name, 't' may be NULL.
 * Blocks up to 2 s.
 */
int pf_client_open(struct pf_port **out, const char *path, unsigned int vf,
		   const char *who, struct loop *l, struct trace *t,
		   struct err *e);

/* The same on a connected socket, which it owns; it never reconnects. */
int pf_client_open_fd(struct pf_port **out, int fd, unsigned int vf,
		      const char *who, struct loop *l, struct trace *t,
		      struct err *e);

#endif
