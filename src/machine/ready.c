#include <errno.h>
#include <time.h>

#include "base/util.h"
#include "machine/priv.h"

#define GRANT_TIMEOUT_NS 5000000000ull
#define LOOK_NS		 200000

struct ask {
	struct netdev *nd;
	struct err *e;
};

static int in_loop_ready(void *opaque)
{
	struct ask *a = opaque;

	return netdev_ready(a->nd, a->e);
}

int machine_dev_ready(struct machine *m, struct machine_dev *dev, struct err *e)
{
	const struct timespec nap = { .tv_nsec = LOOK_NS };
	uint64_t until = now_ns() + GRANT_TIMEOUT_NS;
	struct ask a = { .nd = dev->nd, .e = e };
	int ret;

	while ((ret = loop_ask(m->loop, in_loop_ready, &a)) == 0) {
		if (now_ns() > until)
			return err_set(e, -ETIMEDOUT,
				       "%s: the PF driver does not answer",
				       dev->name);
		nanosleep(&nap, NULL);
	}
	return MIN(ret, 0);
}
