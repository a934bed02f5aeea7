#include "probe/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define REACH	(1ull << 30)
#define LOWEST	0x10000ull /* vm.mmap_min_addr's usual value */
#define HIGHEST 0x7ffffffff000ull

/* "/proc/N/maps" without stdio, which is not for signal handlers. */
static void path_of(char *out, int pid)
{
	char digits[12];
	int n = 0;

	strcpy(out, "/proc/");
	out += 6;
	if (!pid) {
		strcpy(out, "self/maps");
		return;
	}
	do {
		digits[n++] = (char)('0' + pid % 10);
		pid /= 10;
	} while (pid);
	while (n)
		*out++ = digits[--n];
	strcpy(out, "/maps");
}

int maps_open(struct maps *m, int pid)
{
	char path[32];

	path_of(path, pid);
	m->at = m->n = 0;
	m->fd = open(path, O_RDONLY | O_CLOEXEC);
	return m->fd < 0 ? -errno : 0;
}

void maps_close(struct maps *m)
{
	close_fd(&m->fd);
}

static int get(struct maps *m)
{
	ssize_t n;

	if (m->at == m->n) {
		do
			n = read(m->fd, m->buf, sizeof(m->buf));
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return -1;
		m->n = (size_t)n;
		m->at = 0;
	}
	return (unsigned char)m->buf[m->at++];
}

static int hex(struct maps *m, uint64_t *v)
{
	int c;

	for (*v = 0;;
	     *v = *v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10)) {
		c = get(m);
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return c;
	}
}

/* lo-hi perms offset dev inode   path */
bool maps_next(struct maps *m, struct maps_line *l)
{
	size_t n = 0;
	int c;

	if (hex(m, &l->lo) != '-' || hex(m, &l->hi) != ' ')
		return false;
	(void)get(m);
	l->write = get(m) == 'w';
	l->exec = get(m) == 'x';
	(void)get(m);
	(void)get(m);
	hex(m, &l->offset);
	for (int field = 0; field < 2; field++)
		while ((c = get(m)) != ' ' && c != '\n' && c >= 0)
			;
	while (c == ' ')
		c = get(m);
	while (c != '\n' && c >= 0) {
		if (n + 1 < sizeof(l->path))
			l->path[n++] = (char)c;
		c = get(m);
	}
	l->path[n] = '\0';
	return true;
}

int maps_find(int pid, uint64_t addr, struct maps_line *l, uint64_t *prev_end)
{
	struct maps m;
	int ret = maps_open(&m, pid);

	if (ret < 0)
		return ret;
	ret = -ENOENT;
	*prev_end = LOWEST;
	while (maps_next(&m, l)) {
		if (addr >= l->lo && addr < l->hi) {
			ret = 0;
			break;
		}
		*prev_end = l->hi;
	}
	maps_close(&m);
	return ret;
}

int maps_gap(int pid, uint64_t near, size_t size, uint64_t *addr)
{
	uint64_t best = 0, prev = LOWEST;
	struct maps_line l;
	struct maps m;
	int ret = maps_open(&m, pid);
	bool more = true;

	if (ret < 0)
		return ret;
	size = ALIGN_UP(size, PAGE_SIZE);
	while (more) {
		uint64_t lo, hi, at;

		more = maps_next(&m, &l);
		/* A page of distance keeps guard pages what they are. */
		lo = prev + PAGE_SIZE;
		hi = more ? l.lo - PAGE_SIZE : HIGHEST;
		prev = l.hi;
		if (hi < lo || hi - lo < size)
			continue;
		at = near > hi - size ? hi - size : MAX(near, lo);
		at = ALIGN_DOWN(at, PAGE_SIZE);
		if (at < lo)
			continue;
		/* A stack grows into the gap below it: stay clear. */
		if (more && strstr(l.path, "[stack") &&
		    hi - at < (16ul << 20) + size)
			continue;
		if (!best || (at > near ? at - near : near - at) <
				     (best > near ? best - near : near - best))
			best = at;
	}
	maps_close(&m);
	if (!best ||
	    (near && (best > near ? best - near : near - best) > REACH))
		return -ENOMEM;
	*addr = best;
	return 0;
}
