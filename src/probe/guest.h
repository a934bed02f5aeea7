/*
 * Probes on the kernel in a VM, from its VMM.
 *
 * All of it is done by reading and writing the guest's memory and taking its
 * breakpoints: nothing is loaded into the guest and its driver or kernel is
 * not changed otherwise.  Memory for trampolines cannot be had there, so a
 * tail call's return address is swapped, for that of a breakpoint that stands
 * in the kernel's own padding; stack arguments stay where they are.
 *
 * Events come on vCPU threads, one at a time; 'tid' is the vCPU, from 1.
 */
#ifndef PROBE_GUEST_H
#define PROBE_GUEST_H

#include "base/err.h"
#include "base/wire.h"
#include "probe/engine.h"
#include "vmm/vm.h"

struct guest_probe;

/*
 * The symbols in a file, in the form of /proc/kallsyms: that itself (as the
 * guest's root sees it), a System.map, or an ELF file with symbols (vmlinux).
 * *text is the caller's.  Hostile input: at most 64 MiB of a regular file.
 */
int guest_symbols_load(char **text, const char *path, struct err *e);

/*
 * Find the kernel that runs (symbols that are not those of /proc/kallsyms are
 * moved to where KASLR has put it), hold the symbols against its code, and
 * choose functions by 'patterns': [MODULE:]FUNCTION, shell globs, with
 * commas; MODULE is "kernel" for the kernel itself.  Changes nothing and
 * pauses the VM only for moments; may take seconds; any thread.
 */
int guest_probe_prepare(struct guest_probe **out, struct vm *vm,
			const char *symbols, const char *patterns,
			const struct engine_options *opt, probe_sink sink,
			void *opaque, struct err *e);
/* Set the breakpoints; -errno: there are none. */
int guest_probe_arm(struct guest_probe *g, struct err *e);
/* Both. */
int guest_probe_start(struct guest_probe **out, struct vm *vm,
		      const char *symbols, const char *patterns,
		      const struct engine_options *opt, probe_sink sink,
		      void *opaque, struct err *e);
/*
 * Bytes back; what there is can be asked.  False: the guest's own tracer may
 * keep return addresses of ours, and they work until guest_probe_stop().
 */
bool guest_probe_disarm(struct guest_probe *g);
bool guest_probe_drained(const struct guest_probe *g);
/* Disarm if it is armed, and all gone; NULL is fine. */
void guest_probe_stop(struct guest_probe *g);
/* The same for a guest that will not run here again: it is not touched. */
void guest_probe_forget(struct guest_probe *g);

struct engine *guest_probe_engine(struct guest_probe *g);
/* All that matched, with what was refused and why; NULL behind the last. */
const struct probe_func *guest_probe_matched(struct guest_probe *g, size_t i);
/* The function 'addr' is in, and how far; NULL after a load. */
const char *guest_probe_symbol(struct guest_probe *g, uint64_t addr,
			       uint64_t *offset);
const char *guest_probe_module(struct guest_probe *g, uint64_t addr);

/*
 * In a sink, at an entry: addresses on the stack that calls have left there,
 * innermost first.  A kernel has no unwind data, so old ones may be among
 * them.  Returns how many.
 */
size_t guest_probe_stack(struct guest_probe *g, const struct probe_event *ev,
			 uint64_t *pc, size_t max);

/*
 * Probes move with the guest: they stand in its memory.  Save what they are
 * while it is parked, load it into a VM whose RAM and vCPUs are there and
 * that does not run yet.  'shift' is added to times of what is pending.
 */
void guest_probe_save(struct guest_probe *g, struct wire_out *o);
int guest_probe_load(struct guest_probe **out, struct vm *vm,
		     struct wire_in *in, int64_t shift, probe_sink sink,
		     void *opaque, struct err *e);

#endif
