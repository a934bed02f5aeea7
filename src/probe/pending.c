#include "probe/pending.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

/* mmap and mremap are system calls and nothing else: safe in a handler. */
static void *grow(void *old, uint32_t *room, size_t each)
{
	size_t was = *room * each, now = was ? was * 2 : PAGE_SIZE;
	void *p;

	if (now / each > UINT32_MAX)
		return NULL;
	p = was ? mremap(old, was, now, MREMAP_MAYMOVE)
		: mmap(NULL, now, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	*room = (uint32_t)(now / each);
	return p;
}

int pend_push(struct probe_stack *s, uint64_t sp, uint16_t func, uint64_t time,
	      unsigned int flags)
{
	if (s->n == s->room) {
		void *p = grow(s->item, &s->room, sizeof(*s->item));

		if (!p)
			return -ENOMEM;
		s->item = p;
	}
	s->item[s->n++] =
		(struct pend){ sp << 16 | func,
			       (sp >> 48) << 55 | pend_when(time, flags) };
	return 0;
}

void pend_remove(struct probe_stack *s, uint32_t i)
{
	memmove(&s->item[i], &s->item[i + 1],
		(s->n - i - 1) * sizeof(*s->item));
	s->n--;
}

int pend_swap_push(struct probe_stack *s, uint64_t slot, uint64_t ra)
{
	/* One that longjmp left behind: the slot has another owner now. */
	for (uint32_t i = s->nswap; i--;) {
		if (s->swap[i].slot != slot)
			continue;
		s->swap[i].ra = ra;
		return 0;
	}
	if (s->nswap == s->swap_room) {
		void *p = grow(s->swap, &s->swap_room, sizeof(*s->swap));

		if (!p)
			return -ENOMEM;
		s->swap = p;
	}
	s->swap[s->nswap++] = (struct pend_swap){ slot, ra };
	return 0;
}

int pend_copy(struct probe_stack *s, const struct probe_stack *from)
{
	int ret = 0;

	for (uint32_t i = 0; i < from->n && !ret; i++) {
		const struct pend *p = &from->item[i];

		ret = pend_push(s, pend_sp(p), pend_func(p), pend_time(p),
				p->time_flags & PEND_FLAGS);
	}
	for (uint32_t i = 0; i < from->nswap && !ret; i++)
		ret = pend_swap_push(s, from->swap[i].slot, from->swap[i].ra);
	return ret;
}

void pend_release(struct probe_stack *s)
{
	if (s->item)
		munmap(s->item, s->room * sizeof(*s->item));
	if (s->swap)
		munmap(s->swap, s->swap_room * sizeof(*s->swap));
	s->item = NULL;
	s->swap = NULL;
	s->n = s->room = s->nswap = s->swap_room = 0;
}

int64_t pend_find(const struct probe_stack *s, uint64_t sp)
{
	for (uint32_t i = s->n; i--;) {
		uint64_t at = pend_sp(&s->item[i]);

		if (at == sp)
			return i;
		/* One thread's own stack is in order. */
		if (s->x.native && at > sp)
			return -1;
	}
	return -1;
}
