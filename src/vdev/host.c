#include "vdev/host.h"

static void *ptr(struct host *h, gpa_t gpa, uint64_t len, bool backing)
{
	const struct host_ram *ram;
	size_t n = h->ops->ram(h, &ram);

	for (size_t i = 0; i < n; i++) {
		uint64_t off = gpa.v - ram[i].gpa.v;

		if (gpa.v < ram[i].gpa.v || off >= ram[i].size ||
		    len > ram[i].size - off)
			continue;
		return (char *)(backing ? ram[i].backing : ram[i].guest) + off;
	}
	return NULL;
}

void *host_guest_ptr(struct host *h, gpa_t gpa, uint64_t len)
{
	return ptr(h, gpa, len, false);
}

void *host_backing_ptr(struct host *h, gpa_t gpa, uint64_t len)
{
	return ptr(h, gpa, len, true);
}
