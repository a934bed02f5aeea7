/*
 * The integer registers of a stopped x86-64 thread, whoever stopped it.
 *
 * The order of gpr[] is the processor's own numbering (rax 0 ... r15 15), so
 * that a register number taken from an instruction is an index.  Vector
 * state is never touched by the engine and so is not here.
 */
#ifndef PROBE_REGS_H
#define PROBE_REGS_H

#include <stdint.h>

enum probe_reg {
	REG_RAX,
	REG_RCX,
	REG_RDX,
	REG_RBX,
	REG_RSP,
	REG_RBP,
	REG_RSI,
	REG_RDI,
	REG_R8,
	REG_R9,
	REG_R10,
	REG_R11,
	REG_R12,
	REG_R13,
	REG_R14,
	REG_R15,
	REG_GPRS,
	REG_RIP_BASE, /* base of a memory operand: the next insn */
	REG_NONE = 0xff,
};

struct probe_regs {
	uint64_t gpr[REG_GPRS];
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
