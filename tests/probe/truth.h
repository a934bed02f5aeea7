/*
 * What the compiler says of its own tail calls: DW_TAG_call_site entries with
 * DW_AT_call_tail_call, and which functions it describes completely.
 *
 * Source of fact: DWARF 5 sections 3.3.1.3 and 3.4; before DWARF 5 the same
 * as GNU extensions (DW_TAG_GNU_call_site).
 */
#ifndef TESTS_PROBE_TRUTH_H
#define TESTS_PROBE_TRUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/finder.h"

struct truth_call {
	uint64_t pc;
	bool after; /* pc is behind the jump, not at it */
	bool found;
};

struct truth {
	struct truth_call *call; /* sorted by (after, pc) */
	size_t ncall;
	/* Functions all whose tail calls are said to be described; sorted,
	 * disjoint. */
	struct probe_range *range;
	size_t nrange;
	uint64_t *entry; /* where its functions start, sorted */
	size_t nentry;
};

/* -ENODATA: the file has no such debug information. */
int truth_open(struct truth *t, const char *path, struct err *e);
void truth_close(struct truth *t);

/* Is addr in a function whose tail calls are all described? */
bool truth_covers(const struct truth *t, uint64_t addr);
/* The tail call made by the instruction [addr, addr + len), or NULL. */
struct truth_call *truth_at(const struct truth *t, uint64_t addr, size_t len);

#endif
