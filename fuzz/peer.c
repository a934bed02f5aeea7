#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "migrate/stream.h"

int nanosleep(const struct timespec *t, struct timespec *left)
{
	return 0;
}

const struct mig_device peer_net0 = { .name = "net0",
				      .family = "igb",
				      .type = "82576",
				      .queues = 1,
				      .backing = MIG_HARDWARE };

void peer_describe(struct mig_manifest *out, uint64_t ram)
{
	*out = (struct mig_manifest){ .vm = "fuzz",
				      .cpus = 1,
				      .nram = 1,
				      .ram = { { 0, ram, PAGE_SIZE } },
				      .ndevices = 1,
				      .device = { peer_net0 } };
}

struct host_ram peer_ram(uint64_t size)
{
	static void *memory;

	if (!memory)
		memory = aligned_alloc(PAGE_SIZE, size);
	return (struct host_ram){ .size = size,
				  .page = PAGE_SIZE,
				  .fd = -1,
				  .guest = memory,
				  .backing = memory };
}

struct chan_listener *peer_listen(char *addr, size_t size)
{
	struct chan_listener *l;

	log_set_level(LOG_ERROR);
	snprintf(addr, size, "unix:/tmp/pagurus-fuzz-%d", getpid());
	if (chan_listen(&l, addr, NULL, NULL) < 0)
		abort();
	return l;
}

void peer_init(struct peer *p, const uint8_t *data, size_t size)
{
	*p = (struct peer){ .p = data,
			    .left = size,
			    .buf = malloc(STREAM_PAYLOAD_MAX) };
}

void peer_fini(struct peer *p)
{
	free(p->buf);
}

bool peer_next(struct peer *p, uint8_t *op, size_t nop, size_t *n)
{
	if (p->left < nop)
		return false;
	memcpy(op, p->p, nop);
	*n = MIN((size_t)op[nop - 1] * 4, p->left - nop);
	if (*n)
		memcpy(p->buf, p->p + nop, *n);
	p->p += nop + *n;
	p->left -= nop + *n;
	return true;
}
