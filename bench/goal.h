/*
 * Goals, in the one form that tools/bench collects: goal.py has the same.
 *
 *	goal: WHAT IS UNIT at least|at most WANTED: reached|not reached
 *	limit: what keeps it from there, if a measurement has told
 */
#ifndef BENCH_GOAL_H
#define BENCH_GOAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static inline bool goal_say(const char *what, double is, const char *way,
			    double wanted, const char *unit, bool reached)
{
	printf("goal: %-51s %8.*f %-3s %s %g: %sreached\n", what,
	       is < 10	  ? 3
	       : is < 100 ? 2
			  : 1,
	       is, unit, way, wanted, reached ? "" : "not ");
	return reached;
}

/* Both return whether it is reached. */
static inline bool goal_least(const char *what, double is, double least,
			      const char *unit)
{
	return goal_say(what, is, "at least", least, unit, is >= least);
}

static inline bool goal_most(const char *what, double is, double most,
			     const char *unit)
{
	return goal_say(what, is, "at most", most, unit, is <= most);
}

/* After a goal that is not reached: one sentence. */
__attribute__((format(printf, 1, 2))) static inline void goal_limit(
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("limit: ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
}

#endif
