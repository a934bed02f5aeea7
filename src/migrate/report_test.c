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

#include "migrate/report.h"

static json_t *sample_result(void)
{
	static struct mig_result r;
	struct mig_sample s[20];

	r = (struct mig_result){ .t0_ns = 1000,
				 .rounds = 2,
				 .bytes = 5000000,
				 .state_bytes = 9000,
				 .transport = "plain" };
	for (int i = 0; i <= MIG_DONE; i++) {
		r.phase_at[i] = 1000 + (uint64_t)i * 2000000;
		r.phase_ns[i] = i < MIG_DONE ? 2000000 : 0;
	}
	r.total_ns = MIG_DONE * 2000000ull;
	r.downtime_ns = (MIG_DONE - MIG_PAUSE) * 2000000ull;
	r.round[0] = (struct mig_round){ 1024, 700, 4000000, 8000000, 30 };
	r.round[1] = (struct mig_round){ 30, 0, 1000000, 400000, 0 };
	r.plan.n = 1;
	strcpy(r.plan.d[0].device.name, "net0");
	r.plan.d[0].action = MIG_KEEP;
	strcpy(r.plan.d[0].reason, "a < b & \"c\"");
	for (int i = 0; i < 20; i++)
		s[i] = (struct mig_sample){ (uint64_t)i * 1000000,
					    (uint64_t)i * 50, 0 };
	return mig_result_json(&r, "<script>web", "host:1", MIG_RUNS_THERE,
			       NULL, s, 20);
}

static void the_json_holds_the_figures(void **state)
{
	json_t *o = sample_result(), *p;
	json_int_t sum = 0;
	size_t i;

	assert_non_null(o);
	assert_int_equal(json_array_size(json_object_get(o, "phases")),
			 MIG_DONE);
	json_array_foreach (json_object_get(o, "phases"), i, p)
		if (json_is_true(json_object_get(p, "outage")))
			sum += json_integer_value(json_object_get(p, "ns"));
	assert_int_equal(sum,
			 json_integer_value(json_object_get(o, "downtime_ns")));
	json_decref(o);
}

static void names_are_not_markup(void **state)
{
	json_t *o = sample_result();
	char path[] = "/tmp/pagurus-report-XXXXXX", *buf;
	int fd = mkstemp(path);
	FILE *f;
	size_t n;

	close(fd);
	assert_int_equal(mig_report_write(path, o, NULL), 0);
	f = fopen(path, "r");
	buf = calloc(1, 100000);
	n = fread(buf, 1, 99999, f);
	fclose(f);
	unlink(path);
	assert_true(n > 2000);
	assert_null(strstr(buf, "<script>"));
	assert_non_null(strstr(buf, "&lt;script&gt;web"));
	assert_non_null(strstr(buf, "a &lt; b &amp; &quot;c&quot;"));
	assert_non_null(strstr(buf, "</html>"));
	/* Nothing is loaded from anywhere. */
	assert_null(strstr(buf, "http"));
	assert_null(strstr(buf, "src="));
	free(buf);
	json_decref(o);
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
