/*
 * What the core asks of the hypervisor it lives in.
 *
 * vdev, shadow and migrate know the VMM only through this struct, so that
 * another VMM can host them.  Our own fills it in src/vmm/host.c; tests
 * fill it with memory and counters.
 *
 * Guest physical addresses are gpa_t, addresses a device uses are iova_t;
 * they are equal numbers today (no vIOMMU) and different types so that
 * they stay told apart.
 */
#ifndef VDEV_HOST_H
#define VDEV_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} iova_t;

/* One stretch of guest RAM. */
struct host_ram {
	gpa_t gpa;
	uint64_t size; /* bytes */
	uint64_t page; /* unit of a split: 4096 or a huge page */
	int fd;	       /* memfd behind it */
	uint64_t fd_offset;
	void *guest;   /* guest view: what vCPUs reach */
	void *backing; /* backing view: always the original */
};

struct host_msi {
	uint64_t addr;
	uint32_t data;
};

struct host_slot; /* a stretch of BAR that is direct now */

struct host;

struct host_ops {
	/* RAM does not change while the VM lives. */
	size_t (*ram)(struct host *h, const struct host_ram **out);

	/*
	 * Split: vCPUs get a private copy of these pages, the backing view
	 * and every device keep the originals.  Merge: the vCPUs get the
	 * originals back as they are now; whoever merges has synchronised.
	 * Both take whole units of host_ram.page, pause the vCPUs for the
	 * instant, and are -EALREADY where the state is so already.
	 */
	int (*split)(struct host *h, gpa_t gpa, uint64_t len);
	int (*merge)(struct host *h, gpa_t gpa, uint64_t len);

	/*
	 * Direct BAR pages.  When slot_del returns no vCPU can reach the old
	 * mapping any more, and its next access is a bar_read/bar_write.
	 */
	int (*slot_add)(struct host *h, gpa_t gpa, uint64_t len, void *va,
			struct host_slot **out);
	int (*slot_del)(struct host *h, struct host_slot *s);

	/*
	 * Interrupts.  An irq is a guest MSI message that an eventfd fires
	 * in the kernel (irqfd), with no exit of ours: create, route, bind.
	 */
	int (*irq_create)(struct host *h, unsigned int *irq);
	void (*irq_destroy)(struct host *h, unsigned int irq);
	int (*irq_route)(struct host *h, unsigned int irq, struct host_msi m);
	int (*irq_bind)(struct host *h, unsigned int irq, int eventfd);
	int (*irq_unbind)(struct host *h, unsigned int irq, int eventfd);

	/* Stop every vCPU out of guest code; nests.  From any thread. */
	int (*pause)(struct host *h);
	void (*resume)(struct host *h);

	/* These bytes of guest memory were written by a device. */
	void (*mark_dirty)(struct host *h, gpa_t gpa, uint64_t len);
};

/* Implementations embed it as their first member. */
struct host {
	const struct host_ops *ops;
};

/* The bytes at gpa if all of [gpa, gpa + len) is RAM of one region, or NULL. */
void *host_guest_ptr(struct host *h, gpa_t gpa, uint64_t len);
void *host_backing_ptr(struct host *h, gpa_t gpa, uint64_t len);

#endif
