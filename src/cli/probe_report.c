#include "cli/probe_report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

static const char *const kind_names[EVENT_KINDS] = {
	[EVENT_ENTRY] = "entry",
	[EVENT_EXIT] = "exit",
	[EVENT_JUMP] = "jump",
	[EVENT_ABANDONED] = "abandoned",
};

/*
 * stdio takes an interrupted write for a failed one and drops the rest, and a
 * signal wakes us some times a second.
 */
static ssize_t write_all(void *cookie, const char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(STDOUT_FILENO, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		done += (size_t)n;
	}
	return (ssize_t)len;
}

int report_open(struct report *r, const struct report_options *opt,
		uint32_t nfunc)
{
	memset(r, 0, sizeof(*r));
	r->opt = *opt;
	r->func = calloc(nfunc + 1, sizeof(*r->func));
	if (!r->func)
		return -ENOMEM;
	fflush(stdout);
	r->out = fopencookie(NULL, "w",
			     (cookie_io_functions_t){ .write = write_all });
	if (!r->out) {
		free(r->func);
		return -ENOMEM;
	}
	if (isatty(STDOUT_FILENO))
		setvbuf(r->out, NULL, _IOLBF, BUFSIZ);
	r->nfunc = nfunc;
	r->start = now_ns();
	return 0;
}

void report_name(struct report *r, uint32_t i, const char *name,
		 const char *module)
{
	r->func[i].name = name;
	r->func[i].module = module;
}

void report_close(struct report *r)
{
	fclose(r->out);
	free(r->func);
	r->func = NULL;
}

static void duration(FILE *out, uint64_t ns)
{
	if (ns < 10000)
		fprintf(out, "%" PRIu64 " ns", ns);
	else if (ns < 10000000)
		fprintf(out, "%.1f us", (double)ns / 1e3);
	else if (ns < 10000000000ull)
		fprintf(out, "%.1f ms", (double)ns / 1e6);
	else
		fprintf(out, "%.1f s", (double)ns / 1e9);
}

static const char *symbol_at(const struct selection *sel, uint64_t pc,
			     uint64_t *offset, const char **module)
{
	for (size_t i = 0; sel && i < sel->nmod; i++) {
		const struct module *m = &sel->mod[i];
		const struct image_symbol *s;

		if (pc < m->lo || pc >= m->hi)
			continue;
		*module = m->name;
		s = image_symbol_at(m->im, pc - m->bias);
		if (!s)
			return NULL;
		*offset = pc - m->bias - s->addr;
		return s->name;
	}
	*module = NULL;
	return NULL;
}

static void text_stack(FILE *out, const struct engine_frame *f, size_t n,
		       const struct selection *sel)
{
	for (size_t i = 0; i < n; i++) {
		const char *module, *name;
		uint64_t off = 0;

		name = symbol_at(sel, f[i].pc, &off, &module);
		if (name)
			fprintf(out,
				"                    %s+0x%" PRIx64 " (%s)\n",
				name, off, module);
		else if (module)
			fprintf(out, "                    0x%" PRIx64 " (%s)\n",
				f[i].pc, module);
		else
			fprintf(out,
				"                    0x%" PRIx64
				" (trampoline or unknown)\n",
				f[i].pc);
	}
}

static void text_event(struct report *r, const struct probe_event *ev)
{
	FILE *out = r->out;
	const char *name = r->func[ev->func].name;

	fprintf(out, "%12.6f %7d %*s", (double)(ev->time - r->start) / 1e9,
		ev->tid, (int)MIN(ev->depth, 40u) * 2, "");
	switch (ev->kind) {
	case EVENT_ENTRY:
		fprintf(out, "> %s", name);
		for (unsigned int i = 0; i < r->opt.args; i++)
			fprintf(out, "%s0x%" PRIx64, i ? ", " : "(",
				ev->arg[i]);
		fprintf(out, "%s\n", r->opt.args ? ")" : "");
		return;
	case EVENT_EXIT: fprintf(out, "< %s", name); break;
	case EVENT_JUMP: fprintf(out, "~ %s jumps on", name); break;
	default: fprintf(out, "x %s abandoned", name); break;
	}
	if (ev->kind == EVENT_EXIT && r->opt.ret)
		fprintf(out, " = 0x%" PRIx64, ev->value);
	if (ev->latency) {
		fputs("  ", out);
		duration(out, ev->latency);
	}
	fputc('\n', out);
}

static json_t *json_stack(const struct engine_frame *f, size_t n,
			  const struct selection *sel)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		const char *module, *name;
		uint64_t off = 0;

		name = symbol_at(sel, f[i].pc, &off, &module);
		json_array_append_new(list,
				      json_pack("{s:I, s:s?, s:s?}", "pc",
						(json_int_t)f[i].pc, "function",
						name, "file", module));
	}
	return list;
}

/* Takes 'stack', which may be NULL. */
static void json_event(struct report *r, const struct probe_event *ev,
		       json_t *stack)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:i, s:i}", "event",
			      kind_names[ev->kind], "function",
			      r->func[ev->func].name, "time_ns",
			      (json_int_t)(ev->time - r->start),
			      r->opt.guest ? "cpu" : "tid", ev->tid, "depth",
			      (int)ev->depth);
	json_t *list;

	if (ev->latency)
		json_object_set_new(o, "latency_ns",
				    json_integer((json_int_t)ev->latency));
	if (ev->kind == EVENT_EXIT && r->opt.ret)
		json_object_set_new(o, "value",
				    json_integer((json_int_t)ev->value));
	if (ev->kind == EVENT_ENTRY && r->opt.args) {
		list = json_array();
		for (unsigned int i = 0; i < r->opt.args; i++)
			json_array_append_new(
				list, json_integer((json_int_t)ev->arg[i]));
		json_object_set_new(o, "args", list);
	}
	if (stack)
		json_object_set_new(o, "stack", stack);
	json_dumpf(o, r->out, JSON_COMPACT);
	fputc('\n', r->out);
	json_decref(o);
}

static void add_up(struct report_func *f, const struct probe_event *ev)
{
	f->count[ev->kind]++;
	if (ev->kind != EVENT_EXIT || !ev->latency)
		return;
	if (!f->timed || ev->latency < f->min)
		f->min = ev->latency;
	f->max = MAX(f->max, ev->latency);
	f->timed++;
	f->total += ev->latency;
	f->bucket[63 - __builtin_clzll(ev->latency)]++;
}

/* Is it also to be shown? */
static bool take(struct report *r, const struct probe_event *ev)
{
	if (ev->func >= r->nfunc)
		return false;
	add_up(&r->func[ev->func], ev);
	return r->opt.stream;
}

void report_event(struct report *r, const struct probe_event *ev,
		  const struct engine_frame *frames, size_t nframes,
		  const struct selection *sel)
{
	if (!take(r, ev))
		return;
	if (r->opt.json) {
		json_event(r, ev,
			   frames ? json_stack(frames, nframes, sel) : NULL);
		return;
	}
	text_event(r, ev);
	if (frames)
		text_stack(r->out, frames, nframes, sel);
}

void report_guest_event(struct report *r, const struct probe_event *ev,
			const json_t *stack)
{
	const json_t *one;
	size_t i;

	if (!take(r, ev))
		return;
	if (r->opt.json) {
		json_event(r, ev, stack ? json_deep_copy(stack) : NULL);
		return;
	}
	text_event(r, ev);
	json_array_foreach (stack, i, one)
		fprintf(r->out, "                    %s\n",
			json_string_value(one));
}

static void text_count(struct report *r)
{
	fprintf(r->out, "%-32s %10s %10s %10s %12s %12s %12s\n", "FUNCTION",
		"ENTRIES", "EXITS", "ABANDONED", "MEAN ns", "MIN ns", "MAX ns");
	for (uint32_t i = 0; i < r->nfunc; i++) {
		const struct report_func *f = &r->func[i];

		if (!f->count[EVENT_ENTRY] && !f->count[EVENT_EXIT] &&
		    !f->count[EVENT_ABANDONED])
			continue;
		fprintf(r->out,
			"%-32s %10" PRIu64 " %10" PRIu64 " %10" PRIu64
			" %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n",
			f->name, f->count[EVENT_ENTRY], f->count[EVENT_EXIT],
			f->count[EVENT_ABANDONED],
			f->timed ? f->total / f->timed : 0, f->min, f->max);
	}
}

static void text_hist(struct report *r, const struct report_func *f)
{
	uint64_t most = 1;
	int lo = REPORT_BUCKETS, hi = -1;

	for (int b = 0; b < REPORT_BUCKETS; b++) {
		if (!f->bucket[b])
			continue;
		most = MAX(most, f->bucket[b]);
		lo = MIN(lo, b);
		hi = b;
	}
	if (hi < 0)
		return;
	fprintf(r->out, "\n%s: latency of %" PRIu64 " calls\n", f->name,
		f->timed);
	for (int b = lo; b <= hi; b++) {
		int n = (int)(f->bucket[b] * 40 / most);

		fprintf(r->out, "%14" PRIu64 " ns %10" PRIu64 " |%.*s%*s|\n",
			(uint64_t)1 << b, f->bucket[b], n,
			"########################################", 40 - n, "");
	}
}

static void json_end(struct report *r)
{
	json_t *list = json_array(), *top;

	for (uint32_t i = 0; i < r->nfunc; i++) {
		const struct report_func *f = &r->func[i];
		json_t *o = json_pack("{s:s, s:s?}", "function", f->name,
				      "file", f->module);

		for (int k = 0; k < EVENT_KINDS; k++)
			json_object_set_new(
				o, kind_names[k],
				json_integer((json_int_t)f->count[k]));
		if (f->timed) {
			json_t *h = json_object();
			char ns[24];

			json_object_set_new(
				o, "mean_ns",
				json_integer(
					(json_int_t)(f->total / f->timed)));
			json_object_set_new(o, "min_ns",
					    json_integer((json_int_t)f->min));
			json_object_set_new(o, "max_ns",
					    json_integer((json_int_t)f->max));
			for (int b = 0; b < REPORT_BUCKETS; b++) {
				if (!f->bucket[b])
					continue;
				snprintf(ns, sizeof(ns), "%" PRIu64,
					 (uint64_t)1 << b);
				json_object_set_new(
					h, ns,
					json_integer((json_int_t)f->bucket[b]));
			}
			json_object_set_new(o, "histogram_ns", h);
		}
		json_array_append_new(list, o);
	}
	top = json_pack("{s:o, s:I}", "functions", list, "lost",
			(json_int_t)r->lost);
	json_dumpf(top, r->out, JSON_COMPACT);
	fputc('\n', r->out);
	json_decref(top);
}

void report_end(struct report *r)
{
	if (r->opt.json && !r->opt.stream) {
		json_end(r);
		return;
	}
	if (r->opt.count || r->opt.hist)
		text_count(r);
	for (uint32_t i = 0; r->opt.hist && i < r->nfunc; i++)
		text_hist(r, &r->func[i]);
	if (r->lost && r->opt.json)
		fprintf(r->out, "{\"event\":\"lost\",\"count\":%" PRIu64 "}\n",
			r->lost);
	else if (r->lost)
		fprintf(r->out, "%" PRIu64 " events were lost\n", r->lost);
	fflush(r->out);
}

static const char *verdict(const struct probe_site *s)
{
	switch (s->verdict) {
	case SITE_PATCH: return "patched";
	case SITE_RUNTIME: return "patched, decided at each hit";
	default: return "refused";
	}
}

static void list_json(FILE *out, const char *module,
		      const struct probe_func *fn)
{
	json_t *sites = json_array(), *o;

	for (size_t i = 0; i < fn->nsite; i++) {
		const struct probe_site *s = &fn->site[i];

		o = json_pack("{s:I, s:s, s:s, s:s?}", "address",
			      (json_int_t)s->addr, "kind",
			      site_kind_name(s->kind), "verdict", verdict(s),
			      "target", s->to);
		if (s->verdict == SITE_REFUSED)
			json_object_set_new(o, "why",
					    json_string(site_why(s->why)));
		json_array_append_new(sites, o);
	}
	o = json_pack("{s:s, s:s, s:I, s:I, s:o}", "function", fn->name, "file",
		      module, "address", (json_int_t)fn->addr, "size",
		      (json_int_t)fn->size, "sites", sites);
	if (fn->swaps)
		json_object_set_new(o, "by_return_address", json_true());
	json_dumpf(o, out, JSON_COMPACT);
	fputc('\n', out);
	json_decref(o);
}

void report_list(FILE *out, bool json, const char *module,
		 const struct probe_func *fn)
{
	if (json) {
		list_json(out, module, fn);
		return;
	}
	fprintf(out, "%s  0x%" PRIx64 ", %" PRIu64 " bytes, %s\n", fn->name,
		fn->addr, fn->size, module);
	for (size_t i = 0; i < fn->nsite; i++) {
		const struct probe_site *s = &fn->site[i];

		fprintf(out, "  0x%-10" PRIx64 " %-22s", s->addr,
			site_kind_name(s->kind));
		if (s->to)
			fprintf(out, " to %s%s", s->to, s->plt ? "@plt" : "");
		if (s->verdict == SITE_RUNTIME)
			fputs(" (decided at each hit)", out);
		if (s->verdict == SITE_REFUSED && fn->swaps &&
		    s->kind != SITE_ENTRY)
			fputs(" (seen through the return address)", out);
		else if (s->verdict == SITE_REFUSED)
			fprintf(out, " REFUSED: %s", site_why(s->why));
		fputc('\n', out);
	}
	if (fn->gap)
		fprintf(out, "  %" PRIu64 " bytes are reached by nothing\n",
			fn->gap);
}
