/*
 * The serial port, as a driver finds it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/serial.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct serial s;
static char sent[64];
static size_t nsent;
static bool level;
static unsigned int edges;

static void out(void *opaque, const void *buf, size_t len)
{
	assert_ptr_equal(opaque, &s);
	memcpy(sent + nsent, buf, len);
	nsent += len;
}

static void line(void *opaque, bool l)
{
	assert_int_not_equal(level, l);
	level = l;
	edges++;
}

static int set_up(void **state)
{
	memset(&s, 0, sizeof(s));
	memset(sent, 0, sizeof(sent));
	nsent = edges = 0;
	level = false;
	s.out = out;
	s.line = line;
	s.opaque = &s;
	serial_init(&s);
	return 0;
}

static int tear_down(void **state)
{
	serial_destroy(&s);
	return 0;
}

static void sends(void **state)
{
	assert_int_equal(serial_read(&s, LSR), 0x60);
	serial_write(&s, RBR, 'h');
	serial_write(&s, RBR, 'i');
	assert_int_equal(serial_read(&s, LSR), 0x60);
	assert_string_equal(sent, "hi");
	assert_int_equal(edges, 0); /* nobody asked for interrupts */
}

static void divisor_is_not_data(void **state)
{
	serial_write(&s, LCR, 0x83);
	serial_write(&s, RBR, 0x0c);
	serial_write(&s, IER, 0x01);
	assert_int_equal(serial_read(&s, RBR), 0x0c);
	assert_int_equal(serial_read(&s, IER), 0x01);
	serial_write(&s, LCR, 0x03);
	assert_int_equal(serial_read(&s, IER), 0x00);
	assert_int_equal(nsent, 0);
}

static void receives_with_interrupts(void **state)
{
	assert_int_equal(serial_input(&s, "ab", 2), 2);
	assert_false(level);
	serial_write(&s, IER, 0x01);
	assert_true(level);
	assert_int_equal(serial_read(&s, IIR), 0x04);
	assert_int_equal(serial_read(&s, LSR), 0x61);
	assert_int_equal(serial_read(&s, RBR), 'a');
	assert_true(level);
	assert_int_equal(serial_read(&s, RBR), 'b');
	assert_false(level);
	assert_int_equal(serial_read(&s, IIR), 0x01);
	assert_int_equal(serial_read(&s, RBR), 0);
}

/* Linux relies on each of these, see serial8250_startup and its THRE test. */
static void transmitter_interrupts(void **state)
{
	serial_write(&s, IER, 0x02);
	assert_true(level);
	assert_int_equal(serial_read(&s, IIR), 0x02);
	assert_false(level); /* reading it clears it */
	assert_int_equal(serial_read(&s, IIR), 0x01);
	serial_write(&s, RBR, 'x');
	assert_true(level);
	serial_write(&s, IER, 0x00);
	assert_false(level);
	serial_write(&s, IER, 0x02);
	assert_true(level);
	/* Received data come first. */
	serial_write(&s, IER, 0x03);
	serial_input(&s, "y", 1);
	assert_int_equal(serial_read(&s, IIR), 0x04);
	assert_int_equal(serial_read(&s, RBR), 'y');
	assert_int_equal(serial_read(&s, IIR), 0x02);
}

static void is_known_as_16550a(void **state)
{
	serial_write(&s, SCR, 0xa5);
	assert_int_equal(serial_read(&s, SCR), 0xa5);
	serial_write(&s, IIR, 0x01);
	assert_int_equal(serial_read(&s, IIR) & 0xc0, 0xc0);
	serial_write(&s, IIR, 0x00);
	assert_int_equal(serial_read(&s, IIR) & 0xc0, 0x00);
	/* Loop-back: RTS and OUT2 come back as CTS and DCD. */
	serial_write(&s, MCR, 0x1a);
	assert_int_equal(serial_read(&s, MSR) & 0xf0, 0x90);
	serial_write(&s, RBR, 'l');
	assert_int_equal(nsent, 0);
	assert_int_equal(serial_read(&s, RBR), 'l');
	serial_write(&s, MCR, 0x0b);
	assert_int_equal(serial_read(&s, MSR), 0xb0);
}

static void input_has_an_end(void **state)
{
	static char big[SERIAL_INPUT + 10];

	memset(big, 'z', sizeof(big));
	assert_int_equal(serial_input(&s, big, sizeof(big)), SERIAL_INPUT);
	assert_int_equal(serial_input(&s, big, 1), 0);
	serial_read(&s, RBR);
	assert_int_equal(serial_input(&s, "e", 2), 1);
	serial_write(&s, IIR, 0x03); /* clear the FIFO */
	assert_int_equal(serial_read(&s, LSR) & 1, 0);
}

static void state_travels(void **state)
{
	static struct serial snap, got;
	static uint8_t buf[SERIAL_INPUT + 64];
	struct wire_out o;
	struct wire_in in;
	size_t len;

	serial_input(&s, "dropped", 7);
	for (int i = 0; i < 7; i++)
		serial_read(&s, RBR);
	serial_input(&s, "kept", 4);
	serial_write(&s, IER, 0x01);
	serial_write(&s, SCR, 0x77);
	serial_copy(&snap, &s);
	wire_out_init(&o, buf, sizeof(buf));
	serial_put(&o, &snap);
	assert_int_equal(o.err, 0);
	len = wire_used(&o);

	for (size_t cut = 0; cut < len; cut++) {
		wire_in_init(&in, buf, cut);
		serial_get(&in, &got);
		assert_int_not_equal(in.err, 0);
		assert_true(got.count <= SERIAL_INPUT);
	}
	memset(buf + 8, 0xff, 4);
	wire_in_init(&in, buf, sizeof(buf));
	serial_get(&in, &got);
	assert_int_equal(in.err, -EBADMSG);
	memcpy(buf + 8, "\4\0\0", 4);

	set_up(NULL);
	wire_in_init(&in, buf, len);
	serial_get(&in, &got);
	assert_int_equal(wire_done(&in), 0);
	serial_apply(&s, &got);
	assert_true(level);
	assert_int_equal(serial_read(&s, SCR), 0x77);
	for (const char *p = "kept"; *p; p++)
		assert_int_equal(serial_read(&s, RBR), *p);
	assert_false(level);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(sends),
		T(divisor_is_not_data),
		T(receives_with_interrupts),
		T(transmitter_interrupts),
		T(is_known_as_16550a),
		T(input_has_an_end),
		T(state_travels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
