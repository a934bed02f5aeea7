/*
 * The machine's state between KVM and the wire: for save.c only.
 *
 * A capture fills a plain struct from KVM, a codec turns it into bytes and
 * back, an apply gives it to KVM.  So a load can read and check everything
 * before the first ioctl changes anything.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <linux/kvm.h>

#include "vmm/priv.h"

#define MSR_IA32_TSC	 0x10
#define MSR_TSC_DEADLINE 0x6e0

#define STATE_MSRS  512
#define STATE_XSAVE 16384u /* bytes; AMX would need 11 KiB */

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	uint32_t tsc_khz;
	uint32_t nmsrs;
	struct kvm_msr_entry msr[STATE_MSRS];
	uint32_t xsave_len;
	uint8_t xsave[STATE_XSAVE] __attribute__((aligned(64)));
};

struct machine_state {
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct serial serial; /* registers and input only */
	uint32_t cf8;
	uint16_t pm_sts, pm_en, pm_cnt;
};

/* MSRs this kernel can save, in vm->msrs. */
int state_msrs_list(struct vm *vm);

int vcpu_capture(struct vcpu *c, struct vcpu_state *s);
void vcpu_put(struct wire_out *o, const struct vcpu_state *s);
void vcpu_get(struct wire_in *in, struct vcpu_state *s);
/* Whether KVM here can take it; a message if not. */
int vcpu_check(struct vcpu *c, const struct vcpu_state *s, struct err *e);
int vcpu_apply(struct vcpu *c, const struct vcpu_state *s, struct err *e);

int machine_capture(struct vm *vm, struct machine_state *s);
void machine_put(struct wire_out *o, const struct machine_state *s);
void machine_get(struct wire_in *in, struct machine_state *s);
int machine_apply(struct vm *vm, const struct machine_state *s, struct err *e);

/* After all the rest was captured or applied; 's' has one for each vCPU. */
int time_capture(struct vm *vm, struct machine_state *m, struct vcpu_state *s);
int time_apply(struct vm *vm, const struct machine_state *m,
	       const struct vcpu_state *s, struct err *e);

#endif
