/*
 * The back ends pdev_open() can choose from; for pdev.c and the back ends.
 */
#ifndef PDEV_BACKEND_H
#define PDEV_BACKEND_H

#include "base/err.h"
#include "pdev/pdev.h"

/* 'spec' is all of it; on success *out is the caller's. */
int pdev_vfio_open(struct pdev **out, const char *spec, struct err *e);

#endif
