/* See fixture.h; what cannot fail in a test ends it when it does. */
#include "nic/fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x)                                               \
	do {                                                  \
		if (!(x)) {                                   \
			fprintf(stderr, "fixture: %s\n", #x); \
			abort();                              \
		}                                             \
	} while (0)

struct client {
	struct fx *x;
	unsigned int fn;
};

static struct client clients[NIC_FUNCTIONS_MAX];

static void *dma(void *opaque, uint64_t iova, uint64_t len, bool write)
{
	struct client *c = opaque;

	if (iova < FX_IOVA || iova - FX_IOVA > FX_SIZE ||
	    len > FX_SIZE - (iova - FX_IOVA))
		return NULL;
	return c->x->mem + (iova - FX_IOVA);
}

static void wrote(void *opaque, uint64_t iova, uint64_t len)
{
	struct client *c = opaque;

	c->x->wrote += len;
}

static void irq(void *opaque, enum nic_irq kind, unsigned int vector)
{
	struct client *c = opaque;

	if (kind == NIC_IRQ_MSIX)
		c->x->irqs[c->fn][vector]++;
	else
		c->x->single++;
}

static const struct nic_host_ops host_ops = {
	.dma = dma,
	.wrote = wrote,
	.irq = irq,
};

static int wire_send(void *opaque, const uint8_t *frame, size_t len)
{
	struct fx *x = opaque;

	if (x->wire_busy)
		return -EAGAIN;
	MUST(len <= sizeof(x->frame[0].data));
	memcpy(x->frame[x->nframes % FX_FRAMES].data, frame, len);
	x->frame[x->nframes++ % FX_FRAMES].len = len;
	return 0;
}

static const struct nic_wire_ops wire_ops = { .send = wire_send };

static void vfs_changed(void *opaque, unsigned int n)
{
	struct fx *x = opaque;

	x->vfs_now = n;
	for (unsigned int i = 0; i < n; i++)
		nic_attach(x->nic, NIC_VF(i), &host_ops, &clients[NIC_VF(i)]);
}

struct nic_conf fx_conf(enum nic_model model)
{
	return (struct nic_conf){
		.model = model,
		.vfs = 8,
		.autoneg_ns = 1000,
		.mac = { 0x02, 0, 0, 0, 0, 0xff },
	};
}

struct fx *fx_create(const struct nic_conf *conf)
{
	struct fx *x = calloc(1, sizeof(*x));
	struct err e = { 0 };

	MUST(x);
	/* A megabyte behind it stays unmapped for the device. */
	x->mem = calloc(1, FX_SIZE);
	MUST(x->mem);
	MUST(nic_create(&x->nic, conf, &e) == 0);
	for (unsigned int i = 0; i < NIC_FUNCTIONS_MAX; i++)
		clients[i] = (struct client){ x, i };
	nic_attach(x->nic, NIC_PF, &host_ops, &clients[NIC_PF]);
	nic_set_wire(x->nic, &wire_ops, x);
	nic_set_vfs_fn(x->nic, vfs_changed, x);
	return x;
}

void fx_destroy(struct fx *x)
{
	nic_destroy(x->nic);
	free(x->mem);
	free(x);
}

uint32_t fx_rd(struct fx *x, unsigned int fn, uint32_t off)
{
	uint32_t v;

	MUST(nic_read(x->nic, fn, 0, off, &v, 4) == 0);
	return v;
}

void fx_wr(struct fx *x, unsigned int fn, uint32_t off, uint32_t v)
{
	MUST(nic_write(x->nic, fn, 0, off, &v, 4) == 0);
}

void fx_config16(struct fx *x, unsigned int fn, uint32_t off, uint16_t v)
{
	MUST(nic_config_write(x->nic, fn, off, &v, 2) == 0);
}

void fx_mac(uint8_t mac[6], unsigned int vf)
{
	static const uint8_t base[6] = { 0x02 };

	memcpy(mac, base, 6);
	mac[5] = (uint8_t)(vf + 1);
}

void fx_bring_up(struct fx *x, unsigned int vfs)
{
	bool i350 = fx_rd(x, NIC_PF, IGB_MDICNFG) != 0;

	fx_config16(x, NIC_PF, 0x04, 0x6);
	fx_config16(x, NIC_PF, 0x160 + 0x10, (uint16_t)vfs);
	fx_config16(x, NIC_PF, 0x160 + 0x08, 0x9); /* VFE, MSE */
	for (unsigned int i = 0; i < vfs; i++)
		fx_config16(x, NIC_VF(i), 0x04, 0x6);
	fx_wr(x, NIC_PF, IGB_CTRL, IGB_CTRL_SLU | IGB_CTRL_FD);
	fx_wr(x, NIC_PF, IGB_GPIE, 0x80000011);
	fx_wr(x, NIC_PF, IGB_MRQC, IGB_MRQC_VMDQ);
	fx_wr(x, NIC_PF, IGB_VT_CTL, IGB_VT_CTL_DIS_DEFAULT | IGB_VT_CTL_REPL);
	fx_wr(x, NIC_PF, i350 ? IGB_TXSWC : IGB_DTXSWC, IGB_TXSWC_LOOPBACK);
	for (unsigned int i = 0; i < vfs; i++) {
		uint8_t mac[6];
		uint32_t lo;

		fx_mac(mac, i);
		memcpy(&lo, mac, 4);
		fx_wr(x, NIC_PF, IGB_VMOLR(i),
		      IGB_VMOLR_STRCRC | IGB_VMOLR_BAM | IGB_VMOLR_AUPE |
			      IGB_VMOLR_LPE | 9728);
		fx_wr(x, NIC_PF, IGB_RAL(i + 1), lo);
		fx_wr(x, NIC_PF, IGB_RAH(i + 1),
		      IGB_RAH_AV | 1u << (IGB_RAH_POOL_SHIFT + i) |
			      (uint32_t)mac[5] << 8 | mac[4]);
	}
	fx_wr(x, NIC_PF, IGB_VFRE, 0xff);
	fx_wr(x, NIC_PF, IGB_VFTE, 0xff);
	fx_wr(x, NIC_PF, IGB_RCTL,
	      IGB_RCTL_EN | IGB_RCTL_BAM | IGB_RCTL_SECRC | IGB_RCTL_LPE);
	fx_wr(x, NIC_PF, IGB_TCTL, IGB_TCTL_EN | IGB_TCTL_PSP);
	fx_wr(x, NIC_PF, IGB_CTRL_EXT, IGB_CTRL_EXT_PFRSTD);
	while (!(fx_rd(x, NIC_PF, IGB_STATUS) & IGB_STATUS_LU))
		nic_poll(x->nic);
}

static void ring_init(struct fx *x, struct fx_ring *r, unsigned int fn,
		      unsigned int local, bool tx)
{
	uint32_t slot = fn * 4 + local * 2 + tx;
	uint64_t base;

	*r = (struct fx_ring){
		.fn = fn,
		.tx = tx,
		.at = slot * 4096,
		.bufs = (1u << 20) + slot * FX_RING * FX_BUF,
		.n = FX_RING,
	};
	MUST(r->bufs + FX_RING * FX_BUF <= FX_SIZE);
	r->regs = (tx ? 0x3800u : 0x2800u) + local * IGBVF_QUEUE_STRIDE;
	memset(x->mem + r->at, 0, FX_RING * IGB_DESC_SIZE);
	base = FX_IOVA + r->at;
	fx_wr(x, fn, r->regs + IGB_Q_BAL, (uint32_t)base);
	fx_wr(x, fn, r->regs + IGB_Q_BAH, (uint32_t)(base >> 32));
	fx_wr(x, fn, r->regs + IGB_Q_LEN, FX_RING * IGB_DESC_SIZE);
}

void fx_rx_ring(struct fx *x, struct fx_ring *r, unsigned int fn,
		unsigned int local, uint32_t srrctl)
{
	ring_init(x, r, fn, local, false);
	fx_wr(x, fn, r->regs + IGB_Q_SRRCTL, srrctl);
	fx_wr(x, fn, r->regs + IGB_Q_DCTL, IGB_DCTL_ENABLE);
	for (uint32_t i = 0; i < r->n; i++)
		igb_rxd_fill(fx_desc(x, r, i), fx_buf_iova(r, i),
			     fx_buf_iova(r, i) + FX_BUF / 2);
	r->tail = r->n - 1;
	fx_wr(x, fn, r->regs + IGB_Q_TAIL, r->tail);
}

void fx_tx_ring(struct fx *x, struct fx_ring *r, unsigned int fn,
		unsigned int local)
{
	ring_init(x, r, fn, local, true);
	fx_wr(x, fn, r->regs + IGB_Q_DCTL, IGB_DCTL_ENABLE);
}

union igb_desc *fx_desc(struct fx *x, const struct fx_ring *r, uint32_t i)
{
	return (union igb_desc *)(x->mem + r->at) + i % r->n;
}

uint64_t fx_buf_iova(const struct fx_ring *r, uint32_t i)
{
	return FX_IOVA + r->bufs + i % r->n * FX_BUF;
}

uint8_t *fx_buf(struct fx *x, const struct fx_ring *r, uint32_t i)
{
	return x->mem + r->bufs + i % r->n * FX_BUF;
}

static void bump(struct fx *x, struct fx_ring *r)
{
	r->tail = (r->tail + 1) % r->n;
	fx_wr(x, r->fn, r->regs + IGB_Q_TAIL, r->tail);
}

void fx_send(struct fx *x, struct fx_ring *r, const void *frame, uint32_t len,
	     uint32_t cmd, uint32_t olinfo)
{
	union igb_desc *d = fx_desc(x, r, r->tail);

	MUST(len <= FX_BUF);
	memcpy(fx_buf(x, r, r->tail), frame, len);
	igb_txd_fill(d, fx_buf_iova(r, r->tail), (uint16_t)len,
		     cmd | IGB_TXD_RS);
	d->dw[3] |= olinfo;
	bump(x, r);
}

void fx_send_ctx(struct fx *x, struct fx_ring *r, uint32_t dw0, uint32_t dw2,
		 uint32_t dw3)
{
	union igb_desc *d = fx_desc(x, r, r->tail);

	d->dw[0] = dw0;
	d->dw[1] = 0;
	d->dw[2] = dw2 | IGB_TXD_DTYP_CTX | IGB_TXD_DEXT;
	d->dw[3] = dw3;
	bump(x, r);
}

const union igb_desc *fx_recv(struct fx *x, struct fx_ring *r,
			      const uint8_t **data)
{
	static union igb_desc copy;
	union igb_desc *d = fx_desc(x, r, r->next);

	if (!igb_rxd_done(d))
		return NULL;
	copy = *d;
	*data = fx_buf(x, r, r->next);
	igb_rxd_fill(d, fx_buf_iova(r, r->next),
		     fx_buf_iova(r, r->next) + FX_BUF / 2);
	r->next = (r->next + 1) % r->n;
	bump(x, r);
	return &copy;
}

uint32_t fx_frame(uint8_t *out, const uint8_t *dst, const uint8_t *src,
		  uint32_t len)
{
	memcpy(out, dst, 6);
	memcpy(out + 6, src, 6);
	out[12] = 0x88;
	out[13] = 0xb5; /* local experimental ethertype */
	for (uint32_t i = 14; i < len; i++)
		out[i] = (uint8_t)i;
	return len;
}
