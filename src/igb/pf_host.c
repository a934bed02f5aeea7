#include "igb/pf_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

static const char vfu_prefix[] = "vfio-user:";

static bool is_uuid(const char *s)
{
	for (unsigned int i = 0; i < PF_TOKEN_SIZE - 1; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-'
			 : !((s[i] >= '0' && s[i] <= '9') ||
			     (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	}
	return true;
}

static int make_token(char token[PF_TOKEN_SIZE])
{
	uint8_t r[16];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		return -EIO;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40); /* version 4, RFC 9562 */
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(token, PF_TOKEN_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		 "%02x%02x%02x%02x%02x%02x",
		 r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9],
		 r[10], r[11], r[12], r[13], r[14], r[15]);
	return 0;
}

static int read_token(char token[PF_TOKEN_SIZE], const char *path,
		      struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_mode & 077 ||
	    st.st_uid != geteuid()) {
		close(fd);
		return err_set(e, -EPERM,
			       "%s can be read or written by others; remove it",
			       path);
	}
	n = read(fd, token, PF_TOKEN_SIZE - 1);
	close(fd);
	token[PF_TOKEN_SIZE - 1] = '\0';
	if (n != PF_TOKEN_SIZE - 1 || !is_uuid(token))
		return err_set(
			e, -EINVAL,
			"%s holds no token; remove it when no VM of this "
			"PF runs",
			path);
	return 0;
}

int pf_host_token(char token[PF_TOKEN_SIZE], const char *path, struct err *e)
{
	int ret = read_token(token, path, e), fd;

	if (ret != -ENOENT)
		return ret < 0 ? err_sys(e, ret, "%s", path) : 0;
	ret = make_token(token);
	if (ret < 0)
		return err_sys(e, ret, "random numbers for a VF token");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	if (write(fd, token, PF_TOKEN_SIZE - 1) != PF_TOKEN_SIZE - 1) {
		ret = err_sys(e, -EIO, "%s", path);
		unlink(path);
	}
	close(fd);
	return ret;
}

static int fits(int n, size_t size)
{
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int pf_host_vf_spec(const char *pf_spec, const char *token, unsigned int vf,
		    char *buf, size_t size)
{
	char path[128], link[PATH_MAX];
	const char *slash;
	ssize_t n;

	if (!strncmp(pf_spec, vfu_prefix, strlen(vfu_prefix))) {
		slash = strrchr(pf_spec, '/');
		if (!slash)
			return -EINVAL;
		return fits(snprintf(buf, size, "%.*s/vf%u.sock",
				     (int)(slash - pf_spec), pf_spec, vf),
			    size);
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.32s/virtfn%u",
		 pf_spec, vf);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return -errno;
	link[n] = '\0';
	slash = strrchr(link, '/');
	return fits(snprintf(buf, size, "%s,vf-token=%s",
			     slash ? slash + 1 : link, token),
		    size);
}
