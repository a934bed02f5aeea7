// Exceptions through probed frames: with and without cleanups, through tail
// calls, rethrown, and many at a time.
#include "corpus.h"

#include <stdexcept>

extern "C" {

NOINLINE long e_throw(long x)
{
	OPAQUE(x);
	if (x & 1)
		throw x;
	return x + 1;
}
NOINLINE long e_tail(long x)
{
	OPAQUE(x);
	return e_throw(x);
}
NOINLINE long e_frame(long x)
{
	long t = e_tail(x);

	OPAQUE(t);
	return t * 2;
}

void case_exception(void)
{
	for (long i = 0; i < 4; i++) {
		try {
			sum[0] += e_frame(i);
			sum[1] += e_tail(i + 1);
		} catch (long v) {
			sum[2] += v * 100;
		}
	}
}

} // extern "C"

namespace {
struct guard {
	long v;
	explicit guard(long x) : v(x) {}
	~guard() { sum[3] = sum[3] * 3 + v; }
};
}

extern "C" {

NOINLINE long e_cleanup(long x)
{
	guard g(x);
	long t = e_tail(x);

	OPAQUE(t);
	return t + g.v;
}
NOINLINE long e_cleanup_tail(long x)
{
	OPAQUE(x);
	return e_cleanup(x + 1);
}

void case_cleanup(void)
{
	for (long i = 0; i < 4; i++) {
		try {
			guard g(i);
			sum[0] += e_cleanup_tail(i);
		} catch (long v) {
			sum[2] += v * 100;
		}
	}
}

NOINLINE long e_catch(long x)
{
	try {
		return e_cleanup(x) + 1;
	} catch (long v) {
		if (v == 3)
			throw std::runtime_error("three");
		return e_tail(v + 1);
	}
}

void case_rethrow(void)
{
	for (long i = 0; i < 4; i++) {
		try {
			sum[0] += e_catch(i);
		} catch (const std::exception &e) {
			sum[2] += e.what()[0];
		}
	}
}

NOINLINE long e_even(long n);
NOINLINE long e_odd(long n)
{
	OPAQUE(n);
	if (!n)
		throw 11L;
	return e_even(n - 1);
}
NOINLINE long e_even(long n)
{
	OPAQUE(n);
	if (!n)
		throw 22L;
	return e_odd(n - 1);
}

void case_unwind_deep(void)
{
	for (long i = 0; i < 4; i++) {
		try {
			sum[0] += e_even(20 + i);
		} catch (long v) {
			sum[1] = sum[1] * 100 + v;
		}
	}
	sum[2] = e_tail(4);
}
}
