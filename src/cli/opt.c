#include "cli/opt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd.h"

#define HELP_WIDTH 78
#define HELP_LEFT  30 /* columns of an option's name and argument */

int opt_size(const char *s, uint64_t *out)
{
	static const char units[] = "KMGT";
	unsigned long long v;
	unsigned int shift = 0;
	const char *u;
	char *end;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 0);
	if (errno)
		return -ERANGE;
	if (*end && (u = strchr(units, *end & ~0x20))) {
		shift = 10 * (unsigned int)(u - units + 1);
		end++;
		if (*end == 'i')
			end++;
		if (*end == 'B')
			end++;
	}
	if (*end)
		return -EINVAL;
	if (shift && v >> (64 - shift))
		return -ERANGE;
	*out = (uint64_t)v << shift;
	return 0;
}

/* Words of 'text' in lines of 'width', after the first indented by so many. */
static void print_wrapped(const char *text, int indent, int width)
{
	int at = 0;

	while (*text) {
		int len = (int)strcspn(text, " ");

		if (at && at + 1 + len > width) {
			printf("\n%*s", indent, "");
			at = 0;
		}
		printf("%s%.*s", at ? " " : "", len, text);
		at += len + !!at;
		text += len;
		text += strspn(text, " ");
	}
	putchar('\n');
}

static void print_help(const struct opt *opts, const struct opt_usage *u)
{
	printf("usage: pagurus %s\n\n", u->synopsis);
	print_wrapped(u->about, 0, HELP_WIDTH);
	puts("\nOptions:");
	for (const struct opt *o = opts; o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%s%c%s --%s%s%s",
			 o->letter ? "-" : " ", o->letter ? o->letter : ' ',
			 o->letter ? "," : " ", o->name, o->arg ? " " : "",
			 o->arg ? o->arg : "");
		if (strlen(left) > HELP_LEFT)
			printf("  %s\n  %-*s  ", left, HELP_LEFT, "");
		else
			printf("  %-*s  ", HELP_LEFT, left);
		print_wrapped(o->what, HELP_LEFT + 4,
			      HELP_WIDTH - HELP_LEFT - 4);
	}
	printf("  %-*s  %s\n", HELP_LEFT, "    --help", "show this text");
	if (u->after)
		printf("\n%s\n", u->after);
}

int opt_misuse(const struct opt_usage *u, const char *fmt, ...)
{
	const char *end = strchr(u->synopsis, ' ');
	va_list ap;

	fputs("pagurus: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: pagurus %s\nTry 'pagurus %.*s --help'.\n",
		u->synopsis,
		(int)(end ? end - u->synopsis : (long)strlen(u->synopsis)),
		u->synopsis);
	return EXIT_USAGE;
}

static int store(const struct opt *o, const char *v, const struct opt_usage *u)
{
	struct opt_list *list;
	uint64_t n;
	int ret = 0;

	switch (o->kind) {
	case OPT_FLAG: *(bool *)o->out = true; return 0;
	case OPT_STR: *(const char **)o->out = v; return 0;
	case OPT_LIST:
		list = o->out;
		if (list->n == OPT_LIST_MAX) {
			opt_misuse(u, "--%s: at most %d of them", o->name,
				   OPT_LIST_MAX);
			return OPT_BAD;
		}
		list->v[list->n++] = v;
		return 0;
	case OPT_U64:
	case OPT_SIZE:
		ret = opt_size(v, &n);
		/* A plain number has no unit behind it. */
		if (!ret && o->kind == OPT_U64 &&
		    strspn(v, "0123456789abcdefABCDEFxX") != strlen(v))
			ret = -EINVAL;
		if (ret) {
			opt_misuse(u, "--%s '%s': %s", o->name, v,
				   ret == -ERANGE	 ? "too large"
				   : o->kind == OPT_SIZE ? "not a size, as 512M"
							 : "not a number");
			return OPT_BAD;
		}
		*(uint64_t *)o->out = n;
		return 0;
	}
	return OPT_BAD;
}

static const struct opt *find(const struct opt *opts, const char *arg,
			      const char **value)
{
	const char *eq = strchr(arg, '=');
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);

	*value = NULL;
	for (const struct opt *o = opts; o->name; o++) {
		if (arg[1] != '-') {
			if (o->letter && arg[1] == o->letter) {
				*value = arg[2] ? arg + 2 : NULL;
				return o;
			}
		} else if (strlen(o->name) == n - 2 &&
			   !strncmp(o->name, arg + 2, n - 2)) {
			*value = eq ? eq + 1 : NULL;
			return o;
		}
	}
	return NULL;
}

int opt_parse(const struct opt *opts, const struct opt_usage *u, int argc,
	      char **argv)
{
	bool options = true;
	int operands = 0;

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *value;
		const struct opt *o;

		if (!options || arg[0] != '-' || !arg[1]) {
			argv[1 + operands++] = argv[i];
			continue;
		}
		if (!strcmp(arg, "--")) {
			options = false;
			continue;
		}
		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			print_help(opts, u);
			return OPT_HELP;
		}
		o = find(opts, arg, &value);
		if (!o) {
			opt_misuse(u, "unknown option '%s'", arg);
			return OPT_BAD;
		}
		if (o->kind == OPT_FLAG && value) {
			opt_misuse(u, "--%s takes no value", o->name);
			return OPT_BAD;
		}
		if (o->kind != OPT_FLAG && !value) {
			if (i + 1 == argc) {
				opt_misuse(u, "--%s needs a value", o->name);
				return OPT_BAD;
			}
			value = argv[++i];
		}
		if (store(o, value, u) < 0)
			return OPT_BAD;
	}
	argv[1 + operands] = NULL;
	return operands;
}

int opt_exit(int n)
{
	return n == OPT_HELP ? 0 : EXIT_USAGE;
}
