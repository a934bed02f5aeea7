#include "probe/guest.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "probe/finder.h"
#include "probe/image.h"
#include "vmm/debug.h"

#define STACK_SIZE 16384ul /* THREAD_SIZE of x86-64, and its alignment */

struct probe_target {
	struct vm *vm;
	struct image *im;
};

struct guest_probe {
	struct probe_target target;
	struct finder finder;
	struct engine *en;
	struct engine_thread *th[VM_CPUS_MAX];
	pthread_mutex_t lock; /* one event at a time */
	probe_sink sink;
	void *opaque;
	bool attached, armed;
};

/* Whose address space: the vCPU whose stop this thread is serving. */
static __thread unsigned int here;

static int op_read(struct probe_target *t, uint64_t addr, void *buf, size_t len)
{
	return vm_debug_read(t->vm, here, addr, buf, len);
}

static int op_write(struct probe_target *t, uint64_t addr, const void *buf,
		    size_t len)
{
	return vm_debug_write(t->vm, here, addr, buf, len);
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

static bool op_exec(struct probe_target *t, uint64_t addr)
{
	size_t avail;

	return image_code(t->im, addr, &avail) != NULL;
}

/*
 * Between functions there is padding of int3, which nothing runs into, and
 * behind some ret stands one against straight-line speculation.
 */
static int op_places(struct probe_target *t, uint64_t *swap, uint64_t *ret)
{
	const struct image *im = t->im;

	*swap = *ret = 0;
	for (size_t i = 0; i + 1 < im->nsym && !(*swap && *ret); i++) {
		const struct image_symbol *s = &im->sym[i];
		const uint8_t *p;
		size_t avail;

		p = image_code(im, s->addr, &avail);
		if (!p || s->size < 5 || s->size > avail)
			continue;
		/* A return thunk's jump, made "ret; int3; ..." at boot. */
		for (size_t k = s->size - 4; k; k--) {
			if (memcmp(p + k, "\xc3\xcc\xcc\xcc", 4) != 0)
				continue;
			*ret = s->addr + k;
			*swap = s->addr + k + 2;
			return 0;
		}
	}
	return -ENOENT;
}

static const struct probe_target_ops guest_ops = {
	.name = "guest",
	.read = op_read,
	.write = op_write,
	.patch = op_write,
	.places = op_places,
	.stack = op_stack,
	.exec = op_exec,
};

static void one_event(const struct probe_event *ev, void *opaque)
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

static int read_code(void *opaque, uint64_t addr, void *buf, size_t len)
{
	/* Page by page: a hole in the text would not be ours to mind. */
	for (size_t at = 0; at < len; at += PAGE_SIZE)
		if (op_read(opaque, addr + at, (uint8_t *)buf + at,
			    MIN(PAGE_SIZE, len - at)) < 0)
			memset((uint8_t *)buf + at, 0xcc,
			       MIN(PAGE_SIZE, len - at));
	return 0;
}

static bool usable(const struct probe_func *fn)
{
	const struct probe_site *s = fn->site;

	/* Without memory for a copy the entry must be done by hand. */
	return fn->nsite && s->kind == SITE_ENTRY &&
	       s->verdict != SITE_REFUSED && s->step != STEP_SLOT;
}

static int select_functions(struct guest_probe *g, const char *patterns,
			    struct err *e)
{
	char *copy = strdup(patterns), *save = NULL;
	int ret = copy ? 0 : -ENOMEM;
	size_t left_out = 0;

	for (char *p = ret ? NULL : strtok_r(copy, ",", &save); p && !ret;
	     p = strtok_r(NULL, ",", &save)) {
		size_t found = 0;

		for (size_t i = 0; i < g->finder.n && ret >= 0; i++) {
			struct probe_func *fn = &g->finder.func[i];

			if (fnmatch(p, fn->name, 0))
				continue;
			ret = finder_sites(&g->finder, fn);
			if (ret < 0)
				break;
			if (!usable(fn)) {
				left_out++;
				continue;
			}
			found++;
			ret = engine_add_func(g->en, fn, "kernel", 0, e);
		}
		if (ret >= 0)
			ret = found ? 0
				    : err_set(e, -ENOENT,
					      "no function '%s' in the kernel",
					      p);
	}
	if (left_out)
		log_info("%zu functions left out: their first instruction"
			 " would need memory to run in",
			 left_out);
	free(copy);
	return ret;
}

int guest_probe_start(struct guest_probe **out, struct vm *vm,
		      const char *kallsyms, const char *patterns,
		      const struct engine_options *opt, probe_sink sink,
		      void *opaque, struct err *e)
{
	struct guest_probe *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return -ENOMEM;
	pthread_mutex_init(&g->lock, NULL);
	g->target.vm = vm;
	g->sink = sink;
	g->opaque = opaque;
	here = 0;
	vm_pause(vm);
	ret = vm_park(vm);
	if (!ret)
		ret = image_of_kernel(&g->target.im, kallsyms, read_code,
				      &g->target, e);
	if (!ret)
		ret = finder_open(&g->finder, g->target.im, e);
	if (!ret)
		ret = engine_create(&g->en, &guest_ops, &g->target, opt,
				    one_event, g);
	if (!ret)
		ret = select_functions(g, patterns, e);
	for (unsigned int i = 0; !ret && i < vm_cpus(vm); i++) {
		g->th[i] = engine_thread(g->en, (int)i + 1, 0);
		if (!g->th[i])
			ret = -ENOMEM;
	}
	if (!ret) {
		ret = vm_debug_attach(vm, &debug_ops, g);
		if (ret < 0)
			err_sys(e, ret, "debugging the guest");
		g->attached = !ret;
	}
	if (!ret) {
		ret = engine_arm(g->en, e);
		g->armed = !ret;
	}
	vm_resume(vm);
	if (ret < 0) {
		guest_probe_stop(g);
		return ret;
	}
	*out = g;
	return 0;
}

void guest_probe_stop(struct guest_probe *g)
{
	bool in_flight;

	if (!g)
		return;
	here = 0;
	if (g->armed) {
		vm_pause(g->target.vm);
		vm_park(g->target.vm);
		engine_disarm(g->en, 0, &in_flight);
		vm_resume(g->target.vm);
	}
	if (g->attached)
		vm_debug_detach(g->target.vm);
	engine_destroy(g->en);
	finder_close(&g->finder);
	image_close(g->target.im);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

struct engine *guest_probe_engine(struct guest_probe *g)
{
	return g->en;
}
