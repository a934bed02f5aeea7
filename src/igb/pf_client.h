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

/* 'vf' may be PF_ANY_VF (pf.h); 'who' is the VM's name.  Blocks up to 2 s. */
int pf_client_open(struct pf_port **out, const char *path, unsigned int vf,
		   const char *who, struct loop *l, struct trace *t,
		   struct err *e);

/* Ask a driver for its status as JSON text, to be freed. */
int pf_client_status(const char *path, char **out, struct err *e);

/* Ask it for a host-started event; see the 'control' messages. */
int pf_client_control(const char *path, enum pf_event_kind kind,
		      unsigned int vf, uint16_t frame, struct err *e);

#endif
