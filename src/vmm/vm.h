/*
 * A virtual machine on KVM: memory, vCPUs, interrupts, the PCI bus, a
 * serial console, and the boot of a kernel.
 *
 * A VM is created whole and still, devices are plugged into its bus, and
 * vm_start() sets it going.  vm_create() finds whatever could keep the VM
 * from running and says so in one message, before anything is started.
 *
 * Guest RAM is one memfd mapped twice, see struct host_ram.  BAR windows are
 * below 4 GiB and above all RAM; the bus assigns BARs at vm_start().
 *
 * Unless said otherwise a call is for the thread that created the VM.  The
 * struct host ops, vm_pause(), vm_resume(), vm_console_in() and the readers
 * of counters are for any thread, vCPU threads (that is: PCI hooks) included.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wire.h"
#include "pci/func.h"
#include "vdev/host.h"

#define VM_CPUS_MAX 32
#define VM_NAME_MAX 31

struct vm;

/* Why a VM does not run any more. */
enum vm_end {
	VM_RUNS,	 /* it does */
	VM_END_POWEROFF, /* the guest switched itself off */
	VM_END_REBOOT,	 /* it asked for a reset; create a new VM */
	VM_END_TRIPLE_FAULT,
	VM_END_CRASH, /* KVM could not go on; the log has why */
	VM_END_EXIT,  /* a test guest is done, 'code' is its status */
};

const char *vm_end_name(enum vm_end end);

struct vm_config {
	const char *name;  /* for thread names and the log */
	uint64_t mem;	   /* bytes, a multiple of 2 MiB */
	bool hugepages;	   /* RAM from hugetlb; splits are 2 MiB */
	unsigned int cpus; /* 1..VM_CPUS_MAX */

	/*
	 * bzImage, ELF vmlinux or an ELF test guest (see boot.h); NULL for a
	 * VM that will be filled by vm_load() and a copy of RAM.
	 */
	const char *kernel;
	const char *initrd; /* NULL: none */
	const char *append; /* NULL: "" */

	/*
	 * Bytes the guest sent to its serial port; on a vCPU thread, with a
	 * lock held: copy them and return.  NULL: dropped.
	 */
	void (*console)(void *opaque, const void *buf, size_t len);
	/* Called once, on a vCPU thread, when the guest ended. */
	void (*ended)(void *opaque, enum vm_end end, int code);
	void *opaque;
};

/*
 * -errno and a message with the remedy.  Nothing of 'cfg' is kept but the
 * function pointers and 'opaque'.
 */
int vm_create(struct vm **out, const struct vm_config *cfg, struct err *e);

/* Stops it first if need be.  Plugged functions are only forgotten. */
void vm_destroy(struct vm *vm); /* NULL is fine */

struct host *vm_host(struct vm *vm);

/*
 * Plug a function in at 'devfn', or at the first free device if that is
 * negative; before vm_start().  The function stays the caller's and must
 * outlive the VM's running.  Device 0 is the host bridge.
 */
int vm_pci_add(struct vm *vm, struct pci_func *f, int devfn, struct err *e);

/* Assign BARs that have no address, let the vCPUs go. */
int vm_start(struct vm *vm, struct err *e);

/*
 * Pause: when it returns no vCPU is in guest code and none will enter.
 * Nests; a few tens of microseconds.  A PCI hook in progress on another
 * vCPU's thread may still be in progress (it may wait for a lock that the
 * caller holds); the caller's own vCPU counts as stopped.
 */
int vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
bool vm_paused(struct vm *vm);

/*
 * While paused: wait until every hook is done and every vCPU stands between
 * two instructions.  Not from a vCPU thread, not with a device's lock held.
 * After this, RAM and devices change only by DMA.
 */
int vm_park(struct vm *vm);

/* Wait for the end at most timeout_ms (-1: for ever). */
enum vm_end vm_wait(struct vm *vm, int timeout_ms, int *code);

/* Press the ACPI power button; the guest decides what that means. */
void vm_power_button(struct vm *vm);

/* Input for the serial port; returns how many bytes found room. */
size_t vm_console_in(struct vm *vm, const void *buf, size_t len);

/* Exits to us, by reason.  What the kernel handles itself is not counted. */
enum vm_exit {
	VM_EXIT_MMIO,	   /* of BARs */
	VM_EXIT_MMIO_NONE, /* where nothing is */
	VM_EXIT_PIO_SERIAL,
	VM_EXIT_PIO_PCI, /* 0xcf8, 0xcfc */
	VM_EXIT_PIO_OTHER,
	VM_EXIT_HLT,
	VM_EXIT_INTR, /* pulled out by a signal: pause, debugger */
	VM_EXIT_DEBUG,
	VM_EXIT_OTHER,
	VM_NEXITS,
};

const char *vm_exit_name(enum vm_exit reason); /* "mmio", "pio-pci", ... */

struct vm_exit_counts {
	uint64_t n[VM_NEXITS];
};

unsigned int vm_cpus(const struct vm *vm);
const char *vm_name(const struct vm *vm);
/* Of one vCPU, or of all with cpu < 0. */
void vm_exit_counts(struct vm *vm, int cpu, struct vm_exit_counts *out);

/*
 * The dirty log.  Bit n is guest page n of all RAM: the pages of the regions
 * of host_ops.ram in order, 4096 bytes each.  It joins what the vCPUs wrote
 * (KVM), what host_ops.mark_dirty was told, and what split and merge changed.
 * To copy a page read it from the *guest view*: a split page's current
 * content is its copy.
 *
 * start makes the log empty; fetch adds (ORs) what was dirtied since start or
 * the last fetch to 'bitmap' and clears it in the log, so the caller must
 * copy those pages after the fetch.  For one thread.
 */
uint64_t vm_pages(struct vm *vm);
gpa_t vm_page_gpa(struct vm *vm, uint64_t page); /* page < vm_pages() */
void *vm_page_ptr(struct vm *vm, uint64_t page); /* guest view */
int vm_dirty_start(struct vm *vm);
int vm_dirty_fetch(struct vm *vm, uint64_t *bitmap);
void vm_dirty_stop(struct vm *vm);

/*
 * The machine's state but RAM and PCI functions: vCPUs, interrupt
 * controllers, timers, clock, serial port, bus.  The VM is parked for a save
 * and is created and not yet started for a load.  vm_load() checks all of it
 * against what this host's KVM can do and changes nothing unless everything
 * was read and fits.  vm_start() then runs on where the source stopped.
 */
size_t vm_state_max(const struct vm *vm); /* bytes vm_save() may need */
int vm_save(struct vm *vm, struct wire_out *o);
int vm_load(struct vm *vm, struct wire_in *in, struct err *e);

/*
 * The CPU the guest sees, as bytes, and whether this host can show it: for a
 * destination to answer before any RAM moves.
 */
void vm_cpu_save(struct vm *vm, struct wire_out *o);
int vm_cpu_check(struct wire_in *in, struct err *e);

#endif
