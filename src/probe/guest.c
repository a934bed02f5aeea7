#include "probe/guest.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/guest_priv.h"
#include "probe/insn.h"
#include "vmm/debug.h"

#define STACK_SIZE 16384ul /* THREAD_SIZE of x86-64, and its alignment */
#define KERNEL_TOP 0xffffffff80000000ull /* its text and its modules' */
#define STATE_MAX  (6ul << 20)		 /* leaves room for what is pending */
#define CALL_MAX   7			 /* bytes of a call's encoding */

/* Whose address space: the vCPU whose stop this thread is serving. */
static __thread unsigned int here;

/* ---- what the engine asks ---- */

static int op_read(struct probe_target *t, uint64_t addr, void *buf, size_t len)
{
	int ret = guest_code_read(t, addr, buf, len);

	for (unsigned int i = 0; ret && i < vm_cpus(t->vm); i++)
		ret = vm_debug_read(t->vm, (here + i) % vm_cpus(t->vm), addr,
				    buf, len);
	return ret;
}

/* Outside a stop no vCPU's address space is better than another's. */
static int op_write(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	int ret = -EFAULT;

	for (unsigned int i = 0; ret && i < vm_cpus(t->vm); i++)
		ret = vm_debug_write(t->vm, (here + i) % vm_cpus(t->vm), addr,
				     buf, len);
	return ret;
}

static unsigned int op_trap(struct probe_target *t, unsigned int room,
			    uint8_t trap[PROBE_TRAP_MAX])
{
	return vm_debug_trap(t->vm, room, trap);
}

/*
 * A task's stack is one aligned block; which task's does not matter.  Many
 * are looked at by many vCPUs, so none is any vCPU's own.
 */
static int op_stack(struct probe_target *t, int tid, uint64_t sp,
		    struct probe_extent *x)
{
	x->lo = ALIGN_DOWN(sp, STACK_SIZE);
	x->hi = x->lo + STACK_SIZE;
	x->native = false;
	return 0;
}

/* The symbols need not name all modules. */
static bool op_exec(struct probe_target *t, uint64_t addr)
{
	uint8_t byte;

	for (size_t i = 0; i < t->ntext; i++)
		if (addr >= t->text[i].lo && addr < t->text[i].hi)
			return true;
	return addr >= KERNEL_TOP && !op_read(t, addr, &byte, 1);
}

static int op_places(struct probe_target *t, uint64_t *swap, uint64_t *ret)
{
	struct guest_probe *g = t->g;
	int err = guest_code_places(g, swap, ret);

	if (err < 0)
		return err;
	g->nswap = (uint8_t)op_trap(t, PROBE_TRAP_MAX, g->swap);
	g->swap_at = *swap;
	err = guest_code_read(t, *swap, g->swap_orig, g->nswap);
	return err ? err : guest_code_write(t, *swap, g->swap, g->nswap);
}

const struct probe_target_ops guest_target_ops = {
	.name = "guest",
	.trap = op_trap,
	.read = op_read,
	.write = op_write,
	.patch = guest_code_write,
	.places = op_places,
	.stack = op_stack,
	.exec = op_exec,
};

/* ---- stops ---- */

void guest_probe_event(const struct probe_event *ev, void *opaque)
{
	struct guest_probe *g = opaque;

	pthread_mutex_lock(&g->lock);
	g->sink(ev, g->opaque);
	pthread_mutex_unlock(&g->lock);
}

static void to_regs(const struct kvm_regs *k, struct probe_regs *r)
{
	*r = (struct probe_regs){
		.gpr = { [X86_RAX] = k->rax,
			 [X86_RCX] = k->rcx,
			 [X86_RDX] = k->rdx,
			 [X86_RBX] = k->rbx,
			 [X86_RSP] = k->rsp,
			 [X86_RBP] = k->rbp,
			 [X86_RSI] = k->rsi,
			 [X86_RDI] = k->rdi,
			 [X86_R8] = k->r8,
			 [X86_R9] = k->r9,
			 [X86_R10] = k->r10,
			 [X86_R11] = k->r11,
			 [X86_R12] = k->r12,
			 [X86_R13] = k->r13,
			 [X86_R14] = k->r14,
			 [X86_R15] = k->r15 },
		.rip = k->rip,
		.rflags = k->rflags,
	};
}

static bool on_stop(void *opaque, struct vm *vm,
		    const struct vm_debug_stop *stop)
{
	struct guest_probe *g = opaque;
	struct probe_regs r;
	struct kvm_regs k;
	int ret;

	if (!stop->breakpoint || stop->cpu >= VM_CPUS_MAX ||
	    vm_debug_get_regs(vm, stop->cpu, &k) < 0)
		return false;
	here = stop->cpu;
	to_regs(&k, &r);
	r.rip = stop->pc;
	ret = engine_hit(g->en, g->th[stop->cpu], &r);
	if (ret == -ENOENT || ret == -EFAULT)
		return false; /* the guest's own */
	k.rsp = r.gpr[X86_RSP];
	k.rcx = r.gpr[X86_RCX];
	k.rip = r.rip;
	return vm_debug_set_regs(vm, stop->cpu, &k) == 0;
}

static const struct vm_debug_ops debug_ops = { .stop = on_stop };

/* ---- choosing ---- */

const char *guest_probe_module(struct guest_probe *g, uint64_t addr)
{
	for (size_t i = 0; g->im && i < g->im->nseg; i++)
		if (addr - g->im->seg[i].addr < g->im->seg[i].memsz)
			return g->im->seg[i].name;
	return "kernel";
}

const char *guest_probe_symbol(struct guest_probe *g, uint64_t addr,
			       uint64_t *offset)
{
	const struct image_symbol *s =
		g->im ? image_symbol_at(g->im, addr) : NULL;

	if (!s)
		return NULL;
	*offset = addr - s->addr;
	return s->name;
}

static void refuse(struct probe_site *s, enum site_why why)
{
	if (s->verdict == SITE_REFUSED)
		return;
	s->verdict = SITE_REFUSED;
	s->why = (uint8_t)why;
}

/*
 * What this target cannot have, beyond what the finder knows.  Where that
 * leaves an exit unseen, the return address is swapped at the entry instead,
 * which sees them all; not in a loop to the own first byte.
 */
static void fit(struct guest_probe *g, struct probe_func *fn)
{
	for (size_t i = 0; i < fn->nsite; i++) {
		struct probe_site *s = &fn->site[i];
		uint8_t trap[PROBE_TRAP_MAX];
		struct insn in;

		if (insn_decode(&in, s->bytes, sizeof(s->bytes), s->addr) < 0)
			refuse(s, WHY_BAD_CODE);
		else if (in.kind == INSN_OTHER)
			refuse(s, WHY_SLOT);
		else if (!op_trap(&g->target, MAX(s->room, in.len), trap))
			refuse(s, WHY_SHORT);
		if (s->kind != SITE_ENTRY && s->verdict == SITE_REFUSED)
			fn->swaps = !fn->self_jump;
	}
}

static bool usable(const struct probe_func *fn)
{
	return fn->nsite && fn->site->kind == SITE_ENTRY &&
	       fn->site->verdict != SITE_REFUSED;
}

static int add_match(struct guest_probe *g, struct probe_func *fn,
		     struct err *e)
{
	void *p = reallocarray(g->matched, g->nmatched + 1,
			       sizeof(struct probe_func *));
	int ret;

	if (!p)
		return -ENOMEM;
	g->matched = p;
	ret = finder_sites(&g->finder, fn);
	if (ret < 0)
		return ret;
	fit(g, fn);
	g->matched[g->nmatched++] = fn;
	return usable(fn) ? engine_add_func(g->en, fn, "kernel", 0, e) : 0;
}

/* "igbvf:igbvf_*"; a function goes by the name that was asked for. */
static int match_one(struct guest_probe *g, char *pattern, bool *seen,
		     struct err *e)
{
	char *colon = strchr(pattern, ':'), *name = pattern;
	const char *module = NULL;
	size_t found = 0;
	int ret = 0;

	if (colon) {
		*colon = '\0';
		module = pattern;
		name = colon + 1;
	}
	for (size_t i = 0; i < g->im->nsym && ret >= 0; i++) {
		const struct image_symbol *s = &g->im->sym[i];
		struct probe_func *fn;

		if (fnmatch(name, s->name, 0) ||
		    (module &&
		     fnmatch(module, guest_probe_module(g, s->addr), 0)))
			continue;
		fn = finder_exact(&g->finder, s->addr);
		if (!fn)
			continue;
		found++;
		if (seen[fn - g->finder.func])
			continue;
		seen[fn - g->finder.func] = true;
		fn->name = s->name;
		ret = add_match(g, fn, e);
	}
	if (ret < 0)
		return ret;
	return found ? 0
		     : err_set(e, -ENOENT,
			       "no function '%s%s%s' in the guest's kernel as "
			       "these symbols have it; a module's are only in "
			       "/proc/kallsyms",
			       module ? module : "", module ? ":" : "", name);
}

static int choose(struct guest_probe *g, const char *patterns, struct err *e)
{
	char *copy = strdup(patterns), *save = NULL;
	bool *seen = calloc(g->finder.n + 1, sizeof(*seen));
	int ret = copy && seen ? 0 : -ENOMEM;

	for (char *p = ret ? NULL : strtok_r(copy, ",", &save); p && !ret;
	     p = strtok_r(NULL, ",", &save))
		ret = match_one(g, p, seen, e);
	if (!ret && !g->nmatched)
		ret = err_set(e, -EINVAL, "which functions?");
	free(seen);
	free(copy);
	return ret;
}

const struct probe_func *guest_probe_matched(struct guest_probe *g, size_t i)
{
	return i < g->nmatched ? g->matched[i] : NULL;
}

/* ---- life ---- */

struct guest_probe *guest_probe_new(struct vm *vm, probe_sink sink,
				    void *opaque)
{
	struct guest_probe *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	pthread_mutex_init(&g->lock, NULL);
	g->target.vm = vm;
	g->target.g = g;
	g->sink = sink;
	g->opaque = opaque;
	return g;
}

int guest_probe_attach(struct guest_probe *g, struct err *e)
{
	struct vm *vm = g->target.vm;
	int ret;

	for (unsigned int i = 0; i < vm_cpus(vm); i++) {
		g->th[i] = engine_thread(g->en, (int)i + 1, 0);
		if (!g->th[i])
			return -ENOMEM;
	}
	ret = vm_debug_attach(vm, &debug_ops, g);
	if (ret == -EBUSY)
		return err_set(e, ret, "somebody probes this guest already");
	if (ret < 0)
		return err_sys(e, ret, "debugging the guest");
	g->attached = true;
	return 0;
}

int guest_probe_prepare(struct guest_probe **out, struct vm *vm,
			const char *symbols, const char *patterns,
			const struct engine_options *opt, probe_sink sink,
			void *opaque, struct err *e)
{
	struct guest_probe *g = guest_probe_new(vm, sink, opaque);
	struct probe_target *t;
	int ret;

	if (!g)
		return -ENOMEM;
	t = &g->target;
	ret = guest_code_find(&g->im, t, symbols, e);
	if (!ret) {
		t->text = calloc(g->im->nseg, sizeof(*t->text));
		ret = t->text ? 0 : -ENOMEM;
	}
	for (; !ret && t->ntext < g->im->nseg; t->ntext++) {
		t->text[t->ntext].lo = g->im->seg[t->ntext].addr;
		t->text[t->ntext].hi =
			g->im->seg[t->ntext].addr + g->im->seg[t->ntext].memsz;
	}
	if (!ret)
		ret = finder_open(&g->finder, g->im, e);
	if (!ret)
		ret = engine_create(&g->en, &guest_target_ops, t, opt,
				    guest_probe_event, g);
	if (!ret)
		ret = choose(g, patterns, e);
	if (ret < 0) {
		guest_probe_stop(g);
		return ret;
	}
	*out = g;
	return 0;
}

/* The breakpoint in the padding; what stands there now may be another's. */
static void remove_swap(struct guest_probe *g)
{
	uint8_t now[PROBE_TRAP_MAX];

	if (g->swap_at &&
	    !guest_code_read(&g->target, g->swap_at, now, g->nswap) &&
	    !memcmp(now, g->swap, g->nswap))
		guest_code_write(&g->target, g->swap_at, g->swap_orig,
				 g->nswap);
	g->swap_at = 0;
}

/* All of it must fit into one part of a migration's state. */
static bool could_move(const struct guest_probe *g)
{
	size_t bytes = g->target.npages * 16;

	for (size_t i = 0; i < engine_nfuncs(g->en); i++) {
		const struct probe_func *fn =
			engine_func(g->en, (unsigned int)i)->fn;

		bytes += 64 + strlen(fn->name) + fn->nrange * 16 +
			 fn->nsite * 80;
	}
	return bytes < STATE_MAX;
}

int guest_probe_arm(struct guest_probe *g, struct err *e)
{
	struct vm *vm = g->target.vm;
	int ret;

	if (!could_move(g))
		return err_set(e, -E2BIG,
			       "%zu functions: the VM could not be migrated "
			       "with so many under probe; name fewer",
			       engine_nfuncs(g->en));

	if (!engine_nfuncs(g->en))
		return err_set(e, -ENOTSUP,
			       "none of these functions can be probed; --list "
			       "says why");
	ret = guest_probe_attach(g, e);
	if (ret < 0)
		return ret;
	here = 0;
	vm_pause(vm);
	ret = vm_park(vm);
	if (!ret)
		ret = engine_arm(g->en, e);
	g->armed = !ret;
	if (ret < 0)
		remove_swap(g);
	vm_resume(vm);
	return ret;
}

int guest_probe_start(struct guest_probe **out, struct vm *vm,
		      const char *symbols, const char *patterns,
		      const struct engine_options *opt, probe_sink sink,
		      void *opaque, struct err *e)
{
	int ret = guest_probe_prepare(out, vm, symbols, patterns, opt, sink,
				      opaque, e);

	if (ret < 0)
		return ret;
	ret = guest_probe_arm(*out, e);
	if (ret < 0) {
		guest_probe_stop(*out);
		*out = NULL;
	}
	return ret;
}

void guest_probe_forget(struct guest_probe *g)
{
	if (!g)
		return;
	if (g->attached)
		vm_debug_detach(g->target.vm);
	engine_destroy(g->en);
	finder_close(&g->finder);
	image_close(g->im);
	pthread_mutex_destroy(&g->lock);
	free(g->matched);
	free(g->target.page);
	free(g->target.text);
	free(g);
}

bool guest_probe_drained(const struct guest_probe *g)
{
	return !engine_swapped(g->en);
}

bool guest_probe_disarm(struct guest_probe *g)
{
	bool in_flight, drained;

	if (!g->armed)
		return true;
	here = 0;
	vm_pause(g->target.vm);
	vm_park(g->target.vm);
	engine_disarm(g->en, 0, &in_flight);
	drained = guest_probe_drained(g);
	if (drained)
		remove_swap(g);
	vm_resume(g->target.vm);
	g->armed = false;
	return drained;
}

void guest_probe_stop(struct guest_probe *g)
{
	if (!g)
		return;
	guest_probe_disarm(g);
	if (g->swap_at) {
		vm_pause(g->target.vm);
		vm_park(g->target.vm);
		remove_swap(g);
		vm_resume(g->target.vm);
	}
	guest_probe_forget(g);
}

struct engine *guest_probe_engine(struct guest_probe *g)
{
	return g->en;
}

/* Does a call end at 'addr'?  By its bytes: e8, or ff with a call's ModRM. */
static bool behind_call(struct probe_target *t, uint64_t addr)
{
	uint8_t b[CALL_MAX];

	if (op_read(t, addr - CALL_MAX, b, CALL_MAX) < 0)
		return false;
	if (b[CALL_MAX - 5] == 0xe8)
		return true;
	for (unsigned int n = 2; n <= CALL_MAX; n++)
		if (b[CALL_MAX - n] == 0xff &&
		    (b[CALL_MAX - n + 1] & 0x38) == 0x10)
			return true;
	return false;
}

size_t guest_probe_stack(struct guest_probe *g, const struct probe_event *ev,
			 uint64_t *pc, size_t max)
{
	uint64_t word[STACK_SIZE / 8 / 4], at = ev->sp;
	uint64_t end = ALIGN_DOWN(at, STACK_SIZE) + STACK_SIZE;
	struct probe_target *t = &g->target;
	size_t n = 0, len = MIN(end - at, sizeof(word));

	if (at % 8 || op_read(t, at, word, len) < 0)
		return 0;
	for (size_t i = 0; i < len / 8 && n < max; i++)
		for (size_t k = 0; k < t->ntext; k++)
			if (word[i] >= t->text[k].lo &&
			    word[i] < t->text[k].hi &&
			    behind_call(t, word[i])) {
				pc[n++] = word[i];
				break;
			}
	return n;
}
