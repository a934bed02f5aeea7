/*
 * A throw-away certificate authority for tests: made in memory with OpenSSL,
 * written as ca.pem, cert.pem and key.pem into a directory a credential.
 */
#ifndef MIGRATE_TLS_TEST_PKI_H
#define MIGRATE_TLS_TEST_PKI_H

struct test_ca;

struct test_ca *test_ca_new(void);
void test_ca_free(struct test_ca *ca);
/* Credentials for 'name' below 'dir' (made if missing); aborts on failure. */
void test_ca_issue(struct test_ca *ca, const char *dir, const char *name);

#endif
