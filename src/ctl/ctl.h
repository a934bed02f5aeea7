/*
 * The control socket of a process: JSON lines over a unix socket.
 *
 * One request a line, one object a request; docs/control.md describes the
 * protocol and the methods.  The socket is DIR/NAME.sock, mode 0600, in a
 * directory of mode 0700: who may connect may do everything.
 *
 * A process offers methods as tables, a row each, and serves them in its
 * event loop's thread; commands use the client's half.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/loop.h"

#define CTL_NAME_MAX 31		/* bytes of a name */
#define CTL_LINE_MAX (64 << 10) /* bytes of a request */
#define CTL_CONNS    16

/* ---- names and places ---- */

/* 'dir' if given, else PAGURUS_DIR, XDG_RUNTIME_DIR/pagurus, /run/pagurus. */
int ctl_dir(char *out, size_t size, const char *dir, struct err *e);
/* Letters, digits, '.', '_', '-'; not first a '.'. */
int ctl_name_check(const char *name, struct err *e);
/* "DIR/NAME.SUFFIX"; checks that a socket can have that name. */
int ctl_path(char *out, size_t size, const char *dir, const char *name,
	     const char *suffix, struct err *e);

/* ---- server ---- */

struct ctl_server;
struct ctl_call; /* one request being served */

#define CTL_LATER 1

/*
 * A method: 0 with *result (NULL: nothing to say; the reference is taken),
 * -errno with a message, or CTL_LATER: it keeps 'c' and ends it itself with
 * ctl_reply() or ctl_fail(), after any number of ctl_event().  'params' is
 * an object, perhaps empty, and stays the server's.
 */
struct ctl_method {
	const char *name, *what;
	int (*run)(void *opaque, struct ctl_call *c, const json_t *params,
		   json_t **result, struct err *e);
};

/*
 * Listens from the first moment on; -EADDRINUSE where a process of that
 * name lives.  A socket left behind by a killed one is taken over.
 */
int ctl_server_create(struct ctl_server **out, struct loop *l, const char *dir,
		      const char *name, struct err *e);
void ctl_server_destroy(struct ctl_server *s); /* removes it; NULL is fine */
const char *ctl_server_path(const struct ctl_server *s);

/* Rows end with a NULL name; they and 'opaque' outlive the server. */
int ctl_server_add(struct ctl_server *s, const struct ctl_method *rows,
		   void *opaque);

/* These end a call that was CTL_LATER.  In the loop's thread. */
void ctl_reply(struct ctl_call *c, json_t *result); /* takes the reference */
void ctl_fail(struct ctl_call *c, int code, const struct err *e);
/* Progress; takes the reference.  False: nobody listens any more. */
bool ctl_event(struct ctl_call *c, json_t *event);
/* Bytes said on its connection and not read yet; -1: nobody listens. */
long ctl_unread(const struct ctl_call *c);
/*
 * End the call with {} and take the connection: from now on it carries
 * whatever the caller says.  The descriptor is the caller's; -1: gone.
 */
int ctl_take_fd(struct ctl_call *c);

/* ---- client ---- */

struct ctl_client;

/* A message that says what to do when no such process runs. */
int ctl_connect(struct ctl_client **out, const char *dir, const char *name,
		struct err *e);
void ctl_close(struct ctl_client *c);

/*
 * Give up with -ETIMEDOUT, and a message that names the process, when it has
 * said nothing for so long; 0, as at first: wait for ever.
 */
void ctl_patience(struct ctl_client *c, unsigned int ms);
#define CTL_PATIENCE_MS 5000 /* for what a live process knows at once */

/*
 * Ask and wait.  'params' is taken and may be NULL.  on_event may be NULL;
 * if it returns false the wait ends with -EINTR.  *result is the caller's
 * to decref; 'result' may be NULL.
 */
int ctl_ask(struct ctl_client *c, const char *method, json_t *params,
	    bool (*on_event)(void *opaque, const json_t *event), void *opaque,
	    json_t **result, struct err *e);
/* The connection, after a method that gave it away; still the client's. */
int ctl_fd(const struct ctl_client *c);

/* Names of the sockets in DIR, live or not, one call each. */
int ctl_each(const char *dir, void (*fn)(void *opaque, const char *name),
	     void *opaque, struct err *e);

#endif
