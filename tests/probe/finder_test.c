/*
 * What the finder says of the assembler corpus, shape by shape.
 *
 * usage: finder_test CORPUS
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "probe/finder.h"

static const char *corpus;

/* A letter a site, in order of address: see letter_of(). */
static const struct {
	const char *name, *sites, *to;
} shapes[] = {
	{ "a_one", "ER", NULL },
	{ "a_two", "ET", "a_one" },
	{ "a_leaf", "ER", NULL },
	{ "a_call", "ER", NULL },
	{ "a_jcc", "ECR", "a_leaf" },
	{ "a_jcc_short", "ECR", "a_leaf" },
	{ "a_jrcxz", "ECR", "a_leaf" },
	/* the jump of a switch is no site; what its cases do is */
	{ "a_jt", "ERRTR", "a_leaf" },
	{ "a_jmp_mid", "ET", "a_mid" },
	{ "a_fallthrough", "Ef", NULL },
	{ "a_push_ret", "Ep", NULL },
	{ "a_ret_imm", "ER", NULL },
	{ "a_ret_imm_tail", "ET", "a_ret_imm" },
	/* the shared epilogue's return belongs to both */
	{ "a_shared_a", "ER", NULL },
	{ "a_shared_b", "ER", NULL },
	{ "a_flags", "ET", "a_flags_g" },
	{ "a_mem_rsp", "Ei", NULL },
	{ "a_self", "ER", NULL },
	/* the cold part is no function and its jump back no exit */
	{ "a_hot", "ER", NULL },
	{ "a_retthunk", "EJ", NULL },
	{ "a_thunk", "Ei", NULL },
	{ "a_keep_tail", "ET", "a_keep" },
};

static char letter_of(const struct probe_site *s)
{
	static const char letters[2][SITE_KINDS] = {
		{ 'E', 'R', 'J', 'T', 'C', 'I', 'P', 'F' },
		{ 'e', 'r', 'j', 't', 'c', 'i', 'p', 'f' },
	};

	if (s->verdict == SITE_REFUSED)
		return '-';
	return letters[s->verdict == SITE_RUNTIME][s->kind];
}

static void shapes_are_told_apart(void **state)
{
	struct err e = { 0 };
	struct image *im;
	struct finder f;

	if (image_open(&im, corpus, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(finder_open(&f, im, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		const struct image_symbol *sym =
			image_symbol_named(im, shapes[i].name);
		const char *to = NULL;
		struct probe_func *fn;
		char got[32] = "";

		assert_non_null(sym);
		fn = finder_exact(&f, sym->addr);
		assert_non_null(fn);
		assert_int_equal(finder_sites(&f, fn), 0);
		for (size_t k = 0; k < fn->nsite && k < 31; k++) {
			got[k] = letter_of(&fn->site[k]);
			if (strchr("TC", got[k]))
				to = fn->site[k].to;
		}
		if (strcmp(got, shapes[i].sites))
			fail_msg("%s: %s, not %s", shapes[i].name, got,
				 shapes[i].sites);
		if (shapes[i].to)
			assert_string_equal(to, shapes[i].to);
	}
	/* No function is made of a cold part. */
	for (size_t i = 0; i < f.n; i++)
		assert_null(strstr(f.func[i].name, ".cold"));
	finder_close(&f);
	image_close(im);
}

/* Nothing of a compiler's code is refused. */
static void all_is_covered(void **state)
{
	struct err e = { 0 };
	struct image *im;
	struct finder f;

	assert_int_equal(image_open(&im, corpus, &e), 0);
	assert_int_equal(finder_open(&f, im, &e), 0);
	for (size_t i = 0; i < f.n; i++) {
		assert_int_equal(finder_sites(&f, &f.func[i]), 0);
		for (size_t k = 0; k < f.func[i].nsite; k++)
			if (f.func[i].site[k].verdict == SITE_REFUSED)
				fail_msg("%s at 0x%lx: %s", f.func[i].name,
					 f.func[i].site[k].addr,
					 site_why(f.func[i].site[k].why));
	}
	finder_close(&f);
	image_close(im);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes_are_told_apart),
		cmocka_unit_test(all_is_covered),
	};

	if (argc < 2)
		return 2;
	corpus = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
