#include "migrate/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define BUFFER_BYTES (256u << 10)

struct chan_tls {
	SSL_CTX *ctx;
	char peer_name[128]; /* "": the address's host */
};

struct tls_session {
	SSL *ssl;
	BIO *out; /* collects records; the ssl's, NULL: the kernel does */
};

/* What OpenSSL has to say, in one line, and its queue left empty. */
static const char *openssl_reason(char *buf, size_t size)
{
	unsigned long code = ERR_peek_last_error();

	if (code)
		ERR_error_string_n(code, buf, size);
	else
		snprintf(buf, size, "the connection was closed");
	ERR_clear_error();
	return buf;
}

static int load_file(struct chan_tls *t, const char *dir, const char *name,
		     int (*load)(SSL_CTX *, const char *), struct err *e)
{
	char path[512], why[200];

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >=
	    (int)sizeof(path))
		return err_set(e, -ENAMETOOLONG, "TLS directory '%s': too long",
			       dir);
	if (load(t->ctx, path) != 1)
		return err_set(e, -EKEYREJECTED,
			       "TLS credential %s: %s; the directory needs "
			       "ca.pem, cert.pem and key.pem",
			       path, openssl_reason(why, sizeof(why)));
	return 0;
}

static int load_ca(SSL_CTX *ctx, const char *path)
{
	return SSL_CTX_load_verify_locations(ctx, path, NULL);
}

static int load_key(SSL_CTX *ctx, const char *path)
{
	return SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM);
}

int chan_tls_load(struct chan_tls **out, const char *dir, const char *peer_name,
		  struct err *e)
{
	static const struct {
		const char *name;
		int (*load)(SSL_CTX *, const char *);
	} files[] = {
		{ "ca.pem", load_ca },
		{ "cert.pem", SSL_CTX_use_certificate_chain_file },
		{ "key.pem", load_key },
	};
	struct chan_tls *t = calloc(1, sizeof(*t));
	int ret = -ENOMEM;

	if (!t)
		return -ENOMEM;
	t->ctx = SSL_CTX_new(TLS_method());
	if (!t->ctx)
		goto free;
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION);
	SSL_CTX_set_options(t->ctx,
			    SSL_OP_ENABLE_KTLS | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_AUTO_RETRY);
	/* No resumption: a ticket would be a second way in. */
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(t->ctx, 0);
	SSL_CTX_set_verify(t->ctx,
			   SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
			   NULL);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		ret = load_file(t, dir, files[i].name, files[i].load, e);
		if (ret < 0)
			goto free;
	}
	if (SSL_CTX_check_private_key(t->ctx) != 1) {
		ERR_clear_error();
		ret = err_set(e, -EKEYREJECTED,
			      "TLS directory %s: key.pem does not belong to "
			      "cert.pem",
			      dir);
		goto free;
	}
	snprintf(t->peer_name, sizeof(t->peer_name), "%s",
		 peer_name ? peer_name : "");
	*out = t;
	return 0;

free:
	chan_tls_free(t);
	return ret;
}

void chan_tls_free(struct chan_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* The name the server must prove; an address literal is checked as one. */
static int expect_name(SSL *ssl, const char *name, struct err *e)
{
	X509_VERIFY_PARAM *vp = SSL_get0_param(ssl);

	if (!name || !name[0])
		return err_set(e, -EINVAL,
			       "TLS: no name to check the destination's "
			       "certificate against; give --tls-name");
	if (X509_VERIFY_PARAM_set1_ip_asc(vp, name) == 1)
		return 0;
	ERR_clear_error();
	if (SSL_set1_host(ssl, name) != 1)
		return -ENOMEM;
	SSL_set_tlsext_host_name(ssl, name);
	return 0;
}

static int handshake_failed(SSL *ssl, struct err *e)
{
	long verify = SSL_get_verify_result(ssl);
	char why[200];

	if (verify != X509_V_OK) {
		ERR_clear_error();
		return err_set(e, -EPROTO,
			       "TLS handshake: the peer's certificate was "
			       "refused: %s",
			       X509_verify_cert_error_string(verify));
	}
	return err_set(e, -EPROTO,
		       "TLS handshake failed: %s; both sides need --tls with "
		       "certificates of one authority",
		       openssl_reason(why, sizeof(why)));
}

/*
 * Records are 16 KiB at most, and each would be a write and two reads of its
 * own.  Where the kernel does not do the records, many of them go out with
 * one write, and come in with one read.
 */
static int fewer_calls(struct tls_session *s)
{
	BIO *w = SSL_get_wbio(s->ssl);

	if (!BIO_get_ktls_recv(SSL_get_rbio(s->ssl)))
		SSL_set_read_ahead(s->ssl, 1);
	if (BIO_get_ktls_send(w))
		return 0;
	s->out = BIO_new(BIO_f_buffer());
	if (!s->out || BIO_set_write_buffer_size(s->out, BUFFER_BYTES) != 1 ||
	    !BIO_up_ref(w)) {
		BIO_free(s->out);
		s->out = NULL;
		return -ENOMEM;
	}
	SSL_set0_wbio(s->ssl, BIO_push(s->out, w));
	return 0;
}

int tls_session_open(struct tls_session **out, const struct chan_tls *t, int fd,
		     bool server, const char *host, struct err *e)
{
	struct tls_session *s = calloc(1, sizeof(*s));
	int ret = -ENOMEM;

	if (!s)
		return -ENOMEM;
	ERR_clear_error();
	s->ssl = SSL_new(t->ctx);
	if (!s->ssl || SSL_set_fd(s->ssl, fd) != 1)
		goto close;
	if (!server) {
		ret = expect_name(s->ssl, t->peer_name[0] ? t->peer_name : host,
				  e);
		if (ret < 0)
			goto close;
	}
	if ((server ? SSL_accept(s->ssl) : SSL_connect(s->ssl)) != 1) {
		ret = handshake_failed(s->ssl, e);
		goto close;
	}
	ret = fewer_calls(s);
	if (ret < 0)
		goto close;
	*out = s;
	return 0;

close:
	tls_session_close(s);
	return ret;
}

void tls_session_close(struct tls_session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl);
	free(s);
}

static int io_result(struct tls_session *s, int n)
{
	int saved = errno, why = SSL_get_error(s->ssl, n);

	ERR_clear_error();
	switch (why) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		/* The socket blocks: only its time-out ends so. */
		return -ETIMEDOUT;
	case SSL_ERROR_ZERO_RETURN:
	case SSL_ERROR_SYSCALL: return -EPIPE;
	case SSL_ERROR_SSL: return -EBADMSG;
	default: return saved ? -saved : -EIO;
	}
}

int tls_session_send(struct tls_session *s, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		int n = SSL_write(s->ssl, p, (int)MIN(len, (size_t)INT_MAX));

		if (n <= 0)
			return io_result(s, n);
		p += n;
		len -= (size_t)n;
	}
	if (s->out && BIO_flush(s->out) != 1)
		return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
	return 0;
}

int tls_session_recv(struct tls_session *s, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		int n = SSL_read(s->ssl, p, (int)MIN(len, (size_t)INT_MAX));

		if (n <= 0)
			return io_result(s, n);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void tls_session_describe(struct tls_session *s, char *buf, size_t size)
{
	snprintf(buf, size, "%s, %s, %s", SSL_get_version(s->ssl),
		 SSL_get_cipher_name(s->ssl),
		 s->out ? "in this process" : "in the kernel");
}
