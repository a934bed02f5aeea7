/*
 * pagurus caps: what this host could put behind a VM's device.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"
#include "igb/gen.h"
#include "netdev/netvf.h"

static const struct opt_usage usage = {
	.synopsis = "caps [OPTIONS]",
	.about = "What this host can offer a VM's device: every VF of a family "
		 "Pagurus knows, with its generation and what it can do, and "
		 "for those that cannot be used now, why.",
	.after = "VFs of this host's PCI devices and of every running "
		 "'pagurus pf' are listed.\n\n"
		 "Exit status: 0 something is on offer; 1 nothing is; 64 the "
		 "command line\nis wrong.\n\n"
		 "  pagurus caps --json",
};

#define SYS "/sys/bus/pci/devices"

static unsigned int read_hex(const char *bdf, const char *attr)
{
	char path[300], buf[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), SYS "/%s/%s", bdf, attr);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(buf, sizeof(buf), f))
		buf[0] = '\0';
	fclose(f);
	return (unsigned int)strtoul(buf, NULL, 16);
}

/* The last part of where a link of the device points to, or "". */
static const char *link_name(const char *bdf, const char *attr, char *buf,
			     size_t size)
{
	char path[300];
	ssize_t n;
	char *slash;

	snprintf(path, sizeof(path), SYS "/%s/%s", bdf, attr);
	n = readlink(path, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	slash = strrchr(buf, '/');
	return slash ? slash + 1 : buf;
}

static json_t *entry(const char *name, const struct gen *g,
		     enum mig_backing backing, bool ours, const char *pf,
		     const char *why)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:s, "
			 "s:b, s:s}",
			 "vf", name, "backing", mig_backing_name(backing),
			 "family", g->type, "type", g->version, "version", 1,
			 "api", 0, "queues", (int)g->vf_queues, "vectors",
			 (int)g->vf_vectors, "features",
			 (json_int_t)netvf_features(g, ours), "pf", pf,
			 "usable", why[0] == '\0', "reason", why);
}

static const char *why_not(const char *bdf, char *buf, size_t size)
{
	char link[256];
	const char *driver = link_name(bdf, "driver", link, sizeof(link));

	if (strcmp(driver, "vfio-pci")) {
		snprintf(buf, size, "bound to %s, not to vfio-pci",
			 driver[0] ? driver : "no driver");
		return buf;
	}
	if (!link_name(bdf, "iommu_group", link, sizeof(link))[0])
		return "no IOMMU group: is the IOMMU on?";
	return "";
}

static void list_pci(json_t *list)
{
	DIR *d = opendir(SYS);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		char pf[256], link[256], why[128];
		const struct gen *g;

		if (de->d_name[0] == '.')
			continue;
		g = gen_by_vf((uint16_t)read_hex(de->d_name, "vendor"),
			      (uint16_t)read_hex(de->d_name, "device"));
		if (!g)
			continue;
		snprintf(pf, sizeof(pf), "%s",
			 link_name(de->d_name, "physfn", link, sizeof(link)));
		json_array_append_new(
			list, entry(de->d_name, g, MIG_HARDWARE, false, pf,
				    why_not(de->d_name, why, sizeof(why))));
	}
	if (d)
		closedir(d);
}

/* The VFs of a running `pagurus pf`; others on this host have none. */
static void list_pf(json_t *list, const json_t *st)
{
	const char *device = json_string_value(json_object_get(st, "pf"));
	const char *name = json_string_value(json_object_get(st, "generation"));
	const char *path = json_string_value(json_object_get(st, "socket"));
	const struct gen *g = name ? gen_by_name(name) : NULL;
	const json_t *vf;
	size_t i;

	if (!device || !g || !path)
		return;
	json_array_foreach (json_object_get(st, "vfs"), i, vf) {
		bool taken = json_is_true(json_object_get(vf, "claimed"));
		char spec[320], why[128] = "";

		snprintf(spec, sizeof(spec), "pf:%s,vf=%zu", path, i);
		if (taken)
			snprintf(why, sizeof(why), "'%s' has it",
				 json_string_value(json_object_get(vf, "who")));
		json_array_append_new(list,
				      entry(spec, g,
					    strncmp(device, "vfio-user:", 10)
						    ? MIG_HARDWARE
						    : MIG_SOFTWARE,
					    true, device, why));
	}
}

struct running {
	const char *dir;
	json_t *list;
};

static void each(void *opaque, const char *name)
{
	struct running *r = opaque;
	json_t *status = NULL;
	struct ctl_client *c;

	if (ctl_connect(&c, r->dir, name, NULL) < 0)
		return;
	ctl_patience(c, CTL_PATIENCE_MS);
	if (ctl_ask(c, "status", NULL, NULL, NULL, &status, NULL) == 0)
		list_pf(r->list, status);
	json_decref(status);
	ctl_close(c);
}

int cmd_caps(int argc, char **argv)
{
	struct running r = { .dir = NULL };
	bool json = false;
	const struct opt opts[] = {
		{ "json", 0, NULL, "print JSON", OPT_FLAG, &json },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &r.dir },
		{ 0 },
	};
	json_t *list = json_array(), *o;
	struct err e = { 0 };
	unsigned int usable = 0;
	size_t i;
	int n = opt_parse(opts, &usage, argc, argv), ret = 0;

	if (n) {
		json_decref(list);
		return n < 0 ? opt_exit(n)
			     : opt_misuse(&usage, "'%s' is no option", argv[1]);
	}
	list_pci(list);
	r.list = list;
	ret = ctl_each(r.dir, each, &r, &e);
	if (ret < 0) {
		json_decref(list);
		return cmd_fail("caps", &e, ret);
	}
	json_array_foreach (list, i, o) {
		const char *why =
			json_string_value(json_object_get(o, "reason"));

		usable += json_is_true(json_object_get(o, "usable"));
		if (json)
			continue;
		printf("%s  %s %s/%s  %d queues  %s\n",
		       json_string_value(json_object_get(o, "vf")),
		       json_string_value(json_object_get(o, "backing")),
		       json_string_value(json_object_get(o, "family")),
		       json_string_value(json_object_get(o, "type")),
		       (int)json_integer_value(json_object_get(o, "queues")),
		       why[0] ? why : "free");
	}
	if (json) {
		o = json_pack("{s:O}", "vfs", list);
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(o);
	} else if (!json_array_size(list)) {
		puts("no VF of a family Pagurus knows; 'pagurus nic' makes "
		     "some");
	}
	json_decref(list);
	return usable ? 0 : 1;
}
