/*
 * Ways through a function: tables, cold parts, ends that never come, and what
 * it hands back.
 */
#include "corpus.h"

#include <setjmp.h>
#include <stdlib.h>

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

void case_table(void)
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

void case_cold(void)
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

void case_noreturn(void)
{
	for (volatile long i = 0; i < 4; i++)
		if (!setjmp(away))
			sum[0] += n_f(i);
		else
			sum[1]++;
	sum[2] = d_f(1);
}

void case_longjmp(void)
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

void case_results(void)
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

void case_ipa_ra(void)
{
	sum[0] = i_user(1, 2, 3, 4, 6);
}
