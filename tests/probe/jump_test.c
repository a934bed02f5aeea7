/*
 * Which entries and tail calls do without a breakpoint, that they count right,
 * and that all bytes come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "probe/inproc.h"

/*
 * jt_ret and jt_jmp end within the first five bytes' instructions; jt_jcc
 * branches there; jt_call cannot be moved, but its tail calls can be turned;
 * jt_two has no room at all.
 */
__asm__(".pushsection .text\n"
	".macro f name\n"
	".p2align 4\n.globl \\name\n.type \\name, @function\n\\name:\n"
	".cfi_startproc\n"
	".endm\n"
	".macro e name\n"
	".cfi_endproc\n.size \\name, . - \\name\n"
	".endm\n"
	"f jt_leaf\n xor %eax, %eax\n lea 1(%rax,%rdi,2), %rax\n ret\ne "
	"jt_leaf\n"
	"f jt_ret\n lea 3(%rdi), %rax\n ret\ne jt_ret\n"
	"f jt_jmp\n lea 1(%rdi), %rdi\n"
	" .byte 0xe9\n .long jt_leaf - . - 4\ne jt_jmp\n"
	"f jt_jcc\n test %edi, %edi\n je 1f\n lea 9(%rdi), %rax\n ret\n"
	"1: mov $77, %eax\n ret\ne jt_jcc\n"
	"f jt_call\n call jt_nothing\n test $1, %edi\n"
	" .byte 0x0f, 0x85\n .long jt_ret - . - 4\n"
	" add $5, %rdi\n .byte 0xe9\n .long jt_leaf - . - 4\ne jt_call\n"
	"f jt_two\n jmp jt_end\ne jt_two\n"
	".globl jt_end\njt_end: ret\n"
	".p2align 4\njt_nothing: ret\n"
	".popsection\n");

long jt_leaf(long), jt_ret(long), jt_jmp(long), jt_jcc(long), jt_call(long);
long jt_two(long);

static const struct {
	const char *name;
	bool jump; /* its entry */
	unsigned int turned;
} expect[] = {
	{ "jt_leaf", true, 0 }, { "jt_ret", true, 0 },	 { "jt_jmp", true, 0 },
	{ "jt_jcc", true, 0 },	{ "jt_call", false, 2 }, { "jt_two", false, 0 },
};

static unsigned int seen[EVENT_KINDS][ARRAY_SIZE(expect)];

static unsigned int number(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(expect); i++)
		if (!strcmp(name, expect[i].name))
			return i;
	fail_msg("%s", name);
	return 0;
}

static struct inproc *session;

static void sink(const struct probe_event *ev, void *opaque)
{
	const struct engine *en = inproc_engine(session);

	seen[ev->kind][number(engine_func(en, ev->func)->name)]++;
}

static long work(void)
{
	long sum = 0;

	for (long i = 0; i < 10; i++)
		sum = sum * 3 + jt_leaf(i) + jt_ret(i) + jt_jmp(i) +
		      jt_jcc(i % 3) + jt_call(i);
	jt_two(0);
	return sum;
}

static void begin(const struct engine_options *opt)
{
	struct err e = { 0 };

	memset(seen, 0, sizeof(seen));
	if (inproc_prepare(&session, "jt_*", opt, true, sink, NULL, &e) < 0 ||
	    inproc_arm(session, &e) < 0)
		fail_msg("%s", e.text);
}

static void what_needs_no_breakpoint(void **state)
{
	const struct engine_options opt = { .entry = true, .exit = true };
	const struct engine *en;

	begin(&opt);
	en = inproc_engine(session);
	assert_int_equal(engine_nfuncs(en), ARRAY_SIZE(expect));
	for (unsigned int i = 0; i < engine_nfuncs(en); i++) {
		const struct engine_func *f = engine_func(en, i);
		unsigned int at = number(f->name), turned = 0;

		for (size_t k = 0; f->turned && k < f->fn->nsite; k++)
			turned += f->turned[k];
		if (f->jump != expect[at].jump || turned != expect[at].turned)
			fail_msg("%s: jump %d, %u turned", f->name, f->jump,
				 turned);
	}
	inproc_stop(session);
}

static void check(unsigned int kind, const unsigned int *n)
{
	const struct engine *en = inproc_engine(session);

	for (unsigned int i = 0; i < ARRAY_SIZE(expect); i++) {
		unsigned int func = 0;
		uint64_t got;

		while (number(engine_func(en, func)->name) != i)
			func++;
		got = seen[kind][i] + engine_count(en, func, kind);
		if (got != n[i])
			fail_msg("%s, kind %u: %lu, not %u", expect[i].name,
				 kind, got, n[i]);
	}
}

/* In the order of expect[]; jt_call goes to jt_ret five times of ten. */
static void all_is_counted(void **state)
{
	static const unsigned int ends[] = { 25, 15, 10, 10, 10, 1 },
				  jumps[] = { 0, 0, 10, 0, 10, 1 };
	struct engine_options opt = { .entry = true, .exit = true };
	uint8_t before[256], *text = (uint8_t *)jt_leaf;
	long sum = work();

	memcpy(before, text, sizeof(before));
	for (int way = 0; way < 4; way++) {
		opt.count_only = way & 1;
		opt.jump = way & 2;
		begin(&opt);
		assert_true(memcmp(before, text, sizeof(before)));
		assert_int_equal(work(), sum);
		/* Twice: the fast path knows all callers now. */
		assert_int_equal(work(), sum);
		inproc_stop(session);
		assert_memory_equal(before, text, sizeof(before));
		for (unsigned int k = 0; k < EVENT_KINDS; k++) {
			unsigned int n[ARRAY_SIZE(expect)] = { 0 };

			for (unsigned int i = 0; i < ARRAY_SIZE(n); i++)
				n[i] = k == EVENT_JUMP
					       ? (opt.jump ? 2 * jumps[i] : 0)
				       : k == EVENT_ABANDONED ? 0
							      : 2 * ends[i];
			check(k, n);
		}
	}
	assert_int_equal(work(), sum);
}

/* Tail exits alone: no entry is seen, and nothing of it is a breakpoint. */
static void exits_without_entries(void **state)
{
	const struct engine_options opt = { .exit = true,
					    .no_latency = true,
					    .count_only = true };
	long sum = work();
	unsigned int at = 0;

	begin(&opt);
	for (int i = 0; i < 3; i++)
		assert_int_equal(work(), sum);
	inproc_stop(session);
	while (number(engine_func(inproc_engine(session), at)->name) != 4)
		at++;
	assert_int_equal(engine_count(inproc_engine(session), at, EVENT_EXIT),
			 30);
	assert_int_equal(engine_count(inproc_engine(session), at, EVENT_ENTRY),
			 0);
	assert_int_equal(engine_stats(inproc_engine(session))->lost, 0);
}

static void entries_alone(void **state)
{
	const struct engine_options opt = { .entry = true, .count_only = true };
	static const unsigned int entries[] = { 50, 30, 20, 20, 20, 2 };
	long sum = work();

	begin(&opt);
	assert_int_equal(work(), sum);
	assert_int_equal(work(), sum);
	inproc_stop(session);
	check(EVENT_ENTRY, entries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_needs_no_breakpoint),
		cmocka_unit_test(all_is_counted),
		cmocka_unit_test(exits_without_entries),
		cmocka_unit_test(entries_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
