/*
 * Both engines over real sockets, and what tests of them share: a source and
 * a destination made of memory, and a proxy between them that cuts the link
 * after a given number of bytes.
 */
#ifndef MIGRATE_MIG_RIG_H
#define MIGRATE_MIG_RIG_H

#include "migrate/mig_sim.h"

struct proxy {
	char path[96], to[96];
	int listen_fd, quit[2];
	pthread_t thread;
	_Atomic int64_t left; /* bytes until the cut; < 0: never */
	_Atomic uint64_t carried;
	_Atomic bool dead_after; /* no new connections after the cut */
	_Atomic bool cut;
	_Atomic bool stalled; /* carries nothing any more */
	int fd[64];	      /* pairs: even from, odd to */
	unsigned int n;
};

void proxy_start(struct proxy *p, int64_t cut_after, bool dead_after);
void proxy_stop(struct proxy *p);

struct run {
	struct machine src, dst;
	struct chan_listener *l;
	pthread_t thread;
	struct mig_incoming *keep;
	struct err dst_err, src_err;
	int dst_ret;
	struct mig_result r;
	struct mig_source *s;
	enum mig_outcome out;
};

void run_init(struct run *x);
/* The destination listens; the source is made and waits for mig_run(). */
void run_start(struct run *x, const struct mig_params *p);
void run_start_on(struct run *x, const struct mig_params *p, const char *addr);
void run_fini(struct run *x);
/* The migration itself, which goes well. */
void run_moves(struct run *x);
/* It runs at the destination, with all of its RAM and state. */
void run_is_right(struct run *x);
/* It runs at the source as before, and the reason has 'why' in it. */
void run_stays(struct run *x, const char *why);

/* The address of a socket of the rig's: "dest" or "proxy". */
const char *via(const char *name);
struct mig_params params(const char *dest);

/* cmocka's, of a group: a directory for the sockets. */
int rig_setup(void **state);
int rig_teardown(void **state);

#endif
