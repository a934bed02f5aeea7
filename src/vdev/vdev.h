/*
 * The virtual device: what the guest sees, whatever stands behind it.
 *
 * Identity, configuration space, BAR layout and MSI-X table are the vdev's
 * and never change while the guest runs.  A page of a BAR is *direct* (the
 * guest reaches the pdev's page with no exit) or *trapped* (accesses come
 * here).  Whoever needs a page trapped gives a reason; the page is direct
 * again when the last reason is gone.
 *
 * On a trapped page an access is offered to the taps that cover it, newest
 * first, and goes to the pdev when none takes it.
 *
 * Locking: vdev_lock() is held around every tap, config and BAR access; it
 * is recursive for the owner's calls below.  Never pause the vCPUs while
 * holding it unless from a tap's own vCPU.
 */
#ifndef VDEV_VDEV_H
#define VDEV_VDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/wire.h"
#include "pci/func.h"
#include "pdev/pdev.h"
#include "vdev/host.h"

#define VDEV_VECTORS_MAX 32

struct vdev;

/* The identity the guest probed; stays over migration and rebind. */
struct vdev_model {
	const char *name; /* "igb/82576", "igb/i350" */
	uint16_t vendor, device, subvendor, subdevice;
	uint8_t revision;
	uint32_t class_code;  /* 0x020000 */
	uint64_t bar_size[6]; /* bytes, power of two; 0: no BAR */
	unsigned int msix_bar, vectors;
	uint32_t msix_table, msix_pba; /* offsets in msix_bar */
	unsigned int mbx_page;	       /* of BAR 0, where the mailbox is */
	uint32_t doorbell[4];	       /* offsets in BAR 0, for counts */
	unsigned int ndoorbells;
	/* A register of BAR 0 with no side effect, 8 writable bits or more. */
	uint32_t scratch;
};

/* All models there are: by name ("igb/82576"), by the pdev's PCI ids. */
const struct vdev_model *vdev_model_find(const char *name);
const struct vdev_model *vdev_model_of(uint16_t vendor, uint16_t device);
/* The model a pdev is by itself; a message if there is none. */
const struct vdev_model *vdev_model_of_pdev(struct pdev *p, struct err *e);

enum vdev_backing { VDEV_NONE, VDEV_SOFTWARE, VDEV_HARDWARE };

/* Reasons for a trap; a set of bits. */
#define VDEV_TRAP_MBX	     (1u << 0) /* a mailbox exchange is going on */
#define VDEV_TRAP_SHADOW     (1u << 1) /* doorbells while shadowing */
#define VDEV_TRAP_QUIESCE    (1u << 2)
#define VDEV_TRAP_STATS	     (1u << 4) /* counters are re-based */
#define VDEV_TRAP_KERNEL     (1u << 5) /* mode `kernel`: mailbox, for ever */
#define VDEV_TRAP_UNBACKED   (1u << 6) /* no pdev right now */
#define VDEV_TRAP_UNMAPPABLE (1u << 7) /* the pdev cannot map this page */

/*
 * Create without a pdev; vdev_bind() gives it one.  The func member of the
 * result goes to the bus.  'loop' serves interrupts while they are taken.
 */
int vdev_create(struct vdev **out, const char *name,
		const struct vdev_model *model, struct host *host,
		struct loop *loop, struct err *e);
/* In the loop's thread; closes the pdev.  NULL is fine. */
void vdev_destroy(struct vdev *v);

/*
 * Map RAM for DMA, arm vectors, make pages direct.  Owns 'p' on success,
 * has changed nothing on failure.  A pdev that goes by itself stays bound,
 * but backs nothing: its pages are trapped as unbacked and read as all ones.
 */
int vdev_bind(struct vdev *v, struct pdev *p, enum vdev_backing kind,
	      struct err *e);
/* Take the pdev away: all pages trapped, DMA unmapped, vectors off. */
struct pdev *vdev_unbind(struct vdev *v);

/*
 * Reset the function behind the device, not the device: what the guest set
 * in configuration space (bus mastering) is set again.
 */
int vdev_reset(struct vdev *v);

struct pci_func *vdev_func(struct vdev *v);
struct pdev *vdev_pdev(struct vdev *v);
struct host *vdev_host(struct vdev *v);
struct loop *vdev_loop(struct vdev *v);
const struct vdev_model *vdev_get_model(const struct vdev *v);
enum vdev_backing vdev_get_backing(const struct vdev *v);
const char *vdev_name(const struct vdev *v);

void vdev_lock(struct vdev *v);
void vdev_unlock(struct vdev *v);

/* Traps.  When trap returns, no vCPU can reach the page directly. */
int vdev_trap(struct vdev *v, unsigned int bar, unsigned int page,
	      uint32_t reason);
int vdev_untrap(struct vdev *v, unsigned int bar, unsigned int page,
		uint32_t reason);
uint32_t vdev_trap_reasons(struct vdev *v, unsigned int bar, unsigned int page);
/*
 * As long as VDEV_TRAP_SHADOW is the only reason, the guest reaches the page
 * of memory at 'va' instead of exiting; NULL: it exits again.  Who stands in
 * looks at the memory himself.  When this returns, nobody reaches what was
 * there before.
 */
int vdev_page_stand_in(struct vdev *v, unsigned int bar, unsigned int page,
		       void *va);

/* Whether the guest reaches the page with no exit right now. */
bool vdev_page_direct(struct vdev *v, unsigned int bar, unsigned int page);

/*
 * A tap on [off, off + len) of a BAR.  Returns true if it handled the
 * access (for reads: *val is the answer), false to let it pass on.  Taps
 * only ever see aligned accesses of 4 bytes: wider ones come as two,
 * narrower ones never.  A NULL hook passes everything on.
 */
struct vdev_tap {
	unsigned int bar;
	uint32_t off, len;
	bool (*read)(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val);
	bool (*write)(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val);
	void *opaque;
	struct vdev_tap *next; /* the vdev's */
};
void vdev_tap_add(struct vdev *v, struct vdev_tap *t); /* t stays yours */
void vdev_tap_del(struct vdev *v, struct vdev_tap *t);

/* The pdev's register behind a BAR offset, trapped or not. */
uint32_t vdev_reg_read(struct vdev *v, uint32_t off); /* BAR 0 */
void vdev_reg_write(struct vdev *v, uint32_t off, uint32_t val);
/*
 * The same, from the device itself.  Where registers are memory, what a
 * mapping shows of one that the device moves may lag behind descriptors that
 * the guest has already seen and used again.
 */
uint32_t vdev_reg_ask(struct vdev *v, uint32_t off);

/*
 * Interrupts.  Normally the pdev's eventfd is the guest's irqfd.  Taken,
 * the pdev fires into fn (in the loop's thread) and only vdev_irq_inject()
 * reaches the guest; masked vectors stay pending as MSI-X says.  fn runs
 * with the lock held and must not pause the vCPUs; after release it does
 * not run any more.  Take, release and inject are for any thread.
 * take: -EBUSY if taken; release: -EALREADY if not.
 */
int vdev_irq_take(struct vdev *v, unsigned int vector, void (*fn)(void *opaque),
		  void *opaque);
int vdev_irq_release(struct vdev *v, unsigned int vector);
void vdev_irq_inject(struct vdev *v, unsigned int vector);

/* Told of a function-level reset by the guest, after it; lock held. */
struct vdev_watch {
	void (*reset)(void *opaque);
	void *opaque;
	struct vdev_watch *next; /* the vdev's */
};
void vdev_watch_add(struct vdev *v, struct vdev_watch *w); /* w stays yours */
void vdev_watch_del(struct vdev *v, struct vdev_watch *w);

/*
 * State: configuration space, MSI-X table and pending bits, trap counters.
 * Not the pdev's: the family's code saves that.  Bounded, versioned; load
 * commits nothing unless all of it was read.
 */
void vdev_save(struct vdev *v, struct wire_out *o);
int vdev_load(struct vdev *v, struct wire_in *in, struct err *e);

/* Exits by BAR page, for `status` and the zero-exit tests. */
struct vdev_counts {
	uint64_t reads, writes; /* trapped accesses in all */
	uint64_t mbx_page, doorbell, other;
	uint64_t traps, untraps; /* toggles */
	uint64_t bad;		 /* nonsense accesses answered */
};
void vdev_get_counts(struct vdev *v, struct vdev_counts *out);
void vdev_page_counts(struct vdev *v, unsigned int bar, unsigned int page,
		      uint64_t *reads, uint64_t *writes);

#endif
