/*
 * pagurus metrics: the status of what runs here as Prometheus text.
 *
 * Every number of a status object becomes a sample; its path becomes the
 * name, array elements that carry a name or a number become labels.  So a
 * figure that is added to the status needs nothing here.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"

static const struct opt_usage usage = {
	.synopsis = "metrics [OPTIONS] [NAME]",
	.about = "Print the figures of a running process, or of all on this "
		 "host, in Prometheus' text format.",
	.after = "Exit status: 0; 1 there is no such process, or one does not "
		 "answer; 64 the\ncommand line is wrong.",
};

struct path {
	char name[160];	  /* pagurus_devices_shadow_polls */
	char labels[256]; /* name="web",devices="net0" */
};

static void append_name(char *to, size_t size, const char *word)
{
	size_t n = strlen(to);

	if (n + 1 < size)
		to[n++] = '_';
	for (; *word && n + 1 < size; word++)
		to[n++] = isalnum((unsigned char)*word) ? *word : '_';
	to[n] = '\0';
}

static void append_label(char *to, size_t size, const char *key,
			 const char *value)
{
	size_t n = strlen(to);

	n += (size_t)snprintf(to + n, size - n, "%s%s=\"", n ? "," : "", key);
	for (; *value && n + 4 < size; value++) {
		if (*value == '"' || *value == '\\')
			to[n++] = '\\';
		to[n++] = *value == '\n' ? ' ' : *value;
	}
	snprintf(to + n, size - n, "\"");
}

static void walk(const json_t *v, const struct path *at);

static void walk_array(const json_t *list, const struct path *at,
		       const char *key)
{
	const json_t *v;
	size_t i;

	json_array_foreach (list, i, v) {
		const char *name =
			json_string_value(json_object_get(v, "name"));
		struct path p = *at;
		char number[24];

		if (json_object_get(v, "page"))
			snprintf(number, sizeof(number), "%d.%d",
				 (int)json_integer_value(
					 json_object_get(v, "bar")),
				 (int)json_integer_value(
					 json_object_get(v, "page")));
		else
			snprintf(number, sizeof(number), "%zu", i);
		append_label(p.labels, sizeof(p.labels), key,
			     name ? name : number);
		walk(v, &p);
	}
}

static void walk(const json_t *v, const struct path *at)
{
	const char *key;
	const json_t *inner;

	if (json_is_number(v))
		printf("%s{%s} %.17g\n", at->name, at->labels,
		       json_number_value(v));
	else if (json_is_boolean(v))
		printf("%s{%s} %d\n", at->name, at->labels, json_is_true(v));
	if (!json_is_object(v))
		return;
	json_object_foreach ((json_t *)v, key, inner) {
		struct path p = *at;

		append_name(p.name, sizeof(p.name), key);
		if (json_is_array(inner))
			walk_array(inner, &p, key);
		else
			walk(inner, &p);
	}
}

static int one(const char *dir, const char *name, struct err *e)
{
	struct path p = { .name = "pagurus" };
	json_t *status = NULL;
	struct ctl_client *c;
	int ret = ctl_connect(&c, dir, name, e);

	if (ret < 0)
		return ret;
	ctl_patience(c, CTL_PATIENCE_MS);
	ret = ctl_ask(c, "status", NULL, NULL, NULL, &status, e);
	ctl_close(c);
	if (ret < 0)
		return ret;
	append_label(p.labels, sizeof(p.labels), "name", name);
	walk(status, &p);
	json_decref(status);
	return 0;
}

struct all {
	const char *dir;
	bool stuck; /* one of them */
};

static void each(void *opaque, const char *name)
{
	struct all *a = opaque;
	struct err e = { 0 };

	/* One that is just ending is no failure of the others. */
	if (one(a->dir, name, &e) != -ETIMEDOUT)
		return;
	cmd_fail("metrics", &e, -ETIMEDOUT);
	a->stuck = true;
}

int cmd_metrics(int argc, char **argv)
{
	struct all all = { .dir = NULL };
	const struct opt opts[] = {
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &all.dir },
		{ 0 },
	};
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n > 1)
		return opt_misuse(&usage, "one NAME at most");
	ret = n == 1 ? one(all.dir, argv[1], &e)
		     : ctl_each(all.dir, each, &all, &e);
	return ret < 0 ? cmd_fail("metrics", &e, ret) : all.stuck;
}
