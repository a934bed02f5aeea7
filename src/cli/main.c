/*
 * pagurus: one executable, a sub-command per role.
 */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/cmd.h"

static const struct cmd cmds[] = {
	{ "run", "boot a kernel in a VM that owns VFs", cmd_run },
	{ "receive", "wait for a VM from another host, then be it",
	  cmd_receive },
	{ "migrate", "move a running VM to another host", cmd_migrate },
	{ "rebind", "another VF behind a running VM's device", cmd_rebind },
	{ "check", "what a migration would do; moves nothing", cmd_check },
	{ "pf", "the driver of a physical function", cmd_pf },
	{ "nic", "a software SR-IOV network card", cmd_nic },
	{ "caps", "what this host could put behind a VM's device", cmd_caps },
	{ "metrics", "figures of what runs here, for Prometheus", cmd_metrics },
	{ "status", "what runs here, and how", cmd_status },
	{ "console", "the serial console of a running VM", cmd_console },
	{ "stop", "power a VM off", cmd_stop },
	{ "probe", "watch functions at entry and every exit", cmd_probe },
	{ NULL, NULL, NULL },
};

static void help(FILE *f)
{
	fputs("usage: pagurus COMMAND [OPTIONS]\n\n"
	      "Live migration of virtual machines with their passthrough\n"
	      "SR-IOV devices attached.\n\nCommands:\n",
	      f);
	for (const struct cmd *c = cmds; c->name; c++)
		fprintf(f, "  %-10s %s\n", c->name, c->what);
	fputs("\n'pagurus COMMAND --help' tells more of one.\n", f);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("pagurus " PAGURUS_VERSION);
		return 0;
	}
	for (const struct cmd *c = cmds; c->name; c++)
		if (!strcmp(argv[1], c->name))
			return c->run(argc - 1, argv + 1);

	fprintf(stderr,
		"pagurus: no command '%s'; 'pagurus --help' lists them\n",
		argv[1]);
	return EXIT_USAGE;
}
