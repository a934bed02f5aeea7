/*
 * pagurus rebind: another VF behind a running VM's device.
 */
#include <stdio.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"

static const struct opt_usage usage = {
	.synopsis = "rebind [OPTIONS] --vf SPEC VM",
	.about = "Put a device of a running VM on another VF of this host: "
		 "from hardware to the software NIC, back, or to another "
		 "card. Of the same generation the guest does not notice; of "
		 "another its driver builds its rings anew.",
	.after = "Exit status: 0 it is there; 1 it is where it was; 64 the "
		 "command line is wrong.\n\n"
		 "  pagurus rebind --vf pf:/run/pagurus/soft-pf.sock web1",
};

int cmd_rebind(int argc, char **argv)
{
	const char *dir = NULL, *vf = NULL, *device = NULL;
	bool json = false;
	const struct opt opts[] = {
		{ "vf", 0, "SPEC", "where to, as of 'pagurus run'", OPT_STR,
		  &vf },
		{ "device", 'd', "NAME", "which one (the first)", OPT_STR,
		  &device },
		{ "json", 0, NULL, "print JSON", OPT_FLAG, &json },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &dir },
		{ 0 },
	};
	json_t *params, *result = NULL;
	struct ctl_client *c;
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n != 1 || !vf)
		return opt_misuse(&usage, "--vf and a VM are needed");
	ret = ctl_connect(&c, dir, argv[1], &e);
	if (ret < 0)
		return cmd_fail("rebind", &e, ret);
	params = json_pack("{s:s}", "vf", vf);
	if (device)
		json_object_set_new(params, "device", json_string(device));
	ret = ctl_ask(c, "rebind", params, NULL, NULL, &result, &e);
	ctl_close(c);
	if (ret < 0)
		return cmd_fail("rebind", &e, ret);
	if (json) {
		json_dumpf(result, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		printf("%s: %s (%s), vCPUs stopped for %.1f ms\n",
		       json_string_value(json_object_get(result, "device")),
		       json_string_value(json_object_get(result, "action")),
		       json_string_value(json_object_get(result, "reason")),
		       json_number_value(json_object_get(result, "outage_ns")) /
			       1e6);
	}
	json_decref(result);
	return 0;
}
