/*
 * Runs every case of a corpus program four ways: alone, under the oracle,
 * with in-process probes and with ptrace probes; and demands that what it
 * computes is the same each time and that entries and exits are the oracle's.
 *
 * usage: compare CORPUS PRELOAD PAGURUS [CASE...]
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oracle.h"
#include "probe/share.h"

#define OUT_MAX	  4096
#define CASES_MAX 64

static const char *corpus, *preload, *pagurus;
static char share_path[64];
static int failures;

struct counts {
	char name[SHARE_NAME];
	long n[EVENT_KINDS];
};

struct result {
	char out[OUT_MAX];
	int code;
	struct counts *c;
	size_t n;
};

/* Case by case: what an engine option is expected to break. */
static const struct {
	const char *name;
	bool unwinds;	/* cannot live with swapped addresses */
	bool forks;	/* a child repeats its parent's exits */
	bool no_oracle; /* too long to be stepped */
} traits[] = {
	{ .name = "exception", .unwinds = true },
	{ .name = "cleanup", .unwinds = true },
	{ .name = "rethrow", .unwinds = true },
	{ .name = "unwind-deep", .unwinds = true },
	{ .name = "threads", .unwinds = true }, /* pthread_exit */
	{ .name = "fork", .forks = true },
	{ .name = "vfork", .forks = true },
	{ .name = "million", .no_oracle = true },
	{ .name = "" },
};

static unsigned int trait(const char *name)
{
	unsigned int i = 0;

	while (traits[i].name[0] && strcmp(traits[i].name, name))
		i++;
	return i;
}

static void fail(const char *what, const char *which, const char *why)
{
	printf("FAIL %s (%s): %s\n", what, which, why);
	failures++;
}

/* Run argv, its standard output into out; exit status, or 128 + signal. */
static int run(char *const argv[], char *const env[], char *out, size_t size)
{
	int pipes[2], status;
	size_t got = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		exit(2);
	pid = fork();
	if (!pid) {
		dup2(pipes[1], 1);
		alarm(60);
		for (; env && *env; env++)
			putenv(*env);
		execv(argv[0], argv);
		_exit(127);
	}
	close(pipes[1]);
	while ((n = read(pipes[0], out + got, size - 1 - got)) > 0)
		got += (size_t)n;
	out[got] = '\0';
	close(pipes[0]);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void run_inproc(const char *name, const char *options, struct result *r)
{
	char *argv[] = { (char *)corpus, (char *)name, NULL };
	char load[512], share[128], opt[64], pat[] = "PAGURUS_PROBE=[a-z]_*";
	char *env[] = { load, share, opt, pat, NULL };
	struct err e = { 0 };
	struct share *s;

	snprintf(load, sizeof(load), "LD_PRELOAD=%s", preload);
	snprintf(share, sizeof(share), "PAGURUS_PROBE_SHARE=%s", share_path);
	snprintf(opt, sizeof(opt), "PAGURUS_PROBE_OPTIONS=%s", options);
	memset(r, 0, sizeof(*r));
	unlink(share_path);
	r->code = run(argv, env, r->out, OUT_MAX);
	if (share_open(&s, share_path, &e) < 0)
		return;
	if (s->error[0])
		printf("     %s\n", s->error);
	r->c = calloc(s->nfunc + 1, sizeof(*r->c));
	r->n = s->nfunc;
	for (uint32_t i = 0; i < s->nfunc; i++) {
		memcpy(r->c[i].name, s->func[i].name, SHARE_NAME);
		for (int k = 0; k < EVENT_KINDS; k++)
			r->c[i].n[k] = (long)s->func[i].count[k];
	}
	share_close(s);
	unlink(share_path);
}

/* The program's output is followed by one line of JSON, which is ours. */
static void run_ptrace(const char *name, struct result *r)
{
	static const char *const keys[EVENT_KINDS] = { "entry", "exit", "jump",
						       "abandoned" };
	char *argv[] = { (char *)pagurus, "probe",   "--json", "--count",
			 "--children",	  "[a-z]_*", "--",     (char *)corpus,
			 (char *)name,	  NULL };
	static char out[1 << 20];
	json_t *top, *list, *o;
	char *line;
	size_t i;

	memset(r, 0, sizeof(*r));
	r->code = run(argv, NULL, out, sizeof(out));
	line = strstr(out, "{\"functions\"");
	top = line ? json_loads(line, 0, NULL) : NULL;
	if (line)
		*line = '\0';
	snprintf(r->out, sizeof(r->out), "%.4000s", out);
	list = json_object_get(top, "functions");
	r->c = calloc(json_array_size(list) + 1, sizeof(*r->c));
	json_array_foreach (list, i, o) {
		struct counts *c = &r->c[r->n++];

		snprintf(c->name, sizeof(c->name), "%s",
			 json_string_value(json_object_get(o, "function")));
		for (int k = 0; k < EVENT_KINDS; k++)
			c->n[k] =
				json_integer_value(json_object_get(o, keys[k]));
	}
	json_decref(top);
}

static const struct counts *find(const struct result *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (!strcmp(r->c[i].name, name))
			return &r->c[i];
	return NULL;
}

static void compare(const char *name, const char *how,
		    const struct result *native, const struct oracle *o,
		    const struct result *r)
{
	bool forks = traits[trait(name)].forks;
	char why[256];
	long total = 0;

	if (r->code != native->code || strcmp(r->out, native->out)) {
		snprintf(why, sizeof(why),
			 "the program was disturbed: status %d, not %d",
			 r->code, native->code);
		fail(name, how, why);
		printf("     alone:  %s     probed: %s\n", native->out, r->out);
	}
	for (size_t i = 0; i < o->n; i++) {
		const struct oracle_func *f = &o->func[i];
		const struct counts *c = find(r, f->name);
		long in = c ? c->n[EVENT_ENTRY] : -1;
		long out = c ? c->n[EVENT_EXIT] : -1;
		long gone = c ? c->n[EVENT_ABANDONED] : 0;

		total += f->entries;
		if (in != f->entries || out != f->exits ||
		    (!forks && in - out != gone)) {
			snprintf(why, sizeof(why),
				 "%s: %ld entries, %ld exits, %ld abandoned;"
				 " the oracle saw %ld and %ld",
				 f->name, in, out, gone, f->entries, f->exits);
			fail(name, how, why);
		}
	}
	if (!total)
		fail(name, how, "the oracle counted nothing");
}

static void one_case(const char *name, struct oracle *o)
{
	static const char *const ways[] = { "exj", "exm", "exs", "exJ",
					    "exJC" };
	char *argv[] = { (char *)corpus, (char *)name, NULL };
	unsigned int t = trait(name);
	struct result native = { .n = 0 }, r;
	char out[OUT_MAX];
	int code;

	native.code = run(argv, NULL, native.out, OUT_MAX);
	code = oracle_run(o, argv, out, sizeof(out));
	if (code != native.code || strcmp(out, native.out))
		fail(name, "oracle", "the oracle disturbed the program");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (traits[t].unwinds && strchr(ways[i], 's'))
			continue;
		/* Counters are private: those of a child go with it. */
		if (traits[t].forks && strchr(ways[i], 'C'))
			continue;
		run_inproc(name, ways[i], &r);
		compare(name, ways[i], &native, o, &r);
		free(r.c);
	}
	run_ptrace(name, &r);
	compare(name, "ptrace", &native, o, &r);
	free(r.c);
	printf("%s: %ld steps\n", name, o->steps);
}

static long line_value(const char *out, const char *key)
{
	const char *p = strstr(out, key);

	return p ? atol(p + strlen(key)) : -1;
}

/* Every exit of a recursion a million deep, in bounded stack and memory. */
static void million(const char *options)
{
	const struct counts *odd, *even;
	struct result r;
	char why[128];
	long stack, memory, in, out;

	run_inproc("million", options, &r);
	stack = line_value(r.out, "stack-kib ");
	memory = line_value(r.out, "memory-kib ");
	odd = find(&r, "r_odd");
	even = find(&r, "r_even");
	in = odd && even ? odd->n[EVENT_ENTRY] + even->n[EVENT_ENTRY] : -1;
	out = odd && even ? odd->n[EVENT_EXIT] + even->n[EVENT_EXIT] : -1;
	snprintf(why, sizeof(why),
		 "%ld entries, %ld exits, %ld KiB stack, %ld KiB memory", in,
		 out, stack, memory);
	if (r.code || in != 1000001 || out != 1000001 || stack < 0 ||
	    stack >= 64 || memory < 0 || memory >= 65536)
		fail("million", options, why);
	else
		printf("million (%s): %s\n", options, why);
	free(r.c);
}

/* The test of the tests: without the copied frame this case must break. */
static void needs_copy(void)
{
	char *argv[] = { (char *)corpus, (char *)"stack-args", NULL };
	struct result native, r;

	native.code = run(argv, NULL, native.out, OUT_MAX);
	run_inproc("stack-args", "exc", &r);
	if (r.code == native.code && !strcmp(r.out, native.out))
		fail("stack-args", "exc",
		     "right although no frame was copied: it tests nothing");
	else
		printf("stack-args: broken without the copy, as it must be\n");
	free(r.c);
}

static int list_cases(char names[CASES_MAX][32])
{
	char *argv[] = { (char *)corpus, NULL };
	char out[OUT_MAX], *save = NULL;
	int n = 0;

	run(argv, NULL, out, OUT_MAX);
	for (char *p = strtok_r(out, "\n", &save); p && n < CASES_MAX;
	     p = strtok_r(NULL, "\n", &save))
		snprintf(names[n++], 32, "%s", p);
	return n;
}

int main(int argc, char **argv)
{
	static char names[CASES_MAX][32];
	struct oracle o;
	int n;

	if (argc < 4)
		return 2;
	corpus = argv[1];
	preload = argv[2];
	pagurus = argv[3];
	setenv("LD_BIND_NOW", "1", 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(share_path, sizeof(share_path), "/tmp/pagurus-compare-%d",
		 getpid());
	if (oracle_open(&o, corpus) < 0) {
		printf("FAIL %s: not a corpus program\n", corpus);
		return 1;
	}
	n = list_cases(names);
	for (int i = 0; i < n; i++) {
		bool asked = argc == 4;

		for (int k = 4; k < argc; k++)
			asked |= !strcmp(argv[k], names[i]);
		if (!asked)
			continue;
		if (!strcmp(names[i], "million")) {
			million("ex");
			million("exJ");
			million("exJC");
		} else {
			one_case(names[i], &o);
		}
		if (!strcmp(names[i], "stack-args"))
			needs_copy();
	}
	oracle_close(&o);
	printf("%d failures\n", failures);
	return failures != 0;
}
