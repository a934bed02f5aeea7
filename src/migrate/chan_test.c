#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/chan.h"
#include "migrate/tls_test_pki.h"

static char dir[64];

struct client {
	pthread_t thread;
	const char *addr;
	struct chan_tls *tls;
	struct chan *c;
	int ret;
	struct err e;
};

static void *connect_thread(void *opaque)
{
	struct client *cl = opaque;

	cl->ret = chan_connect(&cl->c, cl->addr, cl->tls, &cl->e);
	return NULL;
}

/* Both ends of a fresh connection; the server's result is returned. */
static int join(const char *addr, struct chan_tls *st, struct client *cl,
		struct chan **server, struct err *e)
{
	struct chan_listener *l;
	int ret = chan_listen(&l, addr, st, e);

	assert_int_equal(ret, 0);
	cl->addr = strdup(chan_listener_addr(l));
	pthread_create(&cl->thread, NULL, connect_thread, cl);
	ret = chan_accept(l, server, 5000, e);
	pthread_join(cl->thread, NULL);
	chan_listener_close(l);
	free((void *)cl->addr);
	return ret;
}

#define BIG 3000000u

static char byte_at(size_t i)
{
	return (char)(i * 7 + (i >> 8));
}

static void *sender(void *opaque)
{
	struct chan *c = opaque;
	char *big = malloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		big[i] = byte_at(i);
	assert_int_equal(chan_send(c, big, BIG), 0);
	free(big);
	return NULL;
}

static void talk(struct chan *a, struct chan *b)
{
	/* Heads and payloads, and what is around the bytes read ahead. */
	static const size_t sizes[] = { 24, 32, 100000, 1,  63,
					64, 65, 127,	24, 300001 };
	char *got = malloc(BIG), word[5];
	pthread_t t;

	pthread_create(&t, NULL, sender, a);
	for (size_t i = 0, at = 0; at < BIG; i++) {
		size_t n = MIN(sizes[i % ARRAY_SIZE(sizes)], BIG - at);

		assert_int_equal(chan_recv(b, got + at, n), 0);
		at += n;
	}
	pthread_join(t, NULL);
	for (size_t i = 0; i < BIG; i++)
		if (got[i] != byte_at(i))
			fail_msg("byte %zu is wrong", i);
	free(got);
	assert_int_equal(chan_bytes_sent(a), BIG);
	assert_int_equal(chan_send(b, "back", 5), 0);
	assert_int_equal(chan_recv(a, word, 5), 0);
	assert_string_equal(word, "back");

	/* Silence ends at the time-out, a closed peer at once. */
	chan_timeout(a, 50);
	assert_int_equal(chan_recv(a, word, 1), -ETIMEDOUT);
	chan_close(b);
	assert_int_equal(chan_recv(a, word, 1), -EPIPE);
	chan_close(a);
}

static void plain_on(const char *addr)
{
	struct client cl = { 0 };
	struct chan *s = NULL;
	struct err e = { 0 };

	assert_int_equal(join(addr, NULL, &cl, &s, &e), 0);
	assert_int_equal(cl.ret, 0);
	assert_string_equal(chan_describe(s), "plain");
	talk(cl.c, s);
}

static void over_tcp(void **state)
{
	plain_on("127.0.0.1:0");
}

static void over_unix(void **state)
{
	char addr[128];

	snprintf(addr, sizeof(addr), "unix:%s/u", dir);
	assert_true(chan_is_unix(addr));
	plain_on(addr);
	assert_int_equal(access(addr + 5, F_OK), -1);
}

static struct chan_tls *creds(const char *name, const char *peer)
{
	struct chan_tls *t;
	struct err e = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (chan_tls_load(&t, path, peer, &e) < 0)
		fail_msg("%s", e.text);
	return t;
}

static void over_tls(void **state)
{
	struct client cl = { .tls = creds("a", NULL) };
	struct chan_tls *st = creds("b", NULL);
	struct chan *s = NULL;
	struct err e = { 0 };

	if (join("127.0.0.1:0", st, &cl, &s, &e) < 0)
		fail_msg("%s / %s", e.text, cl.e.text);
	assert_int_equal(cl.ret, 0);
	assert_non_null(strstr(chan_describe(s), "TLSv1.3"));
	talk(cl.c, s);
	chan_tls_free(cl.tls);
	chan_tls_free(st);
}

static void refused(const char *client, const char *server, const char *peer,
		    const char *text)
{
	struct client cl = { .tls = client ? creds(client, peer) : NULL };
	struct chan_tls *st = creds(server, NULL);
	struct chan *s = NULL;
	struct err e = { 0 };
	char c;
	int ret = join("127.0.0.1:0", st, &cl, &s, &e);

	/* In TLS 1.3 a client may learn of its refusal one read later. */
	if (cl.c) {
		struct err why = { 0 };

		assert_int_equal(ret, -EPROTO);
		assert_int_equal(chan_recv(cl.c, &c, 1), -EKEYREJECTED);
		chan_err(cl.c, -EKEYREJECTED, &why);
		assert_non_null(strstr(why.text, "another authority"));
	} else {
		assert_int_equal(cl.ret, -EPROTO);
	}
	if (!strstr(e.text, text) && !strstr(cl.e.text, text))
		fail_msg("server '%s', client '%s'", e.text, cl.e.text);
	chan_close(cl.c);
	chan_close(s);
	chan_tls_free(cl.tls);
	chan_tls_free(st);
}

static void wrong_certificates_are_refused(void **state)
{
	refused("evil", "b", NULL, "certificate"); /* other authority */
	refused("a", "evil", NULL, "certificate");
	refused("half", "b", NULL, "certificate");    /* only its own is */
	refused("a", "b", "c.example", "--tls-name"); /* other name */
}

static void *plain_babble(void *opaque)
{
	struct client *cl = opaque;

	cl->ret = chan_connect(&cl->c, cl->addr, NULL, &cl->e);
	if (!cl->ret)
		chan_send(cl->c, "PgS1 this is no TLS at all........", 32);
	return NULL;
}

static void plain_to_a_tls_listener_is_refused(void **state)
{
	struct chan_tls *st = creds("b", NULL);
	struct client cl = { 0 };
	struct chan_listener *l;
	struct chan *s = NULL;
	struct err e = { 0 };

	chan_listen(&l, "127.0.0.1:0", st, NULL);
	cl.addr = chan_listener_addr(l);
	pthread_create(&cl.thread, NULL, plain_babble, &cl);
	assert_int_equal(chan_accept(l, &s, 5000, &e), -EPROTO);
	pthread_join(cl.thread, NULL);
	assert_non_null(strstr(e.text, "--tls"));
	chan_close(cl.c);
	chan_listener_close(l);
	chan_tls_free(st);
}

static void *abort_soon(void *opaque)
{
	usleep(20000);
	chan_abort(opaque);
	return NULL;
}

static void an_aborted_listener_says_so(const char *addr)
{
	struct chan_listener *l;
	struct chan *c;

	assert_int_equal(chan_listen(&l, addr, NULL, NULL), 0);
	assert_int_equal(chan_accept(l, &c, 0, NULL), -ETIMEDOUT);
	chan_listener_abort(l);
	for (int i = 0; i < 3; i++)
		assert_int_equal(chan_accept(l, &c, 1000, NULL), -ESHUTDOWN);
	chan_listener_close(l);
}

static void aborted_listeners_say_so(void **state)
{
	char addr[128];

	snprintf(addr, sizeof(addr), "unix:%s/u", dir);
	an_aborted_listener_says_so(addr);
	an_aborted_listener_says_so("127.0.0.1:0");
}

static void abort_wakes_a_blocked_reader(void **state)
{
	struct client cl = { 0 };
	struct chan *s = NULL;
	pthread_t t;
	char c;

	assert_int_equal(join("127.0.0.1:0", NULL, &cl, &s, NULL), 0);
	pthread_create(&t, NULL, abort_soon, s);
	assert_int_equal(chan_recv(s, &c, 1), -EPIPE);
	pthread_join(t, NULL);
	chan_close(s);
	chan_close(cl.c);
}

/* ---- a peer that sends a byte now and then ---- */

struct relay {
	int listen_fd, in, out; /* in: from the client */
	pthread_t thread;
	atomic_bool slow, quit;
	char to[64];
};

static void *relay_thread(void *opaque)
{
	struct relay *r = opaque;
	struct pollfd p[2];
	char buf[4096];

	r->in = accept(r->listen_fd, NULL, NULL);
	p[0] = (struct pollfd){ .fd = r->in, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = r->out, .events = POLLIN };
	while (!r->quit && poll(p, 2, 10) >= 0) {
		for (int i = 0; i < 2; i++) {
			size_t room = r->slow ? 1 : sizeof(buf);
			ssize_t n =
				p[i].revents ? recv(p[i].fd, buf, room, 0) : 0;

			if (n > 0)
				send(p[!i].fd, buf, (size_t)n, MSG_NOSIGNAL);
		}
		if (r->slow)
			usleep(10000);
	}
	close(r->in);
	close(r->out);
	return NULL;
}

static int loopback(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(*port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (*port)
		assert_int_equal(connect(fd, (void *)&sa, sizeof(sa)), 0);
	else
		assert_int_equal(
			bind(fd, (void *)&sa, sizeof(sa)) || listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (void *)&sa, &len), 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

/* What comes in time byte by byte, and is never there in time as a whole. */
static void a_slow_peer(bool tls)
{
	struct chan_tls *st = tls ? creds("b", NULL) : NULL;
	struct client cl = { .tls = tls ? creds("a", "b.example") : NULL };
	struct relay r = { .slow = false };
	struct chan_listener *l;
	struct chan *s = NULL;
	uint16_t port, mine = 0;
	char text[64], buf[3000] = { 0 };

	assert_int_equal(chan_listen(&l, "127.0.0.1:0", st, NULL), 0);
	port = (uint16_t)atoi(strrchr(chan_listener_addr(l), ':') + 1);
	r.out = loopback(&port);
	r.listen_fd = loopback(&mine);
	snprintf(text, sizeof(text), "127.0.0.1:%u", mine);
	cl.addr = text;
	pthread_create(&r.thread, NULL, relay_thread, &r);
	pthread_create(&cl.thread, NULL, connect_thread, &cl);
	assert_int_equal(chan_accept(l, &s, 5000, NULL), 0);
	pthread_join(cl.thread, NULL);
	r.slow = true;
	assert_int_equal(chan_send(cl.c, buf, sizeof(buf)), 0);
	chan_timeout(s, 200);
	assert_int_equal(chan_recv(s, buf, sizeof(buf)), -ETIMEDOUT);
	r.quit = true;
	pthread_join(r.thread, NULL);
	close(r.listen_fd);
	chan_close(s);
	chan_close(cl.c);
	chan_listener_close(l);
	chan_tls_free(st);
	chan_tls_free(cl.tls);
}

static void slow_peers_are_late(void **state)
{
	a_slow_peer(false);
	a_slow_peer(true);
}

static void bad_addresses_are_named(void **state)
{
	struct err e = { 0 };
	struct chan_listener *l;
	struct chan *c;

	assert_int_equal(chan_connect(&c, "nowhere", NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "HOST:PORT"));
	err_clear(&e);
	assert_int_equal(chan_listen(&l, "127.0.0.1:", NULL, &e), -EINVAL);
	err_clear(&e);
	assert_int_equal(chan_listen(&l, "127.0.0.1:65536", NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "port 65536"));
	assert_int_equal(chan_connect(&c, "127.0.0.1:99999999999", NULL, NULL),
			 -EINVAL);
	err_clear(&e);
	assert_int_equal(chan_connect(&c, "127.0.0.1:1", NULL, &e),
			 -ECONNREFUSED);
	assert_non_null(strstr(e.text, "127.0.0.1:1"));
}

static void copy_ca(const char *from, const char *to)
{
	char path[128], buf[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/ca.pem", dir, from);
	f = fopen(path, "r");
	assert_non_null(f);
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	snprintf(path, sizeof(path), "%s/%s/ca.pem", dir, to);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(buf, 1, n, f), n);
	fclose(f);
}

static int setup(void **state)
{
	struct test_ca *good = test_ca_new(), *evil = test_ca_new();
	char path[128];

	signal(SIGPIPE, SIG_IGN);
	strcpy(dir, "/tmp/pagurus-chan-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/a", dir);
	test_ca_issue(good, path, "a.example");
	snprintf(path, sizeof(path), "%s/b", dir);
	test_ca_issue(good, path, "b.example");
	snprintf(path, sizeof(path), "%s/evil", dir);
	test_ca_issue(evil, path, "b.example");
	/* Believes in the right authority, and shows another's certificate. */
	snprintf(path, sizeof(path), "%s/half", dir);
	test_ca_issue(evil, path, "a.example");
	copy_ca("b", "half");
	test_ca_free(good);
	test_ca_free(evil);
	return 0;
}

static int teardown(void **state)
{
	static const char *const who[] = { "a", "b", "evil", "half" };
	static const char *const file[] = { "ca.pem", "cert.pem", "key.pem" };
	char path[160];

	for (int i = 0; i < 4; i++) {
		for (int k = 0; k < 3; k++) {
			snprintf(path, sizeof(path), "%s/%s/%s", dir, who[i],
				 file[k]);
			unlink(path);
		}
		snprintf(path, sizeof(path), "%s/%s", dir, who[i]);
		rmdir(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(over_tcp),
		cmocka_unit_test(over_unix),
		cmocka_unit_test(over_tls),
		cmocka_unit_test(wrong_certificates_are_refused),
		cmocka_unit_test(plain_to_a_tls_listener_is_refused),
		cmocka_unit_test(abort_wakes_a_blocked_reader),
		cmocka_unit_test(aborted_listeners_say_so),
		cmocka_unit_test(slow_peers_are_late),
		cmocka_unit_test(bad_addresses_are_named),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
