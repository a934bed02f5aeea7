/*
 * Slowing a guest down so that its memory can be sent faster than it is
 * written: the vCPUs are held for a share of each period.
 */
#ifndef MACHINE_THROTTLE_H
#define MACHINE_THROTTLE_H

#include "vmm/vm.h"

struct throttle;

int throttle_create(struct throttle **out);
void throttle_destroy(struct throttle *t); /* lets go first; NULL is fine */

/* percent 0..99; 0 lets go and waits until it has. */
void throttle_set(struct throttle *t, struct vm *vm, unsigned int percent);

#endif
