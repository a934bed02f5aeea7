/*
 * Does this KVM report a guest's int3?  Asked of a throw-away VM, because
 * asking the real one would cost it its life where the answer is no.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/priv.h"

#define SIZE	  0x200000ul /* one huge page, mapped one to one */
#define AT_PML4	  0x1000
#define AT_PDPT	  0x2000
#define AT_PD	  0x3000
#define AT_GDT	  0x4000
#define AT_IDT	  0x5000
#define AT_CODE	  0x6000
#define AT_HANDLE 0x7000
#define AT_STACK  0x9000

#define CODE_SEL 8

/* "int3", and a handler that is reached if nobody else takes it: "hlt". */
static void fill(uint8_t *m)
{
	const uint64_t code = 0x00af9b000000ffffull;
	uint64_t *gate = (uint64_t *)(m + AT_IDT + 3 * 16);

	*(uint64_t *)(m + AT_PML4) = AT_PDPT | 3;
	*(uint64_t *)(m + AT_PDPT) = AT_PD | 3;
	*(uint64_t *)(m + AT_PD) = 0x83;
	memcpy(m + AT_GDT + CODE_SEL, &code, 8);
	gate[0] = AT_HANDLE | CODE_SEL << 16 | 0x8e0000000000ull;
	memset(m + AT_CODE, 0xf4, 16);
	m[AT_CODE] = 0xcc;
	memset(m + AT_HANDLE, 0xf4, 16);
}

static int set_registers(int cpu)
{
	struct kvm_regs r = { .rip = AT_CODE, .rsp = AT_STACK, .rflags = 2 };
	struct kvm_segment data = { .limit = 0xffffffff,
				    .type = 3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	struct kvm_segment code = data;
	struct kvm_sregs s;

	if (ioctl(cpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	code.selector = CODE_SEL;
	code.type = 11;
	code.db = 0;
	code.l = 1;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt = (struct kvm_dtable){ .base = AT_GDT, .limit = 15 };
	s.idt = (struct kvm_dtable){ .base = AT_IDT, .limit = 4095 };
	s.cr3 = AT_PML4;
	s.cr4 |= 0x20;
	s.efer |= 0x500;
	s.cr0 |= 0x80000001;
	if (ioctl(cpu, KVM_SET_SREGS, &s) < 0 ||
	    ioctl(cpu, KVM_SET_REGS, &r) < 0)
		return -errno;
	return 0;
}

static bool ask(int kvm, int vm, void *mem)
{
	const struct kvm_userspace_memory_region slot = {
		.memory_size = SIZE, .userspace_addr = (uint64_t)mem
	};
	const struct kvm_guest_debug g = { .control = KVM_GUESTDBG_ENABLE |
						      KVM_GUESTDBG_USE_SW_BP };
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), cpu, ret;
	struct kvm_run *run;
	bool yes = false;

	if (size < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return false;
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
	if (cpu < 0)
		return false;
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu,
		   0);
	if (run != MAP_FAILED) {
		fill(mem);
		if (!set_registers(cpu) &&
		    ioctl(cpu, KVM_SET_GUEST_DEBUG, &g) == 0) {
			do {
				ret = ioctl(cpu, KVM_RUN, 0);
			} while (ret < 0 && errno == EINTR);
			yes = ret == 0 && run->exit_reason == KVM_EXIT_DEBUG &&
			      run->debug.arch.pc == AT_CODE;
		}
		munmap(run, (size_t)size);
	}
	close(cpu);
	return yes;
}

static bool answer;

static void try(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;
	void *mem;

	if (kvm < 0)
		return;
	vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm >= 0 && mem != MAP_FAILED)
		answer = ask(kvm, vm, mem);
	if (vm >= 0)
		close(vm);
	if (mem != MAP_FAILED)
		munmap(mem, SIZE);
	close(kvm);
}

static bool int3_is_reported(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, try);
	return answer;
}

unsigned int vm_debug_trap(struct vm *vm, unsigned int room, uint8_t *trap)
{
	static const uint8_t port[] = VM_DEBUG_TRAP;

	if (room >= sizeof(port)) {
		memcpy(trap, port, sizeof(port));
		return sizeof(port);
	}
	trap[0] = 0xcc;
	return room && int3_is_reported();
}
