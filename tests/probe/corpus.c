#include "corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long sum[16];
long depth = 50;

NOINLINE void corpus_begin(void)
{
	__asm__ volatile("");
}
NOINLINE void corpus_end(void)
{
	__asm__ volatile("");
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "direct", case_direct },
	{ "chain", case_chain },
	{ "pointer", case_pointer },
	{ "recursion", case_recursion },
	{ "million", case_million },
	{ "stack-args", case_stack_args },
	{ "variadic", case_variadic },
	{ "plt", case_plt },
	{ "table", case_table },
	{ "cold", case_cold },
	{ "noreturn", case_noreturn },
	{ "longjmp", case_longjmp },
	{ "results", case_results },
	{ "ipa-ra", case_ipa_ra },
	{ "swapcontext", case_swapcontext },
	{ "signal", case_signal },
	{ "threads", case_threads },
	{ "fork", case_fork },
	{ "vfork", case_vfork },
	{ "frames", case_frames },
#ifndef __clang__
	{ "static-chain", case_chain_reg },
#endif
	{ "exception", case_exception },
	{ "cleanup", case_cleanup },
	{ "rethrow", case_rethrow },
	{ "unwind-deep", case_unwind_deep },
	{ "asm", case_asm },
};

int main(int argc, char **argv)
{
	if (argc > 2)
		depth = atol(argv[2]);
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc < 2)
			printf("%s\n", cases[i].name);
		else if (!strcmp(argv[1], cases[i].name)) {
			/* What is written must not be written twice by a
			 * fork. */
			fflush(stdout);
			corpus_begin();
			cases[i].run();
			corpus_end();
			for (int k = 0; k < 16; k++)
				printf("%ld ", sum[k]);
			printf("\n");
			return 0;
		}
	}
	return argc < 2 ? 0 : 2;
}
