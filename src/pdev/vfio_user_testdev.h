/*
 * A device for the vfio-user tests: BAR 0 of two pages of which the second
 * can be mapped, configuration space, three MSI-X vectors and INTx.
 */
#ifndef PDEV_VFIO_USER_TESTDEV_H
#define PDEV_VFIO_USER_TESTDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "pdev/vfio_user_server.h"

struct testdev {
	struct vfu_server *s;
	int fd; /* BAR 0's second page */
	uint8_t bar[8192], config[4096];
	unsigned int reads, writes, resets, attached, detached;
	unsigned int maps, unmaps, irqs;
};

void testdev_open(struct testdev *d, struct loop *l, const char *path);
void testdev_close(struct testdev *d);

#endif
