/*
 * The decision for each device, made before any RAM moves.
 *
 * Two questions: can the destination back the device, and is what it offers
 * the same type *and* version?  The answers index a table (plan.c).
 */
#ifndef MIGRATE_PLAN_H
#define MIGRATE_PLAN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/wire.h"
#include "migrate/manifest.h"

enum mig_action {
	MIG_REFUSE,  /* this VM cannot go there */
	MIG_KEEP,    /* migrate without quiescing, structures untouched */
	MIG_REBUILD, /* quiesce, delete, migrate, reconfigure */
	MIG_ACTIONS,
};

struct mig_policy {
	bool fallback_software; /* --fallback software */
};

struct mig_decision {
	struct mig_device device; /* what moves */
	struct mig_device offer;  /* what would stand behind it */
	enum mig_action action;
	char reason[200]; /* in plain words */
};

struct mig_plan {
	uint32_t n;
	struct mig_decision d[MIG_DEVICES_MAX];
};

/* One device against one offer (backing MIG_NONE: nothing on offer). */
void mig_decide(struct mig_decision *out, const struct mig_device *dev,
		const struct mig_device *offer,
		const struct mig_policy *policy);

/*
 * All devices against a pool of offers: each offer is used once, the best
 * match first (same generation, other generation, software).
 */
void mig_plan_make(struct mig_plan *plan, const struct mig_manifest *m,
		   const struct mig_device *offers, unsigned int noffers,
		   const struct mig_policy *policy);

/* 0, or -EOPNOTSUPP with the first refusal's reason. */
int mig_plan_verdict(const struct mig_plan *plan, struct err *e);

void mig_plan_put(struct wire_out *o, const struct mig_plan *plan);
int mig_plan_get(struct wire_in *in, struct mig_plan *plan, struct err *e);

const char *mig_action_name(enum mig_action a);
json_t *mig_plan_json(const struct mig_plan *plan);

#endif
