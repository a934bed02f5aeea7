#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "probe/cfi.h"
#include "probe/regs.h"

#define ADDR 0x10000

/* A CIE with absolute addresses, and an FDE for 0x401000 + 0x40. */
static const uint8_t section[] = {
	0x14, 0,    0,	  0, /* CIE, 20 bytes */
	0,    0,    0,	  0,	1,    'z',  'R',  0, 1, 0x78, 16,
	1,    0x00, 0x0c, 7,	8,    0x90, 1,	  0, 0, /* cfa rsp+8, ra at cfa-8 */
	0x38, 0,    0,	  0,				/* FDE, 56 bytes */
	0x1c, 0,    0,	  0,	0x00, 0x10, 0x40, 0, 0, 0,    0,
	0,    0x40, 0,	  0,	0,    0,    0,	  0, 0, 0,    0x41,
	0x0e, 16,   0x86, 2,		    /* +1: push rbp at cfa-16 */
	0x43, 0x0d, 6,			    /* +4: cfa by rbp */
	0x50, 0x0a,			    /* +20: remember */
	0xc6, 0x0c, 7,	  8,		    /* rbp restored, cfa rsp+8 */
	0x41, 0x0b,			    /* +21: as remembered */
	0x50, 0x0f, 3,	  0x76, 0x70, 0x06, /* +37: *(rbp-16), DRAP */
	0x41, 0x07, 16,			    /* +38: no return address */
	0x41, 0x3f,			    /* +39: not understood */
	0,    0,    0,	  0,	0,    0,    0,	  0,
};

static void rows_along_a_function(void **state)
{
	struct cfi_row r;
	struct cfi c;

	assert_int_equal(cfi_open(&c, section, sizeof(section), ADDR), 0);
	assert_int_equal(c.n, 1);
	assert_null(cfi_find(&c, 0x400fff));
	assert_null(cfi_find(&c, 0x401040));
	assert_int_equal(cfi_find(&c, 0x40103f)->lo, 0x401000);

	cfi_row(&c, 0x401000, &r);
	assert_true(cfi_at_entry_sp(&r));
	assert_int_equal(r.lowest_save, -8);
	cfi_row(&c, 0x401001, &r);
	assert_false(cfi_at_entry_sp(&r));
	assert_int_equal(r.off, 16);
	assert_int_equal(r.rbp_save, -16);
	cfi_row(&c, 0x401004, &r);
	assert_int_equal(r.reg, X86_RBP);
	assert_int_equal(r.off, 16);
	cfi_row(&c, 0x401014, &r);
	assert_true(cfi_at_entry_sp(&r));
	assert_int_equal(r.rbp_save, 0);
	cfi_row(&c, 0x401015, &r);
	assert_int_equal(r.reg, X86_RBP);
	assert_int_equal(r.rbp_save, -16);
	cfi_row(&c, 0x401025, &r);
	assert_int_equal(r.kind, CFA_DEREF);
	assert_int_equal(r.reg, X86_RBP);
	assert_int_equal(r.off, -16);
	assert_false(r.outermost);
	cfi_row(&c, 0x401026, &r);
	assert_true(r.outermost);
	/* Nothing is said where something is not understood. */
	cfi_row(&c, 0x401027, &r);
	assert_int_equal(r.kind, CFA_UNKNOWN);
	cfi_row(&c, 0x500000, &r);
	assert_int_equal(r.kind, CFA_UNKNOWN);
	cfi_close(&c);
}

/* Cut anywhere, or with any byte changed, it must neither crash nor hang. */
static void hostile_bytes(void **state)
{
	struct cfi_row r;
	struct cfi c;

	for (size_t cut = 0; cut <= sizeof(section); cut++) {
		uint8_t *exact = malloc(cut + 1);

		memcpy(exact, section, cut);
		assert_int_equal(cfi_open(&c, exact, cut, ADDR), 0);
		cfi_row(&c, 0x401026, &r);
		if (cut < sizeof(section))
			assert_int_equal(c.n, 0);
		cfi_close(&c);
		free(exact);
	}
	for (size_t i = 0; i < sizeof(section); i++) {
		for (int v = 0; v < 256; v++) {
			uint8_t *b = malloc(sizeof(section));

			memcpy(b, section, sizeof(section));
			b[i] = (uint8_t)v;
			assert_int_equal(cfi_open(&c, b, sizeof(section), ADDR),
					 0);
			for (uint64_t pc = 0x401000; pc < 0x401040; pc += 7)
				cfi_row(&c, pc, &r);
			cfi_close(&c);
			free(b);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_along_a_function),
		cmocka_unit_test(hostile_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
