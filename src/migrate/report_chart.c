/*
 * The devices' traffic over time, as a curve.  The parts of a migration
 * differ in length by a thousand, so each may have a scale of its own.
 */
#include <math.h>

#include "base/util.h"
#include "migrate/report_priv.h"

#define LEFT   70.0
#define WIDTH  820.0
#define TOP    44.0
#define HEIGHT 150.0

/* Samples closer than this are one, or than so many units of the chart. */
#define APART_NS 20e6
#define APART_X	 4.0

/* A stretch of time with a scale of its own. */
struct part {
	const char *name;
	double from, to; /* ns since the migration began */
	double min;	 /* width that it needs to be seen */
	double x, w;
	json_t *list;	 /* samples */
	double off;	 /* of their times */
	bool out, whole; /* the outage; one rate over all of it */
};

#define PARTS 4

static double at(const struct part *p, size_t i, size_t k)
{
	double v = json_number_value(
		json_array_get(json_array_get(p->list, i), k));

	return k ? v : v + p->off;
}

static double x_of(const struct part *p, double ns)
{
	return p->x + p->w * (ns - p->from) / (p->to - p->from);
}

/*
 * Each step of the curve: from, to, frames a second.  A last step that would
 * be too short is part of the one before it.
 */
static void steps(const struct part *p,
		  void (*fn)(void *opaque, const struct part *p, double from,
			     double to, double rate),
		  void *opaque)
{
	double apart = MAX(APART_NS, APART_X * (p->to - p->from) / p->w);
	size_t n = json_array_size(p->list), from = 0, last;

	while (from < n && at(p, from, 0) < p->from)
		from++;
	for (last = from; last + 1 < n && at(p, last + 1, 0) <= p->to; last++)
		;
	for (size_t i = from + 1; i <= last && i < n; i++) {
		double dt = at(p, i, 0) - at(p, from, 0);

		if (i < last && (p->whole || dt < apart ||
				 at(p, last, 0) - at(p, i, 0) < apart))
			continue;
		if (dt > 0)
			fn(opaque, p, at(p, from, 0), at(p, i, 0),
			   (at(p, i, 1) - at(p, from, 1)) * 1e9 / dt);
		from = i;
	}
}

static void find_top(void *opaque, const struct part *p, double from, double to,
		     double r)
{
	double *top = opaque;

	*top = MAX(*top, r);
}

/* 1, 2 or 5 times a power of ten, not less than 'v'. */
static double round_up(double v)
{
	double unit = pow(10, floor(log10(v)));

	return v <= unit * 1.0001 ? unit
	       : v <= 2 * unit	  ? 2 * unit
	       : v <= 5 * unit	  ? 5 * unit
				  : 10 * unit;
}

struct curve {
	FILE *f;
	double top;
};

static double y_of(double top, double r)
{
	return TOP + HEIGHT - HEIGHT * MIN(r, top) / top;
}

static void draw(void *opaque, const struct part *p, double from, double to,
		 double r)
{
	struct curve *c = opaque;
	double y = y_of(c->top, r);

	fprintf(c->f, "%.1f,%.1f %.1f,%.1f ", x_of(p, from), y, x_of(p, to), y);
}

static void y_axis(FILE *f, double top, double step)
{
	int n = (int)lround(top / step);

	fprintf(f,
		"<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">frames/s"
		"</text>\n",
		LEFT - 8, TOP - 14);
	for (int i = 0; i <= n; i++) {
		double v = i * step, y = y_of(top, v);

		fprintf(f,
			"<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" "
			"stroke=\"%s\"/><text x=\"%.0f\" y=\"%.1f\" "
			"text-anchor=\"end\">",
			LEFT, LEFT + WIDTH, y, y, v > 0 ? "#e4e9ee" : "#8795a1",
			LEFT - 8, y + 4);
		report_count(f, v);
		fputs("</text>\n", f);
	}
}

/* Ticks within a part, away from its ends: no two labels ever meet. */
static void ticks(FILE *f, const struct part *p)
{
	double step = round_up((p->to - p->from) / 1e9 * 80 / p->w);
	int digits = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;

	int first = (int)ceil(p->from / 1e9 / step);
	int last = (int)floor(p->to / 1e9 / step);

	for (int i = first; i <= last; i++) {
		double s = i * step, x = x_of(p, s * 1e9);

		if (i && (x < p->x + 24 || x > p->x + p->w - 24))
			continue;
		fprintf(f,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\" "
			"stroke=\"#8795a1\"/><text x=\"%.1f\" y=\"%.0f\" "
			"text-anchor=\"middle\">%.*f s</text>\n",
			x, x, TOP + HEIGHT, TOP + HEIGHT + 5, x,
			TOP + HEIGHT + 20, i ? digits : 0, s);
	}
}

/* Behind the curve: where it is, and what the part is called. */
static void ground(FILE *f, json_t *o, const struct part *p, bool first)
{
	if (p->out) {
		bool edge = p->x + p->w / 2 > LEFT + WIDTH - 80;

		fprintf(f,
			"<rect x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" "
			"height=\"%.0f\" fill=\"#fbd5cd\"/><text x=\"%.1f\" "
			"y=\"%.0f\" text-anchor=\"%s\" "
			"fill=\"#b3402c\">%s ",
			p->x, TOP, p->w, HEIGHT,
			edge ? p->x + p->w : p->x + p->w / 2, TOP - 8,
			edge ? "end" : "middle", p->name);
		report_duration(f, report_num(o, "downtime_ns"));
		fputs("</text>\n", f);
		return;
	}
	fprintf(f,
		"<text x=\"%.1f\" y=\"14\" text-anchor=\"middle\">%s</text>\n",
		p->x + p->w / 2, p->name);
	if (!first)
		fprintf(f,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"20\" y2=\"%.0f\" "
			"stroke=\"#8795a1\" stroke-dasharray=\"3 3\"/>\n",
			p->x, p->x, TOP + HEIGHT);
}

/* As wide as it lasted, but each wide enough to be seen. */
static void lay_out(struct part *p, unsigned int n)
{
	double total = 0, room = WIDTH, x = LEFT;
	bool narrow[PARTS] = { false }, again = true;

	while (again) {
		again = false;
		total = 0;
		for (unsigned int i = 0; i < n; i++)
			total += narrow[i] ? 0 : p[i].to - p[i].from;
		for (unsigned int i = 0; i < n && !again; i++) {
			p[i].w = room * (p[i].to - p[i].from) / MAX(total, 1);
			if (narrow[i] || p[i].w >= p[i].min)
				continue;
			narrow[i] = again = true;
			room -= p[i].min;
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		p[i].w = narrow[i] ? p[i].min : p[i].w;
		p[i].x = x;
		x += p[i].w;
	}
}

static void add(struct part *list, unsigned int *n, struct part p)
{
	if (p.to > p.from)
		list[(*n)++] = p;
}

static double end_of(json_t *p)
{
	return report_num(p, "at_ns") + report_num(p, "ns");
}

/* What there is of the four; without marks all that was seen is one. */
static unsigned int parts(json_t *o, struct part *out)
{
	json_t *t = json_object_get(o, "traffic");
	json_t *list = json_object_get(o, "samples");
	json_t *before = json_object_get(t, "before");
	json_t *outage = json_object_get(t, "outage");
	double begin =
		json_number_value(json_array_get(json_array_get(list, 0), 0));
	double engage = before ? end_of(before) : begin, stop, gone;
	double end = json_number_value(json_array_get(
		json_array_get(list, json_array_size(list) - 1), 0));
	unsigned int n = 0;

	stop = outage ? report_num(outage, "at_ns") : end;
	gone = outage ? end_of(outage) : end;
	add(out, &n,
	    (struct part){ .name = "before: direct",
			   .from = begin,
			   .to = engage,
			   .min = 110,
			   .list = list });
	add(out, &n,
	    (struct part){ .name = outage ? "during: shadowed"
					  : "during the attempt",
			   .from = engage,
			   .to = stop,
			   .min = 220,
			   .list = list });
	add(out, &n,
	    (struct part){ .name = report_quiesced(o) ? "quiesced, outage"
						      : "outage",
			   .from = stop,
			   .to = gone,
			   .min = 40,
			   .list = list,
			   .out = true,
			   .whole = !report_quiesced(o) });
	add(out, &n,
	    (struct part){ .name = "after: at the destination",
			   .from = gone,
			   .to = gone +
				 report_num(json_object_get(t, "after"), "ns"),
			   .min = 170,
			   .list = json_object_get(o, "samples_after"),
			   .off = gone });
	lay_out(out, n);
	return n;
}

void report_chart(FILE *f, json_t *o)
{
	struct part p[PARTS] = { 0 };
	unsigned int n = parts(o, p);
	struct curve c = { .f = f };
	double step;

	for (unsigned int i = 0; i < n; i++)
		steps(&p[i], find_top, &c.top);
	if (c.top <= 0)
		return;
	step = round_up(c.top / 5);
	c.top = ceil(c.top / step) * step;
	fprintf(f,
		"<svg viewBox=\"0 0 900 %.0f\" role=\"img\" "
		"aria-label=\"frames per second over time\">\n",
		TOP + HEIGHT + 26);
	y_axis(f, c.top, step);
	for (unsigned int i = 0; i < n; i++) {
		ground(f, o, &p[i], i == 0 || p[i - 1].out);
		if (!p[i].out)
			ticks(f, &p[i]);
	}
	fputs("<polyline fill=\"none\" stroke=\"#3d6fa8\" stroke-width=\"2\" "
	      "stroke-linejoin=\"round\" points=\"",
	      f);
	for (unsigned int i = 0; i < n; i++)
		steps(&p[i], draw, &c);
	fputs("\"/></svg>\n<p class=\"note\">Time since the migration began. "
	      "Parts that would be too narrow to see are drawn wider."
	      "</p>\n",
	      f);
}
