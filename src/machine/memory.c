#include "machine/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

struct figures {
	uint64_t available, huge_free, huge_size; /* kB, pages, kB */
	bool known;
};

static int read_figures(const char *path, struct figures *f)
{
	FILE *file = fopen(path, "re");
	char line[128], name[40];
	uint64_t v;

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%39[^:]: %" SCNu64, name, &v) != 2)
			continue;
		if (!strcmp(name, "MemAvailable")) {
			f->available = v;
			f->known = true;
		} else if (!strcmp(name, "HugePages_Free")) {
			f->huge_free = v;
		} else if (!strcmp(name, "Hugepagesize")) {
			f->huge_size = v;
		}
	}
	fclose(file);
	return 0;
}

int memory_suffices(uint64_t bytes, uint64_t page, const char *meminfo,
		    struct err *e)
{
	struct figures f = { 0 };
	uint64_t have;

	if (read_figures(meminfo, &f) < 0 || !f.known)
		return 0;
	have = page > PAGE_SIZE ? f.huge_free * f.huge_size : f.available;
	if (bytes >> 10 <= have)
		return 0;
	return err_set(e, -ENOMEM,
		       "the VM has %" PRIu64 " MiB of memory, this host has "
		       "%" PRIu64 " MiB free%s",
		       bytes >> 20, have >> 10,
		       page > PAGE_SIZE ? " in huge pages; reserve more in "
					  "/proc/sys/vm/nr_hugepages"
					: "");
}
