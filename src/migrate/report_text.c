#include <inttypes.h>
#include <math.h>

#include "migrate/report_priv.h"

const char *report_str(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

double report_num(json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

void report_text(FILE *f, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<': fputs("&lt;", f); break;
		case '>': fputs("&gt;", f); break;
		case '&': fputs("&amp;", f); break;
		case '"': fputs("&quot;", f); break;
		default: fputc(*s, f);
		}
	}
}

void report_duration(FILE *f, double ns)
{
	if (fabs(ns) < 1e6)
		fprintf(f, "%.0f&nbsp;µs", ns / 1e3);
	else if (fabs(ns) < 1e9)
		fprintf(f, "%.1f&nbsp;ms", ns / 1e6);
	else
		fprintf(f, "%.2f&nbsp;s", ns / 1e9);
}

void report_bytes(FILE *f, double n)
{
	if (n < 1e6)
		fprintf(f, "%.1f&nbsp;kB", n / 1e3);
	else if (n < 1e9)
		fprintf(f, "%.1f&nbsp;MB", n / 1e6);
	else
		fprintf(f, "%.2f&nbsp;GB", n / 1e9);
}

static void groups(FILE *f, uint64_t n)
{
	if (n >= 1000) {
		groups(f, n / 1000);
		fprintf(f, ",%03" PRIu64, n % 1000);
	} else {
		fprintf(f, "%" PRIu64, n);
	}
}

void report_count(FILE *f, double n)
{
	groups(f, n < 0 || n > 1e18 ? 0 : (uint64_t)(n + 0.5));
}

void report_percent(FILE *f, double part, double whole)
{
	double p = whole > 0 ? 100 * part / whole : 0;

	fprintf(f, "%.1f&nbsp;%%", p);
}

void report_cell(FILE *f, void (*figure)(FILE *f, double n), double n)
{
	fputs("<td>", f);
	figure(f, n);
}
