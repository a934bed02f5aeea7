/*
 * A program that is never at rest: threads that tail-call, recurse, pass
 * arguments on the stack, sleep inside what they tail-called, throw frames
 * away, and check every result.  Ends with 0 on SIGTERM, with 1 as soon as
 * something was computed wrong.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone, noipa))

static volatile sig_atomic_t over;

NOINLINE long b_leaf(long x)
{
	return x * 3 + 1;
}
NOINLINE long b_two(long x)
{
	return b_leaf(x + 1);
}
NOINLINE long b_three(long x)
{
	return b_two(x * 2);
}
NOINLINE long b_odd(long n);
NOINLINE long b_even(long n)
{
	return n ? b_odd(n - 1) : 1;
}
NOINLINE long b_odd(long n)
{
	return n ? b_even(n - 1) : 0;
}
NOINLINE long b_g9(long a, long b, long c, long d, long e, long f, long g,
		   long h, long i)
{
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h +
	       9 * i;
}
NOINLINE long b_f9(long a, long b, long c, long d, long e, long f, long g,
		   long h, long i)
{
	return b_g9(i, h, g, f, e, d, c, b, a);
}
NOINLINE long b_nap(long x)
{
	struct timespec ts = { 0, 3000000 };

	while (nanosleep(&ts, &ts) < 0)
		;
	return x + 5;
}
NOINLINE long b_sleepy(long x)
{
	return b_nap(x + 1);
}
NOINLINE long b_away(jmp_buf *j, long x)
{
	if (x & 1)
		longjmp(*j, 1);
	return x;
}
NOINLINE long b_maybe(jmp_buf *j, long x)
{
	return b_away(j, x + 1);
}
/* A signal a millisecond, its handler ending in a tail call. */
static volatile long ticks;
NOINLINE void b_note(long n)
{
	ticks += n;
}
NOINLINE void b_tick(int sig)
{
	b_note(1);
}
NOINLINE long b_child(long x)
{
	return b_three(x);
}

static void wrong(const char *what)
{
	fprintf(stderr, "wrong: %s\n", what);
	_exit(1);
}

static void once(long i)
{
	volatile long k = i;
	jmp_buf j;

	if (b_three(k) != (k * 2 + 1) * 3 + 1)
		wrong("chain");
	if (b_even(40) != 1 || b_odd(40) != 0)
		wrong("recursion");
	if (b_f9(1, 2, 3, 4, 5, 6, 7, 8, k) != 9 + 2 * 8 + 3 * 7 + 4 * 6 +
						       5 * 5 + 6 * 4 + 7 * 3 +
						       8 * 2 + 9 * 1 - 9 + k)
		wrong("stack arguments");
	if (!setjmp(j)) {
		if (b_maybe(&j, k) != k + 1)
			wrong("longjmp");
	}
}

static void *run(void *arg)
{
	sigset_t all, before;

	for (long i = 0; !over; i++) {
		once(i);
		if (i % 20 == 0) {
			sigfillset(&all);
			pthread_sigmask(SIG_BLOCK, &all, &before);
			once(i);
			pthread_sigmask(SIG_SETMASK, &before, NULL);
		}
		if (i % 50 == 0 && b_sleepy(i) != i + 6)
			wrong("sleep");
		if (arg && i % 400 == 0) {
			int status;
			pid_t pid = fork();

			if (!pid)
				_exit(b_child(1) == 10 ? 0 : 1);
			while (waitpid(pid, &status, 0) != pid)
				;
			if (status)
				wrong("fork");
		}
	}
	return NULL;
}

static void stop(int sig)
{
	over = 1;
}

int main(void)
{
	pthread_t t[3];

	struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction tick = { .sa_handler = b_tick,
				  .sa_flags = SA_RESTART };

	/* With everything blocked in the handler, as many programs do. */
	sigfillset(&tick.sa_mask);
	sigaction(SIGALRM, &tick, NULL);
	signal(SIGTERM, stop);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, run, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	puts("ready");
	fflush(stdout);
	run((void *)1);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	if (!ticks)
		wrong("no tick");
	return 0;
}
