#include "migrate/mig_rig.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"

static char dir[64];

/* ---- the link ---- */

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
		if (p->stalled)
			usleep(1000);
		for (unsigned int i = 0; i < n && !p->stalled; i++)
			if (p->fd[i] >= 0 && pf[2 + i].revents &&
			    !proxy_move(p, i))
				break;
		if (pf[0].revents)
			proxy_accept(p);
	}
}

void proxy_start(struct proxy *p, int64_t cut_after, bool dead_after)
{
	*p = (struct proxy){ .left = cut_after, .dead_after = dead_after };
	snprintf(p->path, sizeof(p->path), "%s/proxy", dir);
	snprintf(p->to, sizeof(p->to), "%s/dest", dir);
	p->listen_fd = sock_listen(p->path, SOCK_STREAM, NULL);
	assert_true(p->listen_fd >= 0);
	assert_int_equal(pipe(p->quit), 0);
	pthread_create(&p->thread, NULL, proxy_thread, p);
}

void proxy_stop(struct proxy *p)
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

static void *receiver(void *opaque)
{
	struct run *x = opaque;

	x->dst_ret = mig_receive(&x->dst.vm, x->l, &x->keep, &x->dst_err);
	return NULL;
}

void run_start_on(struct run *x, const struct mig_params *p, const char *addr)
{
	assert_int_equal(chan_listen(&x->l, addr, NULL, NULL), 0);
	pthread_create(&x->thread, NULL, receiver, x);
	assert_int_equal(mig_source_create(&x->s, &x->src.vm, p), 0);
}

void run_start(struct run *x, const struct mig_params *p)
{
	char addr[96];

	snprintf(addr, sizeof(addr), "unix:%s/dest", dir);
	run_start_on(x, p, addr);
}

void run_init(struct run *x)
{
	memset(x, 0, sizeof(*x));
	machine_init(&x->src, &machine_ops, true);
	machine_init(&x->dst, &machine_ops, false);
}

void run_fini(struct run *x)
{
	mig_incoming_close(x->keep, 0);
	chan_listener_close(x->l);
	mig_source_destroy(x->s);
	machine_fini(&x->src);
	machine_fini(&x->dst);
}

const char *via(const char *name)
{
	static char addr[128];

	snprintf(addr, sizeof(addr), "unix:%s/%s", dir, name);
	return addr;
}

struct mig_params params(const char *dest)
{
	return (struct mig_params){ .dest = dest,
				    .max_downtime_ns = 20000000,
				    .connections = 2,
				    .recovery_ms = 10000 };
}

int rig_setup(void **state)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
	strcpy(dir, "/tmp/pagurus-mig-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

int rig_teardown(void **state)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/dest", dir);
	unlink(path);
	return rmdir(dir);
}

void run_is_right(struct run *x)
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

void run_moves(struct run *x)
{
	x->out = mig_run(x->s, &x->r, &x->src_err);
	if (x->out != MIG_RUNS_THERE)
		fail_msg("%d: %s", x->out, x->src_err.text);
	pthread_join(x->thread, NULL);
	run_is_right(x);
}

void run_stays(struct run *x, const char *why)
{
	assert_int_equal(x->out, MIG_RUNS_HERE);
	assert_true(runs(&x->src));
	assert_false(x->dst.runnable);
	assert_int_equal(x->src.released, x->src.engaged);
	if (!strstr(x->src_err.text, why))
		fail_msg("'%s' lacks '%s'", x->src_err.text, why);
}
