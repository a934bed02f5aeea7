#include "migrate/tls_test_pki.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct test_ca {
	EVP_PKEY *key;
	X509 *cert;
	long serial;
};

static X509 *make(EVP_PKEY *key, const char *cn, long serial, X509 *issuer,
		  EVP_PKEY *issuer_key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	char san[128];

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
				   (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
	X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
	if (issuer) {
		snprintf(san, sizeof(san), "DNS:%s,IP:127.0.0.1", cn);
		ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name,
					  san);
	} else {
		ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_basic_constraints,
					  "critical,CA:TRUE");
	}
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	if (!X509_sign(x, issuer_key, EVP_sha256()))
		abort();
	return x;
}

struct test_ca *test_ca_new(void)
{
	struct test_ca *ca = calloc(1, sizeof(*ca));

	ca->key = EVP_EC_gen("P-256");
	ca->serial = 1;
	ca->cert = make(ca->key, "test authority", ca->serial++, NULL, ca->key);
	return ca;
}

void test_ca_free(struct test_ca *ca)
{
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	free(ca);
}

static FILE *create(const char *dir, const char *file)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "w");
	if (!f)
		abort();
	return f;
}

void test_ca_issue(struct test_ca *ca, const char *dir, const char *name)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = make(key, name, ca->serial++, ca->cert, ca->key);
	FILE *f;

	mkdir(dir, 0700);
	f = create(dir, "ca.pem");
	PEM_write_X509(f, ca->cert);
	fclose(f);
	f = create(dir, "cert.pem");
	PEM_write_X509(f, cert);
	fclose(f);
	f = create(dir, "key.pem");
	PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
}
