// sources: src/base/err.c src/base/log.c src/base/wire.c src/probe/cfi.c src/probe/engine.c src/probe/engine_hit.c src/probe/engine_stack.c src/probe/engine_state.c src/probe/finder.c src/probe/finder_exit.c src/probe/finder_flow.c src/probe/finder_site.c src/probe/finder_sweep.c src/probe/guest.c src/probe/guest_code.c src/probe/guest_state.c src/probe/image.c src/probe/image_kernel.c src/probe/image_syms.c src/probe/insn.c src/probe/pending.c src/probe/tramp.c src/probe/unnamed.c libs: -lZydis libelf
/*
 * Probes that come with a VM, as a hostile source may send them: the state,
 * and the memory it says it is about.  What is accepted is then hit at each
 * breakpoint, saved and taken away; none of it may leave the guest's RAM.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/guest.h"
#include "vmm/debug.h"

#define RAM 16384

struct vm {
	uint8_t ram[RAM];
	const struct vm_debug_ops *ops;
	void *opaque;
	struct kvm_regs regs;
};

static void *at(struct vm *vm, uint64_t gpa, size_t len)
{
	return gpa < RAM && len <= RAM - gpa ? vm->ram + gpa : NULL;
}

int vm_debug_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len)
{
	void *p = at(vm, gpa.v, len);

	if (p)
		memcpy(buf, p, len);
	return p ? 0 : -EFAULT;
}

int vm_debug_write_phys(struct vm *vm, gpa_t gpa, const void *buf, size_t len)
{
	void *p = at(vm, gpa.v, len);

	if (p)
		memcpy(p, buf, len);
	return p ? 0 : -EFAULT;
}

int vm_debug_read(struct vm *vm, unsigned int cpu, uint64_t gva, void *buf,
		  size_t len)
{
	return vm_debug_read_phys(vm, (gpa_t){ gva }, buf, len);
}

int vm_debug_write(struct vm *vm, unsigned int cpu, uint64_t gva,
		   const void *buf, size_t len)
{
	return vm_debug_write_phys(vm, (gpa_t){ gva }, buf, len);
}

int vm_debug_translate(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		       gpa_t *gpa)
{
	gpa->v = gva;
	return 0;
}

int vm_debug_get_regs(struct vm *vm, unsigned int cpu, struct kvm_regs *r)
{
	*r = vm->regs;
	return 0;
}

int vm_debug_set_regs(struct vm *vm, unsigned int cpu, const struct kvm_regs *r)
{
	vm->regs = *r;
	return 0;
}

int vm_debug_get_sregs(struct vm *vm, unsigned int cpu, struct kvm_sregs *s)
{
	memset(s, 0, sizeof(*s));
	return 0;
}

int vm_debug_get_msr(struct vm *vm, unsigned int cpu, uint32_t msr, uint64_t *v)
{
	return -EINVAL;
}

unsigned int vm_debug_trap(struct vm *vm, unsigned int room, uint8_t *trap)
{
	static const uint8_t port[] = VM_DEBUG_TRAP;

	if (room < 2)
		return 0;
	memcpy(trap, port, 2);
	return 2;
}

int vm_debug_attach(struct vm *vm, const struct vm_debug_ops *ops, void *opaque)
{
	vm->ops = ops;
	vm->opaque = opaque;
	return 0;
}

void vm_debug_detach(struct vm *vm)
{
	vm->ops = NULL;
}

int vm_pause(struct vm *vm)
{
	return 0;
}

void vm_resume(struct vm *vm)
{
}

int vm_park(struct vm *vm)
{
	return 0;
}

unsigned int vm_cpus(const struct vm *vm)
{
	return 1;
}

static void sink(const struct probe_event *ev, void *opaque)
{
	uint64_t pc[4];

	if (ev->func >= engine_nfuncs(guest_probe_engine(*(void **)opaque)))
		abort();
	guest_probe_stack(*(void **)opaque, ev, pc, 4);
}

/*
 * A kernel of 16 functions: each calls the first; the odd ones end in a jump
 * to it, the others in a ret.
 */
#define TEXT  0x1000
#define EACH  32
#define FUNCS 16

static struct vm base;
static uint8_t state[65536];
static size_t state_len;

static void branch(uint8_t *p, uint8_t op, uint64_t from, uint64_t to)
{
	int32_t rel = (int32_t)(to - from - 5);

	*p = op;
	memcpy(p + 1, &rel, 4);
}

static void hit(struct vm *vm, uint64_t pc)
{
	struct vm_debug_stop stop = { .pc = pc, .breakpoint = true };

	vm->regs.rip = pc;
	vm->ops->stop(vm->opaque, vm, &stop);
}

/* Armed, with a call under way that has jumped on. */
static void make_base(void)
{
	const struct engine_options opt = { .entry = true,
					    .exit = true,
					    .jump = true };
	const uint64_t ra = TEXT + 6 * EACH + 10;
	static struct guest_probe *g;
	char text[1024] = "1000 T _stext\n1200 T _etext\n";
	struct err e = { 0 };
	struct wire_out o;

	memset(base.ram + TEXT, 0xcc, FUNCS * EACH);
	for (unsigned int i = 0; i < FUNCS; i++) {
		uint64_t at = TEXT + i * EACH;
		uint8_t *p = base.ram + at;
		char line[64];

		memcpy(p, "\x0f\x1f\x44\0\0", 5);
		branch(p + 5, 0xe8, at + 5, TEXT);
		if (i & 1)
			branch(p + 10, 0xe9, at + 10, TEXT);
		else
			p[10] = 0xc3;
		snprintf(line, sizeof(line), "%lx t f%u\n", at, i);
		strcat(text, line);
	}
	if (guest_probe_start(&g, &base, text, "f1,f3,f4,f5,f12", &opt, sink,
			      &g, &e) < 0)
		abort();
	base.regs.rsp = 8192 - 64;
	memcpy(base.ram + base.regs.rsp, &ra, 8);
	hit(&base, TEXT + EACH);
	hit(&base, TEXT + EACH + 10);
	wire_out_init(&o, state, sizeof(state));
	guest_probe_save(g, &o);
	if (o.err)
		abort();
	state_len = wire_used(&o);
	guest_probe_forget(g);
}

/* Bytes of state and of memory are replaced: three of input for each. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[1 << 20], mine[sizeof(state)];
	static struct vm vm;
	struct guest_probe *g = NULL;
	struct err e = { 0 };
	struct wire_in in;
	struct wire_out o;

	if (!state_len)
		make_base();
	memcpy(mine, state, state_len);
	memcpy(vm.ram, base.ram, RAM);
	for (size_t i = 0; i + 2 < size; i += 3) {
		size_t where = data[i] | (size_t)data[i + 1] << 8;

		if (where < state_len)
			mine[where] = data[i + 2];
		else
			vm.ram[(where - state_len) % RAM] = data[i + 2];
	}
	wire_in_init(&in, mine, state_len);
	if (guest_probe_load(&g, &vm, &in, 1000, sink, &g, &e) < 0)
		return size == 0 ? abort(), 0 : 0; /* as it was saved */
	vm.regs.rsp = 8192 - 64;
	for (uint64_t pc = TEXT; pc < TEXT + FUNCS * EACH; pc++)
		if (vm.ram[pc] == 0xe6) {
			hit(&vm, pc);
			vm.regs.rsp = 8192 - 64 - pc % 64;
		}
	wire_out_init(&o, out, sizeof(out));
	guest_probe_save(g, &o);
	guest_probe_stop(g);
	return 0;
}
