/*
 * Entries without an exception, in this process only.
 *
 * Where the first instructions of a function can be moved and nothing jumps
 * into them, five bytes become a jump to a stub.  The stub saves every
 * register and the flags, asks what to do, and then calls the function's own
 * body from a trampoline (tramp.h, third form): whatever way the body leaves,
 * by ret or by a tail call, it comes back there, so none of its exits needs a
 * patch.  Entered again from under a pending trampoline, as in mutual
 * recursion by tail calls, it goes on without another frame.
 *
 * Where an entry must keep its breakpoint, those of its tail calls that are
 * direct and long enough (jmp and jcc with a 32-bit displacement) are turned
 * to a stub of their own, which calls their target from the same trampoline.
 *
 * Two levels: with counting alone, a few dozen instructions that use integer
 * registers only; else the vector state is saved too and the general engine
 * is called.
 */
#ifndef PROBE_JUMP_H
#define PROBE_JUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/engine.h"

#define JUMP_BYTES 5
#define JCC_BYTES  6

/* What the stub saved, lowest address first. */
struct jump_save {
	uint64_t flags; /* ah and of: see jump_asm.S */
	uint64_t rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	/*
	 * At an entry or a tail call: its number in jump.patch; replaced by
	 * where to go on, with the stack pointer a header below the slot.  At
	 * a return: replaced by the slot.
	 */
	uint64_t word;
};

/* With the registers that C preserves, which the general engine looks at. */
struct jump_save_all {
	uint64_t r15, r14, r13, r12, rbp;
	struct jump_save s;
};

struct jump_patch {
	uint64_t at; /* of the patch; 0: breakpoints instead */
	uint64_t stub;
	uint64_t bypass; /* stub code that drops the header */
	uint64_t body;	 /* what the patch keeps from running */
	uint16_t func;
	uint8_t len;  /* bytes patched */
	uint8_t cond; /* of a jcc; SITE_COND_NONE */
	uint8_t orig[JCC_BYTES];
	bool track; /* a tail call: its function's entry is seen */
};

#define JUMP_CACHE 4096

/* Everything the fast path reads, in one place. */
struct jump {
	struct engine *en;
	struct jump_patch *patch; /* entries by function, then tail calls */
	size_t npatch;
	uint64_t tramp;
	bool fast;  /* counts only */
	bool time;  /* with latencies */
	bool jumps; /* tail jumps are events too */
	bool exits; /* and exits are */
	uint64_t entry[TRAMP_CLASSES];
	uint32_t frame[TRAMP_CLASSES];
	/* Class by return address; key ^ value == address, as in the engine. */
	struct {
		uint64_t key, value;
	} cache[JUMP_CACHE];
	/* Time stamps to ns: base_ns + (tsc - base_tsc) * mult >> 32. */
	uint64_t base_tsc, base_ns, mult;
};

/*
 * Choose entries and tail calls, build their stubs.  Before engine_arm(), so
 * that those chosen get no breakpoints.  Returns how many were chosen, or
 * -errno.
 */
int jump_prepare(struct jump **out, struct engine *en, struct err *e);
/* Write the jumps; 'alone': no other thread may be in the bytes. */
int jump_arm(struct jump *j, bool alone);
void jump_disarm(struct jump *j);

/* A breakpoint met while jumps are written: 0, or -ENOENT if not ours. */
int jump_pass(struct probe_regs *r);

/* The session whose stubs are live; set by jump_arm(). */
extern struct jump *jump_current;

/* From jump_asm.S.  0: done; 1: the general engine must see to it. */
int probe_jump_enter(struct jump_save *s);
int probe_jump_tail(struct jump_save *s);
int probe_jump_leave(struct jump_save *s);
void probe_jump_enter_slow(struct jump_save_all *a);
void probe_jump_tail_slow(struct jump_save_all *a);
void probe_jump_leave_slow(struct jump_save_all *a);

/*
 * This thread's state, once its first hit has made it, and its guard against
 * hits inside a hit.  Initial-exec, so that a handler may touch them.
 */
#define JUMP_TLS __thread __attribute__((tls_model("initial-exec")))
extern JUMP_TLS struct engine_thread *probe_self;
extern JUMP_TLS bool probe_inside;
/* The same, made if need be; not for the fast path. */
struct engine_thread *jump_self(void);

#endif
