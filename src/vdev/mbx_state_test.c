/*
 * What an exchange leaves and what moves (REQUIREMENTS A 11).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "vdev/mbx_bench.h"

/* ---- A11 ---- */

#define MESSAGES 1000000u

static void saved_state_has_one_size(void **s)
{
	uint8_t buf[2 * VDEV_MBX_SAVE_SIZE];
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];

	assert_int_equal(saved(vm, buf, sizeof(buf)), VDEV_MBX_SAVE_SIZE);
	assert_int_equal(up(vm, mac_a), 0);
	for (unsigned int i = 0; i < MESSAGES; i++) {
		if (guest_request(&vm->g,
				  REQ(.op = MBX_OP_VLAN,
				      .vid = (uint16_t)(i % 4096),
				      .add = i / 16 % 2 == 0),
				  NULL) == -ETIMEDOUT)
			fail_msg("message %u has no answer", i);
		if (i % 1000 == 0)
			assert_int_equal(saved(vm, buf, sizeof(buf)),
					 VDEV_MBX_SAVE_SIZE);
	}
	assert_int_equal(saved(vm, buf, sizeof(buf)), VDEV_MBX_SAVE_SIZE);
	assert_true(counts(vm).exchanges >= MESSAGES);
	assert_int_equal(counts(vm).timeouts, 0);
	stop(b);
}

/* ---- state moves ---- */

/* Cut in any state of an exchange, it goes on at another device. */
static void an_exchange_moves(void **s)
{
	static const char *const states[] = { "asked", "answered", "posted",
					      "direct" };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		const struct pf_event ev = { .kind = PF_EV_REQUEST };
		const struct pf_event kick = { .kind = PF_EV_KICK };
		const struct pf_verdict yes = { .ok = true,
						.mac = { 2, 0, 0, 0, 0, 0xa } };
		struct odd_port o;
		struct bench *b = start_odd(&o), *c;
		struct vm *vm = &b->vm[0], *to;
		struct err e = { 0 };

		g_write(vm, IGBVF_VMBMEM, MBX_VF_RESET);
		o.fn(o.fn_opaque, i == 2 ? &kick : &ev);
		spin(b);
		if (i == 1 || i == 3)
			o.done(o.opaque, &yes);
		if (i == 3)
			g_write(vm, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
		assert_string_equal(vdev_mbx_state_name(vm->m), states[i]);

		c = moved(vm, VDEV_MBX_ON_DEMAND);
		to = &c->vm[0];
		assert_int_equal(vdev_mbx_resume(to->m, &e), 0);
		spin(c);
		assert_int_equal(is_direct(to), i == 3);
		if (i < 2) {
			assert_true(g_read(to, IGBVF_V2PMAILBOX) &
				    IGB_V2P_PFSTS);
			assert_int_equal(g_read(to, IGBVF_VMBMEM) & 0xf, 1);
		} else if (i == 3) {
			assert_int_equal(g_read(to, IGBVF_VMBMEM), 0x80000001);
		} else {
			assert_int_equal(g_read(to, IGBVF_VMBMEM), MBX_NACK);
			g_read(to, IGBVF_V2PMAILBOX);
		}
		if (i != 3) {
			g_write(to, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
			assert_true(is_direct(to));
		}
		stop(c);
		stop(b);
	}
}

static void load_believes_nothing(void **s)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE], bad[VDEV_MBX_SAVE_SIZE];
	static const size_t at[] = { 0, 1, 2, 6, 10 };
	struct bench *b = start(1);
	struct vm *vm = &b->vm[0];
	struct wire_in in;

	assert_int_equal(up(vm, mac_a), 0);
	saved(vm, buf, sizeof(buf));
	for (size_t cut = 0; cut < sizeof(buf); cut++) {
		wire_in_init(&in, buf, cut);
		assert_int_not_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		memcpy(bad, buf, sizeof(bad));
		bad[at[i]] = 0xff;
		wire_in_init(&in, bad, sizeof(bad));
		assert_int_not_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	}
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(vdev_mbx_load(vm->m, &in, NULL), 0);
	stop(b);
}

static void status_says_it_all(void **s)
{
	struct bench *b = start(1);
	json_t *o;

	assert_int_equal(up(&b->vm[0], mac_a), 0);
	o = vdev_mbx_status(b->vm[0].m);
	assert_non_null(o);
	assert_string_equal(json_string_value(json_object_get(o, "state")),
			    "direct");
	assert_int_equal(json_integer_value(json_object_get(o, "episodes")), 4);
	json_decref(o);
	stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(saved_state_has_one_size),
		cmocka_unit_test(an_exchange_moves),
		cmocka_unit_test(load_believes_nothing),
		cmocka_unit_test(status_says_it_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
