#include "probe/share.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

static size_t size_for(uint32_t nfunc)
{
	return sizeof(struct share) + nfunc * sizeof(struct share_func);
}

int share_create(struct share **out, const char *path, uint32_t nfunc,
		 struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), ret = 0;
	void *p;

	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	if (ftruncate(fd, (off_t)size_for(nfunc)) < 0) {
		ret = err_sys(e, -errno, "%s", path);
		goto close;
	}
	p = mmap(NULL, size_for(nfunc), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	if (p == MAP_FAILED) {
		ret = err_sys(e, -errno, "%s", path);
		goto close;
	}
	*out = p;
	(*out)->nfunc = nfunc;
close:
	close_fd(&fd);
	return ret;
}

int share_open(struct share **out, const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CLOEXEC), ret = 0;
	struct share *s;
	struct stat st;

	if (fd < 0)
		return err_sys(e, -errno, "%s", path);
	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*s)) {
		ret = -EAGAIN;
		goto close;
	}
	s = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fd, 0);
	if (s == MAP_FAILED) {
		ret = err_sys(e, -errno, "%s", path);
		goto close;
	}
	if (s->magic != SHARE_MAGIC ||
	    size_for(s->nfunc) > (size_t)st.st_size) {
		munmap(s, (size_t)st.st_size);
		ret = -EAGAIN;
		goto close;
	}
	*out = s;
close:
	close_fd(&fd);
	return ret;
}

void share_close(struct share *s)
{
	if (s)
		munmap(s, size_for(s->nfunc));
}

void share_put(struct share *s, const struct probe_event *ev, int32_t pid)
{
	uint64_t at = s->head++;
	struct share_slot *slot = &s->slot[at % SHARE_EVENTS];

	if (ev->func < s->nfunc)
		s->func[ev->func].count[ev->kind]++;
	slot->seq = 0;
	slot->ev = *ev;
	slot->pid = pid;
	slot->seq = at + 1;
}

bool share_get(const struct share *s, uint64_t *at, struct share_slot *out,
	       uint64_t *lost)
{
	for (;;) {
		uint64_t head = s->head;
		const struct share_slot *slot;

		if (*at >= head)
			return false;
		if (head - *at > SHARE_EVENTS) {
			*lost += head - SHARE_EVENTS - *at;
			*at = head - SHARE_EVENTS;
		}
		slot = &s->slot[*at % SHARE_EVENTS];
		if (slot->seq < *at + 1)
			return false; /* being written */
		out->ev = slot->ev;
		out->pid = slot->pid;
		if (slot->seq == *at + 1) {
			++*at;
			return true;
		}
	}
}
