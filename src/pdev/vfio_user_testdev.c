#include "pdev/vfio_user_testdev.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

static uint8_t *bytes(struct testdev *d, unsigned int region)
{
	return region == PDEV_BAR0     ? d->bar
	       : region == PDEV_CONFIG ? d->config
				       : NULL;
}

static int dev_read(void *dev, unsigned int region, uint64_t off, void *buf,
		    size_t len)
{
	struct testdev *d = dev;

	d->reads++;
	memcpy(buf, bytes(d, region) + off, len);
	return 0;
}

/* Offset 0x100 of the BAR is a register that refuses. */
static int dev_write(void *dev, unsigned int region, uint64_t off,
		     const void *buf, size_t len)
{
	struct testdev *d = dev;

	d->writes++;
	if (region == PDEV_BAR0 && off == 0x100)
		return -EIO;
	memcpy(bytes(d, region) + off, buf, len);
	return 0;
}

static int dev_reset(void *dev)
{
	((struct testdev *)dev)->resets++;
	return 0;
}

static void dev_attached(void *dev)
{
	((struct testdev *)dev)->attached++;
}

static void dev_detached(void *dev)
{
	((struct testdev *)dev)->detached++;
}

static void dev_map(void *dev, uint64_t iova, uint64_t size)
{
	((struct testdev *)dev)->maps++;
}

static void dev_unmap(void *dev, uint64_t iova, uint64_t size)
{
	((struct testdev *)dev)->unmaps++;
}

static void dev_irq(void *dev, unsigned int index)
{
	((struct testdev *)dev)->irqs++;
}

static const struct vfu_ops ops = {
	.read = dev_read,
	.write = dev_write,
	.reset = dev_reset,
	.attached = dev_attached,
	.detached = dev_detached,
	.dma_map = dev_map,
	.dma_unmap = dev_unmap,
	.irq_changed = dev_irq,
};

void testdev_open(struct testdev *d, struct loop *l, const char *path)
{
	struct vfu_config c = { .name = "testdev", .ops = &ops, .opaque = d };
	struct vfu_region *r = &c.region[PDEV_BAR0];
	int ret;

	memset(d, 0, sizeof(*d));
	d->fd = vfu_memfd("testdev", 4 * PAGE_SIZE);
	assert(d->fd >= 0);
	*r = (struct vfu_region){
		.info = { .size = sizeof(d->bar),
			  .flags = PDEV_READ | PDEV_WRITE | PDEV_MMAP,
			  .nareas = 1,
			  .area = { { .off = PAGE_SIZE, .len = PAGE_SIZE } } },
		.fd = d->fd,
		.fd_offset = PAGE_SIZE,
	};
	c.region[PDEV_CONFIG] = (struct vfu_region){
		.info = { .size = sizeof(d->config),
			  .flags = PDEV_READ | PDEV_WRITE },
		.fd = -1,
	};
	/* Readable only: a write to it is refused. */
	c.region[PDEV_ROM] = (struct vfu_region){
		.info = { .size = PAGE_SIZE, .flags = PDEV_READ }, .fd = -1
	};
	c.nirqs[PDEV_INTX] = 1;
	c.nirqs[PDEV_MSIX] = 3;
	for (size_t i = 0; i < sizeof(d->bar); i++)
		d->bar[i] = (uint8_t)(i * 7);
	ret = vfu_server_create(&d->s, l, path, &c, NULL);
	assert(ret == 0);
}

void testdev_close(struct testdev *d)
{
	vfu_server_destroy(d->s);
	close_fd(&d->fd);
}
