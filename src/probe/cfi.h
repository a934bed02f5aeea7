/*
 * Unwind data: what the stack looks like at an instruction.
 *
 * An index over the FDEs of one .eh_frame, and an interpreter of their
 * programs that keeps only what the engine needs: how to compute the CFA
 * (the stack pointer's value before the call that made this frame) and how
 * far down the frame's saved registers reach.  A lookup allocates nothing and
 * takes no lock, because the in-process engine does it in a signal handler.
 *
 * The bytes are untrusted: every read is bounded, and a program that is not
 * understood gives CFA_UNKNOWN, never a guess.
 *
 * Source of fact: DWARF 5 section 6.4, the LSB's .eh_frame, and the x86-64
 * psABI for register numbers (they differ from the processor's).
 */
#ifndef PROBE_CFI_H
#define PROBE_CFI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cfa_kind {
	CFA_UNKNOWN, /* no unwind data here, or not understood */
	CFA_REG,     /* reg + off */
	CFA_DEREF,   /* *(reg + off) + add: a realigned frame (DRAP) */
	CFA_EXPR,    /* another expression: PLT stubs, signal frames */
};

struct cfi_row {
	uint8_t kind; /* enum cfa_kind */
	uint8_t reg;  /* enum probe_reg */
	int64_t off, add;
	/* Lowest save slot of a register, relative to the CFA: -8 is only
	 * the return address. */
	int64_t lowest_save;
	int64_t rbp_save; /* where rbp is saved, relative to the CFA, or 0 */
	bool signal;	  /* a signal frame: its pc is exact */
	bool outermost;	  /* there is no return address: _start */
};

struct cfi_fde {
	uint64_t lo, hi; /* addresses covered */
	uint32_t at;	 /* offset of the FDE's program */
	uint32_t end;
	uint32_t cie; /* offset of the CIE */
	bool lsda;    /* has landing pads, perhaps */
};

struct cfi {
	const uint8_t *data; /* .eh_frame; the image owns it */
	size_t size;
	uint64_t addr;	     /* its address */
	struct cfi_fde *fde; /* sorted by lo */
	size_t n;
};

/* 'data' must outlive the index.  0, or -ENOMEM; bad records are skipped. */
int cfi_open(struct cfi *c, const void *data, size_t size, uint64_t addr);
void cfi_close(struct cfi *c);

/* The FDE that covers pc, or NULL. */
const struct cfi_fde *cfi_find(const struct cfi *c, uint64_t pc);

/* The row in force at pc; CFA_UNKNOWN if there is none. */
void cfi_row(const struct cfi *c, uint64_t pc, struct cfi_row *row);

/* Is the stack pointer what it was at the function's entry? */
static inline bool cfi_at_entry_sp(const struct cfi_row *r)
{
	return r->kind == CFA_REG && r->reg == 4 /* X86_RSP */ && r->off == 8;
}

#endif
