/*
 * Runs every case of a corpus program four ways: alone, under the oracle,
 * with in-process probes and with ptrace probes; and demands that what it
 * computes is the same each time and that entries and exits are the oracle's.
 *
 * usage: compare CORPUS PRELOAD PAGURUS [CASE...]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oracle.h"
#include "runs.h"

static const char *corpus;
static int failures;

static void fail(const char *what, const char *which, const char *why)
{
	printf("FAIL %s (%s): %s\n", what, which, why);
	failures++;
}

static void compare(const char *name, const char *how,
		    const struct run_result *native, const struct oracle *o,
		    const struct run_result *r)
{
	bool forks = run_trait(name)->forks;
	char why[256];
	long total = 0;

	if (r->code != native->code || strcmp(r->out, native->out)) {
		snprintf(why, sizeof(why),
			 "the program was disturbed: status %d, not %d",
			 r->code, native->code);
		fail(name, how, why);
		printf("     alone:  %s     probed: %s\n", native->out, r->out);
	}
	for (size_t i = 0; i < o->n; i++) {
		const struct oracle_func *f = &o->func[i];
		const struct run_counts *c = run_find(r, f->name);
		long in = c ? c->n[EVENT_ENTRY] : -1;
		long out = c ? c->n[EVENT_EXIT] : -1;
		long gone = c ? c->n[EVENT_ABANDONED] : 0;

		total += f->entries;
		if (in != f->entries || out != f->exits ||
		    (!forks && in - out != gone)) {
			snprintf(why, sizeof(why),
				 "%s: %ld entries, %ld exits, %ld abandoned;"
				 " the oracle saw %ld and %ld",
				 f->name, in, out, gone, f->entries, f->exits);
			fail(name, how, why);
		}
	}
	if (!total)
		fail(name, how, "the oracle counted nothing");
}

static void one_case(const char *name, struct oracle *o)
{
	static const char *const ways[] = { "exj",  "exm",  "exs",  "exJ",
					    "exJC", "exjJ", "exjJC" };
	char *argv[] = { (char *)corpus, (char *)name, NULL };
	const struct run_trait *t = run_trait(name);
	struct run_result native = { .n = 0 }, r;
	char out[RUN_OUT];
	int code;

	native.code = run_program(argv, NULL, native.out, RUN_OUT);
	code = oracle_run(o, argv, out, sizeof(out));
	if (code != native.code || strcmp(out, native.out))
		fail(name, "oracle", "the oracle disturbed the program");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (t->unwinds && strchr(ways[i], 's'))
			continue;
		/* Counters are private: those of a child go with it. */
		if (t->forks && strchr(ways[i], 'C'))
			continue;
		run_inproc(name, ways[i], &r);
		compare(name, ways[i], &native, o, &r);
		free(r.c);
	}
	run_ptrace(name, &r);
	compare(name, "ptrace", &native, o, &r);
	free(r.c);
	printf("%s: %ld steps\n", name, o->steps);
}

static long line_value(const char *out, const char *key)
{
	const char *p = strstr(out, key);

	return p ? atol(p + strlen(key)) : -1;
}

/* Every exit of a recursion a million deep, in bounded stack and memory. */
static void million(const char *options)
{
	const struct run_counts *odd, *even;
	struct run_result r;
	char why[128];
	long stack, memory, in, out;

	run_inproc("million", options, &r);
	stack = line_value(r.out, "stack-kib ");
	memory = line_value(r.out, "memory-kib ");
	odd = run_find(&r, "r_odd");
	even = run_find(&r, "r_even");
	in = odd && even ? odd->n[EVENT_ENTRY] + even->n[EVENT_ENTRY] : -1;
	out = odd && even ? odd->n[EVENT_EXIT] + even->n[EVENT_EXIT] : -1;
	snprintf(why, sizeof(why),
		 "%ld entries, %ld exits, %ld KiB stack, %ld KiB memory", in,
		 out, stack, memory);
	if (r.code || in != 1000001 || out != 1000001 || stack < 0 ||
	    stack >= 64 || memory < 0 || memory >= 65536)
		fail("million", options, why);
	else
		printf("million (%s): %s\n", options, why);
	free(r.c);
}

/* The test of the tests: without the copied frame this case must break. */
static void needs_copy(void)
{
	char *argv[] = { (char *)corpus, (char *)"stack-args", NULL };
	struct run_result native, r;

	native.code = run_program(argv, NULL, native.out, RUN_OUT);
	run_inproc("stack-args", "exc", &r);
	if (r.code == native.code && !strcmp(r.out, native.out))
		fail("stack-args", "exc",
		     "right although no frame was copied: it tests nothing");
	else
		printf("stack-args: broken without the copy, as it must be\n");
	free(r.c);
}

int main(int argc, char **argv)
{
	static char names[RUN_CASES][32];
	struct oracle o;
	int n;

	if (argc < 4)
		return 2;
	run_set_up(argv[1], argv[2], argv[3]);
	corpus = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (oracle_open(&o, corpus) < 0) {
		printf("FAIL %s: not a corpus program\n", corpus);
		return 1;
	}
	n = run_cases(names);
	for (int i = 0; i < n; i++) {
		bool asked = argc == 4;

		for (int k = 4; k < argc; k++)
			asked |= !strcmp(argv[k], names[i]);
		if (!asked)
			continue;
		if (!strcmp(names[i], "million")) {
			million("ex");
			million("exJ");
			million("exJC");
		} else {
			one_case(names[i], &o);
		}
		if (!strcmp(names[i], "stack-args"))
			needs_copy();
	}
	oracle_close(&o);
	printf("%d failures\n", failures);
	return failures != 0;
}
