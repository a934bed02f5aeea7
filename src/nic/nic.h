/*
 * The software SR-IOV NIC: a register-level model of an 82576 or an I350.
 *
 * The core knows registers, rings, interrupts and the switch.  It knows no
 * transport: client memory and interrupts are reached through nic_host_ops,
 * frames leave and enter through nic_wire_ops.  serve.c puts it behind
 * vfio-user sockets, tests behind plain memory.
 *
 * Function 0 is the PF, function 1 + n is VF n.
 *
 * Threads: one thread owns a nic and makes every call.  Pages of a VF's BAR 0
 * may be mapped by a client and change under us at any time (direct.c).
 *
 * What a guest does wrong is answered as hardware would, counted, and
 * logged at most now and then; nothing a guest does is an error here.
 */
#ifndef NIC_NIC_H
#define NIC_NIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NIC_VFS_MAX	  8
#define NIC_FUNCTIONS_MAX (1 + NIC_VFS_MAX)
#define NIC_PF		  0u
#define NIC_VF(n)	  (1u + (n))

enum nic_model { NIC_82576, NIC_I350, NIC_NMODELS };

struct nic_conf {
	enum nic_model model;
	unsigned int vfs;	   /* TotalVFs, 1..8 */
	bool compact;		   /* page 0 also has heads and tails */
	bool heads_ro;		   /* RDH, TDH never writable */
	unsigned int direct_pages; /* bit n: page n of a VF's BAR 0 */
	uint8_t mac[6];		   /* of the PF */
	uint64_t autoneg_ns;	   /* until the link is up; 0: 50 ms */
};

/* Page 1 cannot be direct: see direct.c. */
#define NIC_DIRECT_DEFAULT 0xdu
#define NIC_DIRECT_ALLOWED 0xdu

enum nic_irq { NIC_IRQ_MSIX, NIC_IRQ_SINGLE /* MSI or INTx */ };

/* The client of one function. */
struct nic_host_ops {
	/*
	 * The bytes of [iova, iova + len) if one mapping holds them all and
	 * allows it; NULL: a fault.  Valid until the next call into the host
	 * that could change mappings; the core keeps none past a call.
	 */
	void *(*dma)(void *opaque, uint64_t iova, uint64_t len, bool write);
	/* The device wrote these bytes; before the guest can know.  Or NULL. */
	void (*wrote)(void *opaque, uint64_t iova, uint64_t len);
	void (*irq)(void *opaque, enum nic_irq kind, unsigned int vector);
};

/* The outside of the switch. */
struct nic_wire_ops {
	/* 0: taken.  -EAGAIN: not now, offer it again.  Else: dropped. */
	int (*send)(void *opaque, const uint8_t *frame, size_t len);
	void (*flush)(void *opaque); /* end of a batch; may be NULL */
};

/* SR-IOV was switched: 'n' VFs exist from now on, 0 for none. */
typedef void (*nic_vfs_fn)(void *opaque, unsigned int n);

struct nic;

int nic_create(struct nic **out, const struct nic_conf *conf, struct err *e);
void nic_destroy(struct nic *nic); /* NULL is fine */

void nic_set_wire(struct nic *nic, const struct nic_wire_ops *ops,
		  void *opaque);
void nic_set_vfs_fn(struct nic *nic, nic_vfs_fn fn, void *opaque);

/* Give a function its client; ops NULL: it has none (DMA faults, no irq). */
void nic_attach(struct nic *nic, unsigned int fn,
		const struct nic_host_ops *ops, void *opaque);

/* What a client sees. */
struct nic_bar {
	uint64_t size;	/* 0: not there */
	bool registers; /* else plain storage (MSI-X table) */
};
void nic_bar_info(const struct nic *nic, unsigned int fn, unsigned int bar,
		  struct nic_bar *out);
unsigned int nic_vectors(const struct nic *nic, unsigned int fn);

/*
 * Accesses.  'len' is a multiple of 4 and 'off' aligned for registers, else
 * -EINVAL; outside the BAR is -EINVAL.  Config space takes any size.
 */
int nic_read(struct nic *nic, unsigned int fn, unsigned int bar, uint64_t off,
	     void *buf, size_t len);
int nic_write(struct nic *nic, unsigned int fn, unsigned int bar, uint64_t off,
	      const void *buf, size_t len);
int nic_config_read(struct nic *nic, unsigned int fn, uint64_t off, void *buf,
		    size_t len);
int nic_config_write(struct nic *nic, unsigned int fn, uint64_t off,
		     const void *buf, size_t len);

/* Function-level reset. */
void nic_flr(struct nic *nic, unsigned int fn);

/* The memory behind a VF's BAR 0, IGBVF_BAR0_SIZE bytes; the nic's fd. */
int nic_direct_fd(const struct nic *nic, unsigned int vf);
unsigned int nic_direct_pages(const struct nic *nic);

/*
 * One round: direct pages, transmit queues, timers.  Returns what was done
 * (frames and guest register writes), 0 when there was nothing.
 */
unsigned int nic_poll(struct nic *nic);
/* When the next timer is due, in now_ns() time; UINT64_MAX: none. */
uint64_t nic_deadline(const struct nic *nic);
/* Whether anything needs polling at all (a VF with direct pages in use). */
bool nic_needs_polling(const struct nic *nic);
/* Whether polling must be fast: a guest may be in a 1 ms wait (direct.c). */
bool nic_poll_urgent(const struct nic *nic);

/*
 * A frame from the wire, without FCS.  -EAGAIN: offer it again soon.  After
 * a batch of them nic_flush() (nic_poll() does it too) tells the guests.
 */
int nic_wire_input(struct nic *nic, const uint8_t *frame, size_t len);
void nic_flush(struct nic *nic);

/* The cable.  Takes effect through the PHY, with interrupts. */
void nic_set_carrier(struct nic *nic, bool up);

struct nic_counts {
	uint64_t tx_frames, tx_bytes; /* taken from rings */
	uint64_t rx_frames, rx_bytes; /* put into rings */
	uint64_t wire_in, wire_out, wire_lost;
	uint64_t loopback;	/* copies made by the switch */
	uint64_t no_buffer;	/* frames lost: no descriptor */
	uint64_t filtered;	/* frames no filter wanted */
	uint64_t spoofed;	/* stopped by anti-spoofing */
	uint64_t tx_bad;	/* packets no hardware would send */
	uint64_t dma_faults;	/* accesses outside client memory */
	uint64_t bad_access;	/* register accesses that are nonsense */
	uint64_t direct_writes; /* guest writes seen in direct pages */
	uint64_t messages;	/* register accesses by message */
	uint64_t irqs;
	uint64_t mbx_requests, mbx_acks, mbx_conflicts;
};
void nic_get_counts(const struct nic *nic, struct nic_counts *out);

/* Name for people: "82576", "i350".  Index or -EINVAL. */
const char *nic_model_name(enum nic_model model);
int nic_model_parse(const char *name);

#endif
