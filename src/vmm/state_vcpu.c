/*
 * A vCPU's state.
 */
#include "vmm/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/fields.h"

#define MSR_HYPERV_FIRST     0x40000000
#define MSR_HYPERV_LAST	     0x400000ff
#define MSR_KVM_ASYNC_PF_ACK 0x4b564d07

/* A guest tells ticks from time by kvmclock, so small differences do. */
#define TSC_TOLERANCE_PPM 250
#define TSC_LIMIT_PPM	  50000

static const struct field regs_fields[] = {
	FIELD(kvm_regs, rax), FIELD(kvm_regs, rbx), FIELD(kvm_regs, rcx),
	FIELD(kvm_regs, rdx), FIELD(kvm_regs, rsi), FIELD(kvm_regs, rdi),
	FIELD(kvm_regs, rsp), FIELD(kvm_regs, rbp), FIELD(kvm_regs, r8),
	FIELD(kvm_regs, r9),  FIELD(kvm_regs, r10), FIELD(kvm_regs, r11),
	FIELD(kvm_regs, r12), FIELD(kvm_regs, r13), FIELD(kvm_regs, r14),
	FIELD(kvm_regs, r15), FIELD(kvm_regs, rip), FIELD(kvm_regs, rflags),
};

#define SEGMENT(seg)                                                        \
	FIELD(kvm_sregs, seg.base), FIELD(kvm_sregs, seg.limit),            \
		FIELD(kvm_sregs, seg.selector), FIELD(kvm_sregs, seg.type), \
		FIELD(kvm_sregs, seg.present), FIELD(kvm_sregs, seg.dpl),   \
		FIELD(kvm_sregs, seg.db), FIELD(kvm_sregs, seg.s),          \
		FIELD(kvm_sregs, seg.l), FIELD(kvm_sregs, seg.g),           \
		FIELD(kvm_sregs, seg.avl), FIELD(kvm_sregs, seg.unusable)

static const struct field sregs_fields[] = {
	SEGMENT(cs),
	SEGMENT(ds),
	SEGMENT(es),
	SEGMENT(fs),
	SEGMENT(gs),
	SEGMENT(ss),
	SEGMENT(tr),
	SEGMENT(ldt),
	FIELD(kvm_sregs, gdt.base),
	FIELD(kvm_sregs, gdt.limit),
	FIELD(kvm_sregs, idt.base),
	FIELD(kvm_sregs, idt.limit),
	FIELD(kvm_sregs, cr0),
	FIELD(kvm_sregs, cr2),
	FIELD(kvm_sregs, cr3),
	FIELD(kvm_sregs, cr4),
	FIELD(kvm_sregs, cr8),
	FIELD(kvm_sregs, efer),
	FIELD(kvm_sregs, apic_base),
	FIELDS(kvm_sregs, interrupt_bitmap, 4),
};

static const struct field debugregs_fields[] = {
	FIELDS(kvm_debugregs, db, 4),
	FIELD(kvm_debugregs, dr6),
	FIELD(kvm_debugregs, dr7),
};

static const struct field events_fields[] = {
	FIELD(kvm_vcpu_events, exception.injected),
	FIELD(kvm_vcpu_events, exception.nr),
	FIELD(kvm_vcpu_events, exception.has_error_code),
	FIELD(kvm_vcpu_events, exception.pending),
	FIELD(kvm_vcpu_events, exception.error_code),
	FIELD(kvm_vcpu_events, interrupt.injected),
	FIELD(kvm_vcpu_events, interrupt.nr),
	FIELD(kvm_vcpu_events, interrupt.soft),
	FIELD(kvm_vcpu_events, interrupt.shadow),
	FIELD(kvm_vcpu_events, nmi.injected),
	FIELD(kvm_vcpu_events, nmi.pending),
	FIELD(kvm_vcpu_events, nmi.masked),
	FIELD(kvm_vcpu_events, sipi_vector),
	FIELD(kvm_vcpu_events, flags),
	FIELD(kvm_vcpu_events, smi.smm),
	FIELD(kvm_vcpu_events, smi.pending),
	FIELD(kvm_vcpu_events, smi.smm_inside_nmi),
	FIELD(kvm_vcpu_events, smi.latched_init),
	FIELD(kvm_vcpu_events, exception_has_payload),
	FIELD(kvm_vcpu_events, exception_payload),
};

static const struct field vcpu_fields[] = {
	FIELDS(vcpu_state, lapic.regs, 128),
	FIELD(vcpu_state, mp.mp_state),
	FIELD(vcpu_state, tsc_khz),
};

/* Not the Hyper-V ones, which we do not offer, nor those that are actions. */
static bool msr_wanted(uint32_t index)
{
	return (index < MSR_HYPERV_FIRST || index > MSR_HYPERV_LAST) &&
	       index != MSR_KVM_ASYNC_PF_ACK;
}

/*
 * In the order they are set again: the TSC before all that counts in it,
 * the deadline last.
 */
static void add_msr(struct kvm_msr_list *l, uint32_t index)
{
	if (l->nmsrs < STATE_MSRS)
		l->indices[l->nmsrs++] = index;
}

int state_msrs_list(struct vm *vm)
{
	struct kvm_msr_list *all, *l;
	bool deadline = false;

	if (vm->msrs)
		return 0;
	all = calloc(1, sizeof(*all) + 4 * STATE_MSRS);
	l = calloc(1, sizeof(*l) + 4 * STATE_MSRS);
	if (all)
		all->nmsrs = STATE_MSRS;
	if (!all || !l || ioctl(vm->kvm, KVM_GET_MSR_INDEX_LIST, all) < 0) {
		free(all);
		free(l);
		return -ENOMEM;
	}
	add_msr(l, MSR_IA32_TSC);
	for (uint32_t i = 0; i < all->nmsrs; i++) {
		uint32_t m = all->indices[i];

		deadline |= m == MSR_TSC_DEADLINE;
		if (m != MSR_IA32_TSC && m != MSR_TSC_DEADLINE && msr_wanted(m))
			add_msr(l, m);
	}
	if (deadline)
		add_msr(l, MSR_TSC_DEADLINE);
	free(all);
	vm->msrs = l;
	return 0;
}

/* struct kvm_msrs ends in an array without a size; this has room for one. */
union msr_one {
	struct kvm_msrs h;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int msr_read(struct vcpu *c, struct kvm_msr_entry *e)
{
	union msr_one m = { .h.nmsrs = 1 };

	m.h.entries[0] = *e;
	if (ioctl(c->fd, KVM_GET_MSRS, &m) != 1)
		return -EINVAL;
	*e = m.h.entries[0];
	return 0;
}

int msr_write(struct vcpu *c, const struct kvm_msr_entry *e)
{
	union msr_one m = { .h.nmsrs = 1 };

	m.h.entries[0] = *e;
	return ioctl(c->fd, KVM_SET_MSRS, &m) == 1 ? 0 : -EINVAL;
}

static int capture_xsave(struct vcpu *c, struct vcpu_state *s)
{
	int size = ioctl(c->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	unsigned long get = KVM_GET_XSAVE2;

	if (size <= 4096) {
		size = 4096;
		get = KVM_GET_XSAVE;
	}
	if ((uint32_t)size > STATE_XSAVE)
		return -E2BIG;
	s->xsave_len = (uint32_t)size;
	return ioctl(c->fd, get, s->xsave) < 0 ? -errno : 0;
}

int vcpu_capture(struct vcpu *c, struct vcpu_state *s)
{
	const struct kvm_msr_list *l = c->vm->msrs;
	int khz;

	/* First: asking for it makes KVM act on what its APIC has pending. */
	if (ioctl(c->fd, KVM_GET_MP_STATE, &s->mp) < 0 ||
	    ioctl(c->fd, KVM_GET_REGS, &s->regs) < 0 ||
	    ioctl(c->fd, KVM_GET_SREGS, &s->sregs) < 0 ||
	    ioctl(c->fd, KVM_GET_DEBUGREGS, &s->debugregs) < 0 ||
	    ioctl(c->fd, KVM_GET_XCRS, &s->xcrs) < 0 ||
	    ioctl(c->fd, KVM_GET_LAPIC, &s->lapic) < 0 ||
	    ioctl(c->fd, KVM_GET_VCPU_EVENTS, &s->events) < 0)
		return -errno;
	khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);
	s->tsc_khz = khz > 0 ? (uint32_t)khz : 0;

	/* Listed ones that this CPU model lacks cannot be read: not saved. */
	s->nmsrs = 0;
	for (uint32_t i = 0; i < l->nmsrs; i++) {
		struct kvm_msr_entry *e = &s->msr[s->nmsrs];

		*e = (struct kvm_msr_entry){ .index = l->indices[i] };
		if (msr_read(c, e) == 0)
			s->nmsrs++;
	}
	return capture_xsave(c, s);
}

void vcpu_put(struct wire_out *o, const struct vcpu_state *s)
{
	PUT_FIELDS(o, &s->regs, regs_fields);
	PUT_FIELDS(o, &s->sregs, sregs_fields);
	PUT_FIELDS(o, &s->debugregs, debugregs_fields);
	PUT_FIELDS(o, &s->events, events_fields);
	PUT_FIELDS(o, s, vcpu_fields);
	put_u8(o, (uint8_t)s->xcrs.nr_xcrs);
	for (uint32_t i = 0; i < s->xcrs.nr_xcrs; i++) {
		put_u32(o, s->xcrs.xcrs[i].xcr);
		put_u64(o, s->xcrs.xcrs[i].value);
	}
	put_u32(o, s->nmsrs);
	for (uint32_t i = 0; i < s->nmsrs; i++) {
		put_u32(o, s->msr[i].index);
		put_u64(o, s->msr[i].data);
	}
	put_u32(o, s->xsave_len);
	put_bytes(o, s->xsave, s->xsave_len);
}

void vcpu_get(struct wire_in *in, struct vcpu_state *s)
{
	memset(s, 0, sizeof(*s));
	GET_FIELDS(in, &s->regs, regs_fields);
	GET_FIELDS(in, &s->sregs, sregs_fields);
	GET_FIELDS(in, &s->debugregs, debugregs_fields);
	GET_FIELDS(in, &s->events, events_fields);
	GET_FIELDS(in, s, vcpu_fields);
	s->xcrs.nr_xcrs = get_u8(in);
	if (s->xcrs.nr_xcrs > KVM_MAX_XCRS) {
		s->xcrs.nr_xcrs = 0;
		wire_fail(in, -EBADMSG);
	}
	for (uint32_t i = 0; i < s->xcrs.nr_xcrs; i++) {
		s->xcrs.xcrs[i].xcr = get_u32(in);
		s->xcrs.xcrs[i].value = get_u64(in);
	}
	s->nmsrs = get_u32(in);
	if (s->nmsrs > STATE_MSRS) {
		s->nmsrs = 0;
		wire_fail(in, -EBADMSG);
	}
	for (uint32_t i = 0; i < s->nmsrs; i++) {
		s->msr[i].index = get_u32(in);
		s->msr[i].data = get_u64(in);
	}
	s->xsave_len = get_u32(in);
	if (s->xsave_len > STATE_XSAVE || s->xsave_len < 576) {
		s->xsave_len = 0;
		wire_fail(in, -EBADMSG);
	}
	get_bytes(in, s->xsave, s->xsave_len);
}

static bool msr_known(const struct vm *vm, uint32_t index)
{
	for (uint32_t i = 0; i < vm->msrs->nmsrs; i++)
		if (vm->msrs->indices[i] == index)
			return true;
	return false;
}

static bool tsc_scales(struct vm *vm)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
}

int vcpu_check(struct vcpu *c, const struct vcpu_state *s, struct err *e)
{
	int size = ioctl(c->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	int khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);
	uint64_t diff;

	for (uint32_t i = 0; i < s->nmsrs; i++)
		if (s->msr[i].data && !msr_known(c->vm, s->msr[i].index))
			return err_set(e, -ENOTSUP,
				       "vCPU %u: MSR 0x%x of the source is "
				       "unknown to KVM here",
				       c->idx, s->msr[i].index);
	if (s->xsave_len > (uint32_t)MAX(size, 4096))
		return err_set(e, -ENOTSUP,
			       "vCPU %u: %u bytes of extended state, KVM here "
			       "takes %d",
			       c->idx, s->xsave_len, MAX(size, 4096));
	if (!s->tsc_khz || khz <= 0 || tsc_scales(c->vm))
		return 0;
	diff = s->tsc_khz > (uint32_t)khz ? s->tsc_khz - (uint32_t)khz
					  : (uint32_t)khz - s->tsc_khz;
	diff = diff * 1000000 / (uint32_t)khz;
	if (diff > TSC_LIMIT_PPM)
		return err_set(e, -ENOTSUP,
			       "the source's TSC runs at %u kHz, this host's "
			       "at %d, and this CPU cannot scale it",
			       s->tsc_khz, khz);
	if (diff > TSC_TOLERANCE_PPM && c->idx == 0)
		log_warn("%s: the TSC runs at %d kHz here and at %u at the "
			 "source; a guest that uses it without kvmclock will "
			 "notice",
			 c->vm->name, khz, s->tsc_khz);
	return 0;
}

/* One KVM refuses is fine if it has that value already (features). */
static int set_msrs(struct vcpu *c, const struct vcpu_state *s, struct err *e)
{
	for (uint32_t i = 0; i < s->nmsrs; i++) {
		struct kvm_msr_entry now = { .index = s->msr[i].index };

		if (now.index == MSR_IA32_TSC || now.index == MSR_TSC_DEADLINE)
			continue; /* time_apply() */
		if (msr_write(c, &s->msr[i]) == 0)
			continue;
		if (msr_read(c, &now) == 0 ? now.data == s->msr[i].data
					   : s->msr[i].data == 0)
			continue;
		return err_set(e, -EINVAL,
			       "vCPU %u: KVM refuses 0x%llx for MSR 0x%x",
			       c->idx, s->msr[i].data, s->msr[i].index);
	}
	return 0;
}

int vcpu_apply(struct vcpu *c, const struct vcpu_state *s, struct err *e)
{
	struct kvm_vcpu_events events = s->events;
	int ret;

	/* Always valid, but only reported on request. */
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING |
			KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	if (s->tsc_khz && tsc_scales(c->vm))
		ioctl(c->fd, KVM_SET_TSC_KHZ, s->tsc_khz);
	/* The APIC's mode is in sregs, its registers read by that mode. */
	if (ioctl(c->fd, KVM_SET_SREGS, &s->sregs) < 0)
		return err_sys(e, -errno, "vCPU %u: system registers", c->idx);
	if (ioctl(c->fd, KVM_SET_REGS, &s->regs) < 0)
		return err_sys(e, -errno, "vCPU %u: registers", c->idx);
	if (ioctl(c->fd, KVM_SET_XCRS, &s->xcrs) < 0)
		return err_sys(e, -errno, "vCPU %u: XCR0", c->idx);
	if (ioctl(c->fd, KVM_SET_XSAVE, s->xsave) < 0)
		return err_sys(e, -errno, "vCPU %u: extended state", c->idx);
	if (ioctl(c->fd, KVM_SET_DEBUGREGS, &s->debugregs) < 0)
		return err_sys(e, -errno, "vCPU %u: debug registers", c->idx);
	if (ioctl(c->fd, KVM_SET_LAPIC, &s->lapic) < 0)
		return err_sys(e, -errno, "vCPU %u: local APIC", c->idx);
	ret = set_msrs(c, s, e);
	if (ret)
		return ret;
	if (ioctl(c->fd, KVM_SET_MP_STATE, &s->mp) < 0)
		return err_sys(e, -errno, "vCPU %u: run state", c->idx);
	if (ioctl(c->fd, KVM_SET_VCPU_EVENTS, &events) < 0)
		return err_sys(e, -errno, "vCPU %u: pending events", c->idx);
	return 0;
}
