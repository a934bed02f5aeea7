/*
 * Life of a nic: creation, resets, accesses, the round of work.
 */
#include "nic/nic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nic/nic_int.h"

#define TX_BATCH 64u /* descriptors a queue gets before the next one */

const struct nic_model_info nic_models[NIC_NMODELS] = {
	[NIC_82576] = {
		.name = "82576",
		.pf_device = IGB_DEV_82576, .vf_device = IGB_DEV_82576_VF,
		.queues = IGB_QUEUES_82576, .queues_per_vf = 2,
		.rars = IGB_RAR_82576, .txswc = IGB_DTXSWC,
		.phy_id = 0x02a80391,
	},
	[NIC_I350] = {
		.name = "i350",
		.pf_device = IGB_DEV_I350, .vf_device = IGB_DEV_I350_VF,
		.queues = IGB_QUEUES_I350, .queues_per_vf = 1,
		.rars = IGB_RAR_I350, .txswc = IGB_TXSWC,
		.strvlan_in_dvmolr = true, .lb_vlan_swapped = true,
		.ivar_by_pair = true, .phy_id = 0x015403b1,
	},
};

const char *nic_model_name(enum nic_model model)
{
	return nic_models[model].name;
}

int nic_model_parse(const char *name)
{
	for (int i = 0; i < NIC_NMODELS; i++)
		if (!strcmp(name, nic_models[i].name))
			return i;
	return -EINVAL;
}

static void no_irq(void *opaque, enum nic_irq kind, unsigned int vector)
{
}

static void *no_dma(void *opaque, uint64_t iova, uint64_t len, bool write)
{
	return NULL;
}

static const struct nic_host_ops nobody = { .dma = no_dma, .irq = no_irq };

/* Queue to pool is fixed; whose memory it uses follows the VFs there are. */
void nic_assign_queues(struct nic *nic)
{
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		unsigned int pool = i % IGB_POOLS;
		struct nic_fn *fn =
			&nic->fn[pool < nic->num_vfs ? NIC_VF(pool) : NIC_PF];

		nic->rx[i].q.fn = nic->tx[i].q.fn = fn;
		nic->rx[i].q.pool = nic->tx[i].q.pool = (uint8_t)pool;
		nic->rx[i].q.local = nic->tx[i].q.local = i / IGB_POOLS;
		nic->rx[i].q.index = nic->tx[i].q.index = (uint8_t)i;
	}
}

/* What CTRL.RST clears: statistics and head write-back addresses stay. */
static void vf_unconfigure(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];

	for (unsigned int l = 0; l < nic->m->queues_per_vf; l++) {
		nic_rxq_reset(nic, nic_vf_queue(nic, vf, l));
		nic_txq_reset(nic, nic_vf_queue(nic, vf, l));
	}
	nic_intr_reset(&v->intr);
	v->ivar = v->ivar_misc = v->pbacl = 0;
	REG(nic, IGB_PSRTYPE(vf)) = 0;
}

/* A VF as new: nothing configured, nothing counted. */
void nic_vf_clear(struct nic *nic, unsigned int vf)
{
	struct nic_vf *v = &nic->vf[vf];

	v->gprc = v->gptc = v->gorc = v->gotc = v->mprc = 0;
	v->gprlbc = v->gptlbc = v->gorlbc = v->gotlbc = 0;
	memset(&v->shm[IGBVF_VMBMEM / 4], 0, 4 * IGBVF_MBX_WORDS);
	nic_pci_reset(&nic->fn[NIC_VF(vf)]);
	vf_unconfigure(nic, vf);
	nic_publish_all(nic, vf);
}

void nic_vf_reset(struct nic *nic, unsigned int vf, bool flr)
{
	if (flr)
		nic_vf_clear(nic, vf);
	else
		vf_unconfigure(nic, vf);
	/* The PF lets the VF go again when it answers the reset message. */
	REG(nic, IGB_VFRE) &= ~(1u << vf);
	REG(nic, IGB_VFTE) &= ~(1u << vf);
	nic_mbx_vf_event(nic, vf);
	nic_publish_all(nic, vf);
}

void nic_reset_all(struct nic *nic)
{
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		nic_rxq_reset(nic, i);
		nic_txq_reset(nic, i);
		nic->rx[i].rqdpc = 0;
		nic->rx[i].dvmolr = 0;
		nic->tx[i].wbal = nic->tx[i].wbah = 0;
	}
	nic_intr_reset(&nic->intr);
	nic_regs_reset(nic);
	memcpy(&REG(nic, IGB_RAL(0)), nic->conf.mac, 4);
	REG(nic, IGB_RAH(0)) = IGB_RAH_AV | 1u << IGB_RAH_POOL_SHIFT |
			       (uint32_t)nic->conf.mac[5] << 8 |
			       nic->conf.mac[4];
	for (unsigned int i = 0; i < nic->conf.vfs; i++) {
		struct nic_vf *v = &nic->vf[i];

		nic_intr_reset(&v->intr);
		v->ivar = v->ivar_misc = v->pbacl = 0;
		nic_publish_all(nic, i);
	}
	nic_mbx_pf_resets(nic);
	nic_phy_reset(nic);
	REG(nic, IGB_ICR) = 0;
}

void nic_flr(struct nic *nic, unsigned int fn)
{
	nic->now = now_ns();
	if (fn != NIC_PF) {
		nic_vf_reset(nic, fn - 1, true);
		return;
	}
	/* SR-IOV goes with the PF's configuration space (PCIe 2.2.2). */
	for (unsigned int i = 0; i < nic->num_vfs; i++)
		nic_vf_clear(nic, i);
	nic_pci_reset(&nic->fn[NIC_PF]);
	if (nic->num_vfs) {
		nic->num_vfs = 0;
		nic_assign_queues(nic);
		if (nic->vfs_fn)
			nic->vfs_fn(nic->vfs_opaque, 0);
	}
	nic_reset_all(nic);
}

static bool unicast(const uint8_t *mac)
{
	static const uint8_t zero[6];

	return !(mac[0] & 1) && memcmp(mac, zero, 6);
}

int nic_create(struct nic **out, const struct nic_conf *conf, struct err *e)
{
	struct nic *nic;
	int ret = -ENOMEM;

	if (conf->model >= NIC_NMODELS || !conf->vfs || conf->vfs > NIC_VFS_MAX)
		return err_set(e, -EINVAL, "a NIC has 1 to %d VFs, not %u",
			       NIC_VFS_MAX, conf->vfs);
	if (conf->direct_pages & ~NIC_DIRECT_ALLOWED)
		return err_set(e, -EINVAL,
			       "page 1 of a VF cannot be direct: two writes "
			       "to its interrupt registers would become one; "
			       "choose from pages 0, 2 and 3");
	if (!unicast(conf->mac))
		return err_set(e, -EINVAL,
			       "the MAC address must be a unicast address");

	nic = calloc(1, sizeof(*nic));
	if (!nic)
		return err_sys(e, ret, "a NIC");
	nic->conf = *conf;
	nic->m = &nic_models[conf->model];
	nic->intr_deadline = UINT64_MAX;
	nic->phy.carrier = true;
	nic->now = now_ns();
	for (unsigned int i = 0; i < NIC_FUNCTIONS_MAX; i++) {
		nic->fn[i].nic = nic;
		nic->fn[i].index = i;
		nic->fn[i].ops = &nobody;
	}
	nic_assign_queues(nic);
	nic_regs_init(nic);
	nic_direct_init(nic);
	nic_nvm_init(nic);

	nic->seg = malloc(NIC_HEADROOM + NIC_TSO_MAX);
	if (!nic->seg)
		goto destroy;
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		nic->tx[i].buf = malloc(NIC_HEADROOM + NIC_TSO_MAX);
		if (!nic->tx[i].buf)
			goto destroy;
	}
	for (unsigned int i = 0; i < NIC_VFS_MAX; i++) {
		ret = nic_direct_create(nic, i, e);
		if (ret)
			goto destroy;
	}
	ret = nic_pci_init(nic, e);
	if (ret)
		goto destroy;
	nic_reset_all(nic);
	*out = nic;
	return 0;

destroy:
	err_sys(e, ret, "a NIC");
	nic_destroy(nic);
	return ret;
}

void nic_destroy(struct nic *nic)
{
	if (!nic)
		return;
	for (unsigned int i = 0; i < NIC_VFS_MAX; i++)
		nic_direct_destroy(nic, i);
	for (unsigned int i = 0; i < NIC_FUNCTIONS_MAX; i++)
		free(nic->fn[i].store);
	for (unsigned int i = 0; i < nic->m->queues; i++)
		free(nic->tx[i].buf);
	free(nic->seg);
	free(nic);
}

void nic_set_wire(struct nic *nic, const struct nic_wire_ops *ops, void *opaque)
{
	nic->wire = ops;
	nic->wire_opaque = opaque;
}

void nic_set_vfs_fn(struct nic *nic, nic_vfs_fn fn, void *opaque)
{
	nic->vfs_fn = fn;
	nic->vfs_opaque = opaque;
}

void nic_attach(struct nic *nic, unsigned int fn,
		const struct nic_host_ops *ops, void *opaque)
{
	struct nic_fn *f = &nic->fn[fn];

	f->ops = ops ? ops : &nobody;
	f->opaque = opaque;
	if (!nic_is_vf(f))
		return;
	nic->vf[fn - 1].in_use = ops && nic->conf.direct_pages;
	nic_publish_all(nic, fn - 1);
}

void nic_bar_info(const struct nic *nic, unsigned int fn, unsigned int bar,
		  struct nic_bar *out)
{
	*out = (struct nic_bar){ 0 };
	if (bar == 0) {
		out->size = fn == NIC_PF ? IGB_PF_BAR0_SIZE : IGBVF_BAR0_SIZE;
		out->registers = true;
	} else if (bar == IGBVF_MSIX_BAR) {
		out->size = IGBVF_BAR3_SIZE;
	}
}

unsigned int nic_vectors(const struct nic *nic, unsigned int fn)
{
	return fn == NIC_PF ? IGB_VECTORS_PF : IGB_VECTORS_VF;
}

/* Checks an access; 1: plain storage, 0: registers, -EINVAL. */
static int access_kind(struct nic *nic, unsigned int fn, unsigned int bar,
		       uint64_t off, size_t len)
{
	struct nic_bar b;

	if (fn > nic->conf.vfs)
		return -EINVAL;
	nic_bar_info(nic, fn, bar, &b);
	if (off > b.size || len > b.size - off || !len)
		return -EINVAL;
	if (!b.registers)
		return 1;
	if (off % 4 || len % 4) {
		nic->counts.bad_access++;
		return -EINVAL;
	}
	nic->now = now_ns();
	nic->counts.messages++;
	if (fn != NIC_PF)
		nic_direct_sync(nic, fn - 1);
	else
		for (unsigned int i = 0; i < nic->num_vfs; i++)
			nic_direct_sync(nic, i);
	return 0;
}

int nic_read(struct nic *nic, unsigned int fn, unsigned int bar, uint64_t off,
	     void *buf, size_t len)
{
	int kind = access_kind(nic, fn, bar, off, len);
	uint8_t *to = buf;

	if (kind < 0)
		return kind;
	if (kind) {
		memcpy(buf, nic->fn[fn].store + off, len);
		return 0;
	}
	for (size_t i = 0; i < len; i += 4) {
		uint32_t at = (uint32_t)(off + i), v;

		v = fn == NIC_PF ? nic_pf_read(nic, at)
				 : nic_vf_read(nic, fn - 1, at);
		memcpy(to + i, &v, 4);
	}
	return 0;
}

int nic_write(struct nic *nic, unsigned int fn, unsigned int bar, uint64_t off,
	      const void *buf, size_t len)
{
	int kind = access_kind(nic, fn, bar, off, len);
	const uint8_t *from = buf;

	if (kind < 0)
		return kind;
	if (kind) {
		memcpy(nic->fn[fn].store + off, buf, len);
		return 0;
	}
	for (size_t i = 0; i < len; i += 4) {
		uint32_t at = (uint32_t)(off + i), v;

		memcpy(&v, from + i, 4);
		if (fn == NIC_PF)
			nic_pf_write(nic, at, v);
		else
			nic_vf_write(nic, fn - 1, at, v);
	}
	return 0;
}

int nic_direct_fd(const struct nic *nic, unsigned int vf)
{
	return nic->vf[vf].fd;
}

unsigned int nic_direct_pages(const struct nic *nic)
{
	return nic->conf.direct_pages;
}

unsigned int nic_poll(struct nic *nic)
{
	unsigned int n, q = nic->tx_first;

	nic->now = now_ns();
	n = nic_direct_poll(nic);
	nic_phy_timer(nic);
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		n += nic_tx_run(nic, &nic->tx[q], TX_BATCH);
		q = q + 1 == nic->m->queues ? 0 : q + 1;
	}
	nic->tx_first = q + 1 >= nic->m->queues ? 0 : q + 1;
	if (nic->wire && nic->wire->flush)
		nic->wire->flush(nic->wire_opaque);
	nic_flush(nic);
	nic_intr_timers(nic);
	return n;
}

/* What a batch of frames owes: heads shown, interrupts raised. */
void nic_flush(struct nic *nic)
{
	nic_publish_moved(nic);
	for (unsigned int i = 0; i < nic->m->queues; i++) {
		struct nic_queue *q = &nic->rx[i].q;

		if (!q->cause)
			continue;
		q->cause = false;
		nic_raise_queue(nic, q, false);
	}
}

uint64_t nic_deadline(const struct nic *nic)
{
	uint64_t t = nic->intr_deadline;

	if (nic->phy.an_done)
		t = MIN(t, nic->phy.an_done);
	return t;
}

void nic_get_counts(const struct nic *nic, struct nic_counts *out)
{
	*out = nic->counts;
}
