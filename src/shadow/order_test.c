/*
 * What others do at the worst instant: another vCPU before it is stopped, a
 * guest that exits while its bells are memory, a device in another process
 * that has not looked yet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "shadow/priv.h"
#include "shadow/sim.h"
#include "shadow/sim_priv.h"

static struct sim sim;

static void begin(struct sim_opts o)
{
	o.seed = 1;
	o.nrx = o.ntx = 32;
	o.batch = 1;
	o.shadow.poll_ns = SHADOW_POLL_OFF;
	assert_int_equal(sim_init(&sim, &o), 0);
	sim_guest_up(&sim);
	sim_guest_post(&sim, o.nrx);
	assert_int_equal(shadow_engage(sim.sh, IGB_ALLQ, NULL), 0);
}

static void stand_in(void)
{
	vdev_lock(sim.v);
	assert_int_equal(shadow_stand_in(sim.sh), 0);
	vdev_unlock(sim.v);
}

static void end(void)
{
	assert_int_equal(shadow_release(sim.sh, NULL), 0);
	sim_settle(&sim);
	if (sim.fault)
		fail_msg("%s (%#llx, %#llx)", sim.fault,
			 (unsigned long long)sim.fault_arg[0],
			 (unsigned long long)sim.fault_arg[1]);
	sim_fini(&sim);
}

/* ---- another vCPU ---- */

/* It stores beside a ring until it is stopped, and once more right then. */
static struct {
	unsigned int depth;
	uint32_t stores;
	int (*pause)(struct host *h);
	void (*resume)(struct host *h);
	int (*merge)(struct host *h, gpa_t gpa, uint64_t len);
} other;

static uint32_t *beside(void)
{
	return (uint32_t *)((uint8_t *)sim.fh.ram.guest + sim.foreign);
}

static int stop_it(struct host *h)
{
	if (other.depth++ == 0)
		*beside() = ++other.stores;
	return other.pause(h);
}

static void let_it_go(struct host *h)
{
	other.resume(h);
	other.depth--;
}

/* As a VMM does it: stopped for the instant of the change alone. */
static int merge(struct host *h, gpa_t gpa, uint64_t len)
{
	int ret;

	h->ops->pause(h);
	ret = other.merge(h, gpa, len);
	h->ops->resume(h);
	return ret;
}

static void with_another_vcpu(void)
{
	begin((struct sim_opts){ .tight = true });
	other.depth = other.stores = 0;
	other.pause = sim.ops.pause;
	other.resume = sim.ops.resume;
	other.merge = sim.ops.merge;
	sim.ops.pause = stop_it;
	sim.ops.resume = let_it_go;
	sim.ops.merge = merge;
	*beside() = 0;
}

/* The rings go off by one vCPU's accesses, and the pages are one again. */
static void a_disable_keeps_what_other_vcpus_store(void **state)
{
	with_another_vcpu();
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, 0);
	fake_write(&sim.fh, 0, IGBVF_TXDCTL, 0);
	assert_true(sim.fh.merges > 0);
	assert_true(other.stores > 0);
	assert_int_equal(*beside(), other.stores);
	sim_guest_down(&sim);
	end();
}

static void a_function_reset_keeps_what_other_vcpus_store(void **state)
{
	with_another_vcpu();
	sim.dev.rx.on = sim.dev.tx.on = false;
	sim.fh.func->ops->config_write(sim.fh.func, 0xa0 + 8, 2, 0x8000);
	assert_true(sim.fh.merges > 0);
	assert_true(other.stores > 0);
	assert_int_equal(*beside(), other.stores);
	sim.ops.pause = other.pause;
	sim.ops.resume = other.resume;
	sim_fini(&sim);
}

/* ---- exits while bells are memory ---- */

/* Buffers given back, and then the word of it by a bell that exits. */
static void an_exit_does_not_overtake_bells_in_memory(void **state)
{
	uint32_t before;

	begin((struct sim_opts){ 0 });
	for (unsigned int i = 0; i < 4; i++)
		assert_true(sim_dev_receive(&sim, 60));
	sim_dev_flush(&sim, 2 * SIM_SLOTS, false);
	shadow_sync(sim.sh);
	stand_in();
	before = sim.dev.rx.tail;
	assert_int_equal(sim_guest_poll(&sim, 4), 4);
	sim_guest_post(&sim, 4);
	assert_int_equal(sim.dev.rx.tail, before);

	assert_true(sim_guest_send(&sim));
	assert_true(fake_exits(&sim.fh, 0, IGBVF_COMPACT_TDT));
	fake_write(&sim.fh, 0, IGBVF_COMPACT_TDT, sim.g.tx_use);
	assert_int_equal(sim.dev.tx.tail, sim.g.tx_use);
	assert_int_equal(sim.dev.rx.tail, sim.g.rx_use);
	end();
}

/*
 * A driver that switches its queues off reads a register to have the writes
 * out, and takes the buffers away some time after.
 */
static void a_read_flushes_what_was_written_to_memory(void **state)
{
	begin((struct sim_opts){ 0 });
	stand_in();
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, 0);
	fake_write(&sim.fh, 0, IGBVF_TXDCTL, 0);
	assert_true(sim.dev.rx.on && sim.dev.tx.on);
	assert_true(fake_exits(&sim.fh, 0, IGBVF_STATUS));
	fake_read(&sim.fh, 0, IGBVF_STATUS);
	assert_false(sim.dev.rx.on || sim.dev.tx.on);
	assert_true(fake_exits(&sim.fh, 0, IGBVF_RDT));
	sim_guest_down(&sim);
	end();
}

/* Off, elsewhere, on: all of it between two looks, and a tail for that. */
static void a_ring_set_up_anew_in_memory_is_followed(void **state)
{
	const uint64_t ring = 0x300000;
	const struct ring *r;
	uint32_t old;

	begin((struct sim_opts){ 0 });
	r = &sim.sh->ring[0];
	old = r->tail;
	stand_in();
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, 0);
	for (uint32_t i = 0; i < old; i++) {
		union igb_desc *d = fake_pdev_dma(sim.fp, ring + i * sizeof(*d),
						  sizeof(*d));

		d->qw[0] = sim.g.free_buf[i];
		d->qw[1] = 0;
	}
	fake_write(&sim.fh, 0, IGBVF_RDBAL, (uint32_t)ring);
	fake_write(&sim.fh, 0, IGBVF_RDH, 0);
	fake_write(&sim.fh, 0, IGBVF_RDT, 0);
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	fake_write(&sim.fh, 0, IGBVF_RDT, old);
	sim_tick(&sim);
	assert_false(sim.sh->standing);
	assert_int_equal(r->stats.bad, 0);
	assert_non_null(r->slot);
	assert_int_equal(r->base, ring);
	assert_int_equal(r->sub, old);
	assert_int_equal(sim.dev.rx.base, ring);
	assert_int_equal(sim.dev.rx.tail, old);
	sim_fini(&sim);
}

/* ---- registers that are memory ---- */

/* The device is in another process, and looks when it is asked. */
static void map_registers(void (*looks)(struct fake_pdev *fp, unsigned int bar,
					uint32_t off))
{
	sim.fp->on_write = NULL;
	sim.fp->on_read = looks;
	assert_ptr_equal(vdev_unbind(sim.v), &sim.fp->p);
	sim.fp->nomap[0] = 0;
	assert_int_equal(vdev_bind(sim.v, &sim.fp->p, VDEV_SOFTWARE, NULL), 0);
}

/* Heads are its own, tails of a queue that was off count for nothing. */
static void look(struct fake_pdev *fp, unsigned int bar, uint32_t off)
{
	if (bar != 0 || sim.dev.rx.on)
		return;
	fake_pdev_set(fp, IGBVF_RDH, 5);
	fake_pdev_set(fp, IGBVF_RDT, 5);
	sim.dev.rx.on = fake_pdev_get(fp, IGBVF_RXDCTL) & IGB_DCTL_ENABLE;
}

static void a_ring_is_followed_from_where_the_device_is(void **state)
{
	const struct ring *r;

	begin((struct sim_opts){ 0 });
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, 0);
	r = &sim.sh->ring[0];
	assert_null(r->slot);

	map_registers(look);
	sim.dev.rx.on = false;
	fake_write(&sim.fh, 0, IGBVF_RDH, 0);
	fake_write(&sim.fh, 0, IGBVF_RDT, 7);
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	assert_non_null(r->slot);
	assert_int_equal(r->done, 5);
	assert_int_equal(r->sub, 5);
	sim_fini(&sim);
}

/* What the device has sent; in memory it shows that later. */
static uint32_t sent;

static void show_head(struct fake_pdev *fp, unsigned int bar, uint32_t off)
{
	if (bar == 0 && off == IGBVF_TDH)
		fake_pdev_set(fp, IGBVF_TDH, sent);
}

/* A driver that asks for a status each fourth packet, up to 'last'. */
static void post(uint32_t from, uint32_t n, uint32_t last)
{
	for (uint32_t i = from; i < from + n; i++)
		igb_txd_fill(sim_tx_slot(&sim, i % sim.o.ntx), sim.foreign, 60,
			     IGB_TXD_EOP | (i % 4 == 3 && i <= last ? IGB_TXD_RS
								    : 0));
	fake_write(&sim.fh, 0, IGBVF_TDT, (from + n) % sim.o.ntx);
}

static void send_eight(void)
{
	for (uint32_t i = 3; i < 8; i += 4) {
		union igb_desc *d = (void *)fake_pdev_dma(
			sim.fp, sim.tx_ring + i * sizeof(*d), sizeof(*d));

		__atomic_fetch_or(&d->dw[3], IGB_TXD_DD, __ATOMIC_RELEASE);
	}
	sent = 8;
}

/* In a full ring a head shown late looks like one far ahead. */
static void a_head_shown_late_passes_over_no_packet(void **state)
{
	struct igb_vf_state st;
	const struct ring *r;

	begin((struct sim_opts){ .tight = true });
	map_registers(show_head);
	r = &sim.sh->ring[IGB_VF_QPAIRS];
	sent = 0;
	post(0, 31, UINT32_MAX);
	assert_int_equal(ring_inflight(r), 31);
	send_eight();
	shadow_sync(sim.sh);
	assert_int_equal(r->done, 8);
	/* It is full again, and nobody has shown a head yet. */
	post(31, 8, UINT32_MAX);
	assert_int_equal(ring_inflight(r), 31);
	fake_write(&sim.fh, 0, IGBVF_TDT, 7);
	assert_int_equal(fake_read(&sim.fh, 0, IGBVF_TDH), 0);
	assert_int_equal(r->done, 8);

	assert_int_equal(shadow_drain(sim.sh, 0, &st, NULL, NULL), 0);
	assert_int_equal(st.tx[0].head, 8);
	assert_int_equal(st.tx[0].tail, 7);
	sim_fini(&sim);
}

/* All of a full ring was sent, which the driver sees by the head alone. */
static void a_driver_that_goes_by_heads_has_its_room(void **state)
{
	const struct ring *r;

	begin((struct sim_opts){ .tight = true });
	map_registers(show_head);
	r = &sim.sh->ring[IGB_VF_QPAIRS];
	post(0, 31, 7);
	send_eight();
	shadow_sync(sim.sh);
	post(31, 8, 7);
	assert_int_equal(ring_inflight(r), 31);
	sent = 7;
	fake_pdev_set(sim.fp, IGBVF_TDH, sent);
	assert_int_equal(fake_read(&sim.fh, 0, IGBVF_TDH), 7);
	post(39, 31, 7);
	assert_int_equal(r->stats.bad, 0);
	assert_int_equal(ring_inflight(r), 31);
	assert_int_equal(r->sub, (39 + 31) % 32);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disable_keeps_what_other_vcpus_store),
		cmocka_unit_test(a_function_reset_keeps_what_other_vcpus_store),
		cmocka_unit_test(an_exit_does_not_overtake_bells_in_memory),
		cmocka_unit_test(a_read_flushes_what_was_written_to_memory),
		cmocka_unit_test(a_ring_set_up_anew_in_memory_is_followed),
		cmocka_unit_test(a_ring_is_followed_from_where_the_device_is),
		cmocka_unit_test(a_head_shown_late_passes_over_no_packet),
		cmocka_unit_test(a_driver_that_goes_by_heads_has_its_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
