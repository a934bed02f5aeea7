#include "migrate/report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "migrate/report_priv.h"

static const char *const outcome_name[] = {
	[MIG_RUNS_THERE] = "runs at the destination",
	[MIG_RUNS_HERE] = "still runs at the source",
	[MIG_UNDECIDED] = "paused: the destination does not answer",
};

static json_t *phases_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (int i = 0; i < MIG_DONE; i++)
		if (r->phase_at[i])
			json_array_append_new(
				list,
				json_pack(
					"{s:s, s:I, s:I, s:b}", "phase",
					mig_phase_name((enum mig_phase)i),
					"at_ns",
					(json_int_t)(r->phase_at[i] - r->t0_ns),
					"ns", (json_int_t)r->phase_ns[i],
					"outage", i >= MIG_PAUSE));
	return list;
}

static json_t *rounds_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < MIN(r->rounds, MIG_ROUNDS_KEPT); i++) {
		const struct mig_round *k = &r->round[i];

		json_array_append_new(
			list,
			json_pack("{s:I, s:I, s:I, s:I, s:I}", "pages",
				  (json_int_t)k->pages, "zero_pages",
				  (json_int_t)k->zero_pages, "bytes",
				  (json_int_t)k->bytes, "ns", (json_int_t)k->ns,
				  "dirty_pages", (json_int_t)k->dirty_pages));
		if (!r->compared)
			continue;
		json_object_update_new(json_array_get(list, i),
				       json_pack("{s:I, s:I}", "resent_pages",
						 (json_int_t)k->again_pages,
						 "changed_pages",
						 (json_int_t)(k->again_pages -
							      k->same_pages)));
	}
	return list;
}

static json_t *parts_json(const struct mig_result *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < r->nparts; i++)
		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:I}", "name", r->part[i].name,
				  "save_ns", (json_int_t)r->part[i].save_ns,
				  "load_ns", (json_int_t)r->part[i].load_ns));
	return list;
}

static void set_traffic(json_t *o, const struct mig_result *r,
			const struct mig_traffic *t)
{
	json_object_set_new(o, "traffic", report_traffic_json(t, r->t0_ns));
	json_object_set_new(o, "samples",
			    report_samples_json(t->sample, t->n, r->t0_ns));
	json_object_set_new(o, "samples_after",
			    report_samples_json(t->after, t->nafter, 0));
}

/* Rounds beyond those kept share the last one's place. */
static json_t *resent_json(const struct mig_result *r)
{
	uint64_t pages = 0, same = 0;

	for (unsigned int i = 0; i < MIN(r->rounds, MIG_ROUNDS_KEPT); i++) {
		pages += r->round[i].again_pages;
		same += r->round[i].same_pages;
	}
	return json_pack("{s:I, s:I}", "pages", (json_int_t)pages,
			 "changed_pages", (json_int_t)(pages - same));
}

json_t *mig_result_json(const struct mig_result *r, const char *vm,
			const char *dest, enum mig_outcome outcome,
			const char *why, const struct mig_traffic *t)
{
	json_t *o = json_pack(
		"{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i, "
		"s:i, s:s, s:o, s:o, s:o}",
		"vm", vm, "destination", dest, "outcome", (int)outcome,
		"outcome_text", outcome_name[outcome], "reason", why ? why : "",
		"total_ns", (json_int_t)r->total_ns, "downtime_ns",
		(json_int_t)r->downtime_ns, "expected_ns",
		(json_int_t)r->expected_ns, "bytes", (json_int_t)r->bytes,
		"state_bytes", (json_int_t)r->state_bytes, "verified_pages",
		(json_int_t)r->verified, "rounds", (int)r->rounds, "throttle",
		(int)r->max_throttle, "transport", r->transport, "plan",
		mig_plan_json(&r->plan), "phases", phases_json(r), "round",
		rounds_json(r));

	if (o)
		json_object_set_new(o, "parts", parts_json(r));
	if (o && t)
		set_traffic(o, r, t);
	if (o && r->compared)
		json_object_set_new(o, "resent", resent_json(r));
	if (o && r->devices)
		json_object_set(o, "devices", r->devices);
	return o;
}

/* All of it, on the disk, or -errno. */
static int put_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int ret = 0;

	if (fd < 0)
		return -errno;
	while (!ret && len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			ret = -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	if (!ret && fsync(fd) < 0)
		ret = -errno;
	if (close(fd) < 0 && !ret)
		ret = -errno;
	return ret;
}

static int build(char **text, size_t *len, json_t *o)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		return -errno;
	report_html(f, o);
	return fclose(f) ? -errno : 0;
}

int mig_report_write(const char *path, json_t *o, struct err *e)
{
	char tmp[4096], *text = NULL;
	size_t len;
	int ret;

	if (snprintf(tmp, sizeof(tmp), "%s.tmp%d", path, (int)getpid()) >=
	    (int)sizeof(tmp))
		return err_set(e, -ENAMETOOLONG, "report '%s'", path);
	ret = build(&text, &len, o);
	if (!ret)
		ret = put_file(tmp, text, len);
	if (!ret && rename(tmp, path) < 0)
		ret = -errno;
	free(text);
	if (ret < 0) {
		unlink(tmp);
		return err_sys(e, ret, "writing the report %s", path);
	}
	return 0;
}
