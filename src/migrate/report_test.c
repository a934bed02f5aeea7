#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/report.h"

#define MS   1000000ull
#define BASE 1000000000ull /* the migration's begin, on its clock */

#define RATE 4000ull /* frames a second, of 1000 bytes */

static struct mig_result result;
static struct mig_sample sample[100];
static struct mig_traffic traffic;

static struct mig_sample seen(uint64_t ms, uint64_t frames)
{
	return (struct mig_sample){ .at_ns = BASE + ms * MS,
				    .frames = frames,
				    .bytes = frames * 1000 };
}

/* Half a percent less while it is shadowed, nothing in the outage. */
static void make_traffic(void)
{
	uint64_t frames = 0, ms = 0;
	size_t n = 0;

	traffic = (struct mig_traffic){ .sample = sample };
	for (; ms < 300; ms += 50, frames += RATE / 20)
		sample[n++] = seen(ms, frames);
	traffic.mark[MIG_MARK_BEGIN] = sample[0];
	traffic.mark[MIG_MARK_ENGAGE] = sample[n++] = seen(ms, frames);
	for (; ms < 5000; ms += 100, frames += RATE / 10 - 2)
		sample[n++] = seen(ms, frames);
	traffic.mark[MIG_MARK_STOP] = sample[n++] = seen(ms, frames);
	traffic.mark[MIG_MARK_GONE] = sample[n++] = seen(ms + 20, frames);
	traffic.n = n;
	for (; traffic.nafter < 21; traffic.nafter++)
		traffic.after[traffic.nafter] = (struct mig_sample){
			.at_ns = traffic.nafter * 50 * MS,
			.frames = traffic.nafter * RATE / 20,
			.bytes = traffic.nafter * RATE / 20 * 1000,
		};
}

/* A migration of five seconds, and what it carried. */
static void make(void)
{
	static const uint64_t ns[MIG_DONE] = {
		[MIG_CONNECT] = 2 * MS,	 [MIG_CHECK] = 3 * MS,
		[MIG_PREPARE] = 40 * MS, [MIG_BASELINE] = 255 * MS,
		[MIG_ENGAGE] = 1 * MS,	 [MIG_PRECOPY] = 4699 * MS,
		[MIG_PAUSE] = 1 * MS,	 [MIG_DRAIN] = 2 * MS,
		[MIG_LAST_RAM] = 9 * MS, [MIG_STATE] = 1 * MS,
		[MIG_LOAD] = 5 * MS,	 [MIG_HANDOVER] = 1 * MS,
	};
	struct mig_result *r = &result;
	uint64_t at = BASE;

	*r = (struct mig_result){ .t0_ns = BASE,
				  .rounds = 2,
				  .bytes = 5000000,
				  .state_bytes = 9000,
				  .compared = true,
				  .transport = "plain" };
	for (int i = 0; i < MIG_DONE; at += ns[i++]) {
		r->phase_at[i] = ns[i] ? at : 0;
		r->phase_ns[i] = ns[i];
	}
	r->phase_at[MIG_DONE] = at;
	r->total_ns = at - BASE;
	r->downtime_ns = at - r->phase_at[MIG_PAUSE];
	r->round[0] =
		(struct mig_round){ 1024, 700, 4000000, 8000000, 30, 0, 0 };
	r->round[1] = (struct mig_round){ 30, 0, 1000000, 400000, 0, 28, 7 };
	r->plan.n = 1;
	strcpy(r->plan.d[0].device.name, "net0");
	r->plan.d[0].action = MIG_KEEP;
	strcpy(r->plan.d[0].reason, "a < b & \"c\"");
	make_traffic();
}

static json_t *as_json(enum mig_outcome outcome)
{
	return mig_result_json(&result, "<script>web", "host:1", outcome,
			       outcome ? "no more" : NULL, &traffic);
}

static json_t *sample_result(void)
{
	make();
	return as_json(MIG_RUNS_THERE);
}

/* The page of it; takes the object. */
static char *page(json_t *o)
{
	char path[] = "/tmp/pagurus-report-XXXXXX";
	char *buf = calloc(1, 100000);
	int fd = mkstemp(path);
	FILE *f;

	close(fd);
	assert_int_equal(mig_report_write(path, o, NULL), 0);
	f = fopen(path, "r");
	assert_true(fread(buf, 1, 99999, f) > 1000);
	assert_non_null(strstr(buf, "</html>\n"));
	fclose(f);
	unlink(path);
	json_decref(o);
	return buf;
}

static void the_json_holds_the_figures(void **state)
{
	json_t *o = sample_result(), *p;
	json_int_t sum = 0;
	size_t i;

	assert_non_null(o);
	assert_int_equal(json_array_size(json_object_get(o, "phases")),
			 MIG_DONE - 1); /* nothing was quiesced */
	json_array_foreach (json_object_get(o, "phases"), i, p)
		if (json_is_true(json_object_get(p, "outage")))
			sum += json_integer_value(json_object_get(p, "ns"));
	assert_int_equal(sum,
			 json_integer_value(json_object_get(o, "downtime_ns")));
	json_decref(o);
}

static void names_are_not_markup(void **state)
{
	char *buf = page(sample_result());

	assert_null(strstr(buf, "<script>"));
	assert_non_null(strstr(buf, "&lt;script&gt;web"));
	assert_non_null(strstr(buf, "a &lt; b &amp; &quot;c&quot;"));
	assert_non_null(strstr(buf, "</html>"));
	/* Nothing is loaded from anywhere. */
	assert_null(strstr(buf, "http"));
	assert_null(strstr(buf, "src="));
	free(buf);
}

static double of(json_t *o, const char *part, const char *key)
{
	json_t *t = json_object_get(o, "traffic");

	return json_number_value(
		key ? json_object_get(json_object_get(t, part), key)
		    : json_object_get(t, part));
}

static void rates_before_during_and_after(void **state)
{
	json_t *o = sample_result();

	assert_float_equal(of(o, "before", "frames_per_s"), 4000, 0.01);
	assert_float_equal(of(o, "before", "bytes_per_s"), 4000000, 0.01);
	assert_float_equal(of(o, "before", "ns"), 300e6, 0.01);
	assert_float_equal(of(o, "shadowing", "frames_per_s"), 3980, 0.01);
	assert_float_equal(of(o, "shadowing", "at_ns"), 300e6, 0.01);
	assert_float_equal(of(o, "outage", "frames"), 0, 0.01);
	assert_float_equal(of(o, "outage", "ns"), 20e6, 0.01);
	assert_float_equal(of(o, "after", "frames_per_s"), 4000, 0.01);
	assert_float_equal(of(o, "shadowing_to_before", NULL), 0.995, 1e-6);
	assert_float_equal(of(o, "after_to_before", NULL), 1, 1e-6);
	assert_int_equal(json_array_size(json_object_get(o, "samples_after")),
			 21);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(o, "resent"), "pages")),
			 28);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(o, "resent"),
						   "changed_pages")),
		21);
	json_decref(o);
}

static void the_page_shows_all_three(void **state)
{
	char *buf = page(sample_result());

	assert_non_null(strstr(buf, "<td>before: direct at the source<td>"
				    "300.0&nbsp;ms<td>1,200<td>4,000<td>4.00"
				    "<td>100.0&nbsp;%"));
	assert_non_null(strstr(buf, "during: shadowed, the VM runs<td>"
				    "4.70&nbsp;s<td>18,706<td>3,980<td>3.98"
				    "<td>99.5&nbsp;%"));
	assert_non_null(
		strstr(buf, "<td>the outage<td>20.0&nbsp;ms<td>0<td>0"));
	assert_non_null(strstr(buf, "<td>after: at the destination<td>"
				    "1.00&nbsp;s<td>4,000<td>4,000<td>4.00"));
	assert_non_null(
		strstr(buf, "Dirty precision: 75.0&nbsp;%. Of 28 pages"));
	free(buf);
}

/* What was not seen is not shown, and no figure is made up for it. */
static void a_page_of_what_there_is(void **state)
{
	static const struct {
		const char *what;
		size_t n, nafter;
		unsigned int marks;
		enum mig_outcome out;
		uint64_t frames; /* 0: none were ever carried */
	} row[] = {
		{ "an old destination", 60, 0, 4, MIG_RUNS_THERE, 1 },
		{ "failed in pre-copy", 30, 0, 2, MIG_RUNS_HERE, 1 },
		{ "failed at once", 3, 0, 1, MIG_RUNS_HERE, 1 },
		{ "no sample at all", 0, 0, 0, MIG_RUNS_HERE, 1 },
		{ "no traffic", 60, 21, 4, MIG_RUNS_THERE, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		char *buf;
		json_t *o;

		make();
		traffic.n = MIN(traffic.n, row[i].n);
		traffic.nafter = row[i].nafter;
		for (unsigned int k = row[i].marks; k < MIG_MARKS; k++)
			traffic.mark[k].at_ns = 0;
		for (size_t k = 0; !row[i].frames && k < traffic.n; k++)
			sample[k].frames = 0;
		for (size_t k = 0; !row[i].frames && k < MIG_MARKS; k++)
			traffic.mark[k].frames = 0;
		for (size_t k = 0; !row[i].frames && k < traffic.nafter; k++)
			traffic.after[k].frames = 0;
		o = as_json(row[i].out);
		assert_true(!of(o, "after", "ns") == !row[i].nafter);
		assert_true(!of(o, "shadowing", "ns") == (row[i].marks < 2));
		buf = page(o);
		if (strstr(buf, "nan") || strstr(buf, "inf") ||
		    !strstr(buf, "</html>"))
			fail_msg("%s: a broken page", row[i].what);
		if (!strstr(buf, "after: at the destination") != !row[i].nafter)
			fail_msg("%s: after", row[i].what);
		if (!strstr(buf, "did not tell") !=
		    (row[i].nafter || row[i].out != MIG_RUNS_THERE))
			fail_msg("%s: what is missing", row[i].what);
		free(buf);
	}
}

/* Nobody listens there: no table of zeros, and none without rows. */
static void what_never_began_has_no_figures(void **state)
{
	static const char *const none[] = { "outage", "sent<b>",  "state<b>",
					    "rounds", "Rounds",	  "Connection",
					    "thrott", "Devices<", "Traffic" };
	struct mig_result r = { .t0_ns = 1000000, .total_ns = 400000 };
	char *buf;

	r.phase_at[MIG_CONNECT] = 1000000;
	r.phase_ns[MIG_CONNECT] = 400000;
	buf = page(mig_result_json(&r, "vm", "there", MIG_RUNS_HERE,
				   "nobody listens", NULL));
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		if (strstr(buf, none[i]))
			fail_msg("'%s' of nothing: %s", none[i], buf);
	assert_non_null(strstr(buf, "nobody listens"));
	assert_non_null(strstr(buf, "total<b>"));
	free(buf);
}

static void a_full_disk_is_said_and_leaves_no_half(void **state)
{
	char dir[] = "/tmp/pagurus-report-XXXXXX", path[64], tmp[96];
	struct rlimit none = { 0 }, was;
	json_t *o = sample_result();
	struct err e = { 0 };
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/r.html", dir);
	f = fopen(path, "w");
	fputs("old", f);
	fclose(f);
	/* No file may grow: writes fail as they do on a full disk. */
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	none.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_FSIZE, &none);
	assert_int_equal(mig_report_write(path, o, &e), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &was);
	assert_non_null(strstr(e.text, path));
	f = fopen(path, "r");
	assert_non_null(fgets(tmp, sizeof(tmp), f));
	fclose(f);
	assert_string_equal(tmp, "old");
	unlink(path);
	assert_int_equal(rmdir(dir), 0); /* nothing else is in it */
	err_clear(&e);

	assert_int_equal(mig_report_write("/nowhere/x.html", o, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nowhere/x.html"));
	json_decref(o);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_json_holds_the_figures),
		cmocka_unit_test(names_are_not_markup),
		cmocka_unit_test(rates_before_during_and_after),
		cmocka_unit_test(the_page_shows_all_three),
		cmocka_unit_test(a_page_of_what_there_is),
		cmocka_unit_test(what_never_began_has_no_figures),
		cmocka_unit_test(a_full_disk_is_said_and_leaves_no_half),
	};

	/* "report_test FILE": write the sample, to look at it. */
	if (argc == 2) {
		json_t *o = sample_result();
		int ret = mig_report_write(argv[1], o, NULL);

		json_decref(o);
		return ret < 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
