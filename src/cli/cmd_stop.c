/*
 * pagurus stop: the power button, or the plug; a driver or NIC just ends.
 */
#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"

static const struct opt_usage usage = {
	.synopsis = "stop [OPTIONS] NAME",
	.about = "Press a virtual machine's power button and wait until its "
		 "guest has powered off; or end a PF driver or software NIC.",
	.after = "Exit status: 0 it has ended; 1 it has not; 64 the command "
		 "line is wrong.",
};

int cmd_stop(int argc, char **argv)
{
	const char *dir = NULL;
	uint64_t seconds = 30;
	bool force = false;
	const struct opt opts[] = {
		{ "force", 'f', NULL, "pull the plug: the guest is not asked",
		  OPT_FLAG, &force },
		{ "timeout", 't', "SECONDS", "how long to wait (30)", OPT_U64,
		  &seconds },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &dir },
		{ 0 },
	};
	struct ctl_client *c;
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n != 1)
		return opt_misuse(&usage, "which NAME?");
	if (seconds > 86400)
		return opt_misuse(&usage, "--timeout: a day at most");
	ret = ctl_connect(&c, dir, argv[1], &e);
	if (ret < 0)
		return cmd_fail("stop", &e, ret);
	/* It says itself when the time is up, unless it cannot. */
	ctl_patience(c, (unsigned int)seconds * 1000 + CTL_PATIENCE_MS);
	ret = ctl_ask(c, "stop",
		      json_pack("{s:b, s:I}", "force", force, "timeout_ms",
				(json_int_t)seconds * 1000),
		      NULL, NULL, NULL, &e);
	ctl_close(c);
	return ret < 0 ? cmd_fail("stop", &e, ret) : 0;
}
