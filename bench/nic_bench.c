/*
 * The software NIC's data path: frames and bytes a second from VF to VF of
 * one NIC, what a frame costs the NIC's thread, and the ratio to a plain
 * memcpy of the same bytes between the same buffers.
 *
 * Guest and NIC take turns on one thread, so the figure is the NIC's alone:
 * CPU time, which other load on the machine does not change, is taken around
 * nic_poll() only.  Tails go through the direct pages,
 * as from a guest; interrupts are counted, not delivered (an eventfd write
 * each would come on top, at the rate EITR allows).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "nic/fixture.h"
#include "nic/pkt.h"

#define RING   512u
#define BURST  256u
#define RUN_NS 400000000ull

struct side {
	volatile uint32_t *bar; /* the VF's BAR 0 */
	union igb_desc *ring;
	uint32_t at, bufs;
	uint32_t next;
};

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint8_t *buffer(struct fx *x, const struct side *s, uint32_t i)
{
	return x->mem + s->bufs + i % RING * FX_BUF;
}

static void open_side(struct fx *x, struct side *s, unsigned int vf, bool tx)
{
	uint32_t b = (tx ? 0x3800u : 0x2800u) / 4;

	s->at = tx ? 0 : 64u << 10;
	s->bufs = tx ? 1u << 20 : 4u << 20;
	s->next = 0;
	s->ring = (void *)(x->mem + s->at);
	s->bar = mmap(NULL, IGBVF_BAR0_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		      nic_direct_fd(x->nic, vf), 0);
	s->bar[b + IGB_Q_BAL / 4] = (uint32_t)FX_IOVA + s->at;
	s->bar[b + IGB_Q_BAH / 4] = FX_IOVA >> 32;
	s->bar[b + IGB_Q_LEN / 4] = RING * IGB_DESC_SIZE;
	if (!tx)
		s->bar[b + IGB_Q_SRRCTL / 4] = IGB_SRRCTL_ONEBUF | 2;
	s->bar[b + IGB_Q_DCTL / 4] = IGB_DCTL_ENABLE;
	fx_rd(x, NIC_PF, IGB_STATUS); /* the NIC looks */
}

static void refill(struct side *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++, s->next++)
		igb_rxd_fill(&s->ring[s->next % RING],
			     FX_IOVA + s->bufs + s->next % RING * FX_BUF, 0);
	__atomic_store_n(&s->bar[IGBVF_RDT / 4], (s->next - 1) % RING,
			 __ATOMIC_RELEASE);
}

static void submit(struct side *s, uint32_t len, uint32_t n, uint32_t olinfo)
{
	for (uint32_t i = 0; i < n; i++, s->next++) {
		union igb_desc *d = &s->ring[s->next % RING];

		igb_txd_fill(d, FX_IOVA + s->bufs + s->next % RING * FX_BUF,
			     (uint16_t)len, IGB_TXD_EOP | IGB_TXD_RS);
		d->dw[3] |= olinfo;
	}
	__atomic_store_n(&s->bar[IGBVF_TDT / 4], s->next % RING,
			 __ATOMIC_RELEASE);
}

/* A UDP frame, so that checksum work can be switched on. */
static void fill_frames(struct fx *x, struct side *tx, uint32_t len)
{
	for (uint32_t i = 0; i < RING; i++) {
		uint8_t *p = buffer(x, tx, i), dst[6], src[6];

		fx_mac(src, 0);
		fx_mac(dst, 1);
		fx_frame(p, dst, src, len);
		pkt_put16(p + 12, 0x0800);
		memset(p + 14, 0, 28);
		p[14] = 0x45;
		pkt_put16(p + 16, (uint16_t)(len - 14));
		p[22] = 64;
		p[23] = 17;
		pkt_put16(p + 38, (uint16_t)(len - 34));
	}
}

static void wrong(const char *what)
{
	fprintf(stderr, "nic_bench: %s\n", what);
	exit(1);
}

/* Nanoseconds of memcpy for a frame of this length, same buffers. */
static double copy_ns(struct fx *x, struct side *tx, struct side *rx,
		      uint32_t len)
{
	uint64_t t0 = cpu_ns(), n = 0;

	while (cpu_ns() - t0 < RUN_NS / 4)
		for (uint32_t i = 0; i < BURST; i++, n++)
			memcpy(buffer(x, rx, (uint32_t)n),
			       buffer(x, tx, (uint32_t)n), len);
	return (double)(cpu_ns() - t0) / (double)n;
}

static void run(uint32_t len, bool sums)
{
	struct nic_conf conf = fx_conf(NIC_82576);
	uint64_t busy = 0, frames = 0, start, ns;
	struct side tx, rx;
	struct fx *x;
	double copy, per;

	conf.direct_pages = NIC_DIRECT_DEFAULT;
	x = fx_create(&conf);
	fx_bring_up(x, 2);
	if (!sums)
		fx_wr(x, NIC_PF, IGB_RXCSUM, 0);
	open_side(x, &tx, 0, true);
	open_side(x, &rx, 1, false);
	fill_frames(x, &tx, len);
	if (sums) { /* the context first, it stays */
		union igb_desc *d = &tx.ring[0];

		d->dw[0] = 20 | 14u << IGB_CTX_MACLEN_SHIFT;
		d->dw[1] = 0;
		d->dw[2] = IGB_TXD_DTYP_CTX | IGB_TXD_DEXT | IGB_CTX_IPV4;
		d->dw[3] = 8u << IGB_CTX_L4LEN_SHIFT;
		tx.next = 1;
	}
	refill(&rx, RING - 1);

	start = cpu_ns();
	while (cpu_ns() - start < RUN_NS) {
		uint32_t first = tx.next;
		uint64_t t0;

		submit(&tx, len, BURST, sums ? IGB_TXD_IXSM | IGB_TXD_TXSM : 0);
		t0 = cpu_ns();
		while (!igb_txd_done(&tx.ring[(first + BURST - 1) % RING]))
			nic_poll(x->nic);
		busy += cpu_ns() - t0;
		for (uint32_t i = 0; i < BURST; i++) {
			uint32_t k = (rx.next + 1 + i) % RING;

			if (!igb_rxd_done(&rx.ring[k]) ||
			    igb_rxd_len(&rx.ring[k]) != len)
				wrong("a frame did not arrive");
		}
		refill(&rx, BURST);
		frames += BURST;
	}
	ns = cpu_ns() - start;
	copy = copy_ns(x, &tx, &rx, len);
	per = (double)busy / (double)frames;
	printf("%5u B %-10s %8.3f Mframes/s %7.3f GB/s  %7.1f ns/frame  "
	       "memcpy %6.1f ns  ratio %5.2f  (with the guests' part: %.3f "
	       "Mframes/s)\n",
	       len, sums ? "checksums" : "plain", 1000 / per, (double)len / per,
	       per, copy, per / copy, (double)frames * 1000 / (double)ns);
	munmap((void *)tx.bar, IGBVF_BAR0_SIZE);
	munmap((void *)rx.bar, IGBVF_BAR0_SIZE);
	fx_destroy(x);
}

int main(void)
{
	static const uint32_t lens[] = { 64, 1500 };

	printf("VF to VF in one NIC, one core, bursts of %u\n", BURST);
	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		run(lens[i], false);
		run(lens[i], true);
	}
	return 0;
}
