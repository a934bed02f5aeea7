/*
 * What an exit reaches: ports and MMIO.
 *
 * Where nothing answers, reads give all ones and writes are lost, as on a
 * PC's bus.
 */
#include "vmm/priv.h"

#include <string.h>

#include "base/log.h"

/* ACPI fixed registers, at the addresses the FADT gives. */
#define PM_STS_PWRBTN 0x0100
#define PM_CNT_SCI_EN 0x0001
#define PM_CNT_SLP_EN 0x2000
#define SLP_TYP(cnt)  ((cnt) >> 10 & 7)
#define SLP_TYP_S5    5

#define PORT_TEST_EXIT 0x501

static void sci_update(struct vm *vm)
{
	irq_line(vm, IRQ_SCI, vm->bus.pm_sts & vm->bus.pm_en);
}

/* 0x600: status, 0x602: enable, 0x604: control; 16 bits each. */
static uint32_t pm_read(struct vm *vm, unsigned int off, unsigned int size)
{
	struct vm_bus *b = &vm->bus;
	uint64_t all;

	pthread_mutex_lock(&b->ports_lock);
	all = (uint64_t)b->pm_sts | (uint64_t)b->pm_en << 16 |
	      (uint64_t)(b->pm_cnt | PM_CNT_SCI_EN) << 32;
	pthread_mutex_unlock(&b->ports_lock);
	return (uint32_t)(all >> off * 8);
}

static void pm_write(struct vm *vm, unsigned int off, unsigned int size,
		     uint32_t val)
{
	struct vm_bus *b = &vm->bus;
	bool off_now = false;

	pthread_mutex_lock(&b->ports_lock);
	for (unsigned int i = 0; i < size; i++, val >>= 8) {
		uint16_t v = (uint16_t)((val & 0xff) << (off + i) % 2 * 8);
		uint16_t keep = (off + i) % 2 ? 0x00ff : 0xff00;

		switch ((off + i) / 2) {
		case 0: b->pm_sts &= (uint16_t)~v; break;
		case 1: b->pm_en = (b->pm_en & keep) | v; break;
		case 2:
			b->pm_cnt = (b->pm_cnt & keep) | v;
			off_now = b->pm_cnt & PM_CNT_SLP_EN &&
				  SLP_TYP(b->pm_cnt) == SLP_TYP_S5;
			b->pm_cnt &= (uint16_t)~PM_CNT_SLP_EN;
			break;
		default: break;
		}
	}
	sci_update(vm);
	pthread_mutex_unlock(&b->ports_lock);
	if (off_now)
		vcpus_ended(vm, VM_END_POWEROFF, 0);
}

void bus_power_button(struct vm *vm)
{
	pthread_mutex_lock(&vm->bus.ports_lock);
	vm->bus.pm_sts |= PM_STS_PWRBTN;
	sci_update(vm);
	pthread_mutex_unlock(&vm->bus.ports_lock);
}

static uint32_t com1_read(struct vm *vm, unsigned int off, unsigned int size)
{
	return serial_read(&vm->serial, off);
}

static void com1_write(struct vm *vm, unsigned int off, unsigned int size,
		       uint32_t val)
{
	serial_write(&vm->serial, off, (uint8_t)val);
}

/* A dword is the configuration address, a byte at 0xcf9 the reset control. */
static uint32_t cf8_read(struct vm *vm, unsigned int off, unsigned int size)
{
	return off == 0 && size == 4 ? vm->bus.cf8 : off == 1 ? 0 : ~0u;
}

static void cf8_write(struct vm *vm, unsigned int off, unsigned int size,
		      uint32_t val)
{
	if (off == 0 && size == 4)
		vm->bus.cf8 = val;
	else if (off == 1 && size == 1 && (val & 4))
		vcpus_ended(vm, VM_END_REBOOT, 0);
}

static uint32_t cfc_read(struct vm *vm, unsigned int off, unsigned int size)
{
	return bus_cfg_read(vm, vm->bus.cf8, off, size);
}

static void cfc_write(struct vm *vm, unsigned int off, unsigned int size,
		      uint32_t val)
{
	bus_cfg_write(vm, vm->bus.cf8, off, size, val);
}

/* The keyboard controller is not there, but its reset line is. */
static uint32_t kbd_read(struct vm *vm, unsigned int off, unsigned int size)
{
	return 0;
}

static void kbd_write(struct vm *vm, unsigned int off, unsigned int size,
		      uint32_t val)
{
	if ((val & 0xff) == 0xfe)
		vcpus_ended(vm, VM_END_REBOOT, 0);
}

static void test_exit(struct vm *vm, unsigned int off, unsigned int size,
		      uint32_t val)
{
	vcpus_ended(vm, VM_END_EXIT, (int)val);
}

static const struct port {
	uint16_t first, count;
	enum vm_exit reason;
	uint32_t (*read)(struct vm *vm, unsigned int off, unsigned int size);
	void (*write)(struct vm *vm, unsigned int off, unsigned int size,
		      uint32_t val);
} ports[] = {
	{ 0x3f8, 8, VM_EXIT_PIO_SERIAL, com1_read, com1_write },
	{ 0xcfc, 4, VM_EXIT_PIO_PCI, cfc_read, cfc_write },
	{ 0xcf8, 4, VM_EXIT_PIO_PCI, cf8_read, cf8_write },
	{ 0x600, 6, VM_EXIT_PIO_OTHER, pm_read, pm_write },
	{ 0x064, 1, VM_EXIT_PIO_OTHER, kbd_read, kbd_write },
	{ PORT_TEST_EXIT, 1, VM_EXIT_PIO_OTHER, NULL, test_exit },
};

enum vm_exit bus_pio(struct vm *vm, uint16_t port, void *data,
		     unsigned int size, bool write)
{
	uint32_t v = write ? 0 : ~0u;

	if (write)
		memcpy(&v, data, size);
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		const struct port *p = &ports[i];
		unsigned int off = (unsigned int)port - p->first;

		if (off >= p->count)
			continue;
		if (write && p->write)
			p->write(vm, off, size, v);
		else if (!write && p->read)
			v = p->read(vm, off, size);
		if (!write)
			memcpy(data, &v, size);
		return p->reason;
	}
	if (!write)
		memcpy(data, &v, size);
	return VM_EXIT_PIO_OTHER;
}

enum vm_exit bus_mmio(struct vm *vm, uint64_t gpa, void *data, unsigned int len,
		      bool write)
{
	struct vm_bus *b = &vm->bus;
	struct bus_bar hit = { .f = NULL };
	uint64_t v = ~0ull;

	pthread_rwlock_rdlock(&b->lock);
	for (unsigned int i = 0; i < b->nbars; i++) {
		uint64_t off = gpa - b->bar[i].gpa;

		if (gpa >= b->bar[i].gpa && off < b->bar[i].size &&
		    len <= b->bar[i].size - off) {
			hit = b->bar[i];
			break;
		}
	}
	pthread_rwlock_unlock(&b->lock);

	if (hit.f && write) {
		v = 0;
		memcpy(&v, data, len);
		hit.f->ops->bar_write(hit.f, hit.bar, gpa - hit.gpa, len, v);
	} else if (hit.f) {
		v = hit.f->ops->bar_read(hit.f, hit.bar, gpa - hit.gpa, len);
	}
	if (!write)
		memcpy(data, &v, len);
	return hit.f ? VM_EXIT_MMIO : VM_EXIT_MMIO_NONE;
}

void bus_init(struct vm *vm)
{
	pthread_rwlock_init(&vm->bus.lock, NULL);
	pthread_mutex_init(&vm->bus.ports_lock, NULL);
}
