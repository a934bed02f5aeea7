#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "igb/regs.h"
#include "vdev/vdev.h"

/* What all VFs of the igb family have alike. */
#define IGB_VF                                                        \
	.vendor = IGB_VENDOR_INTEL, .subvendor = IGB_VENDOR_INTEL,    \
	.revision = 1, .class_code = 0x020000,                        \
	.bar_size = { [0] = IGBVF_BAR0_SIZE, [3] = IGBVF_BAR3_SIZE }, \
	.msix_bar = IGBVF_MSIX_BAR, .vectors = IGB_VECTORS_VF,        \
	.msix_table = IGBVF_MSIX_TABLE, .msix_pba = IGBVF_MSIX_PBA,   \
	.mbx_page = IGBVF_PAGE_MBX, .scratch = IGBVF_RDBAH

/*
 * A whole card, without its SR-IOV: only the software NIC's, whose PF a
 * stock igb in a VM may drive.  Nothing of it is direct, and it stays where
 * it is: there is no other PF to put it on.
 */
#define IGB_PF_ALL                                                     \
	.vendor = IGB_VENDOR_INTEL, .subvendor = IGB_VENDOR_INTEL,     \
	.revision = 1, .class_code = 0x020000,                         \
	.bar_size = { [0] = IGB_PF_BAR0_SIZE, [3] = IGBVF_BAR3_SIZE }, \
	.msix_bar = IGBVF_MSIX_BAR, .vectors = IGB_VECTORS_PF,         \
	.msix_table = IGBVF_MSIX_TABLE, .msix_pba = IGBVF_MSIX_PBA,    \
	.scratch = IGB_RDBAH(0)

static const struct vdev_model models[] = {
	{
		IGB_VF,
		.name = "igb/82576",
		.device = IGB_DEV_82576_VF,
		.subdevice = 0xa02c,
		.doorbell = { IGBVF_RDT, IGBVF_TDT,
			      IGBVF_RDT + IGBVF_QUEUE_STRIDE,
			      IGBVF_TDT + IGBVF_QUEUE_STRIDE },
		.ndoorbells = 4,
	},
	{
		IGB_VF,
		.name = "igb/i350",
		.device = IGB_DEV_I350_VF,
		.subdevice = 0x0001,
		.doorbell = { IGBVF_RDT, IGBVF_TDT },
		.ndoorbells = 2,
	},
	{
		IGB_PF_ALL,
		.name = "igb-pf/82576",
		.device = IGB_DEV_82576,
		.subdevice = 0xa03c,
	},
	{
		IGB_PF_ALL,
		.name = "igb-pf/i350",
		.device = IGB_DEV_I350,
		.subdevice = 0x0001,
	},
};

const struct vdev_model *vdev_model_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (!strcmp(models[i].name, name))
			return &models[i];
	return NULL;
}

const struct vdev_model *vdev_model_of(uint16_t vendor, uint16_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (models[i].vendor == vendor && models[i].device == device)
			return &models[i];
	return NULL;
}

const struct vdev_model *vdev_model_of_pdev(struct pdev *p, struct err *e)
{
	const struct vdev_model *m;
	uint16_t id[2];
	int ret = pdev_read(p, PDEV_CONFIG, 0, id, sizeof(id));

	if (ret < 0) {
		err_sys(e, ret, "%s: cannot read its configuration", p->name);
		return NULL;
	}
	m = vdev_model_of(le16toh(id[0]), le16toh(id[1]));
	if (!m)
		err_set(e, -ENODEV,
			"%s: %04x:%04x is no device Pagurus knows; it serves "
			"the 82576 (VF 8086:10ca) and the I350 (VF 8086:1520)",
			p->name, le16toh(id[0]), le16toh(id[1]));
	return m;
}
