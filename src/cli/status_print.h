/*
 * What `pagurus status` prints of a PF driver, and of traces.
 */
#ifndef CLI_STATUS_PRINT_H
#define CLI_STATUS_PRINT_H

#include <jansson.h>
#include <stdio.h>

/* The answer to a PF driver's "status": device and VFs, refusals and why. */
void status_print_pf(FILE *f, const json_t *pf);

/*
 * The answers to "trace" of 'n' processes, as one table by time; who[i] is
 * the name of the i-th.
 */
void status_print_trace(FILE *f, const json_t *const *trace,
			const char *const *who, unsigned int n);

#endif
