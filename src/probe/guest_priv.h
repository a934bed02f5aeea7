/*
 * The guest target's insides, for guest*.c alone.
 */
#ifndef PROBE_GUEST_PRIV_H
#define PROBE_GUEST_PRIV_H

#include <pthread.h>

#include "probe/finder.h"
#include "probe/guest.h"
#include "probe/image.h"

/* A page of the kernel's code, where it is in RAM: neither ever changes. */
struct guest_page {
	uint64_t va, gpa;
};

struct probe_target {
	struct vm *vm;
	struct guest_page *page; /* sorted by va */
	size_t npages;
	struct probe_range *text; /* where return addresses may point */
	size_t ntext;
	struct guest_probe *g;
};

struct guest_probe {
	struct probe_target target;
	struct image *im;     /* NULL after a load */
	struct finder finder; /* likewise empty */
	struct probe_func **matched;
	size_t nmatched;
	struct engine *en;
	struct engine_thread *th[VM_CPUS_MAX];
	pthread_mutex_t lock; /* one event at a time */
	probe_sink sink;
	void *opaque;
	bool attached, armed;

	/* The breakpoint that swapped addresses lead to, in padding. */
	uint64_t swap_at;
	uint8_t nswap;
	uint8_t swap[PROBE_TRAP_MAX], swap_orig[PROBE_TRAP_MAX];
};

/* guest_code.c: code by RAM, whatever address space a vCPU is in */
/* Add the pages of [lo, hi) that are mapped; pauses the VM. */
int guest_code_map(struct probe_target *t, uint64_t lo, uint64_t hi);
const struct guest_page *guest_code_page(const struct probe_target *t,
					 uint64_t va);
int guest_code_read(struct probe_target *t, uint64_t va, void *buf, size_t len);
int guest_code_write(struct probe_target *t, uint64_t va, const void *buf,
		     size_t len);
/* For image_of_kernel(); holes read as int3. */
int guest_code_fill(void *opaque, uint64_t va, void *buf, size_t len);
/* The image of the kernel that runs, if these symbols are its own. */
int guest_code_find(struct image **out, struct probe_target *t,
		    const char *symbols, struct err *e);
/* A ret, and padding behind it that nothing runs into. */
int guest_code_places(struct guest_probe *g, uint64_t *swap, uint64_t *ret);

/* guest.c */
extern const struct probe_target_ops guest_target_ops;
struct guest_probe *guest_probe_new(struct vm *vm, probe_sink sink,
				    void *opaque);
/* The engine's sink. */
void guest_probe_event(const struct probe_event *ev, void *opaque);
/* vCPU states, and the guest's breakpoints come to us from now on. */
int guest_probe_attach(struct guest_probe *g, struct err *e);

#endif
