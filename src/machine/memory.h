/*
 * Whether this host has memory for a VM: passed-through devices pin all of
 * it, so what is not there now is not there later.
 */
#ifndef MACHINE_MEMORY_H
#define MACHINE_MEMORY_H

#include <stdint.h>

#include "base/err.h"

#define MEMINFO "/proc/meminfo"

/*
 * 'bytes' of RAM in pages of 'page' bytes, against what 'meminfo' (a file
 * like MEMINFO) says is free.  -ENOMEM with both figures; 0 also where the
 * file tells nothing.
 */
int memory_suffices(uint64_t bytes, uint64_t page, const char *meminfo,
		    struct err *e);

#endif
