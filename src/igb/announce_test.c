#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/fake_igb.h"
#include "igb/pf.h"
#include "igb/rarp.h"

static const uint8_t mac[6] = { 2, 0, 0, 0xaa, 0xbb, 0xcc };
static const uint8_t other[6] = { 2, 0, 0, 0, 0, 0xd };

static void quiet(enum log_level level, const char *line, void *opaque)
{
}

static void nobody(void *opaque, const struct pf_verdict *v)
{
}

struct bench {
	struct fake_igb d;
	struct loop *loop;
	struct pf *pf;
	struct pf_port *port;
};

static struct bench *start(uint16_t device, bool link)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct pf_conf conf = { .vfs = 7 };
	struct mbx_state st;

	log_set_sink(quiet, NULL);
	fake_igb_init(&b->d, device);
	fake_igb_set_link(&b->d, link);
	assert_int_equal(loop_create(&b->loop), 0);
	pf_policy_default(&conf.policy);
	assert_int_equal(
		pf_open(&b->pf, fake_igb_pdev(&b->d), b->loop, &conf, NULL), 0);
	assert_int_equal(pf_claim(&b->port, b->pf, 2, "test", NULL), 0);
	mbx_state_init(&st, mac);
	st.vlan[0] = 1ull << 5;
	st.vlan[0x123 / 64] |= 1ull << 0x123 % 64;
	memcpy(st.filter[st.nfilters++], other, 6);
	assert_int_equal(b->port->ops->restore(b->port, &st, nobody, NULL), 0);
	return b;
}

static void stop(struct bench *b)
{
	pf_port_close(b->port);
	pf_close(b->pf);
	loop_destroy(b->loop);
	assert_int_equal(b->d.dma.size, 0);
	free(b);
}

static void the_bytes_are_right(void **s)
{
	/* RFC 903: opcode 3, the station's own address as the target. */
	static const uint8_t want[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0xaa, 0xbb,
		0xcc, 0x80, 0x35, 0,	1,    8,    0, 6, 4, 0,	   3,
		2,    0,    0,	  0xaa, 0xbb, 0xcc, 0, 0, 0, 0,	   2,
		0,    0,    0xaa, 0xbb, 0xcc, 0,    0, 0, 0,
	};
	uint8_t buf[RARP_MAX], zero[RARP_MAX] = { 0 };

	assert_int_equal(rarp_frame(buf, mac, 0), 60);
	assert_memory_equal(buf, want, sizeof(want));
	assert_memory_equal(buf + 42, zero, 18);
	assert_int_equal(rarp_frame(buf, mac, 0x123), 64);
	assert_memory_equal(buf, want, 12);
	assert_memory_equal(buf + 12, ((uint8_t[]){ 0x81, 0, 1, 0x23 }), 4);
	assert_memory_equal(buf + 16, want + 12, 30);
}

static void every_address_in_every_vlan(void **s)
{
	static const unsigned int vid[] = { 0, 5, 0x123, 0, 5, 0x123 };
	static const uint16_t devices[] = { IGB_DEV_82576, IGB_DEV_I350 };

	for (size_t m = 0; m < ARRAY_SIZE(devices); m++) {
		struct bench *b = start(devices[m], true);
		struct pf_vf_counts c;
		uint8_t want[RARP_MAX];

		assert_int_equal(b->port->ops->announce(b->port), 0);
		assert_int_equal(b->d.ntx, 6);
		for (unsigned int i = 0; i < 6; i++) {
			size_t n =
				rarp_frame(want, i < 3 ? mac : other, vid[i]);

			assert_int_equal(b->d.tx[i].len, n);
			assert_memory_equal(b->d.tx[i].data, want, n);
			/* The last pool's: never a VF's ring. */
			assert_int_equal(b->d.tx[i].queue, 7);
		}
		pf_get_counts(b->pf, 2, &c);
		assert_int_equal(c.announced, 6);
		assert_int_equal(c.unannounced, 0);
		/* The VFs' own bits follow the VFs. */
		assert_int_equal(b->d.reg[IGB_VFTE / 4], 0x80);
		assert_int_equal(b->d.reg[IGB_VFRE / 4], 0);
		stop(b);
	}
}

static void until(struct bench *b, unsigned int frames, unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;

	while (b->d.ntx < frames && now_ns() < end)
		loop_once(b->loop, 10);
}

static void five_rounds_and_no_more(void **s)
{
	struct bench *b = start(IGB_DEV_82576, true);
	uint64_t t0 = now_ns(), ms;

	b->port->ops->announce(b->port);
	/* Whoever asks all the time is not heard all the time. */
	for (int i = 0; i < 100; i++)
		b->port->ops->announce(b->port);
	assert_int_equal(b->d.ntx, 6);
	until(b, 30, 10000);
	ms = (now_ns() - t0) / 1000000;
	assert_int_equal(b->d.ntx, 30);
	assert_true(ms >= 795);
	until(b, 31, 500);
	assert_int_equal(b->d.ntx, 30);
	stop(b);
}

static void a_cable_that_is_out(void **s)
{
	struct bench *b = start(IGB_DEV_82576, false);

	b->port->ops->announce(b->port);
	until(b, 1, 150);
	assert_int_equal(b->d.ntx, 0);
	fake_igb_set_link(&b->d, true);
	until(b, 30, 10000);
	assert_int_equal(b->d.ntx, 30);
	stop(b);
}

static void whoever_has_the_vf_next(void **s)
{
	struct bench *b = start(IGB_DEV_82576, true);
	struct mbx_state st;

	b->port->ops->announce(b->port);
	pf_port_close(b->port);
	assert_int_equal(pf_claim(&b->port, b->pf, 2, "next", NULL), 0);
	mbx_state_init(&st, other);
	assert_int_equal(b->port->ops->restore(b->port, &st, nobody, NULL), 0);
	until(b, 7, 300);
	assert_int_equal(b->d.ntx, 6);
	stop(b);
}

static void a_ring_that_is_stuck(void **s)
{
	struct bench *b = start(IGB_DEV_82576, true);
	struct pf_vf_counts c;
	struct mbx_state st;

	b->d.tx_stuck = true;
	mbx_state_init(&st, mac);
	st.vlan[0] = 0x7ffffffe;
	assert_int_equal(b->port->ops->restore(b->port, &st, nobody, NULL), 0);
	b->port->ops->announce(b->port);
	until(b, ~0u, 900);
	/* A ring is full with one descriptor left. */
	pf_get_counts(b->pf, 2, &c);
	assert_int_equal(b->d.ntx, 127);
	assert_int_equal(c.announced, 127);
	assert_true(c.unannounced > 0);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_are_right),
		cmocka_unit_test(every_address_in_every_vlan),
		cmocka_unit_test(five_rounds_and_no_more),
		cmocka_unit_test(a_cable_that_is_out),
		cmocka_unit_test(whoever_has_the_vf_next),
		cmocka_unit_test(a_ring_that_is_stuck),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
