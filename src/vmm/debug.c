/*
 * Guest debugging by KVM_SET_GUEST_DEBUG.
 */
#include "vmm/debug.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "vmm/priv.h"

#define VEC_DB 1
#define VEC_BP 3

#define DR6_BS	  (1u << 14)
#define DR7_L(n)  (3u << (n)*2)
#define DR7_FIXED 0x700u /* execution breakpoints: the rest is zero */

#define CR4_LA57 0x1000u

#define PTE_P	 1ull
#define PTE_PS	 0x80ull
#define PTE_ADDR 0x000ffffffffff000ull

static int control(struct vcpu *c)
{
	struct vm_debug *d = &c->vm->debug;
	struct kvm_guest_debug g = { .control = 0 };

	if (d->ops) {
		g.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
		if (c->step || c->step_off)
			g.control |= KVM_GUESTDBG_SINGLESTEP;
		if (c->step_off)
			g.control |= KVM_GUESTDBG_BLOCKIRQ;
	}
	g.arch.debugreg[7] = DR7_FIXED;
	for (unsigned int n = 0; d->ops && n < VM_DEBUG_HW; n++) {
		if (!d->hw[n] || c->step_off)
			continue;
		g.control |= KVM_GUESTDBG_USE_HW_BP;
		g.arch.debugreg[n] = d->hw[n];
		g.arch.debugreg[7] |= DR7_L(n);
	}
	return ioctl(c->fd, KVM_SET_GUEST_DEBUG, &g) < 0 ? -errno : 0;
}

/* The ioctl waits for a running vCPU, so none may run. */
static int control_all(struct vm *vm)
{
	int ret = 0;

	vm_pause(vm);
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++)
		ret = control(&vm->cpu[i]);
	vm_resume(vm);
	return ret;
}

int vm_debug_attach(struct vm *vm, const struct vm_debug_ops *ops, void *opaque)
{
	int ret;

	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG) <= 0)
		return -ENOTSUP;
	if (vm->debug.ops)
		return -EBUSY;
	vm->debug.ops = ops;
	vm->debug.opaque = opaque;
	ret = control_all(vm);
	if (ret)
		vm_debug_detach(vm);
	return ret;
}

void vm_debug_detach(struct vm *vm)
{
	vm->debug.ops = NULL;
	memset(vm->debug.hw, 0, sizeof(vm->debug.hw));
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vm->cpu[i].step = false;
	control_all(vm);
}

int vm_debug_hw(struct vm *vm, unsigned int n, uint64_t gva)
{
	if (n >= VM_DEBUG_HW || !vm->debug.ops)
		return -EINVAL;
	vm->debug.hw[n] = gva;
	return control_all(vm);
}

int vm_debug_step(struct vm *vm, unsigned int cpu, bool on)
{
	if (cpu >= vm->ncpus || !vm->debug.ops)
		return -EINVAL;
	vm->cpu[cpu].step = on;
	return control(&vm->cpu[cpu]);
}

static int on_cpu(struct vm *vm, unsigned int cpu, unsigned long req, void *arg)
{
	if (cpu >= vm->ncpus)
		return -EINVAL;
	return ioctl(vm->cpu[cpu].fd, req, arg) < 0 ? -errno : 0;
}

int vm_debug_get_regs(struct vm *vm, unsigned int cpu, struct kvm_regs *r)
{
	return on_cpu(vm, cpu, KVM_GET_REGS, r);
}

int vm_debug_set_regs(struct vm *vm, unsigned int cpu, const struct kvm_regs *r)
{
	return on_cpu(vm, cpu, KVM_SET_REGS, (void *)r);
}

int vm_debug_get_sregs(struct vm *vm, unsigned int cpu, struct kvm_sregs *s)
{
	return on_cpu(vm, cpu, KVM_GET_SREGS, s);
}

int vm_debug_get_msr(struct vm *vm, unsigned int cpu, uint32_t msr, uint64_t *v)
{
	struct kvm_msr_entry e = { .index = msr };
	int ret;

	if (cpu >= vm->ncpus)
		return -EINVAL;
	ret = msr_read(&vm->cpu[cpu], &e);
	*v = e.data;
	return ret;
}

int vm_debug_get_xsave(struct vm *vm, unsigned int cpu, struct kvm_xsave *x)
{
	return on_cpu(vm, cpu, KVM_GET_XSAVE, x);
}

int vm_debug_set_xsave(struct vm *vm, unsigned int cpu,
		       const struct kvm_xsave *x)
{
	return on_cpu(vm, cpu, KVM_SET_XSAVE, (void *)x);
}

int vm_debug_translate(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		       gpa_t *gpa)
{
	uint64_t table = cr3 & PTE_ADDR;

	for (int shift = la57 ? 48 : 39; shift >= 12; shift -= 9) {
		uint64_t mask = (1ull << shift) - 1;
		uint64_t *at = mem_ptr(vm, table + (gva >> shift & 511) * 8, 8);
		uint64_t pte;

		if (!at)
			return -EFAULT;
		pte = __atomic_load_n(at, __ATOMIC_RELAXED);
		if (!(pte & PTE_P))
			return -EFAULT;
		if (shift == 12 || (shift <= 30 && (pte & PTE_PS))) {
			gpa->v = (pte & PTE_ADDR & ~mask) | (gva & mask);
			return 0;
		}
		table = pte & PTE_ADDR;
	}
	return -EFAULT;
}

/* Page by page; 'out' fills buf, else buf is written. */
static int copy(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva, void *buf,
		size_t len, bool out)
{
	char *p = buf;

	while (len) {
		size_t n = MIN(len, PAGE_SIZE - gva % PAGE_SIZE);
		gpa_t gpa;
		void *at;
		int ret;

		ret = vm_debug_translate(vm, cr3, la57, gva, &gpa);
		if (ret)
			return ret;
		at = mem_ptr(vm, gpa.v, n);
		if (!at)
			return -EFAULT;
		if (out) {
			memcpy(p, at, n);
		} else {
			memcpy(at, p, n);
			mem_mark(vm, gpa.v, n);
		}
		p += n;
		gva += n;
		len -= n;
	}
	return 0;
}

int vm_debug_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len)
{
	void *at = mem_ptr(vm, gpa.v, len);

	if (!at)
		return -EFAULT;
	memcpy(buf, at, len);
	return 0;
}

int vm_debug_write_phys(struct vm *vm, gpa_t gpa, const void *buf, size_t len)
{
	void *at = mem_ptr(vm, gpa.v, len);

	if (!at)
		return -EFAULT;
	memcpy(at, buf, len);
	mem_mark(vm, gpa.v, len);
	return 0;
}

int vm_debug_read_as(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		     void *buf, size_t len)
{
	return copy(vm, cr3, la57, gva, buf, len, true);
}

int vm_debug_write_as(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		      const void *buf, size_t len)
{
	return copy(vm, cr3, la57, gva, (void *)buf, len, false);
}

int vm_debug_read(struct vm *vm, unsigned int cpu, uint64_t gva, void *buf,
		  size_t len)
{
	struct kvm_sregs s;
	int ret = vm_debug_get_sregs(vm, cpu, &s);

	return ret ? ret
		   : copy(vm, s.cr3, s.cr4 & CR4_LA57, gva, buf, len, true);
}

int vm_debug_write(struct vm *vm, unsigned int cpu, uint64_t gva,
		   const void *buf, size_t len)
{
	struct kvm_sregs s;
	int ret = vm_debug_get_sregs(vm, cpu, &s);

	return ret ? ret
		   : copy(vm, s.cr3, s.cr4 & CR4_LA57, gva, (void *)buf, len,
			  false);
}

/* An int3 that is the guest's own: let it have what we took. */
static void pass_on(struct vcpu *c)
{
	struct kvm_vcpu_events ev;

	if (ioctl(c->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
		return;
	ev.exception.injected = 1;
	ev.exception.pending = 0;
	ev.exception.nr = VEC_BP;
	ev.exception.has_error_code = 0;
	ioctl(c->fd, KVM_SET_VCPU_EVENTS, &ev);
}

static bool at_hw(struct vcpu *c)
{
	struct kvm_regs r;

	if (ioctl(c->fd, KVM_GET_REGS, &r) < 0)
		return false;
	for (unsigned int n = 0; n < VM_DEBUG_HW; n++)
		if (c->vm->debug.hw[n] && c->vm->debug.hw[n] == r.rip)
			return true;
	return false;
}

/*
 * A vCPU that goes on at a hardware breakpoint does one step without them.
 * The resume flag is made for this, but KVM's emulator does not heed it for
 * a debugger's breakpoints.
 */
static void set_step_off(struct vcpu *c, bool on)
{
	if (c->step_off == on)
		return;
	c->step_off = on;
	control(c);
}

/*
 * A write to our port.  KVM has the instruction done by now; put rip back on
 * it, so that both kinds of breakpoint look the same.
 */
void debug_trap(struct vcpu *c)
{
	const struct vm_debug_ops *ops = c->vm->debug.ops;
	struct vm_debug_stop stop = { .cpu = c->idx, .breakpoint = true };
	struct kvm_regs r;
	uint64_t after;

	if (!ops || ioctl(c->fd, KVM_GET_REGS, &r) < 0)
		return;
	after = r.rip;
	stop.pc = r.rip -= 2;
	if (ioctl(c->fd, KVM_SET_REGS, &r) < 0)
		return;
	if (ops->stop(c->vm->debug.opaque, c->vm, &stop))
		return;
	/* Not a probe: a write to a port that is not there. */
	if (ioctl(c->fd, KVM_GET_REGS, &r) < 0)
		return;
	r.rip = after;
	ioctl(c->fd, KVM_SET_REGS, &r);
}

void debug_exit(struct vcpu *c)
{
	const struct kvm_debug_exit_arch *a = &c->run->debug.arch;
	const struct vm_debug_ops *ops = c->vm->debug.ops;
	struct vm_debug_stop stop = {
		.cpu = c->idx,
		.pc = a->pc,
		.breakpoint = a->exception == VEC_BP,
		.step = a->exception == VEC_DB && (a->dr6 & DR6_BS),
		.hw = a->exception == VEC_DB ? a->dr6 & 0xf : 0,
	};

	set_step_off(c, false);
	if (stop.step && !c->step && !stop.hw)
		return; /* a step of our own */
	/* No ops: detached while it was on its way. */
	if ((!ops || !ops->stop(c->vm->debug.opaque, c->vm, &stop)) &&
	    stop.breakpoint)
		pass_on(c);
	else if (at_hw(c))
		set_step_off(c, true);
}
