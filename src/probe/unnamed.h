/*
 * Functions without a name: what only unwind data tells of, as in a stripped
 * program.
 *
 * A function's cold part has unwind data of its own, which looks like a
 * function's if no frame is open where it starts.  But functions are called
 * or have their address taken, while a part is only ever jumped to; and
 * compilers align functions, but not parts.
 */
#ifndef PROBE_UNNAMED_H
#define PROBE_UNNAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probe/image.h"

struct unnamed {
	uint64_t *hash; /* starts that something other than a jump refers to */
	size_t mask;
	uint64_t part_end; /* of the last that was a part */
};

/* Looks at all of the image once.  0 or -ENOMEM. */
int unnamed_open(struct unnamed *u, const struct image *im);
void unnamed_close(struct unnamed *u);

/* Is it one?  To be asked in the order of the index. */
bool unnamed_is_function(struct unnamed *u, const struct image *im,
			 const struct cfi_fde *fde);

#endif
