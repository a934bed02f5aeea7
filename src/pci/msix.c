#include "pci/msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "base/util.h"

#define ENTRY 16u /* bytes of a table entry */

static uint32_t pba_len(const struct pci_msix *m)
{
	return (uint32_t)ALIGN_UP(m->n, 64) / 8;
}

int pci_msix_init(struct pci_msix *m, struct pci_config *c, uint16_t cap,
		  unsigned int n, unsigned int bar, uint32_t table,
		  uint32_t pba)
{
	const struct pci_reg rows[] = {
		{ PCI_MSIX_FLAGS, 2, n - 1,
		  PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 0 },
		{ PCI_MSIX_TABLE, 4, table | bar, 0, 0 },
		{ PCI_MSIX_PBA, 4, pba | bar, 0, 0 },
	};
	uint64_t size = bar < 6 ? c->bar_size[bar] : 0;
	int ret;

	if (!n || n > PCI_MSIX_MAX || table % 8 || pba % 8 ||
	    (uint64_t)table + n * ENTRY > size || (uint64_t)pba + 8 > size ||
	    (pba < table + n * ENTRY && table < pba + 8))
		return -EINVAL;
	ret = pci_config_cap(c, PCI_CAP_ID_MSIX, cap, PCI_MSIX_CAP_SIZE);
	if (ret < 0)
		return ret;
	pci_config_regs(c, cap, rows, ARRAY_SIZE(rows));

	memset(m, 0, sizeof(*m));
	m->n = n;
	m->cap = cap;
	m->table_bar = m->pba_bar = (uint8_t)bar;
	m->table = table;
	m->pba = pba;
	pci_msix_reset(m);
	return 0;
}

void pci_msix_reset(struct pci_msix *m)
{
	m->pending = 0;
	memset(m->entry, 0, sizeof(m->entry));
	for (unsigned int i = 0; i < m->n; i++)
		m->entry[i].ctrl = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static bool in_table(const struct pci_msix *m, uint64_t off, unsigned int size)
{
	return off >= m->table && off + size <= m->table + m->n * ENTRY;
}

static bool in_pba(const struct pci_msix *m, uint64_t off, unsigned int size)
{
	return off >= m->pba && off + size <= m->pba + pba_len(m);
}

bool pci_msix_covers(const struct pci_msix *m, unsigned int bar, uint64_t off,
		     unsigned int size)
{
	if (bar != m->table_bar)
		return false;
	return (off < m->table + m->n * ENTRY && off + size > m->table) ||
	       (off < m->pba + pba_len(m) && off + size > m->pba);
}

static uint32_t read32(const struct pci_msix *m, uint64_t off)
{
	const struct pci_msix_entry *e;

	if (in_pba(m, off, 4))
		return (uint32_t)(m->pending >> (off - m->pba) * 8);
	if (!in_table(m, off, 4))
		return 0;
	e = &m->entry[(off - m->table) / ENTRY];
	switch ((off - m->table) % ENTRY) {
	case PCI_MSIX_ENTRY_LOWER_ADDR: return (uint32_t)e->addr;
	case PCI_MSIX_ENTRY_UPPER_ADDR: return (uint32_t)(e->addr >> 32);
	case PCI_MSIX_ENTRY_DATA: return e->data;
	default: return e->ctrl;
	}
}

static void write32(struct pci_msix *m, uint64_t off, uint32_t v)
{
	struct pci_msix_entry *e;

	if (!in_table(m, off, 4))
		return;
	e = &m->entry[(off - m->table) / ENTRY];
	switch ((off - m->table) % ENTRY) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		e->addr = (e->addr & ~0xffffffffull) | (v & ~3u);
		break;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		e->addr = (e->addr & 0xffffffff) | (uint64_t)v << 32;
		break;
	case PCI_MSIX_ENTRY_DATA: e->data = v; break;
	default: e->ctrl = v & PCI_MSIX_ENTRY_CTRL_MASKBIT; break;
	}
}

uint64_t pci_msix_read(const struct pci_msix *m, uint64_t off,
		       unsigned int size)
{
	if ((size != 4 && size != 8) || off % size)
		return 0;
	if (size == 4)
		return read32(m, off);
	return read32(m, off) | (uint64_t)read32(m, off + 4) << 32;
}

void pci_msix_write(struct pci_msix *m, uint64_t off, unsigned int size,
		    uint64_t val)
{
	if ((size != 4 && size != 8) || off % size)
		return;
	write32(m, off, (uint32_t)val);
	if (size == 8)
		write32(m, off + 4, (uint32_t)(val >> 32));
}

bool pci_msix_enabled(const struct pci_msix *m, const struct pci_config *c)
{
	return pci_config_get16(c, m->cap + PCI_MSIX_FLAGS) &
	       PCI_MSIX_FLAGS_ENABLE;
}

bool pci_msix_live(const struct pci_msix *m, const struct pci_config *c,
		   unsigned int vector)
{
	uint16_t flags = pci_config_get16(c, m->cap + PCI_MSIX_FLAGS);

	return vector < m->n && (flags & PCI_MSIX_FLAGS_ENABLE) &&
	       !(flags & PCI_MSIX_FLAGS_MASKALL) &&
	       !(m->entry[vector].ctrl & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}
