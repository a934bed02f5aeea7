/*
 * The corpus under this and other tracers, in one run: whose counts are right,
 * who loses events, who invents some, who kills the program or changes what
 * it computes.  The truth is the single-stepping oracle's, as for compare.
 *
 * A tool that is not installed, or cannot work here, is skipped by name, with
 * its own words.  It fails only if ours is not right everywhere.
 *
 * usage: peers CORPUS CORPUS-PG PRELOAD PAGURUS GDB-SCRIPT [CASE...]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "peers.h"

#define PEERS_MAX 16
#define OURS	  3 /* the first of the table are */

/* What a case does by itself. */
struct truth_of {
	struct run_result native;
	struct oracle_func *func;
	size_t n;
};

struct score {
	size_t cases, right, lost, invented, killed;
	long events, lost_events, invented_events;
};

static struct peer_setup setup;
static char names[RUN_CASES][32];
static int ncases;
static struct truth_of truths[RUN_CASES][2]; /* [1]: of corpus_pg */
static struct run_result results[PEERS_MAX][RUN_CASES];
static char skipped[PEERS_MAX][512];

/* What it cost is a case's last words but one, and no result. */
static void drop_costs(char *out)
{
	char *p;

	while ((p = strstr(out, "-kib "))) {
		char *from = p, *to = strchr(p, '\n');

		while (from > out && from[-1] != '\n')
			from--;
		to = to ? to + 1 : p + strlen(p);
		memmove(from, to, strlen(to) + 1);
	}
}

static void learn(struct oracle *o, const char *corpus, const char *name,
		  struct truth_of *t)
{
	char *argv[] = { (char *)corpus, (char *)name, NULL };
	char out[RUN_OUT];

	t->native.code = run_program(argv, NULL, t->native.out, RUN_OUT);
	drop_costs(t->native.out);
	if (run_trait(name)->no_oracle) {
		for (size_t i = 0; i < o->n; i++)
			o->func[i].entries = o->func[i].exits =
				!strcmp(o->func[i].name, "r_even")  ? 500001
				: !strcmp(o->func[i].name, "r_odd") ? 500000
								    : 0;
	} else if (oracle_run(o, argv, out, sizeof(out)) != t->native.code ||
		   strcmp(out, t->native.out)) {
		printf("%s: the oracle disturbed it\n", name);
		exit(1);
	}
	t->n = o->n;
	t->func = calloc(o->n, sizeof(*t->func));
	if (!t->func)
		exit(2);
	memcpy(t->func, o->func, o->n * sizeof(*t->func));
}

static bool installed(const char *program)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null", program);
	return !system(cmd);
}

static void version(const struct peer *p)
{
	char cmd[128], line[256] = "";
	FILE *f;

	snprintf(cmd, sizeof(cmd), "%s --version 2>&1", p->program);
	f = popen(cmd, "r");
	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		pclose(f);
	printf("%-22s %s\n", p->name, line);
}

static void run_peer(size_t at)
{
	const struct peer *p = &peers[at];
	char *why = skipped[at];

	if (p->program && !installed(p->program)) {
		snprintf(why, sizeof(skipped[at]), "not installed");
		return;
	}
	if (p->program)
		version(p);
	if (p->begin && p->begin(&setup, why, sizeof(skipped[at])) < 0)
		return;
	for (int i = 0; i < ncases; i++)
		p->run(&setup, names[i], &results[at][i]);
	if (p->end)
		p->end(&setup);
	for (int i = 0; p->late && i < ncases; i++)
		p->late(&setup, names[i], &results[at][i]);
}

/* The difference between two counts, as lost or as invented. */
static void differ(long is, long should, struct score *s)
{
	s->events += should;
	if (is < should)
		s->lost_events += should - is;
	else
		s->invented_events += is - should;
}

static const char *judge(size_t at, int which, struct score *sum)
{
	struct run_result *r = &results[at][which];
	const struct truth_of *t = &truths[which][peers[at].pg];
	struct score s = { 0 };
	static char text[16];

	for (size_t i = 0; i < t->n; i++) {
		const struct run_counts *c = run_find(r, t->func[i].name);

		differ(c ? c->n[EVENT_ENTRY] : 0, t->func[i].entries, &s);
		differ(c ? c->n[EVENT_EXIT] : 0, t->func[i].exits, &s);
	}
	drop_costs(r->out);
	text[0] = '\0';
	if (r->code != t->native.code || strcmp(r->out, t->native.out)) {
		strcat(text, r->code == RUN_HUNG ? "hung "
			     : r->code > 128	 ? "killed "
						 : "broken ");
		sum->killed++;
	}
	if (s.lost_events)
		strcat(text, "L");
	if (s.invented_events)
		strcat(text, "I");
	sum->cases++;
	sum->events += s.events;
	sum->lost_events += s.lost_events;
	sum->invented_events += s.invented_events;
	sum->lost += s.lost_events > 0;
	sum->invented += s.invented_events > 0;
	if (!text[0]) {
		sum->right++;
		return "ok";
	}
	return text;
}

static bool print(void)
{
	struct score sum[PEERS_MAX] = { 0 };
	bool ours = true;

	printf("\n%-14s", "case");
	for (size_t p = 0; p < peers_count; p++)
		printf(" %-*s", (int)MAX(strlen(peers[p].name), 9ul),
		       peers[p].name);
	printf("\n");
	for (int i = 0; i < ncases; i++) {
		printf("%-14s", names[i]);
		for (size_t p = 0; p < peers_count; p++)
			printf(" %-*s", (int)MAX(strlen(peers[p].name), 9ul),
			       skipped[p][0] ? "-" : judge(p, i, &sum[p]));
		printf("\n");
	}
	printf("\n%-22s %6s %6s %9s %7s   %s\n", "of the cases", "right",
	       "lost", "invented", "killed", "events lost, invented of");
	for (size_t p = 0; p < peers_count; p++) {
		const struct score *s = &sum[p];

		if (skipped[p][0]) {
			printf("%-22s skipped: %s\n", peers[p].name,
			       skipped[p]);
			continue;
		}
		printf("%-22s %6zu %6zu %9zu %7zu   %ld, %ld of %ld\n",
		       peers[p].name, s->right, s->lost, s->invented, s->killed,
		       s->lost_events, s->invented_events, s->events);
		if (p < OURS && s->right != s->cases)
			ours = false;
	}
	return ours;
}

static void choose_cases(int argc, char **argv)
{
	char all[RUN_CASES][32];
	int n = run_cases(all);

	for (int i = 0; i < n; i++) {
		bool asked = argc == 6;

		for (int k = 6; k < argc; k++)
			asked |= !strcmp(argv[k], all[i]);
		if (asked)
			strcpy(names[ncases++], all[i]);
	}
}

int main(int argc, char **argv)
{
	char folder[] = "/tmp/pagurus-peers-XXXXXX", date[32];
	struct oracle o[2];
	time_t now = time(NULL);
	struct utsname u;

	if (argc < 6 || peers_count > PEERS_MAX)
		return 2;
	setup = (struct peer_setup){ .corpus = argv[1],
				     .corpus_pg = argv[2],
				     .gdb = argv[5],
				     .o = &o[0] };
	setup.folder = mkdtemp(folder);
	setvbuf(stdout, NULL, _IOLBF, 0);
	run_set_up(argv[1], argv[3], argv[4]);
	if (!setup.folder || oracle_open(&o[0], argv[1]) < 0 ||
	    oracle_open(&o[1], argv[2]) < 0)
		return 2;
	uname(&u);
	strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&now));
	printf("%s, Linux %s\n", date, u.release);
	choose_cases(argc, argv);
	for (int i = 0; i < ncases; i++) {
		learn(&o[0], argv[1], names[i], &truths[i][0]);
		learn(&o[1], argv[2], names[i], &truths[i][1]);
	}
	for (size_t p = 0; p < peers_count; p++)
		run_peer(p);
	rmdir(setup.folder);
	return print() ? 0 : 1;
}
