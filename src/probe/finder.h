/*
 * The finder: which functions an image has, and where each can be entered
 * and left.
 *
 * It reads bytes and patches nothing.  What it decides from the file alone
 * it says so (SITE_PATCH); what only a run can tell, because the same bytes
 * may be a switch or a tail call, is marked SITE_RUNTIME and carries what the
 * engine needs to decide; what cannot be patched is kept too, with the
 * reason, because a silent gap is worse than a refusal.
 *
 * The decisive static test for "is this jump an exit" is the unwind data: at
 * a tail call the stack pointer is what it was at entry, so the CFA is
 * rsp + 8.  At a jump to a cold part, or to an epilogue shared with a
 * neighbour, it is not.  Where there is no unwind data the stack depth is
 * followed through the instructions instead.
 */
#ifndef PROBE_FINDER_H
#define PROBE_FINDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/image.h"
#include "probe/regs.h"

enum site_kind {
	SITE_ENTRY,
	SITE_RET,	/* ret, ret imm16, with any prefix */
	SITE_RET_JMP,	/* jump to a return thunk */
	SITE_TAIL,	/* jmp rel8 or rel32 that leaves */
	SITE_TAIL_COND, /* jcc, jrcxz or loop that leaves */
	SITE_TAIL_IND,	/* jmp *reg, jmp *mem, or through a thunk */
	SITE_TAIL_PUSH, /* push target; ret */
	SITE_FALL,	/* runs on into the next function; addr is there */
	SITE_KINDS
};

enum site_verdict {
	SITE_PATCH,   /* certain */
	SITE_RUNTIME, /* patched; each hit is decided by where it goes */
	SITE_REFUSED, /* not patched, see 'why' */
};

/* Why a site is refused; site_why() has the words. */
enum site_why {
	WHY_NONE,
	WHY_NO_UNWIND, /* cannot tell a tail call from a part */
	WHY_UNREACHED, /* bytes nothing is seen to reach: data? */
	WHY_BAD_CODE,  /* not an instruction */
	WHY_FAR,       /* iret, sysret, far ret or jmp */
	WHY_STACK,     /* return with the stack pointer elsewhere */
	WHY_OVERLAP,   /* inside another instruction of ours */
	WHY_DISPLACED, /* the first instruction cannot be moved */
	WHY_IFUNC,     /* a resolver, run before anybody looks */
	WHY_NO_CODE,   /* no bytes in the file */
	WHY_SEGMENT,   /* target in memory behind a segment override */
	WHY_NOWHERE,   /* leads to where the image has no code */
	WHY_SHORT,     /* no breakpoint fits in its bytes */
	WHY_SLOT,      /* no memory for a copy of the instruction */
	WHYS
};

/* What becomes of the instruction under a breakpoint. */
enum site_step {
	STEP_NOP,  /* endbr64, nop: skip it */
	STEP_PUSH, /* push reg: done by hand */
	STEP_FLOW, /* jmp, jcc, call, ret: done by hand */
	STEP_SLOT, /* run a relocated copy elsewhere, then jump back */
};

/* Where an indirect jump takes its target from. */
struct site_ref {
	uint8_t mem;	     /* 0: in 'base'; 1: at base+index*scale+disp */
	uint8_t base, index; /* enum probe_reg, X86_RIP_BASE, X86_NONE */
	uint8_t scale;
	uint8_t seg; /* 0, or 'f', 'g' */
	int32_t disp;
};

#define SITE_COND_RCXZ	 16 /* after the 16 of jcc */
#define SITE_COND_ECXZ	 17
#define SITE_COND_LOOP	 18
#define SITE_COND_LOOPE	 19
#define SITE_COND_LOOPNE 20
#define SITE_COND_NONE	 0xff

#define SITE_INSN_MAX 15

struct probe_site {
	uint64_t addr;
	uint64_t target;     /* direct jumps; the thunk otherwise */
	struct site_ref ref; /* SITE_TAIL_IND */
	uint16_t pop;	     /* SITE_RET: bytes beyond the address */
	uint8_t kind, verdict, why, step;
	uint8_t cond;	/* SITE_TAIL_COND; jcc under an entry */
	uint8_t len;	/* of the instruction */
	uint8_t room;	/* with padding behind that nothing runs into */
	uint8_t pushed; /* STEP_PUSH: enum probe_reg */
	uint8_t bytes[SITE_INSN_MAX];
	bool thunk;	 /* target is a thunk for ref.base */
	bool plt;	 /* target is a PLT stub */
	bool to_entry;	 /* target is the start of a function */
	bool shared;	 /* other functions leave here too */
	int8_t rip_disp; /* offset of a rip-relative disp32, or 0 */
	const char *to;	 /* name of the target, or NULL */
};

struct probe_range {
	uint64_t lo, hi;
};

struct probe_func {
	const char *name;
	uint64_t addr, size;
	struct probe_range *range; /* [0] is the symbol's own */
	size_t nrange;
	struct probe_site *site; /* sorted by address, entry first */
	size_t nsite;
	uint64_t span;	 /* bytes decoded in all */
	uint64_t gap;	 /* bytes nothing reaches */
	bool self_jump;	 /* jumps to its own entry */
	bool indirect;	 /* has an undecided jmp * */
	bool unwind;	 /* has an FDE */
	bool outermost;	 /* has no caller and never returns: _start */
	bool named;	 /* by a symbol, not made up */
	bool writes_r11; /* so that it may hold an argument at a jump */
	bool swaps;	 /* its exits are seen by its return address alone */
	/* No branch of its own lands in the first bytes after the entry. */
	uint8_t room; /* whole instructions, bytes */
};

struct finder {
	const struct image *im;
	struct probe_func *func; /* sorted by address */
	size_t n;
};

/*
 * All functions of an image: symbols, and the FDEs no symbol covers.  Only
 * names and extents; call finder_sites() for those of interest.  The image
 * must outlive it.
 */
int finder_open(struct finder *f, const struct image *im, struct err *e);
void finder_close(struct finder *f);

/* Fill fn->site.  0 even if all are refused; -ENOMEM. */
int finder_sites(const struct finder *f, struct probe_func *fn);

/* The function whose first range holds addr, or NULL. */
struct probe_func *finder_at(const struct finder *f, uint64_t addr);
/* As above, but only if addr is its first byte. */
struct probe_func *finder_exact(const struct finder *f, uint64_t addr);
/* Is addr inside any range of fn?  For run-time decisions. */
bool finder_inside(const struct probe_func *fn, uint64_t addr);

const char *site_kind_name(enum site_kind k);
const char *site_why(enum site_why w);

#endif
