/*
 * pagurus status: ask one process of this host, or all of them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "cli/status_print.h"
#include "ctl/ctl.h"

static const struct opt_usage usage = {
	.synopsis = "status [OPTIONS] [NAME...]",
	.about = "Show the virtual machines that run here, or one of them with "
		 "its devices, the traps on their pages, and its exits; a PF "
		 "driver with its VFs; or the last events of several.",
	.after = "Exit status: 0; 1 no such process, or one does not "
		 "answer; 64\nthe command line is wrong.\n\n"
		 "  pagurus status\n"
		 "  pagurus status --json web1\n"
		 "  pagurus status --trace web1 pf0",
};

static int ask(const char *dir, const char *name, const char *method,
	       json_t **out, struct err *e)
{
	struct ctl_client *c;
	int ret = ctl_connect(&c, dir, name, e);

	if (ret < 0)
		return ret;
	ctl_patience(c, CTL_PATIENCE_MS);
	ret = ctl_ask(c, method, NULL, NULL, NULL, out, e);
	ctl_close(c);
	return ret;
}

struct all {
	const char *dir;
	json_t *list;
	bool stuck; /* one of them */
};

static void add(void *opaque, const char *name)
{
	struct all *a = opaque;
	struct err e = { 0 };
	json_t *one;
	int ret = ask(a->dir, name, "status", &one, &e);

	/* A socket nobody listens on any more is not a VM. */
	if (ret == 0)
		json_array_append_new(a->list, one);
	if (ret != -ETIMEDOUT)
		return;
	cmd_fail("status", &e, ret);
	a->stuck = true;
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

static long long num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_line(const json_t *vm)
{
	json_t *devs = json_object_get(vm, "devices");

	printf("%-16s %-8s %8lld %4lld %7lldM %4zu\n", str(vm, "name"),
	       str(vm, "state"), num(vm, "pid"), num(vm, "cpus"),
	       num(vm, "memory") >> 20, json_array_size(devs));
}

static void print_device(const json_t *d)
{
	json_t *counts = json_object_get(d, "counts"), *p, *why;
	size_t i, n;

	printf("\n%s  %s at %s, backing %s (%s)\n", str(d, "name"),
	       str(d, "model"), str(d, "address"), str(d, "backing"),
	       str(d, "pdev"));
	printf("    intercepted: %lld reads, %lld writes; mailbox page %lld, "
	       "doorbells %lld\n",
	       num(counts, "reads"), num(counts, "writes"),
	       num(counts, "mailbox_page"), num(counts, "doorbell"));
	json_array_foreach (json_object_get(d, "pages"), i, p) {
		printf("    BAR %lld page %lld  %-7s  %8lld reads %8lld "
		       "writes ",
		       num(p, "bar"), num(p, "page"),
		       json_is_true(json_object_get(p, "direct")) ? "direct"
								  : "trapped",
		       num(p, "reads"), num(p, "writes"));
		json_array_foreach (json_object_get(p, "reasons"), n, why)
			printf(" %s", json_string_value(why));
		putchar('\n');
	}
}

static void print_one(const json_t *vm)
{
	const char *reason;
	json_t *d, *n;
	size_t i;

	if (json_object_get(vm, "vfs")) {
		status_print_pf(stdout, vm);
		return;
	}
	printf("%s: %s, process %lld, %lld CPUs, %lld MiB, up %.0f s\n",
	       str(vm, "name"), str(vm, "state"), num(vm, "pid"),
	       num(vm, "cpus"), num(vm, "memory") >> 20,
	       json_real_value(json_object_get(vm, "uptime_s")));
	printf("exits:");
	json_object_foreach (json_object_get(vm, "exits"), reason, n)
		if (json_integer_value(n))
			printf("  %s %lld", reason,
			       (long long)json_integer_value(n));
	putchar('\n');
	json_array_foreach (json_object_get(vm, "devices"), i, d)
		print_device(d);
}

static void print_json(const json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2));
	putchar('\n');
}

#define TRACES_MAX 8u

/* Several processes of one host have one clock: their events are merged. */
static int traces(const char *dir, char **name, unsigned int n, bool json,
		  struct err *e)
{
	json_t *t[TRACES_MAX] = { NULL };
	unsigned int i;
	int ret = 0;

	for (i = 0; i < n && ret == 0; i++)
		ret = ask(dir, name[i], "trace", &t[i], e);
	if (ret == 0 && json)
		print_json(t[0]);
	else if (ret == 0)
		status_print_trace(stdout, (const json_t *const *)t,
				   (const char *const *)name, n);
	for (i = 0; i < n; i++)
		json_decref(t[i]);
	return ret < 0 ? cmd_fail("status", e, ret) : 0;
}

int cmd_status(int argc, char **argv)
{
	const char *dir = NULL;
	bool json = false, trace = false;
	const struct opt opts[] = {
		{ "json", 'j', NULL, "print JSON", OPT_FLAG, &json },
		{ "trace", 0, NULL,
		  "print the last mailbox events of NAME..., by time", OPT_FLAG,
		  &trace },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &dir },
		{ 0 },
	};
	struct err e = { 0 };
	struct all all = { .list = NULL };
	json_t *one;
	size_t i;
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n > 1 && (!trace || json))
		return opt_misuse(&usage, "one NAME at a time");
	if (trace && n < 1)
		return opt_misuse(&usage, "--trace of which NAME?");
	if (n > (int)TRACES_MAX)
		return opt_misuse(&usage, "%u traces at a time", TRACES_MAX);
	if (trace)
		return traces(dir, &argv[1], (unsigned int)n, json, &e);
	if (n == 1) {
		ret = ask(dir, argv[1], "status", &one, &e);
		if (ret < 0)
			return cmd_fail("status", &e, ret);
		if (json)
			print_json(one);
		else
			print_one(one);
		json_decref(one);
		return 0;
	}

	all = (struct all){ .dir = dir, .list = json_array() };
	ret = ctl_each(dir, add, &all, &e);
	if (ret == 0 && json) {
		print_json(all.list);
	} else if (ret == 0 && json_array_size(all.list)) {
		puts("NAME             STATE         PID CPUS      MEM DEVS");
		json_array_foreach (all.list, i, one)
			print_line(one);
	} else if (ret == 0 && !all.stuck) {
		puts("nothing runs here");
	}
	json_decref(all.list);
	return ret < 0 ? cmd_fail("status", &e, ret) : all.stuck;
}
