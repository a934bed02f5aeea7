/*
 * The mailbox registers as the guest sees them while the page is trapped,
 * and the hardware's behind them.
 *
 * The hardware's are reached by messages (pdev_read32), never through the
 * mapping: a device in another process gives them their side effects only so.
 */
#include <string.h>

#include "vdev/mbx_priv.h"

#define LOCK_TRIES  10
#define DRAIN_TRIES 4
#define POLLS_MAX   1990 /* igbvf polls 2000 times for an ack */

static bool ours(const struct vdev_mbx *m)
{
	return m->st != ST_DIRECT || m->conf.mode == VDEV_MBX_KERNEL;
}

/* ---- the hardware ---- */

uint32_t mbx_hw_read(struct vdev_mbx *m, uint32_t off)
{
	struct pdev *p = vdev_pdev(m->v);
	uint32_t val;

	/* Zero, not ones: nothing there has nothing to say. */
	if (!p || pdev_read32(p, PDEV_BAR0, off, &val) < 0)
		return 0;
	return val;
}

void mbx_hw_write(struct vdev_mbx *m, uint32_t off, uint32_t val)
{
	struct pdev *p = vdev_pdev(m->v);

	if (p)
		pdev_write32(p, PDEV_BAR0, off, val);
}

void mbx_hw_words(struct vdev_mbx *m, uint32_t *w)
{
	for (unsigned int i = 0; i < MBX_WORDS; i++)
		w[i] = mbx_hw_read(m, IGBVF_VMBMEM + 4 * i);
	memcpy(m->hwmem, w, sizeof(m->hwmem));
}

/* Bits that clear when read are ours from the moment we read them. */
static void take_bits(struct vdev_mbx *m)
{
	uint32_t hw = mbx_hw_read(m, IGBVF_V2PMAILBOX);

	m->bits |= hw & IGB_V2P_R2C;
	m->bits = (m->bits & ~IGB_V2P_RSTI) | (hw & IGB_V2P_RSTI);
	if (hw & IGB_V2P_R2C)
		mbx_trace(m, "hw-bits", IGBVF_V2PMAILBOX, hw);
}

void mbx_import(struct vdev_mbx *m)
{
	uint32_t hw = mbx_hw_read(m, IGBVF_V2PMAILBOX);

	/*
	 * A guest caught between taking the lock and ringing has it in the
	 * hardware; it goes on here as if nothing had happened.
	 */
	m->bits = hw & (IGB_V2P_R2C | IGB_V2P_RSTI | IGB_V2P_VFU);
	mbx_hw_words(m, m->mem);
	mbx_trace(m, "import", IGBVF_V2PMAILBOX, hw);
}

bool mbx_export(struct vdev_mbx *m)
{
	bool locked = false;
	uint32_t hw = 0;

	/* What comes up now the guest has been told by us, or never will. */
	for (unsigned int i = 0; i < DRAIN_TRIES; i++) {
		hw = mbx_hw_read(m, IGBVF_V2PMAILBOX);
		if (!(hw & IGB_V2P_R2C))
			break;
		mbx_trace(m, "consume", IGBVF_V2PMAILBOX, hw);
	}
	if (!vdev_pdev(m->v) || hw & IGB_V2P_RSTI)
		return true; /* nothing there to keep in step */

	for (unsigned int i = 0; i < LOCK_TRIES && !locked; i++) {
		mbx_hw_write(m, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
		locked = mbx_hw_read(m, IGBVF_V2PMAILBOX) & IGB_V2P_VFU;
	}
	/* Stock drivers read word 0 again in every link check. */
	for (unsigned int i = 0; i < MBX_WORDS && locked; i++)
		if (m->mem[i] != m->hwmem[i])
			mbx_hw_write(m, IGBVF_VMBMEM + 4 * i, m->mem[i]);
	if (locked)
		memcpy(m->hwmem, m->mem, sizeof(m->hwmem));
	/* Without REQ and ACK: released, and nobody is interrupted. */
	mbx_hw_write(m, IGBVF_V2PMAILBOX, m->bits & IGB_V2P_VFU);
	/*
	 * Writes may be posted.  One that arrives after the page is direct
	 * would land on the guest's next request; a read waits for them.
	 */
	mbx_hw_read(m, IGBVF_STATUS);
	mbx_trace(m, "export", IGBVF_VMBMEM, m->mem[0]);
	return locked;
}

/* ---- publishing ---- */

/* The vector the guest chose for its mailbox; igbvf takes 2. */
static void interrupt(struct vdev_mbx *m)
{
	uint32_t ivar = vdev_reg_read(m->v, IGBVF_IVAR_MISC);

	if (!vdev_pdev(m->v) || !(ivar & IGB_IVAR_VALID))
		return;
	mbx_trace(m, "inject", IGBVF_IVAR_MISC, ivar & IGB_IVAR_VECTOR);
	vdev_irq_inject(m->v, ivar & IGB_IVAR_VECTOR);
}

bool mbx_publish(struct vdev_mbx *m)
{
	if (m->bits & IGB_V2P_VFU)
		return false;
	memcpy(m->mem, m->out.w, m->out.len * sizeof(m->mem[0]));
	m->bits |= m->out_bits;
	mbx_trace(m, "publish", IGBVF_VMBMEM, m->out.w[0]);
	m->out_bits = 0;
	interrupt(m);
	return true;
}

/* ---- the guest's accesses ---- */

static bool mem_read(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val)
{
	struct vdev_mbx *m = opaque;

	if (!ours(m))
		return false;
	m->counts.reads++;
	m->since = now_ns();
	*val = m->mem[(off - IGBVF_VMBMEM) / 4];
	mbx_trace(m, "read", off, *val);
	return true;
}

static bool mem_write(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val)
{
	struct vdev_mbx *m = opaque;

	if (!ours(m))
		return false;
	m->counts.writes++;
	mbx_trace(m, "write", off, val);
	m->mem[(off - IGBVF_VMBMEM) / 4] = (uint32_t)val;
	return true;
}

static bool ctl_read(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val)
{
	struct vdev_mbx *m = opaque;

	if (!ours(m))
		return false;
	m->counts.reads++;
	if (m->st != ST_ASKED)
		m->since = now_ns();
	if (m->conf.mode == VDEV_MBX_KERNEL)
		mbx_collect(m);
	else if (!m->quiesced)
		take_bits(m);
	*val = m->bits;
	m->bits &= ~IGB_V2P_R2C;
	m->saw_ctl = true;
	mbx_trace(m, "read", off, *val);
	if (m->st == ST_HELD && ++m->polls > POLLS_MAX)
		mbx_event(m, EV_LIMIT);
	else if (m->acked)
		mbx_event(m, EV_ACK);
	return true;
}

static bool ctl_write(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val)
{
	struct vdev_mbx *m = opaque;
	uint32_t had;

	if (!ours(m))
		return false;
	m->counts.writes++;
	mbx_trace(m, "write", off, val);
	had = m->bits & IGB_V2P_VFU;
	if (m->conf.mode == VDEV_MBX_KERNEL)
		val = mbx_lock_kernel(m, (uint32_t)val);
	if (val & IGB_V2P_VFU)
		m->bits |= IGB_V2P_VFU;
	else
		m->bits &= ~IGB_V2P_VFU;

	if (val & IGB_V2P_REQ)
		mbx_event(m, EV_REQ);
	else if (val & IGB_V2P_ACK)
		mbx_event(m, EV_ACK);
	else if (had && !(val & IGB_V2P_VFU))
		mbx_event(m, EV_FREED);
	/* An answer may have waited behind a request or an ack as well. */
	if (ours(m) && m->out_bits && !(m->bits & IGB_V2P_VFU) &&
	    (m->st == ST_ANSWERED || m->st == ST_BUSY))
		mbx_publish(m);
	if (m->conf.mode == VDEV_MBX_KERNEL)
		mbx_release_kernel(m, (uint32_t)val);
	return true;
}

/* The reset itself is the device's; we only have to know of it. */
static bool rst_write(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val)
{
	struct vdev_mbx *m = opaque;

	if (off == IGBVF_CTRL && val & IGB_CTRL_RST && ours(m)) {
		mbx_trace(m, "write", off, val);
		m->counts.vf_resets++;
		m->resetting = true;
		/* The device first: what it clears is not to be seen after. */
		mbx_hw_write(m, off, (uint32_t)val);
		/* On demand the PF driver tells, after what came before. */
		if (m->conf.mode == VDEV_MBX_KERNEL)
			mbx_state_reset(&m->state);
		mbx_event(m, EV_RESET);
		return true;
	}
	return false;
}

/*
 * A driver that finds the link down looks no further: it has got the message
 * and will not acknowledge it.
 */
static bool status_read(void *opaque, uint32_t off, unsigned int size,
			uint64_t *val)
{
	struct vdev_mbx *m = opaque;

	if (m->st != ST_POSTED || off != IGBVF_STATUS)
		return false;
	*val = mbx_hw_read(m, off);
	if (m->saw_ctl && m->said == POST_LINK && !(*val & IGB_STATUS_LU)) {
		mbx_trace(m, "read", off, *val);
		mbx_event(m, EV_ACK);
	}
	return true;
}

void mbx_taps_add(struct vdev_mbx *m)
{
	m->mem_tap = (struct vdev_tap){ .off = IGBVF_VMBMEM,
					.len = 4 * MBX_WORDS,
					.read = mem_read,
					.write = mem_write,
					.opaque = m };
	m->ctl_tap = (struct vdev_tap){ .off = IGBVF_V2PMAILBOX,
					.len = 4,
					.read = ctl_read,
					.write = ctl_write,
					.opaque = m };
	m->rst_tap = (struct vdev_tap){
		.off = IGBVF_CTRL, .len = 4, .write = rst_write, .opaque = m
	};
	m->status_tap = (struct vdev_tap){
		.off = IGBVF_STATUS, .len = 4, .read = status_read, .opaque = m
	};
	vdev_tap_add(m->v, &m->mem_tap);
	vdev_tap_add(m->v, &m->ctl_tap);
	vdev_tap_add(m->v, &m->rst_tap);
	vdev_tap_add(m->v, &m->status_tap);
}

void mbx_taps_del(struct vdev_mbx *m)
{
	vdev_tap_del(m->v, &m->mem_tap);
	vdev_tap_del(m->v, &m->ctl_tap);
	vdev_tap_del(m->v, &m->rst_tap);
	vdev_tap_del(m->v, &m->status_tap);
}
