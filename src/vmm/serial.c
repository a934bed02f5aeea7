/*
 * The 16550A.  Registers and bits as in the PC16550D data sheet.
 */
#include "vmm/serial.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

#define IER_RDI	 0x01
#define IER_THRI 0x02
#define IER_RLSI 0x04
#define IER_MSI	 0x08

#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RDI	 0x04
#define IIR_FIFO 0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02

#define LCR_DLAB 0x80

#define MCR_DTR	 0x01
#define MCR_RTS	 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR	 0x01
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI	0x40
#define MSR_DCD 0x80

void serial_init(struct serial *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->dll = 1; /* 115200 */
	s->lcr = 3; /* eight bits, no parity */
}

void serial_destroy(struct serial *s)
{
	pthread_mutex_destroy(&s->lock);
}

static uint8_t cause(const struct serial *s)
{
	if ((s->ier & IER_RDI) && s->count)
		return IIR_RDI;
	if ((s->ier & IER_THRI) && s->thr_pending)
		return IIR_THRI;
	return IIR_NONE;
}

static void update(struct serial *s)
{
	bool level = cause(s) != IIR_NONE;

	if (level == s->level)
		return;
	s->level = level;
	if (s->line)
		s->line(s->opaque, level);
}

static size_t push(struct serial *s, const uint8_t *p, size_t len)
{
	size_t n = MIN(len, (size_t)(SERIAL_INPUT - s->count));

	for (size_t i = 0; i < n; i++)
		s->in[(s->head + s->count++) % SERIAL_INPUT] = p[i];
	return n;
}

static uint8_t pop(struct serial *s)
{
	uint8_t v;

	if (!s->count)
		return 0;
	v = s->in[s->head];
	s->head = (s->head + 1) % SERIAL_INPUT;
	s->count--;
	return v;
}

/* In loop-back the outputs are wired to the inputs. */
static uint8_t modem_status(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_DCD | MSR_DSR | MSR_CTS;
	return (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) |
			 (s->mcr & MCR_DTR ? MSR_DSR : 0) |
			 (s->mcr & MCR_OUT1 ? MSR_RI : 0) |
			 (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

uint8_t serial_read(struct serial *s, unsigned int reg)
{
	bool dlab;
	uint8_t v = 0xff;

	pthread_mutex_lock(&s->lock);
	dlab = s->lcr & LCR_DLAB;
	switch (reg) {
	case 0: v = dlab ? s->dll : pop(s); break;
	case 1: v = dlab ? s->dlm : s->ier; break;
	case 2:
		v = cause(s);
		if (v == IIR_THRI)
			s->thr_pending = false;
		if (s->fcr & FCR_ENABLE)
			v |= IIR_FIFO;
		break;
	case 3: v = s->lcr; break;
	case 4: v = s->mcr; break;
	case 5: v = LSR_THRE | LSR_TEMT | (s->count ? LSR_DR : 0); break;
	case 6: v = modem_status(s); break;
	case 7: v = s->scr; break;
	default: break;
	}
	update(s);
	pthread_mutex_unlock(&s->lock);
	return v;
}

static void transmit(struct serial *s, uint8_t v)
{
	if (s->mcr & MCR_LOOP)
		push(s, &v, 1);
	else if (s->out)
		s->out(s->opaque, &v, 1);
	s->thr_pending = true; /* sent already */
}

void serial_write(struct serial *s, unsigned int reg, uint8_t v)
{
	bool dlab;

	pthread_mutex_lock(&s->lock);
	dlab = s->lcr & LCR_DLAB;
	switch (reg) {
	case 0:
		if (dlab)
			s->dll = v;
		else
			transmit(s, v);
		break;
	case 1:
		if (dlab) {
			s->dlm = v;
			break;
		}
		/* Enabling it with nothing to send interrupts at once. */
		if ((v & ~s->ier) & IER_THRI)
			s->thr_pending = true;
		s->ier = v & (IER_RDI | IER_THRI | IER_RLSI | IER_MSI);
		break;
	case 2:
		s->fcr = v & FCR_ENABLE;
		if (v & FCR_CLEAR_RX)
			s->count = 0;
		break;
	case 3: s->lcr = v; break;
	case 4: s->mcr = v & 0x1f; break;
	case 7: s->scr = v; break;
	default: break;
	}
	update(s);
	pthread_mutex_unlock(&s->lock);
}

size_t serial_input(struct serial *s, const void *buf, size_t len)
{
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = push(s, buf, len);
	update(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void copy_state(struct serial *to, const struct serial *from)
{
	to->ier = from->ier;
	to->fcr = from->fcr;
	to->lcr = from->lcr;
	to->mcr = from->mcr;
	to->scr = from->scr;
	to->dll = from->dll;
	to->dlm = from->dlm;
	to->thr_pending = from->thr_pending;
	to->head = from->head;
	to->count = from->count;
	memcpy(to->in, from->in, sizeof(to->in));
}

void serial_copy(struct serial *snapshot, struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	copy_state(snapshot, s);
	pthread_mutex_unlock(&s->lock);
}

void serial_put(struct wire_out *o, const struct serial *snapshot)
{
	put_u8(o, snapshot->ier);
	put_u8(o, snapshot->fcr);
	put_u8(o, snapshot->lcr);
	put_u8(o, snapshot->mcr);
	put_u8(o, snapshot->scr);
	put_u8(o, snapshot->dll);
	put_u8(o, snapshot->dlm);
	put_u8(o, snapshot->thr_pending);
	put_u32(o, snapshot->count);
	for (uint32_t i = 0; i < snapshot->count; i++)
		put_u8(o, snapshot->in[(snapshot->head + i) % SERIAL_INPUT]);
}

void serial_get(struct wire_in *in, struct serial *snapshot)
{
	snapshot->ier = get_u8(in) & 0x0f;
	snapshot->fcr = get_u8(in) & FCR_ENABLE;
	snapshot->lcr = get_u8(in);
	snapshot->mcr = get_u8(in) & 0x1f;
	snapshot->scr = get_u8(in);
	snapshot->dll = get_u8(in);
	snapshot->dlm = get_u8(in);
	snapshot->thr_pending = get_u8(in) & 1;
	snapshot->head = 0;
	snapshot->count = get_u32(in);
	if (snapshot->count > SERIAL_INPUT) {
		snapshot->count = 0;
		wire_fail(in, -EBADMSG);
	}
	get_bytes(in, snapshot->in, snapshot->count);
}

void serial_apply(struct serial *s, const struct serial *snapshot)
{
	pthread_mutex_lock(&s->lock);
	copy_state(s, snapshot);
	/* The line's level is ours to tell anew, whatever it was. */
	s->level = false;
	update(s);
	pthread_mutex_unlock(&s->lock);
}
