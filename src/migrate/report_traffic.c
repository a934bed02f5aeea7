/*
 * What the VM's devices carried before, during and after its move.
 */
#include <string.h>

#include "base/util.h"
#include "migrate/report_priv.h"

/* A rate over less than this is noise. */
#define RATE_MIN_NS 100000000ull

/* ---- figures ---- */

json_t *report_samples_json(const struct mig_sample *s, size_t n,
			    uint64_t t0_ns)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			list,
			json_pack("[I, I, I]", (json_int_t)(s[i].at_ns - t0_ns),
				  (json_int_t)s[i].frames,
				  (json_int_t)s[i].bytes));
	return list;
}

static void put(json_t *o, const char *name, const struct mig_sample *from,
		const struct mig_sample *to, uint64_t t0_ns, uint64_t min_ns)
{
	double ns = (double)(to->at_ns - from->at_ns);
	uint64_t frames = to->frames - from->frames;
	uint64_t bytes = to->bytes - from->bytes;

	if (!to->at_ns || to->at_ns <= from->at_ns ||
	    to->at_ns - from->at_ns < min_ns)
		return;
	json_object_set_new(o, name,
			    json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "at_ns",
				      (json_int_t)(from->at_ns - t0_ns), "ns",
				      (json_int_t)(to->at_ns - from->at_ns),
				      "frames", (json_int_t)frames, "bytes",
				      (json_int_t)bytes, "frames_per_s",
				      (double)frames * 1e9 / ns, "bytes_per_s",
				      (double)bytes * 1e9 / ns));
}

static double rate(json_t *traffic, const char *part)
{
	return report_num(json_object_get(traffic, part), "frames_per_s");
}

static void put_ratio(json_t *o, const char *name, const char *part)
{
	if (rate(o, "before") > 0 && json_object_get(o, part))
		json_object_set_new(
			o, name, json_real(rate(o, part) / rate(o, "before")));
}

json_t *report_traffic_json(const struct mig_traffic *t, uint64_t t0_ns)
{
	const struct mig_sample *m = t->mark, *stop = &m[MIG_MARK_STOP];
	json_t *o = json_object();

	/* It never came to stopping them: then they were shadowed to the end. */
	if (!stop->at_ns && t->n)
		stop = &t->sample[t->n - 1];

	put(o, "before", &m[MIG_MARK_BEGIN], &m[MIG_MARK_ENGAGE], t0_ns,
	    RATE_MIN_NS);
	if (m[MIG_MARK_ENGAGE].at_ns)
		put(o, "shadowing", &m[MIG_MARK_ENGAGE], stop, t0_ns, 1);
	if (m[MIG_MARK_STOP].at_ns)
		put(o, "outage", &m[MIG_MARK_STOP], &m[MIG_MARK_GONE], t0_ns,
		    1);
	if (t->nafter)
		put(o, "after", &t->after[0], &t->after[t->nafter - 1], 0,
		    RATE_MIN_NS);
	put_ratio(o, "shadowing_to_before", "shadowing");
	put_ratio(o, "after_to_before", "after");
	return o;
}

/* ---- the table ---- */

static void row(FILE *f, json_t *t, const char *part, const char *name,
		const char *class)
{
	json_t *p = json_object_get(t, part);

	if (!p)
		return;
	fprintf(f, "<tr%s><td>%s", class, name);
	report_cell(f, report_duration, report_num(p, "ns"));
	report_cell(f, report_count, report_num(p, "frames"));
	report_cell(f, report_count, report_num(p, "frames_per_s"));
	fprintf(f, "<td>%.2f<td>", report_num(p, "bytes_per_s") / 1e6);
	if (rate(t, "before") > 0)
		report_percent(f, rate(t, part), rate(t, "before"));
	else
		fputs("&ndash;", f);
	fputs("\n", f);
}

bool report_quiesced(json_t *o)
{
	json_t *p;
	size_t i;

	json_array_foreach (json_object_get(o, "phases"), i, p)
		if (!strcmp(report_str(p, "phase"), "quiesce"))
			return true;
	return false;
}

static void table(FILE *f, json_t *o)
{
	json_t *t = json_object_get(o, "traffic");

	fputs("<table><tr><th>part<th>measured for<th>frames<th>frames/s"
	      "<th>MB/s<th>of before\n",
	      f);
	row(f, t, "before", "before: direct at the source", "");
	row(f, t, "shadowing", "during: shadowed, the VM runs", "");
	row(f, t, "outage",
	    report_quiesced(o) ? "quiesced, then the outage" : "the outage",
	    " class=\"out\"");
	row(f, t, "after", "after: at the destination", "");
	fputs("</table>\n<p class=\"note\">All VFs of the VM, received and "
	      "sent, by the VFs' own counters. 1&nbsp;MB is 10<sup>6</sup> "
	      "bytes. ",
	      f);
	if (report_quiesced(o))
		fputs("Of the outage row the drivers gave up their rings "
		      "first, while the VM still ran. ",
		      f);
	if (report_num(json_object_get(t, "outage"), "frames") > 0)
		fputs("What the outage row counts came before its devices had "
		      "been stopped. ",
		      f);
	if (json_object_get(t, "outage"))
		fputs(json_object_get(t, "after")
			      ? "After: from the moment the VM runs there, as "
				"the destination counted. "
			      : "The destination did not tell what its VFs "
				"carried afterwards. ",
		      f);
	fputs("</p>\n", f);
}

void report_traffic(FILE *f, json_t *o)
{
	if (json_array_size(json_object_get(o, "samples")) < 3)
		return;
	fputs("<h2>Traffic of the devices</h2>\n", f);
	report_chart(f, o);
	table(f, o);
}
