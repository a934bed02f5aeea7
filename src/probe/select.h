/*
 * Which functions of a process: patterns, the files mapped into it, and what
 * the finder says of them.
 *
 * A pattern is [FILE:]FUNCTION, both shell globs.  Without FILE the program
 * itself is meant; FILE is matched against the last part of the path.
 */
#ifndef PROBE_SELECT_H
#define PROBE_SELECT_H

#include <stddef.h>

#include "base/err.h"
#include "probe/engine.h"
#include "probe/finder.h"
#include "probe/image.h"

struct module {
	struct image *im;
	struct finder finder; /* n is 0 until something matches */
	bool searched;
	uint64_t lo, hi, bias;
	const char *name; /* last part of the path */
};

struct selection {
	struct module *mod;
	size_t nmod;
};

/* All modules of a process; pid 0 is this one.  The program is the first. */
int selection_of_process(struct selection *s, int pid, struct err *e);
/* One file that runs nowhere: for --list. */
int selection_of_file(struct selection *s, const char *path, struct err *e);
void selection_close(struct selection *s);

typedef int (*selection_fn)(struct module *m, struct probe_func *fn,
			    void *opaque, struct err *e);

/*
 * Call fn for each function that matches one of the patterns (separated by
 * commas), its sites filled in, each once.  -ENOENT with words if a pattern
 * matches nothing; what fn returns below 0 ends it.
 */
int selection_each(struct selection *s, const char *patterns, selection_fn fn,
		   void *opaque, struct err *e);

/* Give the engine all images, and the functions that match. */
int selection_apply(struct selection *s, const char *patterns,
		    struct engine *en, struct err *e);

#endif
