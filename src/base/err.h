/*
 * Errors a person will read.
 *
 * Functions fail with a negative errno.  Where the reason would be lost by
 * the time somebody can show it, the function also takes a struct err and
 * writes one message into it: the thing, the reason, the remedy.  The first
 * message stays; a caller further out may put its own words in front.
 *
 * A NULL struct err is fine everywhere: then only the number is returned.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

struct err {
	int code; /* negative errno, 0 when nothing was set */
	char text[480];
};

/* Set message and code if none is set yet; returns 'code'. */
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As err_set, with ": " and strerror(-code) behind the message. */
int err_sys(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "words: " in front of the message that is there; returns the code. */
int err_prefix(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The message, or strerror(-code) when none was written. */
const char *err_text(const struct err *e, int code);

void err_clear(struct err *e);

#endif
