/*
 * Tail calls of every kind, and what is passed along: the stack, registers,
 * variadic arguments, through pointers and libraries.
 */
#include "corpus.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* -- d: direct; c: a chain of three -- */
NOINLINE long d_g(long x)
{
	OPAQUE(x);
	return x * 3 + 1;
}
NOINLINE long d_f(long x)
{
	OPAQUE(x);
	return d_g(x + 1);
}
NOINLINE long c_h(long x)
{
	OPAQUE(x);
	return x ^ 0x55;
}
NOINLINE long c_g(long x)
{
	OPAQUE(x);
	return c_h(x * 2);
}
NOINLINE long c_f(long x)
{
	OPAQUE(x);
	return c_g(x + 7);
}

void case_direct(void)
{
	for (long i = 0; i < 5; i++)
		sum[0] += d_f(i);
	sum[1] = d_g(4);
}

void case_chain(void)
{
	for (long i = 0; i < 5; i++)
		sum[0] += c_f(i) + c_g(i);
}

/* -- p: through pointers and tables -- */
static long (*volatile p_to)(long) = d_g;
static long (*const volatile p_tab[4])(long) = { d_g, d_f, c_h, c_f };
NOINLINE long p_f(long x)
{
	return p_to(x + 1);
}
NOINLINE long p_tabf(long x, long i)
{
	return p_tab[i & 3](x);
}

void case_pointer(void)
{
	for (long i = 0; i < 8; i++)
		sum[0] += p_f(i) + p_tabf(i, i);
}

/* -- r: mutual recursion -- */
NOINLINE long r_odd(long n);
NOINLINE long r_even(long n)
{
	OPAQUE(n);
	return n ? r_odd(n - 1) : 1;
}
NOINLINE long r_odd(long n)
{
	OPAQUE(n);
	return n ? r_even(n - 1) : 0;
}
/* not a tail call: work is left */
NOINLINE long r_deep(long n)
{
	OPAQUE(n);
	return n ? r_deep(n - 1) + r_odd(n) : 0;
}

static long stack_used(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[256];
	int here = 0;
	long kb = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, "[stack]"))
			here = 1;
		else if (here && sscanf(line, "Rss: %ld kB", &kb) == 1)
			break;
	}
	if (f)
		fclose(f);
	return kb;
}

void case_recursion(void)
{
	sum[0] = r_even(depth);
	sum[1] = r_odd(depth);
	sum[2] = r_deep(6);
}

/* Prints what it cost: the test looks for these two lines. */
void case_million(void)
{
	long kb = stack_used();
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	corpus_begin();
	sum[0] = r_even(1000000);
	corpus_end();
	getrusage(RUSAGE_SELF, &after);
	printf("stack-kib %ld\n", stack_used() - kb);
	printf("memory-kib %ld\n", after.ru_maxrss - before.ru_maxrss);
}

/* -- s: arguments on the stack -- */
struct big64 {
	long v[8];
};
struct big4k {
	long v[512];
};
NOINLINE long s_g9(long a, long b, long c, long d, long e, long f, long g,
		   long h, long i)
{
	OPAQUE(i);
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h +
	       9 * i;
}
NOINLINE long s_f9(long a, long b, long c, long d, long e, long f, long g,
		   long h, long i)
{
	OPAQUE(a);
	return s_g9(b, a, c, d, e, f, h, g, i + 1);
}
NOINLINE long s_g64(struct big64 s, long k)
{
	long t = k;

	for (int i = 0; i < 8; i++)
		t = t * 31 + s.v[i];
	return t;
}
NOINLINE long s_f64(struct big64 s, long k)
{
	OPAQUE(k);
	return s_g64(s, k + 1);
}
NOINLINE long s_gbig(struct big4k s, long k)
{
	long t = k;

	/* It owns its copy and may write it. */
	for (int i = 0; i < 512; i++)
		s.v[i] = s.v[i] * 3 + i;
	OPAQUE(k);
	for (int i = 0; i < 512; i++)
		t = t * 31 + s.v[511 - i];
	return t;
}
NOINLINE long s_f4k(struct big4k s, long k)
{
	OPAQUE(k);
	return s_gbig(s, k + 2);
}

void case_stack_args(void)
{
	struct big64 s;
	struct big4k b;

	for (int i = 0; i < 8; i++)
		s.v[i] = i * i;
	for (int i = 0; i < 512; i++)
		b.v[i] = i ^ 0x2a;
	for (long i = 0; i < 3; i++) {
		sum[0] += s_f9(1, 2, 3, 4, 5, 6, 7, 8, i);
		sum[1] += s_f64(s, i);
		sum[2] += s_f4k(b, i);
	}
	for (int i = 0; i < 512; i++)
		sum[3] += b.v[i];
}

/* -- v: variadic, with floating point, so that al matters -- */
NOINLINE double v_sum(int n, ...)
{
	double t = 0;
	va_list ap;

	va_start(ap, n);
	for (int i = 0; i < n; i++)
		t += i & 1 ? va_arg(ap, double) : (double)va_arg(ap, long);
	va_end(ap);
	return t;
}
NOINLINE double v_f(long a, double b, long c, double d, long e, double f,
		    long g, long pad1, long pad2, long pad3)
{
	OPAQUE(a);
	return v_sum(7, a, b, c, d, e, f, g + pad1 + pad2 + pad3);
}
NOINLINE int v_print(char *out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsprintf(out, fmt, ap);
	va_end(ap);
	return n;
}
NOINLINE int v_printf(char *out, double d, long a, long b, long c, long e,
		      long f, long g)
{
	OPAQUE(a);
	return v_print(out, "%.2f %ld %ld %ld %ld %ld", d, a, b, c, e, f + g);
}

void case_variadic(void)
{
	char text[128];

	sum[0] = (long)(v_f(1, 2.5, 3, 4.5, 5, 6.5, 7, 8, 9, 10) * 4);
	sum[1] = v_printf(text, 3.25, 1, 2, 3, 4, 5, 6);
	for (char *p = text; *p; p++)
		sum[2] = sum[2] * 31 + *p;
}

/* -- l: through the PLT; q: called back from a library -- */
NOINLINE long l_f(const char *s)
{
	return strtol(s, NULL, 10);
}
NOINLINE int q_far(long a, long b)
{
	return a < b ? -1 : a > b;
}
NOINLINE int q_cmp(const void *a, const void *b)
{
	return q_far(*(const long *)a, *(const long *)b);
}

void case_plt(void)
{
	long v[] = { 5, 3, 9, 1, 7 };

	sum[0] = l_f("123") + l_f("-7");
	qsort(v, 5, sizeof(v[0]), q_cmp);
	for (int i = 0; i < 5; i++)
		sum[1] = sum[1] * 10 + v[i];
}
