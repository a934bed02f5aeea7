/*
 * The socket of a PF driver: VMs in other processes claim VFs on it.
 *
 * One connection is one VF.  When it ends, however, the VF is given back:
 * reset, its filters dropped.  A VM that does not read what it is sent, or
 * sends what is no message, is disconnected; it holds up nobody.
 */
#ifndef IGB_PF_SERVER_H
#define IGB_PF_SERVER_H

#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "igb/pf.h"

#define PF_SERVER_CONNS 32

struct pf_server;

/* 'path' NULL: no socket, connections come by pf_server_adopt(). */
int pf_server_create(struct pf_server **out, struct pf *pf, struct loop *l,
		     const char *path, struct err *e);
/*
 * Before pf_close() the VFs are given back, with their filters; after it the
 * device stays as it is, for the next driver and the same VMs.  The VMs see
 * the driver go either way.  NULL is fine.
 */
void pf_server_destroy(struct pf_server *s);

/* Serve this connected SEQPACKET socket; owns it even on failure. */
int pf_server_adopt(struct pf_server *s, int fd);

struct pf_server_counts {
	/* refused: of too many; the longest without a VF goes first */
	uint64_t connects, refused;
	uint64_t messages, bad; /* bad: connections ended for one */
	uint64_t slow;		/* connections ended for not reading */
	unsigned int live;
};
void pf_server_get_counts(const struct pf_server *s,
			  struct pf_server_counts *out);

#endif
