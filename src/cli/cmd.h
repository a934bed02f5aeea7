/*
 * Sub-commands: one file each, all listed in main.c.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

#include "base/err.h"

/* Exit statuses beyond what a command documents for itself. */
#define EXIT_USAGE 64 /* the command line is wrong */

struct cmd {
	const char *name;
	const char *what;		   /* one line for `pagurus --help` */
	int (*run)(int argc, char **argv); /* exit status */
};

/* Every command's own entry; argv[0] is the command's name. */
int cmd_console(int argc, char **argv);
int cmd_nic(int argc, char **argv);
int cmd_probe(int argc, char **argv);
int cmd_pf(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_receive(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_rebind(int argc, char **argv);
int cmd_caps(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_stop(int argc, char **argv);

/* "pagurus NAME: what went wrong" on standard error; returns 1. */
int cmd_fail(const char *name, const struct err *e, int code);

/*
 * No capabilities from here on, and none to be gained: for a process that
 * has opened all it needs and is about to read untrusted bytes.
 */
int cmd_drop_rights(struct err *e);

#endif
