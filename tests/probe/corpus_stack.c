/*
 * Stacks: several of them, signals, threads, copies of processes, and frames
 * of unusual shape.
 */
#include "corpus.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

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

void case_swapcontext(void)
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

void case_signal(void)
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

void case_threads(void)
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

void case_fork(void)
{
	long r;

	sum[0] = y_fork(3) + y_forkt(4);
	r = y_botht(9);
	if (r < 0)
		_exit((int)(-r + d_f(1)) & 63);
	sum[1] = r;
}

void case_vfork(void)
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
void case_chain_reg(void)
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

void case_frames(void)
{
	for (long i = 1; i < 6; i++)
		sum[0] += b_alloca(i) + b_aligned(i);
}
