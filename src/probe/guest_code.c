/*
 * The code of the kernel that runs: where it is, and whether some symbols
 * are its own.
 *
 * A vCPU may be in a program's address space, where under page-table
 * isolation the kernel is not mapped.  So each page of code is looked up
 * once, by whichever page tables have it, and then used by where it lies in
 * RAM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/guest_priv.h"
#include "probe/insn.h"
#include "vmm/debug.h"

#define CR4_LA57  0x1000u
#define PTI_USER  0x1000ull /* bit of cr3: the program's half of the pair */
#define MSR_LSTAR 0xc0000082u

#define SAMPLE_FUNCS 600
#define SAMPLE_BYTES 512
#define CALLS_MIN    8
#define PERCENT	     97 /* of its own it is 100 */
#define BODY_MAX     4096u

static int by_va(const void *a, const void *b)
{
	const struct guest_page *x = a, *y = b;

	return x->va < y->va ? -1 : x->va > y->va;
}

const struct guest_page *guest_code_page(const struct probe_target *t,
					 uint64_t va)
{
	const struct guest_page key = { .va = ALIGN_DOWN(va, PAGE_SIZE) };

	return t->npages ? bsearch(&key, t->page, t->npages, sizeof(key), by_va)
			 : NULL;
}

/* By any vCPU's tables, and by the kernel's where it is in a program's. */
static int look_up(struct vm *vm, uint64_t va, uint64_t *gpa)
{
	for (unsigned int i = 0; i < vm_cpus(vm); i++) {
		struct kvm_sregs s;
		gpa_t at;

		if (vm_debug_get_sregs(vm, i, &s) < 0)
			continue;
		if (vm_debug_translate(vm, s.cr3, s.cr4 & CR4_LA57, va, &at) &&
		    vm_debug_translate(vm, s.cr3 & ~PTI_USER, s.cr4 & CR4_LA57,
				       va, &at))
			continue;
		*gpa = at.v;
		return 0;
	}
	return -EFAULT;
}

int guest_code_map(struct probe_target *t, uint64_t lo, uint64_t hi)
{
	size_t n = (ALIGN_UP(hi, PAGE_SIZE) - ALIGN_DOWN(lo, PAGE_SIZE)) /
		   PAGE_SIZE;
	void *p = reallocarray(t->page, t->npages + n, sizeof(*t->page));
	uint64_t va = ALIGN_DOWN(lo, PAGE_SIZE);
	size_t found = t->npages;
	int ret;

	if (!p)
		return -ENOMEM;
	t->page = p;
	vm_pause(t->vm);
	ret = vm_park(t->vm);
	for (size_t i = 0; !ret && i < n; i++, va += PAGE_SIZE) {
		struct guest_page *pg = &t->page[found];

		pg->va = va;
		if (!guest_code_page(t, va) && !look_up(t->vm, va, &pg->gpa))
			found++;
	}
	vm_resume(t->vm);
	t->npages = found;
	qsort(t->page, t->npages, sizeof(*t->page), by_va);
	return ret;
}

static int transfer(struct probe_target *t, uint64_t va, void *buf, size_t len,
		    bool put)
{
	char *p = buf;

	while (len) {
		size_t n = MIN(len, PAGE_SIZE - va % PAGE_SIZE);
		const struct guest_page *pg = guest_code_page(t, va);
		gpa_t at;
		int ret;

		if (!pg)
			return -EFAULT;
		at.v = pg->gpa + va % PAGE_SIZE;
		ret = put ? vm_debug_write_phys(t->vm, at, p, n)
			  : vm_debug_read_phys(t->vm, at, p, n);
		if (ret < 0)
			return ret;
		p += n;
		va += n;
		len -= n;
	}
	return 0;
}

int guest_code_read(struct probe_target *t, uint64_t va, void *buf, size_t len)
{
	return transfer(t, va, buf, len, false);
}

int guest_code_write(struct probe_target *t, uint64_t va, const void *buf,
		     size_t len)
{
	return transfer(t, va, (void *)buf, len, true);
}

int guest_code_fill(void *opaque, uint64_t va, void *buf, size_t len)
{
	struct probe_target *t = opaque;
	int ret = guest_code_map(t, va, va + len);

	if (ret < 0)
		return ret;
	for (size_t at = 0, n; at < len; at += n) {
		n = MIN(len - at, PAGE_SIZE - (va + at) % PAGE_SIZE);
		if (guest_code_read(t, va + at, (uint8_t *)buf + at, n) < 0)
			memset((uint8_t *)buf + at, 0xcc, n);
	}
	return 0;
}

/*
 * Of the calls in some functions, how many percent go to where a function
 * starts?  Nearly all where code and symbols belong together, and hardly any
 * where they do not.  -1: too few calls to tell.
 */
static int percent_right(const struct image *im)
{
	size_t step = im->nsym / SAMPLE_FUNCS + 1, calls = 0, right = 0;

	for (size_t i = 0; i < im->nsym; i += step) {
		const struct image_symbol *s = &im->sym[i];
		size_t avail, there, n;
		const uint8_t *p = image_code(im, s->addr, &avail);
		struct insn in;

		n = p ? MIN(MIN(avail, s->size), (uint64_t)SAMPLE_BYTES) : 0;
		for (size_t at = 0; at < n; at += in.len) {
			if (insn_decode(&in, p + at, avail - at, s->addr + at) <
				    0 ||
			    in.kind == INSN_STOP)
				break;
			/* Outside: ftrace's trampolines, other modules. */
			if (in.kind != INSN_CALL ||
			    !image_code(im, in.target, &there))
				continue;
			calls++;
			right += image_symbol_exact(im, in.target) != NULL;
		}
	}
	return calls < CALLS_MIN ? -1 : (int)(right * 100 / calls);
}

static bool address_of(const char *symbols, const char *name, uint64_t *addr)
{
	size_t n = strlen(name);

	for (const char *p = symbols; (p = strstr(p, name)); p += n) {
		const char *line = p;

		if (p == symbols || p[-1] != ' ' || (p[n] && p[n] != '\n'))
			continue;
		while (line > symbols && line[-1] != '\n')
			line--;
		*addr = strtoull(line, NULL, 16);
		return *addr != 0;
	}
	return false;
}

/*
 * How far KASLR has moved the kernel: the system call entry and the page
 * fault handler are where the processor says, whatever the symbols say.
 */
static size_t slides(struct probe_target *t, const char *symbols,
		     uint64_t slide[3])
{
	static const char *const faults[] = { "asm_exc_page_fault",
					      "page_fault" };
	uint64_t want, is, gpa;
	struct kvm_sregs s;
	uint16_t gate[8];
	size_t n = 0;
	gpa_t at;

	slide[n++] = 0;
	vm_pause(t->vm);
	if (vm_park(t->vm) < 0) {
		vm_resume(t->vm);
		return n;
	}
	if (address_of(symbols, "entry_SYSCALL_64", &want) &&
	    !vm_debug_get_msr(t->vm, 0, MSR_LSTAR, &is) && is)
		slide[n++] = is - want;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		if (!address_of(symbols, faults[i], &want) ||
		    vm_debug_get_sregs(t->vm, 0, &s) < 0 ||
		    look_up(t->vm, s.idt.base + 14 * 16, &gpa) < 0)
			continue;
		at.v = gpa;
		if (vm_debug_read_phys(t->vm, at, gate, sizeof(gate)) < 0)
			continue;
		is = (uint64_t)gate[5] << 48 | (uint64_t)gate[4] << 32 |
		     (uint64_t)gate[3] << 16 | gate[0];
		slide[n++] = is - want;
		break;
	}
	vm_resume(t->vm);
	return n;
}

static void unmap(struct probe_target *t)
{
	free(t->page);
	t->page = NULL;
	t->npages = 0;
}

int guest_code_find(struct image **out, struct probe_target *t,
		    const char *symbols, struct err *e)
{
	uint64_t slide[3];
	size_t n = slides(t, symbols, slide);
	int best = -1, ret = 0, percent;

	while (n--) {
		struct err why = { 0 };

		/* The last tried is none: its reason is the one to tell. */
		ret = image_of_kernel(out, symbols, slide[n], guest_code_fill,
				      t, n ? &why : e);
		if (ret < 0) {
			unmap(t);
			continue;
		}
		percent = percent_right(*out);
		if (percent >= PERCENT)
			return 0;
		best = MAX(best, percent);
		image_close(*out);
		*out = NULL;
		unmap(t);
	}
	if (ret < 0)
		return ret;
	if (best < 0)
		return err_set(e, -EINVAL,
			       "the symbols lead to no code: they are of "
			       "another kernel than the guest runs");
	return err_set(e, -EINVAL,
		       "the symbols are of another kernel than the guest runs: "
		       "of the calls in its code %d %% go to a function of "
		       "theirs",
		       best);
}

static bool chosen(const struct guest_probe *g, uint64_t addr)
{
	for (size_t i = 0; i < engine_nfuncs(g->en); i++)
		if (finder_inside(engine_func(g->en, (unsigned int)i)->fn,
				  addr))
			return true;
	return false;
}

/* Its last ret, if only padding follows: then where that begins, else 0. */
static uint64_t last_ret(const struct image *im, const struct image_symbol *s)
{
	size_t avail, n, ret = 0, pad = 0;
	const uint8_t *p = image_code(im, s->addr, &avail);
	struct insn in;

	if (!p || s->size < 4 || s->size > MIN(avail, (size_t)BODY_MAX))
		return 0;
	n = s->size;
	for (size_t at = 0; at < n; at += in.len) {
		if (p[at] == 0xcc)
			in = (struct insn){ .len = 1, .kind = INSN_NOP };
		else if (insn_decode(&in, p + at, n - at, s->addr + at) < 0)
			return 0;
		if (in.kind == INSN_RET && !in.pop && in.len == 1) {
			ret = at + 1;
			pad = 0;
		} else if (in.kind == INSN_NOP) {
			pad += in.len;
		} else {
			ret = 0;
		}
	}
	return ret && pad >= PROBE_TRAP_MAX ? s->addr + ret : 0;
}

int guest_code_places(struct guest_probe *g, uint64_t *swap, uint64_t *ret)
{
	const struct image *im = g->im;

	for (size_t i = 0; i < im->nsym; i++) {
		uint64_t at;

		/* A module's code may go away. */
		if (strcmp(guest_probe_module(g, im->sym[i].addr), "kernel") ||
		    (i + 1 < im->nsym &&
		     im->sym[i + 1].addr == im->sym[i].addr))
			continue;
		at = last_ret(im, &im->sym[i]);
		if (!at || chosen(g, at - 1))
			continue;
		*swap = at;
		*ret = at - 1;
		return 0;
	}
	return -ENOENT;
}
