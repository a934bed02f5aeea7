// sources: src/nic/direct.c src/nic/dma.c src/nic/intr.c src/nic/mbx.c src/nic/nic.c src/nic/pcicfg.c src/nic/phy.c src/nic/pkt.c src/nic/queue.c src/nic/regs.c src/nic/rx.c src/nic/switch.c src/nic/tx.c src/nic/vf_regs.c src/nic/fixture.c src/pci/caps.c src/pci/config.c src/pci/msix.c src/base/err.c src/base/log.c
/*
 * Hostile guests on all functions of the software NIC at once.
 *
 * The input is a list of operations: register accesses of PF and VFs, words
 * stored into direct pages, descriptors and frames written to memory, config
 * space, frames from the wire, resets, rounds of work.  It starts from a
 * NIC with rings and loopback up, so that descriptors are reached at once.
 * Checked: no access outside memory (the sanitizer), every frame on the wire
 * has a length a wire has, and rounds of work end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/util.h"
#include "nic/fixture.h"

#define REQUIRE(x)               \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

#define VFS 3

static void nothing(enum log_level level, const char *line, void *opaque)
{
}

struct op {
	uint8_t what, fn;
	uint16_t off;
	uint32_t val;
};

struct world {
	struct fx *x;
	struct fx_ring rx[VFS], tx[VFS];
	volatile uint32_t *page[VFS];
};

static void poll_all(struct world *w)
{
	/* 64 descriptors a queue and a round: this is bounded or broken. */
	for (int i = 0; i < 4; i++)
		nic_poll(w->x->nic);
	for (unsigned int i = 0; i < MIN(w->x->nframes, FX_FRAMES); i++)
		REQUIRE(w->x->frame[i].len >= 60 &&
			w->x->frame[i].len <= IGB_FRAME_MAX);
	w->x->nframes = 0;
}

static void step(struct world *w, const struct op *op, const uint8_t *rest,
		 size_t left)
{
	struct nic *nic = w->x->nic;
	unsigned int vf = op->fn % VFS, fn = op->fn % (VFS + 1);
	struct fx_ring *r = op->off & 1 ? &w->tx[vf] : &w->rx[vf];
	uint32_t v = op->val, off;

	switch (op->what % 14) {
	case 0: nic_write(nic, fn, 0, (uint32_t)op->off * 4u, &v, 4); break;
	case 1: nic_read(nic, fn, 0, (uint32_t)op->off * 4u, &v, 4); break;
	case 2: w->page[vf][op->off % (IGBVF_BAR0_SIZE / 4)] = v; break;
	case 3: /* a register that exists, of a queue */
		off = (op->off & 1 ? 0x3800u : 0x2800u) +
		      (op->off >> 1 & 0x1fc);
		nic_write(nic, NIC_VF(vf), 0, off, &v, 4);
		break;
	case 4:
	case 5: /* a descriptor */
		memcpy(fx_desc(w->x, r, op->val), rest, MIN(left, 16));
		break;
	case 6: /* a buffer near where it should be */
		fx_desc(w->x, r, op->off)->qw[0] =
			fx_buf_iova(r, op->val & 0xff) + (op->val >> 8);
		break;
	case 7: memcpy(fx_buf(w->x, r, op->val), rest, MIN(left, 2048)); break;
	case 8:
		w->page[vf][(op->off & 1 ? IGBVF_TDT : IGBVF_RDT) / 4] = v % 80;
		break;
	case 9: nic_wire_input(nic, rest, MIN(left, v % 12000)); break;
	case 10:
		nic_config_write(nic, fn, op->off % 0x200, &v,
				 1 + (op->val >> 24) % 4);
		break;
	case 11:
		if (v % 16 == 0)
			nic_flr(nic, fn);
		else if (v % 16 == 1)
			nic_set_carrier(nic, v & 16);
		else if (v % 16 == 2)
			w->x->wire_busy = v & 16;
		break;
	default: poll_all(w);
	}
}

/* A NIC is dear to make: an FLR makes an old one as good as new. */
static void open_world(struct world *w, uint8_t flavour)
{
	static struct fx *kept[16];
	struct nic_conf c = fx_conf(flavour & 1 ? NIC_I350 : NIC_82576);
	struct fx **x = &kept[flavour & 15];

	c.compact = flavour & 2;
	c.heads_ro = flavour & 4;
	c.direct_pages = flavour & 8 ? 0 : NIC_DIRECT_DEFAULT;
	if (!*x)
		*x = fx_create(&c);
	w->x = *x;
	w->x->wire_busy = false;
	memset(w->x->mem, 0, 64u << 10);
	nic_flr(w->x->nic, NIC_PF);
	nic_set_carrier(w->x->nic, true);
	fx_bring_up(w->x, VFS);
	for (unsigned int i = 0; i < VFS; i++) {
		uint32_t srrctl = flavour & 16 ? IGB_SRRCTL_SPLIT_ALWAYS | 0x201
					       : IGB_SRRCTL_ONEBUF | 1;

		fx_rx_ring(w->x, &w->rx[i], NIC_VF(i), 0, srrctl);
		fx_tx_ring(w->x, &w->tx[i], NIC_VF(i), 0);
		w->page[i] = mmap(NULL, IGBVF_BAR0_SIZE, PROT_READ | PROT_WRITE,
				  MAP_SHARED, nic_direct_fd(w->x->nic, i), 0);
		REQUIRE(w->page[i] != MAP_FAILED);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w;
	struct op op;

	if (size < 1)
		return 0;
	log_set_sink(nothing, NULL);
	open_world(&w, *data++);
	size--;
	while (size >= sizeof(op)) {
		memcpy(&op, data, sizeof(op));
		data += sizeof(op);
		size -= sizeof(op);
		step(&w, &op, data, size);
	}
	poll_all(&w);
	for (unsigned int i = 0; i < VFS; i++)
		munmap((void *)w.page[i], IGBVF_BAR0_SIZE);
	return 0;
}
