/*
 * The programs probes are tried on.  One executable, one case an argument.
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

/* The oracle steps what runs between these two. */
void corpus_begin(void);
void corpus_end(void);

void case_exception(void);
void case_cleanup(void);
void case_rethrow(void);
void case_unwind_deep(void);
void case_asm(void);

#ifdef __cplusplus
}
#endif
#endif
