/*
 * Probes that move with their guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/guest_priv.h"
#include "vmm/debug.h"

#define VERSION	   1
#define TEXT_MAX   4096
#define PAGES_MAX  (1u << 20)
#define PAGE_BYTES 16
#define TEXT_BYTES 16

static void mark(const struct probe_target *t, bool *on, uint64_t at)
{
	const struct guest_page *p = guest_code_page(t, at);

	if (p)
		on[p - t->page] = true;
}

/* Only pages that matter any more: those with a breakpoint in or behind. */
static bool *pages_in_use(const struct guest_probe *g)
{
	const struct probe_target *t = &g->target;
	bool *on = calloc(t->npages + 1, sizeof(*on));

	for (size_t i = 0; on && i < engine_nfuncs(g->en); i++) {
		const struct probe_func *fn =
			engine_func(g->en, (unsigned int)i)->fn;

		for (size_t k = 0; k < fn->nsite; k++) {
			mark(t, on, fn->site[k].addr);
			mark(t, on, fn->site[k].addr + SITE_INSN_MAX);
		}
	}
	if (on) {
		mark(t, on, g->swap_at);
		mark(t, on, g->swap_at + g->nswap - 1);
	}
	return on;
}

void guest_probe_save(struct guest_probe *g, struct wire_out *o)
{
	const struct probe_target *t = &g->target;
	bool *on = pages_in_use(g);
	uint32_t n = 0;
	size_t gap;

	if (!on) {
		o->err = -ENOMEM;
		return;
	}
	put_u32(o, VERSION);
	put_u32(o, (uint32_t)t->ntext);
	for (size_t i = 0; i < t->ntext; i++) {
		put_u64(o, t->text[i].lo);
		put_u64(o, t->text[i].hi);
	}
	gap = put_gap_u32(o);
	for (size_t i = 0; i < t->npages; i++) {
		if (!on[i])
			continue;
		put_u64(o, t->page[i].va);
		put_u64(o, t->page[i].gpa);
		n++;
	}
	free(on);
	wire_patch_u32(o, gap, n);
	put_u64(o, g->swap_at);
	put_u8(o, g->nswap);
	put_bytes(o, g->swap, sizeof(g->swap));
	put_bytes(o, g->swap_orig, sizeof(g->swap_orig));
	engine_save(g->en, o);
}

static uint32_t number(struct wire_in *in, size_t each, uint32_t max)
{
	uint32_t n = get_u32(in);

	if (n > max || n > wire_left(in) / each) {
		wire_fail(in, -EBADMSG);
		return 0;
	}
	return n;
}

static int get_map(struct probe_target *t, struct wire_in *in)
{
	uint32_t n = number(in, TEXT_BYTES, TEXT_MAX);

	t->text = calloc(n + 1, sizeof(*t->text));
	for (uint32_t i = 0; t->text && i < n; i++) {
		t->text[i].lo = get_u64(in);
		t->text[i].hi = get_u64(in);
		t->ntext = i + 1;
	}
	n = number(in, PAGE_BYTES, PAGES_MAX);
	t->page = calloc(n + 1, sizeof(*t->page));
	for (uint32_t i = 0; t->page && i < n; i++) {
		t->page[i].va = get_u64(in);
		t->page[i].gpa = get_u64(in);
		t->npages = i + 1;
		/* bsearch() needs them in order. */
		if (t->page[i].va % PAGE_SIZE || t->page[i].gpa % PAGE_SIZE ||
		    (i && t->page[i].va <= t->page[i - 1].va))
			wire_fail(in, -EBADMSG);
	}
	return t->text && t->page ? in->err : -ENOMEM;
}

/* A trap that does not stop here would be the guest's death. */
static int check_traps(struct guest_probe *g, struct err *e)
{
	const struct engine *en = g->en;
	uint8_t bytes[PROBE_TRAP_MAX], trap[PROBE_TRAP_MAX];
	unsigned int n;

	for (size_t i = 0; engine_trap(en, i, bytes, &n); i++)
		if (vm_debug_trap(g->target.vm, n, trap) != n ||
		    memcmp(trap, bytes, n))
			return err_set(
				e, -ENOTSUP,
				"a probe of the guest's kernel stands on "
				"int3, which this host's KVM does not "
				"report: end the probes first");
	if (vm_debug_trap(g->target.vm, g->nswap, trap) != g->nswap ||
	    memcmp(trap, g->swap, g->nswap))
		return err_set(e, -ENOTSUP, "an unknown breakpoint");
	return 0;
}

int guest_probe_load(struct guest_probe **out, struct vm *vm,
		     struct wire_in *in, int64_t shift, probe_sink sink,
		     void *opaque, struct err *e)
{
	const struct engine_options none = { .entry = false };
	struct guest_probe *g = guest_probe_new(vm, sink, opaque);
	uint8_t now[PROBE_TRAP_MAX];
	int ret;

	if (!g)
		return -ENOMEM;
	if (get_u32(in) != VERSION)
		wire_fail(in, -EPROTO);
	ret = get_map(&g->target, in);
	g->swap_at = get_u64(in);
	g->nswap = get_u8(in);
	get_bytes(in, g->swap, sizeof(g->swap));
	get_bytes(in, g->swap_orig, sizeof(g->swap_orig));
	if (!ret && (in->err || !g->nswap || g->nswap > PROBE_TRAP_MAX ||
		     guest_code_read(&g->target, g->swap_at, now, g->nswap) ||
		     memcmp(now, g->swap, g->nswap)))
		ret = in->err ? in->err : -EBADMSG;
	if (!ret)
		ret = engine_create(&g->en, &guest_target_ops, &g->target,
				    &none, guest_probe_event, g);
	if (!ret)
		ret = engine_load(g->en, in, shift, e);
	if (!ret && !engine_swaps_to(g->en, g->swap_at))
		ret = -EBADMSG;
	if (!ret)
		ret = check_traps(g, e);
	if (!ret)
		ret = guest_probe_attach(g, e);
	if (ret < 0) {
		guest_probe_forget(g);
		return err_sys(e, ret, "probes of the guest's kernel");
	}
	g->armed = true;
	*out = g;
	return 0;
}
