/*
 * A 16550A serial port, as the first COM port of a PC.
 *
 * Output leaves at once; input waits in a buffer of ours behind the
 * sixteen-byte FIFO the guest thinks there is.  All calls take the port's
 * own lock, and hooks run under it.
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

#define SERIAL_INPUT 4096

struct serial {
	pthread_mutex_t lock;
	/* Hooks; 'opaque' is handed to both. */
	void (*out)(void *opaque, const void *buf, size_t len);
	void (*line)(void *opaque, bool level);
	void *opaque;

	/* What the guest can see. */
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	bool thr_pending; /* "transmitter empty" not yet told */
	bool level;
	uint8_t in[SERIAL_INPUT];
	uint32_t head, count; /* of 'in' */
};

void serial_init(struct serial *s);
void serial_destroy(struct serial *s);
uint8_t serial_read(struct serial *s, unsigned int reg); /* reg 0..7 */
void serial_write(struct serial *s, unsigned int reg, uint8_t v);

/* Bytes from outside; returns how many found room. */
size_t serial_input(struct serial *s, const void *buf, size_t len);

/*
 * State.  A struct serial without lock and hooks is a snapshot: copy takes
 * one, put and get carry it, apply makes it the port's state and drives the
 * line as that says.
 */
void serial_copy(struct serial *snapshot, struct serial *s);
void serial_put(struct wire_out *o, const struct serial *snapshot);
void serial_get(struct wire_in *in, struct serial *snapshot);
void serial_apply(struct serial *s, const struct serial *snapshot);

#endif
