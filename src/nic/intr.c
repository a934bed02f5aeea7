/*
 * Interrupts: extended causes (EICR and its masks), moderation (EITR), and
 * the PF's other causes (ICR).  82576 7.3.
 *
 * A cause whose mask bit is set becomes a message, at most one each EITR
 * interval and vector.  On the message EIAC clears the cause and EIAM the
 * mask, so a driver re-arms by writing EIMS; a cause that came meanwhile
 * fires then.  Without MSI-X everything folds into ICR and one interrupt.
 */
#include "nic/nic_int.h"

struct nic_intr *nic_intr_of(struct nic_fn *fn)
{
	return nic_is_vf(fn) ? &fn->nic->vf[nic_fn_vf(fn)].intr
			     : &fn->nic->intr;
}

void nic_intr_reset(struct nic_intr *in)
{
	*in = (struct nic_intr){ 0 };
}

static bool pf_msix(const struct nic *nic)
{
	return nic->reg[IGB_GPIE / 4] & IGB_GPIE_MULTIPLE_MSIX;
}

static void message(struct nic *nic, struct nic_fn *fn, enum nic_irq kind,
		    unsigned int vector)
{
	nic->counts.irqs++;
	if (fn->ops && fn->ops->irq)
		fn->ops->irq(fn->opaque, kind, vector);
}

/* Send what is in 'bits', pending, unmasked and not to be held back. */
static void fire(struct nic *nic, struct nic_fn *fn, uint32_t bits)
{
	struct nic_intr *in = nic_intr_of(fn);
	bool automask = nic_is_vf(fn) || REG(nic, IGB_GPIE) & IGB_GPIE_EIAME;

	for (bits &= in->eicr & in->eims; bits; bits &= bits - 1) {
		unsigned int v = (unsigned int)__builtin_ctz(bits);
		uint64_t gap;

		if (in->quiet[v] > nic->now) {
			in->waiting |= 1u << v;
			nic->intr_deadline =
				MIN(nic->intr_deadline, in->quiet[v]);
			continue;
		}
		gap = (in->eitr[v] & IGB_EITR_INTERVAL) >>
		      IGB_EITR_INTERVAL_SHIFT;
		in->quiet[v] = gap ? nic->now + gap * 1000 : 0;
		in->waiting &= ~(1u << v);
		in->eicr &= ~(in->eiac & 1u << v);
		if (automask)
			in->eims &= ~(in->eiam & 1u << v);
		message(nic, fn, NIC_IRQ_MSIX, v);
	}
}

void nic_raise(struct nic *nic, struct nic_fn *fn, uint32_t bits)
{
	nic_intr_of(fn)->eicr |= bits;
	fire(nic, fn, bits);
}

void nic_intr_timers(struct nic *nic)
{
	if (nic->now < nic->intr_deadline)
		return;
	nic->intr_deadline = UINT64_MAX;
	for (unsigned int i = 0; i <= nic->num_vfs; i++) {
		struct nic_intr *in = nic_intr_of(&nic->fn[i]);
		uint32_t bits = in->waiting;

		in->waiting = 0;
		fire(nic, &nic->fn[i], bits);
	}
}

/* The single interrupt: something in ICR that IMS lets through. */
static void fire_icr(struct nic *nic, uint32_t fresh)
{
	if (!(fresh & REG(nic, IGB_ICR) & REG(nic, IGB_IMS)))
		return;
	REG(nic, IGB_ICR) |= IGB_ICR_INTA;
	if (pf_msix(nic)) {
		uint32_t entry = REG(nic, IGB_IVAR_MISC) >> 8;

		if (entry & IGB_IVAR_VALID &&
		    (entry & IGB_IVAR_VECTOR) < IGB_EICR_BITS)
			nic_raise(nic, &nic->fn[NIC_PF],
				  1u << (entry & IGB_IVAR_VECTOR));
	} else {
		message(nic, &nic->fn[NIC_PF], NIC_IRQ_SINGLE, 0);
	}
}

void nic_raise_other(struct nic *nic, uint32_t icr)
{
	REG(nic, IGB_ICR) |= icr;
	fire_icr(nic, icr);
}

uint32_t nic_icr_read(struct nic *nic)
{
	uint32_t v = REG(nic, IGB_ICR);

	/* Without NSICR a read clears only what was announced (8.8.9). */
	if (REG(nic, IGB_GPIE) & IGB_GPIE_NSICR || v & IGB_ICR_INTA ||
	    !REG(nic, IGB_IMS))
		REG(nic, IGB_ICR) = 0;
	if (v & IGB_ICR_INTA)
		REG(nic, IGB_IMS) &= ~REG(nic, IGB_IAM);
	return v;
}

void nic_ims_write(struct nic *nic, uint32_t v)
{
	REG(nic, IGB_IMS) |= v;
	fire_icr(nic, v);
}

void nic_raise_queue(struct nic *nic, struct nic_queue *q, bool tx)
{
	uint32_t entry;

	if (nic_is_vf(q->fn)) {
		entry = nic_queue_vf(nic, q)->ivar >> (16 * q->local + 8 * tx);
		if (entry & IGB_IVAR_VALID &&
		    (entry & IGB_IVAR_VECTOR) < IGB_VECTORS_VF)
			nic_raise(nic, q->fn, 1u << (entry & IGB_IVAR_VECTOR));
		return;
	}
	if (!pf_msix(nic)) {
		nic_raise_other(nic, tx ? IGB_ICR_TXDW : IGB_ICR_RXDW);
		return;
	}
	if (nic->m->ivar_by_pair)
		entry = REG(nic, IGB_IVAR(q->index / 2)) >>
			(q->index % 2 * 16 + 8 * tx);
	else
		entry = REG(nic, IGB_IVAR(q->index % 8)) >>
			(q->index / 8 * 16 + 8 * tx);
	if (entry & IGB_IVAR_VALID && (entry & IGB_IVAR_VECTOR) < IGB_EICR_BITS)
		nic_raise(nic, q->fn, 1u << (entry & IGB_IVAR_VECTOR));
}

void nic_raise_mailbox(struct nic *nic, unsigned int vf)
{
	uint32_t entry = nic->vf[vf].ivar_misc;

	if (entry & IGB_IVAR_VALID &&
	    (entry & IGB_IVAR_VECTOR) < IGB_VECTORS_VF)
		nic_raise(nic, &nic->fn[NIC_VF(vf)],
			  1u << (entry & IGB_IVAR_VECTOR));
}

/* 'off' as in page 1 of a VF, which is the PF's own layout as well. */
uint32_t nic_intr_read(struct nic *nic, struct nic_fn *fn, uint32_t off)
{
	struct nic_intr *in = nic_intr_of(fn);
	uint32_t v;

	switch (off) {
	case IGB_EIMS: return in->eims;
	case IGB_EIAC: return in->eiac;
	case IGB_EIAM: return in->eiam;
	case IGB_EICR:
		v = in->eicr;
		in->eicr = 0;
		in->waiting = 0;
		return v;
	default: return 0; /* EICS, EIMC: write-only */
	}
}

void nic_intr_write(struct nic *nic, struct nic_fn *fn, uint32_t off,
		    uint32_t v)
{
	struct nic_intr *in = nic_intr_of(fn);

	v &= nic_is_vf(fn) ? (1u << IGB_VECTORS_VF) - 1
			   : (1u << IGB_EICR_BITS) - 1;
	switch (off) {
	case IGB_EICS: nic_raise(nic, fn, v); break;
	case IGB_EIMS:
		in->eims |= v;
		fire(nic, fn, v);
		break;
	case IGB_EIMC: in->eims &= ~v; break;
	case IGB_EIAC: in->eiac = v; break;
	case IGB_EIAM: in->eiam = v; break;
	case IGB_EICR: in->eicr &= ~v; break;
	default: break;
	}
}
