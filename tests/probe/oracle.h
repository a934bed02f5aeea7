/*
 * The independent witness: steps a program one instruction at a time, patches
 * nothing in what it counts, and shares no code with the engine.
 *
 * An entry is an arrival at a function's first byte from anywhere but its
 * own body (a loop to the first byte is a loop), and any call.  A return is
 * the execution of a ret whose return address is where it was at entry; one
 * ret may end several activations.
 */
#ifndef TESTS_PROBE_ORACLE_H
#define TESTS_PROBE_ORACLE_H

#include <stddef.h>
#include <stdint.h>

struct oracle_func {
	char name[64];
	uint64_t addr, size;
	long entries, exits;
};

struct oracle {
	struct oracle_func *func;
	size_t n;
	uint64_t begin, end, entry;
	long steps;
};

/* Functions named x_..., sorted by address.  0 or -errno. */
int oracle_open(struct oracle *o, const char *exe);
void oracle_close(struct oracle *o);

/* Run argv between corpus_begin and corpus_end; its output goes to 'out'. */
int oracle_run(struct oracle *o, char *const argv[], char *out, size_t size);

#endif
