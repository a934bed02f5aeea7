/*
 * A VM's birth and death.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Without these we cannot work; all are older than Linux 6.1. */
static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
	{ KVM_CAP_IRQFD, "irqfd" },
	{ KVM_CAP_SYNC_MMU, "an MMU that follows mmap" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_PIT2, "the in-kernel timer" },
	{ KVM_CAP_ADJUST_CLOCK, "kvmclock" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
};

static const char *const end_names[] = {
	[VM_RUNS] = "running",	    [VM_END_POWEROFF] = "poweroff",
	[VM_END_REBOOT] = "reboot", [VM_END_TRIPLE_FAULT] = "triple fault",
	[VM_END_CRASH] = "crash",   [VM_END_EXIT] = "exit",
};

static const char *const exit_names[VM_NEXITS] = {
	[VM_EXIT_MMIO] = "mmio",
	[VM_EXIT_MMIO_NONE] = "mmio-none",
	[VM_EXIT_PIO_SERIAL] = "pio-serial",
	[VM_EXIT_PIO_PCI] = "pio-pci",
	[VM_EXIT_PIO_OTHER] = "pio-other",
	[VM_EXIT_HLT] = "hlt",
	[VM_EXIT_INTR] = "intr",
	[VM_EXIT_DEBUG] = "debug",
	[VM_EXIT_OTHER] = "other",
};

const char *vm_end_name(enum vm_end end)
{
	return end < ARRAY_SIZE(end_names) ? end_names[end] : "?";
}

const char *vm_exit_name(enum vm_exit reason)
{
	return reason < VM_NEXITS ? exit_names[reason] : "?";
}

static int open_kvm(struct vm *vm, struct err *e)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0 && errno == ENOENT)
		return err_set(e, -ENOENT,
			       "/dev/kvm is not there: load the kvm_intel or "
			       "kvm_amd module, and see that virtualisation is "
			       "on in the firmware");
	if (vm->kvm < 0 && errno == EACCES)
		return err_set(e, -EACCES,
			       "/dev/kvm may not be opened: add this user to "
			       "the group that owns it (kvm)");
	if (vm->kvm < 0)
		return err_sys(e, -errno, "/dev/kvm");
	if (ioctl(vm->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return err_set(
			e, -ENOTSUP,
			"/dev/kvm speaks another version of the KVM interface");
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(vm->kvm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return err_set(e, -ENOTSUP,
				       "this kernel's KVM lacks %s; Linux 6.1 "
				       "or later is needed",
				       needed[i].name);
	vm->run_size = (size_t)ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	return 0;
}

/* Everything of the machine but memory and vCPUs. */
static int create_machine(struct vm *vm, struct err *e)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t ident = KVM_IDENT_GPA;
	int max;

	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return err_sys(e, -errno, "KVM refuses a new VM");
	max = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (vm->ncpus > (unsigned int)max)
		return err_set(e, -EINVAL, "%u CPUs: KVM allows %d here",
			       vm->ncpus, max);
	/* Before any vCPU; AMD ignores both. */
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &ident) < 0 ||
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA) < 0 ||
	    ioctl(vm->fd, KVM_CREATE_IRQCHIP) < 0 ||
	    ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_sys(e, -errno,
			       "KVM refuses the interrupt controllers");
	return 0;
}

static void serial_line(void *opaque, bool level)
{
	irq_line(opaque, IRQ_SERIAL, level);
}

static void init_locks(struct vm *vm)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&vm->run_lock, NULL);
	pthread_mutex_init(&vm->irqs.lock, NULL);
	pthread_mutex_init(&vm->mem.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->run_cond, &attr);
	pthread_condattr_destroy(&attr);
	bus_init(vm);
	serial_init(&vm->serial);
}

static void init(struct vm *vm, const struct vm_config *cfg)
{
	vm->host.ops = &vm_host_ops;
	vm->cfg = *cfg;
	vm->cfg.kernel = vm->cfg.initrd = vm->cfg.append = NULL;
	strncpy(vm->name, cfg->name ? cfg->name : "vm", VM_NAME_MAX);
	vm->cfg.name = vm->name;
	vm->kvm = vm->fd = vm->mem.fd = -1;
	vm->ncpus = cfg->cpus;
	atomic_store(&vm->pauses, 1); /* until vm_start() */
	for (unsigned int i = 0; i < VM_CPUS_MAX; i++) {
		vm->cpu[i].vm = vm;
		vm->cpu[i].idx = i;
		vm->cpu[i].fd = -1;
	}
	vm->serial.line = serial_line;
	vm->serial.opaque = vm;
	init_locks(vm);
}

static void console_out(void *opaque, const void *buf, size_t len)
{
	struct vm *vm = opaque;

	vm->cfg.console(vm->cfg.opaque, buf, len);
}

int vm_create(struct vm **out, const struct vm_config *cfg, struct err *e)
{
	struct vm *vm;
	int ret;

	if (cfg->cpus < 1 || cfg->cpus > VM_CPUS_MAX)
		return err_set(e, -EINVAL, "%u CPUs: give 1 to %d", cfg->cpus,
			       VM_CPUS_MAX);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return err_sys(e, -ENOMEM, "VM");
	init(vm, cfg);
	if (cfg->console)
		vm->serial.out = console_out;

	ret = open_kvm(vm, e);
	if (!ret)
		ret = create_machine(vm, e);
	if (!ret)
		ret = cpuid_create(vm, cfg->mem, e);
	if (!ret)
		ret = mem_create(vm, cfg->mem, cfg->hugepages, e);
	if (!ret) {
		bus_pci_init(vm);
		ret = irq_init(vm);
		if (ret)
			err_sys(e, ret, "KVM refuses the interrupt routes");
	}
	if (!ret)
		ret = vcpus_create(vm, e);
	if (!ret && cfg->kernel)
		ret = boot_load(vm, cfg, e);
	if (ret) {
		vm_destroy(vm);
		return ret;
	}
	*out = vm;
	return 0;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	vcpus_destroy(vm);
	close_fd(&vm->fd); /* before its memory goes */
	close_fd(&vm->kvm);
	mem_destroy(vm);
	serial_destroy(&vm->serial);
	pthread_rwlock_destroy(&vm->bus.lock);
	pthread_mutex_destroy(&vm->bus.ports_lock);
	pthread_mutex_destroy(&vm->irqs.lock);
	pthread_mutex_destroy(&vm->run_lock);
	pthread_cond_destroy(&vm->run_cond);
	free(vm->cpuid);
	free(vm->msrs);
	free(vm);
}

int vm_start(struct vm *vm, struct err *e)
{
	int ret = 0;

	if (vm->started)
		return err_set(e, -EALREADY, "%s: runs already", vm->name);
	if (!vm->loaded)
		ret = bus_assign(vm, e);
	if (ret)
		return ret;
	vm->started = true;
	vm_resume(vm);
	return 0;
}

struct host *vm_host(struct vm *vm)
{
	return &vm->host;
}

unsigned int vm_cpus(const struct vm *vm)
{
	return vm->ncpus;
}

const char *vm_name(const struct vm *vm)
{
	return vm->name;
}

void vm_power_button(struct vm *vm)
{
	bus_power_button(vm);
}

size_t vm_console_in(struct vm *vm, const void *buf, size_t len)
{
	return serial_input(&vm->serial, buf, len);
}
