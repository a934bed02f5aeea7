/*
 * Client memory.  An access that leaves the client's mappings is what an
 * IOMMU fault is to hardware: counted, logged now and then, and the data
 * is lost.  A buffer may lie across mappings that touch; then it is copied
 * page by page.
 */
#include <string.h>

#include "nic/nic_int.h"

static void fault(struct nic *nic, struct nic_fn *fn, uint64_t iova,
		  uint64_t len, bool write)
{
	nic->counts.dma_faults++;
	log_limited(&fn->limit, LOG_WARN,
		    "function %u: DMA %s of %llu bytes at %#llx is outside the "
		    "client's memory",
		    fn->index, write ? "write" : "read",
		    (unsigned long long)len, (unsigned long long)iova);
}

static void *find(struct nic_fn *fn, uint64_t iova, uint64_t len, bool write)
{
	if (!fn->ops || !fn->master || iova + len < iova)
		return NULL;
	return fn->ops->dma(fn->opaque, iova, len, write);
}

void nic_dma_wrote(struct nic_fn *fn, uint64_t iova, uint64_t len)
{
	if (fn->ops && fn->ops->wrote)
		fn->ops->wrote(fn->opaque, iova, len);
}

static uint32_t to_page_end(uint64_t iova, uint32_t len)
{
	uint64_t left = PAGE_SIZE - iova % PAGE_SIZE;

	return left < len ? (uint32_t)left : len;
}

bool nic_dma_read(struct nic *nic, struct nic_fn *fn, uint64_t iova, void *buf,
		  uint32_t len)
{
	const void *p = find(fn, iova, len, false);
	uint8_t *to = buf;

	if (p) {
		memcpy(buf, p, len);
		return true;
	}
	while (len) {
		uint32_t n = to_page_end(iova, len);

		p = find(fn, iova, n, false);
		if (!p) {
			fault(nic, fn, iova, n, false);
			return false;
		}
		memcpy(to, p, n);
		to += n;
		iova += n;
		len -= n;
	}
	return true;
}

bool nic_dma_write(struct nic *nic, struct nic_fn *fn, uint64_t iova,
		   const void *buf, uint32_t len)
{
	void *p = find(fn, iova, len, true);
	const uint8_t *from = buf;

	if (p) {
		memcpy(p, buf, len);
		nic_dma_wrote(fn, iova, len);
		return true;
	}
	while (len) {
		uint32_t n = to_page_end(iova, len);

		p = find(fn, iova, n, true);
		if (!p) {
			fault(nic, fn, iova, n, true);
			return false;
		}
		memcpy(p, from, n);
		nic_dma_wrote(fn, iova, n);
		from += n;
		iova += n;
		len -= n;
	}
	return true;
}

union igb_desc *nic_dma_desc(struct nic *nic, const struct nic_queue *q,
			     uint32_t i, bool write)
{
	uint64_t iova = q->base + (uint64_t)i * IGB_DESC_SIZE;
	void *p = find(q->fn, iova, IGB_DESC_SIZE, write);

	/* Aligned in IOVA; a client may still have mapped it askew. */
	if (!p || (uintptr_t)p % IGB_DESC_SIZE) {
		fault(nic, q->fn, iova, IGB_DESC_SIZE, write);
		return NULL;
	}
	return p;
}
