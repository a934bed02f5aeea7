/*
 * The report of one migration: a self-contained HTML file, and the same
 * figures as JSON.
 *
 * Works from a JSON object, so that the command that writes the file need
 * not be the process that migrated.
 */
#ifndef MIGRATE_REPORT_H
#define MIGRATE_REPORT_H

#include <jansson.h>

#include "base/err.h"
#include "migrate/mig.h"

/* New object; 't' may be NULL. */
json_t *mig_result_json(const struct mig_result *r, const char *vm,
			const char *dest, enum mig_outcome outcome,
			const char *why, const struct mig_traffic *t);

/*
 * Written beside 'path' and renamed over it: a full disk leaves the old
 * file, a message, and no half of a new one.
 */
int mig_report_write(const char *path, json_t *result, struct err *e);

#endif
