/*
 * Sub-commands: one file each, all listed in main.c.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

/* Exit statuses beyond what a command documents for itself. */
#define EXIT_USAGE 64 /* the command line is wrong */

struct cmd {
	const char *name;
	const char *what;		   /* one line for `pagurus --help` */
	int (*run)(int argc, char **argv); /* exit status */
};

/* Every command's own entry; argv[0] is the command's name. */

#endif
