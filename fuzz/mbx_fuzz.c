// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/loop.c src/base/trace.c src/base/wire.c src/pci/caps.c src/pci/config.c src/pci/msix.c src/pdev/pdev.c src/igb/gen.c src/igb/hostpf.c src/igb/hostpf_broker.c src/igb/mbx.c src/igb/pf.c src/igb/pf_filter.c src/igb/pf_hw.c src/igb/pf_policy.c src/igb/pf_sriov.c src/igb/pf_vf.c src/igb/pf_announce.c src/igb/pf_tx.c src/igb/rarp.c src/igb/fake_igb.c src/vdev/fake.c src/vdev/host.c src/vdev/models.c src/vdev/mbx.c src/vdev/mbx_fsm.c src/vdev/mbx_kernel.c src/vdev/mbx_regs.c src/vdev/mbx_save.c src/vdev/vdev.c src/vdev/vdev_bar.c src/vdev/vdev_cfg.c src/vdev/vdev_gone.c src/vdev/vdev_irq.c fuzz/vdev_pdev.c libs: jansson mnl
/*
 * What a hostile guest can do to its mailbox, trapped and direct, while the
 * host speaks, resets, quiesces, saves and loads; and what a hostile peer can
 * send as a mailbox's state.
 *
 * Held after each step: the page is trapped exactly while an exchange is
 * going on, and a saved state has its one size and is accepted again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/fake_igb.h"
#include "igb/pf.h"
#include "vdev/fake.h"
#include "vdev/mbx.h"

struct op {
	uint8_t what, where;
	uint16_t val;
};

struct scene {
	struct fake_igb d;
	struct fake_host h;
	struct fake_pdev *fp;
	struct loop *loop;
	struct pf *pf;
	struct pf_port *port;
	struct vdev *v;
	struct vdev_mbx *m;
};

static void nothing(enum log_level level, const char *line, void *opaque)
{
}

static bool has_meaning(uint32_t off)
{
	return off == IGBVF_CTRL || off == IGBVF_STATUS ||
	       off == IGBVF_V2PMAILBOX ||
	       (off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 64);
}

static void on_read(struct fake_pdev *fp, unsigned int bar, uint32_t off)
{
	struct scene *s = fp->opaque;

	if (bar == 0 && has_meaning(off))
		fake_pdev_set(fp, off, fake_igb_vf_read(&s->d, 0, off));
}

static void on_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
		     uint32_t val)
{
	struct scene *s = fp->opaque;

	if (bar == 0 && has_meaning(off))
		fake_igb_vf_write(&s->d, 0, off, val);
}

static void guest_write(struct scene *s, uint32_t off, uint32_t val)
{
	if (fake_exits(&s->h, 0, off))
		fake_write(&s->h, 0, off, val);
	else
		fake_igb_vf_write(&s->d, 0, off, val);
}

static void guest_read(struct scene *s, uint32_t off)
{
	if (fake_exits(&s->h, 0, off))
		fake_read(&s->h, 0, off);
	else
		fake_igb_vf_read(&s->d, 0, off);
}

static void spin(struct scene *s)
{
	for (int i = 0; i < 3; i++)
		loop_once(s->loop, 0);
}

static void create(struct scene *s, bool kernel)
{
	const struct vdev_model *model = vdev_model_find("igb/82576");
	struct vdev_mbx_conf mc = { .mode = kernel ? VDEV_MBX_KERNEL
						   : VDEV_MBX_ON_DEMAND };
	struct pf_conf conf = { 0 };

	fake_igb_init(&s->d, IGB_DEV_82576);
	/* As found running: a bring-up would cost most of the time. */
	pci_config_set16(&s->d.cfg, s->d.sriov + 0x10, 1);
	pci_config_set16(&s->d.cfg, s->d.sriov + 0x08, 9);
	s->d.reg[IGB_CTRL_EXT / 4] = IGB_CTRL_EXT_DRV_LOAD;
	s->d.reg[IGB_MRQC / 4] = IGB_MRQC_VMDQ;
	s->d.reg[IGB_RCTL / 4] = IGB_RCTL_EN;
	s->d.v2p[0] = 0;
	pf_policy_default(&conf.policy);
	if (loop_create(&s->loop) < 0 ||
	    pf_open(&s->pf, fake_igb_pdev(&s->d), s->loop, &conf, NULL) < 0 ||
	    fake_host_init(&s->h, 1 << 16) < 0 ||
	    vdev_create(&s->v, "f", model, &s->h.h, s->loop, NULL) < 0 ||
	    fake_pdev_open(&s->fp, 0x8086, 0x10ca) < 0)
		abort();
	fake_plug(&s->h, vdev_func(s->v));
	fake_msix_on(&s->h, model);
	s->fp->on_read = on_read;
	s->fp->on_write = on_write;
	s->fp->opaque = s;
	fake_pdev_set(s->fp, IGBVF_IVAR_MISC, IGB_IVAR_VALID | 2);
	if (vdev_bind(s->v, &s->fp->p, VDEV_HARDWARE, NULL) < 0)
		abort();
	s->port = NULL;
	if (!kernel && pf_claim(&s->port, s->pf, 0, "f", NULL) < 0)
		abort();
	mc.port = s->port;
	if (vdev_mbx_open(&s->m, s->v, &mc, NULL) < 0)
		abort();
}

static void destroy(struct scene *s)
{
	vdev_mbx_close(s->m);
	pf_port_close(s->port);
	spin(s);
	vdev_destroy(s->v);
	pf_close(s->pf);
	loop_destroy(s->loop);
	fake_host_fini(&s->h);
}

static void save_and_load(struct scene *s)
{
	uint8_t buf[VDEV_MBX_SAVE_SIZE + 1];
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	vdev_mbx_save(s->m, &o);
	if (o.err || wire_used(&o) != VDEV_MBX_SAVE_SIZE)
		abort();
	wire_in_init(&in, buf, VDEV_MBX_SAVE_SIZE);
	if (vdev_mbx_load(s->m, &in, NULL) < 0 || wire_done(&in) < 0)
		abort();
}

static void check(struct scene *s, bool kernel)
{
	bool idle = !strcmp(vdev_mbx_state_name(s->m), "direct");
	bool direct = vdev_page_direct(s->v, 0, 0);

	if (direct != (idle && !kernel))
		abort();
}

static void step(struct scene *s, const struct op *op)
{
	uint32_t off;

	switch (op->where % 4) {
	case 0: off = IGBVF_V2PMAILBOX; break;
	case 1: off = IGBVF_VMBMEM; break;
	case 2: off = IGBVF_VMBMEM + (op->where >> 2 & 0x3c); break;
	default: off = op->where & 4 ? IGBVF_STATUS : IGBVF_CTRL; break;
	}
	switch (op->what % 16) {
	case 0: pf_kick(s->pf, 0); break;
	case 1: fake_igb_set_link(&s->d, op->where & 1); break;
	case 2: vdev_mbx_quiesce(s->m); break;
	case 3: vdev_mbx_unquiesce(s->m); break;
	case 4: vdev_mbx_vf_reset(s->m); break;
	case 5: save_and_load(s); break;
	case 6: pf_set_frame(s->pf, 0, op->val); break;
	case 7: spin(s); break;
	case 8:
	case 9: guest_read(s, off); break;
	default:
		guest_write(s, off,
			    off == IGBVF_CTRL ? (uint32_t)op->val << 16
			    : off == IGBVF_VMBMEM
				    ? (uint32_t)op->val % 0x107 |
					      (op->val & 0xf000u) << 8
				    : op->val);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scene s;
	bool kernel;

	log_set_sink(nothing, NULL);
	if (size < 1)
		return 0;
	kernel = data[0] & 1;
	create(&s, kernel);
	if (data[0] & 2) {
		struct wire_in in;

		wire_in_init(&in, data + 1, size - 1);
		vdev_mbx_load(s.m, &in, NULL);
		vdev_mbx_resume(s.m, NULL);
		spin(&s);
	} else {
		for (data++, size--; size >= sizeof(struct op);
		     data += sizeof(struct op), size -= sizeof(struct op)) {
			struct op op;

			memcpy(&op, data, sizeof(op));
			step(&s, &op);
			check(&s, kernel);
		}
	}
	destroy(&s);
	return 0;
}
