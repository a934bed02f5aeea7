#include <errno.h>
#include <signal.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "peers.h"

static void count(struct run_result *r, const char *name, size_t len,
		  enum probe_event_kind kind, long n)
{
	struct run_counts *c;
	char text[SHARE_NAME];

	if (len < 2 || len >= sizeof(text) || name[1] != '_' || *name < 'a' ||
	    *name > 'z')
		return;
	memcpy(text, name, len);
	text[len] = '\0';
	c = run_find(r, text);
	if (!c) {
		c = reallocarray(r->c, r->n + 1, sizeof(*c));
		if (!c)
			exit(2);
		r->c = c;
		c = &r->c[r->n++];
		memset(c, 0, sizeof(*c));
		memcpy(c->name, text, len + 1);
	}
	c->n[kind] += n;
}

static FILE *open_in(const struct peer_setup *s, const char *file)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", s->folder, file);
	return fopen(path, "r");
}

/* -- our own -- */

static void run_ours_ptrace(const struct peer_setup *s, const char *name,
			    struct run_result *r)
{
	run_ptrace(name, r);
}

static void run_ours_traps(const struct peer_setup *s, const char *name,
			   struct run_result *r)
{
	run_inproc(name, "ex", r);
}

static void run_ours_jumps(const struct peer_setup *s, const char *name,
			   struct run_result *r)
{
	run_inproc(name, "exJ", r);
}

/* -- uftrace: "123.4 77: [entry] d_f(55...) depth: 0" -- */

static void uftrace(const struct peer_setup *s, const char *corpus,
		    const char *name, bool patch, struct run_result *r)
{
	char data[512], cmd[1100], line[512];
	char *argv[16] = { "uftrace", "record",	     "--no-pager", "-d",
			   data,      "--max-stack", "65535" };
	int n = 7;
	FILE *f;

	memset(r, 0, sizeof(*r));
	snprintf(data, sizeof(data), "%s/uftrace", s->folder);
	if (patch) {
		argv[n++] = "--match=regex";
		argv[n++] = "-P";
		argv[n++] = "^[a-z]_.*";
	}
	argv[n++] = (char *)corpus;
	argv[n++] = (char *)name;
	r->code = run_limited(argv, NULL, r->out, sizeof(r->out), PEER_SECONDS);
	snprintf(cmd, sizeof(cmd),
		 "timeout 60 uftrace dump --no-pager -d %s 2>/dev/null", data);
	f = popen(cmd, "r");
	while (f && fgets(line, sizeof(line), f)) {
		bool in = strstr(line, ": [entry] ") != NULL;
		char *p = strstr(line, in ? ": [entry] " : ": [exit ] ");

		if (p)
			count(r, p + 10, strcspn(p + 10, "("),
			      in ? EVENT_ENTRY : EVENT_EXIT, 1);
	}
	if (f)
		pclose(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s %s.old", data, data);
	(void)!system(cmd);
}

static void run_uftrace_pg(const struct peer_setup *s, const char *name,
			   struct run_result *r)
{
	uftrace(s, s->corpus_pg, name, false, r);
}

static void run_uftrace(const struct peer_setup *s, const char *name,
			struct run_result *r)
{
	uftrace(s, s->corpus, name, true, r);
}

/*
 * -- ltrace: "77 d_f(1, 2) = 3", or "77 d_f(1 <unfinished ...>" and later
 * "77 <... d_f resumed> ) = 3" --
 */

static void run_ltrace(const struct peer_setup *s, const char *name,
		       struct run_result *r)
{
	char out[512], line[4096];
	char *argv[] = { "ltrace",     "-f", "-o",
			 out,	       "-x", "?_*@MAIN",
			 "-e",	       "",   (char *)s->corpus,
			 (char *)name, NULL };
	FILE *f;

	memset(r, 0, sizeof(*r));
	snprintf(out, sizeof(out), "%s/ltrace", s->folder);
	r->code = run_limited(argv, NULL, r->out, sizeof(r->out), PEER_SECONDS);
	f = open_in(s, "ltrace");
	while (f && fgets(line, sizeof(line), f)) {
		char *p = line + strcspn(line, " ");

		p += strspn(p, " ");
		if (!strncmp(p, "<... ", 5)) {
			p += 5;
			count(r, p, strcspn(p, " "), EVENT_EXIT, 1);
			continue;
		}
		count(r, p, strcspn(p, "("), EVENT_ENTRY, 1);
		if (!strstr(p, "<unfinished") && !strstr(p, "<no return"))
			count(r, p, strcspn(p, "("), EVENT_EXIT, 1);
	}
	if (f)
		fclose(f);
	unlink(out);
}

/* -- gdb: a breakpoint an entry, a FinishBreakpoint an exit -- */

static void run_gdb(const struct peer_setup *s, const char *name,
		    struct run_result *r)
{
	char env[3][512], line[256], what[128];
	char *envp[] = { env[0], env[1], env[2], NULL };
	char *argv[] = { "gdb", "-nx", "-batch", "-x", (char *)s->gdb, NULL };
	static char ignored[1 << 16];
	long in, out;
	FILE *f;

	memset(r, 0, sizeof(*r));
	snprintf(env[0], sizeof(env[0]), "PEER_EXE=%s", s->corpus);
	snprintf(env[1], sizeof(env[1]), "PEER_CASE=%s", name);
	snprintf(env[2], sizeof(env[2]), "PEER_OUT=%s/gdb", s->folder);
	r->code =
		run_limited(argv, envp, ignored, sizeof(ignored), PEER_SECONDS);
	f = open_in(s, "gdb.counts");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "status %d", &r->code) == 1)
			continue;
		if (sscanf(line, "%127s %ld %ld", what, &in, &out) != 3)
			continue;
		count(r, what, strlen(what), EVENT_ENTRY, in);
		count(r, what, strlen(what), EVENT_EXIT, out);
	}
	if (f)
		fclose(f);
	f = open_in(s, "gdb.out");
	if (f) {
		size_t n = fread(r->out, 1, sizeof(r->out) - 1, f);

		r->out[n] = '\0';
		fclose(f);
	}
	snprintf(line, sizeof(line), "rm -f %.200s/gdb.*", s->folder);
	(void)!system(line);
}

/*
 * -- bpftrace: uprobes and uretprobes, one session for all cases.  Each case
 * runs by a name of its own, which the counts are kept by. --
 */

static pid_t bpf_pid;

static void bpf_script(const struct peer_setup *s, FILE *f)
{
	for (size_t i = 0; i < s->o->n; i++)
		fprintf(f,
			"uprobe:%s:%s { @e[comm, \"%s\"]++ }\n"
			"uretprobe:%s:%s { @x[comm, \"%s\"]++ }\n",
			s->corpus, s->o->func[i].name, s->o->func[i].name,
			s->corpus, s->o->func[i].name, s->o->func[i].name);
}

static int open_files(pid_t pid)
{
	char path[64];
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* What it says when it cannot: its own words. */
static int bpf_failed(const struct peer_setup *s, char *why, size_t size)
{
	FILE *f = open_in(s, "bpf.out");
	size_t n = f ? fread(why, 1, size - 1, f) : 0;

	why[n] = '\0';
	for (char *p = why; *p; p++)
		if (*p == '\n')
			*p = ' ';
	if (f)
		fclose(f);
	waitpid(bpf_pid, NULL, 0);
	bpf_pid = 0;
	return -EIO;
}

static int bpf_begin(const struct peer_setup *s, char *why, size_t size)
{
	uint64_t end = now_ns() + 60000000000ull;
	char script[512], out[512];
	int files = 0, same = 0, now;
	FILE *f;

	snprintf(script, sizeof(script), "%s/bpf.bt", s->folder);
	snprintf(out, sizeof(out), "%s/bpf.out", s->folder);
	f = fopen(script, "w");
	if (!f)
		return -errno;
	bpf_script(s, f);
	fclose(f);
	bpf_pid = fork();
	if (!bpf_pid) {
		if (!freopen(out, "w", stdout))
			_exit(127);
		dup2(1, 2);
		execlp("bpftrace", "bpftrace", script, NULL);
		_exit(127);
	}
	/* It does not say when all are attached; its files tell. */
	while (same < 10 && now_ns() < end) {
		usleep(200000);
		if (waitpid(bpf_pid, NULL, WNOHANG))
			return bpf_failed(s, why, size);
		now = open_files(bpf_pid);
		same = now == files && now > (int)s->o->n ? same + 1 : 0;
		files = now;
	}
	return 0;
}

static void bpf_end(const struct peer_setup *s)
{
	if (!bpf_pid)
		return;
	kill(bpf_pid, SIGINT);
	for (int i = 0; i < 600; i++) {
		if (waitpid(bpf_pid, NULL, WNOHANG))
			return;
		usleep(100000);
	}
	kill(bpf_pid, SIGKILL);
	waitpid(bpf_pid, NULL, 0);
}

static void run_bpf(const struct peer_setup *s, const char *name,
		    struct run_result *r)
{
	char path[512];
	char *argv[] = { path, (char *)name, NULL };

	memset(r, 0, sizeof(*r));
	snprintf(path, sizeof(path), "%s/%.15s", s->folder, name);
	if (link(s->corpus, path) < 0) {
		r->code = -errno;
		return;
	}
	r->code = run_limited(argv, NULL, r->out, sizeof(r->out), PEER_SECONDS);
	unlink(path);
}

static void late_bpf(const struct peer_setup *s, const char *name,
		     struct run_result *r)
{
	FILE *f = open_in(s, "bpf.out");
	char line[512], comm[32], func[128], map;
	long n;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "@%c[%31[^,], %127[^]]]: %ld", &map, comm,
			   func, &n) == 4 &&
		    !strncmp(comm, name, 15))
			count(r, func, strlen(func),
			      map == 'e' ? EVENT_ENTRY : EVENT_EXIT, n);
	if (f)
		fclose(f);
}

const struct peer peers[] = {
	{ .name = "pagurus, ptrace", .run = run_ours_ptrace },
	{ .name = "pagurus, in process", .run = run_ours_traps },
	{ .name = "pagurus, jump form", .run = run_ours_jumps },
	{ .name = "uftrace, compiled in",
	  .program = "uftrace",
	  .pg = true,
	  .run = run_uftrace_pg },
	{ .name = "uftrace -P", .program = "uftrace", .run = run_uftrace },
	{ .name = "bpftrace uretprobes",
	  .program = "bpftrace",
	  .begin = bpf_begin,
	  .end = bpf_end,
	  .run = run_bpf,
	  .late = late_bpf },
	{ .name = "ltrace -x", .program = "ltrace", .run = run_ltrace },
	{ .name = "gdb finish", .program = "gdb", .run = run_gdb },
};

const size_t peers_count = ARRAY_SIZE(peers);
