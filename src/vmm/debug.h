/*
 * A guest under a debugger's eye: breakpoints, registers, its memory by its
 * own addresses.  Probes on a guest kernel stand on this.
 *
 * Registers of a vCPU may be touched while the VM is parked, or by the stop
 * hook for the vCPU that stopped.  Memory may be read and written at any
 * time; a write goes to what the vCPUs see and is in the dirty log.
 */
#ifndef VMM_DEBUG_H
#define VMM_DEBUG_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/vm.h"

/*
 * A breakpoint that stops on every KVM: "out %al, $0xb5", two bytes, which
 * change no register and no flag.  int3 is one byte, but QEMU's emulated SVM
 * (the lab) and some software KVMs hand it to the guest, unseen by KVM.  Ring
 * 0 only, unless the guest lets ring 3 use ports.
 */
#define VM_DEBUG_PORT 0xb5
#define VM_DEBUG_TRAP               \
	{                           \
		0xe6, VM_DEBUG_PORT \
	}

/*
 * The bytes of a breakpoint that stops here and fits 'room' bytes, and how
 * many: VM_DEBUG_TRAP; int3 where only that fits and this KVM reports it; or
 * 0.  The first call may try that out.
 */
unsigned int vm_debug_trap(struct vm *vm, unsigned int room, uint8_t *trap);

#define VM_DEBUG_HW 4 /* hardware breakpoints */

struct vm_debug_stop {
	unsigned int cpu;
	uint64_t pc;	 /* of the breakpoint, or of the next insn */
	bool breakpoint; /* an int3, or a VM_DEBUG_TRAP */
	bool step;	 /* one instruction was done */
	unsigned int hw; /* bit n: hardware breakpoint n */
};

struct vm_debug_ops {
	/*
	 * On the vCPU's thread; the others run on unless the hook pauses
	 * them.  True: the vCPU goes on with the registers as they now are
	 * (a hook that leaves rip at a breakpoint comes here again).  False:
	 * the breakpoint is the guest's own and the guest gets it.
	 */
	bool (*stop)(void *opaque, struct vm *vm,
		     const struct vm_debug_stop *stop);
};

/*
 * From now on every int3 and every VM_DEBUG_TRAP of the guest stops, with
 * rip at it.  -ENOTSUP where KVM cannot;
 * some software KVMs take this call and still never report an int3.
 */
int vm_debug_attach(struct vm *vm, const struct vm_debug_ops *ops,
		    void *opaque);
void vm_debug_detach(struct vm *vm);

/* Execution of 'gva' on any vCPU stops; 0 takes breakpoint n away. */
int vm_debug_hw(struct vm *vm, unsigned int n, uint64_t gva);
/* Stop this vCPU after each instruction.  From its hook, or parked. */
int vm_debug_step(struct vm *vm, unsigned int cpu, bool on);

int vm_debug_get_regs(struct vm *vm, unsigned int cpu, struct kvm_regs *r);
int vm_debug_set_regs(struct vm *vm, unsigned int cpu,
		      const struct kvm_regs *r);
int vm_debug_get_msr(struct vm *vm, unsigned int cpu, uint32_t msr,
		     uint64_t *v);
int vm_debug_get_sregs(struct vm *vm, unsigned int cpu, struct kvm_sregs *s);
/* XSAVE area, 4096 bytes: vector registers. */
int vm_debug_get_xsave(struct vm *vm, unsigned int cpu, struct kvm_xsave *x);
int vm_debug_set_xsave(struct vm *vm, unsigned int cpu,
		       const struct kvm_xsave *x);

/*
 * What 'gva' is under page tables 'cr3', of 4 or 5 levels ('la57').
 * -EFAULT: not mapped, or its tables are not in RAM.
 */
int vm_debug_translate(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		       gpa_t *gpa);

/* By the address space a vCPU is in.  All of it, or -EFAULT. */
int vm_debug_read(struct vm *vm, unsigned int cpu, uint64_t gva, void *buf,
		  size_t len);
int vm_debug_write(struct vm *vm, unsigned int cpu, uint64_t gva,
		   const void *buf, size_t len);

/* RAM by its guest physical address; a write is in the dirty log. */
int vm_debug_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len);
int vm_debug_write_phys(struct vm *vm, gpa_t gpa, const void *buf, size_t len);

/* By page tables of one's own choice; needs no vCPU and no stop. */
int vm_debug_read_as(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		     void *buf, size_t len);
int vm_debug_write_as(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		      const void *buf, size_t len);

#endif
