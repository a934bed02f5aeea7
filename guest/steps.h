/*
 * Steps through the mailbox by command, for tests that must stop a guest in
 * the middle of an exchange, and loads of accesses and messages.
 */
#ifndef GUEST_STEPS_H
#define GUEST_STEPS_H

#include "igbvf.h"

/* The driver does nothing by itself until told otherwise. */
extern bool steps_frozen;

/* Runs a command of this file's; false: it is none. */
bool steps_command(struct igbvf *v, const char *name, uint64_t n);

#endif
