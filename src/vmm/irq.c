/*
 * Interrupts: KVM's own PIC, I/O APIC and local APICs; MSIs by irqfd.
 *
 * The routing table is one object in KVM and is set whole each time.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <stdlib.h>

/* ISA interrupt 0 (the PIT) is wired to pin 2, as on every PC since 1994. */
static void add_pins(struct kvm_irq_routing *t)
{
	for (uint32_t gsi = 0; gsi < 16; gsi++)
		if (gsi != 2)
			t->entries[t->nr++] = (struct kvm_irq_routing_entry){
				.gsi = gsi,
				.type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { gsi < 8 ? KVM_IRQCHIP_PIC_MASTER
						       : KVM_IRQCHIP_PIC_SLAVE,
					       gsi % 8 },
			};
	for (uint32_t gsi = 0; gsi < IRQ_PINS; gsi++)
		if (gsi != 2)
			t->entries[t->nr++] = (struct kvm_irq_routing_entry){
				.gsi = gsi,
				.type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { KVM_IRQCHIP_IOAPIC,
					       gsi ? gsi : 2 },
			};
}

static int set_table(struct vm *vm)
{
	struct kvm_irq_routing *t;
	int ret;

	t = calloc(1, sizeof(*t) + (16 + IRQ_PINS + IRQ_MSI_MAX) *
					   sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	add_pins(t);
	for (uint32_t i = 0; i < IRQ_MSI_MAX; i++) {
		const struct host_msi *m = &vm->irqs.msi[i].m;

		if (!vm->irqs.msi[i].routed)
			continue;
		t->entries[t->nr++] = (struct kvm_irq_routing_entry){
			.gsi = IRQ_PINS + i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { (uint32_t)m->addr, (uint32_t)(m->addr >> 32),
				   m->data },
		};
	}
	ret = ioctl(vm->fd, KVM_SET_GSI_ROUTING, t) < 0 ? -errno : 0;
	free(t);
	return ret;
}

int irq_init(struct vm *vm)
{
	return set_table(vm);
}

int irq_alloc(struct vm *vm, unsigned int *irq)
{
	int ret = -ENOSPC;

	pthread_mutex_lock(&vm->irqs.lock);
	for (unsigned int i = 0; i < IRQ_MSI_MAX; i++)
		if (!vm->irqs.msi[i].used) {
			vm->irqs.msi[i].used = true;
			*irq = IRQ_PINS + i;
			ret = 0;
			break;
		}
	pthread_mutex_unlock(&vm->irqs.lock);
	return ret;
}

void irq_free(struct vm *vm, unsigned int irq)
{
	unsigned int i = irq - IRQ_PINS;

	if (i >= IRQ_MSI_MAX)
		return;
	pthread_mutex_lock(&vm->irqs.lock);
	vm->irqs.msi[i].used = false;
	if (vm->irqs.msi[i].routed) {
		vm->irqs.msi[i].routed = false;
		set_table(vm);
	}
	pthread_mutex_unlock(&vm->irqs.lock);
}

int irq_set_route(struct vm *vm, unsigned int irq, struct host_msi m)
{
	unsigned int i = irq - IRQ_PINS;
	int ret = -EINVAL;

	pthread_mutex_lock(&vm->irqs.lock);
	if (i < IRQ_MSI_MAX && vm->irqs.msi[i].used) {
		vm->irqs.msi[i].routed = true;
		vm->irqs.msi[i].m = m;
		ret = set_table(vm);
		/* What KVM refuses must not spoil later tables. */
		if (ret)
			vm->irqs.msi[i].routed = false;
	}
	pthread_mutex_unlock(&vm->irqs.lock);
	return ret;
}

int irq_fd(struct vm *vm, unsigned int irq, int eventfd, bool on)
{
	struct kvm_irqfd r = {
		.fd = (uint32_t)eventfd,
		.gsi = irq,
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (irq - IRQ_PINS >= IRQ_MSI_MAX)
		return -EINVAL;
	return ioctl(vm->fd, KVM_IRQFD, &r) < 0 ? -errno : 0;
}

void irq_line(struct vm *vm, unsigned int gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	ioctl(vm->fd, KVM_IRQ_LINE, &l);
}
