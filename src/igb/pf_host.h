/*
 * Where a PF's VFs are on this host, and the token that opens them.
 *
 * A VF of a PF owned by vfio-pci opens only with the token the PF was opened
 * with.  The token is made once per PF and kept in a file of mode 0600, so
 * that a driver that follows one that died can open the PF while VFs are in
 * use; VMs get it over the driver's socket, never on a command line.
 */
#ifndef IGB_PF_HOST_H
#define IGB_PF_HOST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PF_TOKEN_SIZE 37 /* a UUID and its NUL */

/* The token in 'path', made if there is none. */
int pf_host_token(char token[PF_TOKEN_SIZE], const char *path, struct err *e);

/*
 * What pdev_open() needs for VF 'vf' of 'pf_spec' ("0000:01:00.0" or
 * "vfio-user:DIR/pf.sock", whose VFs are DIR/vfN.sock).
 */
int pf_host_vf_spec(const char *pf_spec, const char *token, unsigned int vf,
		    char *buf, size_t size);

#endif
