/*
 * A guest kernel's symbols, from the three kinds of file that have them.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/guest.h"
#include "probe/image.h"

#define FILE_MAX (64ll << 20) /* of text; an ELF file is mapped */

static bool has_line(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = text; (p = strstr(p, name)); p += n)
		if (p > text && p[-1] == ' ' && (p[n] == '\n' || !p[n]))
			return true;
	return false;
}

/* A vmlinux says where its text is; other ELF files have a segment. */
static int text_of_elf(char **text, const char *path, struct err *e)
{
	struct image *im;
	size_t size;
	FILE *f;
	int ret;

	ret = image_open(&im, path, e);
	if (ret < 0)
		return ret;
	f = open_memstream(text, &size);
	if (!f) {
		image_close(im);
		return -ENOMEM;
	}
	for (size_t i = 0; i < im->nsym; i++)
		if (im->sym[i].func || !strcmp(im->sym[i].name, "_stext") ||
		    !strcmp(im->sym[i].name, "_etext"))
			fprintf(f, "%016lx %c %s\n", im->sym[i].addr,
				im->sym[i].bind == STB_LOCAL ? 't' : 'T',
				im->sym[i].name);
	fflush(f);
	for (size_t i = 0; !has_line(*text, "_stext") && i < im->nseg; i++)
		if (im->seg[i].exec && im->seg[i].filesz) {
			fprintf(f, "%016lx T _stext\n%016lx T _etext\n",
				im->seg[i].addr,
				im->seg[i].addr + im->seg[i].filesz);
			break;
		}
	image_close(im);
	ret = fclose(f) ? -ENOMEM : 0;
	if (ret < 0)
		free(*text);
	return ret;
}

static int read_all(int fd, char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	buf[done] = '\0';
	return 0;
}

/* kallsyms says that it is 0 bytes long, so lengths are not believed. */
static int read_text(char **text, int fd, const char *path, struct err *e)
{
	size_t room = 1 << 20, used = 0;
	char *buf = malloc(room), *more;
	int ret = buf ? 0 : -ENOMEM;

	while (!ret) {
		ret = read_all(fd, buf + used, room - used - 1);
		used += ret ? 0 : strlen(buf + used);
		if (ret || used < room - 1)
			break;
		room *= 2;
		more = room > FILE_MAX ? NULL : realloc(buf, room);
		if (!more)
			ret = room > FILE_MAX ? -EFBIG : -ENOMEM;
		else
			buf = more;
	}
	if (ret < 0) {
		free(buf);
		return err_sys(e, ret, "%s", path);
	}
	*text = buf;
	return 0;
}

int guest_symbols_load(char **text, const char *path, struct err *e)
{
	char magic[SELFMAG] = "";
	struct stat st;
	int fd, ret;

	*text = NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, -errno, "symbols: %s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(e, -EINVAL, "symbols: %s is no file", path);
	}
	if (pread(fd, magic, SELFMAG, 0) == SELFMAG &&
	    !memcmp(magic, ELFMAG, SELFMAG))
		ret = text_of_elf(text, path, e);
	else
		ret = read_text(text, fd, path, e);
	close(fd);
	return ret;
}
