/*
 * Other tracers, run on the corpus and made to say how often each function
 * was entered and left.
 */
#ifndef TESTS_PROBE_PEERS_H
#define TESTS_PROBE_PEERS_H

#include "oracle.h"
#include "runs.h"

#define PEER_SECONDS 30 /* a case that takes longer hangs */

struct peer_setup {
	const char *corpus;    /* an ordinary build */
	const char *corpus_pg; /* one with -pg -mfentry, for uftrace */
	const char *folder;    /* for files of ours; short-lived */
	const char *gdb;       /* the script gdb runs */
	const struct oracle *o;
};

struct peer {
	const char *name;
	const char *program; /* to be found in PATH; NULL: ours */
	bool pg;	     /* runs corpus_pg */
	/* Once, before and after all cases.  begin: 0, or why not, in why. */
	int (*begin)(const struct peer_setup *s, char *why, size_t size);
	void (*end)(const struct peer_setup *s);
	/* One case; its counts may come with 'late' only, after end(). */
	void (*run)(const struct peer_setup *s, const char *name,
		    struct run_result *r);
	void (*late)(const struct peer_setup *s, const char *name,
		     struct run_result *r);
};

extern const struct peer peers[];
extern const size_t peers_count;

#endif
