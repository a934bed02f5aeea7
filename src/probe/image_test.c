#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "probe/finder.h"
#include "probe/image.h"

/* f: push rbp; test; jne over a tail call of g; ret.  g: lea; ret. */
static const uint8_t text[] = {
	0x55, 0x85, 0xff, 0x75, 0x06, /* f */
	0x5d, 0xe9, 0x05, 0,	0,    0,    0x5d, 0xc3,
	0xcc, 0xcc, 0xcc, 0x8d, 0x47, 0x01, 0xc3, /* g */
};

static const char symbols[] = "0000000000000000 A nothing\n"
			      "ffffffff81000000 T _stext\n"
			      "ffffffff81000000 T f\n"
			      "ffffffff81000010 t g\n"
			      "ffffffff81000010 d data\n"
			      "ffffffffc0000000 t mod_fn\t[module]\n"
			      "not a line\n"
			      "ffffffff81000014 T _etext\n";

/*
 * What kernels have and programs do not: a block that only a patched branch
 * leads to, a thunk that has two names, code elsewhere that comes back.
 */
static const uint8_t kernel_text[] = {
	[0x00] = 0x0f,
	0x1f,
	0x44,
	0,
	0,
	0xc3, /* label: nop; ret */
	[0x06] = 0x89,
	0xf8,
	0xe9,
	0x13,
	0,
	0,
	0,	       /* mov; jmp g */
	[0x20] = 0xc3, /* g */
	[0x30] = 0xe9,
	0x1b,
	0,
	0,
	0, /* thunk: jmp to 0x50 */
	[0x38] = 0x85,
	0xff,
	0xe9,
	0x21,
	0,
	0,
	0,
	0xc3, /* away: jmp to 0x60 */
	[0x50] = 0xff,
	0xe0, /* jmp *%rax */
	[0x60] = 0x31,
	0xc0,
	0xe9,
	0xd8,
	0xff,
	0xff,
	0xff, /* and back */
	[0x70] = 0xff,
	0xe0, /* pair: jmp *%rax */
	[0x78] = 0x85,
	0xff,
	0x74,
	0x0c,
	0xc3, /* pair, with a cold part: */
	[0x88] = 0x31,
	0xc0,
	0xeb,
	0xf0,
	[0x8c] = 0xe9,
	0xff,
	0xff,
	0xff,
	0x0f, /* nowhere */
};

static const char kernel_symbols[] =
	"ffffffff81000000 T _stext\n"
	"ffffffff81000000 T label\n"
	"ffffffff81000020 T g\n"
	"ffffffff81000030 T thunk\n"
	"ffffffff81000038 T away\n"
	"ffffffff81000050 T __x86_indirect_thunk_array\n"
	"ffffffff81000050 T __x86_indirect_thunk_rax\n"
	"ffffffff81000070 t pair\n"
	"ffffffff81000078 t pair\n"
	"ffffffff81000088 t pair.cold\n"
	"ffffffff8100008c t nowhere\n"
	"ffffffff81000091 T _etext\n";

static int give_kernel(void *opaque, uint64_t addr, void *buf, size_t len)
{
	assert_int_equal(len, sizeof(kernel_text));
	memcpy(buf, kernel_text, len);
	return 0;
}

static struct probe_func *sites_at(struct finder *f, uint64_t offset)
{
	struct probe_func *fn = finder_exact(f, 0xffffffff81000000ull + offset);

	assert_non_null(fn);
	assert_int_equal(finder_sites(f, fn), 0);
	assert_int_equal(fn->site[0].kind, SITE_ENTRY);
	return fn;
}

static void what_only_kernels_do(void **state)
{
	struct err e = { 0 };
	struct probe_func *fn;
	struct image *im;
	struct finder f;

	assert_int_equal(image_of_kernel(&im, kernel_symbols, 0, give_kernel,
					 NULL, &e),
			 0);
	assert_int_equal(finder_open(&f, im, &e), 0);

	fn = sites_at(&f, 0);
	assert_int_equal(fn->nsite, 3);
	assert_int_equal(fn->site[1].kind, SITE_RET);
	assert_int_equal(fn->site[2].kind, SITE_TAIL);
	/* How deep the stack is there only the run can say. */
	assert_int_equal(fn->site[2].verdict, SITE_RUNTIME);
	assert_string_equal(fn->site[2].to, "g");

	fn = sites_at(&f, 0x30);
	assert_int_equal(fn->nsite, 2);
	assert_int_equal(fn->site[1].kind, SITE_TAIL_IND);
	assert_true(fn->site[1].thunk);
	assert_int_equal(fn->site[1].ref.base, X86_RAX);

	fn = sites_at(&f, 0x38);
	assert_int_equal(fn->nsite, 2);
	assert_int_equal(fn->site[1].kind, SITE_RET);

	/* What it leads to is none of the kernel's text. */
	fn = sites_at(&f, 0x8c);
	assert_int_equal(fn->nsite, 2);
	assert_int_equal(fn->site[1].why, WHY_NOWHERE);

	/* Two statics of one name: the cold part is not the first's, which
	 * has a jump that may lead anywhere. */
	assert_int_equal(sites_at(&f, 0x70)->nsite, 2);
	assert_int_equal(sites_at(&f, 0x78)->nsite, 2);
	finder_close(&f);
	image_close(im);
}
#define SLIDE 0x2a00000ull

static uint64_t slide;

static int give(void *opaque, uint64_t addr, void *buf, size_t len)
{
	if (addr == 0xffffffffc0000000ull) {
		/* Its page, and some behind. */
		assert_in_range(len, 4096, 65536);
		memset(buf, 0xc3, len);
		return 0;
	}
	assert_int_equal(addr, 0xffffffff81000000ull + slide);
	assert_int_equal(len, sizeof(text));
	memcpy(buf, text, len);
	return 0;
}

static void a_kernel_by_its_kallsyms(void **state)
{
	struct err e = { 0 };
	struct probe_func *fn;
	struct image *im;
	struct finder f;

	assert_int_equal(image_of_kernel(&im, symbols, 0, give, NULL, &e), 0);
	assert_int_equal(image_symbol_named(im, "mod_fn")->addr,
			 0xffffffffc0000000ull);
	assert_int_equal(im->nseg, 2);
	assert_string_equal(im->seg[0].name, "kernel");
	assert_string_equal(im->seg[1].name, "module");
	assert_null(image_symbol_named(im, "data"));
	assert_int_equal(finder_open(&f, im, &e), 0);
	assert_int_equal(f.n, 3);
	fn = &f.func[0];
	assert_int_equal(fn->size, 16);
	assert_int_equal(finder_sites(&f, fn), 0);
	/* Without unwind data the depth is followed: rbp is back. */
	assert_int_equal(fn->nsite, 3);
	assert_int_equal(fn->site[0].kind, SITE_ENTRY);
	assert_int_equal(fn->site[0].step, STEP_PUSH);
	assert_int_equal(fn->site[1].kind, SITE_TAIL);
	assert_int_equal(fn->site[1].verdict, SITE_PATCH);
	assert_string_equal(fn->site[1].to, "g");
	assert_int_equal(fn->site[2].kind, SITE_RET);
	finder_close(&f);
	image_close(im);
}

/* KASLR moves the kernel, and modules are elsewhere altogether. */
static void a_kernel_that_was_moved(void **state)
{
	struct err e = { 0 };
	struct image *im;

	slide = SLIDE;
	assert_int_equal(image_of_kernel(&im, symbols, SLIDE, give, NULL, &e),
			 0);
	slide = 0;
	assert_int_equal(image_symbol_named(im, "g")->addr,
			 0xffffffff81000010ull + SLIDE);
	assert_null(image_symbol_named(im, "mod_fn"));
	assert_int_equal(im->nseg, 1);
	image_close(im);
}

static void what_is_no_kernel(void **state)
{
	static const char *const bad[] = {
		"",
		"\n\n",
		"zzz",
		"ffffffff81000000 T _stext\n",
		/* what others than root are shown */
		"0000000000000000 T _stext\n0000000000000000 T _etext\n",
		"ffffffff81000014 T _stext\nffffffff81000000 T _etext\n",
		"ffffffff81000000 T _stext\nffffffffff000000 T _etext\n",
	};
	struct image *im;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(image_of_kernel(&im, bad[i], 0, give, NULL,
						 &e),
				 -EINVAL);
		assert_non_null(strstr(e.text, "kallsyms"));
	}
}

static void files_that_are_no_programs(void **state)
{
	static const char *const bad[] = { "/dev/null", "/proc/self/maps",
					   "/etc/passwd", "/nonexistent", "/" };
	struct image *im;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };

		assert_true(image_open(&im, bad[i], &e) < 0);
		assert_non_null(strstr(e.text, bad[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_by_its_kallsyms),
		cmocka_unit_test(what_only_kernels_do),
		cmocka_unit_test(a_kernel_that_was_moved),
		cmocka_unit_test(what_is_no_kernel),
		cmocka_unit_test(files_that_are_no_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
