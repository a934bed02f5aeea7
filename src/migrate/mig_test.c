/*
 * Both engines against each other, over real sockets, with a machine made of
 * memory: a thread stands for the guest and writes RAM all the time.  The
 * proxy between them cuts the link after a given number of bytes.
 */
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
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bitmap.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "migrate/mig.h"

#define PAGES	  1024
#define RAM_BYTES (PAGES * PAGE_SIZE)

static char dir[64];

/* ---- a machine ---- */

struct machine {
	struct mig_vm vm;
	struct host_ram ram;
	uint64_t *dirty;
	uint64_t dirtied; /* by the guest, in all */

	pthread_t guest;
	pthread_mutex_t lock; /* held for each guest write */
	bool guest_there, quit;
	unsigned int held; /* pauses */
	_Atomic bool runnable;

	enum mig_action action; /* what offer() decides */
	int fail_drain, fail_ready, fail_prepare;
	int miss; /* fetches of the dirty log that forget page 5 */
	_Atomic unsigned int engaged, drained, released, dropped, runs;
	unsigned int looks;
	uint64_t counter; /* the state */
};

#define M(vm_) container_of(vm_, struct machine, vm)

static void *guest(void *opaque)
{
	struct machine *m = opaque;
	unsigned int seed = 7;

	for (;;) {
		size_t page = (size_t)rand_r(&seed) % 64;

		pthread_mutex_lock(&m->lock);
		if (m->quit) {
			pthread_mutex_unlock(&m->lock);
			return NULL;
		}
		if (!m->held && m->runnable) {
			uint64_t *p = (uint64_t *)((char *)m->ram.guest +
						   page * PAGE_SIZE);

			m->dirtied++;
			p[m->dirtied % 512] = m->dirtied;
			bitmap_set_atomic(m->dirty, page);
			m->counter = m->dirtied;
		}
		pthread_mutex_unlock(&m->lock);
		if (m->dirtied % 64 == 0)
			usleep(100);
	}
}

static void machine_init(struct machine *m, const struct mig_vm_ops *ops,
			 bool runs)
{
	memset(m, 0, sizeof(*m));
	m->vm.ops = ops;
	pthread_mutex_init(&m->lock, NULL);
	m->ram.fd = -1;
	m->ram.size = RAM_BYTES;
	m->ram.page = PAGE_SIZE;
	m->ram.guest = m->ram.backing = aligned_alloc(PAGE_SIZE, RAM_BYTES);
	memset(m->ram.guest, 0, RAM_BYTES);
	m->dirty = bitmap_alloc(PAGES);
	m->runnable = runs;
	m->action = MIG_KEEP;
	if (runs) {
		/* A third of it is not zero. */
		for (size_t i = 0; i < PAGES; i += 3)
			memset((char *)m->ram.guest + i * PAGE_SIZE,
			       (int)(i & 0x7f) + 1, PAGE_SIZE);
		m->guest_there = !pthread_create(&m->guest, NULL, guest, m);
	}
}

static void machine_fini(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->quit = true;
	pthread_mutex_unlock(&m->lock);
	if (m->guest_there)
		pthread_join(m->guest, NULL);
	free(m->ram.guest);
	free(m->dirty);
	pthread_mutex_destroy(&m->lock);
}

static size_t m_ram(struct mig_vm *vm, const struct host_ram **out)
{
	*out = &M(vm)->ram;
	return 1;
}

static void m_describe(struct mig_vm *vm, struct mig_manifest *out)
{
	*out = (struct mig_manifest){
		.vm = "test",
		.cpus = 1,
		.nram = 1,
		.ram = { { 0, RAM_BYTES, PAGE_SIZE } },
		.ndevices = 1,
		.device = { { .name = "net0",
			      .family = "igb",
			      .type = "82576",
			      .queues = 1,
			      .backing = MIG_HARDWARE } },
	};
}

static int m_dirty_start(struct mig_vm *vm)
{
	return 0;
}

static int m_dirty_fetch(struct mig_vm *vm, uint64_t *map)
{
	bitmap_harvest(map, M(vm)->dirty, PAGES);
	if (M(vm)->miss)
		bitmap_clear_range(map, 5, 1);
	return 0;
}

static void m_dirty_stop(struct mig_vm *vm)
{
}

static int m_engage(struct mig_vm *vm, const struct mig_plan *plan,
		    struct err *e)
{
	M(vm)->engaged++;
	return 0;
}

static int m_quiesce(struct mig_vm *vm, struct err *e)
{
	return M(vm)->action == MIG_REBUILD;
}

/* The driver needs three looks to give up its rings. */
static int m_quiesced(struct mig_vm *vm, struct err *e)
{
	return ++M(vm)->looks == 3;
}

static int m_drain(struct mig_vm *vm, struct err *e)
{
	M(vm)->drained++;
	return M(vm)->fail_drain
		       ? err_set(e, -EIO, "net0: the device does not stop")
		       : 0;
}

static void m_release(struct mig_vm *vm)
{
	M(vm)->released++;
}

static int m_pause(struct mig_vm *vm)
{
	pthread_mutex_lock(&M(vm)->lock);
	M(vm)->held++;
	pthread_mutex_unlock(&M(vm)->lock);
	return 0;
}

static void m_resume(struct mig_vm *vm)
{
	pthread_mutex_lock(&M(vm)->lock);
	M(vm)->held--;
	pthread_mutex_unlock(&M(vm)->lock);
}

static const char *m_part(struct mig_vm *vm, unsigned int n)
{
	static const char *const names[] = { "machine", "net0" };

	return n < 2 ? names[n] : NULL;
}

static int m_save(struct mig_vm *vm, unsigned int n, struct wire_out *o)
{
	put_u64(o, M(vm)->counter);
	/* One part is larger than a section may be. */
	if (n == 1)
		for (int i = 0; i < 300000; i++)
			put_u64(o, (uint64_t)i);
	return 0;
}

static int m_offer(struct mig_vm *vm, const struct mig_manifest *m,
		   const struct mig_policy *policy, struct mig_plan *out,
		   struct err *e)
{
	struct mig_device offer = m->device[0];

	if (M(vm)->action == MIG_REFUSE)
		offer.backing = MIG_NONE;
	if (M(vm)->action == MIG_REBUILD)
		offer.version++;
	mig_plan_make(out, m, &offer, 1, policy);
	return 0;
}

static int m_prepare(struct mig_vm *vm, const struct mig_manifest *m,
		     const struct mig_plan *plan, struct err *e)
{
	return M(vm)->fail_prepare ? err_set(e, -ENOMEM, "no memory for 4 MiB")
				   : 0;
}

static int m_load(struct mig_vm *vm, const char *part, struct wire_in *in,
		  struct err *e)
{
	M(vm)->counter = get_u64(in);
	if (!strcmp(part, "net0"))
		for (int i = 0; i < 300000; i++)
			if (get_u64(in) != (uint64_t)i)
				wire_fail(in, -EBADMSG);
	return in->err;
}

static int m_ready(struct mig_vm *vm, struct err *e)
{
	return M(vm)->fail_ready
		       ? err_set(e, -EIO, "net0: head register refused")
		       : 0;
}

static void m_run(struct mig_vm *vm)
{
	M(vm)->runs++;
	M(vm)->runnable = true;
}

static void m_drop(struct mig_vm *vm)
{
	M(vm)->dropped++;
}

static const struct mig_vm_ops ops = {
	.ram = m_ram,
	.describe = m_describe,
	.dirty_start = m_dirty_start,
	.dirty_fetch = m_dirty_fetch,
	.dirty_stop = m_dirty_stop,
	.engage = m_engage,
	.quiesce = m_quiesce,
	.quiesced = m_quiesced,
	.drain = m_drain,
	.release = m_release,
	.pause = m_pause,
	.resume = m_resume,
	.part = m_part,
	.save = m_save,
	.offer = m_offer,
	.prepare = m_prepare,
	.load = m_load,
	.ready = m_ready,
	.run = m_run,
	.drop = m_drop,
};

/* ---- the link ---- */

struct proxy {
	char path[96], to[96];
	int listen_fd, quit[2];
	pthread_t thread;
	_Atomic int64_t left; /* bytes until the cut; < 0: never */
	_Atomic uint64_t carried;
	_Atomic bool dead_after; /* no new connections after the cut */
	_Atomic bool cut;
	int fd[64]; /* pairs: even from, odd to */
	unsigned int n;
};

static void proxy_cut(struct proxy *p)
{
	for (unsigned int i = 0; i < p->n; i++)
		close_fd(&p->fd[i]);
	p->n = 0;
	p->cut = true;
	p->left = -1;
}

static void proxy_accept(struct proxy *p)
{
	int a = sock_accept(p->listen_fd), b;

	if (a < 0)
		return;
	b = sock_connect(p->to, SOCK_STREAM, NULL);
	if (b < 0 || (p->cut && p->dead_after) || p->n + 2 > 64) {
		close(a);
		close_fd(&b);
		return;
	}
	p->fd[p->n++] = a;
	p->fd[p->n++] = b;
}

/* Returns false when the cut came. */
static bool proxy_move(struct proxy *p, unsigned int i)
{
	char buf[65536];
	size_t room = sizeof(buf);
	ssize_t n;

	if (p->left >= 0)
		room = MIN(room, (size_t)p->left);
	n = room ? recv(p->fd[i], buf, room, MSG_DONTWAIT) : 0;
	if (n > 0) {
		sock_send(p->fd[i ^ 1], buf, (size_t)n, NULL, 0);
		p->carried += (uint64_t)n;
		if (p->left >= 0)
			p->left -= n;
	} else if (n == 0 && room) {
		close_fd(&p->fd[i]);
		close_fd(&p->fd[i ^ 1]);
	}
	if (p->left == 0) {
		proxy_cut(p);
		return false;
	}
	return true;
}

static void *proxy_thread(void *opaque)
{
	struct proxy *p = opaque;

	for (;;) {
		struct pollfd pf[66] = {
			{ .fd = p->listen_fd, .events = POLLIN },
			{ .fd = p->quit[0], .events = POLLIN }
		};
		unsigned int n = p->n;

		for (unsigned int i = 0; i < n; i++)
			pf[2 + i] = (struct pollfd){ .fd = p->fd[i],
						     .events = POLLIN };
		poll(pf, n + 2, -1);
		if (pf[1].revents)
			return NULL;
		for (unsigned int i = 0; i < n; i++)
			if (p->fd[i] >= 0 && pf[2 + i].revents &&
			    !proxy_move(p, i))
				break;
		if (pf[0].revents)
			proxy_accept(p);
	}
}

static void proxy_start(struct proxy *p, int64_t cut_after, bool dead_after)
{
	*p = (struct proxy){ .left = cut_after, .dead_after = dead_after };
	snprintf(p->path, sizeof(p->path), "%s/proxy", dir);
	snprintf(p->to, sizeof(p->to), "%s/dest", dir);
	p->listen_fd = sock_listen(p->path, SOCK_STREAM, NULL);
	assert_true(p->listen_fd >= 0);
	assert_int_equal(pipe(p->quit), 0);
	pthread_create(&p->thread, NULL, proxy_thread, p);
}

static void proxy_stop(struct proxy *p)
{
	assert_int_equal(write(p->quit[1], "x", 1), 1);
	pthread_join(p->thread, NULL);
	proxy_cut(p);
	close(p->listen_fd);
	close(p->quit[0]);
	close(p->quit[1]);
	unlink(p->path);
}

/* ---- a run ---- */

struct run {
	struct machine src, dst;
	struct chan_listener *l;
	pthread_t thread;
	struct mig_incoming *keep;
	struct err dst_err, src_err;
	int dst_ret;
	struct mig_result r;
	struct mig_source *s;
	enum mig_outcome out;
};

static void *receiver(void *opaque)
{
	struct run *x = opaque;

	x->dst_ret = mig_receive(&x->dst.vm, x->l, &x->keep, &x->dst_err);
	return NULL;
}

static void run_start(struct run *x, const struct mig_params *p)
{
	char addr[96];

	snprintf(addr, sizeof(addr), "unix:%s/dest", dir);
	assert_int_equal(chan_listen(&x->l, addr, NULL, NULL), 0);
	pthread_create(&x->thread, NULL, receiver, x);
	assert_int_equal(mig_source_create(&x->s, &x->src.vm, p), 0);
}

static void run_init(struct run *x)
{
	memset(x, 0, sizeof(*x));
	machine_init(&x->src, &ops, true);
	machine_init(&x->dst, &ops, false);
}

static void run_fini(struct run *x)
{
	mig_incoming_close(x->keep);
	chan_listener_close(x->l);
	mig_source_destroy(x->s);
	machine_fini(&x->src);
	machine_fini(&x->dst);
}

static const char *via(const char *name)
{
	static char addr[128];

	snprintf(addr, sizeof(addr), "unix:%s/%s", dir, name);
	return addr;
}

static struct mig_params params(const char *dest)
{
	return (struct mig_params){ .dest = dest,
				    .max_downtime_ns = 20000000,
				    .connections = 2,
				    .recovery_ms = 1000 };
}

/* Whether a machine could execute guest code now. */
static bool runs(struct machine *m)
{
	return m->runnable && !m->held;
}

static void run_is_right(struct run *x)
{
	assert_int_equal(x->out, MIG_RUNS_THERE);
	assert_int_equal(x->dst_ret, 0);
	assert_memory_equal(x->src.ram.guest, x->dst.ram.guest, RAM_BYTES);
	assert_int_equal(x->src.counter, x->dst.counter);
	assert_false(runs(&x->src));
	assert_true(runs(&x->dst));
	assert_int_equal(x->dst.runs, 1);
	assert_int_equal(x->src.released, 0);
}

static void moves(int zstd, unsigned int connections)
{
	struct mig_params p = params(via("dest"));
	struct run x;
	uint64_t sum = 0;

	p.zstd_level = zstd;
	p.connections = connections;
	p.verify = true;
	run_init(&x);
	run_start(&x, &p);
	usleep(20000);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	if (x.out != MIG_RUNS_THERE)
		fail_msg("%s", x.src_err.text);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	assert_int_equal(x.r.round[0].pages, PAGES);
	assert_int_equal(x.r.verified, PAGES);
	assert_true(x.r.rounds >= 2);
	/* The breakdown of the outage sums to the outage. */
	for (int i = MIG_PAUSE; i < MIG_DONE; i++)
		sum += x.r.phase_ns[i];
	assert_int_equal(sum, x.r.downtime_ns);
	run_fini(&x);
}

static void a_running_machine_moves(void **state)
{
	moves(0, 2);
}

static void with_compression_and_many_channels(void **state)
{
	moves(1, 7);
}

static void devices_are_quiesced_before_the_pause(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	run_init(&x);
	x.src.action = x.dst.action = MIG_REBUILD;
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	assert_int_equal(x.src.looks, 3);
	assert_true(x.r.phase_at[MIG_PRECOPY] < x.r.phase_at[MIG_QUIESCE]);
	assert_true(x.r.phase_at[MIG_QUIESCE] < x.r.phase_at[MIG_PAUSE]);
	run_fini(&x);
}

static void stays(struct run *x, const char *why)
{
	assert_int_equal(x->out, MIG_RUNS_HERE);
	assert_true(runs(&x->src));
	assert_false(x->dst.runnable);
	assert_int_equal(x->src.released, x->src.engaged);
	if (!strstr(x->src_err.text, why))
		fail_msg("'%s' lacks '%s'", x->src_err.text, why);
}

/* A page that the dirty log missed is found, and the VM stays. */
static void a_missed_page_is_noticed(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.verify = true;
	run_init(&x);
	run_start(&x, &p);
	x.src.miss = 1;
	x.out = mig_run(x.s, &x.r, &x.src_err);
	stays(&x, "1 of 1024 pages differ from the source's, the first at "
		  "0x5000");
	pthread_join(x.thread, NULL);
	assert_int_equal(x.dst.dropped, 1);
	run_fini(&x);
}

static void over_one_channel(void **state)
{
	moves(0, 1);
}

static void a_check_moves_nothing(void **state)
{
	struct mig_params p = params(via("dest"));
	struct mig_plan plan;
	struct run x;

	run_init(&x);
	run_start(&x, &p);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(mig_check(x.s, &plan, NULL), 0);
		assert_int_equal(plan.n, 1);
		assert_int_equal(plan.d[0].action, MIG_KEEP);
	}
	assert_int_equal(x.src.engaged, 0);
	assert_true(runs(&x.src));
	/* and the destination is still there to migrate to */
	x.out = mig_run(x.s, &x.r, NULL);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	run_fini(&x);
}

static void a_refusal_comes_before_any_ram(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	run_init(&x);
	x.dst.action = MIG_REFUSE;
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	stays(&x, "net0 cannot move");
	assert_int_equal(x.src.engaged, 0);
	assert_int_equal(x.r.rounds, 0);
	/* The receiver is not ended by it: another try may fit. */
	x.dst.action = MIG_KEEP;
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	run_fini(&x);
}

static void failures_on_either_side_resume_the_source(void **state)
{
	static const struct {
		size_t off;
		const char *why;
	} row[] = {
		{ offsetof(struct run, src.fail_drain), "does not stop" },
		{ offsetof(struct run, dst.fail_prepare), "no memory for" },
		{ offsetof(struct run, dst.fail_ready), "head register" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct mig_params p = params(via("dest"));
		struct run x;

		run_init(&x);
		*(int *)((char *)&x + row[i].off) = 1;
		run_start(&x, &p);
		x.out = mig_run(x.s, &x.r, &x.src_err);
		stays(&x, row[i].why);
		/* Before the VM is made the receiver waits for another. */
		if (x.dst.fail_prepare) {
			x.dst.fail_prepare = 0;
			x.out = mig_run(x.s, &x.r, NULL);
			assert_int_equal(x.out, MIG_RUNS_THERE);
		}
		pthread_join(x.thread, NULL);
		if (i != 1)
			assert_int_equal(x.dst.dropped, 1);
		run_fini(&x);
	}
}

static void cancel_in_precopy(void *opaque, const struct mig_progress *p)
{
	struct run *x = opaque;

	if (p->phase == MIG_PRECOPY)
		assert_int_equal(mig_cancel(x->s), 0);
}

static void cancel_works(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.progress = cancel_in_precopy;
	p.opaque = &x;
	p.bandwidth = 1000000; /* would take seconds */
	run_init(&x);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	stays(&x, "cancelled");
	pthread_join(x.thread, NULL);
	assert_true(x.dst_ret < 0);
	assert_int_equal(x.dst.dropped, 1);
	run_fini(&x);
}

static void bandwidth_is_kept(void **state)
{
	struct mig_params p = params(via("dest"));
	struct run x;

	p.bandwidth = 10000000;
	run_init(&x);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	/* 1.4 MB of the first round at 10 MB/s: never faster than that. */
	assert_true(x.r.round[0].ns >=
		    x.r.round[0].bytes * 1000000000ull / p.bandwidth * 9 / 10);
	run_fini(&x);
}

/*
 * The link is cut after each of many byte counts, the last message
 * boundaries among them.  Whatever happens: exactly one machine can run,
 * unless nobody can tell, and then none does until somebody can.
 */
static enum mig_outcome cut_at(int64_t at, bool dead_after, uint64_t *carried)
{
	struct mig_params p = params(via("proxy"));
	enum mig_outcome out;
	struct proxy proxy;
	struct run x;

	p.recovery_ms = dead_after ? 1 : 5000;
	run_init(&x);
	proxy_start(&proxy, at, dead_after);
	run_start(&x, &p);
	x.out = mig_run(x.s, &x.r, &x.src_err);
	out = x.out;
	if (out == MIG_UNDECIDED) {
		assert_false(runs(&x.src));
		/* The link is mended: ask again. */
		proxy.dead_after = false;
		x.out = mig_resolve(x.s, 20000, &x.src_err);
		assert_int_not_equal(x.out, MIG_UNDECIDED);
	}
	/* A receiver nothing ever reached still waits: let it go. */
	if (x.out == MIG_RUNS_HERE && !x.dst.dropped)
		shutdown(chan_listener_fd(x.l), SHUT_RDWR);
	pthread_join(x.thread, NULL);
	if (runs(&x.src) + runs(&x.dst) != 1)
		fail_msg("cut at %ld: source %d, destination %d (%s / %s)",
			 (long)at, runs(&x.src), runs(&x.dst), x.src_err.text,
			 x.dst_err.text);
	assert_int_equal(x.out == MIG_RUNS_THERE, runs(&x.dst));
	if (x.out == MIG_RUNS_HERE)
		assert_int_equal(x.src.released, x.src.engaged);
	else
		assert_memory_equal(x.src.ram.guest, x.dst.ram.guest,
				    RAM_BYTES);
	*carried = proxy.carried;
	run_fini(&x);
	proxy_stop(&proxy);
	return out;
}

static void one_machine_wherever_the_link_is_cut(void **state)
{
	unsigned int seen[3] = { 0 };
	uint64_t whole, n;

	assert_int_equal(cut_at(-1, false, &whole), MIG_RUNS_THERE);
	for (int64_t at = 1; at < (int64_t)whole; at += (int64_t)whole / 24)
		seen[cut_at(at, false, &n)]++;
	/* Greeting and plan. */
	for (int64_t at = 1; at < 400; at += 40)
		seen[cut_at(at, false, &n)]++;
	assert_true(seen[MIG_RUNS_HERE] > 20);
}

/*
 * The totals differ from run to run, so the last messages cannot be hit by
 * counting from the front: cut so many bytes after the phase is entered.
 */
struct late {
	struct proxy *proxy;
	enum mig_phase phase;
	int64_t bytes;
};

static void cut_late(void *opaque, const struct mig_progress *p)
{
	struct late *l = opaque;

	if (p->phase == l->phase && l->proxy->left < 0 && !l->proxy->cut)
		l->proxy->left = l->bytes;
}

static void one_machine_at_the_hand_over(void **state)
{
	unsigned int seen[3] = { 0 };

	for (int64_t bytes = 1; bytes < 100; bytes += 6) {
		for (int dead = 0; dead < 2; dead++) {
			struct mig_params p = params(via("proxy"));
			struct proxy proxy;
			struct late late = { &proxy, MIG_HANDOVER, bytes };
			struct run x;

			p.progress = cut_late;
			p.opaque = &late;
			p.recovery_ms = dead ? 1 : 5000;
			run_init(&x);
			proxy_start(&proxy, -1, dead);
			run_start(&x, &p);
			x.out = mig_run(x.s, &x.r, &x.src_err);
			seen[x.out]++;
			if (x.out == MIG_UNDECIDED) {
				assert_false(runs(&x.src));
				proxy.dead_after = false;
				x.out = mig_resolve(x.s, 20000, NULL);
			}
			pthread_join(x.thread, NULL);
			assert_int_equal(runs(&x.src) + runs(&x.dst), 1);
			assert_int_equal(x.out == MIG_RUNS_THERE, runs(&x.dst));
			run_fini(&x);
			proxy_stop(&proxy);
		}
	}
	/* Every outcome was met, or this proved nothing. */
	assert_true(seen[MIG_RUNS_HERE] && seen[MIG_RUNS_THERE] &&
		    seen[MIG_UNDECIDED]);
}

static void strangers_end_nothing(void **state)
{
	struct mig_params p = params(via("dest"));
	static const char *const babble[] = { "", "GET / HTTP/1.0\r\n\r\n",
					      "PgS1" };
	char path[96];
	struct run x;

	snprintf(path, sizeof(path), "%s/dest", dir);
	run_init(&x);
	run_start(&x, &p);
	for (size_t i = 0; i < ARRAY_SIZE(babble); i++) {
		int fd = sock_connect(path, SOCK_STREAM, NULL);

		assert_true(fd >= 0);
		if (babble[i][0])
			sock_send(fd, babble[i], strlen(babble[i]), NULL, 0);
		close(fd);
	}
	x.out = mig_run(x.s, &x.r, &x.src_err);
	pthread_join(x.thread, NULL);
	run_is_right(&x);
	run_fini(&x);
}

static int setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
	strcpy(dir, "/tmp/pagurus-mig-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/dest", dir);
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_machine_moves),
		cmocka_unit_test(with_compression_and_many_channels),
		cmocka_unit_test(over_one_channel),
		cmocka_unit_test(a_missed_page_is_noticed),
		cmocka_unit_test(devices_are_quiesced_before_the_pause),
		cmocka_unit_test(a_check_moves_nothing),
		cmocka_unit_test(a_refusal_comes_before_any_ram),
		cmocka_unit_test(failures_on_either_side_resume_the_source),
		cmocka_unit_test(cancel_works),
		cmocka_unit_test(bandwidth_is_kept),
		cmocka_unit_test(strangers_end_nothing),
		cmocka_unit_test(one_machine_wherever_the_link_is_cut),
		cmocka_unit_test(one_machine_at_the_hand_over),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
