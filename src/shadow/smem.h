/*
 * Split memory: stretches of guest RAM that exist twice.
 *
 * Of a split page the vCPUs reach the *vCPU buffer* and the device the
 * *device buffer*; of any other page both are the same bytes.  The vCPU
 * buffer is always the guest view.  Which of the two is the copy depends on
 * the method:
 *
 *	                  vCPU buffer           device buffer
 *	SHADOW_CPU        a copy, by mmap       the original pages
 *	SHADOW_IOMMU      the original pages    a copy, by DMA remap
 *
 * Nothing here knows rings: callers move bytes between the buffers and say
 * which ranges the device owns when a page is merged.  One user at a time,
 * under the vdev's lock.
 */
#ifndef SHADOW_SMEM_H
#define SHADOW_SMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pdev/pdev.h"
#include "shadow/shadow.h"
#include "vdev/host.h"

struct smem;

/* A range the device may write to at any moment. */
struct smem_range {
	uint64_t gpa, len;
};

/* 'p' is remapped with SHADOW_IOMMU only, and must outlive the smem. */
int smem_create(struct smem **out, struct host *h, struct pdev *p,
		enum shadow_method method, struct err *e);
void smem_destroy(struct smem *m); /* everything merged before; NULL is fine */

/* Whether all of [gpa, gpa + len) is RAM of one region; len 0 is not. */
bool smem_is_ram(const struct smem *m, uint64_t gpa, uint64_t len);
/* How many bytes from gpa on, 'len' at most, are RAM of one region. */
uint64_t smem_clip(const struct smem *m, uint64_t gpa, uint64_t len);

/*
 * Split every page (unit of its region) that [gpa, gpa + len) touches; those
 * split already stay as they are.  The range must be RAM.  A failure leaves
 * what was split before.
 */
int smem_split(struct smem *m, uint64_t gpa, uint64_t len);

/*
 * Right after a split, vCPUs still paused: carry over what the device has
 * written meanwhile, all but 'skip' (sorted in place).
 */
void smem_refresh(struct smem *m, struct smem_range *skip, size_t nskip);

/*
 * Merge every split page for which keep() is false.  Each byte ends as its
 * owner has it: those in 'owned' as in the device buffer, all others as in
 * the vCPU buffer.  'owned' is sorted in place.
 */
int smem_merge(struct smem *m,
	       bool (*keep)(void *opaque, uint64_t gpa, uint64_t len),
	       void *opaque, struct smem_range *owned, size_t nowned);

bool smem_any_split(const struct smem *m, uint64_t gpa, uint64_t len);
uint64_t smem_split_bytes(const struct smem *m);
/* The unit of a split at 'gpa': bounds of the page that holds it. */
void smem_unit(const struct smem *m, uint64_t gpa, struct smem_range *out);

/* Addresses of a range that is RAM; for smem_dev one that is all split. */
void *smem_vcpu(const struct smem *m, uint64_t gpa);
void *smem_dev(const struct smem *m, uint64_t gpa);

/*
 * Carry the split parts of a RAM range over; the rest needs no carrying.
 * Return the bytes copied.
 */
uint64_t smem_to_dev(struct smem *m, uint64_t gpa, uint64_t len);
uint64_t smem_to_vcpu(struct smem *m, uint64_t gpa, uint64_t len);

#endif
