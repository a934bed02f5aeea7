/*
 * Scenarios of the unit guest that have a file of their own.
 */
#ifndef UNIT_H
#define UNIT_H

int test_probe(void); /* unit_probe.c */

#endif
