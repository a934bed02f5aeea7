#include "cli/cmd.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int cmd_fail(const char *name, const struct err *e, int code)
{
	fprintf(stderr, "pagurus %s: %s\n", name, err_text(e, code));
	return 1;
}

int cmd_drop_rights(struct err *e)
{
	struct __user_cap_header_struct h = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_capset, &h, none) < 0)
		return err_sys(e, -errno, "cannot drop rights");
	return 0;
}
