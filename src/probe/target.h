/*
 * What the engine needs of whatever runs the probed code: this process,
 * another process, a guest kernel.
 *
 * A back end takes a trap, fills a struct probe_regs with rip at the
 * breakpoint itself, calls engine_hit(), stores the registers back and lets
 * the thread run.  The engine never stops, continues or steps anything.
 */
#ifndef PROBE_TARGET_H
#define PROBE_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct probe_target; /* the back end's own */

/* Memory one stack lies in. */
struct probe_extent {
	uint64_t lo, hi;
	/*
	 * The thread's own stack and no other's: whatever lies below the
	 * stack pointer is dead.  False for memory that may hold several
	 * stacks (coroutines, signal stacks).
	 */
	bool native;
};

#define PROBE_TRAP_MAX 2

struct probe_target_ops {
	const char *name;

	/*
	 * The breakpoint to put where 'room' bytes may be overwritten: its
	 * bytes and how many, 0 if none fits.  NULL: int3 everywhere.  Code of
	 * a target that has this may change under us (a kernel patches
	 * itself): disarming leaves alone what is no breakpoint of ours.
	 */
	unsigned int (*trap)(struct probe_target *t, unsigned int room,
			     uint8_t trap[PROBE_TRAP_MAX]);

	/* All of it, or -errno.  Data only: stacks, tables of pointers. */
	int (*read)(struct probe_target *t, uint64_t addr, void *buf,
		    size_t len);
	int (*write)(struct probe_target *t, uint64_t addr, const void *buf,
		     size_t len);
	/*
	 * Write code that may be executing; one byte is atomic, and more than
	 * one is written only where nothing executes.
	 */
	int (*patch)(struct probe_target *t, uint64_t addr, const void *buf,
		     size_t len);
	/*
	 * Where no memory can be had: an int3 and a ret that are there
	 * already.  Then alloc is NULL, targets of tail calls are never
	 * called but their return address is swapped, and an instruction
	 * that would need a copy is not patched.
	 */
	int (*places)(struct probe_target *t, uint64_t *swap, uint64_t *ret);
	/* Executable memory within 2 GiB of 'near' (0: anywhere). */
	int (*alloc)(struct probe_target *t, uint64_t near, size_t size,
		     uint64_t *addr);
	void (*free)(struct probe_target *t, uint64_t addr, size_t size);
	/* The stack that holds sp, for thread tid. */
	int (*stack)(struct probe_target *t, int tid, uint64_t sp,
		     struct probe_extent *x);
	/* Is addr executable?  Or a return address it cannot be. */
	bool (*exec)(struct probe_target *t, uint64_t addr);
	/* Unwind data for [eh, ...) of the trampolines; may be NULL. */
	int (*unwind_add)(struct probe_target *t, uint64_t eh);
	void (*unwind_del)(struct probe_target *t, uint64_t eh);
	/* May signals strike below the stack pointer without harm to the
	 * 128 bytes there?  True in user space, false in a kernel. */
	bool red_zone;
};

#endif
