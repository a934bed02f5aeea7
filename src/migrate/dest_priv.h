/*
 * Inside of the destination's engine; for the files dest*.c only.
 */
#ifndef MIGRATE_DEST_PRIV_H
#define MIGRATE_DEST_PRIV_H

#include <pthread.h>

#include "migrate/door.h"
#include "migrate/mig.h"
#include "migrate/ram.h"
#include "migrate/verify.h"

#define GREETING_MS 5000 /* who connects, to say who it is */

struct part {
	char name[MIG_NAME_MAX];
	uint8_t *bytes;
	uint32_t total, got;
	uint64_t load_ns;
};

struct reader {
	struct incoming *in;
	struct chan *chan;
	struct ram_codec *codec;
	uint8_t *buf;
	pthread_t thread;
	bool started;
	int ret;
	struct err e;
	uint64_t sections, pages;
};

struct incoming {
	struct mig_vm *vm;
	struct chan_listener *listener;
	struct chan *main;
	uint8_t session[SESSION_BYTES];
	uint8_t *buf;
	struct mig_manifest manifest;
	struct mig_policy policy;
	struct mig_plan plan;

	unsigned int nreaders;
	struct reader reader[MIG_CHANNELS_MAX];
	struct ram_target target;
	uint64_t *written[MIG_RAM_MAX];

	struct doorman *doorman;
	struct verify verify; /* pages 0: not asked for */
	unsigned int nparts;
	uint64_t part_bytes; /* promised, all parts */
	struct part part[MIG_PARTS_MAX];
	bool prepared;
	uint64_t watch_ns; /* for the source's report; 0: not asked for */
};

/* dest.c: what anybody else is told meanwhile. */
const char *dest_busy(const struct incoming *in, char *text, size_t size);

/* dest_ram.c: as many as were announced; strangers are turned away. */
int dest_accept_readers(struct incoming *in, struct err *e);
/* All channels at their RAM_END, or the first failure. */
int dest_join_readers(struct incoming *in, bool abort, struct err *e);
/* Joined, if they run yet, and freed. */
void dest_close_readers(struct incoming *in);

#endif
