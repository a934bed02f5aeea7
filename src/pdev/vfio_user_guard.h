/*
 * Shared memory whose owner may take it away.
 *
 * Who maps a file of somebody else's dies of SIGBUS when that one shrinks
 * it.  A guarded mapping gets zeroed private memory in its place instead,
 * once, as a whole; the count of holes tells.  The handler is installed
 * with the first guard and hands on every fault that is not in a guard.
 */
#ifndef PDEV_VFIO_USER_GUARD_H
#define PDEV_VFIO_USER_GUARD_H

#include <stdbool.h>
#include <stddef.h>

struct vfu_guard;

/* NULL if there are too many guards in this process. */
struct vfu_guard *vfu_guard_add(void *va, size_t len);
/* Before the munmap, with no thread inside the mapping.  NULL is fine. */
void vfu_guard_del(struct vfu_guard *g);
bool vfu_guard_hole(const struct vfu_guard *g);

#endif
