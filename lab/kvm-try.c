/*
 * Run five bytes in a virtual machine: does /dev/kvm work at all here?
 *
 * The guest adds two numbers, writes the sum to a port and halts; both exits
 * and the sum must be right.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PORT 0x10
#define BASE 0x1000

static const uint8_t code[] = {
	0x00, 0xd8, /* add %bl, %al */
	0xe6, PORT, /* out %al, $PORT */
	0xf4,	    /* hlt */
};

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_userspace_memory_region mem = {
		.guest_phys_addr = BASE,
		.memory_size = 4096,
	};
	struct kvm_regs regs = {
		.rip = BASE, .rax = 2, .rbx = 40, .rflags = 2
	};
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int vm, vcpu, size;
	void *page;

	if (kvm < 0)
		return fail("/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail("KVM_CREATE_VM");
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return fail("mmap");
	memcpy(page, code, sizeof(code));
	mem.userspace_addr = (uintptr_t)page;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &mem) < 0)
		return fail("KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vcpu < 0 || size < 0)
		return fail("KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu,
		   0);
	if (run == MAP_FAILED)
		return fail("mmap of the vCPU");
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return fail("KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 ||
	    ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return fail("set registers");

	if (ioctl(vcpu, KVM_RUN, 0) < 0)
		return fail("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT ||
	    *((uint8_t *)run + run->io.data_offset) != 42) {
		fprintf(stderr, "exit %u where the sum was due\n",
			run->exit_reason);
		return 1;
	}
	if (ioctl(vcpu, KVM_RUN, 0) < 0)
		return fail("KVM_RUN");
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "exit %u where the halt was due\n",
			run->exit_reason);
		return 1;
	}
	puts("2 + 40 = 42 in a virtual machine");
	return 0;
}
