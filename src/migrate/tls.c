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

#define WRITE_BYTES (256u << 10)
#define READ_BYTES  (64u << 10)

struct chan_tls {
	SSL_CTX *ctx;
	char peer_name[128]; /* "": the address's host */
};

struct tls_session {
	SSL *ssl;
	BIO *out;	/* collects records; the ssl's, NULL: the kernel does */
	uint64_t until; /* of the call that is going on; 0: no end */
	bool late;
	char why[200];
};

/* What OpenSSL says came first, without its codes; its queue left empty. */
static const char *openssl_reason(char *buf, size_t size)
{
	unsigned long code = ERR_peek_error();
	const char *text = NULL;

	if (ERR_SYSTEM_ERROR(code))
		text = strerror(ERR_GET_REASON(code));
	else if (code)
		text = ERR_reason_error_string(code);
	snprintf(buf, size, "%s",
		 text	? text
		 : code ? "an error of OpenSSL's"
			: "the connection was closed");
	ERR_clear_error();
	return buf;
}

/* The peer's alerts about a certificate, which is ours; or NULL. */
static const char *alert_about_us(unsigned long code)
{
	static const struct {
		int reason;
		const char *text;
	} alerts[] = {
		{ SSL_R_TLSV1_ALERT_UNKNOWN_CA,
		  "it was issued by another authority than its ca.pem" },
		/* An authority of the same name, and another key. */
		{ SSL_R_TLSV1_ALERT_DECRYPT_ERROR,
		  "it was issued by another authority than its ca.pem" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, "it has expired" },
		{ SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, "it is bad" },
		{ SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE,
		  "it is not for this use" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, "it is revoked" },
		{ SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, "it is not known" },
		{ SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, "there is none" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(alerts); i++)
		if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
		    ERR_GET_REASON(code) == alerts[i].reason)
			return alerts[i].text;
	return NULL;
}

#define REFUSED_US                                                       \
	"TLS: the other side refused this side's certificate: %s; both " \
	"need valid certificates of one authority"

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
	static const char ciphers[] = "TLS_AES_128_GCM_SHA256:"
				      "TLS_AES_256_GCM_SHA384:"
				      "TLS_CHACHA20_POLY1305_SHA256";
	struct chan_tls *t = calloc(1, sizeof(*t));
	int ret = -ENOMEM;

	if (!t)
		return -ENOMEM;
	t->ctx = SSL_CTX_new(TLS_method());
	if (!t->ctx)
		goto free;
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION);
	/* The quicker of two that are both out of reach goes first. */
	if (SSL_CTX_set_ciphersuites(t->ctx, ciphers) != 1)
		goto free;
	/* Room for several records; one is 16 KiB. */
	SSL_CTX_set_default_read_buffer_len(t->ctx, READ_BYTES);
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

/* What to do about a certificate that is not accepted. */
static const char *remedy(long verify)
{
	switch (verify) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return "give the name it is for with --tls-name";
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "renew it there, or set this host's clock";
	default:
		return "both sides need certificates of one authority, in "
		       "ca.pem";
	}
}

static int handshake_failed(struct tls_session *s, const char *name,
			    struct err *e)
{
	long verify = SSL_get_verify_result(s->ssl);
	unsigned long code = ERR_peek_error();
	const char *alert = alert_about_us(code);
	char why[200];

	if (s->late) {
		ERR_clear_error();
		return err_set(e, -EPROTO,
			       "TLS handshake: the other side is too slow");
	}
	if (verify != X509_V_OK) {
		ERR_clear_error();
		return err_set(e, -EPROTO,
			       "TLS: the other side's certificate was refused%s"
			       "%s: %s; %s",
			       name ? " for " : "", name ? name : "",
			       X509_verify_cert_error_string(verify),
			       remedy(verify));
	}
	if (alert) {
		ERR_clear_error();
		return err_set(e, -EPROTO, REFUSED_US, alert);
	}
	if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
		ERR_clear_error();
		return err_set(e, -EPROTO,
			       "the other side does not speak TLS: give it "
			       "--tls, too");
	}
	return err_set(e, -EPROTO,
		       "TLS handshake failed: %s; both sides need --tls with "
		       "certificates of one authority",
		       openssl_reason(why, sizeof(why)));
}

/*
 * The socket's own time limit starts anew with every byte; a peer that sends
 * one now and then would never be late.
 */
static long on_bio(BIO *b, int what, const char *arg, size_t len, int argi,
		   long argl, int ret, size_t *done)
{
	struct tls_session *s = (void *)BIO_get_callback_arg(b);

	if ((what == BIO_CB_READ || what == BIO_CB_WRITE) && s->until &&
	    now_ns() > s->until) {
		s->late = true;
		return -1;
	}
	return ret;
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
	if (!s->out || BIO_set_write_buffer_size(s->out, WRITE_BYTES) != 1 ||
	    !BIO_up_ref(w)) {
		BIO_free(s->out);
		s->out = NULL;
		return -ENOMEM;
	}
	SSL_set0_wbio(s->ssl, BIO_push(s->out, w));
	return 0;
}

int tls_session_open(struct tls_session **out, const struct chan_tls *t, int fd,
		     bool server, const char *host, uint64_t until,
		     struct err *e)
{
	struct tls_session *s = calloc(1, sizeof(*s));
	const char *name = NULL;
	int ret = -ENOMEM;

	if (!s)
		return -ENOMEM;
	ERR_clear_error();
	s->ssl = SSL_new(t->ctx);
	if (!s->ssl || SSL_set_fd(s->ssl, fd) != 1)
		goto close;
	BIO_set_callback_ex(SSL_get_rbio(s->ssl), on_bio);
	BIO_set_callback_arg(SSL_get_rbio(s->ssl), (char *)s);
	if (!server) {
		name = t->peer_name[0] ? t->peer_name : host;
		ret = expect_name(s->ssl, name, e);
		if (ret < 0)
			goto close;
	}
	s->until = until;
	if ((server ? SSL_accept(s->ssl) : SSL_connect(s->ssl)) != 1) {
		ret = handshake_failed(s, name, e);
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
	const char *alert = alert_about_us(ERR_peek_error());

	ERR_clear_error();
	if (s->late)
		return -ETIMEDOUT;
	if (alert) {
		snprintf(s->why, sizeof(s->why), REFUSED_US, alert);
		return -EKEYREJECTED;
	}
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

int tls_session_send(struct tls_session *s, const void *buf, size_t len,
		     uint64_t until)
{
	const char *p = buf;

	s->until = until;
	while (len) {
		int n = SSL_write(s->ssl, p, (int)MIN(len, (size_t)INT_MAX));

		if (n <= 0)
			return io_result(s, n);
		p += n;
		len -= (size_t)n;
	}
	if (s->out && BIO_flush(s->out) != 1)
		return s->late || errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
	return 0;
}

const char *tls_session_why(const struct tls_session *s)
{
	return s->why;
}

int tls_session_recv(struct tls_session *s, void *buf, size_t len,
		     uint64_t until)
{
	char *p = buf;

	s->until = until;
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
