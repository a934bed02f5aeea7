/*
 * One x86-64 instruction, as far as the finder and the engine care: where it
 * goes, what it does to the stack pointer, and whether a copy of it can run
 * elsewhere.  Decoding is Zydis's; this only asks it.
 */
#ifndef PROBE_INSN_H
#define PROBE_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/finder.h"
#include "probe/regs.h"

enum insn_kind {
	INSN_OTHER,
	INSN_NOP,  /* any nop, endbr64, endbr32 */
	INSN_PUSH, /* push r64 */
	INSN_JMP,  /* direct */
	INSN_JCC,  /* jcc, jrcxz, loop */
	INSN_CALL, /* direct */
	INSN_JMP_IND,
	INSN_CALL_IND,
	INSN_RET,
	INSN_FAR,  /* iret, sysret, far jmp and ret */
	INSN_STOP, /* ud2, int3, hlt: nothing runs on after it */
};

enum insn_stack {
	STACK_SAME,
	STACK_MOVED,   /* rsp -= delta */
	STACK_FROM_FP, /* rsp = rbp - delta (delta may be 0 or negative) */
	STACK_LEAVE,   /* leave */
	STACK_LOST,    /* rsp set to something not followed */
};

struct insn {
	uint8_t kind, len;
	uint8_t cond;	/* as in struct probe_site */
	uint8_t pushed; /* INSN_PUSH */
	uint8_t stack;	/* enum insn_stack */
	bool notrack;	/* 3e prefix on an indirect jump */
	bool sets_fp;	/* mov rbp, rsp or lea rbp, [rsp + -delta] */
	bool loads_fp;	/* rbp is written in another way */
	bool movable;	/* a copy may run elsewhere */
	bool writes_r11;
	uint8_t rip_disp;   /* offset of a rip-relative disp32, or 0 */
	uint16_t pop;	    /* INSN_RET */
	uint16_t mnemonic;  /* Zydis's number */
	uint8_t reg0, reg1; /* first two operands if registers */
	int32_t delta;
	uint64_t target;     /* direct jumps and calls */
	struct site_ref ref; /* indirect jumps; else first memory */
};

/* 0, or -EILSEQ.  'addr' is where the bytes will be executed. */
int insn_decode(struct insn *in, const uint8_t *p, size_t avail, uint64_t addr);

/* Is it the "movslq table(base,idx,4), r" of a jump table, and its "add"? */
bool insn_is_table_load(const struct insn *in);
bool insn_is_add_to(const struct insn *in, uint8_t reg);

/* Would this jcc, jrcxz or loop jump?  loop's count is taken as after. */
bool insn_cond_holds(uint8_t cond, const struct probe_regs *r);

#endif
