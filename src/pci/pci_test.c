#include <errno.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "pci/caps.h"
#include "pci/config.h"
#include "pci/func.h"
#include "pci/msix.h"

static const struct pci_ident id = {
	.vendor = 0x8086,
	.device = 0x10ca,
	.subvendor = 0x8086,
	.subdevice = 0xa02c,
	.revision = 1,
	.class_code = 0x020000,
};

static void identity_is_read_only(void **state)
{
	struct pci_config c;

	pci_config_init(&c, &id);
	for (uint32_t off = 0; off < 64; off += 4)
		pci_config_write(&c, off, 4, 0xffffffff);
	assert_int_equal(pci_config_read(&c, 0, 4), 0x10ca8086);
	assert_int_equal(pci_config_read(&c, PCI_CLASS_REVISION, 4),
			 0x02000001);
	assert_int_equal(pci_config_read(&c, PCI_SUBSYSTEM_VENDOR_ID, 4),
			 0xa02c8086);
	assert_int_equal(pci_config_read(&c, PCI_COMMAND, 2), 0x0546);
	assert_int_equal(pci_config_read(&c, PCI_INTERRUPT_LINE, 1), 0xff);
	/* No BAR was declared, so none answers to sizing. */
	assert_int_equal(pci_config_read(&c, PCI_BASE_ADDRESS_0, 4), 0);
}

static void accesses_outside_do_nothing(void **state)
{
	struct pci_config c;

	pci_config_init(&c, &id);
	assert_int_equal(pci_config_read(&c, 4096, 4), 0xffffffff);
	assert_int_equal(pci_config_read(&c, 4093, 4), 0xffffffff);
	assert_int_equal(pci_config_read(&c, UINT32_MAX, 4), 0xffffffff);
	assert_int_equal(pci_config_read(&c, 0, 5), 0xffffffff);
	assert_int_equal(pci_config_read(&c, 4092, 4), 0);
	pci_config_write(&c, 4093, 4, 0xffffffff);
	pci_config_write(&c, UINT32_MAX, 4, 0xffffffff);
	assert_int_equal(c.last_cap, 0);
}

static void status_bits_clear_by_one(void **state)
{
	struct pci_config c;

	pci_config_init(&c, &id);
	pci_config_set16(&c, PCI_STATUS, 0x8010);
	pci_config_write(&c, PCI_STATUS, 2, 0);
	assert_int_equal(pci_config_get16(&c, PCI_STATUS), 0x8010);
	pci_config_write(&c, PCI_STATUS, 2, 0x8010);
	assert_int_equal(pci_config_get16(&c, PCI_STATUS), 0x0010);
}

static void bars_size_and_move(void **state)
{
	struct pci_config c;
	uint32_t b0 = PCI_BASE_ADDRESS_0, b3 = PCI_BASE_ADDRESS_3;

	pci_config_init(&c, &id);
	assert_int_equal(pci_config_bar(&c, 0, 16384, PCI_BAR_64), 0);
	assert_int_equal(pci_config_bar(&c, 1, 16384, 0), -EINVAL);
	assert_int_equal(pci_config_bar(&c, 2, 12288, 0), -EINVAL);
	assert_int_equal(pci_config_bar(&c, 5, 4096, PCI_BAR_64), -EINVAL);
	assert_int_equal(pci_config_bar(&c, 6, 4096, 0), -EINVAL);
	assert_int_equal(pci_config_bar(&c, 3, 16384, 0), 0);
	assert_int_equal(pci_config_bar(&c, 2, 4096, PCI_BAR_64), -EINVAL);

	pci_config_write(&c, b0, 4, 0xffffffff);
	pci_config_write(&c, b0 + 4, 4, 0xffffffff);
	assert_int_equal(pci_config_read(&c, b0, 4), 0xffffc004);
	assert_int_equal(pci_config_read(&c, b0 + 4, 4), 0xffffffff);
	pci_config_write(&c, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(pci_config_bar_gpa(&c, 0) == PCI_UNMAPPED);

	pci_config_write(&c, b0, 4, 0x12345678);
	pci_config_write(&c, b0 + 4, 4, 0x8);
	assert_true(pci_config_bar_gpa(&c, 0) == 0x812344000ull);
	assert_true(pci_config_bar_gpa(&c, 1) == PCI_UNMAPPED);
	assert_true(pci_config_bar_gpa(&c, 6) == PCI_UNMAPPED);

	assert_true(pci_config_bar_gpa(&c, 3) == PCI_UNMAPPED);
	pci_config_write(&c, b3, 4, 0xfe000000);
	assert_true(pci_config_bar_gpa(&c, 3) == 0xfe000000);
	pci_config_write(&c, PCI_COMMAND, 2, 0);
	assert_true(pci_config_bar_gpa(&c, 3) == PCI_UNMAPPED);

	assert_true(pci_config_moves_bar(PCI_COMMAND, 2));
	assert_true(pci_config_moves_bar(PCI_COMMAND + 1, 1));
	assert_false(pci_config_moves_bar(PCI_STATUS, 2));
	assert_false(pci_config_moves_bar(PCI_CACHE_LINE_SIZE, 4));
	assert_true(pci_config_moves_bar(PCI_BASE_ADDRESS_5 + 3, 1));
	assert_false(pci_config_moves_bar(PCI_CARDBUS_CIS, 4));
}

static void capabilities_chain(void **state)
{
	struct pci_config c;

	pci_config_init(&c, &id);
	assert_int_equal(pci_config_find(&c, PCI_CAP_ID_EXP), 0);
	assert_int_equal(pci_config_cap(&c, PCI_CAP_ID_PM, 0x3c, 8), -EINVAL);
	assert_int_equal(pci_config_cap(&c, PCI_CAP_ID_PM, 0xfc, 8), -EINVAL);
	assert_int_equal(pci_config_cap(&c, PCI_CAP_ID_PM, 0x40, 8), 0);
	assert_int_equal(pci_express_add(&c, 0xa0, PCI_EXPRESS_INTEGRATED), 0);
	assert_int_equal(pci_config_find(&c, PCI_CAP_ID_PM), 0x40);
	assert_int_equal(pci_config_find(&c, PCI_CAP_ID_EXP), 0xa0);
	assert_int_equal(pci_config_find(&c, PCI_CAP_ID_MSI), 0);
	assert_true(pci_config_read(&c, 0xa0 + PCI_EXP_DEVCAP, 4) &
		    PCI_EXP_DEVCAP_FLR);
	pci_config_write(&c, 0xa0 + PCI_EXP_DEVCTL, 2, 0xffff);
	assert_int_equal(pci_config_read(&c, 0xa0 + PCI_EXP_DEVCTL, 2), 0x7fff);

	/* A list that runs in a circle ends all the same. */
	c.val[0xa1] = 0x40;
	assert_int_equal(pci_config_find(&c, PCI_CAP_ID_MSI), 0);

	assert_int_equal(pci_config_ecap(&c, 1, 1, 0x140, 16), -EINVAL);
	assert_int_equal(pci_config_ecap(&c, 1, 1, 0x100, 16), 0);
	assert_int_equal(pci_config_ecap(&c, 2, 1, 0x140, 16), 0);
	assert_int_equal(pci_config_efind(&c, 2), 0x140);
	pci_config_set32(&c, 0x140, 2 | 1 << 16 | 0x100 << 20);
	assert_int_equal(pci_config_efind(&c, 3), 0);
}

static void msix_masks_and_pends(void **state)
{
	struct pci_config c;
	struct pci_msix m;

	pci_config_init(&c, &id);
	pci_config_bar(&c, 3, 16384, 0);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 0, 3, 0, 0x2000), -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 65, 3, 0, 0x2000),
			 -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 3, 3, 0, 0x20), -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 3, 3, 0, 0x4000), -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 3, 3, 0, 0x2004), -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 3, 2, 0, 0x2000), -EINVAL);
	assert_int_equal(pci_msix_init(&m, &c, 0x70, 3, 3, 0, 0x2000), 0);
	assert_int_equal(pci_config_read(&c, 0x72, 2), 2);
	assert_int_equal(pci_config_read(&c, 0x74, 4), 0x0003);
	assert_int_equal(pci_config_read(&c, 0x78, 4), 0x2003);

	assert_true(pci_msix_covers(&m, 3, 0, 4));
	assert_true(pci_msix_covers(&m, 3, 44, 8));
	assert_false(pci_msix_covers(&m, 3, 48, 4));
	assert_false(pci_msix_covers(&m, 0, 0, 4));
	assert_true(pci_msix_covers(&m, 3, 0x2004, 4));
	assert_false(pci_msix_covers(&m, 3, 0x2008, 4));

	assert_int_equal(pci_msix_read(&m, 16 + 12, 4), 1);
	pci_msix_write(&m, 16, 4, 0xfee01003);
	pci_msix_write(&m, 20, 4, 0);
	pci_msix_write(&m, 24, 8, 0xfffffffe00004123ull);
	assert_true(m.entry[1].addr == 0xfee01000);
	assert_int_equal(m.entry[1].data, 0x4123);
	assert_int_equal(m.entry[1].ctrl, 0);
	assert_true(pci_msix_read(&m, 24, 8) == 0x4123);

	assert_false(pci_msix_live(&m, &c, 1));
	pci_config_write(&c, 0x72, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_true(pci_msix_live(&m, &c, 1));
	assert_false(pci_msix_live(&m, &c, 0));
	assert_false(pci_msix_live(&m, &c, 3));
	pci_config_write(&c, 0x72, 2,
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_false(pci_msix_live(&m, &c, 1));
	assert_true(pci_msix_enabled(&m, &c));

	m.pending = 4;
	assert_int_equal(pci_msix_read(&m, 0x2000, 4), 4);
	pci_msix_write(&m, 0x2000, 8, 0);
	assert_int_equal(pci_msix_read(&m, 0x2000, 8), 4);

	/* Odd sizes and alignments are harmless. */
	assert_int_equal(pci_msix_read(&m, 2, 4), 0);
	assert_int_equal(pci_msix_read(&m, 16, 2), 0);
	pci_msix_write(&m, 17, 1, 0xff);
	pci_msix_write(&m, 44, 8, ~0ull);
	assert_true(m.entry[1].addr == 0xfee01000);
	assert_int_equal(pci_msix_read(&m, 40, 8) >> 32, 1);
}

static void sriov_is_encoded(void **state)
{
	const struct pci_sriov s = {
		.total_vfs = 8,
		.first_offset = 0x80,
		.stride = 2,
		.vf_device = 0x10ca,
		.vf_bar_size = { [0] = 16384, [3] = 16384 },
		.vf_bar_flags = PCI_BAR_64 | PCI_BAR_PREFETCH,
	};
	struct pci_sriov bad = s;
	struct pci_config c;

	pci_config_init(&c, &id);
	assert_int_equal(pci_config_ecap(&c, PCI_EXT_CAP_ID_ERR, 1, 0x100, 72),
			 0);
	bad.vf_bar_size[1] = 4096;
	assert_int_equal(pci_sriov_add(&c, 0x160, &bad), -EINVAL);
	assert_int_equal(pci_sriov_add(&c, 0x160, &s), 0);
	assert_int_equal(pci_config_efind(&c, PCI_EXT_CAP_ID_SRIOV), 0x160);
	assert_int_equal(pci_config_read(&c, 0x160 + PCI_SRIOV_VF_DID, 2),
			 0x10ca);
	assert_int_equal(pci_config_read(&c, 0x160 + PCI_SRIOV_TOTAL_VF, 2), 8);

	pci_config_write(&c, 0x160 + PCI_SRIOV_NUM_VF, 2, 3);
	pci_config_write(&c, 0x160 + PCI_SRIOV_CTRL, 2, 0xffff);
	assert_int_equal(pci_sriov_num_vfs(&c, 0x160), 3);
	assert_true(pci_sriov_enabled(&c, 0x160));
	assert_true(pci_sriov_mem(&c, 0x160));
	assert_int_equal(pci_config_read(&c, 0x160 + PCI_SRIOV_CTRL, 2), 0x19);

	pci_config_write(&c, 0x160 + PCI_SRIOV_BAR, 4, 0xffffffff);
	assert_int_equal(pci_config_read(&c, 0x160 + PCI_SRIOV_BAR, 4),
			 0xffffc00c);
	pci_config_write(&c, 0x160 + PCI_SRIOV_BAR, 4, 0xf0000000);
	pci_config_write(&c, 0x160 + PCI_SRIOV_BAR + 4, 4, 1);
	assert_true(pci_sriov_bar(&c, 0x160, 0) == 0x1f0000000ull);
	assert_true(pci_sriov_bar(&c, 0x160, 3) == 0);
	assert_true(pci_sriov_bar(&c, 0x160, 6) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_is_read_only),
		cmocka_unit_test(accesses_outside_do_nothing),
		cmocka_unit_test(status_bits_clear_by_one),
		cmocka_unit_test(bars_size_and_move),
		cmocka_unit_test(capabilities_chain),
		cmocka_unit_test(msix_masks_and_pends),
		cmocka_unit_test(sriov_is_encoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
