/*
 * A transmit ring of the PF's own, for announcements: the rings of a VF are
 * its guest's, and anti-spoof would drop what a VF sends in another's name.
 *
 * It lives in the last pool, which is never a VF's (gen.h: vfs_max), and is
 * set up when the first frame is sent.  Completion is seen in the write-back
 * when room is needed; no interrupt is asked for.  Order of the setup: Linux
 * igb_configure_tx_ring().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "igb/desc.h"
#include "igb/pf_priv.h"

#define DESCS	   128u
#define SLOT	   128u /* bytes of room for a frame */
#define RING_BYTES 4096u
#define BYTES	   (RING_BYTES + DESCS * SLOT)
/* Any address below the interrupts' window: nothing else is mapped. */
#define IOVA	  0x1000000ull
#define POOL	  (IGB_POOLS - 1u)
#define THRESHOLD (8u << IGB_DCTL_PTHRESH_SHIFT | 1u << IGB_DCTL_HTHRESH_SHIFT)

struct pf_tx {
	union igb_desc *ring;
	uint8_t *frames;
	int fd;
	unsigned int q, head, tail; /* head: not reaped yet */
};

static int wait_enable(struct pf *pf, unsigned int q, uint32_t want)
{
	const struct timespec nap = { .tv_nsec = 100000 };

	for (unsigned int i = 0; i < 100; i++) {
		if ((pf_rd(pf, IGB_TXDCTL(q)) & IGB_DCTL_ENABLE) == want)
			return 0;
		if (pf->gone)
			return -ENODEV;
		nanosleep(&nap, NULL);
	}
	return -ETIMEDOUT;
}

static int start(struct pf *pf, struct pf_tx *t)
{
	int ret;

	/* A driver that died may have left its own. */
	pf_wr(pf, IGB_TXDCTL(t->q), 0);
	ret = wait_enable(pf, t->q, 0);
	if (ret < 0)
		return ret;
	pf_wr(pf, IGB_TDBAL(t->q), (uint32_t)IOVA);
	pf_wr(pf, IGB_TDBAH(t->q), (uint32_t)(IOVA >> 32));
	pf_wr(pf, IGB_TDLEN(t->q), DESCS * IGB_DESC_SIZE);
	pf_wr(pf, IGB_TDWBAL(t->q), 0);
	pf_wr(pf, IGB_TDH(t->q), 0);
	pf_wr(pf, IGB_TDT(t->q), 0);
	pf_wr(pf, IGB_TXDCTL(t->q), THRESHOLD | IGB_DCTL_ENABLE);
	return wait_enable(pf, t->q, IGB_DCTL_ENABLE);
}

static int tx_open(struct pf *pf)
{
	struct pf_tx *t = calloc(1, sizeof(*t));
	struct pdev_dma m = { .iova = IOVA,
			      .size = BYTES,
			      .prot = PDEV_READ | PDEV_WRITE };
	int ret;

	if (!t)
		return -ENOMEM;
	t->q = gen_vf_queue(pf->gen, POOL, 0);
	t->fd = memfd_create("pf-tx", MFD_CLOEXEC);
	if (t->fd < 0 || ftruncate(t->fd, BYTES) < 0) {
		ret = -errno;
		goto free;
	}
	m.va = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	if (m.va == MAP_FAILED) {
		ret = -errno;
		goto free;
	}
	m.fd = t->fd;
	t->ring = m.va;
	t->frames = (uint8_t *)m.va + RING_BYTES;
	ret = pdev_dma_map(pf->pdev, &m);
	if (ret < 0)
		goto unmap;
	ret = start(pf, t);
	if (ret < 0)
		goto undma;
	pf->tx = t;
	pf_filters_write(pf); /* the pool may send */
	return 0;

undma:
	pdev_dma_unmap(pf->pdev, IOVA, BYTES);
unmap:
	munmap(m.va, BYTES);
free:
	close_fd(&t->fd);
	free(t);
	return ret;
}

uint32_t pf_tx_pools(const struct pf *pf)
{
	return pf->tx ? 1u << POOL : 0;
}

static void reap(struct pf_tx *t)
{
	while (t->head != t->tail &&
	       __atomic_load_n(&t->ring[t->head].dw[3], __ATOMIC_ACQUIRE) &
		       IGB_TXD_DD)
		t->head = (t->head + 1) % DESCS;
}

unsigned int pf_tx_pending(struct pf *pf)
{
	if (!pf->tx)
		return 0;
	reap(pf->tx);
	return (pf->tx->tail - pf->tx->head) % DESCS;
}

int pf_tx_send(struct pf *pf, const void *frame, size_t len)
{
	union igb_desc d = { 0 };
	int ret = pf->tx ? 0 : tx_open(pf);
	struct pf_tx *t = pf->tx;

	if (!t)
		return ret;
	if (len > SLOT)
		return -EMSGSIZE;
	reap(t);
	if ((t->tail + 1) % DESCS == t->head)
		return -ENOBUFS;
	memcpy(t->frames + t->tail * SLOT, frame, len);
	d.qw[0] = IOVA + RING_BYTES + t->tail * SLOT;
	d.dw[2] = (uint32_t)len | IGB_TXD_DTYP_DATA | IGB_TXD_DEXT |
		  IGB_TXD_EOP | IGB_TXD_IFCS | IGB_TXD_RS;
	d.dw[3] = (uint32_t)len << IGB_TXD_PAYLEN_SHIFT;
	t->ring[t->tail] = d;
	t->tail = (t->tail + 1) % DESCS;
	/* The descriptor is in memory before the device hears of it. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	pf_wr(pf, IGB_TDT(t->q), t->tail);
	return pf->gone ? -ENODEV : 0;
}

void pf_tx_close(struct pf *pf)
{
	struct pf_tx *t = pf->tx;

	if (!t)
		return;
	pf->tx = NULL;
	if (!pf->gone) {
		pf_wr(pf, IGB_TXDCTL(t->q), 0);
		wait_enable(pf, t->q, 0);
	}
	pdev_dma_unmap(pf->pdev, IOVA, BYTES);
	munmap(t->ring, BYTES);
	close_fd(&t->fd);
	free(t);
}
