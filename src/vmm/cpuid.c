/*
 * The CPU the guest sees: what KVM supports here, with our topology.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 256

int cpuid_create(struct vm *vm, struct err *e)
{
	struct kvm_cpuid2 *t;

	t = calloc(1, sizeof(*t) + ENTRIES_MAX * sizeof(t->entries[0]));
	if (!t)
		return err_sys(e, -ENOMEM, "CPU model");
	t->nent = ENTRIES_MAX;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, t) < 0) {
		free(t);
		return err_sys(e, -errno, "CPU model");
	}
	vm->cpuid = t;
	return 0;
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
