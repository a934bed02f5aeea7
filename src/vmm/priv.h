/*
 * The parts of a VM, for the files of this folder only.
 *
 * Each part has one struct, one file and one lock.  Locks are taken in the
 * order mem -> run, and none of them is held around a PCI hook.
 */
#ifndef VMM_PRIV_H
#define VMM_PRIV_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "vmm/debug.h"
#include "vmm/serial.h"
#include "vmm/vm.h"

/* The machine's physical address map. */
#define RAM_LOW_END   0xc0000000ull  /* RAM below 4 GiB ends here at last */
#define RAM_HIGH      0x100000000ull /* and goes on here */
#define WIN_LOW	      0xc0000000ull  /* BARs below 4 GiB */
#define WIN_LOW_END   0xfec00000ull
#define WIN_HIGH_SIZE 0x100000000ull /* BARs above; starts behind RAM */
#define IOAPIC_GPA    0xfec00000ull
#define LAPIC_GPA     0xfee00000ull
#define KVM_IDENT_GPA 0xfffbc000ull /* one page for KVM on Intel */
#define KVM_TSS_GPA   0xfffbd000ull /* three pages, likewise */

#define IRQ_SERIAL  4
#define IRQ_SCI	    9
#define IRQ_PINS    24	/* of the I/O APIC: GSI 0..23 */
#define IRQ_MSI_MAX 512 /* MSI GSIs from IRQ_PINS on */

#define BAR_SLOTS     256 /* direct BAR stretches at once */
#define PCI_FUNCS_MAX 32

struct host_slot {
	uint32_t id; /* KVM's slot number */
	uint64_t gpa, len;
};

struct vm_mem {
	pthread_mutex_t lock; /* split state and BAR slots */
	int fd;
	struct host_ram ram[2];
	size_t nram;
	uint64_t pages;	   /* of 4096 bytes */
	uint64_t *split;   /* bit per page: lives in its copy */
	uint64_t *marked;  /* dirtied from this process; atomic */
	uint64_t *scratch; /* for KVM's answer */
	atomic_bool logging;
	uint64_t slots[BITMAP_WORDS(BAR_SLOTS)];
};

struct vm_irqs {
	pthread_mutex_t lock;
	struct {
		bool used, routed;
		struct host_msi m;
	} msi[IRQ_MSI_MAX];
};

struct bus_bar {
	struct pci_func *f;
	unsigned int bar;
	uint64_t gpa, size;
};

struct vm_bus {
	pthread_rwlock_t lock;	    /* bars */
	pthread_mutex_t ports_lock; /* cf8, pm: the few registers here */
	struct pci_func *func[256]; /* by devfn */
	struct bus_bar bar[PCI_FUNCS_MAX * 6];
	unsigned int nbars, nfuncs;
	uint64_t win_high;
	_Atomic uint32_t cf8;
	uint16_t pm_sts, pm_en, pm_cnt;
};

struct vm_debug {
	const struct vm_debug_ops *ops;
	void *opaque;
	uint64_t hw[VM_DEBUG_HW];
};

struct vcpu {
	struct vm *vm;
	unsigned int idx;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	atomic_bool in_guest; /* in KVM_RUN, or about to */
	bool parked;	      /* waits in park(); vm->run_lock */
	bool step;	      /* debugger: stop after each insn */
	bool step_off;	      /* and once, without hardware breakpoints */
	bool incomplete;      /* KVM waits for an answer to an exit */
	atomic_uint_fast64_t exits[VM_NEXITS];
};

struct vm {
	struct host host; /* first: struct host * is struct vm * */
	char name[VM_NAME_MAX + 1];
	struct vm_config cfg; /* only callbacks and numbers */
	int kvm, fd;
	size_t run_size;
	struct vm_mem mem;
	struct vm_irqs irqs;
	struct vm_bus bus;
	struct serial serial;
	struct vm_debug debug;
	struct kvm_cpuid2 *cpuid;  /* as the guest sees it, apic id 0 */
	struct kvm_msr_list *msrs; /* those this kernel saves */

	pthread_mutex_t run_lock;
	pthread_cond_t run_cond; /* any change of what follows */
	atomic_uint pauses;
	unsigned int parking;
	bool started, loaded, quit;
	enum vm_end end;
	int end_code;

	unsigned int ncpus;
	struct vcpu cpu[VM_CPUS_MAX];
};

/* mem.c */
int mem_create(struct vm *vm, uint64_t size, bool huge, struct err *e);
void mem_destroy(struct vm *vm);
void *mem_ptr(struct vm *vm, uint64_t gpa, uint64_t len); /* guest view */
int mem_split(struct vm *vm, uint64_t gpa, uint64_t len);
int mem_merge(struct vm *vm, uint64_t gpa, uint64_t len);
int mem_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *va,
		 struct host_slot **out);
int mem_slot_del(struct vm *vm, struct host_slot *s);
void mem_mark(struct vm *vm, uint64_t gpa, uint64_t len);

/* irq.c */
int irq_init(struct vm *vm);
int irq_alloc(struct vm *vm, unsigned int *irq);
void irq_free(struct vm *vm, unsigned int irq);
int irq_set_route(struct vm *vm, unsigned int irq, struct host_msi m);
int irq_fd(struct vm *vm, unsigned int irq, int eventfd, bool on);
void irq_line(struct vm *vm, unsigned int gsi, bool level);

/* host.c */
extern const struct host_ops vm_host_ops;

/* vcpu.c */
int vcpus_create(struct vm *vm, struct err *e);
void vcpus_destroy(struct vm *vm);
void vcpus_ended(struct vm *vm, enum vm_end end, int code);

/* state_vcpu.c */
int msr_read(struct vcpu *c, struct kvm_msr_entry *e);
int msr_write(struct vcpu *c, const struct kvm_msr_entry *e);

/* debug.c */
void debug_exit(struct vcpu *c);
void debug_trap(struct vcpu *c); /* after complete() */

/* bus.c: what an exit reaches; returns how to count it */
void bus_init(struct vm *vm);
enum vm_exit bus_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len,
		      bool write);
enum vm_exit bus_pio(struct vm *vm, uint16_t port, void *data,
		     unsigned int size, bool write);
void bus_power_button(struct vm *vm);

/* pci.c */
void bus_pci_init(struct vm *vm);
uint32_t bus_cfg_read(struct vm *vm, uint32_t cf8, unsigned int byte,
		      unsigned int size);
void bus_cfg_write(struct vm *vm, uint32_t cf8, unsigned int byte,
		   unsigned int size, uint32_t val);
int bus_assign(struct vm *vm, struct err *e);

/* cpuid.c */
int cpuid_create(struct vm *vm, uint64_t mem, struct err *e);
int cpuid_set(struct vcpu *c);
void cpuid_put(struct wire_out *o, const struct kvm_cpuid2 *t);
struct kvm_cpuid2 *cpuid_get(struct wire_in *in); /* free() it */
/* Whether a guest that saw 't' can run here; 'kvm' is /dev/kvm. */
int cpuid_check(int kvm, const struct kvm_cpuid2 *t, struct err *e);

/* boot.c: kernel, tables and the first vCPU's registers */
int boot_load(struct vm *vm, const struct vm_config *cfg, struct err *e);

#endif
