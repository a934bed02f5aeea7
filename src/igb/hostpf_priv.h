/*
 * Inside of hostpf*.c.
 */
#ifndef IGB_HOSTPF_PRIV_H
#define IGB_HOSTPF_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The address in a spec: what follows a comma is a token. */
void hostpf_bdf(char *bdf, size_t size, const char *spec);

/* With this process's own rights. */
int hostpf_set_mac_here(const char *bdf, const uint8_t mac[6], struct err *e);

#endif
