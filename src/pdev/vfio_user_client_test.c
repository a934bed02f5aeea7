#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "pdev/vfio_user_call.h"
#include "pdev/vfio_user_client.h"
#include "pdev/vfio_user_testdev.h"

/* A client against our own server, whose loop runs in a thread. */
struct fix {
	struct loop *l;
	struct testdev d;
	pthread_t thread;
	struct pdev *p;
	bool closed; /* the server is already */
	char dir[32], path[64];
};

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	char spec[80];
	struct err e = { 0 };

	log_set_sink(no_log, NULL);
	strcpy(f->dir, "/tmp/vfu-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	snprintf(spec, sizeof(spec), "vfio-user:%s", f->path);
	assert_int_equal(loop_create(&f->l), 0);
	testdev_open(&f->d, f->l, f->path);
	pthread_create(&f->thread, NULL, run_loop, f->l);
	if (pdev_open(&f->p, spec, &e) < 0)
		fail_msg("%s", e.text);
	*state = f;
	return 0;
}

static void end_server(struct fix *f)
{
	if (f->closed)
		return;
	loop_stop(f->l);
	pthread_join(f->thread, NULL);
	testdev_close(&f->d);
	f->closed = true;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	pdev_close(f->p);
	end_server(f);
	loop_destroy(f->l);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void learns_the_device(void **state)
{
	struct fix *f = *state;
	const struct pdev_region *r = &f->p->region[PDEV_BAR0];

	assert_string_equal(f->p->ops->name, "vfio-user");
	assert_int_equal(r->size, 8192);
	assert_int_equal(r->flags, PDEV_READ | PDEV_WRITE | PDEV_MMAP);
	assert_int_equal(r->nareas, 1);
	assert_int_equal(r->area[0].off, PAGE_SIZE);
	assert_int_equal(r->area[0].len, PAGE_SIZE);
	assert_int_equal(f->p->region[PDEV_CONFIG].size, 4096);
	assert_int_equal(f->p->region[PDEV_CONFIG].flags,
			 PDEV_READ | PDEV_WRITE);
	assert_int_equal(f->p->region[PDEV_ROM].flags, PDEV_READ);
	assert_int_equal(f->p->region[PDEV_BAR3].size, 0);
	assert_int_equal(f->p->nirqs[PDEV_MSIX], 3);
	assert_int_equal(f->p->nirqs[PDEV_INTX], 1);
	assert_non_null(f->p->ops->reset);
	assert_non_null(f->p->ops->dma_log_start);
}

static void registers_and_order(void **state)
{
	struct fix *f = *state;
	uint32_t v;
	uint8_t big[4096];

	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(pdev_write32(f->p, PDEV_BAR0, 0x20, i), 0);
		assert_int_equal(pdev_read32(f->p, PDEV_BAR0, 0x20, &v), 0);
		assert_int_equal(v, i); /* a read flushes posted writes */
	}
	/* So does a flush: the mapping of this page would not wait for them. */
	for (uint32_t i = 1; i < 1000; i++) {
		assert_int_equal(pdev_write32(f->p, PDEV_BAR0, 0x20, i), 0);
		assert_int_equal(pdev_flush(f->p), 0);
		memcpy(&v, f->d.bar + 0x20, sizeof(v));
		assert_int_equal(v, i);
	}
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i ^ 0x5a);
	assert_int_equal(pdev_write(f->p, PDEV_CONFIG, 0, big, 4096), 0);
	assert_memory_equal(f->d.config, big, 4096); /* not posted */
	memset(big, 0, sizeof(big));
	assert_int_equal(pdev_read(f->p, PDEV_CONFIG, 0, big, 4096), 0);
	assert_memory_equal(f->d.config, big, 4096);
	/* The device refuses; more than a register, so it is answered. */
	assert_int_equal(pdev_write(f->p, PDEV_BAR0, 0x100, big, 16), -EIO);
	assert_int_equal(pdev_reset(f->p), 0);
	assert_int_equal(f->d.resets, 1);
}

static void maps_the_servers_memory(void **state)
{
	struct fix *f = *state;
	uint8_t *mine, *theirs;
	void *va;

	assert_int_equal(pdev_mmap(f->p, PDEV_BAR0, PAGE_SIZE, PAGE_SIZE, &va),
			 0);
	mine = va;
	theirs = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      f->d.fd, 0);
	mine[5] = 77;
	assert_int_equal(theirs[2 * PAGE_SIZE + 5], 77);
	assert_int_equal(pdev_mmap(f->p, PDEV_BAR0, 0, PAGE_SIZE, &va),
			 -ENOTSUP);
	munmap(mine, PAGE_SIZE);
	munmap(theirs, 4 * PAGE_SIZE);
}

static bool raise_irq(struct fix *f, unsigned int vector)
{
	bool ret;

	vfu_enter(f->d.s);
	ret = vfu_irq_raise(f->d.s, PDEV_MSIX, vector);
	vfu_leave(f->d.s);
	return ret;
}

static void interrupts(void **state)
{
	struct fix *f = *state;
	int fd[3] = { eventfd(0, EFD_NONBLOCK), -1, eventfd(0, EFD_NONBLOCK) };
	int none[3] = { -1, -1, -1 };
	eventfd_t n;

	assert_int_equal(pdev_irq_set(f->p, PDEV_MSIX, 0, 3, fd), 0);
	assert_true(raise_irq(f, 0));
	assert_false(raise_irq(f, 1));
	assert_true(raise_irq(f, 2));
	assert_int_equal(eventfd_read(fd[0], &n), 0);
	assert_int_equal(eventfd_read(fd[2], &n), 0);
	assert_int_equal(pdev_irq_set(f->p, PDEV_MSIX, 0, 1, none), 0);
	assert_false(raise_irq(f, 0));
	assert_true(raise_irq(f, 2));
	assert_int_equal(pdev_irq_set(f->p, PDEV_MSIX, 0, 0, NULL), 0);
	assert_false(raise_irq(f, 2));
	close(fd[0]);
	close(fd[2]);
}

static void memory(void **state)
{
	struct fix *f = *state;
	int fd = memfd_create("ram", MFD_CLOEXEC);
	uint8_t *ram, *p, buf[3000];
	struct pdev_dma m = { .iova = 0x100000,
			      .size = 4 * PAGE_SIZE,
			      .fd = fd,
			      .prot = PDEV_READ | PDEV_WRITE };

	assert_int_equal(ftruncate(fd, 16 * PAGE_SIZE), 0);
	ram = mmap(NULL, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   0);
	m.fd_offset = 8 * PAGE_SIZE;
	m.va = ram + m.fd_offset;
	assert_int_equal(pdev_dma_map(f->p, &m), 0);
	assert_int_equal(pdev_dma_map(f->p, &m), -EEXIST);
	vfu_enter(f->d.s);
	p = vfu_dma_find(f->d.s, 0x100000, 4 * PAGE_SIZE, PDEV_WRITE);
	assert_non_null(p);
	p[0x1234] = 42;
	vfu_leave(f->d.s);
	assert_int_equal(ram[8 * PAGE_SIZE + 0x1234], 42);

	/* The same without the file: by messages, across two mappings. */
	m.iova += m.size;
	m.va = ram;
	m.fd = -1;
	m.size = PAGE_SIZE;
	assert_int_equal(pdev_dma_map(f->p, &m), 0);
	memset(ram, 0x11, PAGE_SIZE);
	memset(ram + 11 * PAGE_SIZE, 0x22, PAGE_SIZE);
	assert_int_equal(vfu_dma_read(f->d.s, m.iova - 1500, buf, 3000), 0);
	assert_int_equal(buf[0], 0x22);
	assert_int_equal(buf[1499], 0x22);
	assert_int_equal(buf[1500], 0x11);
	assert_int_equal(buf[2999], 0x11);
	memset(buf, 0x33, sizeof(buf));
	assert_int_equal(vfu_dma_write(f->d.s, m.iova - 1500, buf, 3000), 0);
	assert_int_equal(ram[11 * PAGE_SIZE + 4095], 0x33);
	assert_int_equal(ram[1499], 0x33);
	assert_int_equal(ram[1500], 0x11);
	assert_int_equal(vfu_dma_write(f->d.s, m.iova + PAGE_SIZE, buf, 1),
			 -EFAULT);

	assert_int_equal(pdev_dma_unmap(f->p, m.iova, PAGE_SIZE), 0);
	assert_int_equal(vfu_dma_read(f->d.s, m.iova, buf, 1), -EFAULT);
	assert_int_equal(pdev_dma_unmap(f->p, m.iova, PAGE_SIZE), -ENOENT);
	assert_int_equal(pdev_dma_unmap(f->p, 0x100000, 4 * PAGE_SIZE), 0);
	munmap(ram, 16 * PAGE_SIZE);
	close(fd);
}

static void the_log(void **state)
{
	struct fix *f = *state;
	const struct pdev_ops *o = f->p->ops;
	uint64_t size = 100 * PAGE_SIZE, map[2] = { 0 };
	int fd = memfd_create("ram", MFD_CLOEXEC);
	struct pdev_dma m = { .iova = 0x100000,
			      .size = size,
			      .fd = fd,
			      .prot = PDEV_READ | PDEV_WRITE };

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	m.va = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_int_equal(pdev_dma_map(f->p, &m), 0);
	assert_int_equal(o->dma_log_report(f->p, m.iova, size, map), -EINVAL);
	assert_int_equal(o->dma_log_start(f->p, m.iova, size), 0);
	vfu_enter(f->d.s);
	vfu_dma_mark(f->d.s, m.iova + 99 * PAGE_SIZE, 1);
	vfu_dma_mark(f->d.s, m.iova + 4095, 2);
	vfu_leave(f->d.s);
	assert_int_equal(o->dma_log_report(f->p, m.iova, size, map), 0);
	assert_true(map[0] == 3);
	assert_true(map[1] == 1ull << 35);
	assert_int_equal(o->dma_log_stop(f->p), 0);
	munmap(m.va, size);
	close(fd);
}

static void *hammer(void *arg)
{
	struct fix *f = arg;
	uint32_t off =
		0x400 + (uint32_t)((uintptr_t)pthread_self() >> 12) % 256 * 4;
	int bad = 0;

	for (uint32_t i = 0; i < 500; i++) {
		uint32_t v;

		bad += pdev_read32(f->p, PDEV_BAR0, off, &v) != 0;
		bad += pdev_read(f->p, PDEV_CONFIG, 4, &v, 4) != 0;
	}
	return (void *)(intptr_t)bad;
}

static void many_threads(void **state)
{
	struct fix *f = *state;
	pthread_t t[4];
	void *bad;

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hammer, f);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(f->d.reads, 4000);
}

static void count(void *opaque)
{
	__atomic_add_fetch((int *)opaque, 1, __ATOMIC_ACQ_REL);
}

static void a_dead_server(void **state)
{
	struct fix *f = *state;
	int told = 0, late = 0;
	uint32_t v = 0;

	pdev_on_gone(f->p, count, &told);
	end_server(f);
	for (int i = 0; i < 1000 && !__atomic_load_n(&told, __ATOMIC_ACQUIRE);
	     i++)
		usleep(1000);
	assert_int_equal(told, 1);
	pdev_on_gone(f->p, count, &late);
	assert_int_equal(late, 1); /* told at once */
	assert_int_equal(pdev_read(f->p, PDEV_BAR0, 0, &v, 4), -ENODEV);
	assert_int_equal(v, 0xffffffff);
	assert_int_equal(pdev_write32(f->p, PDEV_BAR0, 0, 1), -ENODEV);
	assert_int_equal(pdev_reset(f->p), -ENODEV);
}

/* --- hostile servers ---------------------------------------------------- */

static int refuse(void *opaque, struct vfio_user_rx *rx, uint8_t *reply,
		  size_t *len)
{
	return -ENOTSUP;
}

static void no_answer_ends_the_link(void **state)
{
	struct vfio_user_link l = { .name = "mute",
				    .command = refuse,
				    .call_ns = 30000000 };
	struct vfio_user_call c = { .cmd = VFIO_USER_RESET };
	uint64_t t = now_ns();
	int sv[2], told = 0;

	log_set_sink(no_log, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(vfio_user_link_open(&l, sv[0]), 0);
	vfio_user_link_on_gone(&l, count, &told);
	assert_int_equal(vfio_user_do(&l, &c), -ENODEV);
	t = now_ns() - t;
	assert_true(t >= 30000000 && t < 5000000000ull);
	assert_int_equal(vfio_user_do(&l, &c), -ENODEV);
	for (int i = 0; i < 1000 && !__atomic_load_n(&told, __ATOMIC_ACQUIRE);
	     i++)
		usleep(1000);
	assert_int_equal(told, 1);
	vfio_user_link_close(&l);
	close(sv[1]);
}

/* A server that reads nothing: a posted write cannot block for ever. */
static void no_reader_ends_the_link(void **state)
{
	struct vfio_user_link l = { .name = "deaf",
				    .command = refuse,
				    .call_ns = 30000000 };
	struct vfio_user_region_rw rw = { 0, 0, 4 };
	struct vfio_user_call c = { .cmd = VFIO_USER_REGION_WRITE,
				    .posted = true,
				    .head = &rw,
				    .head_len = sizeof(rw) };
	int sv[2], ret, n = 0;

	log_set_sink(no_log, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(vfio_user_link_open(&l, sv[0]), 0);
	while ((ret = vfio_user_do(&l, &c)) == 0)
		assert_true(++n < 1000000);
	assert_int_equal(ret, -ENODEV);
	vfio_user_link_close(&l);
	close(sv[1]);
}

/* What a good server says to a client that opens, message by message. */
struct script {
	uint8_t bytes[4096];
	size_t len, at[64], n;
};

static bool read_all(int fd, void *buf, size_t len, int wait_ms)
{
	for (size_t got = 0; got < len;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, wait_ms) <= 0)
			return false;
		n = read(fd, (uint8_t *)buf + got, len - got);
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

static bool read_msg(int fd, struct vfio_user_hdr *h, uint8_t *body, int ms)
{
	return read_all(fd, h, sizeof(*h), ms) && h->size >= sizeof(*h) &&
	       read_all(fd, body, h->size - sizeof(*h), ms);
}

struct relay {
	int client, server;
	struct script *s;
};

/* Between client and server, writing down what the server says. */
static void *record(void *arg)
{
	struct relay *r = arg;
	struct vfio_user_hdr h;
	uint8_t body[4096];

	while (read_msg(r->client, &h, body, -1)) {
		sock_send(r->server, &h, sizeof(h), NULL, 0);
		sock_send(r->server, body, h.size - sizeof(h), NULL, 0);
		if (!read_msg(r->server, &h, body, -1))
			break;
		r->s->at[r->s->n++] = r->s->len;
		memcpy(r->s->bytes + r->s->len, &h, sizeof(h));
		memcpy(r->s->bytes + r->s->len + 16, body, h.size - 16);
		r->s->len += h.size;
		sock_send(r->client, &h, sizeof(h), NULL, 0);
		sock_send(r->client, body, h.size - sizeof(h), NULL, 0);
	}
	close(r->client);
	close(r->server);
	return NULL;
}

static void make_script(struct script *s)
{
	struct relay r = { .s = s };
	struct fix f = { 0 };
	struct pdev *p;
	pthread_t t;
	int a[2], b[2];

	memset(s, 0, sizeof(*s));
	loop_create(&f.l);
	testdev_open(&f.d, f.l, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
	r.client = a[1];
	r.server = b[0];
	assert_int_equal(vfu_server_adopt(f.d.s, b[1]), 0);
	pthread_create(&f.thread, NULL, run_loop, f.l);
	pthread_create(&t, NULL, record, &r);
	assert_int_equal(vfio_user_open_fd(&p, a[0], "recorded", NULL), 0);
	/* Its file got lost on the way: not mapped, and no harm done. */
	assert_false(p->region[PDEV_BAR0].flags & PDEV_MMAP);
	pdev_close(p);
	pthread_join(t, NULL);
	end_server(&f);
	loop_destroy(f.l);
	assert_int_equal(s->n, 1 + 1 + PDEV_NREGIONS + PDEV_NIRQS + 1);
}

struct replay {
	int fd;
	const struct script *s;
	size_t len; /* cut here */
	int send_fd;
};

static void *play(void *arg)
{
	struct replay *r = arg;
	struct vfio_user_hdr h;
	uint8_t body[4096];

	for (size_t i = 0; i < r->s->n && read_msg(r->fd, &h, body, 20); i++) {
		size_t at = r->s->at[i];
		size_t end = i + 1 < r->s->n ? r->s->at[i + 1] : r->s->len;
		size_t n = MIN(end, r->len) - MIN(at, r->len);

		if (n)
			sock_send(r->fd, r->s->bytes + at, n, &r->send_fd,
				  r->send_fd >= 0);
		if (n < end - at)
			break;
	}
	/* Give a client that still asks the time to be told nothing. */
	read_msg(r->fd, &h, body, 0);
	close(r->fd);
	return NULL;
}

static int open_against(const struct script *s, size_t len, int send_fd,
			struct pdev **p)
{
	struct replay r = { .s = s, .len = len, .send_fd = send_fd };
	pthread_t t;
	int sv[2], ret;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	r.fd = sv[1];
	pthread_create(&t, NULL, play, &r);
	ret = vfio_user_open_fd(p, sv[0], "hostile", NULL);
	pthread_join(t, NULL);
	return ret;
}

static void replies_cut_at_every_byte(void **state)
{
	struct script s;
	struct pdev *p;

	log_set_sink(no_log, NULL);
	make_script(&s);
	/* The last message only asks for a feature: without it all is well */
	for (size_t cut = 0; cut < s.at[s.n - 1]; cut++)
		assert_true(open_against(&s, cut, -1, &p) < 0);
	assert_int_equal(open_against(&s, s.len, -1, &p), 0);
	pdev_close(p);
}

static void replies_with_every_byte_wrong(void **state)
{
	struct script s, t;
	int fd = memfd_create("small", MFD_ALLOW_SEALING);
	unsigned int opened = 0;

	log_set_sink(no_log, NULL);
	make_script(&s);
	for (size_t i = 0; i < s.len; i++) {
		static const uint8_t flip[] = { 0xff, 0x01, 0x80 };
		struct pdev *p;

		t = s;
		t.bytes[i] ^= flip[i % 3];
		/* Descriptors where none belong do not stay open. */
		if (open_against(&t, t.len, fd, &p) < 0)
			continue;
		opened++;
		for (unsigned int r = 0; r < PDEV_NREGIONS; r++) {
			assert_false(p->region[r].flags & PDEV_MMAP);
			assert_true(p->region[r].nareas <= PDEV_AREAS_MAX);
			assert_true(p->region[r].size <= INT64_MAX);
		}
		pdev_close(p);
	}
	assert_true(opened < s.len);
	close(fd);
	for (unsigned int n = 0; n < 64; n++)
		if (fcntl((int)n, F_GETFD) >= 0)
			assert_true(n < 40);
}

static void sealed_files_only(void **state)
{
	struct script s;
	struct pdev *p;
	int open_fd = memfd_create("open", MFD_ALLOW_SEALING);
	int sealed = vfu_memfd("sealed", 4 * PAGE_SIZE);
	int small = vfu_memfd("small", 2 * PAGE_SIZE);

	log_set_sink(no_log, NULL);
	make_script(&s);
	assert_int_equal(ftruncate(open_fd, 4 * PAGE_SIZE), 0);
	assert_int_equal(open_against(&s, s.len, open_fd, &p), 0);
	assert_false(p->region[PDEV_BAR0].flags & PDEV_MMAP);
	pdev_close(p);
	assert_int_equal(open_against(&s, s.len, small, &p), 0);
	assert_false(p->region[PDEV_BAR0].flags & PDEV_MMAP);
	pdev_close(p);
	assert_int_equal(open_against(&s, s.len, sealed, &p), 0);
	assert_true(p->region[PDEV_BAR0].flags & PDEV_MMAP);
	pdev_close(p);
	close(open_fd);
	close(sealed);
	close(small);
}

/* --- a server that asks for memory -------------------------------------- */

static uint32_t ask_memory(int fd, uint16_t cmd, uint64_t addr, uint64_t count,
			   size_t data, uint8_t *body)
{
	struct {
		struct vfio_user_hdr h;
		struct vfio_user_dma_rw rw;
		uint8_t data[64];
	} m = { { .id = 9, .cmd = cmd }, { addr, count }, { 0 } };

	memset(m.data, 0x77, sizeof(m.data));
	m.h.size = (uint32_t)(32 + data);
	sock_send(fd, &m, m.h.size, NULL, 0);
	assert_true(read_msg(fd, &m.h, body, 5000));
	assert_int_equal(m.h.flags & VFIO_USER_F_TYPE, VFIO_USER_F_REPLY);
	assert_int_equal(m.h.id, 9);
	return m.h.flags & VFIO_USER_F_ERROR ? m.h.error : 0;
}

struct opener {
	int fd;
	struct pdev *p;
};

static void *open_it(void *arg)
{
	struct opener *o = arg;

	return (void *)(intptr_t)vfio_user_open_fd(&o->p, o->fd, "asked", NULL);
}

struct mapper {
	struct pdev *p;
	struct pdev_dma m;
};

static void *map_it(void *arg)
{
	struct mapper *m = arg;

	return (void *)(intptr_t)pdev_dma_map(m->p, &m->m);
}

static void nothing_but_what_was_mapped(void **state)
{
	static uint8_t ram[2 * PAGE_SIZE]
		__attribute__((aligned(4096))) = { 1, 2, 3 };
	struct mapper mp = { .m = { .iova = 0x5000,
				    .size = PAGE_SIZE,
				    .va = ram,
				    .fd = -1,
				    .prot = PDEV_READ } };
	struct opener o;
	struct script s;
	struct vfio_user_hdr h;
	uint8_t body[4096 + 64];
	pthread_t t;
	void *ret;
	int sv[2];

	log_set_sink(no_log, NULL);
	make_script(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	o.fd = sv[0];
	pthread_create(&t, NULL, open_it, &o);
	for (size_t i = 0; i < s.n; i++) {
		size_t end = i + 1 < s.n ? s.at[i + 1] : s.len;

		assert_true(read_msg(sv[1], &h, body, 5000));
		sock_send(sv[1], s.bytes + s.at[i], end - s.at[i], NULL, 0);
	}
	pthread_join(t, &ret);
	assert_null(ret);
	mp.p = o.p;
	pthread_create(&t, NULL, map_it, &mp);
	assert_true(read_msg(sv[1], &h, body, 5000));
	assert_int_equal(h.cmd, VFIO_USER_DMA_MAP);
	h = (struct vfio_user_hdr){ h.id, h.cmd, 16, VFIO_USER_F_REPLY, 0 };
	sock_send(sv[1], &h, sizeof(h), NULL, 0);
	pthread_join(t, &ret);
	assert_null(ret);

	assert_int_equal(ask_memory(sv[1], 11, 0x5000, 3, 0, body), 0);
	assert_memory_equal(body + 16, ram, 3);
	assert_int_equal(ask_memory(sv[1], 11, 0x5ffe, 2, 0, body), 0);
	assert_int_equal(ask_memory(sv[1], 11, 0x5ffe, 3, 0, body), EFAULT);
	assert_int_equal(ask_memory(sv[1], 11, 0x4fff, 2, 0, body), EFAULT);
	assert_int_equal(ask_memory(sv[1], 11, 0, 1, 0, body), EFAULT);
	assert_int_equal(ask_memory(sv[1], 11, 0x5000, 0, 0, body), EINVAL);
	assert_int_equal(ask_memory(sv[1], 11, 0x5000, ~0ull, 0, body), EINVAL);
	assert_int_equal(ask_memory(sv[1], 11, ~0ull, 2, 0, body), EFAULT);
	assert_int_equal(ask_memory(sv[1], 12, 0x5000, 8, 8, body), EFAULT);
	assert_int_equal(ask_memory(sv[1], 12, 0x5000, 9, 8, body), EINVAL);
	assert_int_equal(ask_memory(sv[1], 13, 0x5000, 8, 0, body), ENOTSUP);
	assert_int_equal(ram[0], 1); /* readable only */
	pdev_close(o.p);
	close(sv[1]);
}

static void second_client_is_told_why(void **state)
{
	struct fix *f = *state;
	struct err e = { 0 };
	struct pdev *p;

	assert_true(vfio_user_open(&p, f->path, &e) < 0);
	assert_non_null(strstr(e.text, "another client"));
	assert_non_null(strstr(e.text, f->path));
	/* Whereas one after the other is fine. */
	pdev_close(f->p);
	assert_int_equal(vfio_user_open(&f->p, f->path, &e), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(learns_the_device),
		T(registers_and_order),
		T(maps_the_servers_memory),
		T(interrupts),
		T(memory),
		T(the_log),
		T(many_threads),
		T(a_dead_server),
		T(second_client_is_told_why),
		cmocka_unit_test(no_answer_ends_the_link),
		cmocka_unit_test(no_reader_ends_the_link),
		cmocka_unit_test(replies_cut_at_every_byte),
		cmocka_unit_test(replies_with_every_byte_wrong),
		cmocka_unit_test(sealed_files_only),
		cmocka_unit_test(nothing_but_what_was_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
