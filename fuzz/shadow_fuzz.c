// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/loop.c src/base/wire.c src/pci/caps.c src/pci/config.c src/pci/msix.c src/vdev/fake.c src/vdev/host.c src/vdev/models.c src/vdev/vdev.c src/vdev/vdev_bar.c src/vdev/vdev_cfg.c src/vdev/vdev_gone.c src/vdev/vdev_irq.c src/pdev/pdev.c src/igb/vfstate.c src/shadow/follow.c src/shadow/poll.c src/shadow/ring.c src/shadow/ring_done.c src/shadow/shadow.c src/shadow/sim.c src/shadow/sim_dev.c src/shadow/sim_guest.c src/shadow/sim_log.c src/shadow/smem.c src/shadow/standin.c src/shadow/switch.c fuzz/vdev_pdev.c
/*
 * What a hostile guest can do to its own shadow: any descriptor, any write
 * to the trapped registers, in any order, on a device that does as it is
 * told.  The device must never be told to reach outside guest RAM.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "shadow/priv.h"
#include "shadow/sim.h"

struct op {
	uint8_t what, a;
	uint16_t b;
	uint64_t v;
};

static void nothing(enum log_level level, const char *line, void *opaque)
{
}

static const uint16_t regs[] = {
	IGBVF_RDT,   IGBVF_TDT,	   IGBVF_RDBAL,	 IGBVF_TDBAL,  IGBVF_RDLEN,
	IGBVF_TDLEN, IGBVF_RXDCTL, IGBVF_TXDCTL, IGBVF_SRRCTL, IGBVF_RDH,
	IGBVF_TDH,   IGBVF_TDWBAL, IGBVF_CTRL,	 IGBVF_IVAR0,
};

static void write_slot(struct sim *s, const struct op *op)
{
	uint64_t ring = op->what & 0x80 ? s->tx_ring : s->rx_ring;
	uint64_t *qw = (uint64_t *)((uint8_t *)s->fh.ram.guest + ring +
				    op->a % 32 * 16u);

	qw[op->b & 1] = op->b & 2 ? op->v : op->v % (SIM_RAM + 64);
}

static void step(struct sim *s, const struct op *op)
{
	switch (op->what & 0x0f) {
	case 0:
	case 1:
	case 2: write_slot(s, op); break;
	case 3:
		fake_write(&s->fh, 0, regs[op->a % ARRAY_SIZE(regs)],
			   (uint32_t)op->v);
		break;
	case 4: fake_write(&s->fh, 0, IGBVF_RDT, op->a % 40); break;
	case 5: fake_write(&s->fh, 0, IGBVF_TDT, op->a % 40); break;
	case 6: sim_dev_receive(s, 1 + op->b % SIM_FRAME); break;
	case 7: sim_dev_transmit(s); break;
	case 8: shadow_sync(s->sh); break;
	case 9: fake_read(&s->fh, 0, op->b & 0x3ffc); break;
	case 10: fake_write(&s->fh, 0, op->b & 0x3ffc, (uint32_t)op->v); break;
	case 11:
		vdev_lock(s->v);
		if (op->a & 1)
			shadow_stand_in(s->sh);
		else
			shadow_stand_down(s->sh, true);
		vdev_unlock(s->v);
		break;
	case 12: sim_tick(s); break;
	case 13:
		fake_write(&s->fh, 0, op->a & 1 ? IGBVF_RXDCTL : IGBVF_TXDCTL,
			   op->a & 2 ? IGB_DCTL_ENABLE : 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sim s;
	struct sim_opts o = { .nrx = 32,
			      .ntx = 32,
			      .seed = 1,
			      .shadow.poll_ns = SHADOW_POLL_OFF };
	struct op op;

	log_set_sink(nothing, NULL);
	if (size > 256 * sizeof(op))
		return 0;
	o.shadow.method = size & 1 ? SHADOW_IOMMU : SHADOW_CPU;
	o.tight = size & 2;
	o.shadow.full = size & 4;
	if (sim_init(&s, &o))
		abort();
	sim_guest_up(&s);
	sim_guest_post(&s, 32);
	if (shadow_engage(s.sh, IGB_ALLQ, NULL))
		abort();
	for (; size >= sizeof(op); data += sizeof(op), size -= sizeof(op)) {
		memcpy(&op, data, sizeof(op));
		step(&s, &op);
		/* A queue that is not followed is the IOMMU's to stop. */
		if (s.sh->unfit)
			break;
		if (s.dev.dma_faults)
			abort();
	}
	sim_fini(&s);
	return 0;
}
