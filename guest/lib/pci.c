/*
 * PCI by mechanism 1, and MSI-X.
 */
#include "guest.h"

#define CAP_MSIX 0x11

static void address(int devfn, unsigned int off)
{
	outl(0xcf8, 0x80000000u | (uint32_t)devfn << 8 | (off & 0xfc));
}

uint32_t pci_read32(int devfn, unsigned int off)
{
	address(devfn, off);
	return inl(0xcfc);
}

uint16_t pci_read16(int devfn, unsigned int off)
{
	address(devfn, off);
	return inw((uint16_t)(0xcfc + (off & 2)));
}

uint8_t pci_read8(int devfn, unsigned int off)
{
	address(devfn, off);
	return inb((uint16_t)(0xcfc + (off & 3)));
}

void pci_write32(int devfn, unsigned int off, uint32_t v)
{
	address(devfn, off);
	outl(0xcfc, v);
}

void pci_write16(int devfn, unsigned int off, uint16_t v)
{
	address(devfn, off);
	outw((uint16_t)(0xcfc + (off & 2)), v);
}

int pci_find(uint16_t vendor, uint16_t device, unsigned int nth)
{
	uint32_t want = (uint32_t)device << 16 | vendor;

	for (int devfn = 0; devfn < 256; devfn += 8)
		if (pci_read32(devfn, 0) == want && !nth--)
			return devfn;
	return -1;
}

unsigned int pci_cap(int devfn, uint8_t id)
{
	unsigned int at;

	if (!(pci_read16(devfn, 6) & 0x10))
		return 0;
	at = pci_read8(devfn, 0x34) & 0xfcu;
	for (unsigned int n = 0; at && n < 48; n++) {
		if (pci_read8(devfn, at) == id)
			return at;
		at = pci_read8(devfn, at + 1) & 0xfcu;
	}
	return 0;
}

void pci_enable(int devfn)
{
	pci_write16(devfn, 4, pci_read16(devfn, 4) | 6);
}

uint64_t pci_bar_addr(int devfn, unsigned int bar)
{
	uint32_t lo = pci_read32(devfn, 0x10 + bar * 4);
	uint64_t at = lo & ~0xfu;

	if ((lo & 6) == 4)
		at |= (uint64_t)pci_read32(devfn, 0x14 + bar * 4) << 32;
	return at;
}

volatile void *pci_bar(int devfn, unsigned int bar, uint64_t len)
{
	return map_phys(pci_bar_addr(devfn, bar), len);
}

void msix_enable(int devfn)
{
	unsigned int cap = pci_cap(devfn, CAP_MSIX);

	check(cap);
	pci_write16(devfn, cap + 2, 0x8000);
}

static volatile uint8_t *entry(int devfn, unsigned int n)
{
	unsigned int cap = pci_cap(devfn, CAP_MSIX);
	uint32_t table = pci_read32(devfn, cap + 4);
	volatile uint8_t *bar = pci_bar(devfn, table & 7, 4096);

	return bar + (table & ~7u) + n * 16;
}

void msix_set(int devfn, unsigned int n, uint8_t v, unsigned int cpu)
{
	volatile uint8_t *e = entry(devfn, n);

	write32(e + 0, 0xfee00000u | cpu << 12);
	write32(e + 4, 0);
	write32(e + 8, v);
	write32(e + 12, 0);
}

void msix_mask(int devfn, unsigned int n, bool masked)
{
	write32(entry(devfn, n) + 12, masked);
}
