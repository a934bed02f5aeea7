/*
 * Open a PCI function through VFIO, as the lab's hosts have it.
 *
 *	vfio-open [--hold] BDF [TOKEN]
 *
 * Opens the device's group and the device, with "vf_token=TOKEN" if one is
 * given; opening a PF with a token is also what sets it.  Says what it got.
 * With --hold the device stays open until the process is killed.  The exit
 * status is the errno that was met, 0 for none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int fail(const char *what)
{
	int err = errno;

	fprintf(stderr, "vfio-open: %s: %s\n", what, strerror(err));
	return err;
}

/* The number of the IOMMU group, or -1. */
static int group_of(const char *bdf)
{
	char path[128], target[256], *slash, *end;
	ssize_t n;
	long group;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
		 bdf);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = '\0';
	slash = strrchr(target, '/');
	if (!slash)
		return -1;
	group = strtol(slash + 1, &end, 10);
	return *end ? -1 : (int)group;
}

static int describe(int device, const char *bdf)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_region_info cfg = {
		.argsz = sizeof(cfg),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	uint16_t id[2];

	if (ioctl(device, VFIO_DEVICE_GET_INFO, &info) < 0 ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &cfg) < 0)
		return fail("device information");
	if (pread(device, id, sizeof(id), (off_t)cfg.offset) != sizeof(id))
		return fail("configuration space");
	printf("opened %s: %04x:%04x, %u regions, %u interrupt kinds%s\n", bdf,
	       id[0], id[1], info.num_regions, info.num_irqs,
	       info.flags & VFIO_DEVICE_FLAGS_RESET ? ", reset" : "");
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	bool hold = argc > 1 && !strcmp(argv[1], "--hold");
	char path[64], name[160];
	int container, group, device, n, ret;

	argc -= hold;
	argv += hold;
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: vfio-open [--hold] BDF [TOKEN]\n");
		return 2;
	}
	n = group_of(argv[1]);
	if (n < 0) {
		errno = ENODEV;
		return fail(argv[1]);
	}
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		return fail("/dev/vfio/vfio");
	snprintf(path, sizeof(path), "/dev/vfio/%d", n);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (group < 0)
		return fail(path);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0)
		return fail(path);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		errno = EBUSY;
		return fail("the group has devices that are not on vfio-pci");
	}
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0)
		return fail("add the group to the container");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return fail("type1 IOMMU");

	if (argc == 3)
		snprintf(name, sizeof(name), "%s vf_token=%s", argv[1],
			 argv[2]);
	else
		snprintf(name, sizeof(name), "%s", argv[1]);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
	if (device < 0)
		return fail(name);
	ret = describe(device, argv[1]);
	while (!ret && hold)
		pause();
	return ret;
}
