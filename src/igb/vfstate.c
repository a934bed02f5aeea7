#include "igb/vfstate.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "base/util.h"
#include "igb/regs.h"

/* PCI command register and the bit that lets a function use the bus. */
#define COMMAND	       4
#define COMMAND_MASTER 0x4

#define ENABLE_TRIES 100 /* of 100 us: drivers wait 10 ms at most */

/* One register of a queue and where it is kept; in the order to write. */
struct field {
	uint32_t off;
	uint32_t at; /* in struct igb_ring */
	bool rx, tx;
};

#define F(o, member, r, t)                                       \
	{                                                        \
		(o), offsetof(struct igb_ring, member), (r), (t) \
	}

/* 32-bit registers but head, tail and control; halves of 64 by address. */
static const struct field fields[] = {
	F(IGB_Q_BAL, base, true, true),
	{ IGB_Q_BAH, offsetof(struct igb_ring, base) + 4, true, true },
	F(IGB_Q_LEN, len, true, true),
	F(IGB_Q_SRRCTL, srrctl, true, false),
	F(IGB_Q_DCA, dca, true, true),
	F(IGB_Q_WBAL, wb, false, true),
	{ IGB_Q_WBAH, offsetof(struct igb_ring, wb) + 4, false, true },
};

static const struct field live[] = {
	F(IGB_Q_HEAD, head, true, true),
	F(IGB_Q_TAIL, tail, true, true),
	F(IGB_Q_DCTL, ctl, true, true),
};

/* Registers of the whole function. */
static const struct {
	uint32_t off, at;
} common[] = {
	{ IGBVF_PSRTYPE, offsetof(struct igb_vf_state, psrtype) },
	{ IGBVF_EITR0, offsetof(struct igb_vf_state, eitr[0]) },
	{ IGBVF_EITR1, offsetof(struct igb_vf_state, eitr[1]) },
	{ IGBVF_EITR2, offsetof(struct igb_vf_state, eitr[2]) },
	{ IGBVF_IVAR0, offsetof(struct igb_vf_state, ivar0) },
	{ IGBVF_IVAR_MISC, offsetof(struct igb_vf_state, ivar_misc) },
	{ IGBVF_EIAC, offsetof(struct igb_vf_state, eiac) },
	{ IGBVF_EIAM, offsetof(struct igb_vf_state, eiam) },
	{ IGBVF_EIMS, offsetof(struct igb_vf_state, eims) },
};

static uint32_t *member(void *base, uint32_t at)
{
	return (uint32_t *)((char *)base + at);
}

uint32_t igb_vf_queue_base(bool tx, unsigned int q)
{
	return (tx ? IGBVF_TDBAL : IGBVF_RDBAL) + q * IGBVF_QUEUE_STRIDE;
}

int igb_vf_bus_master(struct pdev *p, bool on)
{
	uint16_t cmd;
	uint32_t flush;
	int ret, was;

	ret = pdev_read(p, PDEV_CONFIG, COMMAND, &cmd, sizeof(cmd));
	if (ret < 0)
		return ret;
	was = !!(cmd & COMMAND_MASTER);
	cmd = (uint16_t)(on ? cmd | COMMAND_MASTER : cmd & ~COMMAND_MASTER);
	ret = pdev_write(p, PDEV_CONFIG, COMMAND, &cmd, sizeof(cmd));
	if (ret < 0)
		return ret;
	/* Its answer comes behind all it wrote before. */
	ret = pdev_read32(p, PDEV_BAR0, IGBVF_STATUS, &flush);
	return ret < 0 ? ret : was;
}

static void read_fields(igb_vf_get get, void *opaque, const struct field *f,
			size_t n, uint32_t base, bool tx, struct igb_ring *r)
{
	for (size_t i = 0; i < n; i++) {
		if (tx ? f[i].tx : f[i].rx)
			*member(r, f[i].at) = get(opaque, base + f[i].off);
	}
}

static void read_queue(igb_vf_get get, void *opaque, bool tx, unsigned int q,
		       struct igb_ring *r)
{
	uint32_t base = igb_vf_queue_base(tx, q);

	*r = (struct igb_ring){ 0 };
	read_fields(get, opaque, live, ARRAY_SIZE(live), base, tx, r);
	/* Nobody answers where a model has no such queue. */
	if (r->ctl == UINT32_MAX)
		*r = (struct igb_ring){ 0 };
	else
		read_fields(get, opaque, fields, ARRAY_SIZE(fields), base, tx,
			    r);
}

void igb_vf_read_queues(igb_vf_get get, void *opaque, struct igb_vf_state *st)
{
	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		read_queue(get, opaque, false, q, &st->rx[q]);
		read_queue(get, opaque, true, q, &st->tx[q]);
	}
}

void igb_vf_read_by(igb_vf_get get, void *opaque, struct igb_vf_state *st)
{
	*st = (struct igb_vf_state){ 0 };
	igb_vf_read_queues(get, opaque, st);
	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		*member(st, common[i].at) = get(opaque, common[i].off);
}

struct asked {
	struct pdev *p;
	int ret;
};

static uint32_t ask(void *opaque, uint32_t off)
{
	struct asked *a = opaque;
	uint32_t v = UINT32_MAX;
	int ret = pdev_read32(a->p, PDEV_BAR0, off, &v);

	if (ret < 0 && a->ret == 0)
		a->ret = ret;
	return v;
}

int igb_vf_read(struct pdev *p, struct igb_vf_state *st)
{
	struct asked a = { .p = p };

	igb_vf_read_by(ask, &a, st);
	return a.ret;
}

uint32_t igb_vf_enabled(const struct igb_vf_state *st)
{
	uint32_t set = 0;

	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		if (st->rx[q].ctl & IGB_DCTL_ENABLE)
			set |= IGB_RXQ(q);
		if (st->tx[q].ctl & IGB_DCTL_ENABLE)
			set |= IGB_TXQ(q);
	}
	return set;
}

/* ---- wire ---- */

static void save_ring(const struct igb_ring *r, struct wire_out *o)
{
	put_u64(o, r->base);
	put_u32(o, r->len);
	put_u32(o, r->head);
	put_u32(o, r->tail);
	put_u32(o, r->ctl);
	put_u32(o, r->dca);
	put_u32(o, r->srrctl);
	put_u64(o, r->wb);
	for (unsigned int i = 0; i < ARRAY_SIZE(r->ctx); i++) {
		put_u64(o, r->ctx[i].qw[0]);
		put_u64(o, r->ctx[i].qw[1]);
	}
}

void igb_vf_save(const struct igb_vf_state *st, struct wire_out *o)
{
	put_u16(o, IGB_VFSTATE_VERSION);
	put_u8(o, IGB_VF_QPAIRS);
	put_u8(o, IGB_VF_VECTORS);
	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		save_ring(&st->rx[q], o);
		save_ring(&st->tx[q], o);
	}
	for (unsigned int v = 0; v < IGB_VF_VECTORS; v++)
		put_u32(o, st->eitr[v]);
	put_u32(o, st->psrtype);
	put_u32(o, st->eims);
	put_u32(o, st->eiac);
	put_u32(o, st->eiam);
	put_u32(o, st->ivar0);
	put_u32(o, st->ivar_misc);
}

static void load_ring(struct igb_ring *r, struct wire_in *in)
{
	r->base = get_u64(in);
	r->len = get_u32(in);
	r->head = get_u32(in);
	r->tail = get_u32(in);
	r->ctl = get_u32(in);
	r->dca = get_u32(in);
	r->srrctl = get_u32(in);
	r->wb = get_u64(in);
	for (unsigned int i = 0; i < ARRAY_SIZE(r->ctx); i++) {
		r->ctx[i].qw[0] = get_u64(in);
		r->ctx[i].qw[1] = get_u64(in);
	}
}

/* What no enabled ring of a VF can be. */
static const char *ring_fault(const struct igb_ring *r)
{
	if (!(r->ctl & IGB_DCTL_ENABLE))
		return NULL;
	if (!r->len || r->len % IGB_RING_ALIGN ||
	    r->len > IGB_RING_MAX * IGB_DESC_SIZE)
		return "a ring of impossible length";
	if (r->base % IGB_RING_ALIGN)
		return "a ring that is not aligned";
	if (r->head >= r->len / IGB_DESC_SIZE ||
	    r->tail >= r->len / IGB_DESC_SIZE)
		return "a head or tail outside its ring";
	for (unsigned int i = 0; i < ARRAY_SIZE(r->ctx); i++) {
		if (r->ctx[i].qw[1] && !igb_txd_is_ctx(&r->ctx[i]))
			return "a context that is none";
	}
	return NULL;
}

int igb_vf_load(struct igb_vf_state *st, struct wire_in *in, struct err *e)
{
	struct igb_vf_state n = { 0 };
	uint16_t version = get_u16(in);
	uint8_t qpairs = get_u8(in), vectors = get_u8(in);

	if (!in->err &&
	    (version != IGB_VFSTATE_VERSION || qpairs != IGB_VF_QPAIRS ||
	     vectors != IGB_VF_VECTORS)) {
		wire_fail(in, -EPROTO);
		return err_set(e, -EPROTO,
			       "VF state: version %u with %u queue pairs and "
			       "%u vectors, this side reads version %u with %u "
			       "and %u",
			       version, qpairs, vectors, IGB_VFSTATE_VERSION,
			       IGB_VF_QPAIRS, IGB_VF_VECTORS);
	}
	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		load_ring(&n.rx[q], in);
		load_ring(&n.tx[q], in);
	}
	for (unsigned int v = 0; v < IGB_VF_VECTORS; v++)
		n.eitr[v] = get_u32(in);
	n.psrtype = get_u32(in);
	n.eims = get_u32(in);
	n.eiac = get_u32(in);
	n.eiam = get_u32(in);
	n.ivar0 = get_u32(in);
	n.ivar_misc = get_u32(in);
	if (in->err)
		return err_set(e, in->err, "VF state: cut short");

	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		const char *fault = ring_fault(&n.rx[q]);

		if (!fault)
			fault = ring_fault(&n.tx[q]);
		if (fault) {
			wire_fail(in, -EBADMSG);
			return err_set(e, -EBADMSG, "VF state: %s", fault);
		}
	}
	*st = n;
	return 0;
}

/* ---- programming ---- */

static int write_reg(struct pdev *p, uint32_t off, uint32_t v)
{
	int ret = pdev_write32(p, PDEV_BAR0, off, v);

	return ret < 0 ? ret : 0;
}

/* Enable or disable, and wait until the device says so. */
int igb_vf_queue_enable(struct pdev *p, bool tx, unsigned int q, uint32_t ctl,
			bool on)
{
	uint32_t off = igb_vf_queue_base(tx, q) + IGB_Q_DCTL, now;
	const struct timespec pause = { .tv_nsec = 100000 };
	int ret;

	ctl &= ~(IGB_DCTL_ENABLE | IGB_DCTL_SWFLSH);
	ret = write_reg(p, off, on ? ctl | IGB_DCTL_ENABLE : ctl);
	for (int i = 0; i < ENABLE_TRIES && ret == 0; i++) {
		ret = pdev_read32(p, PDEV_BAR0, off, &now);
		if (ret < 0)
			return ret;
		ret = 0;
		if (!(now & IGB_DCTL_ENABLE) == !on)
			return 0;
		nanosleep(&pause, NULL);
	}
	return ret ? ret : -ETIMEDOUT;
}

/* Whether the head is what was written: not every device takes one. */
static int head_kept(struct pdev *p, uint32_t base, const struct igb_ring *r,
		     bool *kept)
{
	uint32_t head = 0;
	int ret = pdev_read32(p, PDEV_BAR0, base + IGB_Q_HEAD, &head);

	if (ret >= 0)
		*kept = head == r->head;
	return ret;
}

static int program_queue(struct pdev *p, const struct igb_ring *r, bool tx,
			 unsigned int q, bool *kept)
{
	uint32_t base = igb_vf_queue_base(tx, q);
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fields) && ret == 0; i++) {
		if (tx ? fields[i].tx : fields[i].rx)
			ret = write_reg(p, base + fields[i].off,
					*member((void *)r, fields[i].at));
	}
	if (ret == 0)
		ret = write_reg(p, base + IGB_Q_HEAD, r->head);
	/* Ignored by some while disabled, so again below. */
	if (ret == 0)
		ret = write_reg(p, base + IGB_Q_TAIL, r->head);
	if (ret)
		return ret;

	ret = head_kept(p, base, r, kept);
	if (ret < 0)
		return ret;
	if (!*kept)
		return 0;
	ret = igb_vf_queue_enable(p, tx, q, r->ctl, true);
	if (ret)
		return ret;
	ret = head_kept(p, base, r, kept);
	if (ret < 0)
		return ret;
	if (!*kept)
		return igb_vf_queue_enable(p, tx, q, r->ctl, false);
	return write_reg(p, base + IGB_Q_TAIL, r->head);
}

int igb_vf_program(struct pdev *p, const struct igb_vf_state *st, uint32_t skip,
		   uint32_t *refused, struct err *e)
{
	uint32_t on = igb_vf_enabled(st) & ~skip;
	int ret;

	*refused = 0;
	/*
	 * A head that turns out refused makes what lies between it and the
	 * tail look like work: nothing may be fetched until all is known.
	 */
	ret = igb_vf_bus_master(p, false);
	if (ret > 0)
		ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(common) && ret == 0; i++) {
		uint32_t v = *member((void *)st, common[i].at);

		/*
		 * Some devices answer a read of the mask with what was
		 * written last.  An interrupt too many is spurious, one too
		 * few is a dead queue: all vectors in use are unmasked.
		 */
		if (common[i].off == IGBVF_EIMS)
			v |= igb_vf_vectors(st);
		ret = write_reg(p, common[i].off, v);
	}
	for (unsigned int k = 0; k < 2 * IGB_VF_QPAIRS && ret == 0; k++) {
		bool tx = k < IGB_VF_QPAIRS, kept = true;
		unsigned int q = k % IGB_VF_QPAIRS;
		uint32_t bit = tx ? IGB_TXQ(q) : IGB_RXQ(q);

		if (!(on & bit))
			continue;
		ret = program_queue(p, tx ? &st->tx[q] : &st->rx[q], tx, q,
				    &kept);
		if (!kept)
			*refused |= bit;
	}
	return ret ? err_sys(e, ret, "%s: cannot program the VF", p->name) : 0;
}

uint32_t igb_vf_vectors(const struct igb_vf_state *st)
{
	uint32_t set = 0;

	for (unsigned int i = 0; i < 4; i++) {
		uint8_t b = (uint8_t)(st->ivar0 >> 8 * i);

		if (b & IGB_IVAR_VALID)
			set |= 1u << (b & IGB_IVAR_VECTOR);
	}
	if (st->ivar_misc & IGB_IVAR_VALID)
		set |= 1u << (st->ivar_misc & IGB_IVAR_VECTOR);
	return set & ((1u << IGB_VF_VECTORS) - 1);
}

/* ---- deleting ---- */

static void delete_queue(struct pdev *p, const struct igb_ring *r, bool tx,
			 unsigned int q)
{
	uint32_t base = igb_vf_queue_base(tx, q);

	if (r->ctl & IGB_DCTL_ENABLE)
		igb_vf_queue_enable(p, tx, q, r->ctl, false);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (tx ? fields[i].tx : fields[i].rx)
			write_reg(p, base + fields[i].off, 0);
	write_reg(p, base + IGB_Q_TAIL, 0);
}

uint32_t igb_vf_delete_rings(struct pdev *p)
{
	struct igb_vf_state st;
	uint32_t had;

	igb_vf_read(p, &st);
	had = igb_vf_structures(&st) & IGB_ALLQ;
	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		if (had & IGB_TXQ(q))
			delete_queue(p, &st.tx[q], true, q);
		if (had & IGB_RXQ(q))
			delete_queue(p, &st.rx[q], false, q);
	}
	return had;
}

uint32_t igb_vf_delete_vectors(struct pdev *p)
{
	static const uint32_t none[] = { IGBVF_EIAC, IGBVF_EIAM, IGBVF_IVAR0,
					 IGBVF_IVAR_MISC };
	struct igb_vf_state st;

	igb_vf_read(p, &st);
	/* Masked first: an interrupt after this has nowhere to go. */
	write_reg(p, IGBVF_EIMC, UINT32_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		write_reg(p, none[i], 0);
	return igb_vf_vectors(&st);
}

uint32_t igb_vf_structures(const struct igb_vf_state *st)
{
	uint32_t set = igb_vf_enabled(st) | igb_vf_vectors(st) << 24;

	for (unsigned int q = 0; q < IGB_VF_QPAIRS; q++) {
		if (st->rx[q].base || st->rx[q].len)
			set |= IGB_RXQ(q);
		if (st->tx[q].base || st->tx[q].len)
			set |= IGB_TXQ(q);
	}
	return set;
}

int igb_vf_start(struct pdev *p, const struct igb_vf_state *st, uint32_t queues)
{
	int ret = igb_vf_bus_master(p, true);

	if (ret > 0)
		ret = 0;
	queues &= igb_vf_enabled(st);
	for (unsigned int k = 0; k < 2 * IGB_VF_QPAIRS && ret == 0; k++) {
		bool tx = k < IGB_VF_QPAIRS;
		unsigned int q = k % IGB_VF_QPAIRS;

		if (queues & (tx ? IGB_TXQ(q) : IGB_RXQ(q)))
			ret = write_reg(p,
					igb_vf_queue_base(tx, q) + IGB_Q_TAIL,
					tx ? st->tx[q].tail : st->rx[q].tail);
	}
	/* The guest, which is about to run, may have tails of its own. */
	return ret ? ret : pdev_flush(p);
}
