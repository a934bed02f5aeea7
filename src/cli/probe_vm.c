#include "cli/probe_vm.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/cmd.h"
#include "ctl/ctl.h"

#define SITES_MAX 4096

struct view {
	const struct probe_vm *a;
	const volatile int *stop;
	struct report r;
	json_t *names; /* of functions, as the report knows them */
	uint64_t deadline, dropped;
	bool open, asked;
	int ret;
};

static uint64_t num(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static uint64_t at(const json_t *list, size_t i)
{
	return (uint64_t)json_integer_value(json_array_get(list, i));
}

static bool go_on(void *opaque, const json_t *ev)
{
	return true;
}

/* Our call then ends with what is left to say. */
static void ask_to_stop(struct view *v)
{
	struct ctl_client *c;

	v->asked = true;
	if (ctl_connect(&c, v->a->dir, v->a->vm, NULL) < 0)
		return;
	ctl_ask(c, "probe_stop", NULL, go_on, NULL, NULL, NULL);
	ctl_close(c);
}

static int open_report(struct view *v, json_t *names)
{
	size_t n = json_array_size(names);
	int ret = report_open(&v->r, &v->a->report, (uint32_t)n);

	if (ret < 0)
		return ret;
	v->open = true;
	v->names = json_incref(names);
	/* Its times count from the start already. */
	v->r.start = 0;
	for (uint32_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		report_name(&v->r, i, name ? name : "?", "kernel");
	}
	return 0;
}

static void started(struct view *v, const json_t *o)
{
	const json_t *refused = json_object_get(o, "refused"), *one;
	size_t i;

	if (v->open)
		return;
	v->ret = open_report(v, json_object_get(o, "functions"));
	json_array_foreach (refused, i, one)
		fprintf(stderr, "pagurus: probe: %s is not probed: %s\n",
			json_string_value(json_object_get(one, "function")),
			json_string_value(json_object_get(one, "why")));
	if (v->a->seconds)
		v->deadline = now_ns() + v->a->seconds * 1000000000ull;
	fprintf(stderr,
		"pagurus: probe: %zu functions of %s's kernel; Ctrl-C "
		"ends it\n",
		json_array_size(json_object_get(o, "functions")), v->a->vm);
}

static void events(struct view *v, const json_t *list)
{
	const json_t *one, *more;
	size_t i;

	json_array_foreach (list, i, one) {
		struct probe_event ev = {
			.kind = (uint8_t)at(one, 0),
			.func = (uint16_t)at(one, 1),
			.tid = (int32_t)at(one, 2),
			.depth = (uint32_t)at(one, 3),
			.time = at(one, 4),
			.latency = at(one, 5),
		};

		if (ev.kind >= EVENT_KINDS)
			continue;
		more = json_array_get(one, 6);
		for (size_t k = 0; k < 6; k++)
			ev.arg[k] = at(more, k);
		ev.value = (uint64_t)json_integer_value(more);
		report_guest_event(&v->r, &ev, json_array_get(one, 7));
	}
	fflush(v->r.out);
}

static void listed(struct view *v, const json_t *o)
{
	struct probe_site site[SITES_MAX];
	struct probe_func fn = {
		.name = json_string_value(json_object_get(o, "function")),
		.addr = num(o, "address"),
		.size = num(o, "size"),
		.gap = num(o, "gap"),
		.swaps = json_is_true(json_object_get(o, "swaps")),
		.site = site,
	};
	const json_t *s;
	size_t i;

	json_array_foreach (json_object_get(o, "sites"), i, s) {
		if (i == SITES_MAX)
			break;
		site[fn.nsite++] = (struct probe_site){
			.addr = num(s, "address"),
			.kind = (uint8_t)num(s, "kind"),
			.verdict = (uint8_t)num(s, "verdict"),
			.why = (uint8_t)num(s, "why"),
			.to = json_string_value(json_object_get(s, "target")),
		};
	}
	report_list(stdout, v->a->report.json,
		    json_string_value(json_object_get(o, "module")), &fn);
}

static bool on_event(void *opaque, const json_t *ev)
{
	struct view *v = opaque;

	if (json_object_get(ev, "started"))
		started(v, json_object_get(ev, "started"));
	if (v->open && json_object_get(ev, "probes"))
		events(v, json_object_get(ev, "probes"));
	if (json_object_get(ev, "listed"))
		listed(v, json_object_get(ev, "listed"));
	if (v->ret < 0)
		return false;
	if (!v->asked && (*v->stop || (v->deadline && now_ns() > v->deadline)))
		ask_to_stop(v);
	/* Asked twice: hanging up takes the probes away as well. */
	return *v->stop < 2;
}

static void take_sums(struct view *v, const json_t *list)
{
	const json_t *o, *h, *n;
	const char *ns;
	size_t i;

	json_array_foreach (list, i, o) {
		struct report_func *f = &v->r.func[i];
		static const char *const kinds[EVENT_KINDS] = { "entry", "exit",
								"jump",
								"abandoned" };

		if (i >= v->r.nfunc)
			break;
		for (int k = 0; k < EVENT_KINDS; k++)
			f->count[k] = num(o, kinds[k]);
		f->timed = num(o, "timed");
		f->total = num(o, "total_ns");
		f->min = num(o, "min_ns");
		f->max = num(o, "max_ns");
		memset(f->bucket, 0, sizeof(f->bucket));
		h = json_object_get(o, "histogram_ns");
		json_object_foreach ((json_t *)h, ns, n) {
			unsigned long long b = strtoull(ns, NULL, 10);

			if (b)
				f->bucket[63 - __builtin_clzll(b)] =
					(uint64_t)json_integer_value(n);
		}
	}
}

static void moved(const struct view *v, const char *to)
{
	json_t *o;

	if (v->a->report.json) {
		o = json_pack("{s:s, s:s}", "event", "moved", "to", to);
		json_dumpf(o, v->open ? v->r.out : stdout, JSON_COMPACT);
		fputc('\n', v->open ? v->r.out : stdout);
		json_decref(o);
	}
	fprintf(stderr,
		"pagurus: probe: %s has moved to %s, and its probes with it: "
		"'pagurus probe --vm NAME --resume' there goes on with them; "
		"after a minute without they are taken away\n",
		v->a->vm, to);
}

static void finish(struct view *v, const json_t *result)
{
	const char *how = json_string_value(json_object_get(result, "end"));
	const char *to = json_string_value(json_object_get(result, "to"));

	if (v->open) {
		take_sums(v, json_object_get(result, "functions"));
		v->r.lost = num(result, "dropped") + num(result, "lost");
		report_end(&v->r);
	}
	if (to)
		moved(v, to);
	else if (how && !v->asked && strcmp(how, "listed"))
		fprintf(stderr, "pagurus: probe: %s: %s\n", v->a->vm, how);
	fflush(stdout);
}

static json_t *request(const struct probe_vm *a, const char *symbols)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:b}", "symbols",
			 symbols, "functions", a->functions, "entry", a->entry,
			 "exit", a->exit, "jumps", a->jumps, "events",
			 a->report.stream, "stack", a->report.stack, "list",
			 a->list);
}

int probe_vm(const struct probe_vm *a, const volatile int *stop)
{
	struct view v = { .a = a, .stop = stop };
	char symbols[PATH_MAX] = "";
	json_t *result = NULL;
	struct ctl_client *c;
	struct err e = { 0 };
	int ret;

	if (a->symbols && !realpath(a->symbols, symbols))
		return cmd_fail("probe", &e,
				err_sys(&e, -errno, "%s", a->symbols));
	ret = ctl_connect(&c, a->dir, a->vm, &e);
	if (ret < 0)
		return cmd_fail("probe", &e, ret);
	if (a->resume)
		ret = ctl_ask(c, "probe_resume", NULL, on_event, &v, &result,
			      &e);
	else
		ret = ctl_ask(c, "probe", request(a, symbols), on_event, &v,
			      &result, &e);
	ctl_close(c);
	if (ret == 0)
		finish(&v, result);
	json_decref(result);
	if (v.open)
		report_close(&v.r);
	json_decref(v.names);
	if (ret == -EINTR && *stop)
		return 0;
	return ret < 0 ? cmd_fail("probe", &e, ret) : 0;
}
