/*
 * The whole of it: a nic in a thread of its own, vfio-user clients here.
 * SR-IOV makes and removes sockets; frames go through direct pages with no
 * message at all; an idle nic costs next to nothing; clients may vanish.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/desc.h"
#include "igb/regs.h"
#include "nic/serve.h"
#include "pdev/pdev.h"

#define MEM_IOVA 0x40000000ull
#define MEM_SIZE (1u << 20)
#define RING_N	 64u
#define BUFS	 0x10000u

struct host {
	char dir[64];
	struct nic *nic;
	struct uplink *uplink;
	struct loop *loop;
	struct serve *serve;
	pthread_t thread;
	int fd; /* the clients' memory */
	uint8_t *mem;
};

static void *serve_thread(void *opaque)
{
	struct host *h = opaque;

	assert_int_equal(serve_run(h->serve), 0);
	return NULL;
}

static void start(struct host *h, unsigned int direct, const char *uplink)
{
	struct nic_conf c = { .model = NIC_82576,
			      .vfs = 4,
			      .direct_pages = direct,
			      .mac = { 2, 0, 0, 0, 0, 0xff } };
	struct serve_conf sc = { .dir = h->dir };
	struct err e = { 0 };

	memset(h, 0, sizeof(*h));
	strcpy(h->dir, "/tmp/nic-serve-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	assert_int_equal(uplink_open(&h->uplink, uplink, &e), 0);
	assert_int_equal(nic_create(&h->nic, &c, &e), 0);
	assert_int_equal(loop_create(&h->loop), 0);
	sc.nic = h->nic;
	sc.uplink = h->uplink;
	sc.loop = h->loop;
	assert_int_equal(serve_create(&h->serve, &sc, &e), 0);
	h->fd = memfd_create("test", MFD_ALLOW_SEALING);
	assert_true(h->fd >= 0);
	assert_int_equal(ftruncate(h->fd, MEM_SIZE), 0);
	h->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd,
		      0);
	assert_true(h->mem != MAP_FAILED);
	pthread_create(&h->thread, NULL, serve_thread, h);
}

static void stop_now(void *opaque)
{
	serve_stop(opaque);
}

static void stop(struct host *h)
{
	loop_call(h->loop, stop_now, h->serve);
	pthread_join(h->thread, NULL);
	serve_destroy(h->serve);
	loop_destroy(h->loop);
	nic_destroy(h->nic);
	uplink_close(h->uplink);
	munmap(h->mem, MEM_SIZE);
	close(h->fd);
	assert_int_equal(rmdir(h->dir), 0); /* no socket left */
}

static struct pdev *client(struct host *h, const char *name)
{
	struct err e = { 0 };
	struct pdev *p = NULL;
	char spec[128];

	snprintf(spec, sizeof(spec), "vfio-user:%s/%s.sock", h->dir, name);
	/* The name is there a moment before it can be connected to. */
	for (int i = 0; i < 200 && pdev_open(&p, spec, &e) == -ECONNREFUSED;
	     i++)
		usleep(5000);
	if (!p)
		fail_msg("%s", e.text);
	return p;
}

static void master_on(struct pdev *p)
{
	uint16_t v = 6;

	assert_int_equal(pdev_write(p, PDEV_CONFIG, 4, &v, 2), 0);
}

static void map_memory(struct host *h, struct pdev *p)
{
	const struct pdev_dma m = { .iova = MEM_IOVA,
				    .size = MEM_SIZE,
				    .va = h->mem,
				    .fd = h->fd,
				    .prot = PDEV_READ | PDEV_WRITE };

	assert_int_equal(pdev_dma_map(p, &m), 0);
	master_on(p);
}

static uint32_t rd(struct pdev *p, uint32_t off)
{
	uint32_t v;

	assert_int_equal(pdev_read32(p, PDEV_BAR0, off, &v), 0);
	return v;
}

static void wr(struct pdev *p, uint32_t off, uint32_t v)
{
	assert_int_equal(pdev_write32(p, PDEV_BAR0, off, v), 0);
}

static void sriov(struct pdev *pf, uint16_t n)
{
	uint16_t ctl = n ? 9 : 0;

	if (n)
		assert_int_equal(pdev_write(pf, PDEV_CONFIG, 0x170, &n, 2), 0);
	assert_int_equal(pdev_write(pf, PDEV_CONFIG, 0x168, &ctl, 2), 0);
}

static bool exists(struct host *h, const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s.sock", h->dir, name);
	return stat(path, &st) == 0;
}

static void wait_for(struct host *h, const char *name, bool there)
{
	uint64_t end = now_ns() + 2000000000ull;

	while (exists(h, name) != there) {
		assert_true(now_ns() < end);
		usleep(1000);
	}
}

static void bring_up(struct pdev *pf, unsigned int vfs)
{
	wr(pf, IGB_CTRL, IGB_CTRL_SLU | IGB_CTRL_FD);
	wr(pf, IGB_MRQC, IGB_MRQC_VMDQ);
	wr(pf, IGB_VT_CTL, IGB_VT_CTL_DIS_DEFAULT | IGB_VT_CTL_REPL);
	wr(pf, IGB_DTXSWC, IGB_TXSWC_LOOPBACK);
	for (unsigned int i = 0; i < vfs; i++) {
		wr(pf, IGB_VMOLR(i), IGB_VMOLR_BAM | IGB_VMOLR_AUPE);
		wr(pf, IGB_RAL(i + 1), 2);
		wr(pf, IGB_RAH(i + 1),
		   IGB_RAH_AV | 1u << (IGB_RAH_POOL_SHIFT + i) | (i + 1) << 8);
	}
	wr(pf, IGB_VFRE, 0xff);
	wr(pf, IGB_VFTE, 0xff);
	wr(pf, IGB_RCTL, IGB_RCTL_EN | IGB_RCTL_BAM | IGB_RCTL_SECRC);
	wr(pf, IGB_TCTL, IGB_TCTL_EN);
	wr(pf, IGB_CTRL_EXT, IGB_CTRL_EXT_PFRSTD);
}

/* A NIC with two VFs that work; its PF, a client's. */
static struct pdev *start_two(struct host *h, const char *uplink)
{
	struct pdev *pf;

	start(h, NIC_DIRECT_DEFAULT, uplink);
	pf = client(h, "pf");
	master_on(pf);
	sriov(pf, 2);
	wait_for(h, "vf1", true);
	bring_up(pf, 2);
	return pf;
}

static void sockets_follow_sriov(void **state)
{
	struct host h;
	struct pdev *pf, *vf;

	start(&h, NIC_DIRECT_DEFAULT, "none");
	assert_true(exists(&h, "pf"));
	assert_false(exists(&h, "vf0"));
	pf = client(&h, "pf");
	assert_int_equal(rd(pf, IGB_RAL(0)), 2);
	sriov(pf, 2);
	wait_for(&h, "vf1", true);
	assert_true(exists(&h, "vf0"));
	assert_false(exists(&h, "vf2"));
	vf = client(&h, "vf1");
	assert_int_equal(rd(vf, IGBVF_V2PMAILBOX), IGB_V2P_RSTI);
	assert_int_equal(vf->region[PDEV_BAR0].size, 0x4000);
	assert_int_equal(vf->region[PDEV_BAR0].nareas, 2);
	assert_int_equal(vf->nirqs[PDEV_MSIX], 3);
	sriov(pf, 0); /* with a client on it */
	wait_for(&h, "vf0", false);
	assert_false(exists(&h, "vf1"));
	pdev_close(vf);
	/* And again: the next ones are new. */
	sriov(pf, 4);
	wait_for(&h, "vf3", true);
	vf = client(&h, "vf3");
	assert_int_equal(rd(vf, IGBVF_TDLEN), 0);
	pdev_close(vf);
	pdev_close(pf);
	stop(&h);
}

static volatile uint32_t *direct(struct pdev *p, uint32_t page)
{
	void *va;

	assert_int_equal(pdev_mmap(p, PDEV_BAR0, page * 0x1000ull, 0x1000, &va),
			 0);
	return va;
}

/* Rings of a VF through its direct pages; offsets within the page. */
static void rings(struct host *h, volatile uint32_t *rx, volatile uint32_t *tx,
		  uint32_t at)
{
	for (uint32_t i = 0; i < RING_N; i++) {
		union igb_desc *d = (void *)(h->mem + at);

		igb_rxd_fill(&d[i], MEM_IOVA + at + BUFS + i * 2048, 0);
	}
	rx[0x800 / 4] = (uint32_t)MEM_IOVA + at;
	rx[0x808 / 4] = RING_N * IGB_DESC_SIZE;
	rx[0x80c / 4] = IGB_SRRCTL_ONEBUF | 2;
	rx[0x828 / 4] = IGB_DCTL_ENABLE;
	rx[0x818 / 4] = RING_N - 1;
	tx[0x800 / 4] = (uint32_t)MEM_IOVA + at + 0x2000;
	tx[0x808 / 4] = RING_N * IGB_DESC_SIZE;
	tx[0x828 / 4] = IGB_DCTL_ENABLE;
}

static void wait_desc(volatile uint32_t *word, uint32_t bit)
{
	uint64_t end = now_ns() + 5000000000ull;

	while (!(__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit))
		assert_true(now_ns() < end);
}

static void frames_without_a_message(void **state)
{
	volatile uint32_t *rx0, *tx0, *rx1, *tx1;
	struct nic_counts before, after;
	union igb_desc *txd, *rxd;
	struct pdev *pf, *a, *b;
	struct pollfd pfd = { .events = POLLIN };
	struct host h;
	uint8_t *frame;
	int fds[3] = { -1, -1, -1 };

	pf = start_two(&h, "none");
	a = client(&h, "vf0");
	b = client(&h, "vf1");
	map_memory(&h, a);
	map_memory(&h, b);
	rx0 = direct(a, 2);
	tx0 = direct(a, 3);
	rx1 = direct(b, 2);
	tx1 = direct(b, 3);
	fds[1] = pfd.fd = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(pdev_irq_set(b, PDEV_MSIX, 0, 3, fds), 0);
	wr(b, IGBVF_IVAR0, 0x8081); /* as igbvf: RX on vector 1 */
	wr(b, IGBVF_EIMS, 7);
	rings(&h, rx0, tx0, 0);
	rings(&h, rx1, tx1, 0x40000);

	txd = (void *)(h.mem + 0x2000);
	rxd = (void *)(h.mem + 0x40000);
	frame = h.mem + 0x3000;
	memset(frame, 0, 64);
	memcpy(frame, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5", 14);
	usleep(5000);
	nic_get_counts(h.nic, &before);
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t k = i % RING_N;

		memcpy(frame + 20, &i, 4);
		igb_txd_fill(&txd[k], MEM_IOVA + 0x3000, 64,
			     IGB_TXD_EOP | IGB_TXD_RS);
		__atomic_store_n(&tx0[0x818 / 4], (k + 1) % RING_N,
				 __ATOMIC_RELEASE);
		wait_desc(&rxd[k].dw[2], IGB_RXD_DD);
		wait_desc(&txd[k].dw[3], IGB_TXD_DD);
		assert_memory_equal(h.mem + 0x40000 + BUFS + k * 2048, frame,
				    64);
		igb_rxd_fill(&rxd[k], MEM_IOVA + 0x40000 + BUFS + k * 2048, 0);
		__atomic_store_n(&rx1[0x818 / 4], k, __ATOMIC_RELEASE);
	}
	nic_get_counts(h.nic, &after);
	assert_int_equal(after.messages, before.messages);
	assert_true(after.rx_frames - before.rx_frames == 1000);
	assert_int_equal(poll(&pfd, 1, 2000), 1);
	assert_int_equal(rx1[0x810 / 4], 1000 % RING_N);
	assert_int_equal(tx0[0x810 / 4], 1000 % RING_N);

	/* The receiver's process dies; the sender goes on. */
	pdev_close(b);
	igb_txd_fill(&txd[1000 % RING_N], MEM_IOVA + 0x3000, 64,
		     IGB_TXD_EOP | IGB_TXD_RS);
	tx0[0x818 / 4] = 1001 % RING_N;
	wait_desc(&txd[1000 % RING_N].dw[3], IGB_TXD_DD);
	/* The next one finds a reset VF, not the last one's rings. */
	b = client(&h, "vf1");
	assert_int_equal(rd(b, IGBVF_RXDCTL) & IGB_DCTL_ENABLE, 0);
	assert_int_equal(rd(b, IGBVF_RDBAL), 0);
	assert_int_equal(rd(pf, IGB_VFLRE), 2);
	pdev_close(b);
	close(pfd.fd);
	pdev_close(a);
	pdev_close(pf);
	stop(&h);
}

/*
 * Guests on threads of their own, tails written while the NIC looks: a
 * sender that never has more under way than the receiver has buffers loses
 * nothing, though the ring drops at once.
 */
#define STRESS	200000u
#define CREDITS 48u

struct stress {
	struct host *h;
	volatile uint32_t *rx, *tx;
	_Atomic uint32_t taken;
	uint32_t wrong;
};

static void *stress_receive(void *opaque)
{
	struct stress *s = opaque;
	union igb_desc *ring = (void *)(s->h->mem + 0x40000);
	uint64_t end = now_ns() + 60000000000ull;

	for (uint32_t i = 0; i < STRESS; i++) {
		union igb_desc *d = &ring[i % RING_N];
		uint8_t *buf = s->h->mem + 0x40000 + BUFS + i % RING_N * 2048;

		while (!(__atomic_load_n(&d->dw[2], __ATOMIC_ACQUIRE) &
			 IGB_RXD_DD))
			if (sched_yield(), now_ns() > end)
				return NULL;
		s->wrong += memcmp(buf + 20, &i, 4) != 0;
		igb_rxd_fill(d, MEM_IOVA + 0x40000 + BUFS + i % RING_N * 2048,
			     0);
		__atomic_store_n(&s->rx[0x818 / 4], i % RING_N,
				 __ATOMIC_RELEASE);
		s->taken = i + 1;
	}
	return NULL;
}

static void stress_send(struct stress *s)
{
	union igb_desc *ring = (void *)(s->h->mem + 0x2000);
	uint64_t end = now_ns() + 60000000000ull;

	for (uint32_t i = 0; i < STRESS; i++) {
		union igb_desc *d = &ring[i % RING_N];
		uint8_t *buf = s->h->mem + BUFS + i % RING_N * 2048;

		while (i - s->taken >= CREDITS)
			if (sched_yield(), now_ns() > end)
				return;
		memcpy(buf, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5", 14);
		memcpy(buf + 20, &i, 4);
		igb_txd_fill(d, MEM_IOVA + BUFS + i % RING_N * 2048, 64,
			     IGB_TXD_EOP | IGB_TXD_RS);
		__atomic_store_n(&s->tx[0x818 / 4], (i + 1) % RING_N,
				 __ATOMIC_RELEASE);
	}
}

static void guests_in_parallel_lose_nothing(void **state)
{
	struct stress s = { .taken = 0 };
	struct pdev *pf, *a, *b;
	struct nic_counts c;
	struct host h;
	pthread_t t;

	pf = start_two(&h, "none");
	wr(pf, IGB_QDE, 0xffff);
	a = client(&h, "vf0");
	b = client(&h, "vf1");
	map_memory(&h, a);
	map_memory(&h, b);
	s.h = &h;
	s.rx = direct(b, 2);
	s.tx = direct(a, 3);
	rings(&h, direct(a, 2), s.tx, 0);
	rings(&h, s.rx, direct(b, 3), 0x40000);
	usleep(10000);
	pthread_create(&t, NULL, stress_receive, &s);
	stress_send(&s);
	pthread_join(t, NULL);
	nic_get_counts(h.nic, &c);
	assert_int_equal(s.taken, STRESS);
	assert_int_equal(s.wrong, 0);
	assert_int_equal(c.no_buffer, 0);
	assert_int_equal(c.rx_frames, STRESS);
	pdev_close(b);
	pdev_close(a);
	pdev_close(pf);
	stop(&h);
}

static uint64_t cpu_ns(pthread_t t)
{
	struct timespec ts;
	clockid_t id;

	assert_int_equal(pthread_getcpuclockid(t, &id), 0);
	assert_int_equal(clock_gettime(id, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void idle_costs_little(void **state)
{
	struct pdev *pf, *a;
	struct host h;
	uint64_t t0, c0, share;

	start(&h, NIC_DIRECT_DEFAULT, "none");
	pf = client(&h, "pf");
	sriov(pf, 4);
	wait_for(&h, "vf3", true);
	a = client(&h, "vf0");
	usleep(100000);
	c0 = cpu_ns(h.thread);
	t0 = now_ns();
	usleep(1000000);
	share = (cpu_ns(h.thread) - c0) * 10000 / (now_ns() - t0);
	print_message("idle: %llu.%02llu %% of a CPU\n",
		      (unsigned long long)share / 100,
		      (unsigned long long)share % 100);
	/* The figure is the benchmark's; here only that it sleeps. */
	assert_true(share < 1000);

	/* Without clients it does not even wake up. */
	pdev_close(a);
	pdev_close(pf);
	usleep(50000);
	c0 = cpu_ns(h.thread);
	usleep(200000);
	assert_true(cpu_ns(h.thread) - c0 < 200000);
	stop(&h);
}

static void two_nics_on_a_wire(void **state)
{
	struct host h[2];
	struct pdev *pf[2], *vf[2];
	volatile uint32_t *rx[2], *tx[2];
	char spec[64] = "unix:/tmp/nic-wire-XXXXXX";
	union igb_desc *txd, *rxd;
	uint8_t *frame;
	int fd = mkstemp(spec + 5);

	close(fd);
	unlink(spec + 5);
	for (int i = 0; i < 2; i++) {
		pf[i] = start_two(&h[i], spec);
		vf[i] = client(&h[i], i ? "vf1" : "vf0");
		map_memory(&h[i], vf[i]);
		rx[i] = direct(vf[i], 2);
		tx[i] = direct(vf[i], 3);
		rings(&h[i], rx[i], tx[i], 0);
	}
	/* VF 0's MAC on one side, VF 1's on the other; not both here. */
	wr(pf[0], IGB_RAH(2), 0);
	for (int i = 0; i < 2; i++) {
		uint64_t end = now_ns() + 5000000000ull;

		while (!(rd(pf[i], IGB_STATUS) & IGB_STATUS_LU))
			assert_true(now_ns() < end);
	}
	txd = (void *)(h[0].mem + 0x2000);
	rxd = (void *)h[1].mem;
	frame = h[0].mem + 0x3000;
	memset(frame, 0x5a, 1500);
	memcpy(frame, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5", 14);
	for (uint32_t i = 0; i < 50; i++) {
		igb_txd_fill(&txd[i], MEM_IOVA + 0x3000, (uint16_t)(100 + i),
			     IGB_TXD_EOP | IGB_TXD_RS);
		tx[0][0x818 / 4] = i + 1;
		wait_desc(&rxd[i].dw[2], IGB_RXD_DD);
		assert_int_equal(igb_rxd_len(&rxd[i]), 100 + i);
		assert_int_equal(rxd[i].dw[2] & IGB_RXD_LB, 0);
	}
	for (int i = 0; i < 2; i++) {
		pdev_close(vf[i]);
		pdev_close(pf[i]);
		stop(&h[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sockets_follow_sriov),
		cmocka_unit_test(frames_without_a_message),
		cmocka_unit_test(guests_in_parallel_lose_nothing),
		cmocka_unit_test(idle_costs_little),
		cmocka_unit_test(two_nics_on_a_wire),
	};

	log_set_level(LOG_WARN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
