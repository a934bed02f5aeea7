/*
 * pagurus migrate, pagurus check: move a VM, or say what moving it would do.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"
#include "migrate/mig.h"
#include "migrate/report.h"

static const struct opt_usage migrate_usage = {
	.synopsis = "migrate [OPTIONS] VM DEST",
	.about = "Move a running VM, its passed-through devices attached, to a "
		 "'pagurus receive' at DEST. Until the hand-over nothing is "
		 "lost: if anything fails the VM goes on here.",
	.after =
		"DEST is HOST:PORT or unix:PATH. Ctrl-C cancels; a second one "
		"leaves\nthe migration alone and ends this command.\n\n"
		"Exit status: 0 the VM runs at DEST; 1 it still runs here; 2 "
		"neither, the\nhand-over is undecided and the message says "
		"what to do; 64 the command line\nis wrong.\n\n"
		"  pagurus migrate --tls /etc/pagurus/tls web1 "
		"hv2.example.net:4747\n"
		"  pagurus migrate --resolve web1       ask about an undecided "
		"one again",
};

static const struct opt_usage check_usage = {
	.synopsis = "check [OPTIONS] VM DEST",
	.about = "Ask the destination what it could put behind each device of "
		 "the VM, and print the decision with its inputs. Moves "
		 "nothing.",
	.after = "Exit status: 0 the VM could move; 1 it could not, or nobody "
		 "answered;\n64 the command line is wrong.",
};

struct args {
	const char *dir, *tls, *tls_name, *fallback, *report;
	uint64_t max_downtime, bandwidth, connections, zstd;
	bool insecure, json, cancel_on_stall, resolve, resume_here, quiet;
	bool verify;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signo)
{
	interrupted++;
}

static json_t *request(const struct args *a, const char *dest)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:b}",
			      "dest", dest, "max_downtime_ms",
			      (json_int_t)a->max_downtime, "bandwidth",
			      (json_int_t)a->bandwidth, "connections",
			      (json_int_t)a->connections, "zstd",
			      (json_int_t)a->zstd, "insecure", a->insecure,
			      "cancel_on_stall", a->cancel_on_stall, "verify",
			      a->verify, "measure", a->report != NULL);

	if (a->tls)
		json_object_set_new(o, "tls", json_string(a->tls));
	if (a->tls_name)
		json_object_set_new(o, "tls_name", json_string(a->tls_name));
	if (a->fallback)
		json_object_set_new(o, "fallback", json_string(a->fallback));
	return o;
}

/* ---- progress ---- */

struct view {
	const struct args *a;
	const char *vm;
	int cancels;
	bool shown;
	json_t *moved; /* the result, but for what is seen afterwards */
};

static double num(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

/* One more item of the line, if it still fits. */
static void item(char *s, size_t width, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void item(char *s, size_t width, const char *fmt, ...)
{
	char more[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(more, sizeof(more), fmt, ap);
	va_end(ap);
	if (strlen(s) + strlen(more) < width)
		strcat(s, more);
}

/*
 * A line that is wider than the terminal would not be written over, but
 * scroll; so what matters most comes first, and the rest as there is room.
 */
static void line(const json_t *ev)
{
	double left = num(ev, "remaining"), rate = num(ev, "rate");
	struct winsize w = { .ws_col = 80 };
	char s[256] = "";
	size_t width;

	ioctl(STDERR_FILENO, TIOCGWINSZ, &w);
	width = w.ws_col ? MIN(w.ws_col, sizeof(s)) : 80;
	item(s, width, "%-9s %.1f s",
	     json_string_value(json_object_get(ev, "phase")),
	     num(ev, "elapsed_ns") / 1e9);
	if (num(ev, "sent") > 0) {
		item(s, width, "  sent %.0f", num(ev, "sent") / 1e6);
		item(s, width, "  left %.0f MB", left / 1e6);
		item(s, width, "  %.0f MB/s", rate / 1e6);
	}
	/* Known after the first round. */
	if (num(ev, "dirty_rate") > 0)
		item(s, width, "  dirty %.0f MB/s",
		     num(ev, "dirty_rate") / 1e6);
	if (num(ev, "downtime_ns") > 0)
		item(s, width, "  outage %s%.0f ms",
		     strcmp(json_string_value(json_object_get(ev, "phase")),
			    "done")
			     ? "~"
			     : "",
		     num(ev, "downtime_ns") / 1e6);
	if (num(ev, "throttle") > 0)
		item(s, width, "  throttled %.0f%%", num(ev, "throttle"));
	if (rate > 0 && left > 0)
		item(s, width, "  eta %.0f s", left / rate);
	fprintf(stderr, "\r%s\033[K", s);
}

static void cancel(const struct view *v)
{
	struct ctl_client *c;
	struct err e = { 0 };

	if (ctl_connect(&c, v->a->dir, v->vm, &e) == 0) {
		if (ctl_ask(c, "cancel", NULL, NULL, NULL, NULL, &e) == 0)
			fputs("\ncancelling\n", stderr);
		ctl_close(c);
	}
	if (e.code)
		fprintf(stderr, "\npagurus migrate: %s\n", e.text);
}

static void summary(const json_t *o);

/* The rest is for the report only; nobody need wait for it to know this. */
static void moved(struct view *v, const json_t *ev)
{
	json_decref(v->moved);
	v->moved = json_deep_copy(ev);
	if (v->shown)
		fputc('\n', stderr);
	v->shown = false;
	if (!v->a->json)
		summary(ev);
	fflush(stdout);
}

static bool on_event(void *opaque, const json_t *ev)
{
	struct view *v = opaque;

	if (interrupted > v->cancels) {
		v->cancels = interrupted;
		if (interrupted > 1 || v->moved)
			return false;
		cancel(v);
	}
	/* Only a signal: nothing to show. */
	if (!ev)
		return true;
	if (json_object_get(ev, "outcome")) {
		moved(v, ev);
		return true;
	}
	if (v->a->json) {
		json_dumpf(ev, stdout, JSON_COMPACT);
		fputc('\n', stdout);
		fflush(stdout);
	} else if (!v->a->quiet && isatty(STDERR_FILENO)) {
		line(ev);
		v->shown = true;
	}
	return true;
}

static void summary(const json_t *o)
{
	const json_t *p, *d;
	size_t i;

	printf("%s %s\n", json_string_value(json_object_get(o, "vm")),
	       json_string_value(json_object_get(o, "outcome_text")));
	json_array_foreach (json_object_get(o, "plan"), i, d)
		printf("  device    %-6s %s: %s\n",
		       json_string_value(json_object_get(
			       json_object_get(d, "device"), "name")),
		       json_string_value(json_object_get(d, "action")),
		       json_string_value(json_object_get(d, "reason")));
	/* Nothing of this where it ended before any RAM moved. */
	if (num(o, "rounds") > 0 || num(o, "bytes") >= 1e5) {
		printf("  total     %.2f s, %.1f MB sent",
		       num(o, "total_ns") / 1e9, num(o, "bytes") / 1e6);
		if (num(o, "rounds") > 0)
			printf(" in %.0f rounds", num(o, "rounds"));
		printf(" (%s)\n",
		       json_string_value(json_object_get(o, "transport")));
	}
	if (num(o, "downtime_ns") <= 0)
		return;
	printf("  outage    %.1f ms:", num(o, "downtime_ns") / 1e6);
	json_array_foreach (json_object_get(o, "phases"), i, p)
		if (json_is_true(json_object_get(p, "outage")))
			printf(" %s %.1f",
			       json_string_value(json_object_get(p, "phase")),
			       num(p, "ns") / 1e6);
	putchar('\n');
}

/* That the report can be written is seen before there is one to write. */
static int try_report(const char *path, struct err *e)
{
	bool there = access(path, F_OK) == 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0)
		return err_sys(e, -errno, "report %s", path);
	close(fd);
	if (!there)
		unlink(path);
	return 0;
}

static int migrate(const struct args *a, const char *vm, const char *dest,
		   struct err *e)
{
	const struct sigaction sa = { .sa_handler = on_interrupt };
	struct view v = { .a = a, .vm = vm };
	json_t *result = NULL;
	struct ctl_client *c;
	struct err why = { 0 };
	int out, ret;

	ret = a->report ? try_report(a->report, e) : 0;
	if (ret < 0)
		return ret;
	ret = ctl_connect(&c, a->dir, vm, e);
	if (ret < 0)
		return ret;
	sigaction(SIGINT, &sa, NULL);
	ret = ctl_ask(c, "migrate", request(a, dest), on_event, &v, &result, e);
	ctl_close(c);
	if (v.shown)
		fputc('\n', stderr);
	/* It has moved, whatever became of who would have said more of it. */
	if (ret < 0 && v.moved) {
		result = json_incref(v.moved);
		err_clear(e);
		ret = 0;
	}
	if (ret < 0)
		return ret;
	out = (int)num(result, "outcome");
	if (a->json) {
		json_dumpf(result, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		if (!v.moved)
			summary(result);
		if (out != MIG_RUNS_THERE)
			fprintf(stderr, "pagurus migrate: %s\n",
				json_string_value(
					json_object_get(result, "reason")));
	}
	/* The VM has moved or not; a report that fails changes neither. */
	if (a->report && mig_report_write(a->report, result, &why) < 0)
		fprintf(stderr, "pagurus migrate: %s\n", why.text);
	else if (a->report && !a->json)
		printf("  report    %s\n", a->report);
	json_decref(v.moved);
	json_decref(result);
	return out;
}

static int resolve(const struct args *a, const char *vm, struct err *e)
{
	json_t *result = NULL;
	struct ctl_client *c;
	int ret = ctl_connect(&c, a->dir, vm, e), out;

	if (ret < 0)
		return ret;
	ret = ctl_ask(c, "resolve",
		      json_pack("{s:b}", "resume_here", a->resume_here), NULL,
		      NULL, &result, e);
	ctl_close(c);
	if (ret == -ETIMEDOUT) {
		fprintf(stderr, "pagurus migrate: %s\n", e->text);
		return MIG_UNDECIDED;
	}
	if (ret < 0)
		return ret;
	out = (int)num(result, "outcome");
	puts(out == MIG_RUNS_THERE ? "it runs at the destination"
				   : "it runs here");
	json_decref(result);
	return out;
}

int cmd_migrate(int argc, char **argv)
{
	struct args a = { .max_downtime = 300 };
	const struct opt opts[] = {
		{ "max-downtime", 0, "MS", "switch over when it fits (300)",
		  OPT_U64, &a.max_downtime },
		{ "bandwidth", 0, "BYTES", "a second at most, K M G (no cap)",
		  OPT_SIZE, &a.bandwidth },
		{ "connections", 0, "N",
		  "for RAM, 1 to 16 (2; with TLS 2 to 4, as cores allow)",
		  OPT_U64, &a.connections },
		{ "zstd", 0, "LEVEL", "compress RAM, 1 to 19 (off)", OPT_U64,
		  &a.zstd },
		{ "fallback", 0, "software",
		  "accept the software NIC where there is no hardware", OPT_STR,
		  &a.fallback },
		{ "cancel-on-stall", 0, NULL,
		  "give up, rather than have a longer outage, when the guest "
		  "dirties memory too fast",
		  OPT_FLAG, &a.cancel_on_stall },
		{ "verify", 0, NULL,
		  "compare all of RAM at switch-over; a longer outage",
		  OPT_FLAG, &a.verify },
		{ "tls", 0, "DIR", "ca.pem, cert.pem, key.pem", OPT_STR,
		  &a.tls },
		{ "tls-name", 0, "NAME",
		  "in the destination's certificate (DEST's host)", OPT_STR,
		  &a.tls_name },
		{ "insecure", 0, NULL, "plain TCP is meant", OPT_FLAG,
		  &a.insecure },
		{ "report", 0, "FILE.html", "write a report", OPT_STR,
		  &a.report },
		{ "json", 0, NULL, "progress and result as JSON lines",
		  OPT_FLAG, &a.json },
		{ "quiet", 'q', NULL, "no progress", OPT_FLAG, &a.quiet },
		{ "resolve", 0, NULL,
		  "VM: ask the destination of an undecided hand-over again",
		  OPT_FLAG, &a.resolve },
		{ "resume-here", 0, NULL,
		  "VM: that destination is certainly down, go on here",
		  OPT_FLAG, &a.resume_here },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &a.dir },
		{ 0 },
	};
	struct err e = { 0 };
	int n = opt_parse(opts, &migrate_usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n != (a.resolve || a.resume_here ? 1 : 2))
		return opt_misuse(&migrate_usage, "VM and DEST are needed");
	ret = n == 1 ? resolve(&a, argv[1], &e)
		     : migrate(&a, argv[1], argv[2], &e);
	return ret < 0 ? cmd_fail("migrate", &e, ret) : ret;
}

static void print_plan(const json_t *result)
{
	const json_t *d;
	size_t i;

	json_array_foreach (json_object_get(result, "plan"), i, d) {
		const json_t *dev = json_object_get(d, "device");
		const json_t *offer = json_object_get(d, "offer");

		printf("%s: %s\n  %s\n  here   %s %s/%s version %.0f\n",
		       json_string_value(json_object_get(dev, "name")),
		       json_string_value(json_object_get(d, "action")),
		       json_string_value(json_object_get(d, "reason")),
		       json_string_value(json_object_get(dev, "backing")),
		       json_string_value(json_object_get(dev, "family")),
		       json_string_value(json_object_get(dev, "type")),
		       num(dev, "version"));
		if (!json_string_value(json_object_get(offer, "family"))[0]) {
			puts("  there  none");
			continue;
		}
		printf("  there  %s %s/%s version %.0f  %s\n",
		       json_string_value(json_object_get(offer, "backing")),
		       json_string_value(json_object_get(offer, "family")),
		       json_string_value(json_object_get(offer, "type")),
		       num(offer, "version"),
		       json_string_value(json_object_get(offer, "name")));
	}
	puts(json_is_true(json_object_get(result, "possible"))
		     ? "it can move"
		     : "it cannot move");
}

int cmd_check(int argc, char **argv)
{
	struct args a = { .max_downtime = 300, .connections = 1 };
	const struct opt opts[] = {
		{ "fallback", 0, "software",
		  "accept the software NIC where there is no hardware", OPT_STR,
		  &a.fallback },
		{ "tls", 0, "DIR", "ca.pem, cert.pem, key.pem", OPT_STR,
		  &a.tls },
		{ "tls-name", 0, "NAME",
		  "in the destination's certificate (DEST's host)", OPT_STR,
		  &a.tls_name },
		{ "insecure", 0, NULL, "plain TCP is meant", OPT_FLAG,
		  &a.insecure },
		{ "json", 0, NULL, "print JSON", OPT_FLAG, &a.json },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &a.dir },
		{ 0 },
	};
	struct err e = { 0 };
	json_t *result = NULL;
	struct ctl_client *c;
	int n = opt_parse(opts, &check_usage, argc, argv), ret;
	bool possible;

	if (n < 0)
		return opt_exit(n);
	if (n != 2)
		return opt_misuse(&check_usage, "VM and DEST are needed");
	ret = ctl_connect(&c, a.dir, argv[1], &e);
	if (ret == 0) {
		ret = ctl_ask(c, "check", request(&a, argv[2]), NULL, NULL,
			      &result, &e);
		ctl_close(c);
	}
	if (ret < 0)
		return cmd_fail("check", &e, ret);
	if (a.json) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_plan(result);
	}
	possible = json_is_true(json_object_get(result, "possible"));
	json_decref(result);
	return possible ? 0 : 1;
}
