/*
 * The programs probes are tried on.  One executable, one case an argument;
 * the cases are in corpus_*.c, by subject.
 * Functions under test are named x_name, one letter a case; everything else
 * is scaffolding.  Every case leaves what it computed in sum[], printed last.
 */
#ifndef TESTS_PROBE_CORPUS_H
#define TESTS_PROBE_CORPUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define NOINLINE __attribute__((noinline, noclone))
#ifdef __clang__
#undef NOINLINE
#define NOINLINE __attribute__((noinline))
#endif
/* Keep the optimiser from seeing through a value. */
#define OPAQUE(v) __asm__ volatile("" : "+r"(v))

extern long sum[16];
extern long depth; /* of recursions; the second argument */

/* The oracle steps what runs between these two. */
void corpus_begin(void);
void corpus_end(void);

void case_direct(void);
void case_chain(void);
void case_pointer(void);
void case_recursion(void);
void case_million(void);
void case_stack_args(void);
void case_variadic(void);
void case_plt(void);
void case_table(void);
void case_cold(void);
void case_noreturn(void);
void case_longjmp(void);
void case_results(void);
void case_ipa_ra(void);
void case_swapcontext(void);
void case_signal(void);
void case_threads(void);
void case_fork(void);
void case_vfork(void);
void case_chain_reg(void);
void case_frames(void);
void case_exception(void);
void case_cleanup(void);
void case_rethrow(void);
void case_unwind_deep(void);
void case_asm(void);

/* What cases of several files end in. */
long d_f(long x);
long d_g(long x);
long c_f(long x);
long c_h(long x);
long s_f9(long a, long b, long c, long d, long e, long f, long g, long h,
	  long i);

#ifdef __cplusplus
}
#endif
#endif
