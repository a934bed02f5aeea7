/*
 * Running a case of the corpus: alone, and under each of our own targets.
 */
#ifndef TESTS_PROBE_RUNS_H
#define TESTS_PROBE_RUNS_H

#include <stdbool.h>
#include <stddef.h>

#include "probe/event.h"
#include "probe/share.h"

#define RUN_OUT	  4096
#define RUN_CASES 64
#define RUN_HUNG  (-1) /* as an exit status: it was killed for it */

struct run_counts {
	char name[SHARE_NAME];
	long n[EVENT_KINDS];
};

struct run_result {
	char out[RUN_OUT];
	int code;	      /* exit status, or 128 + signal */
	struct run_counts *c; /* the caller frees it */
	size_t n;
};

/* What an engine option is expected to break, case by case. */
struct run_trait {
	const char *name;
	bool unwinds;	/* cannot live with swapped addresses */
	bool forks;	/* a child repeats its parent's exits */
	bool no_oracle; /* too long to be stepped */
};

/* Never NULL: all false for a case nothing is said of. */
const struct run_trait *run_trait(const char *name);

/* The corpus program, the library to preload, and pagurus itself. */
void run_set_up(const char *corpus, const char *preload, const char *pagurus);
/* The corpus's cases; how many. */
int run_cases(char names[RUN_CASES][32]);

/*
 * Run argv with env added, its output into out; exit status, or 128 + signal.
 * What still runs after that many seconds (60), descendants too, is killed.
 */
int run_limited(char *const argv[], char *const env[], char *out, size_t size,
		unsigned int seconds);
int run_program(char *const argv[], char *const env[], char *out, size_t size);
/* Options as the preloaded library takes them. */
void run_inproc(const char *name, const char *options, struct run_result *r);
void run_ptrace(const char *name, struct run_result *r);

struct run_counts *run_find(const struct run_result *r, const char *name);

#endif
