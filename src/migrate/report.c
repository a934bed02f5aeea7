#include "migrate/report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

static const char *const outcome_name[] = {
	[MIG_RUNS_THERE] = "runs at the destination",
	[MIG_RUNS_HERE] = "still runs at the source",
	[MIG_UNDECIDED] = "paused: the destination does not answer",
};

static json_t *phases_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (int i = 0; i < MIG_DONE; i++)
		if (r->phase_at[i])
			json_array_append_new(
				list,
				json_pack(
					"{s:s, s:I, s:I, s:b}", "phase",
					mig_phase_name((enum mig_phase)i),
					"at_ns",
					(json_int_t)(r->phase_at[i] - r->t0_ns),
					"ns", (json_int_t)r->phase_ns[i],
					"outage", i >= MIG_PAUSE));
	return list;
}

static json_t *rounds_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < MIN(r->rounds, MIG_ROUNDS_KEPT); i++) {
		const struct mig_round *k = &r->round[i];

		json_array_append_new(
			list,
			json_pack("{s:I, s:I, s:I, s:I, s:I}", "pages",
				  (json_int_t)k->pages, "zero_pages",
				  (json_int_t)k->zero_pages, "bytes",
				  (json_int_t)k->bytes, "ns", (json_int_t)k->ns,
				  "dirty_pages", (json_int_t)k->dirty_pages));
	}
	return list;
}

static json_t *parts_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < r->nparts; i++)
		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:I}", "name", r->part[i].name,
				  "save_ns", (json_int_t)r->part[i].save_ns,
				  "load_ns", (json_int_t)r->part[i].load_ns));
	return list;
}

json_t *mig_result_json(const struct mig_result *r, const char *vm,
			const char *dest, enum mig_outcome outcome,
			const char *why, const struct mig_sample *sample,
			size_t nsamples)
{
	json_t *o, *list = json_array();

	for (size_t i = 0; i < nsamples; i++)
		json_array_append_new(list,
				      json_pack("[I, I, I]",
						(json_int_t)sample[i].at_ns,
						(json_int_t)sample[i].frames,
						(json_int_t)sample[i].bytes));
	o = json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:i, "
		      "s:i, s:s, s:o, s:o, s:o, s:o}",
		      "vm", vm, "destination", dest, "outcome", (int)outcome,
		      "outcome_text", outcome_name[outcome], "reason",
		      why ? why : "", "total_ns", (json_int_t)r->total_ns,
		      "downtime_ns", (json_int_t)r->downtime_ns, "bytes",
		      (json_int_t)r->bytes, "state_bytes",
		      (json_int_t)r->state_bytes, "verified_pages",
		      (json_int_t)r->verified, "rounds", (int)r->rounds,
		      "throttle", (int)r->max_throttle, "transport",
		      r->transport, "plan", mig_plan_json(&r->plan), "phases",
		      phases_json(r), "round", rounds_json(r), "samples", list);
	if (o)
		json_object_set_new(o, "parts", parts_json(r));
	if (o && r->devices)
		json_object_set(o, "devices", r->devices);
	return o;
}

/* ---- HTML ---- */

static const char *str(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static double num(json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

/* Names come from users and peers: none of them is markup. */
static void text(FILE *f, const char *s)
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

static void duration(FILE *f, double ns)
{
	if (ns < 1e6)
		fprintf(f, "%.0f&nbsp;µs", ns / 1e3);
	else if (ns < 1e9)
		fprintf(f, "%.1f&nbsp;ms", ns / 1e6);
	else
		fprintf(f, "%.2f&nbsp;s", ns / 1e9);
}

static void bytes(FILE *f, double n)
{
	if (n < 1e6)
		fprintf(f, "%.1f&nbsp;kB", n / 1e3);
	else if (n < 1e9)
		fprintf(f, "%.1f&nbsp;MB", n / 1e6);
	else
		fprintf(f, "%.2f&nbsp;GB", n / 1e9);
}

static void head(FILE *f, json_t *o)
{
	fputs("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
	      "<meta name=\"viewport\" content=\"width=device-width\">"
	      "<title>Migration of ",
	      f);
	text(f, str(o, "vm"));
	fputs("</title>\n<style>"
	      "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
	      "margin:2rem auto;padding:0 1rem;color:#1b2733}"
	      "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}"
	      "table{border-collapse:collapse;width:100%}"
	      "td,th{padding:.25rem .6rem;border-bottom:1px solid #d8dee4;"
	      "text-align:right}td:first-child,th:first-child{text-align:left}"
	      ".big{display:flex;gap:2rem;flex-wrap:wrap}"
	      ".big div{min-width:8rem}.big b{display:block;font-size:1.6rem}"
	      ".out{background:#fde8e4}.sum td{font-weight:600}"
	      "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
	      "svg{width:100%;height:auto}svg text{font:12px system-ui}"
	      "</style>\n",
	      f);
	fputs("<h1>", f);
	text(f, str(o, "vm"));
	fputs(" → ", f);
	text(f, str(o, "destination"));
	fputs("</h1><p>The VM <b>", f);
	text(f, str(o, "outcome_text"));
	fputs("</b>.", f);
	if (str(o, "reason")[0]) {
		fputs(" Reason: ", f);
		text(f, str(o, "reason"));
	}
	fputs("</p>\n<div class=\"big\"><div>outage<b>", f);
	duration(f, num(o, "downtime_ns"));
	fputs("</b></div><div>total<b>", f);
	duration(f, num(o, "total_ns"));
	fputs("</b></div><div>sent<b>", f);
	bytes(f, num(o, "bytes"));
	fputs("</b></div><div>device and CPU state<b>", f);
	bytes(f, num(o, "state_bytes"));
	fprintf(f, "</b></div><div>rounds<b>%.0f</b></div></div>\n",
		num(o, "rounds"));
	fputs("<p>Connection: ", f);
	text(f, str(o, "transport"));
	fprintf(f, ". vCPUs were throttled by at most %.0f&nbsp;%%.</p>\n",
		num(o, "throttle"));
}

static void timeline(FILE *f, json_t *o)
{
	static const char *const colour[] = { "#8fb8de", "#5b8fc7", "#3d6fa8" };
	double total = MAX(num(o, "total_ns"), 1), y = 0;
	json_t *p;
	size_t i;

	fprintf(f,
		"<h2>Timeline</h2>\n<svg viewBox=\"0 0 900 %zu\" "
		"role=\"img\" aria-label=\"phases over time\">\n",
		24 * json_array_size(json_object_get(o, "phases")) + 8);
	json_array_foreach (json_object_get(o, "phases"), i, p) {
		double x = 110 + 690 * num(p, "at_ns") / total;
		double w = MAX(690 * num(p, "ns") / total, 2);

		fprintf(f,
			"<text x=\"0\" y=\"%.0f\">%s</text><rect x=\"%.1f\" "
			"y=\"%.0f\" width=\"%.1f\" height=\"16\" "
			"fill=\"%s\"/><text x=\"%.1f\" y=\"%.0f\">",
			y + 14, str(p, "phase"), x, y + 2, w,
			json_is_true(json_object_get(p, "outage"))
				? "#d9553f"
				: colour[i % 3],
			MIN(x + w + 6, 830.0), y + 14);
		duration(f, num(p, "ns"));
		fputs("</text>\n", f);
		y += 24;
	}
	fputs("</svg><p>Red: the outage. Blue: the VM runs.</p>\n", f);
}

static void outage(FILE *f, json_t *o)
{
	double sum = 0;
	json_t *p;
	size_t i;

	fputs("<h2>The outage, phase by phase</h2>\n<table><tr><th>phase"
	      "<th>time<th>share\n",
	      f);
	json_array_foreach (json_object_get(o, "phases"), i, p) {
		if (!json_is_true(json_object_get(p, "outage")))
			continue;
		fprintf(f, "<tr><td>%s<td>", str(p, "phase"));
		duration(f, num(p, "ns"));
		fprintf(f, "<td>%.0f&nbsp;%%\n",
			100 * num(p, "ns") / MAX(num(o, "downtime_ns"), 1));
		sum += num(p, "ns");
	}
	fputs("<tr class=\"sum\"><td>sum<td>", f);
	duration(f, sum);
	fputs("<td>\n<tr class=\"sum\"><td>measured<td>", f);
	duration(f, num(o, "downtime_ns"));
	fputs("<td>\n</table>\n", f);
}

static void cell(FILE *f, double ns)
{
	fputs("<td>", f);
	duration(f, ns);
}

/* The same outage by who needed it; what nobody claims is the last row. */
static void outage_by_part(FILE *f, json_t *o)
{
	double total = num(o, "downtime_ns"), sum = 0;
	json_t *p;
	size_t i;

	if (total <= 0 || !json_array_size(json_object_get(o, "parts")))
		return;
	fputs("<h2>The outage, device by device</h2>\n<table><tr><th>part"
	      "<th>drain<th>save<th>load<th>together\n",
	      f);
	json_array_foreach (json_object_get(o, "parts"), i, p) {
		json_t *dev = json_object_get(json_object_get(o, "devices"),
					      str(p, "name"));
		double drain = num(dev, "drain_ns");
		double all = drain + num(p, "save_ns") + num(p, "load_ns");

		fputs("<tr><td>", f);
		text(f, str(p, "name"));
		cell(f, drain);
		cell(f, num(p, "save_ns"));
		cell(f, num(p, "load_ns"));
		cell(f, all);
		fputs("\n", f);
		sum += all;
	}
	fputs("<tr><td>everything else<td><td><td>", f);
	cell(f, total - sum);
	fputs("\n<tr class=\"sum\"><td>measured<td><td><td>", f);
	cell(f, total);
	fputs("\n</table>\n<p>Everything else: pausing, the last RAM, checks "
	      "before it runs, the hand-over.</p>\n",
	      f);
}

static void devices(FILE *f, json_t *o)
{
	const char *name;
	json_t *d, *v;
	size_t i;

	fputs("<h2>Devices</h2>\n<table><tr><th>device<th>action<th>reason\n",
	      f);
	json_array_foreach (json_object_get(o, "plan"), i, d) {
		fputs("<tr><td>", f);
		text(f, str(json_object_get(d, "device"), "name"));
		fputs("<td>", f);
		text(f, str(d, "action"));
		fputs("<td style=\"text-align:left\">", f);
		text(f, str(d, "reason"));
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
		text(f, name);
		fputs("</h3><pre>", f);
		text(f, s ? s : "");
		fputs("</pre>\n", f);
		free(s);
	}
	fputs("</details>\n", f);
}

static void rounds(FILE *f, json_t *o)
{
	json_t *r;
	size_t i;

	fputs("<h2>Rounds</h2>\n<table><tr><th>round<th>pages<th>zero<th>sent"
	      "<th>time<th>dirtied meanwhile\n",
	      f);
	json_array_foreach (json_object_get(o, "round"), i, r) {
		fprintf(f, "<tr><td>%zu<td>%.0f<td>%.0f<td>", i + 1,
			num(r, "pages"), num(r, "zero_pages"));
		bytes(f, num(r, "bytes"));
		fputs("<td>", f);
		duration(f, num(r, "ns"));
		fprintf(f, "<td>%.0f\n", num(r, "dirty_pages"));
	}
	fputs("</table>\n", f);
}

static double sample(json_t *list, size_t i, size_t k)
{
	return json_number_value(json_array_get(json_array_get(list, i), k));
}

/* Samples closer than this are one: a rate over an instant is noise. */
#define APART_NS 20e6

/* Frames a second since sample 'from', 0 when it is too close. */
static double rate_since(json_t *list, size_t from, size_t i)
{
	double dt = sample(list, i, 0) - sample(list, from, 0);

	return dt < APART_NS ? 0
			     : (sample(list, i, 1) - sample(list, from, 1)) *
				       1e9 / dt;
}

static bool apart(json_t *list, size_t from, size_t i)
{
	return sample(list, i, 0) - sample(list, from, 0) >= APART_NS;
}

/* Frames a second between samples, as a line over time. */
static void throughput(FILE *f, json_t *o)
{
	json_t *list = json_object_get(o, "samples");
	size_t n = json_array_size(list), from = 0;
	double top = 0, end;

	if (n < 3)
		return;
	end = MAX(sample(list, n - 1, 0), 1);
	for (size_t i = 1; i < n; i++)
		if (apart(list, from, i)) {
			top = MAX(top, rate_since(list, from, i));
			from = i;
		}
	if (top <= 0)
		return;
	fprintf(f,
		"<h2>Traffic</h2>\n<svg viewBox=\"0 0 900 180\" role=\"img\" "
		"aria-label=\"frames per second over time\">"
		"<text x=\"0\" y=\"12\">%.0f frames/s</text>"
		"<line x1=\"0\" x2=\"900\" y1=\"170\" y2=\"170\" "
		"stroke=\"#d8dee4\"/><polyline fill=\"none\" "
		"stroke=\"#3d6fa8\" stroke-width=\"2\" points=\"",
		top);
	from = 0;
	for (size_t i = 1; i < n; i++) {
		double y;

		if (!apart(list, from, i))
			continue;
		y = 170 - 150 * rate_since(list, from, i) / top;
		fprintf(f, "%.1f,%.1f %.1f,%.1f ",
			900 * sample(list, from, 0) / end, y,
			900 * sample(list, i, 0) / end, y);
		from = i;
	}
	fputs("\"/></svg><p>Frames the VF has counted, until it was the "
	      "destination's.</p>\n",
	      f);
}

/* All of it, on the disk, or -errno. */
static int put_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int ret = 0;

	if (fd < 0)
		return -errno;
	while (!ret && len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			ret = -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	if (!ret && fsync(fd) < 0)
		ret = -errno;
	if (close(fd) < 0 && !ret)
		ret = -errno;
	return ret;
}

static int build(char **text, size_t *len, json_t *o)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		return -errno;
	head(f, o);
	timeline(f, o);
	outage(f, o);
	outage_by_part(f, o);
	throughput(f, o);
	devices(f, o);
	rounds(f, o);
	fputs("<p>Pagurus " PAGURUS_VERSION "</p>\n</html>\n", f);
	return fclose(f) ? -errno : 0;
}

int mig_report_write(const char *path, json_t *o, struct err *e)
{
	char tmp[4096], *text = NULL;
	size_t len;
	int ret;

	if (snprintf(tmp, sizeof(tmp), "%s.tmp%d", path, (int)getpid()) >=
	    (int)sizeof(tmp))
		return err_set(e, -ENAMETOOLONG, "report '%s'", path);
	ret = build(&text, &len, o);
	if (!ret)
		ret = put_file(tmp, text, len);
	if (!ret && rename(tmp, path) < 0)
		ret = -errno;
	free(text);
	if (ret < 0) {
		unlink(tmp);
		return err_sys(e, ret, "writing the report %s", path);
	}
	return 0;
}
