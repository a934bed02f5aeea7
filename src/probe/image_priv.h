/*
 * An image's insides, shared by image*.c and nobody else.
 */
#ifndef PROBE_IMAGE_PRIV_H
#define PROBE_IMAGE_PRIV_H

#include <gelf.h>
#include <libelf.h>

#include "probe/image.h"

/* What libelf allocated stays until the image goes: names point into it. */
struct elf {
	Elf *e;
	int fd;
	Elf *debug; /* the separate debug file, or NULL */
	int debug_fd;
};

/* Add the symbols of all its tables; sorts them.  0 or -ENOMEM. */
int image_read_symbols(struct image *im, Elf *elf);
/* After the symbols changed; 0 or -ENOMEM. */
int image_index_names(struct image *im);

#endif
