/*
 * TLS 1.3 for chan.c, through OpenSSL; in the kernel where that can do it.
 */
#ifndef MIGRATE_TLS_H
#define MIGRATE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "migrate/chan.h"

struct tls_session;

/*
 * Handshake on a connected socket.  A client checks that the server's
 * certificate carries the credentials' peer name, or 'host' without one.
 * The descriptor stays the caller's.  'until' as below.
 */
int tls_session_open(struct tls_session **out, const struct chan_tls *t, int fd,
		     bool server, const char *host, uint64_t until,
		     struct err *e);
void tls_session_close(struct tls_session *s); /* NULL is fine */

/*
 * -ETIMEDOUT at 'until' (now_ns; 0: never), however slowly it gets on;
 * -EKEYREJECTED, with tls_session_why(), when the peer refuses us.
 */
int tls_session_send(struct tls_session *s, const void *buf, size_t len,
		     uint64_t until);
int tls_session_recv(struct tls_session *s, void *buf, size_t len,
		     uint64_t until);
const char *tls_session_why(const struct tls_session *s);
void tls_session_describe(struct tls_session *s, char *buf, size_t size);

#endif
