#include <errno.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <cmocka.h>

#include "base/util.h"
#include "vdev/fake.h"

struct bench {
	struct fake_host f;
	struct fake_pdev *fp;
	struct loop *l;
	struct vdev *v;
	const struct vdev_model *m;
	struct pci_func *func;
	unsigned int hits, resets;
	uint32_t tap_off, tap_val;
	bool closed;
};

static int setup(void **state)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	*state = &b;
	b.m = vdev_model_find("igb/82576");
	if (!b.m || fake_host_init(&b.f, 1 << 20) < 0 ||
	    loop_create(&b.l) < 0 || fake_pdev_open(&b.fp, 0x8086, 0x10ca) < 0)
		return -1;
	b.fp->closed = &b.closed;
	if (vdev_create(&b.v, "net0", b.m, &b.f.h, b.l, NULL) < 0)
		return -1;
	b.func = vdev_func(b.v);
	fake_plug(&b.f, b.func);
	return 0;
}

static int setup_bound(void **state)
{
	int ret = setup(state);
	struct bench *b = *state;

	return ret < 0 ? ret : vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, NULL);
}

static int teardown(void **state)
{
	struct bench *b = *state;
	bool bound = vdev_pdev(b->v);

	vdev_destroy(b->v);
	if (!bound)
		pdev_close(&b->fp->p);
	if (!b->closed)
		return -1;
	for (unsigned int i = 0; i < FAKE_SLOTS; i++)
		if (b->f.slot[i].va)
			return -1;
	for (unsigned int i = 0; i < FAKE_IRQS; i++)
		if (b->f.irq[i].used)
			return -1;
	loop_destroy(b->l);
	fake_host_fini(&b->f);
	return 0;
}

static uint32_t cfg(struct bench *b, uint32_t off, unsigned int size)
{
	return b->func->ops->config_read(b->func, off, size);
}

static void cfg_set(struct bench *b, uint32_t off, unsigned int size,
		    uint32_t val)
{
	b->func->ops->config_write(b->func, off, size, val);
}

static void identity_is_the_models(void **state)
{
	struct bench *b = *state;

	assert_int_equal(cfg(b, 0, 4), 0x10ca8086);
	assert_int_equal(cfg(b, PCI_CLASS_REVISION, 4), 0x02000001);
	assert_int_equal(cfg(b, 0x70, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(cfg(b, 0x72, 2) & 0x7ff, 2);
	assert_int_equal(cfg(b, PCI_BASE_ADDRESS_0, 4), 0xe000000c);
	assert_ptr_equal(vdev_model_of(0x8086, 0x1520),
			 vdev_model_find("igb/i350"));
	assert_null(vdev_model_of(0x8086, 0xffff));
	assert_null(vdev_model_find("igb"));
}

static void unbacked_reads_ones(void **state)
{
	struct bench *b = *state;

	assert_int_equal(vdev_trap_reasons(b->v, 0, 2), VDEV_TRAP_UNBACKED);
	assert_true(fake_exits(&b->f, 0, 0x2818));
	assert_int_equal(fake_read(&b->f, 0, 8), 0xffffffff);
	fake_write(&b->f, 0, 8, 1);
	assert_int_equal(vdev_reg_read(b->v, 8), 0xffffffff);
	assert_int_equal(vdev_get_backing(b->v), VDEV_NONE);
}

static void bound_pages_are_direct(void **state)
{
	struct bench *b = *state;
	struct vdev_counts c0, c1;
	unsigned int before;
	char *ram;

	for (uint32_t page = 0; page < 4; page++) {
		assert_false(fake_exits(&b->f, 0, page * 4096));
		assert_true(vdev_page_direct(b->v, 0, page));
		/* The table's BAR never is. */
		assert_true(fake_exits(&b->f, 3, page * 4096));
	}
	vdev_get_counts(b->v, &c0);
	before = b->fp->writes;
	for (int i = 0; i < 1000; i++)
		fake_write(&b->f, 0, 0x3818, (uint32_t)i);
	vdev_get_counts(b->v, &c1);
	assert_memory_equal(&c0, &c1, sizeof(c0));
	assert_int_equal(fake_pdev_get(b->fp, 0x3818), 999);
	assert_int_equal(b->fp->writes, before);

	/* The device reaches all RAM, at the guest's addresses. */
	ram = fake_pdev_dma(b->fp, 0x12345, 16);
	assert_ptr_equal(ram, (char *)b->f.ram.backing + 0x12345);
	assert_null(fake_pdev_dma(b->fp, b->f.ram.size - 8, 16));
	assert_int_equal(b->fp->config[PCI_COMMAND],
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void traps_need_the_last_reason_gone(void **state)
{
	struct bench *b = *state;
	struct vdev_counts c;
	unsigned int flushes;
	uint64_t r, w;

	assert_int_equal(vdev_trap(b->v, 0, 3, VDEV_TRAP_SHADOW), 0);
	assert_int_equal(vdev_trap(b->v, 0, 3, VDEV_TRAP_MBX), 0);
	assert_true(fake_exits(&b->f, 0, 0x3818));
	assert_false(fake_exits(&b->f, 0, 0x2818));
	fake_write(&b->f, 0, 0x3818, 7);
	assert_int_equal(fake_pdev_get(b->fp, 0x3818), 7);
	assert_int_equal(vdev_untrap(b->v, 0, 3, VDEV_TRAP_SHADOW), 0);
	assert_true(fake_exits(&b->f, 0, 0x3818));
	assert_int_equal(fake_read(&b->f, 0, 0x3818), 7);
	flushes = b->fp->flushes;
	assert_int_equal(vdev_untrap(b->v, 0, 3, VDEV_TRAP_MBX), 0);
	/* No write of ours arrives after the guest's next one. */
	assert_int_equal(b->fp->flushes, flushes + 1);
	assert_false(fake_exits(&b->f, 0, 0x3818));

	vdev_get_counts(b->v, &c);
	assert_int_equal(c.traps, 1);
	assert_int_equal(c.untraps, 1);
	assert_int_equal(c.doorbell, 2);
	assert_int_equal(c.mbx_page, 0);
	vdev_page_counts(b->v, 0, 3, &r, &w);
	assert_int_equal(r, 1);
	assert_int_equal(w, 1);
	assert_int_equal(vdev_trap(b->v, 0, 4, VDEV_TRAP_MBX), -EINVAL);
	assert_int_equal(vdev_trap(b->v, 6, 0, VDEV_TRAP_MBX), -EINVAL);
	assert_int_equal(vdev_trap(b->v, 1, 0, VDEV_TRAP_MBX), -EINVAL);
}

static void a_failed_toggle_says_so(void **state)
{
	struct bench *b = *state;

	b->f.fail_in = 1;
	assert_int_equal(vdev_trap(b->v, 0, 0, VDEV_TRAP_MBX), -EIO);
	assert_int_equal(vdev_trap_reasons(b->v, 0, 0), 0);
	assert_false(fake_exits(&b->f, 0, 0));

	assert_int_equal(vdev_trap(b->v, 0, 0, VDEV_TRAP_MBX), 0);
	b->f.fail_in = 1;
	assert_int_equal(vdev_untrap(b->v, 0, 0, VDEV_TRAP_MBX), -EIO);
	assert_true(fake_exits(&b->f, 0, 0));
	/* It works all the same, only slower. */
	fake_pdev_set(b->fp, 8, 0x123);
	assert_int_equal(fake_read(&b->f, 0, 8), 0x123);
}

static bool tap_read(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val)
{
	struct bench *b = opaque;

	if (off == 0xc44)
		return false;
	assert_int_equal(size, 4);
	b->tap_off = off;
	*val = 0xaa;
	return true;
}

static bool tap_write(void *opaque, uint32_t off, unsigned int size,
		      uint64_t val)
{
	struct bench *b = opaque;

	b->tap_off = off;
	b->tap_val = (uint32_t)val;
	return off != 0xc44;
}

static void taps_come_first(void **state)
{
	struct bench *b = *state;
	struct vdev_tap t = { .bar = 0,
			      .off = 0xc40,
			      .len = 8,
			      .read = tap_read,
			      .write = tap_write,
			      .opaque = b };
	struct vdev_tap silent = { .bar = 0, .off = 0, .len = 4096 };

	vdev_tap_add(b->v, &t);
	vdev_tap_add(b->v, &silent);
	vdev_trap(b->v, 0, 0, VDEV_TRAP_MBX);
	fake_pdev_set(b->fp, 0xc44, 0x55);

	assert_int_equal(fake_read(&b->f, 0, 0xc40), 0xaa);
	assert_int_equal(fake_read(&b->f, 0, 0xc44), 0x55);
	assert_int_equal(fake_read(&b->f, 0, 0xc48), 0);
	fake_write(&b->f, 0, 0xc40, 9);
	assert_int_equal(b->tap_val, 9);
	assert_int_equal(fake_pdev_get(b->fp, 0xc40), 0);
	fake_write(&b->f, 0, 0xc44, 10);
	assert_int_equal(fake_pdev_get(b->fp, 0xc44), 10);

	/* A wide access is two, a narrow read a part, a narrow write none. */
	assert_true(b->func->ops->bar_read(b->func, 0, 0xc40, 8) ==
		    0x0000000a000000aaull);
	fake_pdev_set(b->fp, 0xc48, 0x11223344);
	assert_int_equal(b->func->ops->bar_read(b->func, 0, 0xc4a, 1), 0x22);
	assert_int_equal(b->func->ops->bar_read(b->func, 0, 0xc4a, 2), 0x1122);
	b->func->ops->bar_write(b->func, 0, 0xc48, 1, 0xff);
	assert_int_equal(fake_pdev_get(b->fp, 0xc48), 0x11223344);

	vdev_tap_del(b->v, &t);
	vdev_tap_del(b->v, &silent);
	vdev_tap_del(b->v, &t);
	assert_int_equal(fake_read(&b->f, 0, 0xc40), 0);
}

static void nonsense_is_answered(void **state)
{
	struct bench *b = *state;
	struct vdev_counts c;

	assert_true(b->func->ops->bar_read(b->func, 0, 16384, 4) == 0xffffffff);
	assert_true(b->func->ops->bar_read(b->func, 0, 16380, 8) == ~0ull);
	assert_true(b->func->ops->bar_read(b->func, 0, 2, 4) == 0xffffffff);
	assert_true(b->func->ops->bar_read(b->func, 5, 0, 4) == 0xffffffff);
	assert_true(b->func->ops->bar_read(b->func, 6, 0, 4) == 0xffffffff);
	assert_true(b->func->ops->bar_read(b->func, 0, ~0ull - 1, 4) ==
		    0xffffffff);
	b->func->ops->bar_write(b->func, 0, 16384, 4, 0);
	b->func->ops->bar_write(b->func, 0, 16380, 8, 0);
	b->func->ops->bar_write(b->func, 0, 1, 4, 0);
	b->func->ops->bar_write(b->func, 9, 0, 4, 0);
	vdev_get_counts(b->v, &c);
	assert_int_equal(c.bad, 10);
	cfg_set(b, 4096, 4, 0);
	cfg_set(b, 4, 8, 0);
	assert_int_equal(vdev_reg_read(b->v, 16384), 0xffffffff);
	vdev_reg_write(b->v, 16384, 1);
}

static void bars_move_with_the_guest(void **state)
{
	struct bench *b = *state;

	vdev_trap(b->v, 0, 0, VDEV_TRAP_MBX);
	cfg_set(b, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_true(b->f.bar_gpa[0] == PCI_UNMAPPED);
	assert_null(fake_host_direct(&b->f, 0xe0002000));
	/* The device keeps decoding; its bus mastering is the guest's. */
	assert_int_equal(b->fp->config[PCI_COMMAND],
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cfg_set(b, PCI_BASE_ADDRESS_0, 4, 0x40000000);
	cfg_set(b, PCI_BASE_ADDRESS_1, 4, 2);
	cfg_set(b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(b->fp->config[PCI_COMMAND], PCI_COMMAND_MEMORY);
	assert_true(b->f.bar_gpa[0] == 0x240000000ull);
	assert_null(fake_host_direct(&b->f, 0x240000000ull));
	assert_non_null(fake_host_direct(&b->f, 0x240001000ull));
	fake_write(&b->f, 0, 0x2818, 5);
	assert_int_equal(fake_pdev_get(b->fp, 0x2818), 5);

	/* Onto RAM: the host refuses the slot, the device still answers. */
	cfg_set(b, PCI_BASE_ADDRESS_1, 4, 0);
	cfg_set(b, PCI_BASE_ADDRESS_0, 4, 0x10000);
	assert_true(fake_exits(&b->f, 0, 0x2818));
	assert_int_equal(fake_read(&b->f, 0, 0x2818), 5);
}

static void interrupts_need_no_hand_of_ours(void **state)
{
	struct bench *b = *state;

	assert_true(fake_pdev_fire(b->fp, 1)); /* before MSI-X is on */
	fake_msix_on(&b->f, b->m);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 0);
	fake_pdev_fire(b->fp, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 0);

	/* A changed message is routed. */
	fake_write(&b->f, 3, 16 + 8, 0x5001);
	fake_pdev_fire(b->fp, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x5001), 2);
}

static void masked_vectors_pend(void **state)
{
	struct bench *b = *state;

	fake_msix_on(&b->f, b->m);
	fake_write(&b->f, 3, 16 + 12, 1);
	fake_pdev_fire(b->fp, 1);
	fake_pdev_fire(b->fp, 1);
	fake_pdev_fire(b->fp, 2);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4002), 1);
	assert_int_equal(fake_read(&b->f, 3, 0x2000), 2);
	assert_int_equal(fake_read(&b->f, 3, 0x2000), 2);
	fake_write(&b->f, 3, 16 + 12, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 1);
	assert_int_equal(fake_read(&b->f, 3, 0x2000), 0);

	/* The function mask does the same to all. */
	cfg_set(b, 0x72, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	fake_pdev_fire(b->fp, 0);
	vdev_irq_inject(b->v, 2);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 0);
	assert_int_equal(fake_read(&b->f, 3, 0x2000), 5);
	cfg_set(b, 0x72, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4002), 2);
}

static void on_irq(void *opaque)
{
	struct bench *b = opaque;

	b->hits++;
}

static void taken_vectors_come_to_us(void **state)
{
	struct bench *b = *state;

	fake_msix_on(&b->f, b->m);
	assert_int_equal(vdev_irq_take(b->v, 3, on_irq, b), -EINVAL);
	assert_int_equal(vdev_irq_release(b->v, 0), -EALREADY);
	assert_int_equal(vdev_irq_take(b->v, 0, on_irq, b), 0);
	assert_int_equal(vdev_irq_take(b->v, 0, on_irq, b), -EBUSY);

	fake_pdev_fire(b->fp, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 0);
	loop_once(b->l, 0);
	assert_int_equal(b->hits, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 0);
	vdev_irq_inject(b->v, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 1);

	/* Fired and not yet served: the guest gets it on release. */
	fake_pdev_fire(b->fp, 0);
	assert_int_equal(vdev_irq_release(b->v, 0), 0);
	loop_once(b->l, 0);
	assert_int_equal(b->hits, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 2);
	fake_pdev_fire(b->fp, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 3);

	/* Injection while masked waits; while MSI-X is off it is lost. */
	fake_write(&b->f, 3, 12, 1);
	vdev_irq_inject(b->v, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 3);
	fake_write(&b->f, 3, 12, 0);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 4);
	cfg_set(b, 0x72, 2, 0);
	vdev_irq_inject(b->v, 0);
	cfg_set(b, 0x72, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4000), 4);
	vdev_irq_inject(b->v, 99);
}

static void on_reset(void *opaque)
{
	struct bench *b = opaque;

	b->resets++;
}

static void a_function_reset_resets(void **state)
{
	struct bench *b = *state;
	struct vdev_watch w = { .reset = on_reset, .opaque = b };

	vdev_watch_add(b->v, &w);
	fake_msix_on(&b->f, b->m);
	assert_true(cfg(b, 0xa0 + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR);
	cfg_set(b, 0xa0 + PCI_EXP_DEVCTL, 2, 0x2810);
	assert_int_equal(b->fp->resets, 0);
	cfg_set(b, 0xa0 + PCI_EXP_DEVCTL, 2, 0x2810 | PCI_EXP_DEVCTL_BCR_FLR);
	assert_int_equal(b->fp->resets, 1);
	assert_int_equal(b->resets, 1);
	assert_int_equal(cfg(b, PCI_COMMAND, 2), 0);
	assert_int_equal(cfg(b, 0x72, 2), 2);
	assert_true(b->f.bar_gpa[0] == PCI_UNMAPPED);
	assert_int_equal(cfg(b, 0, 4), 0x10ca8086);
	assert_int_equal(b->fp->config[PCI_COMMAND], PCI_COMMAND_MEMORY);
	vdev_watch_del(b->v, &w);

	/* And the guest can set it up again. */
	fake_plug(&b->f, b->func);
	fake_msix_on(&b->f, b->m);
	fake_pdev_fire(b->fp, 2);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4002), 1);
}

static void on_dead_write(struct fake_pdev *fp, unsigned int bar, uint32_t off,
			  uint32_t val)
{
	fake_pdev_set(fp, off, 0);
}

static void binding_can_fail_at_each_step(void **state)
{
	struct bench *b = *state;
	struct err e = { 0 };
	unsigned int before;
	int ret = -EIO;

	/*
	 * DMA, command, six accesses to see the BAR alive, vectors: each
	 * failure leaves nothing behind.
	 */
	for (unsigned int step = 1; step <= 9; step++) {
		b->fp->fail_in = step;
		err_clear(&e);
		ret = vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, &e);
		assert_int_equal(ret, -EIO);
		assert_string_not_equal(e.text, "");
		assert_null(vdev_pdev(b->v));
		assert_null(fake_pdev_dma(b->fp, 0, 1));
		assert_int_equal(b->fp->irqfd[0], -1);
		assert_true(fake_exits(&b->f, 0, 0));
	}
	b->fp->fail_in = 0;
	b->fp->p.region[0].size = 8192;
	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, NULL),
			 -ENODEV);
	b->fp->p.region[0].size = 16384;
	b->fp->p.nirqs[PDEV_MSIX] = 2;
	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, NULL),
			 -ENODEV);
	b->fp->p.nirqs[PDEV_MSIX] = 3;

	/* A BAR that decodes nowhere. */
	b->fp->on_write = on_dead_write;
	err_clear(&e);
	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, &e), -EIO);
	assert_non_null(strstr(e.text, "does not answer"));
	b->fp->on_write = NULL;

	/* A page that cannot be mapped is trapped and works. */
	b->fp->nomap[0] = 1 << 2;
	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, NULL), 0);
	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_HARDWARE, NULL),
			 -EBUSY);
	assert_int_equal(vdev_trap_reasons(b->v, 0, 2), VDEV_TRAP_UNMAPPABLE);
	assert_true(fake_exits(&b->f, 0, 0x2818));
	assert_false(fake_exits(&b->f, 0, 0x3818));
	before = b->fp->writes;
	fake_write(&b->f, 0, 0x2818, 3);
	assert_int_equal(b->fp->writes, before + 1);
	assert_int_equal(fake_read(&b->f, 0, 0x2818), 3);
}

static void unbind_gives_the_pdev_back(void **state)
{
	struct bench *b = *state;

	fake_msix_on(&b->f, b->m);
	vdev_trap(b->v, 0, 0, VDEV_TRAP_KERNEL);
	assert_ptr_equal(vdev_unbind(b->v), &b->fp->p);
	assert_null(vdev_unbind(b->v));
	assert_null(fake_pdev_dma(b->fp, 0, 1));
	assert_int_equal(b->fp->irqfd[1], -1);
	assert_int_equal(b->fp->config[PCI_COMMAND], 0);
	assert_true(fake_exits(&b->f, 0, 0x3818));
	/* We may still interrupt, and the guest's view stays. */
	vdev_irq_inject(b->v, 2);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4002), 1);

	assert_int_equal(vdev_bind(b->v, &b->fp->p, VDEV_SOFTWARE, NULL), 0);
	assert_int_equal(vdev_get_backing(b->v), VDEV_SOFTWARE);
	assert_int_equal(vdev_trap_reasons(b->v, 0, 0), VDEV_TRAP_KERNEL);
	assert_false(fake_exits(&b->f, 0, 0x3818));
	fake_pdev_fire(b->fp, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 1);
	assert_int_equal(b->fp->config[PCI_COMMAND],
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* A device that goes leaves an empty slot behind, and room for another. */
static void a_pulled_pdev_reads_as_ones(void **state)
{
	struct bench *b = *state;
	struct fake_pdev *other;

	fake_msix_on(&b->f, b->m);
	assert_false(fake_exits(&b->f, 0, 0x3818));
	fake_pdev_pull(b->fp);
	assert_false(fake_exits(&b->f, 0, 0x3818)); /* until the loop runs */
	loop_once(b->l, 0);
	assert_int_equal(vdev_get_backing(b->v), VDEV_NONE);
	assert_int_equal(vdev_trap_reasons(b->v, 0, 3), VDEV_TRAP_UNBACKED);
	assert_true(fake_exits(&b->f, 0, 0x3818));
	assert_int_equal(fake_read(&b->f, 0, 0x3818), 0xffffffff);
	fake_write(&b->f, 0, 0x3818, 1);
	assert_int_equal(vdev_reg_read(b->v, 8), 0xffffffff);
	/* The identity is ours and stays. */
	assert_int_equal(cfg(b, 0, 2), 0x8086);

	assert_ptr_equal(vdev_unbind(b->v), &b->fp->p);
	pdev_close(&b->fp->p);
	assert_int_equal(fake_pdev_open(&other, 0x8086, 0x10ca), 0);
	b->closed = false;
	other->closed = &b->closed;
	b->fp = other;
	assert_int_equal(vdev_bind(b->v, &other->p, VDEV_HARDWARE, NULL), 0);
	assert_false(fake_exits(&b->f, 0, 0x3818));
	fake_pdev_fire(other, 1);
	assert_int_equal(fake_host_fired_data(&b->f, 0x4001), 1);
	/* Gone when it is bound, and gone while it is taken down. */
	assert_ptr_equal(vdev_unbind(b->v), &other->p);
	assert_int_equal(vdev_bind(b->v, &other->p, VDEV_HARDWARE, NULL), 0);
	fake_pdev_pull(other);
	assert_ptr_equal(vdev_unbind(b->v), &other->p);
	loop_once(b->l, 0);
}

static void state_travels(void **state)
{
	struct bench *b = *state;
	uint8_t wire[1024], bad[1024];
	struct fake_pdev *fp2;
	struct fake_host f2;
	struct wire_out o;
	struct wire_in in;
	struct vdev *v2;
	size_t len;

	fake_msix_on(&b->f, b->m);
	fake_write(&b->f, 3, 12, 1);
	fake_pdev_fire(b->fp, 0);
	wire_out_init(&o, wire, sizeof(wire));
	vdev_save(b->v, &o);
	assert_int_equal(o.err, 0);
	len = wire_used(&o);

	assert_int_equal(fake_host_init(&f2, 1 << 20), 0);
	assert_int_equal(vdev_create(&v2, "net0", b->m, &f2.h, b->l, NULL), 0);

	/* Cut or bent anywhere it is refused, and nothing has changed. */
	for (size_t cut = 0; cut < len; cut++) {
		wire_in_init(&in, wire, cut);
		assert_true(vdev_load(v2, &in, NULL) < 0);
	}
	memcpy(bad, wire, len);
	bad[2 + 2 + 9] ^= 1; /* vendor id */
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EBADMSG);
	memcpy(bad, wire, len);
	bad[0] = 9;
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EPROTO);
	memcpy(bad, wire, len);
	bad[4] = 'x';
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EPROTO);
	memcpy(bad, wire, len);
	bad[2 + 2 + 9 + 256 + 2] |= 1; /* address of vector 0 */
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EBADMSG);
	memcpy(bad, wire, len);
	bad[2 + 2 + 9 + 256 + 2 + 12] |= 2; /* control of vector 0 */
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EBADMSG);
	memcpy(bad, wire, len);
	bad[2 + 2 + 9 + 256 + 2 + 48] |= 8; /* pending of vector 3 */
	wire_in_init(&in, bad, len);
	assert_int_equal(vdev_load(v2, &in, NULL), -EBADMSG);
	assert_int_equal(vdev_func(v2)->ops->config_read(vdev_func(v2),
							 PCI_COMMAND, 2),
			 0);

	/* Loaded before there is a bus, or after: it is decoded and routed. */
	f2.func = vdev_func(v2);
	wire_in_init(&in, wire, len);
	assert_int_equal(vdev_load(v2, &in, NULL), 0);
	assert_int_equal(wire_done(&in), 0);
	assert_int_equal(fake_pdev_open(&fp2, 0x8086, 0x10ca), 0);
	assert_int_equal(vdev_bind(v2, &fp2->p, VDEV_HARDWARE, NULL), 0);
	assert_non_null(fake_host_direct(&f2, 0xe0003000));
	fake_pdev_fire(fp2, 1);
	assert_int_equal(fake_host_fired_data(&f2, 0x4001), 1);
	f2.func->ops->bar_write(f2.func, 3, 12, 4, 0);
	assert_int_equal(fake_host_fired_data(&f2, 0x4000), 1);

	vdev_destroy(v2);
	fake_host_fini(&f2);
}

static void creation_can_fail_at_each_step(void **state)
{
	struct bench *b = *state;
	struct fake_host f;
	struct vdev *v;

	assert_int_equal(fake_host_init(&f, 1 << 20), 0);
	for (unsigned int step = 1; step <= 3; step++) {
		f.fail_in = step;
		assert_int_equal(vdev_create(&v, "x", b->m, &f.h, b->l, NULL),
				 -EIO);
		for (unsigned int i = 0; i < FAKE_IRQS; i++)
			assert_false(f.irq[i].used);
	}
	fake_host_fini(&f);
}

static void ram_has_two_views(void **state)
{
	struct bench *b = *state;
	struct host *h = &b->f.h;
	uint32_t *g, *k;

	g = host_guest_ptr(h, (gpa_t){ 0x3000 }, 4);
	k = host_backing_ptr(h, (gpa_t){ 0x3000 }, 4);
	*g = 1;
	assert_int_equal(*k, 1);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x3000 }, 4096), 0);
	assert_int_equal(h->ops->split(h, (gpa_t){ 0x3000 }, 4096), -EALREADY);
	*g = 2;
	assert_int_equal(*k, 1);
	*k = 3;
	assert_int_equal(*g, 2);
	assert_int_equal(h->ops->merge(h, (gpa_t){ 0x3000 }, 4096), 0);
	assert_int_equal(*g, 3);
	assert_null(host_guest_ptr(h, (gpa_t){ (1 << 20) - 3 }, 4));
	assert_null(host_guest_ptr(h, (gpa_t){ 1 << 20 }, 0));
	assert_null(host_backing_ptr(h, (gpa_t){ ~0ull }, 4));
}

#define BOUND(t) cmocka_unit_test_setup_teardown(t, setup_bound, teardown)
#define BARE(t)	 cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BARE(identity_is_the_models),
		BARE(unbacked_reads_ones),
		BOUND(bound_pages_are_direct),
		BOUND(traps_need_the_last_reason_gone),
		BOUND(a_failed_toggle_says_so),
		BOUND(taps_come_first),
		BOUND(nonsense_is_answered),
		BOUND(bars_move_with_the_guest),
		BOUND(interrupts_need_no_hand_of_ours),
		BOUND(masked_vectors_pend),
		BOUND(taken_vectors_come_to_us),
		BOUND(a_function_reset_resets),
		BARE(binding_can_fail_at_each_step),
		BOUND(unbind_gives_the_pdev_back),
		BOUND(a_pulled_pdev_reads_as_ones),
		BOUND(state_travels),
		BARE(creation_can_fail_at_each_step),
		BARE(ram_has_two_views),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
