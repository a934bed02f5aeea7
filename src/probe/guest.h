/*
 * Probes on the kernel in a VM, from its VMM.
 *
 * All of it is done by reading and writing the guest's memory and taking its
 * breakpoints: nothing is loaded into the guest and its driver or kernel is
 * not changed otherwise.  Memory for trampolines cannot be had there, so a
 * tail call's return address is swapped, for that of an int3 that stands in
 * the kernel's own padding; stack arguments stay where they are.
 *
 * Events come on vCPU threads, one at a time; 'tid' is the vCPU.
 */
#ifndef PROBE_GUEST_H
#define PROBE_GUEST_H

#include "base/err.h"
#include "probe/engine.h"
#include "vmm/vm.h"

struct guest_probe;

/*
 * kallsyms: what /proc/kallsyms says in that guest, after KASLR.  Patterns
 * as in select.h, without files.  -ENOTSUP where this KVM does not report
 * a guest's int3.
 */
int guest_probe_start(struct guest_probe **out, struct vm *vm,
		      const char *kallsyms, const char *patterns,
		      const struct engine_options *opt, probe_sink sink,
		      void *opaque, struct err *e);
/* Bytes back; NULL is fine. */
void guest_probe_stop(struct guest_probe *g);
struct engine *guest_probe_engine(struct guest_probe *g);

#endif
