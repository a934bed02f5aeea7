#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void vset(struct err *e, int code, const char *fmt, va_list ap)
{
	e->code = code;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (e && !e->code) {
		va_start(ap, fmt);
		vset(e, code, fmt, ap);
		va_end(ap);
	}
	return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!e || e->code)
		return code;

	va_start(ap, fmt);
	vset(e, code, fmt, ap);
	va_end(ap);

	n = strlen(e->text);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(-code));
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char front[sizeof(e->text)], old[sizeof(e->text)];
	va_list ap;
	int n;

	if (!e)
		return 0;
	va_start(ap, fmt);
	vsnprintf(front, sizeof(front), fmt, ap);
	va_end(ap);

	memcpy(old, e->text, sizeof(old));
	n = snprintf(e->text, sizeof(e->text), "%s: ", front);
	if (n >= 0 && (size_t)n < sizeof(e->text))
		snprintf(e->text + n, sizeof(e->text) - (size_t)n, "%s", old);
	return e->code;
}

const char *err_text(const struct err *e, int code)
{
	return e && e->code ? e->text : strerror(-code);
}

void err_clear(struct err *e)
{
	if (!e)
		return;
	e->code = 0;
	e->text[0] = '\0';
}
