#include "corpus.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

long sum[16];
static long depth = 50;

NOINLINE void corpus_begin(void)
{
	__asm__ volatile("");
}
NOINLINE void corpus_end(void)
{
	__asm__ volatile("");
}

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

static void case_direct(void)
{
	for (long i = 0; i < 5; i++)
		sum[0] += d_f(i);
	sum[1] = d_g(4);
}

static void case_chain(void)
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

static void case_pointer(void)
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

static void case_recursion(void)
{
	sum[0] = r_even(depth);
	sum[1] = r_odd(depth);
	sum[2] = r_deep(6);
}

/* Prints what it cost: the test looks for these two lines. */
static void case_million(void)
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

static void case_stack_args(void)
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

static void case_variadic(void)
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

static void case_plt(void)
{
	long v[] = { 5, 3, 9, 1, 7 };

	sum[0] = l_f("123") + l_f("-7");
	qsort(v, 5, sizeof(v[0]), q_cmp);
	for (int i = 0; i < 5; i++)
		sum[1] = sum[1] * 10 + v[i];
}

/* -- t: jump tables and computed goto are no exits -- */
NOINLINE long t_leaf(long x)
{
	OPAQUE(x);
	return x + 100;
}
NOINLINE long t_switch(long x, long y)
{
	switch (x) {
	case 0: return y * 3;
	case 1: return t_leaf(y);
	case 2: return y - 9;
	case 3: return c_h(y);
	case 4: return y << 3;
	case 5: return d_g(y + 1);
	case 6: return y ^ x;
	case 7: return ~y;
	default: return t_leaf(x);
	}
}
NOINLINE long t_interp(const unsigned char *code, long acc)
{
	static const void *const op[] = { &&add, &&dbl, &&call, &&end };

	goto *op[*code++];
add:
	acc += 5;
	goto *op[*code++];
dbl:
	acc *= 2;
	goto *op[*code++];
call:
	acc = t_leaf(acc);
	goto *op[*code++];
end:
	return t_leaf(acc);
}

static void case_table(void)
{
	static const unsigned char code[] = { 0, 1, 2, 1, 0, 3 };

	for (long i = 0; i < 10; i++)
		sum[0] = sum[0] * 7 + t_switch(i, i * 5);
	sum[1] = t_interp(code, 3);
}

/* -- k: cold parts are no functions -- */
__attribute__((cold, noinline)) void k_complain(long x)
{
	sum[5] += x;
}
NOINLINE long k_g(long x)
{
	OPAQUE(x);
	return x + 2;
}
NOINLINE long k_f(long x)
{
	if (__builtin_expect(x > 3, 0)) {
		k_complain(x);
		k_complain(x + 1);
		sum[6]++;
		if (x == 5)
			return -1;
	}
	return k_g(x);
}
/* with a frame open around the cold part */
NOINLINE long k_frame(long x)
{
	long v[4] = { x, x + 1, x + 2, x + 3 };

	OPAQUE(x);
	__asm__ volatile("" ::"r"(v) : "memory");
	if (__builtin_expect(v[3] > 7, 0)) {
		k_complain(v[2]);
		v[0] += 1000;
	}
	v[1] += k_g(v[0]);
	return v[0] + v[1];
}

static void case_cold(void)
{
	for (long i = 0; i < 7; i++)
		sum[0] = sum[0] * 3 + k_f(i) + k_frame(i);
}

/* -- n: functions that do not return; j: longjmp -- */
static jmp_buf away;
NOINLINE __attribute__((noreturn)) void n_g(long x)
{
	sum[4] += x;
	longjmp(away, 1);
}
NOINLINE long n_f(long x)
{
	OPAQUE(x);
	if (x & 1)
		n_g(x);
	return d_g(x);
}
NOINLINE long j_leaf(long x)
{
	OPAQUE(x);
	if (x == 3)
		longjmp(away, 1);
	return x + 1;
}
NOINLINE long j_tail(long x)
{
	OPAQUE(x);
	return j_leaf(x);
}
NOINLINE long j_frame(long x)
{
	long t = j_tail(x);

	OPAQUE(t);
	return t * 2;
}

static void case_noreturn(void)
{
	for (volatile long i = 0; i < 4; i++)
		if (!setjmp(away))
			sum[0] += n_f(i);
		else
			sum[1]++;
	sum[2] = d_f(1);
}

static void case_longjmp(void)
{
	for (volatile long i = 0; i < 6; i++)
		if (!setjmp(away))
			sum[0] += j_frame(i);
		else
			sum[1] += 10;
	sum[2] = j_frame(9);
}

/* -- z: every kind of result -- */
struct two {
	long a;
	double b;
};
struct five {
	long v[5];
};
NOINLINE double z_gd(double x)
{
	return x * 1.5;
}
NOINLINE double z_fd(double x)
{
	return z_gd(x + 1);
}
NOINLINE long double z_gl(long double x)
{
	return x / 3;
}
NOINLINE long double z_fl(long double x)
{
	return z_gl(x);
}
NOINLINE __int128 z_gi(__int128 x)
{
	return x * 1000000007;
}
NOINLINE __int128 z_fi(__int128 x)
{
	return z_gi(x + 5);
}
NOINLINE struct two z_gs(long a)
{
	return (struct two){ a, (double)a / 4 };
}
NOINLINE struct two z_fs(long a)
{
	OPAQUE(a);
	return z_gs(a + 2);
}
NOINLINE struct five z_gm(long a)
{
	return (struct five){ { a, a + 1, a + 2, a + 3, a + 4 } };
}
NOINLINE struct five z_fm(long a)
{
	OPAQUE(a);
	return z_gm(a * 2);
}
NOINLINE float z_gx(float a, float b, float c, float d, float e, float f,
		    float g, float h)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}
NOINLINE float z_fx(float a, float b, float c, float d, float e, float f,
		    float g, float h)
{
	return z_gx(h, g, f, e, d, c, b, a);
}

static void case_results(void)
{
	struct five m = z_fm(3);

	sum[0] = (long)(z_fd(2.25) * 8);
	sum[1] = (long)(z_fl(1e15L) * 16);
	sum[2] = (long)(z_fi((__int128)1 << 80) >> 60);
	sum[3] = z_fs(7).a + (long)(z_fs(9).b * 4);
	for (int i = 0; i < 5; i++)
		sum[4] = sum[4] * 10 + m.v[i];
	sum[5] = (long)z_fx(1, 2, 3, 4, 5, 6, 7, 8);
}

/* -- i: values kept in registers across calls the compiler sees through -- */
static NOINLINE long i_leaf(long x)
{
	OPAQUE(x);
	return x + 1;
}
static NOINLINE long i_mid(long x)
{
	OPAQUE(x);
	return i_leaf(x ^ 1);
}
NOINLINE long i_user(long a, long b, long c, long d, long e)
{
	long r = 0, s = a * 7, t = b * 11, u = c * 13, w = d * 17;

	for (long k = 0; k < e; k++) {
		r += i_mid(k);
		s += r ^ t;
		t += i_mid(s);
		u ^= t + w;
		w += i_mid(u);
	}
	return r + s + t + u + w + a + b + c + d;
}

static void case_ipa_ra(void)
{
	sum[0] = i_user(1, 2, 3, 4, 6);
}

/* -- u: stacks that are switched with calls pending on each -- */
static ucontext_t u_main, u_one, u_two;
NOINLINE long u_yield_one(long x)
{
	swapcontext(&u_one, &u_two);
	OPAQUE(x);
	return x + 1;
}
NOINLINE long u_yield_two(long x)
{
	swapcontext(&u_two, &u_one);
	OPAQUE(x);
	return x + 2;
}
NOINLINE long u_tail_one(long x)
{
	OPAQUE(x);
	return u_yield_one(x * 2);
}
NOINLINE long u_tail_two(long x)
{
	OPAQUE(x);
	return u_yield_two(x * 3);
}
static void run_one(void)
{
	for (long i = 0; i < 3; i++)
		sum[0] += u_tail_one(i) + d_f(i);
}
static void run_two(void)
{
	for (long i = 0; i < 3; i++)
		sum[1] += u_tail_two(i) + d_f(i);
}

static void case_swapcontext(void)
{
	static char stacks[2][65536];

	getcontext(&u_one);
	u_one.uc_stack.ss_sp = stacks[0];
	u_one.uc_stack.ss_size = sizeof(stacks[0]);
	u_one.uc_link = &u_main;
	makecontext(&u_one, run_one, 0);
	getcontext(&u_two);
	u_two.uc_stack.ss_sp = stacks[1];
	u_two.uc_stack.ss_size = sizeof(stacks[1]);
	u_two.uc_link = &u_main;
	makecontext(&u_two, run_two, 0);
	swapcontext(&u_main, &u_one);
	sum[2] = d_f(5);
	/* one ended first; let the other end too */
	swapcontext(&u_main, &u_two);
	sum[3] = d_f(6);
}

/* -- h: a signal handler that ends in a tail call -- */
NOINLINE void h_note(long s)
{
	sum[0] = sum[0] * 5 + s;
}
NOINLINE void h_handler(int s)
{
	h_note(s);
}
NOINLINE long h_f(long x)
{
	OPAQUE(x);
	raise(SIGUSR1);
	return d_f(x);
}

static void case_signal(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction a = { .sa_handler = h_handler };

	sigaction(SIGUSR1, &a, NULL);
	for (long i = 0; i < 3; i++)
		sum[1] += h_f(i);
	sigaltstack(&ss, NULL);
	a.sa_flags = SA_ONSTACK;
	sigaction(SIGUSR1, &a, NULL);
	for (long i = 0; i < 3; i++)
		sum[1] += h_f(i);
}

/* -- y: threads, fork, vfork -- */
NOINLINE long y_work(long x)
{
	OPAQUE(x);
	return c_f(x) + d_f(x);
}
static void *run_thread(void *arg)
{
	long id = (long)arg, t = 0;

	for (long i = 0; i < 20; i++)
		t += y_work(id + i);
	__atomic_fetch_add(&sum[0], t, __ATOMIC_RELAXED);
	return NULL;
}
NOINLINE void *y_exits(void *arg)
{
	if (arg)
		pthread_exit(arg);
	return arg;
}
static void *run_exit(void *arg)
{
	return y_exits(arg);
}

static void case_threads(void)
{
	pthread_t t[4];

	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, run_thread, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (long i = 0; i < 2; i++) {
		pthread_create(&t[i], NULL, run_exit, (void *)i);
		pthread_join(t[i], NULL);
	}
}

NOINLINE long y_child(long x)
{
	OPAQUE(x);
	return d_f(x);
}
NOINLINE long y_fork(long x)
{
	int status = 0;
	pid_t pid = fork();

	OPAQUE(x);
	if (!pid)
		_exit((int)(y_child(x) & 63));
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
NOINLINE long y_forkt(long x)
{
	OPAQUE(x);
	return y_fork(x + 1);
}
NOINLINE long y_both(long x)
{
	int status = 0;
	pid_t pid = fork();

	OPAQUE(x);
	if (!pid)
		return -x; /* the child returns through it too */
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
NOINLINE long y_botht(long x)
{
	OPAQUE(x);
	return y_both(x);
}

static void case_fork(void)
{
	long r;

	sum[0] = y_fork(3) + y_forkt(4);
	r = y_botht(9);
	if (r < 0)
		_exit((int)(-r + d_f(1)) & 63);
	sum[1] = r;
}

static void case_vfork(void)
{
	int status;
	pid_t pid;

	pid = vfork();
	if (!pid) {
		sum[3] += d_f(2);
		_exit((int)(c_f(3) & 63));
	}
	waitpid(pid, &status, 0);
	sum[0] = WEXITSTATUS(status) + d_f(4);
}

/* -- g: a nested function's static chain travels in r10 -- */
#ifndef __clang__
NOINLINE long g_apply(long (*fn)(long), long x)
{
	return fn(x + 1);
}
NOINLINE static long g_outer(long k)
{
	long total = k;
	long g_inner(long x)
	{
		total += x;
		return total;
	}

	OPAQUE(k);
	for (long i = 0; i < 4; i++)
		g_apply(g_inner, i);
	return total;
}
static void case_chain_reg(void)
{
	sum[0] = g_outer(3);
}
#endif

/* -- b: alloca, frame pointers, realigned stacks around tail calls -- */
NOINLINE long b_use(long *p, long n)
{
	long t = 0;

	for (long i = 0; i < n; i++)
		t += p[i];
	return t;
}
NOINLINE long b_nine(long a, long b, long c, long d, long e, long f, long g,
		     long h, long i)
{
	OPAQUE(a);
	return s_f9(i, h, g, f, e, d, c, b, a);
}
NOINLINE long b_alloca(long n)
{
	long *p = __builtin_alloca((unsigned long)n * sizeof(*p));

	for (long i = 0; i < n; i++)
		p[i] = i + n;
	return b_use(p, n) + b_nine(n, 2, 3, 4, 5, 6, 7, 8, 9);
}
NOINLINE long b_aligned(long n)
{
	long __attribute__((aligned(64))) v[16];

	for (long i = 0; i < 16; i++)
		v[i] = i * n;
	return b_use(v, 16) + b_nine(1, n, 3, 4, 5, 6, 7, 8, 9) +
	       (long)((uintptr_t)v & 63);
}

static void case_frames(void)
{
	for (long i = 1; i < 6; i++)
		sum[0] += b_alloca(i) + b_aligned(i);
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
