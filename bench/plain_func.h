/*
 * A VF passed through and nothing more: what the vdev is measured against.
 *
 * Identity and capabilities are read from the pdev once, its mappable pages
 * of BAR 0 are the guest's, vectors go by irqfd, and every other access to a
 * BAR is one access to the pdev.  No mailbox, no taps, no state, no reset.
 */
#ifndef BENCH_PLAIN_FUNC_H
#define BENCH_PLAIN_FUNC_H

#include "pci/func.h"
#include "pdev/pdev.h"
#include "vdev/host.h"

struct plain;

/* Owns 'p' on success. */
int plain_open(struct plain **out, struct pdev *p, struct host *host);
/* The VM stands still and is there; NULL is fine. */
void plain_close(struct plain *f);

struct pci_func *plain_func(struct plain *f);

#endif
