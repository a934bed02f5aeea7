/*
 * The CPU the guest sees: what KVM supports here, with our topology.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/fields.h"

#define ENTRIES_MAX 256

static struct kvm_cpuid2 *supported(int kvm)
{
	struct kvm_cpuid2 *t;

	t = calloc(1, sizeof(*t) + ENTRIES_MAX * sizeof(t->entries[0]));
	if (!t)
		return NULL;
	t->nent = ENTRIES_MAX;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, t) < 0) {
		free(t);
		return NULL;
	}
	return t;
}

/* One thread a core, one package: as the MADT says, in the CPU's words. */
static void topology(struct kvm_cpuid_entry2 *c, unsigned int id,
		     unsigned int ncpus)
{
	unsigned int bits = 0;

	while ((1u << bits) < ncpus)
		bits++;
	switch (c->function) {
	case 1:
		c->ebx = (c->ebx & 0xffff) | (1u << bits) << 16 | id << 24;
		c->ecx |= 1u << 31; /* a hypervisor is present */
		if (ncpus > 1)
			c->edx |= 1u << 28;
		else
			c->edx &= ~(1u << 28);
		break;
	case 4:
		/* Threads that share the cache; cores in the package. */
		c->eax &= 0x3fff;
		if (c->eax & 0x1f) {
			c->eax |= ((1u << bits) - 1) << 26;
			if ((c->eax >> 5 & 7) == 3)
				c->eax |= ((1u << bits) - 1) << 14;
		}
		break;
	case 0xb:
	case 0x1f:
		c->eax = c->index == 1 ? bits : 0;
		c->ebx = c->index == 1 ? ncpus : c->index == 0;
		c->ecx = c->index | (c->index < 2 ? (c->index + 1) << 8 : 0);
		c->edx = id;
		break;
	case 0x80000008:
		/* AMD: number of threads, and bits of the id that name them. */
		c->ecx = (c->ecx & ~0xf0ffu) | bits << 12 | (ncpus - 1);
		break;
	case 0x8000001e:
		c->eax = id;
		c->ebx = id;
		c->ecx = 0;
		break;
	default: break;
	}
}

/* Leaf 0xb has two levels, whichever the host listed. */
static struct kvm_cpuid2 *with_levels(const struct kvm_cpuid2 *from)
{
	struct kvm_cpuid2 *t;
	uint32_t n = 0;

	t = calloc(1, sizeof(*t) + (from->nent + 3u) * sizeof(t->entries[0]));
	if (!t)
		return NULL;
	for (uint32_t i = 0; i < from->nent; i++) {
		const struct kvm_cpuid_entry2 *s = &from->entries[i];

		if (s->function == 0xb || s->function == 0x1f)
			continue;
		t->entries[n++] = *s;
	}
	if (from->nent && from->entries[0].eax >= 0xb)
		for (uint32_t i = 0; i < 3; i++)
			t->entries[n++] = (struct kvm_cpuid_entry2){
				.function = 0xb,
				.index = i,
				.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			};
	t->nent = n;
	return t;
}

int cpuid_set(struct vcpu *c)
{
	struct kvm_cpuid2 *t = with_levels(c->vm->cpuid);
	int ret;

	if (!t)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nent; i++)
		topology(&t->entries[i], c->idx, c->vm->ncpus);
	ret = ioctl(c->fd, KVM_SET_CPUID2, t) < 0 ? -errno : 0;
	free(t);
	return ret;
}

static const struct field entry_fields[] = {
	FIELD(kvm_cpuid_entry2, function), FIELD(kvm_cpuid_entry2, index),
	FIELD(kvm_cpuid_entry2, flags),	   FIELD(kvm_cpuid_entry2, eax),
	FIELD(kvm_cpuid_entry2, ebx),	   FIELD(kvm_cpuid_entry2, ecx),
	FIELD(kvm_cpuid_entry2, edx),
};

void cpuid_put(struct wire_out *o, const struct kvm_cpuid2 *t)
{
	put_u16(o, (uint16_t)t->nent);
	for (uint32_t i = 0; i < t->nent; i++)
		PUT_FIELDS(o, &t->entries[i], entry_fields);
}

struct kvm_cpuid2 *cpuid_get(struct wire_in *in)
{
	uint32_t n = get_u16(in);
	struct kvm_cpuid2 *t;

	if (n == 0 || n > ENTRIES_MAX) {
		wire_fail(in, -EBADMSG);
		return NULL;
	}
	t = calloc(1, sizeof(*t) + n * sizeof(t->entries[0]));
	if (!t) {
		wire_fail(in, -ENOMEM);
		return NULL;
	}
	t->nent = n;
	for (uint32_t i = 0; i < n; i++)
		GET_FIELDS(in, &t->entries[i], entry_fields);
	return t;
}

/*
 * Where features stand, and bits there that say how something is set up
 * rather than what the CPU can do.
 */
#define REG(r) offsetof(struct kvm_cpuid_entry2, r)
static const struct {
	uint32_t function, index;
	size_t reg;
	uint32_t ignore;
} features[] = {
	{ 1, 0, REG(ecx), 1u << 27 | 1u << 31 }, /* OSXSAVE, HV */
	{ 1, 0, REG(edx), 1u << 28 },		 /* HTT */
	{ 7, 0, REG(ebx), 0 },
	{ 7, 0, REG(ecx), 1u << 4 }, /* OSPKE */
	{ 7, 0, REG(edx), 0 },
	{ 7, 1, REG(eax), 0 },
	{ 0xd, 0, REG(eax), 0 },
	{ 0xd, 1, REG(eax), 0 },
	{ 0x80000001, 0, REG(ecx), 0 },
	{ 0x80000001, 0, REG(edx), 0 },
	{ 0x80000008, 0, REG(ebx), 0 },
	{ 0x40000001, 0, REG(eax), 0 },
};

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *t,
					   uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->nent; i++)
		if (t->entries[i].function == function &&
		    t->entries[i].index == index)
			return &t->entries[i];
	return NULL;
}

static uint32_t reg_of(const struct kvm_cpuid_entry2 *c, size_t reg)
{
	uint32_t v = 0;

	if (c)
		memcpy(&v, (const char *)c + reg, 4);
	return v;
}

static int compare(const struct kvm_cpuid2 *t, const struct kvm_cpuid2 *here,
		   struct err *e)
{
	const struct kvm_cpuid_entry2 *a = find(t, 0, 0), *b = find(here, 0, 0);

	if (!a || !b || a->ebx != b->ebx || a->ecx != b->ecx ||
	    a->edx != b->edx)
		return err_set(e, -ENOTSUP,
			       "the guest runs on a CPU of another maker than "
			       "this host's");
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		uint32_t f = features[i].function, x = features[i].index;
		uint32_t want = reg_of(find(t, f, x), features[i].reg);
		uint32_t have = reg_of(find(here, f, x), features[i].reg);
		uint32_t lack = want & ~have & ~features[i].ignore;

		if (lack)
			return err_set(
				e, -ENOTSUP,
				"the guest uses CPU features that this host "
				"lacks: CPUID 0x%x.%u bits 0x%x; choose a host "
				"with the same or a newer CPU",
				f, x, lack);
	}
	return 0;
}

/*
 * What KVM could show and a guest that will move must not see.  With an
 * invariant TSC Linux prefers it to kvmclock, and its time would run at the
 * wrong rate on a host of another frequency; nested guests and enclaves have
 * state that is not saved.
 */
static const struct {
	uint32_t function, index;
	size_t reg;
	uint32_t bits;
} hidden[] = {
	{ 0x80000007, 0, REG(edx), 1u << 8 }, /* invariant TSC */
	{ 1, 0, REG(ecx), 1u << 5 },	      /* VMX */
	{ 0x80000001, 0, REG(ecx), 1u << 2 }, /* SVM */
	{ 7, 0, REG(ebx), 1u << 2 },	      /* SGX */
	{ 7, 0, REG(ecx), 1u << 30 },	      /* SGX launch control */
};

static void hide(struct kvm_cpuid2 *t)
{
	for (uint32_t i = 0; i < t->nent; i++)
		for (size_t k = 0; k < ARRAY_SIZE(hidden); k++) {
			struct kvm_cpuid_entry2 *c = &t->entries[i];
			uint32_t v = reg_of(c, hidden[k].reg);

			if (c->function != hidden[k].function ||
			    c->index != hidden[k].index)
				continue;
			v &= ~hidden[k].bits;
			memcpy((char *)c + hidden[k].reg, &v, sizeof(v));
		}
}

int cpuid_create(struct vm *vm, uint64_t mem, struct err *e)
{
	uint64_t end = RAM_HIGH + mem + WIN_HIGH_SIZE; /* roughly */
	uint32_t bits;

	vm->cpuid = supported(vm->kvm);
	if (!vm->cpuid)
		return err_set(e, -ENOTSUP,
			       "KVM does not tell which CPU it can show");
	hide(vm->cpuid);
	bits = reg_of(find(vm->cpuid, 0x80000008, 0), REG(eax)) & 0xff;
	if (bits && bits < 64 && end > 1ull << bits)
		return err_set(
			e, -EINVAL,
			"this CPU has %u address bits, which leaves room for "
			"%llu GiB of guest memory: give it less",
			bits, ((1ull << bits) - 2 * WIN_HIGH_SIZE) >> 30);
	return 0;
}

int cpuid_check(int kvm, const struct kvm_cpuid2 *t, struct err *e)
{
	struct kvm_cpuid2 *here = supported(kvm);
	int ret;

	if (!here)
		return err_set(e, -ENOTSUP,
			       "KVM does not tell which CPU it can show");
	ret = compare(t, here, e);
	free(here);
	return ret;
}
