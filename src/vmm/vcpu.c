/*
 * vCPU threads: run, exit, pause.
 *
 * Pausing is a handshake on two atomics, so that an exit costs no lock:
 *
 *	vCPU: in_guest = 1; if (pauses) step back, park; KVM_RUN; in_guest = 0
 *	else: pauses++; if (in_guest) kick and wait for in_guest == 0
 *
 * All are sequentially consistent, so one of the two sees the other.  A kick
 * sets immediate_exit, for a vCPU that is about to enter, and sends a signal
 * for one that is in; the vCPU clears immediate_exit only between runs.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

static __thread struct vcpu *self;

static void on_kick(int signo)
{
}

static int kick_signal(void)
{
	return SIGRTMIN;
}

static void kick(struct vcpu *c)
{
	*(volatile uint8_t *)&c->run->immediate_exit = 1;
	if (c->has_thread)
		pthread_kill(c->thread, kick_signal());
}

static void count(struct vcpu *c, enum vm_exit reason)
{
	/* One writer: a plain add, that readers cannot see torn. */
	atomic_store_explicit(&c->exits[reason],
			      atomic_load_explicit(&c->exits[reason],
						   memory_order_relaxed) +
				      1,
			      memory_order_relaxed);
}

static void log_state(struct vcpu *c)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(c->fd, KVM_GET_REGS, &r) < 0 ||
	    ioctl(c->fd, KVM_GET_SREGS, &s) < 0)
		return;
	log_error("%s: cpu %u: rip %llx rsp %llx rflags %llx cs %x cpl %u rax "
		  "%llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx",
		  c->vm->name, c->idx, r.rip, r.rsp, r.rflags, s.cs.selector,
		  s.ss.dpl, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi);
	log_error("%s: cpu %u: cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx",
		  c->vm->name, c->idx, s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
}

static void exit_pio(struct vcpu *c)
{
	struct kvm_run *r = c->run;
	char *p = (char *)r + r->io.data_offset;

	for (uint32_t i = 0; i < r->io.count; i++, p += r->io.size)
		count(c, bus_pio(c->vm, r->io.port, p, r->io.size,
				 r->io.direction == KVM_EXIT_IO_OUT));
}

static void complete(struct vcpu *c);

static bool is_debug_trap(const struct vcpu *c)
{
	const struct kvm_run *r = c->run;

	return c->vm->debug.ops && r->io.port == VM_DEBUG_PORT &&
	       r->io.direction == KVM_EXIT_IO_OUT && r->io.size == 1 &&
	       r->io.count == 1;
}

/* Answer one exit. */
static void handle(struct vcpu *c)
{
	struct vm *vm = c->vm;
	struct kvm_run *r = c->run;

	switch (r->exit_reason) {
	case KVM_EXIT_IO:
		c->incomplete = true;
		if (is_debug_trap(c)) {
			count(c, VM_EXIT_DEBUG);
			complete(c);
			debug_trap(c);
			break;
		}
		exit_pio(c);
		break;
	case KVM_EXIT_MMIO:
		c->incomplete = true;
		count(c, bus_mmio(vm, r->mmio.phys_addr, r->mmio.data,
				  MIN(r->mmio.len, 8u), r->mmio.is_write));
		break;
	case KVM_EXIT_HLT: count(c, VM_EXIT_HLT); break;
	case KVM_EXIT_INTR: count(c, VM_EXIT_INTR); break;
	case KVM_EXIT_DEBUG:
		count(c, VM_EXIT_DEBUG);
		debug_exit(c);
		break;
	case KVM_EXIT_SHUTDOWN:
		count(c, VM_EXIT_OTHER);
		log_error("%s: cpu %u: triple fault", vm->name, c->idx);
		log_state(c);
		vcpus_ended(vm, VM_END_TRIPLE_FAULT, 0);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		count(c, VM_EXIT_OTHER);
		log_error(
			"%s: cpu %u: KVM cannot go on: suberror %u, %llx %llx",
			vm->name, c->idx, r->internal.suberror,
			r->internal.data[0], r->internal.data[1]);
		log_state(c);
		vcpus_ended(vm, VM_END_CRASH, (int)r->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		count(c, VM_EXIT_OTHER);
		log_error("%s: cpu %u: the processor refuses to enter the "
			  "guest: reason 0x%llx",
			  vm->name, c->idx,
			  r->fail_entry.hardware_entry_failure_reason);
		log_state(c);
		vcpus_ended(vm, VM_END_CRASH, 0);
		break;
	default:
		count(c, VM_EXIT_OTHER);
		log_error("%s: cpu %u: unexpected exit %u from KVM", vm->name,
			  c->idx, r->exit_reason);
		log_state(c);
		vcpus_ended(vm, VM_END_CRASH, (int)r->exit_reason);
		break;
	}
}

/* One KVM_RUN and its exit.  in_guest is set by the caller, cleared here. */
static void run(struct vcpu *c)
{
	int ret = ioctl(c->fd, KVM_RUN, 0) < 0 ? -errno : 0;

	*(volatile uint8_t *)&c->run->immediate_exit = 0;
	atomic_store(&c->in_guest, false);
	if (atomic_load(&c->vm->pauses)) {
		pthread_mutex_lock(&c->vm->run_lock);
		pthread_cond_broadcast(&c->vm->run_cond);
		pthread_mutex_unlock(&c->vm->run_lock);
	}

	c->incomplete = false;
	if (!ret) {
		handle(c);
	} else if (ret == -EINTR) {
		count(c, VM_EXIT_INTR);
	} else if (ret != -EAGAIN) { /* EAGAIN: woken while waiting */
		log_error("%s: cpu %u: KVM_RUN: %s", c->vm->name, c->idx,
			  strerror(-ret));
		log_state(c);
		vcpus_ended(c->vm, VM_END_CRASH, ret);
	}
}

/*
 * KVM takes the answer to an MMIO or port exit at the next KVM_RUN; with
 * immediate_exit it does that and nothing more.  Only then do the registers
 * stand between two instructions.
 */
static void complete(struct vcpu *c)
{
	while (c->incomplete) {
		*(volatile uint8_t *)&c->run->immediate_exit = 1;
		run(c);
	}
}

/* Wait while the VM is paused; returns false to end the thread. */
static bool park(struct vcpu *c)
{
	struct vm *vm = c->vm;
	bool quit;

	pthread_mutex_lock(&vm->run_lock);
	pthread_cond_broadcast(&vm->run_cond);
	while (atomic_load(&vm->pauses) && !vm->quit) {
		if (vm->parking && c->incomplete) {
			pthread_mutex_unlock(&vm->run_lock);
			complete(c);
			pthread_mutex_lock(&vm->run_lock);
		}
		c->parked = true;
		if (vm->parking)
			pthread_cond_broadcast(&vm->run_cond);
		pthread_cond_wait(&vm->run_cond, &vm->run_lock);
		c->parked = false;
	}
	quit = vm->quit;
	pthread_mutex_unlock(&vm->run_lock);
	return !quit;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *c = arg;
	struct vm *vm = c->vm;
	sigset_t set;
	char name[16];

	self = c;
	snprintf(name, sizeof(name), "vcpu%u", c->idx);
	pthread_setname_np(pthread_self(), name);
	sigemptyset(&set);
	sigaddset(&set, kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);

	for (;;) {
		atomic_store(&c->in_guest, true);
		if (!atomic_load(&vm->pauses)) {
			run(c);
			continue;
		}
		atomic_store(&c->in_guest, false);
		if (!park(c))
			return NULL;
	}
}

int vm_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	atomic_fetch_add(&vm->pauses, 1);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		if (atomic_load(&vm->cpu[i].in_guest))
			kick(&vm->cpu[i]);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		while (atomic_load(&vm->cpu[i].in_guest))
			pthread_cond_wait(&vm->run_cond, &vm->run_lock);
	pthread_mutex_unlock(&vm->run_lock);
	return 0;
}

void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->run_lock);
	if (atomic_fetch_sub(&vm->pauses, 1) == 1)
		pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
}

bool vm_paused(struct vm *vm)
{
	return atomic_load(&vm->pauses) > 0;
}

int vm_park(struct vm *vm)
{
	bool all;

	if (self && self->vm == vm)
		return -EDEADLK;
	pthread_mutex_lock(&vm->run_lock);
	if (!atomic_load(&vm->pauses)) {
		pthread_mutex_unlock(&vm->run_lock);
		return -EINVAL;
	}
	vm->parking++;
	pthread_cond_broadcast(&vm->run_cond);
	do {
		all = true;
		for (unsigned int i = 0; i < vm->ncpus; i++)
			if (!vm->cpu[i].parked || vm->cpu[i].incomplete)
				all = false;
		if (!all)
			pthread_cond_wait(&vm->run_cond, &vm->run_lock);
	} while (!all);
	vm->parking--;
	pthread_mutex_unlock(&vm->run_lock);
	/*
	 * Parking may take long.  A guest with kvmclock is told that it was
	 * stopped and does not take the gap for a hung CPU; one without
	 * makes this fail, and that is fine.
	 */
	for (unsigned int i = 0; i < vm->ncpus; i++)
		ioctl(vm->cpu[i].fd, KVM_KVMCLOCK_CTRL);
	return 0;
}

/* The VM stays paused for good: one pause that nobody resumes. */
void vcpus_ended(struct vm *vm, enum vm_end end, int code)
{
	pthread_mutex_lock(&vm->run_lock);
	if (vm->end != VM_RUNS) {
		pthread_mutex_unlock(&vm->run_lock);
		return;
	}
	vm->end = end;
	vm->end_code = code;
	atomic_fetch_add(&vm->pauses, 1);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		if (atomic_load(&vm->cpu[i].in_guest))
			kick(&vm->cpu[i]);
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
	if (vm->cfg.ended)
		vm->cfg.ended(vm->cfg.opaque, end, code);
}

enum vm_end vm_wait(struct vm *vm, int timeout_ms, int *code)
{
	struct timespec ts;
	enum vm_end end;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += timeout_ms / 1000;
	ts.tv_nsec += timeout_ms % 1000 * 1000000l;
	if (ts.tv_nsec >= 1000000000l) {
		ts.tv_nsec -= 1000000000l;
		ts.tv_sec++;
	}

	pthread_mutex_lock(&vm->run_lock);
	while (vm->end == VM_RUNS) {
		if (timeout_ms < 0)
			pthread_cond_wait(&vm->run_cond, &vm->run_lock);
		else if (pthread_cond_timedwait(&vm->run_cond, &vm->run_lock,
						&ts) == ETIMEDOUT)
			break;
	}
	end = vm->end;
	if (code)
		*code = vm->end_code;
	pthread_mutex_unlock(&vm->run_lock);
	return end;
}

void vm_exit_counts(struct vm *vm, int cpu, struct vm_exit_counts *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned int i = 0; i < vm->ncpus; i++)
		for (unsigned int r = 0; r < VM_NEXITS; r++)
			if (cpu < 0 || (unsigned int)cpu == i)
				out->n[r] += atomic_load_explicit(
					&vm->cpu[i].exits[r],
					memory_order_relaxed);
}

static int vcpu_create(struct vm *vm, struct vcpu *c, struct err *e)
{
	int ret;

	c->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)c->idx);
	if (c->fd < 0)
		return err_sys(e, -errno, "KVM refuses vCPU %u", c->idx);
	c->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      c->fd, 0);
	if (c->run == MAP_FAILED) {
		c->run = NULL;
		return err_sys(e, -errno, "vCPU %u", c->idx);
	}
	ret = cpuid_set(c);
	if (ret)
		return err_sys(e, ret, "KVM refuses the CPU model of vCPU %u",
			       c->idx);
	return 0;
}

int vcpus_create(struct vm *vm, struct err *e)
{
	struct sigaction sa = { .sa_handler = on_kick };
	sigset_t all, old;
	int ret = 0;

	sigaction(kick_signal(), &sa, NULL);
	for (unsigned int i = 0; i < vm->ncpus && !ret; i++)
		ret = vcpu_create(vm, &vm->cpu[i], e);
	if (ret)
		return ret;

	/* Signals of the process are for its event loop, never for these. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned int i = 0; i < vm->ncpus; i++) {
		ret = -pthread_create(&vm->cpu[i].thread, NULL, vcpu_thread,
				      &vm->cpu[i]);
		if (ret) {
			err_sys(e, ret, "thread of vCPU %u", i);
			break;
		}
		vm->cpu[i].has_thread = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

void vcpus_destroy(struct vm *vm)
{
	vm_pause(vm);
	pthread_mutex_lock(&vm->run_lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->run_cond);
	pthread_mutex_unlock(&vm->run_lock);
	for (unsigned int i = 0; i < vm->ncpus; i++) {
		struct vcpu *c = &vm->cpu[i];

		if (c->has_thread)
			pthread_join(c->thread, NULL);
		if (c->run)
			munmap(c->run, vm->run_size);
		close_fd(&c->fd);
	}
}
