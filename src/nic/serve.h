/*
 * A nic behind vfio-user sockets: DIR/pf.sock, and DIR/vf0.sock ... while
 * SR-IOV is enabled on the PF.
 *
 * One thread does everything: it answers messages, looks at the direct
 * pages, moves frames.  Busy it polls; with nothing to do it sleeps, the
 * longer the longer nothing came (serve.c).
 */
#ifndef NIC_SERVE_H
#define NIC_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "nic/nic.h"
#include "nic/uplink.h"

struct serve;

struct serve_conf {
	struct nic *nic; /* theirs, as are the next two */
	struct uplink *uplink;
	struct loop *loop;
	const char *dir;  /* made if it is not there, mode 0700 */
	uint64_t idle_ns; /* sleep between looks when idle; 0: 1 ms */
};

struct serve_counts {
	uint64_t rounds, busy; /* of polling; with something to do */
	uint64_t sleeps;
};

int serve_create(struct serve **out, const struct serve_conf *conf,
		 struct err *e);
void serve_destroy(struct serve *s); /* NULL is fine */

/* Until serve_stop(), which may be called from the loop. */
int serve_run(struct serve *s);
void serve_stop(struct serve *s);

void serve_get_counts(const struct serve *s, struct serve_counts *out);
/* Accesses outside client memory and clients served, over all functions. */
bool serve_attached(const struct serve *s, unsigned int fn);

#endif
