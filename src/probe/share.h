/*
 * Counts and events of an in-process session, in memory another process can
 * map: what the preloaded library writes and `pagurus probe` reads.
 *
 * Writers are handlers in any thread of any process that has the mapping (a
 * fork shares it); there is no lock.  A reader that is too slow loses the
 * oldest events and sees how many; counts are never lost.
 */
#ifndef PROBE_SHARE_H
#define PROBE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/event.h"

#define SHARE_MAGIC  0x31656b6168736770ull
#define SHARE_NAME   80
#define SHARE_EVENTS 8192 /* a power of two */

struct share_func {
	char name[SHARE_NAME];
	_Atomic uint64_t count[EVENT_KINDS];
};

struct share_slot {
	_Atomic uint64_t seq; /* event number + 1 once it is whole */
	struct probe_event ev;
	int32_t pid;
};

struct share {
	_Atomic uint64_t magic; /* set last */
	uint32_t nfunc;
	_Atomic uint32_t stopped;
	_Atomic uint64_t head; /* events written */
	char error[480];       /* why nothing is probed */
	struct share_slot slot[SHARE_EVENTS];
	struct share_func func[];
};

/* Create the file's mapping for up to nfunc functions. */
int share_create(struct share **out, const char *path, uint32_t nfunc,
		 struct err *e);
int share_open(struct share **out, const char *path, struct err *e);
void share_close(struct share *s);

void share_put(struct share *s, const struct probe_event *ev, int32_t pid);
/* The event numbered *at, which moves on; false if there is none yet. */
bool share_get(const struct share *s, uint64_t *at, struct share_slot *out,
	       uint64_t *lost);

#endif
