/*
 * How fast RAM migrates: the whole engine, both sides, over a socket on this
 * machine, against a plain copy of the same bytes over the same kind of
 * socket in the same run.  The ratio is what counts; machines differ.
 *
 * Both write to memory that is there already, or in one row both to memory
 * that is yet to be made, as a VM's is.  At the end: which goals are reached,
 * and what stands in the way of the others.
 *
 * usage: migrate_bench [MEGABYTES [RUNS [ROW]]], ROW a part of a row's name
 */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "goal.h"
#include "migrate/mig.h"
#include "migrate/tls_test_pki.h"

#define COPY_PIECE (256u << 10)
#define GOAL	   0.9

static size_t ram_bytes;
static char dir[64];

struct end {
	struct mig_vm vm;
	struct host_ram ram;
};

#define END(vm_) container_of(vm_, struct end, vm)

static void *make_ram(bool filled)
{
	char *p = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	for (size_t i = 0; filled && i < ram_bytes; i += 64)
		*(uint64_t *)(p + i) = i * 0x9e3779b97f4a7c15ull + 1;
	return p;
}

/* As a VM's RAM: a file, without any page yet. */
static void new_ram(struct host_ram *r)
{
	r->fd = memfd_create("bench-ram", MFD_CLOEXEC);
	if (r->fd < 0 || ftruncate(r->fd, (off_t)ram_bytes) < 0)
		exit(1);
	r->guest = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			r->fd, 0);
	if (r->guest == MAP_FAILED)
		exit(1);
	r->backing = r->guest;
}

static void drop_ram(struct host_ram *r)
{
	munmap(r->guest, ram_bytes);
	close(r->fd);
}

static size_t op_ram(struct mig_vm *vm, const struct host_ram **out)
{
	*out = &END(vm)->ram;
	return 1;
}

static void op_describe(struct mig_vm *vm, struct mig_manifest *out)
{
	*out = (struct mig_manifest){ .vm = "bench",
				      .cpus = 1,
				      .nram = 1,
				      .ram = { { 0, ram_bytes, PAGE_SIZE } } };
}

static int op_nothing(struct mig_vm *vm)
{
	return 0;
}

static void op_void(struct mig_vm *vm)
{
}

static int op_fetch(struct mig_vm *vm, uint64_t *map)
{
	return 0;
}

static int op_engage(struct mig_vm *vm, const struct mig_plan *plan,
		     struct err *e)
{
	return 0;
}

static int op_err(struct mig_vm *vm, struct err *e)
{
	return 0;
}

static const char *op_part(struct mig_vm *vm, unsigned int n)
{
	return NULL;
}

static int op_offer(struct mig_vm *vm, const struct mig_manifest *m,
		    const struct mig_policy *policy, struct mig_plan *out,
		    struct err *e)
{
	mig_plan_make(out, m, NULL, 0, policy);
	return 0;
}

static int op_prepare(struct mig_vm *vm, const struct mig_manifest *m,
		      const struct mig_plan *plan, struct err *e)
{
	return 0;
}

static const struct mig_vm_ops ops = {
	.ram = op_ram,
	.describe = op_describe,
	.dirty_start = op_nothing,
	.dirty_fetch = op_fetch,
	.dirty_stop = op_void,
	.engage = op_engage,
	.quiesce = op_err,
	.quiesced = op_err,
	.drain = op_err,
	.release = op_void,
	.pause = op_nothing,
	.resume = op_void,
	.part = op_part,
	.offer = op_offer,
	.prepare = op_prepare,
	.ready = op_err,
	.run = op_void,
	.drop = op_void,
};

struct server {
	pthread_t thread;
	struct chan_listener *l;
	struct end end;
	struct mig_incoming *keep;
	struct err e;
	int ret;
};

static void *serve(void *opaque)
{
	struct server *s = opaque;

	s->ret = mig_receive(&s->end.vm, s->l, &s->keep, &s->e);
	return NULL;
}

static void *sink(void *opaque)
{
	struct server *s = opaque;
	struct chan *c;

	s->ret = chan_accept(s->l, &c, 5000, &s->e);
	for (size_t n = 0; s->ret == 0 && n < ram_bytes; n += COPY_PIECE)
		s->ret = chan_recv(c, (char *)s->end.ram.guest + n, COPY_PIECE);
	if (s->ret == 0)
		s->ret = chan_send(c, "k", 1);
	chan_close(c);
	return NULL;
}

static void die(const char *what, const struct err *e, int code)
{
	fprintf(stderr, "migrate_bench: %s: %s\n", what, err_text(e, code));
	exit(1);
}

/* Seconds from RAM to RAM through one plain connection. */
static double copy(const char *addr, const struct end *src,
		   const struct host_ram *dst)
{
	struct server s = { .end.ram = *dst };
	struct err e = { 0 };
	struct chan *c;
	uint64_t t0;
	char k;
	int ret = chan_listen(&s.l, addr, NULL, &e);

	if (ret < 0)
		die("listen", &e, ret);
	pthread_create(&s.thread, NULL, sink, &s);
	t0 = now_ns();
	ret = chan_connect(&c, chan_listener_addr(s.l), NULL, &e);
	for (size_t n = 0; ret == 0 && n < ram_bytes; n += COPY_PIECE)
		ret = chan_send(c, (char *)src->ram.guest + n, COPY_PIECE);
	if (ret == 0)
		ret = chan_recv(c, &k, 1);
	t0 = now_ns() - t0;
	if (ret < 0)
		die("copy", &e, ret);
	pthread_join(s.thread, NULL);
	chan_close(c);
	chan_listener_close(s.l);
	return (double)t0 / 1e9;
}

static double migrate(const char *addr, struct end *src,
		      const struct host_ram *dst, const char *tls,
		      unsigned int connections, int zstd, double *wire)
{
	struct server s = { .end.vm.ops = &ops, .end.ram = *dst };
	struct mig_params p = { .connections = connections,
				.max_downtime_ns = 1000000000ull,
				.zstd_level = zstd,
				.recovery_ms = 1000 };
	struct chan_tls *st = NULL, *ct = NULL;
	struct mig_result *r = calloc(1, sizeof(*r));
	struct mig_source *m;
	struct err e = { 0 };
	char path[96];
	double seconds;
	int ret = 0;

	if (tls) {
		snprintf(path, sizeof(path), "%s/%s", dir, tls);
		ret = chan_tls_load(&st, path, NULL, &e);
		if (ret == 0)
			ret = chan_tls_load(&ct, path, "bench", &e);
	}
	if (ret == 0)
		ret = chan_listen(&s.l, addr, st, &e);
	if (ret < 0)
		die("listen", &e, ret);
	pthread_create(&s.thread, NULL, serve, &s);
	p.dest = chan_listener_addr(s.l);
	p.tls = ct;
	if (mig_source_create(&m, &src->vm, &p) < 0 ||
	    mig_run(m, r, &e) != MIG_RUNS_THERE)
		die("migrate", &e, -EIO);
	pthread_join(s.thread, NULL);
	seconds = (double)r->total_ns / 1e9;
	*wire = (double)r->bytes;
	mig_source_destroy(m);
	mig_incoming_close(s.keep, 0);
	chan_listener_close(s.l);
	chan_tls_free(st);
	chan_tls_free(ct);
	free(r);
	return seconds;
}

/* Of all threads: what a machine that does other things too has to give. */
static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

/* MB/s that one core encrypts in records of TLS. */
static double aes_speed(void)
{
	static unsigned char buf[16384], key[16], iv[12], tag[16];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint64_t t0 = now_ns(), took;
	unsigned int n = 0;
	int len;

	do {
		EVP_EncryptInit_ex(c, n ? NULL : EVP_aes_128_gcm(), NULL, key,
				   iv);
		EVP_EncryptUpdate(c, buf, &len, buf, sizeof(buf));
		EVP_EncryptFinal_ex(c, tag, &len);
		n++;
		took = now_ns() - t0;
	} while (took < 200000000ull);
	EVP_CIPHER_CTX_free(c);
	return (double)n * sizeof(buf) * 1e3 / (double)took;
}

struct row {
	const char *name, *addr, *tls;
	unsigned int connections;
	int zstd;
	bool new_ram;
	/* what came of it; 0: not run */
	double rate, copy, ratio, work, cpu_mb;
};

static struct row rows[] = {
	{ "unix socket, 1 connection", "unix:", NULL, 1, 0, false },
	{ "unix socket, 2 connections", "unix:", NULL, 2, 0, false },
	{ "TCP loopback, 1 connection", "127.0.0.1:0", NULL, 1, 0, false },
	{ "TCP loopback, 2 connections", "127.0.0.1:0", NULL, 2, 0, false },
	{ "TCP, 2 connections, new RAM", "127.0.0.1:0", NULL, 2, 0, true },
	{ "TCP, TLS 1.3, 1 connection", "127.0.0.1:0", "tls", 1, 0, false },
	{ "TCP, TLS 1.3, 2 connections", "127.0.0.1:0", "tls", 2, 0, false },
	{ "TCP, zstd 1, 2 connections", "127.0.0.1:0", NULL, 2, 1, false },
};
enum { UNIX_1, UNIX_2, TCP_1, TCP_2, TCP_NEW, TLS_1, TLS_2 };

static void run(struct row *r, int runs, struct end *src, void *there)
{
	double m[99], c[99], ratio[99], work[99], cpu[99], wire = 0, mb;
	struct host_ram dst = src->ram;
	char addr[96];

	mb = (double)ram_bytes / 1e6;
	for (int k = 0; k < runs; k++) {
		double t0, t1;

		snprintf(addr, sizeof(addr), "%s", r->addr);
		if (chan_is_unix(addr))
			snprintf(addr, sizeof(addr), "unix:%s/s", dir);
		dst.guest = dst.backing = there;
		if (r->new_ram)
			new_ram(&dst);
		t0 = cpu_s();
		c[k] = copy(addr, src, &dst);
		t1 = cpu_s() - t0;
		if (r->new_ram) {
			drop_ram(&dst);
			new_ram(&dst);
		} else {
			memset(dst.guest, 0, ram_bytes);
		}
		t0 = cpu_s();
		m[k] = migrate(addr, src, &dst, r->tls, r->connections, r->zstd,
			       &wire);
		cpu[k] = cpu_s() - t0;
		work[k] = cpu[k] / t1;
		ratio[k] = c[k] / m[k];
		if (memcmp(src->ram.guest, dst.guest, ram_bytes))
			die("migrate: RAM differs", NULL, -EIO);
		if (r->new_ram)
			drop_ram(&dst);
	}
	r->rate = mb / median(m, runs);
	r->copy = mb / median(c, runs);
	r->ratio = median(ratio, runs);
	r->work = median(work, runs);
	r->cpu_mb = median(cpu, runs) / mb;
	printf("  %-28s %7.0f MB/s  copy %7.0f MB/s  ratio %.2f  CPU x%.2f  "
	       "(%.0f MB on the wire)\n",
	       r->name, r->rate, r->copy, r->ratio, r->work, wire / 1e6);
	fflush(stdout);
}

static void plain_goal(const struct row *r)
{
	char what[64];

	if (!r->rate)
		return;
	snprintf(what, sizeof(what), "rate against a plain copy, %s", r->name);
	if (!goal_least(what, r->ratio, GOAL, ""))
		goal_limit("each byte takes x%.2f the CPU of a copy", r->work);
}

/*
 * TLS may cost a tenth.  What it cannot do without: both ends encrypt each
 * byte once, on top of the work of a plain migration, on the same cores.
 */
static void tls_goal(const struct row *tls, const struct row *plain)
{
	char what[64];
	double aes;

	if (!tls->rate || !plain->rate)
		return;
	snprintf(what, sizeof(what), "rate against no TLS, %s", tls->name);
	if (goal_least(what, tls->rate / plain->rate, GOAL, ""))
		return;
	aes = aes_speed();
	goal_limit("AES-GCM on one core: %.0f MB/s; with both ends on the same "
		   "%ld cores, and these at their limit without TLS, %.2f is "
		   "the most",
		   aes, sysconf(_SC_NPROCESSORS_ONLN),
		   plain->cpu_mb / (plain->cpu_mb + 2 / aes));
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? atoi(argv[2]) : 5;
	struct end src = { .vm.ops = &ops };
	struct test_ca *ca;
	char path[96];
	void *dst;

	signal(SIGPIPE, SIG_IGN);
	ram_bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 256) << 20;
	if (!ram_bytes || runs < 1 || runs > 99)
		die("usage: migrate_bench [MEGABYTES [RUNS [ROW]]]", NULL,
		    -EINVAL);
	strcpy(dir, "/tmp/pagurus-bench-XXXXXX");
	if (!mkdtemp(dir))
		die(dir, NULL, -errno);
	snprintf(path, sizeof(path), "%s/tls", dir);
	ca = test_ca_new();
	test_ca_issue(ca, path, "bench");
	test_ca_free(ca);
	src.ram = (struct host_ram){ .size = ram_bytes,
				     .page = PAGE_SIZE,
				     .fd = -1 };
	src.ram.guest = src.ram.backing = make_ram(true);
	dst = make_ram(false);

	printf("migration of %zu MiB against a plain copy over the same "
	       "socket, median of %d\n",
	       ram_bytes >> 20, runs);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (argc <= 3 || strstr(rows[i].name, argv[3]))
			run(&rows[i], runs, &src, dst);
	for (unsigned int i = UNIX_1; i <= TCP_NEW; i++)
		plain_goal(&rows[i]);
	tls_goal(&rows[TLS_1], &rows[TCP_1]);
	tls_goal(&rows[TLS_2], &rows[TCP_2]);
	snprintf(path, sizeof(path), "rm -r %s", dir);
	return system(path) != 0;
}
