#include "pdev/vfio_user_guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/util.h"

/* Eight VFs and a PF with far more mappings than a VM has RAM regions. */
#define GUARDS_MAX 8192

/* The handler reads these with no lock: 'end' is written last, 0 is free. */
struct vfu_guard {
	_Atomic uintptr_t start, end;
	_Atomic bool hole;
};

static struct vfu_guard guards[GUARDS_MAX];
static _Atomic size_t guards_used; /* high-water mark */
static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guards_old;

static void on_sigbus(int signo, siginfo_t *si, void *uc)
{
	uintptr_t addr = (uintptr_t)si->si_addr;
	size_t n = guards_used;

	for (size_t i = 0; i < n; i++) {
		struct vfu_guard *g = &guards[i];
		uintptr_t end = g->end, start = g->start;

		if (addr < start || addr >= end)
			continue;
		/*
		 * The whole of it: a huge-page mapping cannot be replaced in
		 * part, and memory that went once is not worth having.
		 */
		if (mmap((void *)start, end - start, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
				 MAP_NORESERVE,
			 -1, 0) == MAP_FAILED)
			break;
		g->hole = true;
		return;
	}
	/* Not ours: fault again under whatever was there before us. */
	sigaction(signo, &guards_old, NULL);
}

/* Again with each guard: somebody may have put another handler over ours. */
static void install(void)
{
	struct sigaction old, sa = { .sa_sigaction = on_sigbus,
				     .sa_flags = SA_SIGINFO | SA_RESTART };

	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGBUS, NULL, &old) == 0 && old.sa_sigaction == on_sigbus)
		return;
	guards_old = old;
	sigaction(SIGBUS, &sa, NULL);
}

struct vfu_guard *vfu_guard_add(void *va, size_t len)
{
	struct vfu_guard *g = NULL;

	pthread_mutex_lock(&guards_lock);
	install();
	for (size_t i = 0; i < GUARDS_MAX && !g; i++)
		if (guards[i].end == 0) {
			g = &guards[i];
			if (guards_used <= i)
				guards_used = i + 1;
		}
	if (g) {
		g->hole = false;
		g->start = (uintptr_t)va;
		g->end = (uintptr_t)va + len;
	}
	pthread_mutex_unlock(&guards_lock);
	return g;
}

void vfu_guard_del(struct vfu_guard *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&guards_lock);
	/* 'end' first: the handler must not meet a new start with an old end */
	g->end = 0;
	pthread_mutex_unlock(&guards_lock);
}

bool vfu_guard_hole(const struct vfu_guard *g)
{
	return g && g->hole;
}
