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

/* ---- registers that are memory ---- */

/*
 * The device looks when it is asked: heads are its own, tails of a queue that
 * was off count for nothing.
 */
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

	/* From here on it is in another process, its pages mapped. */
	sim.fp->on_write = NULL;
	assert_ptr_equal(vdev_unbind(sim.v), &sim.fp->p);
	sim.fp->nomap[0] = 0;
	assert_int_equal(vdev_bind(sim.v, &sim.fp->p, VDEV_SOFTWARE, NULL), 0);
	sim.dev.rx.on = false;
	sim.fp->on_read = look;
	fake_write(&sim.fh, 0, IGBVF_RDH, 0);
	fake_write(&sim.fh, 0, IGBVF_RDT, 7);
	fake_write(&sim.fh, 0, IGBVF_RXDCTL, IGB_DCTL_ENABLE);
	assert_non_null(r->slot);
	assert_int_equal(r->done, 5);
	assert_int_equal(r->sub, 5);
	sim_fini(&sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disable_keeps_what_other_vcpus_store),
		cmocka_unit_test(a_function_reset_keeps_what_other_vcpus_store),
		cmocka_unit_test(an_exit_does_not_overtake_bells_in_memory),
		cmocka_unit_test(a_read_flushes_what_was_written_to_memory),
		cmocka_unit_test(a_ring_is_followed_from_where_the_device_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
