/*
 * The PCI bus: configuration mechanism 1, the host bridge, BAR placement.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define CFG_VENDOR  0x00
#define CFG_CLASS   0x08
#define CFG_HEADER  0x0c
#define CFG_BAR0    0x10
#define CFG_COMMAND 0x04

#define BAR_IO	   0x1u
#define BAR_64	   0x4u
#define BAR_TYPE   0x6u
#define BAR_MEM_LO 0xfu

/* Vendor, device, class: enough for a kernel to trust mechanism 1. */
static uint32_t bridge_config_read(struct pci_func *f, uint32_t off,
				   unsigned int size)
{
	static const uint32_t regs[] = {
		[CFG_VENDOR / 4] = 0x00081b36,
		[CFG_CLASS / 4] = 0x06000000,
	};
	uint32_t v = off / 4 < ARRAY_SIZE(regs) ? regs[off / 4] : 0;

	return v >> off % 4 * 8;
}

static void bridge_config_write(struct pci_func *f, uint32_t off,
				unsigned int size, uint32_t val)
{
}

static const struct pci_func_ops bridge_ops = {
	.config_read = bridge_config_read,
	.config_write = bridge_config_write,
};

static struct pci_func bridge = { .ops = &bridge_ops, .name = "bridge" };

static bool overlaps_ram(struct vm *vm, uint64_t gpa, uint64_t size)
{
	for (size_t i = 0; i < vm->mem.nram; i++) {
		const struct host_ram *r = &vm->mem.ram[i];

		if (gpa < r->gpa.v + r->size && r->gpa.v < gpa + size)
			return true;
	}
	return false;
}

static void bar_moved(void *bus, struct pci_func *f, unsigned int bar,
		      uint64_t gpa, uint64_t size)
{
	static struct log_limit limit;
	struct vm *vm = bus;
	struct vm_bus *b = &vm->bus;
	unsigned int i;

	pthread_rwlock_wrlock(&b->lock);
	for (i = 0; i < b->nbars; i++)
		if (b->bar[i].f == f && b->bar[i].bar == bar)
			break;
	if (gpa == PCI_UNMAPPED || !size || gpa + size < gpa ||
	    overlaps_ram(vm, gpa, size)) {
		if (gpa != PCI_UNMAPPED)
			log_limited(&limit, LOG_WARN,
				    "%s: %s: the guest put BAR %u over RAM, at "
				    "0x%lx",
				    vm->name, f->name, bar, gpa);
		if (i < b->nbars)
			b->bar[i] = b->bar[--b->nbars];
	} else if (i < ARRAY_SIZE(b->bar)) {
		b->bar[i] = (struct bus_bar){ f, bar, gpa, size };
		if (i == b->nbars)
			b->nbars++;
	}
	pthread_rwlock_unlock(&b->lock);
}

static const struct pci_bus_ops bus_ops = { .bar_moved = bar_moved };

/* The function cf8 names, and *off in its space; NULL: nobody there. */
static struct pci_func *target(struct vm *vm, uint32_t cf8, uint32_t *off)
{
	if (!(cf8 & 0x80000000u) || (cf8 >> 16 & 0xff))
		return NULL;
	*off = cf8 & 0xfc;
	return vm->bus.func[cf8 >> 8 & 0xff];
}

uint32_t bus_cfg_read(struct vm *vm, uint32_t cf8, unsigned int byte,
		      unsigned int size)
{
	uint32_t off;
	struct pci_func *f = target(vm, cf8, &off);

	if (!f || byte + size > 4 || byte % size)
		return ~0u;
	return f->ops->config_read(f, off + byte, size);
}

void bus_cfg_write(struct vm *vm, uint32_t cf8, unsigned int byte,
		   unsigned int size, uint32_t val)
{
	uint32_t off;
	struct pci_func *f = target(vm, cf8, &off);

	if (f && byte + size <= 4 && byte % size == 0)
		f->ops->config_write(f, off + byte, size, val);
}

void bus_pci_init(struct vm *vm)
{
	const struct host_ram *top = &vm->mem.ram[vm->mem.nram - 1];

	vm->bus.func[0] = &bridge;
	/* Nothing of it depends on the host: it must be equal after a move. */
	vm->bus.win_high =
		ALIGN_UP(MAX(top->gpa.v + top->size, RAM_HIGH), 1ull << 30);
}

int vm_pci_add(struct vm *vm, struct pci_func *f, int devfn, struct err *e)
{
	struct vm_bus *b = &vm->bus;

	if (vm->started)
		return err_set(
			e, -EBUSY,
			"%s: devices are plugged in before the VM starts",
			f->name);
	if (b->nfuncs >= PCI_FUNCS_MAX)
		return err_set(e, -ENOSPC, "%s: the bus has no free place",
			       f->name);
	for (int dev = 1; devfn < 0 && dev < 32; dev++)
		if (!b->func[dev << 3])
			devfn = dev << 3;
	if (devfn < 1 || devfn > 255 || b->func[devfn])
		return err_set(e, -EEXIST, "%s: PCI address %02x.%x is taken",
			       f->name, (unsigned int)devfn >> 3 & 0x1f,
			       (unsigned int)devfn & 7);
	f->bus_ops = &bus_ops;
	f->bus = vm;
	f->devfn = (uint8_t)devfn;
	b->func[devfn] = f;
	b->nfuncs++;
	return 0;
}

static uint32_t cfg(struct pci_func *f, uint32_t off)
{
	return f->ops->config_read(f, off, 4);
}

static void cfg_set(struct pci_func *f, uint32_t off, uint32_t v)
{
	f->ops->config_write(f, off, 4, v);
}

struct window {
	uint64_t at, end;
};

/* Natural alignment, in order: enough for a bus we filled ourselves. */
static int place(struct window *w, uint64_t size, uint64_t *out)
{
	uint64_t at = ALIGN_UP(w->at, size);

	if (at < w->at || at + size < at || at + size > w->end)
		return -ENOSPC;
	w->at = at + size;
	*out = at;
	return 0;
}

static int assign_func(struct vm *vm, struct pci_func *f, struct window *low,
		       struct window *high, struct err *e)
{
	for (uint32_t bar = 0; bar < 6; bar++) {
		uint32_t off = CFG_BAR0 + bar * 4, old = cfg(f, off), mask;
		bool wide = (old & BAR_TYPE) == BAR_64 && bar < 5;
		uint64_t size, at;
		int ret;

		if (old & BAR_IO)
			continue;
		cfg_set(f, off, ~0u);
		mask = cfg(f, off) & ~BAR_MEM_LO;
		size = mask | 0xffffffff00000000ull;
		if (wide) {
			uint32_t up = cfg(f, off + 4);

			cfg_set(f, off + 4, ~0u);
			size = mask | (uint64_t)cfg(f, off + 4) << 32;
			cfg_set(f, off + 4, up);
		}
		cfg_set(f, off, old);
		if (mask == 0 && (!wide || size == 0))
			continue;
		size = ~size + 1;
		if (old & ~BAR_MEM_LO || (wide && cfg(f, off + 4))) {
			bar += wide; /* it has one, from a load */
			continue;
		}
		ret = place(wide ? high : low, size, &at);
		if (ret)
			return err_set(e, ret,
				       "%s: no room for BAR %u of %lu KiB",
				       f->name, bar, size >> 10);
		cfg_set(f, off, (uint32_t)at);
		if (wide)
			cfg_set(f, off + 4, (uint32_t)(at >> 32));
		bar += wide;
	}
	return 0;
}

/* BARs left at zero get an address; decoding stays as it is (off). */
int bus_assign(struct vm *vm, struct err *e)
{
	struct window low = { WIN_LOW, WIN_LOW_END };
	struct window high = { vm->bus.win_high,
			       vm->bus.win_high + WIN_HIGH_SIZE };
	int ret = 0;

	for (unsigned int d = 1; d < 256 && !ret; d++)
		if (vm->bus.func[d])
			ret = assign_func(vm, vm->bus.func[d], &low, &high, e);
	return ret;
}
