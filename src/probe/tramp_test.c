#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "probe/cfi.h"
#include "probe/insn.h"
#include "probe/tramp.h"

#define BASE 0x7f0000001000ull

static uint8_t buf[TRAMP_SIZE];

static void classes_cover_every_size(void **state)
{
	for (uint64_t n = 0; n <= TRAMP_FRAME_MAX; n += 8) {
		int cls = tramp_class(n);
		uint32_t frame;

		assert_in_range(cls, 0, TRAMP_CLASSES - 1);
		frame = tramp_frame((unsigned int)cls);
		assert_true(frame >= n);
		assert_int_equal(frame % 16, 0);
		assert_true(frame <= n + 15 || frame <= n + n / 8);
		if (cls)
			assert_true(tramp_frame((unsigned int)cls - 1) < n);
	}
	assert_int_equal(tramp_class(TRAMP_FRAME_MAX + 1), -E2BIG);
}

static void a_way_back_is_known_and_nothing_else_is(void **state)
{
	enum tramp_form form;
	unsigned int cls, found = 0;

	for (uint64_t a = BASE - 64; a < BASE + TRAMP_CODE + 64; a++) {
		if (!tramp_is_back(BASE, a, &cls, &form))
			continue;
		found++;
		assert_int_equal(tramp_back(BASE, cls, form), a);
	}
	assert_int_equal(found, TRAMP_CLASSES * TRAMP_FORMS);
}

/*
 * Run through each trampoline's instructions with the stack depth followed:
 * unwind data must agree at each of them.
 */
static void unwind_data_agrees_with_the_code(void **state)
{
	struct cfi c;

	tramp_build(buf, BASE);
	assert_int_equal(cfi_open(&c, buf + tramp_unwind(),
				  TRAMP_SIZE - tramp_unwind(),
				  BASE + tramp_unwind()),
			 0);
	assert_int_equal(c.n, TRAMP_CLASSES * TRAMP_FORMS + 1);
	for (unsigned int cls = 0; cls < TRAMP_CLASSES; cls++) {
		for (int form = 0; form < TRAMP_FORMS; form++) {
			uint64_t a = tramp_entry(BASE, cls, form);
			uint64_t back = tramp_back(BASE, cls, form);
			/* From the CFA down to the stack pointer. */
			int64_t depth = TRAMP_HEADER + 8;
			struct cfi_row row;
			struct insn in;

			if (form != TRAMP_JUMP)
				depth += tramp_frame(cls);
			for (;;) {
				assert_int_equal(insn_decode(&in,
							     buf + (a - BASE),
							     16, a),
						 0);
				cfi_row(&c, a, &row);
				assert_int_equal(row.kind, CFA_REG);
				assert_int_equal(row.off, depth);
				assert_int_not_equal(in.stack, STACK_LOST);
				depth += in.delta;
				a += in.len;
				if (in.kind == INSN_CALL_IND)
					break;
			}
			assert_int_equal(a, back);
			assert_int_equal(depth,
					 TRAMP_HEADER + 8 + tramp_frame(cls));
		}
	}
	cfi_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_cover_every_size),
		cmocka_unit_test(a_way_back_is_known_and_nothing_else_is),
		cmocka_unit_test(unwind_data_agrees_with_the_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
