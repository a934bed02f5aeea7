/*
 * Moving a device to another VF of the same host while its guest runs on:
 * hardware to software, software to hardware, one card to another.
 */
#ifndef MACHINE_REBIND_H
#define MACHINE_REBIND_H

#include "machine/machine.h"

struct rebind;

/* Gives a machine the method rebind (docs/control.md). */
int rebind_create(struct rebind **out, struct machine *m, struct err *e);
void rebind_destroy(struct rebind *r); /* NULL is fine */

#endif
