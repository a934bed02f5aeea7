#include "pci/config.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/util.h"
#include "pci/func.h"

/*
 * What a guest may change in the header.  Command: memory decoding, bus
 * mastering, parity, SERR, INTx disable; these functions have no I/O BAR.
 * Status: the error bits are write-one-to-clear.
 */
static const struct pci_reg header[] = {
	{ PCI_COMMAND, 2, 0, 0x0546, 0 },
	{ PCI_STATUS, 2, 0, 0, 0xf900 },
	{ PCI_CACHE_LINE_SIZE, 1, 0, 0xff, 0 },
	{ PCI_INTERRUPT_LINE, 1, 0, 0xff, 0 },
};

static void set(uint8_t *p, unsigned int size, uint32_t v)
{
	for (unsigned int i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get(const uint8_t *p, unsigned int size)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < size; i++)
		v |= (uint32_t)p[i] << (8 * i);
	return v;
}

static bool inside(uint32_t off, unsigned int size)
{
	return size >= 1 && size <= 4 && off <= PCI_CONFIG_SIZE - size;
}

void pci_config_regs(struct pci_config *c, uint16_t base,
		     const struct pci_reg *rows, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint32_t off = (uint32_t)base + rows[i].off;

		if (!inside(off, rows[i].size))
			continue;
		set(c->val + off, rows[i].size, rows[i].val);
		set(c->wmask + off, rows[i].size, rows[i].wmask);
		set(c->w1c + off, rows[i].size, rows[i].w1c);
	}
}

void pci_config_init(struct pci_config *c, const struct pci_ident *id)
{
	memset(c, 0, sizeof(*c));
	pci_config_regs(c, 0, header, ARRAY_SIZE(header));
	pci_config_set16(c, PCI_VENDOR_ID, id->vendor);
	pci_config_set16(c, PCI_DEVICE_ID, id->device);
	pci_config_set32(c, PCI_CLASS_REVISION,
			 id->class_code << 8 | id->revision);
	pci_config_set16(c, PCI_SUBSYSTEM_VENDOR_ID, id->subvendor);
	pci_config_set16(c, PCI_SUBSYSTEM_ID, id->subdevice);
}

int pci_config_bar(struct pci_config *c, unsigned int bar, uint64_t size,
		   unsigned int flags)
{
	bool wide = flags & PCI_BAR_64;
	uint32_t off = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t mask;

	if (bar > 5 || (wide && bar == 5) || size < 16 || (size & (size - 1)) ||
	    (!wide && size > 1ull << 31) || c->bar_size[bar] ||
	    (bar && c->bar_wide[bar - 1]) || (wide && c->bar_size[bar + 1]))
		return -EINVAL;

	mask = ~(size - 1);
	set(c->val + off, 4,
	    (wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
		    (flags & PCI_BAR_PREFETCH ? PCI_BASE_ADDRESS_MEM_PREFETCH
					      : 0));
	set(c->wmask + off, 4, (uint32_t)mask);
	if (wide)
		set(c->wmask + off + 4, 4, (uint32_t)(mask >> 32));
	c->bar_size[bar] = size;
	c->bar_wide[bar] = wide;
	return 0;
}

int pci_config_cap(struct pci_config *c, uint8_t id, uint16_t off,
		   unsigned int size)
{
	if (off < PCI_STD_HEADER_SIZEOF || off % 4 || size < 2 ||
	    off + size > 256)
		return -EINVAL;

	c->val[off] = id;
	c->val[off + 1] = 0;
	if (c->last_cap)
		c->val[c->last_cap + 1] = (uint8_t)off;
	else
		c->val[PCI_CAPABILITY_LIST] = (uint8_t)off;
	c->val[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	c->last_cap = off;
	return 0;
}

int pci_config_ecap(struct pci_config *c, uint16_t id, uint8_t version,
		    uint16_t off, unsigned int size)
{
	if (off < 256 || off % 4 || size < 4 || off + size > PCI_CONFIG_SIZE ||
	    (!c->last_ecap && off != 256))
		return -EINVAL;

	set(c->val + off, 4, id | (uint32_t)version << 16);
	if (c->last_ecap)
		set(c->val + c->last_ecap, 4,
		    (get(c->val + c->last_ecap, 4) & 0xfffff) | (uint32_t)off
									<< 20);
	c->last_ecap = off;
	return 0;
}

uint16_t pci_config_find(const struct pci_config *c, uint8_t id)
{
	uint8_t off = c->val[PCI_CAPABILITY_LIST] & 0xfc;

	if (!(c->val[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return 0;
	for (unsigned int left = 48; off >= PCI_STD_HEADER_SIZEOF && left;
	     left--) {
		if (c->val[off] == id)
			return off;
		off = c->val[off + 1] & 0xfc;
	}
	return 0;
}

uint16_t pci_config_efind(const struct pci_config *c, uint16_t id)
{
	uint32_t off = 256;

	for (unsigned int left = 960; off >= 256 && left; left--) {
		uint32_t head = get(c->val + off, 4);

		if (head && (head & 0xffff) == id)
			return (uint16_t)off;
		off = head >> 20 & 0xffc;
	}
	return 0;
}

uint32_t pci_config_read(const struct pci_config *c, uint32_t off,
			 unsigned int size)
{
	return inside(off, size) ? get(c->val + off, size) : 0xffffffff;
}

void pci_config_write(struct pci_config *c, uint32_t off, unsigned int size,
		      uint32_t val)
{
	if (!inside(off, size))
		return;
	for (unsigned int i = 0; i < size; i++) {
		uint8_t v = (uint8_t)(val >> (8 * i));
		uint32_t at = off + i;

		c->val[at] = (uint8_t)((c->val[at] & ~c->wmask[at]) |
				       (v & c->wmask[at]));
		c->val[at] &= (uint8_t) ~(v & c->w1c[at]);
	}
}

uint16_t pci_config_get16(const struct pci_config *c, uint32_t off)
{
	return (uint16_t)get(c->val + off, 2);
}

uint32_t pci_config_get32(const struct pci_config *c, uint32_t off)
{
	return get(c->val + off, 4);
}

void pci_config_set16(struct pci_config *c, uint32_t off, uint16_t val)
{
	set(c->val + off, 2, val);
}

void pci_config_set32(struct pci_config *c, uint32_t off, uint32_t val)
{
	set(c->val + off, 4, val);
}

uint64_t pci_config_bar_gpa(const struct pci_config *c, unsigned int bar)
{
	uint32_t off = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t gpa, size;

	if (bar > 5 || !c->bar_size[bar] ||
	    !(pci_config_get16(c, PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return PCI_UNMAPPED;

	size = c->bar_size[bar];
	gpa = pci_config_get32(c, off) & PCI_BASE_ADDRESS_MEM_MASK;
	if (c->bar_wide[bar])
		gpa |= (uint64_t)pci_config_get32(c, off + 4) << 32;
	/*
	 * While a guest sizes a BAR it reads all ones, and before it was
	 * placed zero: neither is an address.
	 */
	if (!gpa || gpa + size < gpa || gpa + size > 1ull << 52 ||
	    (!c->bar_wide[bar] && gpa + size > 0xffffffffull))
		return PCI_UNMAPPED;
	return gpa;
}

bool pci_config_moves_bar(uint32_t off, unsigned int size)
{
	uint32_t end = off + size;

	return (off < PCI_COMMAND + 2 && end > PCI_COMMAND) ||
	       (off < PCI_BASE_ADDRESS_5 + 4 && end > PCI_BASE_ADDRESS_0);
}
