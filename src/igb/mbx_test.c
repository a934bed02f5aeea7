#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "igb/mbx.h"

static const uint8_t mac_a[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

static int decode(struct mbx_req *r, uint32_t w0, uint32_t w1, uint32_t w2)
{
	struct mbx_msg m = { .w = { w0, w1, w2 }, .len = MBX_WORDS };

	return mbx_decode(&m, r);
}

static void words_as_igbvf_writes_them(void **s)
{
	struct mbx_req r;

	assert_int_equal(decode(&r, 0x00000001, 0, 0), 0);
	assert_int_equal(r.op, MBX_OP_RESET);
	assert_int_equal(decode(&r, 0x00000002, 0x33221102, 0x00005544), 0);
	assert_int_equal(r.op, MBX_OP_SET_MAC);
	assert_memory_equal(r.mac, mac_a, 6);
	assert_int_equal(decode(&r, 0x00020002, 0x33221102, 0x5544), 0);
	assert_int_equal(r.op, MBX_OP_MAC_ADD);
	assert_int_equal(decode(&r, 0x00010002, 0, 0), 0);
	assert_int_equal(r.op, MBX_OP_MAC_CLEAR);
	assert_int_equal(decode(&r, 0x00030003, 0x07770123, 0xf888), 0);
	assert_int_equal(r.op, MBX_OP_MULTICAST);
	assert_int_equal(r.nhashes, 3);
	assert_int_equal(r.hash[0], 0x123);
	assert_int_equal(r.hash[1], 0x777);
	assert_int_equal(r.hash[2], 0x888); /* 12 bits */
	assert_int_equal(decode(&r, 0x00010004, 100, 0), 0);
	assert_int_equal(r.op, MBX_OP_VLAN);
	assert_true(r.add);
	assert_int_equal(r.vid, 100);
	assert_int_equal(decode(&r, 0x00000004, 100, 0), 0);
	assert_false(r.add);
	assert_int_equal(decode(&r, 0x00000005, 1522, 0), 0);
	assert_int_equal(r.op, MBX_OP_LPE);
	assert_int_equal(r.frame, 1522);
	assert_int_equal(decode(&r, 0x00020006, 0, 0), 0);
	assert_int_equal(r.op, MBX_OP_PROMISC);
	assert_int_equal(r.promisc, MBX_PROMISC_MULTICAST);
}

static void nonsense_is_told_apart(void **s)
{
	struct mbx_req r;

	/* Not requests: nobody waits for an answer. */
	assert_int_equal(decode(&r, 0x80000001, 0, 0), -EALREADY);
	assert_int_equal(decode(&r, 0x40000000, 0, 0), -EALREADY);
	assert_int_equal(decode(&r, 0x20000100, 0, 0), -EALREADY);
	/* No meaning. */
	assert_int_equal(decode(&r, 0x00000000, 0, 0), -ENOENT);
	assert_int_equal(decode(&r, 0x00000007, 0, 0), -ENOENT);
	assert_int_equal(decode(&r, 0x0000ffff, 0, 0), -ENOENT);
	assert_int_equal(decode(&r, 0x00010001, 0, 0), -ENOENT);
	assert_int_equal(decode(&r, 0x00030002, 0, 0), -ENOENT);
	assert_int_equal(decode(&r, 0x00020004, 0, 0), -ENOENT);
	assert_int_equal(r.op, MBX_OP_NONE);
	/* Values. */
	assert_int_equal(decode(&r, 0x00000002, 0, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x00000002, 1, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x001f0003, 0, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x001e0003, 0, 0), 0);
	assert_int_equal(decode(&r, 0x00010004, 4096, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x00010004, 4095, 0), 0);
	assert_int_equal(decode(&r, 0x00000005, 9729, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x00000005, 67, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x00000005, 0x10000 + 1522, 0), -EINVAL);
	assert_int_equal(decode(&r, 0x00040006, 0, 0), -EINVAL);
}

static void encode_is_the_inverse(void **s)
{
	for (enum mbx_op op = MBX_OP_RESET; op < MBX_OPS; op++) {
		struct mbx_req a = { .op = op }, b;
		struct mbx_msg m;

		if (op == MBX_OP_SET_MAC || op == MBX_OP_MAC_ADD)
			memcpy(a.mac, mac_a, 6);
		if (op == MBX_OP_VLAN) {
			a.vid = 4095;
			a.add = true;
		}
		if (op == MBX_OP_LPE)
			a.frame = 9000;
		if (op == MBX_OP_PROMISC)
			a.promisc = 3;
		if (op == MBX_OP_MULTICAST) {
			a.nhashes = MBX_HASHES_MAX;
			for (uint16_t i = 0; i < MBX_HASHES_MAX; i++)
				a.hash[i] = (uint16_t)(0xfff - i);
		}
		mbx_encode(&a, &m);
		assert_in_range(m.len, 1, MBX_WORDS);
		assert_int_equal(mbx_decode(&m, &b), 0);
		assert_memory_equal(&a, &b, sizeof(a));
	}
}

static void answers_as_igb_gives_them(void **s)
{
	static const uint8_t none[6];
	struct mbx_msg req = { .w = { MBX_VF_RESET }, .len = 1 }, out;

	/* The drivers compare the whole word: no CTS. */
	mbx_answer(&req, true, true, mac_a, &out);
	assert_int_equal(out.w[0], 0x80000001);
	assert_int_equal(out.w[1], 0x33221102);
	assert_int_equal(out.w[2], 0x5544);
	assert_int_equal(out.len, 3);
	mbx_answer(&req, true, true, none, &out);
	assert_int_equal(out.w[0], 0x40000001);
	mbx_answer(&req, true, true, NULL, &out);
	assert_int_equal(out.w[0], 0x40000001);
	mbx_answer(&req, false, true, mac_a, &out);
	assert_int_equal(out.w[0], 0x40000001);

	/* The info is echoed: igbvf compares it for MAC filters. */
	req.w[0] = 0x00020002;
	mbx_answer(&req, false, true, NULL, &out);
	assert_int_equal(out.w[0], 0x60020002);
	mbx_answer(&req, true, true, NULL, &out);
	assert_int_equal(out.w[0], 0xa0020002);
	mbx_answer(&req, false, false, NULL, &out);
	assert_int_equal(out.w[0], 0x40020002);
	req.w[0] = 0xffffffff;
	mbx_answer(&req, true, false, NULL, &out);
	assert_int_equal(out.w[0], 0x9fffffff);
}

static size_t save(const struct mbx_state *st, uint8_t *buf, size_t size)
{
	struct wire_out o;

	wire_out_init(&o, buf, size);
	mbx_state_save(st, &o);
	assert_int_equal(o.err, 0);
	return wire_used(&o);
}

static void random_req(struct mbx_req *r, unsigned int *seed)
{
	struct mbx_msg m;

	do {
		m.w[0] = (uint32_t)(1 + rand_r(seed) % 6) |
			 (uint32_t)(rand_r(seed) % 4) << 16;
		for (unsigned int i = 1; i < MBX_WORDS; i++)
			m.w[i] = (uint32_t)rand_r(seed) % 5000;
	} while (mbx_decode(&m, r) != 0);
}

/* REQUIREMENTS A11 */
static void a_million_messages_take_no_room(void **s)
{
	uint8_t buf[2 * MBX_STATE_SIZE], again[2 * MBX_STATE_SIZE];
	struct mbx_state st, back;
	unsigned int seed = 1, full = 0;
	struct mbx_req r;
	size_t size;

	mbx_state_init(&st, mac_a);
	size = save(&st, buf, sizeof(buf));
	assert_int_equal(size, MBX_STATE_SIZE);
	for (unsigned int i = 0; i < 1000000; i++) {
		random_req(&r, &seed);
		full += mbx_state_apply(&st, &r) == -ENOSPC;
		if (i % 1000)
			continue;
		assert_int_equal(save(&st, buf, sizeof(buf)), size);
	}
	assert_int_not_equal(full, 0);

	struct wire_in in;
	wire_in_init(&in, buf, size);
	assert_int_equal(mbx_state_load(&back, &in), 0);
	assert_int_equal(wire_done(&in), 0);
	assert_int_equal(save(&back, again, sizeof(again)), size);
	assert_memory_equal(buf, again, size);
}

static void state_follows_requests(void **s)
{
	struct mbx_state st;
	struct mbx_req r = { .op = MBX_OP_RESET };

	mbx_state_init(&st, mac_a);
	assert_false(st.cts);
	assert_int_equal(mbx_state_apply(&st, &r), 0);
	assert_true(st.cts);
	r = (struct mbx_req){ .op = MBX_OP_VLAN, .vid = 70, .add = true };
	mbx_state_apply(&st, &r);
	assert_int_equal(st.vlan[1], 1ull << 6);
	r.vid = 71;
	mbx_state_apply(&st, &r);
	r.add = false;
	mbx_state_apply(&st, &r);
	assert_int_equal(st.vlan[1], 1ull << 6);
	r = (struct mbx_req){ .op = MBX_OP_MAC_ADD, .mac = { 2, 0, 0, 0, 0 } };
	for (uint8_t i = 0; i < MBX_FILTERS; i++) {
		r.mac[5] = i;
		assert_int_equal(mbx_state_apply(&st, &r), 0);
		assert_int_equal(mbx_state_apply(&st, &r), 0); /* twice: one */
	}
	r.mac[5] = 99;
	assert_int_equal(mbx_state_apply(&st, &r), -ENOSPC);
	r.op = MBX_OP_MAC_CLEAR;
	mbx_state_apply(&st, &r);
	assert_int_equal(st.nfilters, 0);
	r = (struct mbx_req){ .op = MBX_OP_MULTICAST,
			      .nhashes = 2,
			      .hash = { 1, 2 } };
	mbx_state_apply(&st, &r);
	r.nhashes = 1;
	mbx_state_apply(&st, &r);
	assert_int_equal(st.nhashes, 1);
	assert_int_equal(st.hash[1], 0); /* nothing of the longer list */

	mbx_state_reset(&st);
	assert_false(st.cts);
	assert_int_equal(st.nhashes, 0);
	assert_int_equal(st.vlan[1], 0);
	assert_int_equal(st.frame, MBX_FRAME_DEFAULT);
	assert_memory_equal(st.mac, mac_a, 6);
}

static void load_believes_nothing(void **s)
{
	uint8_t buf[MBX_STATE_SIZE];
	struct mbx_state st, other, before;
	struct wire_in in;
	/* offset, bad value: version, api, cts, MAC, promisc, frame, counts */
	static const uint16_t bad[][2] = {
		{ 0, 2 },  { 1, 1 },	 { 2, 2 },  { 3, 1 },
		{ 9, 4 },  { 11, 255 },	 { 12, 5 }, { 13, 31 },
		{ 14, 7 }, { 39, 0x10 }, { 41, 1 },
	};

	mbx_state_init(&st, mac_a);
	st.nhashes = 1;
	save(&st, buf, sizeof(buf));
	mbx_state_init(&other, NULL);
	before = other;

	for (size_t cut = 0; cut < sizeof(buf); cut++) {
		wire_in_init(&in, buf, cut);
		assert_int_not_equal(mbx_state_load(&other, &in), 0);
		assert_memory_equal(&other, &before, sizeof(other));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t b[MBX_STATE_SIZE];

		memcpy(b, buf, sizeof(b));
		b[bad[i][0]] = (uint8_t)bad[i][1];
		wire_in_init(&in, b, sizeof(b));
		if (mbx_state_load(&other, &in) == 0)
			fail_msg("byte %u = %u was believed", bad[i][0],
				 bad[i][1]);
		assert_memory_equal(&other, &before, sizeof(other));
	}
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(mbx_state_load(&other, &in), 0);
	assert_memory_equal(&other, &st, sizeof(st));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_as_igbvf_writes_them),
		cmocka_unit_test(nonsense_is_told_apart),
		cmocka_unit_test(encode_is_the_inverse),
		cmocka_unit_test(answers_as_igb_gives_them),
		cmocka_unit_test(a_million_messages_take_no_room),
		cmocka_unit_test(state_follows_requests),
		cmocka_unit_test(load_believes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
