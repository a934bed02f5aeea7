#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "ctl/ctl.h"

#define SUFFIX ".sock"

int ctl_dir(char *out, size_t size, const char *dir, struct err *e)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	const char *env = getenv("PAGURUS_DIR");
	int n;

	if (dir || (env && *env))
		n = snprintf(out, size, "%s", dir ? dir : env);
	else if (run && *run)
		n = snprintf(out, size, "%s/pagurus", run);
	else
		n = snprintf(out, size, "/run/pagurus");
	if (n < 0 || (size_t)n >= size)
		return err_set(e, -ENAMETOOLONG,
			       "the directory for sockets has too long a name: "
			       "give a shorter one with --dir");
	return 0;
}

int ctl_name_check(const char *name, struct err *e)
{
	size_t len = strlen(name);
	bool good = len && len <= CTL_NAME_MAX && *name != '.';

	for (const char *c = name; good && *c; c++)
		good = isalnum((unsigned char)*c) || strchr("._-", *c);
	if (good)
		return 0;
	return err_set(e, -EINVAL,
		       "'%.40s' cannot be a name: up to %d letters, digits, "
		       "'.', '_', '-', not first a '.'",
		       name, CTL_NAME_MAX);
}

int ctl_path(char *out, size_t size, const char *dir, const char *name,
	     const char *suffix, struct err *e)
{
	size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path);
	char where[PATH_MAX];
	int ret = ctl_name_check(name, e), n;

	if (ret == 0)
		ret = ctl_dir(where, sizeof(where), dir, e);
	if (ret < 0)
		return ret;
	n = snprintf(out, size, "%s/%s.%s", where, name, suffix);
	if (n < 0 || (size_t)n >= size || (size_t)n >= room)
		return err_set(e, -ENAMETOOLONG,
			       "%.60s...: too long for a socket (%zu bytes at "
			       "most): choose another place with --dir",
			       where, room - 1);
	return 0;
}

int ctl_each(const char *dir, void (*fn)(void *opaque, const char *name),
	     void *opaque, struct err *e)
{
	char where[PATH_MAX], name[CTL_NAME_MAX + 1];
	const struct dirent *d;
	int ret = ctl_dir(where, sizeof(where), dir, e);
	DIR *at;

	if (ret < 0)
		return ret;
	at = opendir(where);
	if (!at)
		return errno == ENOENT ? 0 : err_sys(e, -errno, "%s", where);
	while ((d = readdir(at))) {
		size_t len = strlen(d->d_name), tail = sizeof(SUFFIX) - 1;

		if (len <= tail || len - tail > CTL_NAME_MAX ||
		    strcmp(d->d_name + len - tail, SUFFIX))
			continue;
		memcpy(name, d->d_name, len - tail);
		name[len - tail] = '\0';
		if (ctl_name_check(name, NULL) == 0)
			fn(opaque, name);
	}
	closedir(at);
	return 0;
}
