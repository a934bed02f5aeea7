#include "runs.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/share.h"

static const char *corpus, *preload, *pagurus;
static char share_path[64];

static const struct run_trait traits[] = {
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

const struct run_trait *run_trait(const char *name)
{
	unsigned int i = 0;

	while (traits[i].name[0] && strcmp(traits[i].name, name))
		i++;
	return &traits[i];
}

void run_set_up(const char *corpus_path, const char *preload_path,
		const char *pagurus_path)
{
	corpus = corpus_path;
	preload = preload_path;
	pagurus = pagurus_path;
	setenv("LD_BIND_NOW", "1", 1);
	snprintf(share_path, sizeof(share_path), "/tmp/pagurus-compare-%d",
		 getpid());
}

#define CHILDREN_MAX 64

static void children(pid_t list[CHILDREN_MAX])
{
	char path[64];
	int n = 0;
	FILE *f;

	memset(list, 0, CHILDREN_MAX * sizeof(*list));
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	f = fopen(path, "r");
	while (f && n < CHILDREN_MAX - 1 && fscanf(f, "%d", &list[n]) == 1)
		n++;
	if (f)
		fclose(f);
}

/* What a run left behind has become our child: all but those from before. */
static void kill_orphans(const pid_t before[CHILDREN_MAX])
{
	pid_t now[CHILDREN_MAX];
	bool again = true;

	while (again) {
		again = false;
		children(now);
		for (int i = 0; now[i]; i++) {
			int k = 0;

			while (before[k] && before[k] != now[i])
				k++;
			if (before[k])
				continue;
			kill(now[i], SIGKILL);
			waitpid(now[i], NULL, 0);
			again = true;
		}
	}
}

int run_limited(char *const argv[], char *const env[], char *out, size_t size,
		unsigned int seconds)
{
	uint64_t end = now_ns() + seconds * 1000000000ull, now;
	struct pollfd p = { .events = POLLIN };
	pid_t pid, done, before[CHILDREN_MAX];
	int pipes[2], status;
	size_t got = 0;
	ssize_t n;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	children(before);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		exit(2);
	pid = fork();
	if (!pid) {
		/* What it leaves behind must be found: a group of its own. */
		setpgid(0, 0);
		dup2(pipes[1], 1);
		for (; env && *env; env++)
			putenv(*env);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(pipes[1]);
	p.fd = pipes[0];
	while ((now = now_ns()) < end &&
	       poll(&p, 1, (int)((end - now) / 1000000) + 1) > 0 &&
	       (n = read(pipes[0], out + got, size - 1 - got)) > 0)
		got += (size_t)n;
	out[got] = '\0';
	close(pipes[0]);
	while (!(done = waitpid(pid, &status, WNOHANG)) && now_ns() < end)
		usleep(2000);
	kill(-pid, SIGKILL);
	if (!done)
		waitpid(pid, &status, 0);
	kill_orphans(before);
	if (!done)
		return RUN_HUNG;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_program(char *const argv[], char *const env[], char *out, size_t size)
{
	return run_limited(argv, env, out, size, 60);
}

void run_inproc(const char *name, const char *options, struct run_result *r)
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
	r->code = run_program(argv, env, r->out, RUN_OUT);
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
void run_ptrace(const char *name, struct run_result *r)
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
	r->code = run_program(argv, NULL, out, sizeof(out));
	line = strstr(out, "{\"functions\"");
	top = line ? json_loads(line, 0, NULL) : NULL;
	if (line)
		*line = '\0';
	snprintf(r->out, sizeof(r->out), "%.4000s", out);
	list = json_object_get(top, "functions");
	r->c = calloc(json_array_size(list) + 1, sizeof(*r->c));
	json_array_foreach (list, i, o) {
		struct run_counts *c = &r->c[r->n++];

		snprintf(c->name, sizeof(c->name), "%s",
			 json_string_value(json_object_get(o, "function")));
		for (int k = 0; k < EVENT_KINDS; k++)
			c->n[k] =
				json_integer_value(json_object_get(o, keys[k]));
	}
	json_decref(top);
}

struct run_counts *run_find(const struct run_result *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (!strcmp(r->c[i].name, name))
			return &r->c[i];
	return NULL;
}

int run_cases(char names[RUN_CASES][32])
{
	char *argv[] = { (char *)corpus, NULL };
	char out[RUN_OUT], *save = NULL;
	int n = 0;

	run_program(argv, NULL, out, RUN_OUT);
	for (char *p = strtok_r(out, "\n", &save); p && n < RUN_CASES;
	     p = strtok_r(NULL, "\n", &save))
		snprintf(names[n++], 32, "%s", p);
	return n;
}
