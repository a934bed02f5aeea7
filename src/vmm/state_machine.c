/*
 * The state of what is not a vCPU.
 */
#include "vmm/state.h"

#include <errno.h>
#include <string.h>

#include "vmm/fields.h"

#define CHANNEL(i)                                                 \
	FIELD(kvm_pit_state2, channels[i].count),                  \
		FIELD(kvm_pit_state2, channels[i].latched_count),  \
		FIELD(kvm_pit_state2, channels[i].count_latched),  \
		FIELD(kvm_pit_state2, channels[i].status_latched), \
		FIELD(kvm_pit_state2, channels[i].status),         \
		FIELD(kvm_pit_state2, channels[i].read_state),     \
		FIELD(kvm_pit_state2, channels[i].write_state),    \
		FIELD(kvm_pit_state2, channels[i].write_latch),    \
		FIELD(kvm_pit_state2, channels[i].rw_mode),        \
		FIELD(kvm_pit_state2, channels[i].mode),           \
		FIELD(kvm_pit_state2, channels[i].bcd),            \
		FIELD(kvm_pit_state2, channels[i].gate)

static const struct field pit_fields[] = {
	CHANNEL(0),
	CHANNEL(1),
	CHANNEL(2),
	FIELD(kvm_pit_state2, flags),
};

static const struct field pic_fields[] = {
	FIELD(kvm_pic_state, last_irr),
	FIELD(kvm_pic_state, irr),
	FIELD(kvm_pic_state, imr),
	FIELD(kvm_pic_state, isr),
	FIELD(kvm_pic_state, priority_add),
	FIELD(kvm_pic_state, irq_base),
	FIELD(kvm_pic_state, read_reg_select),
	FIELD(kvm_pic_state, poll),
	FIELD(kvm_pic_state, special_mask),
	FIELD(kvm_pic_state, init_state),
	FIELD(kvm_pic_state, auto_eoi),
	FIELD(kvm_pic_state, rotate_on_auto_eoi),
	FIELD(kvm_pic_state, special_fully_nested_mode),
	FIELD(kvm_pic_state, init4),
	FIELD(kvm_pic_state, elcr),
	FIELD(kvm_pic_state, elcr_mask),
};

static const struct field ioapic_fields[] = {
	FIELD(kvm_ioapic_state, base_address),
	FIELD(kvm_ioapic_state, ioregsel),
	FIELD(kvm_ioapic_state, id),
	FIELD(kvm_ioapic_state, irr),
	FIELDS(kvm_ioapic_state, redirtbl, KVM_IOAPIC_NUM_PINS),
};

static const struct field board_fields[] = {
	FIELD(machine_state, clock.clock), FIELD(machine_state, cf8),
	FIELD(machine_state, pm_sts),	   FIELD(machine_state, pm_en),
	FIELD(machine_state, pm_cnt),
};

int machine_capture(struct vm *vm, struct machine_state *s)
{
	for (uint32_t i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &s->chip[i]) < 0)
			return -errno;
	}
	if (ioctl(vm->fd, KVM_GET_PIT2, &s->pit) < 0)
		return -errno;
	pthread_mutex_lock(&vm->bus.ports_lock);
	s->cf8 = vm->bus.cf8;
	s->pm_sts = vm->bus.pm_sts;
	s->pm_en = vm->bus.pm_en;
	s->pm_cnt = vm->bus.pm_cnt;
	pthread_mutex_unlock(&vm->bus.ports_lock);
	serial_copy(&s->serial, &vm->serial);
	return 0;
}

void machine_put(struct wire_out *o, const struct machine_state *s)
{
	PUT_FIELDS(o, &s->chip[0].chip.pic, pic_fields);
	PUT_FIELDS(o, &s->chip[1].chip.pic, pic_fields);
	PUT_FIELDS(o, &s->chip[2].chip.ioapic, ioapic_fields);
	PUT_FIELDS(o, &s->pit, pit_fields);
	PUT_FIELDS(o, s, board_fields);
	serial_put(o, &s->serial);
}

void machine_get(struct wire_in *in, struct machine_state *s)
{
	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < 3; i++)
		s->chip[i].chip_id = i;
	GET_FIELDS(in, &s->chip[0].chip.pic, pic_fields);
	GET_FIELDS(in, &s->chip[1].chip.pic, pic_fields);
	GET_FIELDS(in, &s->chip[2].chip.ioapic, ioapic_fields);
	GET_FIELDS(in, &s->pit, pit_fields);
	GET_FIELDS(in, s, board_fields);
	serial_get(in, &s->serial);
}

int machine_apply(struct vm *vm, const struct machine_state *s, struct err *e)
{
	for (uint32_t i = 0; i < 3; i++)
		if (ioctl(vm->fd, KVM_SET_IRQCHIP, &s->chip[i]) < 0)
			return err_sys(e, -errno, "interrupt controller %u", i);
	if (ioctl(vm->fd, KVM_SET_PIT2, &s->pit) < 0)
		return err_sys(e, -errno, "timer");
	pthread_mutex_lock(&vm->bus.ports_lock);
	vm->bus.cf8 = s->cf8;
	vm->bus.pm_sts = s->pm_sts;
	vm->bus.pm_en = s->pm_en;
	vm->bus.pm_cnt = s->pm_cnt;
	irq_line(vm, IRQ_SCI, s->pm_sts & s->pm_en);
	pthread_mutex_unlock(&vm->bus.ports_lock);
	serial_apply(&vm->serial, &s->serial);
	return 0;
}
