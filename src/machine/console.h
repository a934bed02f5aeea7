/*
 * The serial console's other end: standard input and output, connections to
 * a socket, connections taken over from the control socket; all at once.
 *
 * Output is kept in a ring; a reader that is too slow for it misses some,
 * and holds up neither the guest nor the others.  Input that finds no room
 * in the guest's port waits and its sender is not read meanwhile.
 */
#ifndef MACHINE_CONSOLE_H
#define MACHINE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"

struct console;

/* Takes input; returns how many bytes found room. */
typedef size_t (*console_in_fn)(void *opaque, const void *buf, size_t len);

/*
 * 'spec' is NULL (nobody yet), "stdio" or the path of a socket to listen on.
 * On a terminal stdio is raw, and Ctrl-] calls escape(opaque).
 */
int console_create(struct console **out, struct loop *l, const char *spec,
		   void (*escape)(void *opaque), void *opaque, struct err *e);
void console_destroy(struct console *c); /* NULL is fine */

/* Where input goes; fn NULL: nowhere. */
void console_connect(struct console *c, console_in_fn fn, void *opaque);

/* Whether there is no room for one more reader. */
bool console_full(const struct console *c);
/* One more reader and writer; owns the descriptor. */
int console_attach(struct console *c, int fd);

/* From any thread; does not block. */
void console_output(struct console *c, const void *buf, size_t len);
/* Write out what is there, at the end. */
void console_flush(struct console *c);

#endif
