/*
 * The machine on the wire, version 1:
 *
 *	u16 version, u16 vCPUs, u64 bytes of RAM
 *	CPU model: u16 entries; each u32 function, index, flags, eax..edx
 *	machine: interrupt controllers, timer, clock, board, serial port
 *	for each vCPU: its state
 */
#include "vmm/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

/* Behind the vCPUs' tables there is less than this of everything else. */
#define MACHINE_MAX (16u << 10)
#define VCPU_MAX    (STATE_XSAVE + STATE_MSRS * 12 + (4u << 10))

size_t vm_state_max(const struct vm *vm)
{
	return MACHINE_MAX + (size_t)vm->ncpus * VCPU_MAX;
}

int vm_save(struct vm *vm, struct wire_out *o)
{
	struct machine_state *m = calloc(1, sizeof(*m));
	struct vcpu_state *s = calloc(vm->ncpus, sizeof(*s));
	int ret = m && s ? state_msrs_list(vm) : -ENOMEM;

	if (!ret)
		ret = vm_park(vm);
	if (!ret)
		ret = machine_capture(vm, m);
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++)
		ret = vcpu_capture(&vm->cpu[i], &s[i]);
	if (!ret)
		ret = time_capture(vm, m, s);
	if (ret)
		goto free;
	put_u16(o, VERSION);
	put_u16(o, (uint16_t)vm->ncpus);
	put_u64(o, vm->mem.pages << PAGE_SHIFT);
	cpuid_put(o, vm->cpuid);
	machine_put(o, m);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vcpu_put(o, &s[i]);
	ret = o->err;
free:
	free(m);
	free(s);
	return ret;
}

void vm_cpu_save(struct vm *vm, struct wire_out *o)
{
	cpuid_put(o, vm->cpuid);
}

int vm_cpu_check(struct wire_in *in, struct err *e)
{
	struct kvm_cpuid2 *t = cpuid_get(in);
	int kvm, ret;

	if (in->err) {
		ret = err_set(e, in->err, "CPU model: cut off or damaged");
		goto free;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		ret = err_sys(e, -errno, "/dev/kvm");
		goto free;
	}
	ret = cpuid_check(kvm, t, e);
	close(kvm);
free:
	free(t);
	return ret;
}

static int check_shape(struct vm *vm, unsigned int ncpus, uint64_t bytes,
		       struct err *e)
{
	if (ncpus != vm->ncpus)
		return err_set(
			e, -EINVAL,
			"the source has %u vCPUs, this VM %u: give it as many",
			ncpus, vm->ncpus);
	if (bytes != vm->mem.pages << PAGE_SHIFT)
		return err_set(e, -EINVAL,
			       "the source has %lu MiB of RAM, this VM %lu: "
			       "give it as much",
			       bytes >> 20, vm->mem.pages >> (20 - PAGE_SHIFT));
	return 0;
}

static int apply(struct vm *vm, struct kvm_cpuid2 *cpuid,
		 const struct machine_state *m, const struct vcpu_state *s,
		 struct err *e)
{
	int ret = 0;

	free(vm->cpuid);
	vm->cpuid = cpuid;
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++) {
		ret = cpuid_set(&vm->cpu[i]);
		if (ret)
			err_sys(e, ret, "vCPU %u: CPU model", i);
	}
	if (!ret)
		ret = machine_apply(vm, m, e);
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++)
		ret = vcpu_apply(&vm->cpu[i], &s[i], e);
	/*
	 * The clocks go on from where they stopped: the time of the move is
	 * not in them, so nothing in the guest times out for being moved.
	 */
	if (!ret)
		ret = time_apply(vm, m, s, e);
	return ret;
}

int vm_load(struct vm *vm, struct wire_in *in, struct err *e)
{
	struct machine_state *m = calloc(1, sizeof(*m));
	struct vcpu_state *s = calloc(vm->ncpus, sizeof(*s));
	struct kvm_cpuid2 *cpuid = NULL;
	unsigned int version, ncpus;
	uint64_t bytes;
	int ret;

	if (!m || !s) {
		ret = err_sys(e, -ENOMEM, "machine state");
		goto free;
	}
	ret = state_msrs_list(vm);
	if (ret) {
		err_sys(e, ret, "list of MSRs");
		goto free;
	}
	if (vm->started) {
		ret = err_set(e, -EBUSY, "%s: runs already", vm->name);
		goto free;
	}

	version = get_u16(in);
	ncpus = get_u16(in);
	bytes = get_u64(in);
	if (!in->err && version != VERSION) {
		ret = err_set(
			e, -EPROTO,
			"machine state of version %u; this Pagurus reads %u",
			version, VERSION);
		goto free;
	}
	if (!in->err)
		ret = check_shape(vm, ncpus, bytes, e);
	if (ret)
		goto free;
	cpuid = cpuid_get(in);
	machine_get(in, m);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vcpu_get(in, &s[i]);
	ret = in->err;
	if (ret) {
		err_set(e, ret, "machine state: cut off or damaged");
		goto free;
	}

	ret = cpuid_check(vm->kvm, cpuid, e);
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++)
		ret = vcpu_check(&vm->cpu[i], &s[i], e);
	if (ret)
		goto free;
	ret = apply(vm, cpuid, m, s, e);
	cpuid = NULL;
	if (!ret)
		vm->loaded = true;
free:
	free(cpuid);
	free(m);
	free(s);
	return ret;
}
