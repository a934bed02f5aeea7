/*
 * A host and a device made of memory, for unit tests of whatever stands on
 * vdev.h: no rights, no KVM, no hardware.  Not installed.
 *
 * The fake host has RAM with both views, real splits, slots, irqs whose
 * firings can be counted, and doubles as the PCI bus.  The fake device has
 * BARs made of shared memory, so that a direct access of the "guest" and
 * an access by read and write reach the same bytes.
 *
 * Plain structs: a test may look at everything.  One thread, except that
 * ops of the host may be called from several.
 */
#ifndef VDEV_FAKE_H
#define VDEV_FAKE_H

#include <pthread.h>

#include "vdev/vdev.h"

#define FAKE_SLOTS 64
#define FAKE_IRQS  64
#define FAKE_FDS   4
#define FAKE_DMA   512

struct host_slot {
	uint64_t gpa, len;
	void *va; /* NULL: free */
};

struct fake_irq {
	bool used, routed;
	struct host_msi msi;
	int fd[FAKE_FDS];   /* bound ones, -1: free */
	unsigned int fired; /* see fake_host_fired() */
};

struct fake_host {
	struct host h;
	pthread_mutex_t lock;
	struct host_ram ram; /* one region at 0 */
	uint64_t *dirty;     /* bit n: page n */
	uint64_t *split;
	struct host_slot slot[FAKE_SLOTS];
	struct fake_irq irq[FAKE_IRQS];
	int paused; /* depth */
	unsigned int pauses, splits, merges, slot_adds, slot_dels;
	/* The n-th call from now that can fail does, with -EIO; 0: none. */
	unsigned int fail_in;

	/* The bus: where the BARs of the plugged function are. */
	struct pci_func *func;
	uint64_t bar_gpa[6];
	unsigned int bar_moves;
};

/* 'mem' bytes of RAM, a multiple of the page size; 'page' the split unit. */
int fake_host_init(struct fake_host *f, uint64_t mem);
void fake_host_fini(struct fake_host *f);

/* How often the irq's bound eventfds fired since init. */
unsigned int fake_host_fired(struct fake_host *f, unsigned int irq);
/* The same for the irq that carries this MSI data; 0 if none does. */
unsigned int fake_host_fired_data(struct fake_host *f, uint32_t data);
bool fake_host_dirty(struct fake_host *f, uint64_t gpa);
/* The memory a guest reaches at gpa with no exit, or NULL: it exits. */
void *fake_host_direct(struct fake_host *f, uint64_t gpa);

/*
 * Be the bus and the firmware: BARs at 0xe0000000 and on, memory decoding
 * and bus mastering on.
 */
void fake_plug(struct fake_host *f, struct pci_func *func);
/* MSI-X on, vector n with data 0x4000 + n, none masked. */
void fake_msix_on(struct fake_host *f, const struct vdev_model *m);

/* The guest's accesses: directly where it can, else by the hooks. */
uint32_t fake_read(struct fake_host *f, unsigned int bar, uint32_t off);
void fake_write(struct fake_host *f, unsigned int bar, uint32_t off,
		uint32_t val);
/* Whether that access would exit. */
bool fake_exits(struct fake_host *f, unsigned int bar, uint32_t off);

struct fake_pdev {
	struct pdev p;
	uint8_t *bar[6]; /* the device's own view */
	uint8_t config[4096];
	int barfd[6];
	uint32_t nomap[6];	       /* bit n: page n unmappable */
	int irqfd[VDEV_VECTORS_MAX];   /* -1: off */
	struct pdev_dma dma[FAKE_DMA]; /* size 0: free */
	unsigned int reads, writes, resets, flushes;
	unsigned int fail_in; /* as of the host */
	bool *closed;	      /* set on close, if not NULL */
	bool gone;	      /* see fake_pdev_pull() */
	void (*gone_fn)(void *opaque);
	void *gone_opaque;

	/*
	 * Called on accesses by read and write to BARs (not on direct ones):
	 * before a read, to put a value in place, and after a write.
	 */
	void (*on_read)(struct fake_pdev *fp, unsigned int bar, uint32_t off);
	void (*on_write)(struct fake_pdev *fp, unsigned int bar, uint32_t off,
			 uint32_t val);
	void *opaque;
};

/* An igb VF: BAR 0 and 3 of 16 KiB, 3 vectors.  pdev_close() frees it. */
int fake_pdev_open(struct fake_pdev **out, uint16_t vendor, uint16_t device);
/* The device's interrupt; false if the vector is not armed. */
bool fake_pdev_fire(struct fake_pdev *fp, unsigned int vector);
/* The device goes: its owner is told, accesses fail from now on. */
void fake_pdev_pull(struct fake_pdev *fp);
/* What a device reaches at iova, or NULL: its DMA would fault. */
void *fake_pdev_dma(struct fake_pdev *fp, uint64_t iova, uint64_t len);
/* The device's register; no hook, no count. */
uint32_t fake_pdev_get(struct fake_pdev *fp, uint32_t off); /* BAR 0 */
void fake_pdev_set(struct fake_pdev *fp, uint32_t off, uint32_t val);

#endif
