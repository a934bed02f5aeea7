#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"

#define LINE_MAX_BYTES 1024

static const char *const level_name[] = {
	[LOG_ERROR] = "error",
	[LOG_WARN] = "warn",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

/* One log a process: a role is a process, and its name is the prefix. */
static _Atomic int cur_level = LOG_INFO;
static char cur_prefix[32];
static log_sink cur_sink;
static void *cur_opaque;

void log_set_level(enum log_level level)
{
	cur_level = (int)level;
}

enum log_level log_get_level(void)
{
	return (enum log_level)cur_level;
}

int log_level_parse(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(level_name); i++)
		if (!strcasecmp(name, level_name[i]))
			return (int)i;
	return -EINVAL;
}

void log_set_prefix(const char *prefix)
{
	snprintf(cur_prefix, sizeof(cur_prefix), "%s", prefix ? prefix : "");
}

void log_set_sink(log_sink sink, void *opaque)
{
	cur_sink = sink;
	cur_opaque = opaque;
}

/* Bytes from outside must not move the reader's cursor or forge a line. */
static void defuse(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void emit(enum log_level level, const char *text)
{
	char line[LINE_MAX_BYTES + 64];

	if (cur_sink) {
		cur_sink(level, text, cur_opaque);
		return;
	}
	/* One write a line, so that lines of several threads do not mix. */
	snprintf(line, sizeof(line), "pagurus%s%s: %s: %s\n",
		 cur_prefix[0] ? " " : "", cur_prefix, level_name[level], text);
	fputs(line, stderr);
}

static void vline(enum log_level level, uint64_t swallowed, const char *fmt,
		  va_list ap)
{
	char text[LINE_MAX_BYTES];
	size_t n;

	vsnprintf(text, sizeof(text), fmt, ap);
	n = strlen(text);
	if (swallowed)
		snprintf(text + n, sizeof(text) - n,
			 " (and %" PRIu64 " like it)", swallowed);
	defuse(text);
	emit(level, text);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if ((int)level > cur_level)
		return;
	va_start(ap, fmt);
	vline(level, 0, fmt, ap);
	va_end(ap);
}

/*
 * The bucket is kept as one number, the time at which it will be full again:
 * a line moves it one period ahead, and is refused if that would put it more
 * than 'burst' periods beyond now.
 */
int log_allow(struct log_limit *l, uint64_t now, uint64_t *swallowed)
{
	uint64_t period = l->period_ns ? l->period_ns : 1000000000ull;
	uint64_t burst = l->burst ? l->burst : 5;
	uint64_t old = atomic_load(&l->full_at), next;

	do {
		next = MAX(old, now) + period;
		if (next > now + burst * period) {
			atomic_fetch_add(&l->suppressed, 1);
			return 0;
		}
	} while (!atomic_compare_exchange_weak(&l->full_at, &old, next));

	*swallowed = atomic_exchange(&l->suppressed, 0);
	return 1;
}

void log_limited(struct log_limit *l, enum log_level level, const char *fmt,
		 ...)
{
	uint64_t swallowed;
	va_list ap;

	if ((int)level > cur_level || !log_allow(l, now_ns(), &swallowed))
		return;
	va_start(ap, fmt);
	vline(level, swallowed, fmt, ap);
	va_end(ap);
}
