/*
 * A connection of a migration: unix socket, plain TCP, or TLS 1.3.
 *
 * Addresses: "unix:PATH", "HOST:PORT", "[V6]:PORT", "tcp:HOST:PORT".
 * With TLS both sides show a certificate of the same authority; a name is
 * checked against the destination's.  Without, the caller has asked for it.
 *
 * Calls block; chan_abort() from any thread makes them all fail at once.
 * One thread may send while another receives only on a plain connection.
 */
#ifndef MIGRATE_CHAN_H
#define MIGRATE_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CHAN_PEER_MAX 160

struct chan;
struct chan_listener;
struct chan_tls;

/*
 * Credentials from a directory: ca.pem, cert.pem, key.pem.  'peer_name' is
 * what the destination's certificate must carry; NULL: the address's host.
 */
int chan_tls_load(struct chan_tls **out, const char *dir, const char *peer_name,
		  struct err *e);
void chan_tls_free(struct chan_tls *t); /* NULL is fine */

/* Whether the address leaves this machine's unix sockets. */
bool chan_is_unix(const char *addr);

/* tls may be NULL.  It must outlive what is made with it. */
int chan_connect(struct chan **out, const char *addr,
		 const struct chan_tls *tls, struct err *e);
/*
 * Once more to 'peer', which is chan_peer() of an earlier connection to
 * 'addr': to that host and no other, whatever the name stands for by now.
 */
int chan_connect_again(struct chan **out, const char *peer, const char *addr,
		       const struct chan_tls *tls, struct err *e);
/* Where a channel that was connected from here leads, in numbers. */
const char *chan_peer(const struct chan *c);
/* The address of this end of a channel, or of the other; 0 or -errno. */
struct sockaddr_storage;
int chan_end(const struct chan *c, bool mine, struct sockaddr_storage *sa);

int chan_listen(struct chan_listener **out, const char *addr,
		const struct chan_tls *tls, struct err *e);
/* For an event loop; readable when somebody knocks. */
int chan_listener_fd(const struct chan_listener *l);
/* The address in use, with the port the kernel chose for port 0. */
const char *chan_listener_addr(const struct chan_listener *l);
/*
 * -ETIMEDOUT after timeout_ms (-1: never); a failed handshake is -EPROTO, an
 * aborted listener -ESHUTDOWN.
 */
int chan_accept(struct chan_listener *l, struct chan **out, int timeout_ms,
		struct err *e);
/*
 * From any thread: chan_accept() fails from now on, also one that waits, and
 * so does every call on a channel accepted here.
 */
void chan_listener_abort(struct chan_listener *l);
void chan_listener_close(struct chan_listener *l);

/* All of it or -errno; -EPIPE when the peer is gone, -ETIMEDOUT. */
int chan_send(struct chan *c, const void *buf, size_t len);
int chan_recv(struct chan *c, void *buf, size_t len);

/*
 * Let no call take longer, be it ever so close to its end; 0: wait for ever.
 * A peer can make it twice that.
 */
int chan_timeout(struct chan *c, unsigned int ms);
/* Says in 'e' what the error 'ret' of a call means; returns 'ret'. */
int chan_err(const struct chan *c, int ret, struct err *e);

void chan_abort(struct chan *c);
void chan_abort_recv(struct chan *c); /* what is sent still arrives */
void chan_close(struct chan *c);      /* NULL is fine */

/* "TLSv1.3, TLS_AES_128_GCM_SHA256, in the kernel" or "plain". */
const char *chan_describe(const struct chan *c);
uint64_t chan_bytes_sent(const struct chan *c);
/*
 * Of what was sent, bytes that the other side's kernel (TCP) or program (unix)
 * has not taken yet, their overhead included; -errno: nobody knows.  With TCP
 * a last segment's worth counts as taken: its answer may be delayed by 40 ms,
 * however fast the line is.
 */
int64_t chan_unsent(const struct chan *c);

#endif
