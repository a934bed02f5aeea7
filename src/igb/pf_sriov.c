/*
 * Switching VFs on: through the SR-IOV capability where the device is ours
 * to configure (vfio-user), through sysfs where the kernel keeps it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "igb/pf_priv.h"
#include "pci/config.h"

#define ECAP_FIRST  0x100
#define ECAP_SRIOV  0x10
#define SRIOV_CTRL  0x08
#define SRIOV_TOTAL 0x0e
#define SRIOV_NUM   0x10
#define SRIOV_VFE   0x0001
#define SRIOV_MSE   0x0008
#define ECAPS_MAX   ((PCI_CONFIG_SIZE - ECAP_FIRST) / 4)

static int find_sriov(struct pdev *p, uint16_t *off)
{
	uint16_t at = ECAP_FIRST;

	/* A device is not believed to end its list. */
	for (unsigned int i = 0; i < ECAPS_MAX; i++) {
		uint32_t head;
		int ret = pdev_read32(p, PDEV_CONFIG, at, &head);

		if (ret < 0)
			return ret;
		if (head == 0 || head == UINT32_MAX)
			return -ENOENT;
		if ((head & 0xffff) == ECAP_SRIOV) {
			*off = at;
			return 0;
		}
		at = (uint16_t)(head >> 20 & ~3u);
		if (at < ECAP_FIRST)
			return -ENOENT;
	}
	return -ELOOP;
}

static int enable_config(struct pf *pf, unsigned int vfs, bool *was_on,
			 struct err *e)
{
	struct pdev *p = pf->pdev;
	uint16_t cap = 0, ctrl = 0, total = 0, num = 0;
	int ret = find_sriov(p, &cap);

	if (ret == 0)
		ret = pdev_read(p, PDEV_CONFIG, cap + SRIOV_TOTAL, &total, 2);
	if (ret == 0)
		ret = pdev_read(p, PDEV_CONFIG, cap + SRIOV_CTRL, &ctrl, 2);
	if (ret == 0)
		ret = pdev_read(p, PDEV_CONFIG, cap + SRIOV_NUM, &num, 2);
	if (ret < 0)
		return err_sys(e, ret, "%s: no usable SR-IOV capability",
			       pf->name);

	*was_on = ctrl & SRIOV_VFE && num > 0;
	if (*was_on) {
		if (vfs && vfs != num)
			return err_set(e, -EBUSY,
				       "%s has %u VFs enabled, not %u; their "
				       "number can only change when none is in "
				       "use: restart the device",
				       pf->name, num, vfs);
		pf->nvfs = num;
		return 0;
	}
	/* One of the pools is the PF's own, so 7 at most (NIC-FACTS of igb). */
	if (!vfs)
		vfs = MIN(total, pf->gen->vfs_max);
	if (vfs > total)
		return err_set(e, -EINVAL, "%s has %u VFs at most, not %u",
			       pf->name, total, vfs);
	num = (uint16_t)vfs;
	ctrl |= SRIOV_VFE | SRIOV_MSE;
	ret = pdev_write(p, PDEV_CONFIG, cap + SRIOV_NUM, &num, 2);
	if (ret == 0)
		ret = pdev_write(p, PDEV_CONFIG, cap + SRIOV_CTRL, &ctrl, 2);
	if (ret == 0)
		ret = pdev_read(p, PDEV_CONFIG, cap + SRIOV_CTRL, &ctrl, 2);
	if (ret == 0 && !(ctrl & SRIOV_VFE))
		ret = -EIO;
	if (ret < 0)
		return err_sys(e, ret, "%s: cannot enable %u VFs", pf->name,
			       vfs);
	pf->nvfs = vfs;
	return 0;
}

static int read_number(const char *path, unsigned int *out)
{
	char buf[16] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	*out = (unsigned int)strtoul(buf, NULL, 10);
	return 0;
}

static int write_number(const char *path, unsigned int v)
{
	char buf[16];
	int n = snprintf(buf, sizeof(buf), "%u", v), ret = 0;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, buf, (size_t)n) != n)
		ret = -errno;
	close(fd);
	return ret;
}

static int enable_sysfs(struct pf *pf, unsigned int vfs, bool *was_on,
			struct err *e)
{
	const char *bdf = pf->name;
	unsigned int total, num;
	char path[192];
	int ret;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/sriov_totalvfs",
		 bdf);
	ret = read_number(path, &total);
	if (ret < 0)
		return err_sys(e, ret, "%s has no SR-IOV: %s", bdf, path);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/sriov_numvfs",
		 bdf);
	ret = read_number(path, &num);
	if (ret < 0)
		return err_sys(e, ret, "%s: %s", bdf, path);

	*was_on = num > 0;
	if (num && vfs && vfs != num)
		return err_set(e, -EBUSY,
			       "%s has %u VFs enabled, not %u: write 0 to %s "
			       "while none is in use",
			       bdf, num, vfs, path);
	if (!num) {
		num = vfs ? vfs : MIN(total, pf->gen->vfs_max);
		ret = num > total ? -EINVAL : write_number(path, num);
		if (ret < 0)
			return err_sys(
				e, ret,
				"%s: cannot enable %u of %u VFs; vfio-pci "
				"needs its parameter enable_sriov=1 (echo Y > "
				"/sys/module/vfio_pci/parameters/"
				"enable_sriov)",
				bdf, num, total);
	}
	pf->nvfs = num;
	return 0;
}

int pf_sriov_enable(struct pf *pf, unsigned int vfs, bool *was_on,
		    struct err *e)
{
	int ret;

	*was_on = false;
	if (vfs > pf->gen->vfs_max)
		return err_set(e, -EINVAL,
			       "%u VFs are too many: a %s serves %u", vfs,
			       pf->gen->name, pf->gen->vfs_max);
	ret = strcmp(pf->pdev->ops->name, "vfio") == 0
		      ? enable_sysfs(pf, vfs, was_on, e)
		      : enable_config(pf, vfs, was_on, e);
	if (ret == 0 && pf->nvfs > PF_VFS_MAX)
		pf->nvfs = PF_VFS_MAX;
	return ret;
}
