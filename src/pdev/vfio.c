/*
 * Kernel VFIO, type1: a container and a group for each device.
 *
 * The group interface and not iommufd, because a VF whose PF is driven from
 * user space asks for a token, and up to Linux 6.12 only
 * VFIO_GROUP_GET_DEVICE_FD has a place for one.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/util.h"
#include "pdev/backend.h"

#define INFO_MAX 4096u /* bytes of a region's description, capabilities too */

struct vfio {
	struct pdev p; /* first: see to_vfio() */
	int container, group, device;
	uint64_t offset[PDEV_NREGIONS]; /* of a region in the device's fd */
	bool can_reset;
};

static struct vfio *to_vfio(struct pdev *p)
{
	return (struct vfio *)p;
}

/* ---- the spec ---- */

static bool fits(const char *s, const char *pattern)
{
	for (; *pattern; s++, pattern++)
		if (*pattern == 'x' ? !isxdigit((unsigned char)*s)
				    : *s != *pattern)
			return false;
	return !*s;
}

int pdev_vfio_parse(struct pdev_vfio_spec *out, const char *spec, struct err *e)
{
	static const char key[] = "vf-token=";
	const char *comma = strchr(spec, ',');
	size_t len = comma ? (size_t)(comma - spec) : strlen(spec);
	char bdf[PDEV_BDF_LEN + 1];

	memset(out, 0, sizeof(*out));
	if (len <= PDEV_BDF_LEN) {
		memcpy(bdf, spec, len);
		bdf[len] = '\0';
		if (fits(bdf, "xx:xx.x"))
			snprintf(out->bdf, sizeof(out->bdf), "0000:%.7s", bdf);
		else if (fits(bdf, "xxxx:xx:xx.x"))
			snprintf(out->bdf, sizeof(out->bdf), "%s", bdf);
	}
	if (!out->bdf[0])
		return err_set(e, -EINVAL,
			       "'%s' names no device: give a PCI address as "
			       "0000:01:10.0 or vfio-user:SOCKET",
			       spec);
	for (char *c = out->bdf; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!comma)
		return 0;

	if (strncmp(comma + 1, key, sizeof(key) - 1) ||
	    !fits(comma + sizeof(key), "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"))
		return err_set(e, -EINVAL,
			       "'%s': after the address only vf-token=UUID can "
			       "stand",
			       spec);
	snprintf(out->token, sizeof(out->token), "%s", comma + sizeof(key));
	return 0;
}

/* ---- what sysfs says ---- */

/* The last part of where a link points, "" if there is no link. */
static void link_name(char *out, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void link_name(char *out, size_t size, const char *fmt, ...)
{
	char path[PATH_MAX], to[PATH_MAX];
	const char *slash;
	va_list ap;
	ssize_t n;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	n = readlink(path, to, sizeof(to) - 1);
	to[n < 0 ? 0 : n] = '\0';
	slash = strrchr(to, '/');
	slash = slash ? slash + 1 : to;
	n = (ssize_t)MIN(strlen(slash), size - 1);
	memcpy(out, slash, (size_t)n);
	out[n] = '\0';
}

static int check_sysfs(const char *sys, const char *bdf, char *group,
		       size_t size, struct err *e)
{
	char path[PATH_MAX], driver[64];

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", sys, bdf);
	if (access(path, F_OK) < 0)
		return err_set(e, -ENODEV,
			       "%s: no such PCI device; 'lspci -D' lists them, "
			       "and VFs appear when the PF's sriov_numvfs is "
			       "set",
			       bdf);
	link_name(driver, sizeof(driver), "%s/driver", path);
	if (strcmp(driver, "vfio-pci"))
		return err_set(e, -ENODEV,
			       "%s: bound to %s, not to vfio-pci: modprobe "
			       "vfio-pci; echo vfio-pci > %s/driver_override; "
			       "%s%s%s%s%secho %s > %s/bus/pci/drivers_probe",
			       bdf, *driver ? driver : "no driver", path,
			       *driver ? "echo " : "", *driver ? bdf : "",
			       *driver ? " > " : "", *driver ? path : "",
			       *driver ? "/driver/unbind; " : "", bdf, sys);
	link_name(group, size, "%s/iommu_group", path);
	if (!*group)
		return err_set(e, -ENODEV,
			       "%s: in no IOMMU group: switch the IOMMU on in "
			       "the firmware and boot the host with "
			       "intel_iommu=on (AMD: on by default)",
			       bdf);
	return 0;
}

/* Names the devices that keep a group from being viable. */
static void group_others(char *out, size_t size, const char *sys,
			 const char *group)
{
	char path[PATH_MAX];
	const struct dirent *d;
	size_t used = 0;
	DIR *dir;

	*out = '\0';
	snprintf(path, sizeof(path), "%s/kernel/iommu_groups/%s/devices", sys,
		 group);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		char driver[64];

		if (d->d_name[0] == '.')
			continue;
		link_name(driver, sizeof(driver), "%s/%s/driver", path,
			  d->d_name);
		/* Bridges keep their port driver; vfio counts them as fine. */
		if (!*driver || !strncmp(driver, "vfio", 4) ||
		    !strcmp(driver, "pcieport") || used >= size)
			continue;
		used += (size_t)snprintf(out + used, size - used, "%s%s (%s)",
					 used ? ", " : "", d->d_name, driver);
	}
	if (dir)
		closedir(dir);
}

/* ---- ops ---- */

static void vfio_close(struct pdev *p)
{
	struct vfio *v = to_vfio(p);

	/*
	 * Closing the device disables its interrupts and resets it; its group
	 * leaves the container with its last descriptor.
	 */
	close_fd(&v->device);
	close_fd(&v->group);
	close_fd(&v->container);
	free(v);
}

static int vfio_read(struct pdev *p, unsigned int region, uint64_t off,
		     void *buf, size_t len)
{
	struct vfio *v = to_vfio(p);
	ssize_t n =
		pread(v->device, buf, len, (off_t)(v->offset[region] + off));

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int vfio_write(struct pdev *p, unsigned int region, uint64_t off,
		      const void *buf, size_t len)
{
	struct vfio *v = to_vfio(p);
	ssize_t n =
		pwrite(v->device, buf, len, (off_t)(v->offset[region] + off));

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int vfio_mmap(struct pdev *p, unsigned int region, uint64_t off,
		     uint64_t len, void **va)
{
	struct vfio *v = to_vfio(p);
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
			v->device, (off_t)(v->offset[region] + off));

	if (at == MAP_FAILED)
		return -errno;
	*va = at;
	return 0;
}

static int vfio_irq_set(struct pdev *p, unsigned int index, unsigned int start,
			unsigned int count, const int *fds)
{
	struct vfio *v = to_vfio(p);
	struct vfio_irq_set *set;
	size_t size = sizeof(*set) + count * sizeof(*fds);
	int ret = 0;

	set = calloc(1, size);
	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)size,
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			 (count ? VFIO_IRQ_SET_DATA_EVENTFD
				: VFIO_IRQ_SET_DATA_NONE),
		.index = index,
		.start = start,
		.count = count,
	};
	if (count)
		memcpy(set->data, fds, count * sizeof(*fds));
	if (ioctl(v->device, VFIO_DEVICE_SET_IRQS, set) < 0)
		ret = -errno;
	free(set);
	return ret;
}

static int vfio_dma_map(struct pdev *p, const struct pdev_dma *m)
{
	struct vfio *v = to_vfio(p);
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = (m->prot & PDEV_READ ? VFIO_DMA_MAP_FLAG_READ : 0) |
			 (m->prot & PDEV_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)m->va,
		.iova = m->iova,
		.size = m->size,
	};

	return ioctl(v->container, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

static int vfio_dma_unmap(struct pdev *p, uint64_t iova, uint64_t size)
{
	struct vfio *v = to_vfio(p);
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	if (ioctl(v->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return -errno;
	return unmap.size == size ? 0 : -ENOENT;
}

static int vfio_reset(struct pdev *p)
{
	struct vfio *v = to_vfio(p);

	if (!v->can_reset)
		return -ENOTSUP;
	return ioctl(v->device, VFIO_DEVICE_RESET) < 0 ? -errno : 0;
}

static const struct pdev_ops ops = {
	.name = "vfio",
	.close = vfio_close,
	.read = vfio_read,
	.write = vfio_write,
	.mmap = vfio_mmap,
	.irq_set = vfio_irq_set,
	.dma_map = vfio_dma_map,
	.dma_unmap = vfio_dma_unmap,
	.reset = vfio_reset,
};

/* ---- opening ---- */

static int open_container(struct vfio *v, const char *dev, struct err *e)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/vfio/vfio", dev);
	v->container = open(path, O_RDWR | O_CLOEXEC);
	if (v->container < 0)
		return err_sys(e, -errno, "%s: %s", path,
			       errno == ENOENT ? "modprobe vfio-pci makes it"
					       : "run as root, or give the "
						 "user access to it");
	if (ioctl(v->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return err_set(e, -EPROTO, "%s: not the VFIO API we speak",
			       path);
	if (ioctl(v->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
		return err_set(e, -ENODEV,
			       "%s: no type1 IOMMU driver: modprobe "
			       "vfio_iommu_type1",
			       path);
	return 0;
}

static int open_group(struct vfio *v, const char *bdf, const char *sys,
		      const char *dev, const char *group, struct err *e)
{
	struct vfio_group_status st = { .argsz = sizeof(st) };
	char path[PATH_MAX], others[200];
	int ret;

	snprintf(path, sizeof(path), "%s/vfio/%s", dev, group);
	v->group = open(path, O_RDWR | O_CLOEXEC);
	if (v->group < 0) {
		ret = -errno;
		if (ret == -EBUSY)
			return err_set(e, ret,
				       "%s: its IOMMU group %s is in use by "
				       "another process, or by another device "
				       "of this VM",
				       bdf, group);
		return err_sys(
			e, ret, "%s: %s: %s", bdf, path,
			ret == -ENOENT
				? "the device is not bound to vfio-pci"
				: "run as root, or chown it to the user");
	}
	if (ioctl(v->group, VFIO_GROUP_GET_STATUS, &st) < 0)
		return err_sys(e, -errno, "%s: group %s: no status", bdf,
			       group);
	if (!(st.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		group_others(others, sizeof(others), sys, group);
		return err_set(e, -EPERM,
			       "%s: IOMMU group %s is not viable, since the "
			       "host still drives a device in it: %s; bind all "
			       "of them to vfio-pci or put the card behind a "
			       "root port with ACS",
			       bdf, group, *others ? others : "unknown");
	}
	if (ioctl(v->group, VFIO_GROUP_SET_CONTAINER, &v->container) < 0)
		return err_sys(e, -errno, "%s: group %s: no container", bdf,
			       group);
	if (ioctl(v->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0) {
		ret = -errno;
		if (ret == -EPERM)
			return err_set(e, ret,
				       "%s: the IOMMU does not remap "
				       "interrupts, so a guest could forge "
				       "them: enable interrupt remapping, or "
				       "accept the risk with vfio_iommu_type1."
				       "allow_unsafe_interrupts=1",
				       bdf);
		return err_sys(e, ret, "%s: group %s: no type1 IOMMU", bdf,
			       group);
	}
	return 0;
}

static int open_device(struct vfio *v, const struct pdev_vfio_spec *spec,
		       struct err *e)
{
	char name[PDEV_BDF_LEN + PDEV_TOKEN_LEN + 16];
	int ret;

	snprintf(name, sizeof(name), "%s%s%s", spec->bdf,
		 *spec->token ? " vf_token=" : "", spec->token);
	v->device = ioctl(v->group, VFIO_GROUP_GET_DEVICE_FD, name);
	if (v->device >= 0)
		return 0;
	ret = -errno;
	if (ret == -EACCES)
		return err_set(e, ret,
			       "%s: %s: its PF is driven from user space, and "
			       "a VF needs the token the PF was opened with: "
			       "%s,vf-token=UUID",
			       spec->bdf,
			       *spec->token ? "wrong VF token" : "no VF token",
			       spec->bdf);
	if (ret == -EINVAL && *spec->token)
		return err_set(e, ret,
			       "%s: refuses a VF token, since its PF is not on "
			       "vfio-pci: leave vf-token= out",
			       spec->bdf);
	return err_sys(e, ret, "%s: cannot be opened", spec->bdf);
}

/* Which parts may be mapped, from the region's sparse-mmap capability. */
static void areas(struct pdev_region *r, const void *info, uint32_t size,
		  uint32_t at)
{
	const struct vfio_region_info_cap_sparse_mmap *sparse;
	const struct vfio_info_cap_header *h;

	while (at >= sizeof(struct vfio_region_info) && at <= size &&
	       size - at >= sizeof(*sparse)) {
		uint32_t last = at;

		h = (const void *)((const char *)info + at);
		if (h->id != VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
			at = h->next;
			if (at <= last)
				return;
			continue;
		}
		sparse = (const void *)h;
		if (!sparse->nr_areas)
			r->flags &= ~PDEV_MMAP;
		for (uint32_t i = 0;
		     i < sparse->nr_areas && r->nareas < PDEV_AREAS_MAX &&
		     (i + 1) * sizeof(sparse->areas[0]) <=
			     size - at - sizeof(*sparse);
		     i++)
			r->area[r->nareas++] =
				(struct pdev_area){ sparse->areas[i].offset,
						    sparse->areas[i].size };
		return;
	}
}

static int read_region(struct vfio *v, unsigned int index)
{
	union {
		struct vfio_region_info info;
		char room[INFO_MAX];
	} u = { .info = { .argsz = INFO_MAX, .index = index } };
	struct pdev_region *r = &v->p.region[index];

	if (ioctl(v->device, VFIO_DEVICE_GET_REGION_INFO, &u) < 0)
		/* No ROM, no VGA: an index that is not there. */
		return errno == EINVAL ? 0 : -errno;
	r->size = u.info.size;
	r->flags =
		(u.info.flags & VFIO_REGION_INFO_FLAG_READ ? PDEV_READ : 0) |
		(u.info.flags & VFIO_REGION_INFO_FLAG_WRITE ? PDEV_WRITE : 0) |
		(u.info.flags & VFIO_REGION_INFO_FLAG_MMAP ? PDEV_MMAP : 0);
	v->offset[index] = u.info.offset;
	if ((u.info.flags & VFIO_REGION_INFO_FLAG_CAPS) && u.info.cap_offset)
		areas(r, &u, MIN(u.info.argsz, INFO_MAX), u.info.cap_offset);
	return 0;
}

static int read_info(struct vfio *v, const char *bdf, struct err *e)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int ret;

	if (ioctl(v->device, VFIO_DEVICE_GET_INFO, &info) < 0)
		return err_sys(e, -errno, "%s: does not describe itself", bdf);
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		return err_set(e, -ENODEV, "%s: no PCI device to VFIO", bdf);
	v->can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;

	for (unsigned int i = 0; i < PDEV_NREGIONS; i++) {
		ret = read_region(v, i);
		if (ret < 0)
			return err_sys(e, ret, "%s: region %u", bdf, i);
	}
	for (unsigned int i = 0; i < PDEV_NIRQS && i < info.num_irqs; i++) {
		struct vfio_irq_info irq = { .argsz = sizeof(irq), .index = i };

		if (ioctl(v->device, VFIO_DEVICE_GET_IRQ_INFO, &irq) == 0 &&
		    (irq.flags & VFIO_IRQ_INFO_EVENTFD))
			v->p.nirqs[i] = irq.count;
	}
	return 0;
}

/* Pinned guest RAM counts against this limit; take what we are entitled to. */
static void raise_memlock(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_MEMLOCK, &r) == 0 && r.rlim_cur != r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &r);
	}
}

int pdev_vfio_open_at(struct pdev **out, const char *text, const char *sys,
		      const char *dev, struct err *e)
{
	struct pdev_vfio_spec spec;
	char group[32];
	struct vfio *v;
	int ret = pdev_vfio_parse(&spec, text, e);

	if (ret == 0)
		ret = check_sysfs(sys, spec.bdf, group, sizeof(group), e);
	if (ret < 0)
		return ret;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "%s: out of memory", spec.bdf);
	v->p.ops = &ops;
	v->container = v->group = v->device = -1;

	ret = open_container(v, dev, e);
	if (ret == 0)
		ret = open_group(v, spec.bdf, sys, dev, group, e);
	if (ret == 0)
		ret = open_device(v, &spec, e);
	if (ret == 0)
		ret = read_info(v, spec.bdf, e);
	if (ret < 0)
		goto close;
	raise_memlock();

	/* Whoever had it before may have left queues running. */
	ret = vfio_reset(&v->p);
	if (ret < 0 && ret != -ENOTSUP) {
		err_sys(e, ret, "%s: does not reset", spec.bdf);
		goto close;
	}
	if (ret < 0)
		log_warn("%s: has no function-level reset; it starts as it "
			 "was left",
			 spec.bdf);
	*out = &v->p;
	return 0;

close:
	vfio_close(&v->p);
	return ret;
}

int pdev_vfio_open(struct pdev **out, const char *spec, struct err *e)
{
	return pdev_vfio_open_at(out, spec, "/sys", "/dev", e);
}
