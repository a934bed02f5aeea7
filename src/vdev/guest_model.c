#include "vdev/guest_model.h"

#include <errno.h>
#include <string.h>

#include "igb/regs.h"

#define LOCK_ROUNDS  10
#define POLL_ROUNDS  2000 /* of 500 us */
#define RESET_ROUNDS 200  /* of 5 us */

static uint32_t rd(struct guest_model *g, uint32_t off)
{
	return g->read(g->opaque, off);
}

static void wr(struct guest_model *g, uint32_t off, uint32_t val)
{
	g->write(g->opaque, off, val);
}

static uint32_t read_v2p(struct guest_model *g)
{
	uint32_t v = rd(g, IGBVF_V2PMAILBOX) | g->v2p;

	g->v2p |= v & IGB_V2P_R2C;
	return v;
}

/* Also forgets the bits it asks for, whether they are set or not. */
static bool check_bit(struct guest_model *g, uint32_t mask)
{
	bool set = read_v2p(g) & mask;

	g->v2p &= ~mask;
	return set;
}

static int lock(struct guest_model *g)
{
	for (unsigned int i = 0; i < LOCK_ROUNDS; i++) {
		wr(g, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
		if (read_v2p(g) & IGB_V2P_VFU)
			return 0;
		g->pause(g->opaque, 1000);
	}
	return -EBUSY;
}

static int write_mbx(struct guest_model *g, const struct mbx_msg *m)
{
	if (lock(g) < 0)
		return -EBUSY;
	check_bit(g, IGB_V2P_PFACK);
	check_bit(g, IGB_V2P_PFSTS);
	for (unsigned int i = 0; i < m->len; i++)
		wr(g, IGBVF_VMBMEM + 4 * i, m->w[i]);
	wr(g, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	return 0;
}

static int read_mbx(struct guest_model *g, uint32_t *w, unsigned int n)
{
	if (lock(g) < 0)
		return -EBUSY;
	for (unsigned int i = 0; i < n; i++)
		w[i] = rd(g, IGBVF_VMBMEM + 4 * i);
	wr(g, IGBVF_V2PMAILBOX, IGB_V2P_ACK);
	return 0;
}

static int poll_bit(struct guest_model *g, uint32_t bit)
{
	for (g->polls = 0; g->polls < POLL_ROUNDS; g->polls++) {
		if (check_bit(g, bit)) {
			if (g->polls > g->worst)
				g->worst = g->polls;
			return 0;
		}
		g->pause(g->opaque, 500);
	}
	g->mbx_on = false;
	return -ETIMEDOUT;
}

static int write_posted(struct guest_model *g, const struct mbx_msg *m)
{
	int ret = g->mbx_on ? write_mbx(g, m) : -ETIMEDOUT;

	return ret < 0 ? ret : poll_bit(g, IGB_V2P_PFACK);
}

static int read_posted(struct guest_model *g, uint32_t *w, unsigned int n)
{
	int ret = g->mbx_on ? poll_bit(g, IGB_V2P_PFSTS) : -ETIMEDOUT;

	return ret < 0 ? ret : read_mbx(g, w, n);
}

int guest_reset(struct guest_model *g)
{
	const struct mbx_msg m = { .w = { MBX_VF_RESET }, .len = 1 };
	unsigned int left = RESET_ROUNDS;
	uint32_t w[3];
	int ret;

	wr(g, IGBVF_CTRL, rd(g, IGBVF_CTRL) | IGB_CTRL_RST);
	while (check_bit(g, IGB_V2P_RSTI | IGB_V2P_RSTD) && --left)
		g->pause(g->opaque, 5);
	if (!left)
		return -ETIMEDOUT;
	g->mbx_on = true;
	write_posted(g, &m);
	g->pause(g->opaque, 10000);
	ret = read_posted(g, w, 3);
	if (ret < 0)
		return ret;
	if (w[0] == (MBX_VF_RESET | MBX_ACK))
		for (unsigned int i = 0; i < 6; i++)
			g->perm[i] = (uint8_t)(w[1 + i / 4] >> 8 * (i % 4));
	else if (w[0] == (MBX_VF_RESET | MBX_NACK))
		memset(g->perm, 0, 6);
	else
		return -EPROTO;
	return 0;
}

int guest_request(struct guest_model *g, const struct mbx_req *r,
		  uint32_t *answer)
{
	struct mbx_msg m;
	uint32_t w0 = 0;
	int ret;

	mbx_encode(r, &m);
	ret = write_posted(g, &m);
	if (ret == 0)
		ret = read_posted(g, &w0, 1);
	if (answer)
		*answer = w0;
	return ret < 0 ? ret : w0 & MBX_NACK ? -EACCES : 0;
}

int guest_set_mac(struct guest_model *g, const uint8_t *mac)
{
	struct mbx_req r = { .op = MBX_OP_SET_MAC };
	int ret;

	memcpy(r.mac, mac, 6);
	memcpy(g->mac, mac, 6);
	ret = guest_request(g, &r, NULL);
	if (ret == -EACCES)
		memcpy(g->mac, g->perm, 6);
	return ret;
}

int guest_send(struct guest_model *g, const struct mbx_req *r)
{
	struct mbx_msg m;

	mbx_encode(r, &m);
	return write_posted(g, &m);
}

int guest_up(struct guest_model *g, const uint8_t *mac)
{
	const struct mbx_req mc = { .op = MBX_OP_MULTICAST,
				    .nhashes = 1,
				    .hash = { 0x10 } };
	const struct mbx_req lpe = { .op = MBX_OP_LPE,
				     .frame = MBX_FRAME_DEFAULT };
	int ret = guest_reset(g);

	if (ret == 0)
		ret = guest_set_mac(g, mac);
	if (ret == 0)
		ret = guest_send(g, &mc);
	if (ret == 0)
		ret = guest_send(g, &lpe);
	g->check_link = true;
	return ret;
}

void guest_irq(struct guest_model *g)
{
	g->check_link = true;
}

int guest_watchdog(struct guest_model *g)
{
	uint32_t w0;

	if (check_bit(g, IGB_V2P_RSTI | IGB_V2P_RSTD) || !g->mbx_on)
		g->check_link = true;
	if (!g->check_link)
		return g->link ? 0 : 1;
	g->link = false;
	if (!(rd(g, IGBVF_STATUS) & IGB_STATUS_LU))
		return 1;
	if (read_mbx(g, &w0, 1) < 0)
		return 1;
	if (!(w0 & MBX_CTS))
		return w0 & MBX_NACK ? -EIO : 1;
	if (!g->mbx_on)
		return -EIO;
	g->check_link = false;
	g->link = true;
	return 0;
}
