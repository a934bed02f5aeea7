/*
 * Single statements about engaging: what is where, what is refused, what a
 * hostile guest gets, what happens without interrupts and with threads.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/util.h"
#include "shadow/sim.h"

static struct sim sim;

static void no_log(enum log_level level, const char *line, void *opaque)
{
}

static void no_fault(void)
{
	if (sim.fault)
		fail_msg("%s (%#llx, %#llx)", sim.fault,
			 (unsigned long long)sim.fault_arg[0],
			 (unsigned long long)sim.fault_arg[1]);
}

static void begin(struct sim_opts o)
{
	if (!o.nrx)
		o.nrx = o.ntx = 32;
	if (!o.shadow.poll_ns)
		o.shadow.poll_ns = SHADOW_POLL_OFF;
	o.seed = o.seed ? o.seed : 1;
	assert_int_equal(sim_init(&sim, &o), 0);
	sim_guest_up(&sim);
	sim_guest_post(&sim, o.nrx);
}

static void engage(void)
{
	struct err e = { 0 };
	int ret = shadow_engage(sim.sh, IGB_ALLQ, &e);

	if (ret)
		fail_msg("%s", err_text(&e, ret));
}

static void end(void)
{
	no_fault();
	sim_fini(&sim);
}

static struct shadow_stats stats(void)
{
	struct shadow_stats st;

	shadow_get_stats(sim.sh, &st);
	return st;
}

static uint8_t *vcpu(uint64_t gpa)
{
	return (uint8_t *)sim.fh.ram.guest + gpa;
}

static uint8_t *device(uint64_t gpa)
{
	return fake_pdev_dma(sim.fp, gpa, 1);
}

/* Two memories while split: a mark in one does not show in the other. */
static void two_memories(enum shadow_method method, bool full)
{
	uint64_t at, buf;

	begin((struct sim_opts){
		.shadow = { .method = method, .full = full } });
	at = sim.rx_ring + 40 * IGB_DESC_SIZE; /* behind the ring's end */
	buf = sim.g.rx_buf[3] + 1000;
	*vcpu(at) = 1;
	assert_int_equal(*device(at), 1);
	engage();
	*vcpu(at) = 0xaa;
	assert_int_equal(*device(at), 1);
	*device(at) = 0xbb;
	assert_int_equal(*vcpu(at), 0xaa);
	/* Packet buffers are one memory, unless all is split. */
	*vcpu(buf) = 0x11;
	*device(buf) = 0x22;
	assert_int_equal(*vcpu(buf), full ? 0x11 : 0x22);

	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	/* The guest's, for the device was never given it. */
	assert_int_equal(*vcpu(at), 0xaa);
	assert_int_equal(*device(at), 0xaa);
	/* The device's: the buffer is still posted. */
	assert_int_equal(*vcpu(buf), 0x22);
	*device(at) = 0xcc;
	assert_int_equal(*vcpu(at), 0xcc);
	end();
}

static void two_memories_while_split(void **state)
{
	two_memories(SHADOW_CPU, false);
	two_memories(SHADOW_IOMMU, false);
	two_memories(SHADOW_CPU, true);
	two_memories(SHADOW_IOMMU, true);
}

/* The default touches neither queue nor IOMMU: not one write, not one map. */
static void engaging_leaves_the_device_alone(void **state)
{
	struct pdev_dma maps[FAKE_DMA];
	unsigned int writes;

	begin((struct sim_opts){ 0 });
	writes = sim.fp->writes;
	memcpy(maps, sim.fp->dma, sizeof(maps));
	for (int i = 0; i < 10; i++) {
		engage();
		assert_int_equal(shadow_release(sim.sh, NULL), 0);
	}
	assert_int_equal(sim.fp->writes, writes);
	assert_int_equal(sim.fp->resets, 0);
	assert_memory_equal(maps, sim.fp->dma, sizeof(maps));
	end();
}

/* Every request passes us: our counts are the device's own. */
static void counts_are_the_devices(void **state)
{
	struct shadow_stats a, b;
	uint64_t fetched, written;

	begin((struct sim_opts){ .nrx = 64, .ntx = 64 });
	sim_settle(&sim);
	engage();
	a = stats();
	fetched = sim.dev.fetched;
	written = sim.dev.written;
	for (int i = 0; i < 2000; i++) {
		sim_guest_send(&sim);
		sim_guest_kick(&sim);
		sim_dev_transmit(&sim);
		sim_dev_receive(&sim, 1 + sim_rand(&sim, 2000));
		if (i % 3 == 0)
			shadow_sync(sim.sh);
		sim_guest_poll(&sim, 4);
		sim_guest_post(&sim, 16);
	}
	sim_settle(&sim);
	b = stats();
	assert_int_equal(b.rx[0].completed - a.rx[0].completed +
				 b.tx[0].completed - a.tx[0].completed,
			 sim.dev.fetched - fetched);
	/* Transmits that ask for no status are completed without one. */
	assert_true(sim.dev.written - written <= sim.dev.fetched - fetched);
	assert_int_equal(b.tx[0].submitted - a.tx[0].submitted,
			 b.tx[0].completed - a.tx[0].completed);
	assert_int_equal(b.tx[0].inflight, 0);
	end();
}

/* ---- refused ---- */

static void what_cannot_be_kept_in_step_is_refused(void **state)
{
	struct igb_vf_state st;
	struct err e = { 0 };

	/* One queue alone, with other data in its ring's pages. */
	begin((struct sim_opts){ .tight = true });
	assert_int_equal(shadow_engage(sim.sh, IGB_RXQ(0), &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.text, "other data"));
	assert_int_equal(shadow_engaged(sim.sh), 0);
	assert_int_equal(stats().split_pages, 0);
	engage();
	assert_int_equal(shadow_engage(sim.sh, IGB_ALLQ, NULL), -EALREADY);
	sim_fini(&sim);

	/* Its own pages: fine, and the other queue stays direct. */
	begin((struct sim_opts){ .nrx = 256, .ntx = 256 });
	assert_int_equal(shadow_engage(sim.sh, IGB_RXQ(0), NULL), 0);
	assert_int_equal(shadow_engaged(sim.sh), IGB_RXQ(0));
	for (int i = 0; i < 300; i++) {
		sim_guest_send(&sim);
		sim_guest_kick(&sim);
		while (sim_dev_transmit(&sim))
			;
		sim_dev_receive(&sim, 900);
		shadow_sync(sim.sh);
		sim_guest_poll(&sim, 8);
		sim_guest_post(&sim, 8);
	}
	/* But a switch-over would not know what the other one wrote. */
	err_clear(&e);
	assert_int_equal(shadow_drain(sim.sh, 0, &st, NULL, &e), -EOPNOTSUPP);
	assert_int_equal(shadow_engage(sim.sh, IGB_TXQ(0), NULL), 0);
	assert_int_equal(shadow_drain(sim.sh, 0, &st, NULL, NULL), 0);
	assert_int_equal(shadow_engage(sim.sh, IGB_RXQ(1), NULL), -EBUSY);
	assert_int_equal(shadow_undrain(sim.sh, NULL), 0);
	sim_settle(&sim);
	sim_fini(&sim);

	/* Another device may write to the pages. */
	begin((struct sim_opts){ .tight = true, .shadow.shared = true });
	assert_int_equal(shadow_engage(sim.sh, IGB_ALLQ, NULL), -EOPNOTSUPP);
	end();
}

static void no_device_no_shadow(void **state)
{
	struct pdev *p;

	begin((struct sim_opts){ 0 });
	p = vdev_unbind(sim.v);
	assert_int_equal(shadow_engage(sim.sh, IGB_ALLQ, NULL), -ENODEV);
	assert_int_equal(vdev_bind(sim.v, p, VDEV_SOFTWARE, NULL), 0);
	end();
}

/* Whatever step fails, all is as before and the next try works. */
static void a_failed_engage_undoes_all(void **state)
{
	unsigned int failed = 0;

	begin((struct sim_opts){ 0 });
	for (unsigned int n = 1; n < 40; n++) {
		int ret;

		sim.fh.fail_in = n;
		ret = shadow_engage(sim.sh, IGB_ALLQ, NULL);
		sim.fh.fail_in = 0;
		if (ret == 0) {
			assert_int_equal(shadow_release(sim.sh, NULL), 0);
			break;
		}
		failed++;
		assert_int_equal(shadow_engaged(sim.sh), 0);
		assert_int_equal(stats().split_pages, 0);
		for (unsigned int p = 0; p < 4; p++)
			assert_int_equal(vdev_trap_reasons(sim.v, 0, p) &
						 VDEV_TRAP_SHADOW,
					 0);
		sim_guest_send(&sim);
		sim_dev_receive(&sim, 100);
		sim_settle(&sim);
		no_fault();
	}
	assert_true(failed >= 2);
	end();
}

/* ---- hostile guests ---- */

static union igb_desc *tx_slot(uint32_t i)
{
	return (union igb_desc *)(vcpu(sim.tx_ring) +
				  (uint64_t)i * IGB_DESC_SIZE);
}

static union igb_desc *rx_slot(uint32_t i)
{
	return (union igb_desc *)(vcpu(sim.rx_ring) +
				  (uint64_t)i * IGB_DESC_SIZE);
}

static void up_again(void)
{
	sim_guest_down(&sim);
	sim_guest_up(&sim);
	sim_guest_post(&sim, sim.o.nrx);
	sim_guest_send(&sim);
	sim_guest_kick(&sim);
	sim_dev_receive(&sim, 500);
	sim_settle(&sim);
	no_fault();
	assert_false(stats().rx[0].stalled || stats().tx[0].stalled);
}

/* A bad address never reaches the device; the queue stops, as if it had. */
static void bad_addresses_stop_the_queue(void **state)
{
	static const uint64_t bad[] = {
		SIM_RAM - 10, /* its end is outside */
		SIM_RAM,
		0xffffffffffffff00ull,
		0x8000000000000000ull,
	};
	uint64_t n = 0;

	log_set_sink(no_log, NULL);
	begin((struct sim_opts){ 0 });
	engage();
	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		uint32_t i = sim.g.tx_use;

		igb_txd_fill(tx_slot(i), bad[k], 60, IGB_TXD_EOP | IGB_TXD_RS);
		sim.g.tx_use = (i + 1) % sim.o.ntx;
		sim_guest_kick(&sim);
		assert_int_equal(stats().tx[0].bad, ++n);
		assert_true(stats().tx[0].stalled);
		assert_int_equal(fake_pdev_get(sim.fp, IGBVF_TDT), i);
		/* What it reads back is what it wrote. */
		assert_int_equal(fake_read(&sim.fh, 0, IGBVF_TDT),
				 sim.g.tx_use);
		assert_false(sim_dev_transmit(&sim));
		/* And no more comes through. */
		sim_guest_kick(&sim);
		assert_int_equal(fake_pdev_get(sim.fp, IGBVF_TDT), i);
		up_again();
	}
	n = 0;
	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		uint32_t i = sim.g.rx_use;

		/* Room for one more, with a bad address in it. */
		sim_dev_receive(&sim, 100);
		shadow_sync(sim.sh);
		sim_guest_poll(&sim, 4);
		igb_rxd_fill(rx_slot(i), bad[k] & ~1ull, 0);
		fake_write(&sim.fh, 0, IGBVF_RDT, (i + 1) % sim.o.nrx);
		assert_int_equal(stats().rx[0].bad, ++n);
		assert_true(stats().rx[0].stalled);
		assert_int_equal(fake_pdev_get(sim.fp, IGBVF_RDT), i);
		up_again();
	}
	/* A type that hides its address. */
	tx_slot(sim.g.tx_use)->qw[0] = 0x1000;
	tx_slot(sim.g.tx_use)->dw[2] = IGB_TXD_DEXT | 0x00100000 | 60;
	tx_slot(sim.g.tx_use)->dw[3] = 0;
	sim.g.tx_use = (sim.g.tx_use + 1) % sim.o.ntx;
	sim_guest_kick(&sim);
	assert_true(stats().tx[0].stalled);
	up_again();
	log_set_sink(NULL, NULL);
	end();
}

static void bad_tails_are_nothing(void **state)
{
	uint32_t rdt;

	log_set_sink(no_log, NULL);
	begin((struct sim_opts){ 0 });
	engage();
	rdt = fake_pdev_get(sim.fp, IGBVF_RDT);
	fake_write(&sim.fh, 0, IGBVF_RDT, sim.o.nrx);
	fake_write(&sim.fh, 0, IGBVF_RDT, 0xffffffff);
	/* Everything is posted: one more would make full look like empty. */
	fake_write(&sim.fh, 0, IGBVF_RDT, (rdt + 1) % sim.o.nrx);
	assert_int_equal(stats().rx[0].bad, 3);
	assert_int_equal(fake_pdev_get(sim.fp, IGBVF_RDT), rdt);
	/* A base or head moved under a running queue. */
	fake_write(&sim.fh, 0, IGBVF_RDBAL, 0x1000);
	fake_write(&sim.fh, 0, IGBVF_RDLEN, 0);
	fake_write(&sim.fh, 0, IGBVF_RDH, 5);
	assert_int_equal(stats().rx[0].bad, 6);
	assert_int_equal(fake_pdev_get(sim.fp, IGBVF_RDBAL), sim.rx_ring);
	sim_dev_receive(&sim, 100);
	sim_guest_send(&sim);
	sim_settle(&sim);
	log_set_sink(NULL, NULL);
	end();
}

/*
 * SRRCTL counts in KiB, so a driver's buffer of 1522 bytes is told as 2 KiB.
 * In the last page of RAM its end is not there, and yet nothing is wrong.
 */
static void a_rounded_buffer_may_end_with_ram(void **state)
{
	static const struct {
		uint64_t at;
		bool fine;
	} k[] = {
		{ SIM_RAM - 1600, true },
		{ SIM_RAM - 1522, true },
		{ SIM_RAM - 1520, false },
	};

	log_set_sink(no_log, NULL);
	for (size_t n = 0; n < 2 * ARRAY_SIZE(k); n++) {
		uint64_t at = k[n / 2].at;
		bool fine = k[n / 2].fine;
		uint32_t i, next, srrctl;

		begin((struct sim_opts){ .shadow = { .full = n % 2 } });
		srrctl = fake_pdev_get(sim.fp, IGBVF_SRRCTL);
		fake_pdev_set(sim.fp, IGBVF_SRRCTL,
			      (srrctl & ~IGB_SRRCTL_BSIZEPKT) | 2);
		engage();
		sim_dev_receive(&sim, 100);
		shadow_sync(sim.sh);
		sim_guest_poll(&sim, 4);
		i = sim.g.rx_use;
		next = (i + 1) % sim.o.nrx;
		igb_rxd_fill(rx_slot(i), at, 0);
		fake_write(&sim.fh, 0, IGBVF_RDT, next);
		assert_int_equal(stats().rx[0].bad, !fine);
		assert_int_equal(fake_pdev_get(sim.fp, IGBVF_RDT),
				 fine ? next : i);
		end();
	}
	log_set_sink(NULL, NULL);
}

/*
 * A ring moved outside RAM: it runs as the guest made it (and its device
 * faults), but the VM does not switch over with a queue nobody watches.
 */
static void a_ring_outside_ram_is_not_followed(void **state)
{
	struct igb_vf_state st;

	log_set_sink(no_log, NULL);
	begin((struct sim_opts){ 0 });
	engage();
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, 0);
	fake_write(&sim.fh, 0, IGBVF_RDBAL, SIM_RAM - 128);
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	assert_int_not_equal(
		fake_pdev_get(sim.fp, IGBVF_RXDCTL) & IGB_DCTL_ENABLE, 0);
	assert_int_equal(shadow_drain(sim.sh, 0, &st, NULL, NULL), -EOPNOTSUPP);
	log_set_sink(NULL, NULL);
	end();
}

/* ---- resets ---- */

static void rings_are_followed_to_another_place(void **state)
{
	uint64_t rx;

	begin((struct sim_opts){ 0 });
	engage();
	rx = sim.rx_ring;
	sim_guest_down(&sim);
	assert_int_equal(stats().split_pages, 0);
	sim.rx_ring = sim.tx_ring;
	sim.tx_ring = rx;
	sim_guest_up(&sim);
	sim_guest_post(&sim, sim.o.nrx);
	assert_int_equal(stats().split_pages, 2);
	for (int i = 0; i < 100; i++) {
		sim_guest_send(&sim);
		sim_guest_kick(&sim);
		sim_dev_transmit(&sim);
		sim_dev_receive(&sim, 300);
		shadow_sync(sim.sh);
		sim_guest_poll(&sim, 4);
		sim_guest_post(&sim, 4);
	}
	sim_settle(&sim);
	assert_true(stats().rx[0].completed >= 100);
	end();
}

static void a_function_reset_gives_all_to_the_guest(void **state)
{
	begin((struct sim_opts){ 0 });
	engage();
	memset(vcpu(sim.rx_ring), 0x77, 64);
	/* The device forgets its queues; vdev tells us. */
	sim.dev.rx.on = sim.dev.tx.on = false;
	sim.fh.func->ops->config_write(sim.fh.func, 0xa0 + 8, 2, 0x8000);
	assert_int_equal(sim.fp->resets, 1);
	assert_int_equal(stats().split_pages, 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(vcpu(sim.rx_ring)[i], 0x77);
	end();
}

/* And if nobody has noticed before the switch-over, that does. */
static void a_dead_queue_does_not_travel(void **state)
{
	struct igb_vf_state st;

	begin((struct sim_opts){ 0 });
	engage();
	sim.dev.rx.on = false;
	fake_pdev_set(sim.fp, IGBVF_RXDCTL, 0);
	memset(vcpu(sim.rx_ring), 0x66, 128);
	assert_int_equal(shadow_drain(sim.sh, 0, &st, NULL, NULL), 0);
	assert_int_equal(igb_vf_enabled(&st), IGB_TXQ(0));
	for (int i = 0; i < 128; i++)
		assert_int_equal(vcpu(sim.rx_ring)[i], 0x66);
	assert_int_equal(shadow_undrain(sim.sh, NULL), 0);
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	assert_int_equal(stats().split_pages, 0);
	end();
}

static void write_back(unsigned int n)
{
	const struct sim_wb *w = &sim.dev.wb[n];
	union igb_desc *d =
		(void *)device(sim.rx_ring + w->idx * IGB_DESC_SIZE);

	d->qw[0] = w->d.qw[0];
	d->qw[1] = w->d.qw[1];
}

/*
 * The first half of a frame is seen after the second, since the copy of the
 * ring took its time: no frame is begun by that.
 */
static void a_late_half_begins_no_frame(void **state)
{
	struct igb_vf_state st;
	struct err e = { 0 };

	begin((struct sim_opts){ .head_first = true, .batch = 64 });
	assert_true(sim_dev_receive(&sim, 2 * SIM_BSIZE));
	assert_int_equal(sim.dev.nwb, 2);
	write_back(1);
	engage();
	write_back(0);
	sim.dev.nwb = 0;
	shadow_sync(sim.sh);
	if (shadow_drain(sim.sh, 0, &st, NULL, &e))
		fail_msg("%s", e.text);
	assert_int_equal(shadow_undrain(sim.sh, NULL), 0);
	assert_int_equal(sim_guest_poll(&sim, 1), 1);
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	end();
}

/* ---- threads ---- */

static bool within_ms(int ms, bool (*cond)(void))
{
	for (; ms > 0 && !cond(); ms--)
		usleep(1000);
	return cond();
}

static bool first_done(void)
{
	return igb_rxd_done(rx_slot(sim.g.rx_clean));
}

static bool nothing_split(void)
{
	return stats().split_pages == 0;
}

/* A guest that only looks at memory gets its frames, and soon often. */
static void polling_guests_are_served(void **state)
{
	begin((struct sim_opts){ .shadow.poll_ns = 100000 });
	engage();
	for (int i = 0; i < 200; i++) {
		assert_true(sim_dev_receive(&sim, 100));
		assert_true(within_ms(2000, first_done));
		vdev_lock(sim.v);
		sim_guest_poll(&sim, 4);
		sim_guest_post(&sim, 4);
		vdev_unlock(sim.v);
	}
	assert_true(stats().polls_hit >= 100);
	assert_true(stats().poll_ns <= 5 * 100000);
	/* Nothing to find: it lets go again. */
	usleep(400000);
	assert_true(stats().poll_ns > 5 * 100000);
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	assert_int_equal(stats().poll_ns, 0);
	end();
}

/* A PF reset switches queues off with no access of the guest's. */
static void a_queue_that_dies_is_noticed(void **state)
{
	begin((struct sim_opts){ .shadow.poll_ns = 1000000 });
	engage();
	vdev_lock(sim.v);
	sim.dev.rx.on = sim.dev.tx.on = false;
	fake_pdev_set(sim.fp, IGBVF_RXDCTL, 0);
	fake_pdev_set(sim.fp, IGBVF_TXDCTL, 0);
	/* Its memory is the guest's at once, and stays what it makes of it. */
	memset(vcpu(sim.rx_ring), 0x55, 256);
	vdev_unlock(sim.v);
	assert_true(within_ms(3000, nothing_split));
	for (int i = 0; i < 256; i++)
		assert_int_equal(vcpu(sim.rx_ring)[i], 0x55);
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	end();
}

/* Interrupts: what was completed is there before the guest is told. */
static void an_interrupt_finds_its_work_done(void **state)
{
	unsigned int fired;

	begin((struct sim_opts){ 0 });
	engage();
	fired = fake_host_fired_data(&sim.fh, 0x4001);
	sim_dev_receive(&sim, 100);
	assert_false(first_done());
	fake_pdev_fire(sim.fp, 1);
	loop_once(sim.loop, 100);
	assert_true(first_done());
	assert_int_equal(fake_host_fired_data(&sim.fh, 0x4001), fired + 1);
	assert_int_equal(stats().irqs, 1);
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	/* Its own way again, and one for what may have been missed. */
	fired = fake_host_fired_data(&sim.fh, 0x4001);
	fake_pdev_fire(sim.fp, 1);
	assert_int_equal(fake_host_fired_data(&sim.fh, 0x4001), fired + 1);
	assert_int_equal(stats().irqs, 1);
	end();
}

static void options_are_read(void **state)
{
	struct shadow_opts o;
	struct err e = { 0 };

	assert_int_equal(shadow_parse_opts(&o, "", &e), 0);
	assert_int_equal(o.method, SHADOW_CPU);
	assert_int_equal(shadow_parse_opts(&o, "iommu,full,poll=20", &e), 0);
	assert_int_equal(o.method, SHADOW_IOMMU);
	assert_true(o.full);
	assert_int_equal(o.poll_ns, 20000);
	assert_int_equal(shadow_parse_opts(&o, "cpu,poll=off", &e), 0);
	assert_true(o.poll_ns == SHADOW_POLL_OFF);
	assert_int_equal(shadow_parse_opts(&o, "poll=0", &e), -EINVAL);
	err_clear(&e);
	assert_int_equal(shadow_parse_opts(&o, "cpu,fast", &e), -EINVAL);
	assert_non_null(strstr(e.text, "fast"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_memories_while_split),
		cmocka_unit_test(engaging_leaves_the_device_alone),
		cmocka_unit_test(counts_are_the_devices),
		cmocka_unit_test(what_cannot_be_kept_in_step_is_refused),
		cmocka_unit_test(no_device_no_shadow),
		cmocka_unit_test(a_failed_engage_undoes_all),
		cmocka_unit_test(bad_addresses_stop_the_queue),
		cmocka_unit_test(bad_tails_are_nothing),
		cmocka_unit_test(a_rounded_buffer_may_end_with_ram),
		cmocka_unit_test(a_ring_outside_ram_is_not_followed),
		cmocka_unit_test(rings_are_followed_to_another_place),
		cmocka_unit_test(a_function_reset_gives_all_to_the_guest),
		cmocka_unit_test(a_dead_queue_does_not_travel),
		cmocka_unit_test(a_late_half_begins_no_frame),
		cmocka_unit_test(polling_guests_are_served),
		cmocka_unit_test(a_queue_that_dies_is_noticed),
		cmocka_unit_test(an_interrupt_finds_its_work_done),
		cmocka_unit_test(options_are_read),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
