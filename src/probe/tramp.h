/*
 * The trampolines: code that calls what a function was about to jump to.
 *
 * A breakpoint at a tail call has put the target in r11 and moved the stack
 * pointer down by a header and room for a copy of the caller's frame:
 *
 *	        at the jump                    in the callee
 *	     | caller's frame    |         | caller's frame     |
 *	     | stack arguments   |         | stack arguments    |
 *	 S-> | return to caller  |         | return to caller   |
 *	                                   | cookie             |
 *	                                   | target             |  header
 *	                                   | r11 as it was      |
 *	                                   | copy of the frame  |
 *	                                X->| up to the caller's |
 *	                                   |  saved registers   |
 *	                                   | return to us       |
 *
 * Each frame size has its own code, so that unwind data can state it as a
 * constant; sizes are in steps of 16 bytes, then of an eighth.  The code
 * changes no flag and no register but r11, which no caller and callee under
 * the psABI pass anything in, and for targets where that is not so there is
 * a second form that takes the target from the header.
 *
 * A third form serves functions whose entry was replaced by a jump: it is
 * entered with the stack pointer just below the header, makes room itself,
 * and in place of the second exception calls the address at TRAMP_LEAVE.
 * That routine leaves the address of the return slot in the word below its
 * own return address.
 *
 * After the call stands a breakpoint; behind it, the way back without us, so
 * that detaching replaces one byte and frames in flight still return.
 */
#ifndef PROBE_TRAMP_H
#define PROBE_TRAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAMP_CLASSES	89
#define TRAMP_FRAME_MAX 65536ul /* the last class */
#define TRAMP_HEADER	24	/* and the call's 8 keep the alignment */
#define TRAMP_COOKIE	0x7061677572757321ull

enum tramp_form {
	TRAMP_REG,  /* target in r11; entered with the frame made room for */
	TRAMP_MEM,  /* target in the header */
	TRAMP_JUMP, /* reached without a trap, and calls instead of trapping */
	TRAMP_FORMS
};

struct tramp_header {
	uint64_t r11;
	uint64_t target;
	uint64_t cookie; /* TRAMP_COOKIE ^ (class << 8 | form) */
};

#define TRAMP_STRIDE 128
#define TRAMP_CODE   ((1 + TRAMP_CLASSES * TRAMP_FORMS) * TRAMP_STRIDE)
#define TRAMP_SIZE   53248 /* code, then unwind data */
#define TRAMP_LEAVE  32	   /* offset of the pointer the jump form calls */

/* Bytes of frame copied by a class; the least class for 'frame' bytes. */
uint32_t tramp_frame(unsigned int cls);
int tramp_class(uint64_t frame); /* -E2BIG above TRAMP_FRAME_MAX */

/* Where to go in, and where the callee comes back to, given the base. */
uint64_t tramp_entry(uint64_t base, unsigned int cls, enum tramp_form form);
uint64_t tramp_back(uint64_t base, unsigned int cls, enum tramp_form form);

/* A plain ret, and the breakpoint that stands for a swapped address. */
uint64_t tramp_ret(uint64_t base);
uint64_t tramp_swap(uint64_t base);

static inline bool tramp_inside(uint64_t base, uint64_t addr)
{
	return addr - base < TRAMP_CODE;
}

/* Is addr a place callees return to?  Then *cls and *form say which. */
bool tramp_is_back(uint64_t base, uint64_t addr, unsigned int *cls,
		   enum tramp_form *form);

/* Write code and unwind data for 'base' into buf[TRAMP_SIZE]. */
void tramp_build(uint8_t *buf, uint64_t base);
/* Offset of the unwind data in it. */
size_t tramp_unwind(void);

#endif
