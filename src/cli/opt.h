/*
 * Options as a table: parsing, --help and the error text all come from it.
 *
 *	static const struct opt opts[] = {
 *		{ "name", 'n', "NAME", "the VM's name", OPT_STR, &a.name },
 *		{ "json", 0, NULL, "print JSON", OPT_FLAG, &a.json },
 *		{ 0 },
 *	};
 *
 * "--name=x", "--name x" and "-n x" are the same; "--" ends the options.
 * --help needs no row: opt_parse() prints it and returns OPT_HELP.
 */
#ifndef CLI_OPT_H
#define CLI_OPT_H

#include <stdint.h>

enum opt_kind {
	OPT_FLAG, /* bool *: set to true */
	OPT_STR,  /* const char **: the argument; last one wins */
	OPT_LIST, /* struct opt_list *: may be given several times */
	OPT_U64,  /* uint64_t *: decimal or 0x hex */
	OPT_SIZE, /* uint64_t *: bytes, with K, M, G, T as 1024^n */
};

#define OPT_LIST_MAX 16

struct opt_list {
	const char *v[OPT_LIST_MAX];
	unsigned int n;
};

struct opt {
	const char *name;
	char letter;	 /* 0: none */
	const char *arg; /* shown in --help; NULL for flags */
	const char *what;
	enum opt_kind kind;
	void *out;
};

/* What a command says of itself. */
struct opt_usage {
	const char *synopsis; /* "migrate [OPTIONS] VM DEST" */
	const char *about;    /* a paragraph */
	const char *after;    /* examples, exit statuses; or NULL */
};

#define OPT_HELP (-1) /* --help was printed */
#define OPT_BAD	 (-2) /* the error was printed */

/*
 * Parse argv[1..]; operands are moved to argv[1..n] and their number n is
 * returned, or OPT_HELP or OPT_BAD.
 */
int opt_parse(const struct opt *opts, const struct opt_usage *u, int argc,
	      char **argv);
int opt_exit(int n); /* the exit status for such a one */

/* "usage: pagurus SYNOPSIS" and the way to more help, on standard error. */
int opt_misuse(const struct opt_usage *u, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

int opt_size(const char *s, uint64_t *out); /* 0, -EINVAL, -ERANGE */

#endif
