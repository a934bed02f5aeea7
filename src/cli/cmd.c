#include "cli/cmd.h"

#include <stdio.h>

int cmd_fail(const char *name, const struct err *e, int code)
{
	fprintf(stderr, "pagurus %s: %s\n", name, err_text(e, code));
	return 1;
}
