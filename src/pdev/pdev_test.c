#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "pdev/backend.h"

#define TOKEN "2ab74924-c335-45f4-9b16-8569e5b08258"

static void specs_are_taken_apart(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"0000:01:10",
		"0000:01:10.0 ",
		"0000:01:10.0,",
		"0000:01:10.0,token=" TOKEN,
		"0000:01:10.0,vf-token=",
		"0000:01:10.0,vf-token=" TOKEN "0",
		"0000:01:10.0,vf-token=2ab74924",
		"../../0:01:10.0",
		"0000:01:1g.0",
		"00000:01:10.0",
	};
	struct pdev_vfio_spec s;

	assert_int_equal(pdev_vfio_parse(&s, "0000:0A:10.0", NULL), 0);
	assert_string_equal(s.bdf, "0000:0a:10.0");
	assert_string_equal(s.token, "");
	assert_int_equal(pdev_vfio_parse(&s, "01:10.2,vf-token=" TOKEN, NULL),
			 0);
	assert_string_equal(s.bdf, "0000:01:10.2");
	assert_string_equal(s.token, TOKEN);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = { 0 };

		assert_int_equal(pdev_vfio_parse(&s, bad[i], &e), -EINVAL);
		assert_non_null(strstr(e.text, bad[i]));
	}
}

/* A tree of plain files that looks like a host, as far as it got. */
static char root[] = "/tmp/pdev-test-XXXXXX";

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void sh(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int n = snprintf(cmd, sizeof(cmd), "cd %s && ", root);

	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof(cmd) - (size_t)n, fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

static int try(char *text, size_t size)
{
	char sys[64], dev[64];
	struct err e = { 0 };
	struct pdev *p;
	int ret;

	snprintf(sys, sizeof(sys), "%s/sys", root);
	snprintf(dev, sizeof(dev), "%s/dev", root);
	ret = pdev_vfio_open_at(&p, "0000:01:10.0", sys, dev, &e);
	assert_true(ret < 0);
	assert_int_equal(e.code, ret);
	snprintf(text, size, "%s", e.text);
	return ret;
}

static void specs_are_checked_alone(void **state)
{
	struct err e = { 0 };

	assert_int_equal(pdev_check_spec("vfio-user:/no/such", NULL), 0);
	assert_int_equal(pdev_check_spec("ffff:1f:1f.7", NULL), 0);
	assert_int_equal(pdev_check_spec("vfio-user:", NULL), -EINVAL);
	assert_int_equal(pdev_check_spec("eth0", &e), -EINVAL);
	assert_non_null(strstr(e.text, "'eth0' names no device"));
}

static void each_obstacle_has_its_words(void **state)
{
	char text[480];

	assert_non_null(mkdtemp(root));
	assert_int_equal(try(text, sizeof(text)), -ENODEV);
	assert_non_null(strstr(text, "no such PCI device"));

	sh("mkdir -p sys/bus/pci/devices/0000:01:10.0 sys/drv/igbvf "
	   "sys/drv/vfio-pci sys/kernel/iommu_groups/7/devices dev");
	assert_int_equal(try(text, sizeof(text)), -ENODEV);
	assert_non_null(strstr(text, "bound to no driver, not to vfio-pci"));
	assert_null(strstr(text, "unbind"));

	sh("ln -s ../../../../drv/igbvf sys/bus/pci/devices/0000:01:10.0/"
	   "driver");
	assert_int_equal(try(text, sizeof(text)), -ENODEV);
	assert_non_null(strstr(text, "bound to igbvf, not to vfio-pci"));
	/* To be copied as it is. */
	assert_non_null(strstr(text, "echo 0000:01:10.0 > "));
	assert_non_null(strstr(text, "/0000:01:10.0/driver/unbind; "));
	assert_null(strstr(text, "..."));
	assert_non_null(strstr(text, "drivers_probe"));

	sh("ln -sfn ../../../../drv/vfio-pci sys/bus/pci/devices/0000:01:10.0/"
	   "driver");
	assert_int_equal(try(text, sizeof(text)), -ENODEV);
	assert_non_null(strstr(text, "in no IOMMU group"));

	sh("ln -s ../../../../kernel/iommu_groups/7 sys/bus/pci/devices/"
	   "0000:01:10.0/iommu_group");
	assert_int_equal(try(text, sizeof(text)), -ENOENT);
	assert_non_null(strstr(text, "modprobe vfio-pci makes it"));

	sh("mkdir dev/vfio && touch dev/vfio/vfio");
	assert_int_equal(try(text, sizeof(text)), -EPROTO);
	assert_non_null(strstr(text, "not the VFIO API"));

	sh("rm -r %s", root);
}

/* ---- the wrappers ---- */

static unsigned int calls;

static int any_read(struct pdev *p, unsigned int region, uint64_t off,
		    void *buf, size_t len)
{
	calls++;
	memset(buf, 0x11, len);
	return 0;
}

static int any_write(struct pdev *p, unsigned int region, uint64_t off,
		     const void *buf, size_t len)
{
	calls++;
	return 0;
}

static int any_mmap(struct pdev *p, unsigned int region, uint64_t off,
		    uint64_t len, void **va)
{
	calls++;
	return 0;
}

static int any_irq(struct pdev *p, unsigned int index, unsigned int start,
		   unsigned int count, const int *fds)
{
	calls++;
	return 0;
}

static int any_map(struct pdev *p, const struct pdev_dma *m)
{
	calls++;
	return 0;
}

static int any_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	calls++;
	return 0;
}

static void wrappers_check_all_they_get(void **state)
{
	static const struct pdev_ops ops = {
		.read = any_read,
		.write = any_write,
		.mmap = any_mmap,
		.irq_set = any_irq,
		.dma_map = any_map,
		.dma_unmap = any_unmap,
	};
	struct pdev p = { .ops = &ops };
	static char page[8192] __attribute__((aligned(4096)));
	struct pdev_dma m = { .iova = 0x1000,
			      .size = 4096,
			      .va = page,
			      .fd = -1,
			      .prot = PDEV_READ };
	int fds[4] = { -1, -1, -1, -1 };
	uint32_t v = 0;
	void *va;

	p.region[0] = (struct pdev_region){
		.size = 16384,
		.flags = PDEV_READ | PDEV_WRITE | PDEV_MMAP,
		.nareas = 1,
		.area = { { 4096, 8192 } },
	};
	p.region[1] = (struct pdev_region){ .size = 4096, .flags = PDEV_READ };
	p.nirqs[PDEV_MSIX] = 3;

	calls = 0;
	assert_int_equal(pdev_read32(&p, 0, 16384, &v), -EINVAL);
	assert_int_equal(pdev_read32(&p, 0, 16381, &v), -EINVAL);
	assert_int_equal(pdev_read32(&p, 0, ~0ull - 1, &v), -EINVAL);
	assert_int_equal(pdev_read(&p, 0, 0, &v, 0), -EINVAL);
	assert_int_equal(pdev_read32(&p, 2, 0, &v), -EACCES);
	assert_int_equal(pdev_read32(&p, PDEV_NREGIONS, 0, &v), -EINVAL);
	assert_int_equal(pdev_write32(&p, 1, 0, 1), -EACCES);
	assert_int_equal(pdev_mmap(&p, 1, 0, 4096, &va), -ENOTSUP);
	assert_int_equal(pdev_mmap(&p, 0, 0, 4096, &va), -ENOTSUP);
	assert_int_equal(pdev_mmap(&p, 0, 8192, 8192, &va), -ENOTSUP);
	assert_int_equal(pdev_mmap(&p, 0, 4096, 100, &va), -EINVAL);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, 0, 4, fds), -EINVAL);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, 3, 1, fds), -EINVAL);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, ~0u, 2, fds), -EINVAL);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, 0, 1, NULL), -EINVAL);
	assert_int_equal(pdev_irq_set(&p, PDEV_NIRQS, 0, 0, NULL), -EINVAL);
	m.size = 0;
	assert_int_equal(pdev_dma_map(&p, &m), -EINVAL);
	m.size = 100;
	assert_int_equal(pdev_dma_map(&p, &m), -EINVAL);
	m.size = 8192;
	m.iova = ~0xfffull;
	assert_int_equal(pdev_dma_map(&p, &m), -EINVAL);
	m.iova = 0x1000;
	m.va = page + 1;
	assert_int_equal(pdev_dma_map(&p, &m), -EINVAL);
	m.va = page;
	m.prot = 0;
	assert_int_equal(pdev_dma_map(&p, &m), -EINVAL);
	assert_int_equal(pdev_dma_unmap(&p, 1, 4096), -EINVAL);
	assert_int_equal(pdev_reset(&p), -ENOTSUP);
	assert_int_equal(calls, 0);

	m.prot = PDEV_READ;
	assert_int_equal(pdev_read32(&p, 0, 16380, &v), 0);
	assert_int_equal(v, 0x11111111);
	assert_int_equal(pdev_write32(&p, 0, 0, v), 0);
	assert_int_equal(pdev_mmap(&p, 0, 8192, 4096, &va), 0);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, 1, 2, fds), 0);
	assert_int_equal(pdev_irq_set(&p, PDEV_MSIX, 0, 0, NULL), 0);
	assert_int_equal(pdev_dma_map(&p, &m), 0);
	assert_int_equal(pdev_dma_unmap(&p, 0x1000, 4096), 0);
	assert_int_equal(calls, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_are_taken_apart),
		cmocka_unit_test(specs_are_checked_alone),
		cmocka_unit_test(each_obstacle_has_its_words),
		cmocka_unit_test(wrappers_check_all_they_get),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
