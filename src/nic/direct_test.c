/*
 * A VF's registers as memory that a guest writes while the NIC looks.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/util.h"
#include "nic/fixture.h"
#include "nic/nic_int.h"

#define V0 NIC_VF(0)

static struct fx *up(unsigned int direct, bool compact)
{
	struct nic_conf c = fx_conf(NIC_82576);
	struct fx *x;

	c.direct_pages = direct;
	c.compact = compact;
	x = fx_create(&c);
	fx_bring_up(x, 3);
	return x;
}

static volatile uint32_t *bar0(struct fx *x, unsigned int vf)
{
	void *p = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED,
		       nic_direct_fd(x->nic, vf), 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static void settle(struct fx *x)
{
	fx_rd(x, NIC_PF, IGB_STATUS); /* any message looks at all pages */
}

static void enable_and_tail_in_one_look(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);

	p[IGBVF_RDBAL / 4] = 0x12345fff;
	p[IGBVF_RDLEN / 4] = 1024;
	p[IGBVF_RDH / 4] = 9;
	p[IGBVF_RXDCTL / 4] = IGB_DCTL_ENABLE;
	p[IGBVF_RDT / 4] = 40;
	nic_poll(x->nic);
	settle(x);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDT), 40);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDH), 9);
	assert_int_equal(fx_rd(x, V0, IGBVF_RDBAL), 0x12345f80);
	/* What the guest reads back is what the register holds. */
	assert_int_equal(p[IGBVF_RDBAL / 4], 0x12345f80);
	assert_int_equal(p[IGBVF_RDH / 4], 9);
	/* Heads are not writable now; the page says so too. */
	p[IGBVF_RDH / 4] = 1;
	settle(x);
	assert_int_equal(p[IGBVF_RDH / 4], 9);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

static void reprogramming_unseen_disable(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);

	p[IGBVF_TDLEN / 4] = 1024;
	p[IGBVF_TXDCTL / 4] = IGB_DCTL_ENABLE;
	settle(x);
	assert_int_equal(fx_rd(x, V0, IGBVF_TXDCTL), IGB_DCTL_ENABLE);
	/* Off, other length, on: the nic sees only the last state. */
	p[IGBVF_TXDCTL / 4] = 0;
	p[IGBVF_TDLEN / 4] = 2048;
	p[IGBVF_TXDCTL / 4] = IGB_DCTL_ENABLE;
	p[IGBVF_TDT / 4] = 100; /* only fits the new length */
	settle(x);
	assert_int_equal(fx_rd(x, V0, IGBVF_TDT), 100);
	assert_int_equal(p[IGBVF_TXDCTL / 4], IGB_DCTL_ENABLE);
	/* Off stays off. */
	p[IGBVF_TXDCTL / 4] = 0;
	settle(x);
	assert_int_equal(fx_rd(x, V0, IGBVF_TXDCTL), 0);
	p[IGBVF_TDT / 4] = 7;
	settle(x);
	assert_int_equal(p[IGBVF_TDT / 4], 100); /* ignored */
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

static void page_of_a_reset_vf(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);

	p[IGBVF_TDLEN / 4] = 1024;
	p[IGBVF_TXDCTL / 4] = IGB_DCTL_ENABLE;
	p[IGBVF_TDT / 4] = 3;
	settle(x);
	p[IGBVF_CTRL / 4] = IGB_CTRL_RST | 0x1234;
	settle(x);
	assert_int_equal(p[IGBVF_CTRL / 4], 0);
	assert_int_equal(p[IGBVF_TDLEN / 4], 0);
	assert_int_equal(p[IGBVF_TXDCTL / 4], 0);
	assert_int_equal(p[IGBVF_TDT / 4], 0);
	assert_true(p[IGBVF_STATUS / 4] & IGB_STATUS_LU);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

static void compact_layout(void **state)
{
	for (unsigned int direct = 0; direct < 2; direct++) {
		struct fx *x = up(direct ? NIC_DIRECT_DEFAULT : 0, true);
		volatile uint32_t *p = bar0(x, 0);
		uint32_t q1 = IGBVF_COMPACT_STRIDE;

		fx_wr(x, V0, IGBVF_RDLEN, 1024);
		fx_wr(x, V0, IGBVF_TDLEN + IGBVF_QUEUE_STRIDE, 1024);
		fx_wr(x, V0, IGBVF_COMPACT_RDH, 4);
		fx_wr(x, V0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
		fx_wr(x, V0, IGBVF_TXDCTL + IGBVF_QUEUE_STRIDE,
		      IGB_DCTL_ENABLE);
		if (direct) {
			p[IGBVF_COMPACT_RDT / 4] = 12;
			p[(IGBVF_COMPACT_TDT + q1) / 4] = 0;
			settle(x);
			assert_int_equal(p[IGBVF_RDT / 4], 12);
			assert_int_equal(p[IGBVF_COMPACT_RDH / 4], 4);
			p[IGBVF_RDT / 4] = 13;
			settle(x);
			assert_int_equal(p[IGBVF_COMPACT_RDT / 4], 13);
		} else {
			fx_wr(x, V0, IGBVF_COMPACT_RDT, 13);
		}
		assert_int_equal(fx_rd(x, V0, IGBVF_RDT), 13);
		assert_int_equal(fx_rd(x, V0, IGBVF_COMPACT_RDT), 13);
		assert_int_equal(fx_rd(x, V0, IGBVF_RDH), 4);
		munmap((void *)p, 0x4000);
		fx_destroy(x);
	}
}

/* What the page shows of a head at the moment of its interrupt. */
static struct {
	const volatile uint32_t *head;
	uint32_t seen;
	unsigned int irqs;
} handler;

static void on_irq(void *opaque, enum nic_irq kind, unsigned int vector)
{
	handler.seen = *handler.head;
	handler.irqs++;
}

/* A driver that goes by heads looks when it is told to, and not again. */
static void heads_are_shown_before_their_interrupts(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);
	struct nic_fn *fn = &x->nic->fn[V0];
	struct nic_host_ops ops = *fn->ops;
	uint8_t to[6], from[6], frame[64];
	struct fx_ring rx, tx;

	ops.irq = on_irq;
	nic_attach(x->nic, V0, &ops, fn->opaque);
	fx_tx_ring(x, &tx, V0, 0);
	fx_rx_ring(x, &rx, V0, 0, IGB_SRRCTL_ONEBUF | 2);
	fx_wr(x, V0, IGBVF_IVAR0, (1u | IGB_IVAR_VALID) << 8 | IGB_IVAR_VALID);
	fx_wr(x, V0, IGBVF_EIAC, 3);
	fx_wr(x, V0, IGBVF_EIMS, 2);
	fx_mac(from, 0);
	fx_mac(to, 1);
	fx_frame(frame, to, from, 60);
	handler.head = &p[IGBVF_TDH / 4];
	for (uint32_t i = 1; i < 4; i++) {
		fx_send(x, &tx, frame, 60, IGB_TXD_EOP, 0);
		nic_poll(x->nic);
		assert_int_equal(handler.irqs, i);
		assert_int_equal(handler.seen, i);
	}

	/* And those of frames that come in. */
	fx_wr(x, V0, IGBVF_EIMC, 2);
	fx_wr(x, V0, IGBVF_EIMS, 1);
	handler.head = &p[IGBVF_RDH / 4];
	fx_tx_ring(x, &tx, NIC_VF(1), 0);
	fx_frame(frame, from, to, 60);
	fx_send(x, &tx, frame, 60, IGB_TXD_EOP, 0);
	nic_poll(x->nic);
	assert_int_equal(handler.irqs, 4);
	assert_int_equal(handler.seen, 1);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

/* ---- a guest on another CPU ---- */

#define ROUNDS 20000

struct poller {
	struct fx *x;
	pthread_t thread;
	_Atomic bool stop;
	unsigned int requests, orphans; /* without the reset before it */
};

/*
 * After each look, for the guest goes on as soon as its request was taken:
 * a second one may find the next reset, and its request not yet.
 */
static void judge(struct poller *p)
{
	struct nic *nic = p->x->nic;

	if (!(REG(nic, IGB_MBVFICR) & 1))
		return;
	p->requests++;
	p->orphans += !(REG(nic, IGB_VFLRE) & 1);
	REG(nic, IGB_MBVFICR) = 0;
	REG(nic, IGB_VFLRE) = 0;
}

/*
 * Goes round as the NIC's thread does.  A guest's request for a reset that
 * is seen before the reset itself would let the PF enable a VF that is
 * reset right after: a driver with a link that never receives anything.
 */
static void *poll(void *arg)
{
	struct poller *p = arg;

	while (!p->stop) {
		nic_poll(p->x->nic);
		judge(p);
		nic_direct_sync(p->x->nic, 0); /* each time at everything */
		judge(p);
	}
	return NULL;
}

static void start(struct poller *p, struct fx *x)
{
	*p = (struct poller){ .x = x };
	REG(x->nic, IGB_MBVFICR) = 0;
	REG(x->nic, IGB_VFLRE) = 0;
	assert_int_equal(pthread_create(&p->thread, NULL, poll, p), 0);
}

static void stop(struct poller *p)
{
	p->stop = true;
	pthread_join(p->thread, NULL);
}

/* Until the register holds it. */
static void until(volatile uint32_t *reg, uint32_t v)
{
	uint64_t end = now_ns() + 10000000000ull;

	while (*reg != v)
		assert_true(now_ns() < end);
}

static void request_is_never_seen_before_its_reset(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);
	struct poller poller;

	start(&poller, x);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		p[IGBVF_CTRL / 4] = IGB_CTRL_RST;
		p[IGBVF_V2PMAILBOX / 4] = IGB_V2P_REQ;
		until(&p[IGBVF_V2PMAILBOX / 4], 0);
		until(&p[IGBVF_CTRL / 4], 0);
	}
	stop(&poller);
	assert_true(poller.requests > ROUNDS / 2); /* two may be seen as one */
	assert_int_equal(poller.orphans, 0);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

/* A first tail that is lost is a receiver without buffers for good. */
static void tail_is_never_seen_before_its_enable(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);
	struct poller poller;

	p[IGBVF_RDLEN / 4] = 1024;
	start(&poller, x);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint32_t tail = 1 + i % 63;

		p[IGBVF_RXDCTL / 4] = 0;
		p[IGBVF_RDLEN / 4] =
			1024 + 127; /* shown rounded: it was seen */
		until(&p[IGBVF_RDLEN / 4], 1024);
		for (unsigned int k = 0; k < i % 64; k++)
			__builtin_ia32_pause();
		p[IGBVF_RXDCTL / 4] = IGB_DCTL_ENABLE;
		p[IGBVF_RDT / 4] = tail;
		p[IGBVF_RDLEN / 4] = 1024 + 126;
		until(&p[IGBVF_RDLEN / 4], 1024);
		assert_int_equal(p[IGBVF_RDT / 4], tail);
		assert_int_equal(p[IGBVF_RXDCTL / 4], IGB_DCTL_ENABLE);
	}
	stop(&poller);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

/*
 * A word on one queue that there is room on another: the buffers come before
 * it, whichever pair they are of.
 */
static void *poll_tails(void *arg)
{
	struct poller *p = arg;
	struct nic *nic = p->x->nic;
	const struct nic_queue *tx = &nic->tx[nic_vf_queue(nic, 0, 0)].q;
	const struct nic_queue *rx = &nic->rx[nic_vf_queue(nic, 0, 1)].q;

	while (!p->stop) {
		uint32_t was = tx->tail;

		nic_direct_sync(nic, 0);
		p->requests += tx->tail != was;
		p->orphans += tx->tail > rx->tail;
	}
	return NULL;
}

static void word_is_never_seen_before_its_buffers(void **state)
{
	struct fx *x = up(NIC_DIRECT_DEFAULT, false);
	volatile uint32_t *p = bar0(x, 0);
	uint32_t rx1 = IGBVF_QUEUE_STRIDE;
	struct poller poller = { .x = x };

	p[IGBVF_TDLEN / 4] = 0x8000 * 16 - 128;
	p[(IGBVF_RDLEN + rx1) / 4] = 0x8000 * 16 - 128;
	p[IGBVF_TXDCTL / 4] = IGB_DCTL_ENABLE;
	p[(IGBVF_RXDCTL + rx1) / 4] = IGB_DCTL_ENABLE;
	settle(x);
	assert_int_equal(
		pthread_create(&poller.thread, NULL, poll_tails, &poller), 0);
	for (unsigned int i = 1; i < ROUNDS; i++) {
		p[(IGBVF_RDT + rx1) / 4] = i;
		p[IGBVF_TDT / 4] = i;
		for (unsigned int k = 0; k < i % 64; k++)
			__builtin_ia32_pause();
	}
	stop(&poller);
	assert_true(poller.requests > 1);
	assert_int_equal(poller.orphans, 0);
	munmap((void *)p, 0x4000);
	fx_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enable_and_tail_in_one_look),
		cmocka_unit_test(reprogramming_unseen_disable),
		cmocka_unit_test(page_of_a_reset_vf),
		cmocka_unit_test(compact_layout),
		cmocka_unit_test(heads_are_shown_before_their_interrupts),
		cmocka_unit_test(request_is_never_seen_before_its_reset),
		cmocka_unit_test(tail_is_never_seen_before_its_enable),
		cmocka_unit_test(word_is_never_seen_before_its_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
