/*
 * Inside of the report; for the files report*.c only.
 */
#ifndef MIGRATE_REPORT_PRIV_H
#define MIGRATE_REPORT_PRIV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "migrate/mig.h"

/* report_html.c: the whole page, from the result's JSON. */
void report_html(FILE *f, json_t *o);

/* report_traffic.c: rates as JSON, and the same as a chart and a table. */
json_t *report_traffic_json(const struct mig_traffic *t, uint64_t t0_ns);
json_t *report_samples_json(const struct mig_sample *s, size_t n,
			    uint64_t t0_ns);
void report_traffic(FILE *f, json_t *o);
bool report_quiesced(json_t *o); /* a device was, or several */

/* report_chart.c: nothing, if there was no traffic. */
void report_chart(FILE *f, json_t *o);

/* report_text.c.  Missing keys are "" and 0. */
const char *report_str(json_t *o, const char *key);
double report_num(json_t *o, const char *key);
/* Names come from users and peers: none of them is markup. */
void report_text(FILE *f, const char *s);
/* Figures with their unit, and a space between that does not break. */
void report_duration(FILE *f, double ns);
void report_bytes(FILE *f, double n);
void report_count(FILE *f, double n); /* 1,234,567 */
void report_percent(FILE *f, double part, double whole);
/* A cell of a table with such a figure. */
void report_cell(FILE *f, void (*figure)(FILE *f, double n), double n);

#endif
