/*
 * TLS 1.3 for chan.c, through OpenSSL; in the kernel where that can do it.
 */
#ifndef MIGRATE_TLS_H
#define MIGRATE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "migrate/chan.h"

struct tls_session;

/*
 * Handshake on a connected socket.  A client checks that the server's
 * certificate carries the credentials' peer name, or 'host' without one.
 * The descriptor stays the caller's.
 */
int tls_session_open(struct tls_session **out, const struct chan_tls *t, int fd,
		     bool server, const char *host, struct err *e);
void tls_session_close(struct tls_session *s); /* NULL is fine */

int tls_session_send(struct tls_session *s, const void *buf, size_t len);
int tls_session_recv(struct tls_session *s, void *buf, size_t len);
void tls_session_describe(struct tls_session *s, char *buf, size_t size);

#endif
