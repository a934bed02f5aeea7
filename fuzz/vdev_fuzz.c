// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/loop.c src/base/wire.c src/pci/caps.c src/pci/config.c src/pci/msix.c src/vdev/fake.c src/vdev/host.c src/vdev/models.c src/vdev/vdev.c src/vdev/vdev_bar.c src/vdev/vdev_cfg.c src/vdev/vdev_gone.c src/vdev/vdev_irq.c src/pdev/pdev.c fuzz/vdev_pdev.c
/*
 * What a hostile guest can do to a virtual device: any access to its
 * configuration space and BARs, in any order, while interrupts fire and
 * pages are trapped and released; and what a hostile peer can send as its
 * state.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vdev/fake.h"

static void nothing(enum log_level level, const char *line, void *opaque)
{
}

static void on_irq(void *opaque)
{
}

struct op {
	uint8_t what, size;
	uint16_t off;
	uint32_t val;
};

static void step(struct fake_host *f, struct fake_pdev *fp, struct vdev *v,
		 const struct op *op)
{
	static const uint8_t sizes[] = { 1, 2, 4, 8 };
	struct pci_func *func = vdev_func(v);
	unsigned int size = sizes[op->size & 3], bar = op->size >> 2 & 7;
	uint32_t coff = (op->off & 0xfffu) & ~(size - 1);

	switch (op->what % 12) {
	case 0:
	case 1:
		if (size <= 4)
			func->ops->config_write(func, coff, size, op->val);
		break;
	case 2:
		if (size <= 4)
			func->ops->config_read(func, coff, size);
		break;
	case 3:
	case 4: func->ops->bar_write(func, bar, op->off, size, op->val); break;
	case 5: func->ops->bar_read(func, bar, op->off, size); break;
	case 6: fake_pdev_fire(fp, op->val % 4); break;
	case 7: vdev_trap(v, bar, op->off % 5, 1u << op->val % 6); break;
	case 8: vdev_untrap(v, bar, op->off % 5, 1u << op->val % 6); break;
	case 9:
		if (op->val & 1)
			vdev_irq_take(v, op->off % 4, on_irq, NULL);
		else
			vdev_irq_release(v, op->off % 4);
		break;
	case 10: vdev_irq_inject(v, op->off % 4); break;
	case 11: f->fail_in = op->val % 8; break;
	}
}

/* What was saved can be loaded, and says the same again. */
static void there_and_back(struct vdev *v)
{
	uint8_t a[1024], b[1024];
	struct wire_out o;
	struct wire_in in;
	size_t len;

	wire_out_init(&o, a, sizeof(a));
	vdev_save(v, &o);
	len = wire_used(&o);
	wire_in_init(&in, a, len);
	if (o.err || vdev_load(v, &in, NULL) < 0 || wire_done(&in) < 0)
		abort();
	wire_out_init(&o, b, sizeof(b));
	vdev_save(v, &o);
	if (wire_used(&o) != len || memcmp(a, b, len - 8 * 8))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct vdev_model *m = vdev_model_find("igb/82576");
	struct fake_pdev *fp;
	struct fake_host f;
	struct loop *l;
	struct vdev *v;
	struct op op;

	log_set_sink(nothing, NULL);
	if (fake_host_init(&f, 1 << 16) < 0 || loop_create(&l) < 0 ||
	    fake_pdev_open(&fp, m->vendor, m->device) < 0 ||
	    vdev_create(&v, "net0", m, &f.h, l, NULL) < 0 ||
	    vdev_bind(v, &fp->p, VDEV_HARDWARE, NULL) < 0)
		abort();
	fake_plug(&f, vdev_func(v));

	if (size && (data[0] & 1)) {
		struct wire_in in;

		wire_in_init(&in, data + 1, size - 1);
		vdev_load(v, &in, NULL);
	} else if (size) {
		for (data++, size--; size >= sizeof(op);
		     data += sizeof(op), size -= sizeof(op)) {
			memcpy(&op, data, sizeof(op));
			step(&f, fp, v, &op);
			loop_once(l, 0);
		}
		f.fail_in = 0;
		for (unsigned int i = 0; i < 3; i++)
			vdev_irq_release(v, i);
	}
	there_and_back(v);
	vdev_destroy(v);
	loop_destroy(l);
	fake_host_fini(&f);
	return 0;
}
