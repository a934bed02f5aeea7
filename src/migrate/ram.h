/*
 * Guest RAM on the wire, a chunk of up to 64 pages at a time.
 *
 * Payload of a RAM section: u64 gpa of the chunk (aligned to it), u64
 * present mask, u64 zero mask (a subset of present), u32 codec, u32 zero,
 * then the pages that are present and not zero, in order, plain or as one
 * zstd frame.  Bit n is the page at gpa + n * 4096.
 */
#ifndef MIGRATE_RAM_H
#define MIGRATE_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "vdev/host.h"

#define RAM_CHUNK_PAGES 64u
#define RAM_CHUNK_SIZE	(RAM_CHUNK_PAGES * 4096u)
#define RAM_HEADER	32u
#define RAM_PAYLOAD_MAX (RAM_HEADER + RAM_CHUNK_SIZE + 4096u)

enum { RAM_PLAIN, RAM_ZSTD };

struct ram_codec; /* one a thread: buffers and the zstd state */

/* level 0: plain; 1..19: zstd. */
int ram_codec_create(struct ram_codec **out, int level);
void ram_codec_destroy(struct ram_codec *c);

/*
 * Encode the pages of 'mask' of the chunk at 'gpa', whose bytes are at
 * 'src' (the guest view; the guest may be writing).  The result, a payload,
 * stays in the codec until the next call, with 'front' free bytes before it.
 */
int ram_encode(struct ram_codec *c, uint64_t gpa, const void *src,
	       uint64_t mask, size_t front, uint8_t **payload, size_t *len,
	       unsigned int *zero_pages);

/*
 * From now on hold the pages of a chunk against what they were when they
 * were sent last, and count; NULL: no more.
 */
struct ram_again {
	uint64_t *sums;		  /* of the chunk's pages; 0: never sent */
	unsigned int pages, same; /* sent before; and not changed since */
};
void ram_codec_compare(struct ram_codec *c, struct ram_again *a);

/*
 * Decode into guest RAM.  'written' has a bit for each page that is no
 * longer as it was made (zero), indexed from the region's start; a zero page
 * that was never written is not touched.
 */
struct ram_target {
	const struct host_ram *ram;
	uint64_t **written; /* one bitmap a region */
	size_t n;
	uint32_t by_file; /* a bit a region: written through its fd */
};

/*
 * Memory that is still to be made, page by page.  Writing its file takes
 * half the time of touching it: the kernel clears no page that is written
 * whole, and nothing faults.  Memory that is there already (a device has it
 * pinned, or it is huge pages) is quicker received in place.
 */
bool ram_is_sparse(const struct host_ram *r);

int ram_decode(struct ram_codec *c, const struct ram_target *t,
	       const uint8_t *payload, size_t len, unsigned int *pages,
	       struct err *e);

/*
 * The same without a copy: from the payload's first RAM_HEADER bytes and its
 * whole length, where the rest belongs.  Zero pages are dealt with here, the
 * others count as written.  Returns the number of stretches; 0 with
 * *pages == 0: it is compressed, or for a file: use ram_decode().
 */
struct ram_stretch {
	void *p;
	size_t len;
};

int ram_place(const struct ram_target *t, const uint8_t *header, size_t len,
	      struct ram_stretch *out, unsigned int *pages, struct err *e);

#endif
