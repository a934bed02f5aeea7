/*
 * The pdev's wrappers without the back ends, which no fuzzer of a vdev can
 * reach: fuzz/vdev_fuzz.c brings its own device.
 */
#include "pdev/backend.h"
#include "pdev/vfio_user_client.h"

#include <errno.h>

int pdev_vfio_open(struct pdev **out, const char *spec, struct err *e)
{
	return -ENODEV;
}

int pdev_vfio_parse(struct pdev_vfio_spec *out, const char *spec, struct err *e)
{
	return -ENODEV;
}

int vfio_user_open(struct pdev **out, const char *path, struct err *e)
{
	return -ENODEV;
}
