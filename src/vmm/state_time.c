/*
 * The guest's two clocks, kvmclock and TSC, saved and set as of one moment.
 *
 * A guest compares them.  Read or set some other work apart, they differ by
 * that much for ever after, and Linux declares the TSC unstable.
 */
#include "vmm/state.h"

#include <errno.h>

#define TRIES	 8
#define CLOSE_NS 100000 /* as one moment as it gets without a retry */

static struct kvm_msr_entry *find_msr(const struct vcpu_state *s,
				      uint32_t index)
{
	for (uint32_t i = 0; i < s->nmsrs; i++)
		if (s->msr[i].index == index)
			return (struct kvm_msr_entry *)&s->msr[i];
	return NULL;
}

/* Of several tries, the one nothing came in between. */
int time_capture(struct vm *vm, struct machine_state *m, struct vcpu_state *s)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < TRIES && best > CLOSE_NS; i++) {
		struct kvm_msr_entry tsc = { .index = MSR_IA32_TSC };
		struct kvm_clock_data clock = { .clock = 0 };
		uint64_t t0 = now_ns(), took;

		if (ioctl(vm->fd, KVM_GET_CLOCK, &clock) < 0)
			return -errno;
		if (msr_read(&vm->cpu[0], &tsc))
			return -EIO;
		took = now_ns() - t0;
		if (took >= best)
			continue;
		best = took;
		/* One for all: they differ only by when they were read. */
		m->clock = clock;
		for (unsigned int c = 0; c < vm->ncpus; c++) {
			struct kvm_msr_entry *e = find_msr(&s[c], MSR_IA32_TSC);

			if (!e)
				return -EIO;
			e->data = tsc.data;
		}
	}
	return 0;
}

/*
 * KVM takes the first value for a TSC and holds a second one, if it is near,
 * for an attempt to make CPUs equal; so the TSC is set once and kvmclock, as
 * often as needed, to what it must be by then.
 */
int time_apply(struct vm *vm, const struct machine_state *m,
	       const struct vcpu_state *s, struct err *e)
{
	uint64_t tsc_at = 0, t0;

	for (unsigned int c = 0; c < vm->ncpus; c++) {
		const struct kvm_msr_entry *tsc = find_msr(&s[c], MSR_IA32_TSC);

		t0 = now_ns();
		if (tsc && msr_write(&vm->cpu[c], tsc))
			return err_set(e, -EINVAL,
				       "vCPU %u: KVM refuses its TSC", c);
		if (c == 0)
			tsc_at = t0 + (now_ns() - t0) / 2;
	}
	for (int i = 0; i < TRIES; i++) {
		struct kvm_clock_data clock = { .clock = m->clock.clock };

		t0 = now_ns();
		clock.clock += t0 - tsc_at;
		if (ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
			return err_sys(e, -errno, "kvmclock");
		if (now_ns() - t0 < CLOSE_NS)
			break;
	}
	/* A deadline is a TSC value and becomes a timer when it is set. */
	for (unsigned int c = 0; c < vm->ncpus; c++) {
		const struct kvm_msr_entry *d =
			find_msr(&s[c], MSR_TSC_DEADLINE);

		if (d && d->data && msr_write(&vm->cpu[c], d))
			return err_set(e, -EINVAL,
				       "vCPU %u: KVM refuses its timer", c);
	}
	return 0;
}
