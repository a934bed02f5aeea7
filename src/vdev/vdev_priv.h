/*
 * Inside of a vdev; for the files vdev*.c of this folder only.
 *
 * All of it is under v->lock but what never changes after vdev_create().
 */
#ifndef VDEV_PRIV_H
#define VDEV_PRIV_H

#include <pthread.h>

#include "base/log.h"
#include "pci/config.h"
#include "pci/msix.h"
#include "vdev/vdev.h"

#define VDEV_PAGES_MAX 64u /* of all BARs but huge ones; 256 KiB a BAR */

struct vdev_page {
	uint32_t reasons;	/* VDEV_TRAP_*; 0: direct */
	void *va;		/* pdev's page, NULL: none */
	void *stand_in;		/* memory in its place, NULL: none */
	struct host_slot *slot; /* while a guest can reach either */
	void *shown;		/* which */
	uint64_t reads, writes;
};

struct vdev_bar {
	uint64_t size;
	uint64_t gpa; /* PCI_UNMAPPED: nowhere */
	unsigned int npages;
	struct vdev_page *page;
};

/*
 * A vector has two eventfds.  The pdev fires 'fd'; while the vector is live
 * and not taken that is the guest's irqfd, and we never see it.  What we
 * deliver ourselves goes through 'inject'.
 */
struct vdev_vec {
	struct vdev *v;
	unsigned int irq; /* host's number */
	int fd, inject;
	bool fd_bound, inject_bound, taken;
	bool routed;
	struct host_msi msi; /* as routed last */
	struct loop_source *src;
	void (*fn)(void *opaque);
	void *opaque;
};

struct vdev_note;

struct vdev {
	struct pci_func func; /* first: see to_vdev() */
	char name[32];
	const struct vdev_model *model;
	struct host *host;
	struct loop *loop;

	pthread_mutex_t lock; /* recursive */
	struct pdev *pdev;
	enum vdev_backing backing;
	struct vdev_note *note; /* while a pdev is bound */
	unsigned int ndma;	/* RAM regions mapped */
	struct pci_config cfg;
	struct pci_msix msix;
	struct vdev_bar bar[6];
	struct vdev_vec vec[VDEV_VECTORS_MAX];
	unsigned int nvec; /* made so far */
	struct vdev_tap *taps;
	struct vdev_watch *watches;
	struct vdev_counts counts;
	struct log_limit nonsense;
};

static inline struct vdev *to_vdev(struct pci_func *f)
{
	return (struct vdev *)f;
}

/* vdev_gone.c: in the loop's thread */
int vdev_gone_watch(struct vdev *v);
void vdev_gone_unwatch(struct vdev *v);

/* vdev_bar.c */
int vdev_bars_init(struct vdev *v);
void vdev_bars_fini(struct vdev *v);
void vdev_bars_moved(struct vdev *v); /* after config changed */
void vdev_bars_map(struct vdev *v);   /* the pdev's pages, on bind */
void vdev_bars_unmap(struct vdev *v);
uint64_t vdev_bar_read(struct pci_func *f, unsigned int bar, uint64_t off,
		       unsigned int size);
void vdev_bar_write(struct pci_func *f, unsigned int bar, uint64_t off,
		    unsigned int size, uint64_t val);

/* vdev_irq.c */
int vdev_irqs_init(struct vdev *v);
void vdev_irqs_fini(struct vdev *v);
int vdev_irqs_arm(struct vdev *v); /* the pdev's vectors, on bind */
void vdev_irqs_disarm(struct vdev *v);
void vdev_irqs_update(struct vdev *v);	/* after table or control changed */
void vdev_irqs_collect(struct vdev *v); /* eventfds into pending bits */
void vdev_irqs_clear(struct vdev *v);	/* forget what is pending */

/* vdev_cfg.c */
int vdev_cfg_init(struct vdev *v);
void vdev_cfg_apply(struct vdev *v);  /* make everything follow config */
int vdev_cfg_command(struct vdev *v); /* tell the pdev */
uint32_t vdev_cfg_read(struct pci_func *f, uint32_t off, unsigned int size);
void vdev_cfg_write(struct pci_func *f, uint32_t off, unsigned int size,
		    uint32_t val);

#endif
