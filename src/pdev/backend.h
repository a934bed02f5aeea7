/*
 * The back end for kernel VFIO; for pdev.c and tests.
 */
#ifndef PDEV_BACKEND_H
#define PDEV_BACKEND_H

#include "base/err.h"
#include "pdev/pdev.h"

#define PDEV_BDF_LEN   12 /* "0000:01:10.0" */
#define PDEV_TOKEN_LEN 36

/* A spec taken apart. */
struct pdev_vfio_spec {
	char bdf[PDEV_BDF_LEN + 1];	/* lower case, with domain */
	char token[PDEV_TOKEN_LEN + 1]; /* "": none */
};

int pdev_vfio_parse(struct pdev_vfio_spec *out, const char *spec,
		    struct err *e);

/* 'spec' is "0000:01:10.0[,vf-token=UUID]"; on success *out is the caller's. */
int pdev_vfio_open(struct pdev **out, const char *spec, struct err *e);

/*
 * The same with other roots than "/sys" and "/dev": what can go wrong before
 * the first ioctl is tested on a tree of plain files.
 */
int pdev_vfio_open_at(struct pdev **out, const char *spec, const char *sys,
		      const char *dev, struct err *e);

#endif
