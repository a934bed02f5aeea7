/*
 * BARs: which page is direct, and what a trapped access means.
 *
 * A direct page is a memory slot of its own, so that toggling one leaves
 * the others alone.  The slot follows three things: the reasons to trap,
 * whether the pdev has a page to show, and where the guest put the BAR.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/util.h"
#include "vdev/vdev_priv.h"

int vdev_bars_init(struct vdev *v)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct vdev_bar *b = &v->bar[i];

		b->size = v->model->bar_size[i];
		b->gpa = PCI_UNMAPPED;
		if (!b->size)
			continue;
		if (b->size / PAGE_SIZE > VDEV_PAGES_MAX)
			return -E2BIG;
		b->npages = (unsigned int)(b->size / PAGE_SIZE);
		if (!b->npages)
			continue;
		b->page = calloc(b->npages, sizeof(*b->page));
		if (!b->page)
			return -ENOMEM;
		for (unsigned int n = 0; n < b->npages; n++)
			b->page[n].reasons = VDEV_TRAP_UNBACKED;
	}
	return 0;
}

void vdev_bars_fini(struct vdev *v)
{
	for (unsigned int i = 0; i < 6; i++)
		free(v->bar[i].page);
}

/* What the guest is to reach there with no exit. */
static void *to_show(const struct vdev_page *p)
{
	if (!p->reasons)
		return p->va;
	return (p->reasons & ~VDEV_TRAP_UNMAPPABLE) == VDEV_TRAP_SHADOW
		       ? p->stand_in
		       : NULL;
}

/* Make the slot what it should be.  A failed add leaves the page trapped. */
static int page_update(struct vdev *v, struct vdev_bar *b, unsigned int n)
{
	struct vdev_page *p = &b->page[n];
	void *want = b->gpa != PCI_UNMAPPED ? to_show(p) : NULL;
	gpa_t gpa = { b->gpa + n * PAGE_SIZE };
	int ret;

	if (p->slot && p->shown == want)
		return 0;
	if (p->slot) {
		ret = v->host->ops->slot_del(v->host, p->slot);
		if (ret < 0)
			return ret;
		p->slot = NULL;
	}
	if (!want)
		return 0;
	/* What we wrote there comes before what the guest will write. */
	if (want == p->va && v->pdev)
		pdev_flush(v->pdev);
	ret = v->host->ops->slot_add(v->host, gpa, PAGE_SIZE, want, &p->slot);
	if (ret < 0) {
		p->slot = NULL;
		log_limited(&v->nonsense, LOG_WARN,
			    "%s: no direct mapping at 0x%llx (%d); the page "
			    "stays trapped",
			    v->name, (unsigned long long)gpa.v, ret);
		return ret;
	}
	p->shown = want;
	return 0;
}

static void bar_hide(struct vdev *v, struct vdev_bar *b)
{
	uint64_t gpa = b->gpa;

	b->gpa = PCI_UNMAPPED;
	for (unsigned int n = 0; n < b->npages; n++) {
		int ret = page_update(v, b, n);

		/* The guest would keep a page of a BAR that has moved. */
		if (ret < 0)
			log_error("%s: page %u at 0x%llx does not unmap (%d)",
				  v->name, n, (unsigned long long)gpa, ret);
	}
}

void vdev_bars_moved(struct vdev *v)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct vdev_bar *b = &v->bar[i];
		uint64_t gpa = pci_config_bar_gpa(&v->cfg, i);

		if (!b->size || gpa == b->gpa)
			continue;
		bar_hide(v, b);
		b->gpa = gpa;
		if (v->func.bus_ops && v->func.bus_ops->bar_moved)
			v->func.bus_ops->bar_moved(v->func.bus, &v->func, i,
						   gpa, b->size);
		for (unsigned int n = 0; n < b->npages; n++)
			page_update(v, b, n);
	}
}

void vdev_bars_map(struct vdev *v)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct vdev_bar *b = &v->bar[i];

		for (unsigned int n = 0; n < b->npages; n++) {
			struct vdev_page *p = &b->page[n];

			/*
			 * No page of the MSI-X BAR is ever direct: hardware
			 * may decode the table at more than one place.
			 */
			if (i == v->model->msix_bar ||
			    pdev_mmap(v->pdev, i, n * PAGE_SIZE, PAGE_SIZE,
				      &p->va) < 0) {
				p->va = NULL;
				p->reasons |= VDEV_TRAP_UNMAPPABLE;
			}
			p->reasons &= ~VDEV_TRAP_UNBACKED;
			page_update(v, b, n);
		}
	}
}

void vdev_bars_unmap(struct vdev *v)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct vdev_bar *b = &v->bar[i];

		for (unsigned int n = 0; n < b->npages; n++) {
			struct vdev_page *p = &b->page[n];
			int ret;

			p->reasons |= VDEV_TRAP_UNBACKED;
			p->reasons &= ~VDEV_TRAP_UNMAPPABLE;
			ret = page_update(v, b, n);
			if (ret < 0)
				log_error("%s: page %u of BAR %u does not "
					  "unmap (%d)",
					  v->name, n, i, ret);
			if (p->va)
				munmap(p->va, PAGE_SIZE);
			p->va = NULL;
		}
	}
}

static struct vdev_page *page_of(struct vdev *v, unsigned int bar,
				 unsigned int page)
{
	return bar < 6 && page < v->bar[bar].npages ? &v->bar[bar].page[page]
						    : NULL;
}

int vdev_trap(struct vdev *v, unsigned int bar, unsigned int page,
	      uint32_t reason)
{
	struct vdev_page *p = page_of(v, bar, page);
	bool had;
	int ret;

	if (!p)
		return -EINVAL;
	vdev_lock(v);
	had = p->reasons & reason;
	p->reasons |= reason;
	if (p->slot && p->shown == p->va)
		v->counts.traps++;
	ret = page_update(v, &v->bar[bar], page);
	if (ret < 0 && !had)
		p->reasons &= ~reason;
	vdev_unlock(v);
	return ret;
}

int vdev_untrap(struct vdev *v, unsigned int bar, unsigned int page,
		uint32_t reason)
{
	struct vdev_page *p = page_of(v, bar, page);
	int ret;

	if (!p)
		return -EINVAL;
	vdev_lock(v);
	p->reasons &= ~reason;
	ret = page_update(v, &v->bar[bar], page);
	if (p->slot && p->shown == p->va)
		v->counts.untraps++;
	vdev_unlock(v);
	return ret;
}

uint32_t vdev_trap_reasons(struct vdev *v, unsigned int bar, unsigned int page)
{
	struct vdev_page *p = page_of(v, bar, page);
	uint32_t reasons;

	vdev_lock(v);
	reasons = p ? p->reasons : 0;
	vdev_unlock(v);
	return reasons;
}

int vdev_page_stand_in(struct vdev *v, unsigned int bar, unsigned int page,
		       void *va)
{
	struct vdev_page *p = page_of(v, bar, page);
	int ret;

	if (!p)
		return -EINVAL;
	vdev_lock(v);
	p->stand_in = va;
	ret = page_update(v, &v->bar[bar], page);
	vdev_unlock(v);
	return ret;
}

bool vdev_page_direct(struct vdev *v, unsigned int bar, unsigned int page)
{
	struct vdev_page *p = page_of(v, bar, page);
	bool direct;

	vdev_lock(v);
	direct = p && p->slot && p->shown == p->va;
	vdev_unlock(v);
	return direct;
}

void vdev_page_counts(struct vdev *v, unsigned int bar, unsigned int page,
		      uint64_t *reads, uint64_t *writes)
{
	struct vdev_page *p = page_of(v, bar, page);

	vdev_lock(v);
	*reads = p ? p->reads : 0;
	*writes = p ? p->writes : 0;
	vdev_unlock(v);
}

void vdev_tap_add(struct vdev *v, struct vdev_tap *t)
{
	vdev_lock(v);
	t->next = v->taps;
	v->taps = t;
	vdev_unlock(v);
}

void vdev_tap_del(struct vdev *v, struct vdev_tap *t)
{
	vdev_lock(v);
	for (struct vdev_tap **at = &v->taps; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	vdev_unlock(v);
}

static volatile uint32_t *mapped(struct vdev *v, unsigned int bar, uint32_t off)
{
	struct vdev_page *p = page_of(v, bar, off / PAGE_SIZE);

	if (!p || !p->va)
		return NULL;
	return (volatile uint32_t *)((char *)p->va + off % PAGE_SIZE);
}

/* Nobody there reads as all ones, as on a bus. */
static uint32_t pdev_get(struct vdev *v, unsigned int bar, uint32_t off)
{
	volatile uint32_t *reg = mapped(v, bar, off);
	uint32_t val;

	if (reg)
		return *reg;
	if (!v->pdev || pdev_read32(v->pdev, bar, off, &val) < 0)
		return 0xffffffff;
	return val;
}

static void pdev_put(struct vdev *v, unsigned int bar, uint32_t off,
		     uint32_t val)
{
	volatile uint32_t *reg = mapped(v, bar, off);

	if (reg)
		*reg = val;
	else if (v->pdev)
		pdev_write32(v->pdev, bar, off, val);
}

uint32_t vdev_reg_read(struct vdev *v, uint32_t off)
{
	uint32_t val = 0xffffffff;

	vdev_lock(v);
	if (off % 4 == 0 && off < v->bar[0].size)
		val = pdev_get(v, 0, off);
	vdev_unlock(v);
	return val;
}

uint32_t vdev_reg_ask(struct vdev *v, uint32_t off)
{
	uint32_t val;

	vdev_lock(v);
	if (!v->pdev || off % 4 || off >= v->bar[0].size ||
	    pdev_read32(v->pdev, 0, off, &val) < 0)
		val = 0xffffffff;
	vdev_unlock(v);
	return val;
}

void vdev_reg_write(struct vdev *v, uint32_t off, uint32_t val)
{
	vdev_lock(v);
	if (off % 4 == 0 && off < v->bar[0].size)
		pdev_put(v, 0, off, val);
	vdev_unlock(v);
}

static bool is_doorbell(const struct vdev_model *m, uint32_t off)
{
	for (unsigned int i = 0; i < m->ndoorbells; i++)
		if (m->doorbell[i] == off)
			return true;
	return false;
}

static void count(struct vdev *v, unsigned int bar, uint32_t off, bool write)
{
	struct vdev_page *p = page_of(v, bar, off / PAGE_SIZE);
	struct vdev_counts *c = &v->counts;

	if (write)
		c->writes++;
	else
		c->reads++;
	if (p && write)
		p->writes++;
	else if (p)
		p->reads++;

	if (bar == 0 && is_doorbell(v->model, off))
		c->doorbell++;
	else if (bar == 0 && off / PAGE_SIZE == v->model->mbx_page)
		c->mbx_page++;
	else
		c->other++;
}

static uint32_t read32(struct vdev *v, unsigned int bar, uint32_t off)
{
	uint64_t val;

	count(v, bar, off, false);
	if (pci_msix_covers(&v->msix, bar, off, 4)) {
		vdev_irqs_collect(v);
		return (uint32_t)pci_msix_read(&v->msix, off, 4);
	}
	for (struct vdev_tap *t = v->taps; t; t = t->next)
		if (t->read && t->bar == bar && off >= t->off &&
		    off - t->off < t->len && t->read(t->opaque, off, 4, &val))
			return (uint32_t)val;
	return pdev_get(v, bar, off);
}

static void write32(struct vdev *v, unsigned int bar, uint32_t off,
		    uint32_t val)
{
	count(v, bar, off, true);
	if (pci_msix_covers(&v->msix, bar, off, 4)) {
		pci_msix_write(&v->msix, off, 4, val);
		vdev_irqs_update(v);
		return;
	}
	for (struct vdev_tap *t = v->taps; t; t = t->next)
		if (t->write && t->bar == bar && off >= t->off &&
		    off - t->off < t->len && t->write(t->opaque, off, 4, val))
			return;
	pdev_put(v, bar, off, val);
}

static void nonsense(struct vdev *v, const char *what, unsigned int bar,
		     uint64_t off, unsigned int size)
{
	v->counts.bad++;
	log_limited(&v->nonsense, LOG_WARN,
		    "%s: %s of %u bytes at 0x%llx of BAR %u", v->name, what,
		    size, (unsigned long long)off, bar);
}

/*
 * Registers are 32 bits wide.  A wider access is two; a narrower read is a
 * part of one, and a narrower write has no meaning on this hardware.
 */
uint64_t vdev_bar_read(struct pci_func *f, unsigned int bar, uint64_t off,
		       unsigned int size)
{
	struct vdev *v = to_vdev(f);
	uint32_t at = (uint32_t)off;
	uint64_t val = ~0ull;

	vdev_lock(v);
	if (bar > 5 || off >= v->bar[bar].size || size > 8 ||
	    size > v->bar[bar].size - off || off % 4 + MIN(size, 4u) > 4)
		nonsense(v, "read", bar, off, size);
	else if (size == 8)
		val = read32(v, bar, at) | (uint64_t)read32(v, bar, at + 4)
						   << 32;
	else
		val = read32(v, bar, at & ~3u) >> (at % 4 * 8);
	vdev_unlock(v);
	return size < 8 ? val & ((1ull << (8 * size)) - 1) : val;
}

void vdev_bar_write(struct pci_func *f, unsigned int bar, uint64_t off,
		    unsigned int size, uint64_t val)
{
	struct vdev *v = to_vdev(f);
	uint32_t at = (uint32_t)off;

	vdev_lock(v);
	if (bar > 5 || off >= v->bar[bar].size || (size != 4 && size != 8) ||
	    size > v->bar[bar].size - off || off % 4) {
		nonsense(v, "write", bar, off, size);
	} else {
		write32(v, bar, at, (uint32_t)val);
		if (size == 8)
			write32(v, bar, at + 4, (uint32_t)(val >> 32));
	}
	vdev_unlock(v);
}
