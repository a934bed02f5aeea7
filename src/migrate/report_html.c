/*
 * The page: everything but the traffic.
 */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "migrate/report_priv.h"

/* ---- what most people look for first; of that, what there is ---- */

static void big(FILE *f, json_t *o, const char *what, const char *key,
		void (*put)(FILE *f, double v))
{
	if (report_num(o, key) <= 0)
		return;
	fprintf(f, "<div>%s<b>", what);
	put(f, report_num(o, key));
	fputs("</b></div>", f);
}

static void connection(FILE *f, json_t *o)
{
	if (!report_str(o, "transport")[0])
		return;
	fputs("<p>Connection: ", f);
	report_text(f, report_str(o, "transport"));
	fputs(".", f);
	if (report_num(o, "rounds") > 0)
		fprintf(f, " vCPUs were throttled by at most %.0f&nbsp;%%.",
			report_num(o, "throttle"));
	fputs("</p>\n", f);
}

static void kept(FILE *f, json_t *o)
{
	json_t *r = json_object_get(json_object_get(o, "traffic"),
				    "shadowing_to_before");

	if (!r)
		return;
	fputs("<div>traffic during it<b>", f);
	report_percent(f, json_number_value(r), 1);
	fputs("</b></div>", f);
}

static void head(FILE *f, json_t *o)
{
	fputs("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
	      "<meta name=\"viewport\" content=\"width=device-width\">"
	      "<title>Migration of ",
	      f);
	report_text(f, report_str(o, "vm"));
	fputs("</title>\n<style>"
	      "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
	      "margin:2rem auto;padding:0 1rem;color:#1b2733}"
	      "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
	      "table{border-collapse:collapse;width:100%}"
	      "td,th{padding:.25rem .6rem;border-bottom:1px solid #d8dee4;"
	      "text-align:right}td:first-child,th:first-child{text-align:left}"
	      ".big{display:flex;gap:1.5rem;flex-wrap:wrap}"
	      ".big div{min-width:7rem}.big b{display:block;font-size:1.6rem}"
	      "table{font-variant-numeric:tabular-nums}"
	      ".out{background:#fde8e4}.sum td{font-weight:600}"
	      ".note{color:#52616e;font-size:.9rem}"
	      "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
	      "svg{width:100%;height:auto}svg text{font:12px system-ui}"
	      "</style>\n",
	      f);
	fputs("<h1>", f);
	report_text(f, report_str(o, "vm"));
	fputs(" → ", f);
	report_text(f, report_str(o, "destination"));
	fputs("</h1><p>The VM <b>", f);
	report_text(f, report_str(o, "outcome_text"));
	fputs("</b>.", f);
	if (report_str(o, "reason")[0]) {
		fputs(" Reason: ", f);
		report_text(f, report_str(o, "reason"));
	}
	fputs("</p>\n<div class=\"big\">", f);
	big(f, o, "outage", "downtime_ns", report_duration);
	big(f, o, "total", "total_ns", report_duration);
	big(f, o, "sent", "bytes", report_bytes);
	big(f, o, "device and CPU state", "state_bytes", report_bytes);
	big(f, o, "rounds", "rounds", report_count);
	kept(f, o);
	fputs("</div>\n", f);
	connection(f, o);
}

static void timeline(FILE *f, json_t *o)
{
	static const char *const colour[] = { "#8fb8de", "#5b8fc7", "#3d6fa8" };
	double total = MAX(report_num(o, "total_ns"), 1), y = 0;
	json_t *p;
	size_t i;

	fprintf(f,
		"<h2>Timeline</h2>\n<svg viewBox=\"0 0 900 %zu\" "
		"role=\"img\" aria-label=\"phases over time\">\n",
		24 * json_array_size(json_object_get(o, "phases")) + 8);
	json_array_foreach (json_object_get(o, "phases"), i, p) {
		double x = 110 + 690 * report_num(p, "at_ns") / total;
		double w = MAX(690 * report_num(p, "ns") / total, 2);

		fprintf(f,
			"<text x=\"0\" y=\"%.0f\">%s</text><rect x=\"%.1f\" "
			"y=\"%.0f\" width=\"%.1f\" height=\"16\" "
			"fill=\"%s\"/><text x=\"%.1f\" y=\"%.0f\">",
			y + 14, report_str(p, "phase"), x, y + 2, w,
			json_is_true(json_object_get(p, "outage"))
				? "#d9553f"
				: colour[i % 3],
			MIN(x + w + 6, 830.0), y + 14);
		report_duration(f, report_num(p, "ns"));
		fputs("</text>\n", f);
		y += 24;
	}
	fputs("</svg>", f);
	if (report_num(o, "downtime_ns") > 0)
		fputs("<p>Red: the outage. Blue: the VM runs.</p>", f);
	fputs("\n", f);
}

static void outage(FILE *f, json_t *o)
{
	double sum = 0;
	json_t *p;
	size_t i;

	if (report_num(o, "downtime_ns") <= 0)
		return;
	fputs("<h2>The outage, phase by phase</h2>\n<table><tr><th>phase"
	      "<th>time<th>share\n",
	      f);
	json_array_foreach (json_object_get(o, "phases"), i, p) {
		if (!json_is_true(json_object_get(p, "outage")))
			continue;
		fprintf(f, "<tr><td>%s", report_str(p, "phase"));
		report_cell(f, report_duration, report_num(p, "ns"));
		fprintf(f, "<td>%.0f&nbsp;%%\n",
			100 * report_num(p, "ns") /
				MAX(report_num(o, "downtime_ns"), 1));
		sum += report_num(p, "ns");
	}
	fputs("<tr class=\"sum\"><td>sum<td>", f);
	report_duration(f, sum);
	fputs("<td>\n<tr class=\"sum\"><td>measured<td>", f);
	report_duration(f, report_num(o, "downtime_ns"));
	fputs("<td>\n</table>\n", f);
	if (report_num(o, "expected_ns") <= 0)
		return;
	fputs("<p>When the VM was paused its last RAM was expected to take ",
	      f);
	report_duration(f, report_num(o, "expected_ns"));
	fputs(".</p>\n", f);
}

/* The same outage by who needed it; what nobody claims is the last row. */
static void outage_by_part(FILE *f, json_t *o)
{
	double total = report_num(o, "downtime_ns"), sum = 0;
	json_t *p;
	size_t i;

	if (total <= 0 || !json_array_size(json_object_get(o, "parts")))
		return;
	fputs("<h2>The outage, device by device</h2>\n<table><tr><th>part"
	      "<th>drain<th>save<th>load<th>together\n",
	      f);
	json_array_foreach (json_object_get(o, "parts"), i, p) {
		json_t *dev = json_object_get(json_object_get(o, "devices"),
					      report_str(p, "name"));
		double drain = report_num(dev, "drain_ns");
		double all = drain + report_num(p, "save_ns") +
			     report_num(p, "load_ns");

		fputs("<tr><td>", f);
		report_text(f, report_str(p, "name"));
		report_cell(f, report_duration, drain);
		report_cell(f, report_duration, report_num(p, "save_ns"));
		report_cell(f, report_duration, report_num(p, "load_ns"));
		report_cell(f, report_duration, all);
		fputs("\n", f);
		sum += all;
	}
	fputs("<tr><td>everything else<td><td><td>", f);
	report_cell(f, report_duration, total - sum);
	fputs("\n<tr class=\"sum\"><td>measured<td><td><td>", f);
	report_cell(f, report_duration, total);
	fputs("\n</table>\n<p>Everything else: pausing, the last RAM, checks "
	      "before it runs, the hand-over.</p>\n",
	      f);
}

static void devices(FILE *f, json_t *o)
{
	const char *name;
	json_t *d, *v;
	size_t i;

	if (!json_array_size(json_object_get(o, "plan")))
		return;
	fputs("<h2>Devices</h2>\n<table><tr><th>device<th>action<th "
	      "style=\"text-align:left\">"
	      "reason\n",
	      f);
	json_array_foreach (json_object_get(o, "plan"), i, d) {
		fputs("<tr><td>", f);
		report_text(f,
			    report_str(json_object_get(d, "device"), "name"));
		fputs("<td>", f);
		report_text(f, report_str(d, "action"));
		fputs("<td style=\"text-align:left\">", f);
		report_text(f, report_str(d, "reason"));
		fputs("\n", f);
	}
	fputs("</table>\n", f);
	d = json_object_get(o, "devices");
	if (!json_object_size(d))
		return;
	fputs("<details><summary>What the devices did</summary>\n", f);
	json_object_foreach (d, name, v) {
		char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_INDENT(1));

		fputs("<h3>", f);
		report_text(f, name);
		fputs("</h3><pre>", f);
		report_text(f, s ? s : "");
		fputs("</pre>\n", f);
		free(s);
	}
	fputs("</details>\n", f);
}

static void rounds(FILE *f, json_t *o)
{
	bool compared = json_object_get(o, "resent") != NULL;
	json_t *r;
	size_t i;

	if (!json_array_size(json_object_get(o, "round")))
		return;
	fprintf(f,
		"<h2>Rounds</h2>\n<table><tr><th>round<th>pages<th>zero<th>sent"
		"<th>time<th>dirtied meanwhile%s\n",
		compared ? "<th>sent before<th>of these changed" : "");
	json_array_foreach (json_object_get(o, "round"), i, r) {
		fprintf(f, "<tr><td>%zu", i + 1);
		report_cell(f, report_count, report_num(r, "pages"));
		report_cell(f, report_count, report_num(r, "zero_pages"));
		report_cell(f, report_bytes, report_num(r, "bytes"));
		report_cell(f, report_duration, report_num(r, "ns"));
		report_cell(f, report_count, report_num(r, "dirty_pages"));
		if (compared) {
			report_cell(f, report_count,
				    report_num(r, "resent_pages"));
			report_cell(f, report_count,
				    report_num(r, "changed_pages"));
		}
		fputs("\n", f);
	}
	fputs("</table>\n", f);
}

/*
 * How much of what was sent again had to be.  What devices marked stands
 * beside it and is no part of it: by the time that pages are sent, marks of
 * CPUs and of devices are one set.
 */
static void precision(FILE *f, json_t *o)
{
	json_t *sent = json_object_get(o, "resent"), *d;
	double pages = report_num(sent, "pages");
	const char *name;

	if (!json_array_size(json_object_get(o, "round")))
		return;
	if (pages > 0) {
		fputs("<p>Dirty precision: ", f);
		report_percent(f, report_num(sent, "changed_pages"), pages);
		fputs(". Of ", f);
		report_count(f, pages);
		fputs(" pages that were sent again ", f);
		report_count(f, report_num(sent, "changed_pages"));
		fputs(" differed from what had been sent before; the others "
		      "were marked and held the same bytes, as a page does "
		      "that was marked before it was read.</p>\n",
		      f);
	}
	json_object_foreach (json_object_get(o, "devices"), name, d) {
		json_t *s = json_object_get(d, "shadow");

		if (report_num(s, "marked_pages") <= 0)
			continue;
		fputs("<p>", f);
		report_text(f, name);
		fputs(" wrote ", f);
		report_bytes(f, report_num(s, "marked_bytes"));
		fputs(" to memory (frames received and its rings) and marked "
		      "pages for it ",
		      f);
		report_count(f, report_num(s, "marked_pages"));
		fputs(" times.</p>\n", f);
	}
}

void report_html(FILE *f, json_t *o)
{
	head(f, o);
	timeline(f, o);
	outage(f, o);
	outage_by_part(f, o);
	report_traffic(f, o);
	rounds(f, o);
	precision(f, o);
	devices(f, o);
	fputs("<p class=\"note\">Pagurus " PAGURUS_VERSION "</p>\n</html>\n",
	      f);
}
