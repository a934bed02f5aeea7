/*
 * The integer registers of a stopped x86-64 thread, whoever stopped it.
 *
 * (ucontext.h has the names REG_*, in another order.)  The order of gpr[] is the processor's own numbering (rax 0 ... r15 15), so
 * that a register number taken from an instruction is an index.  Vector
 * state is never touched by the engine and so is not here.
 */
#ifndef PROBE_REGS_H
#define PROBE_REGS_H

#include <stdint.h>

enum probe_reg {
	X86_RAX,
	X86_RCX,
	X86_RDX,
	X86_RBX,
	X86_RSP,
	X86_RBP,
	X86_RSI,
	X86_RDI,
	X86_R8,
	X86_R9,
	X86_R10,
	X86_R11,
	X86_R12,
	X86_R13,
	X86_R14,
	X86_R15,
	X86_GPRS,
	X86_RIP_BASE, /* base of a memory operand: the next insn */
	X86_NONE = 0xff,
};

struct probe_regs {
	uint64_t gpr[X86_GPRS];
	uint64_t rip;
	uint64_t rflags;
	uint64_t fs_base, gs_base;
};

#define RFLAGS_CF (1u << 0)
#define RFLAGS_PF (1u << 2)
#define RFLAGS_ZF (1u << 6)
#define RFLAGS_SF (1u << 7)
#define RFLAGS_OF (1u << 11)

#endif
