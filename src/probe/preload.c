/*
 * The library that `pagurus probe --preload` has the loader put in front of a
 * program: it starts an in-process session before main() and shares what it
 * sees.  What to do comes in the environment; without it, it does nothing.
 *
 *	PAGURUS_PROBE		patterns
 *	PAGURUS_PROBE_SHARE	the file to share through
 *	PAGURUS_PROBE_OPTIONS	letters: e entries, x exits, j jumps,
 *				J jumps where possible, C counts alone,
 *				and for tests c no copy, m memory form, s swap
 *
 * It takes itself out of the environment: children that are not forks of
 * this program but programs of their own are not probed.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/inproc.h"
#include "probe/share.h"

static struct share *share;
static struct inproc *session;

static void sink(const struct probe_event *ev, void *opaque)
{
	share_put(share, ev, getpid());
}

static void __attribute__((constructor)) begin(void)
{
	const char *patterns = getenv("PAGURUS_PROBE");
	const char *path = getenv("PAGURUS_PROBE_SHARE");
	const char *letters = getenv("PAGURUS_PROBE_OPTIONS");
	struct engine_options opt = { 0 };
	struct err e = { 0 };
	int ret;

	if (!patterns || !path)
		return;
	if (!letters)
		letters = "ex";
	opt.entry = strchr(letters, 'e');
	opt.exit = strchr(letters, 'x');
	opt.jump = strchr(letters, 'j');
	opt.no_copy = strchr(letters, 'c');
	opt.mem_form = strchr(letters, 'm');
	opt.swap_form = strchr(letters, 's');
	opt.count_only = strchr(letters, 'C');
	opt.no_latency = strchr(letters, 'n');

	if (share_create(&share, path, ENGINE_FUNCS_MAX, &e) < 0)
		return;
	ret = inproc_prepare(&session, patterns, &opt,
			     strchr(letters, 'J') != NULL, sink, NULL, &e);
	if (!ret) {
		struct engine *en = inproc_engine(session);

		share->nfunc = (uint32_t)engine_nfuncs(en);
		for (uint32_t i = 0; i < share->nfunc; i++)
			strncpy(share->func[i].name, engine_func(en, i)->name,
				SHARE_NAME - 1);
	} else {
		share->nfunc = 0;
	}
	unsetenv("PAGURUS_PROBE");
	unsetenv("LD_PRELOAD");
	share->magic = SHARE_MAGIC;
	if (!ret)
		ret = inproc_arm(session, &e);
	if (ret < 0)
		strncpy(share->error, err_text(&e, ret),
			sizeof(share->error) - 1);
}

static void __attribute__((destructor)) end(void)
{
	inproc_stop(session);
	if (!share)
		return;
	for (uint32_t i = 0; i < share->nfunc; i++)
		for (int k = 0; k < EVENT_KINDS; k++)
			share->func[i].count[k] +=
				engine_count(inproc_engine(session), i, k);
	share->stopped = 1;
}

/*
 * A breakpoint met with SIGTRAP blocked kills the process, so nobody here
 * gets to block it: neither by a thread's mask nor for the time of a handler.
 * A handler the program wants for SIGTRAP itself is given what is not ours.
 */
#define PUBLIC __attribute__((visibility("default")))

static const sigset_t *without_trap(const sigset_t *set, sigset_t *copy)
{
	if (!set || !session)
		return set;
	*copy = *set;
	sigdelset(copy, SIGTRAP);
	return copy;
}

PUBLIC int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	static int (*next)(int, const sigset_t *, sigset_t *);
	sigset_t copy;

	if (!next)
		next = dlsym(RTLD_NEXT, "pthread_sigmask");
	return next(how, how == SIG_UNBLOCK ? set : without_trap(set, &copy),
		    old);
}

PUBLIC int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	static int (*next)(int, const sigset_t *, sigset_t *);
	sigset_t copy;

	if (!next)
		next = dlsym(RTLD_NEXT, "sigprocmask");
	return next(how, how == SIG_UNBLOCK ? set : without_trap(set, &copy),
		    old);
}

PUBLIC int sigaction(int sig, const struct sigaction *act,
		     struct sigaction *old)
{
	static int (*next)(int, const struct sigaction *, struct sigaction *);
	struct sigaction copy;

	if (!next)
		next = dlsym(RTLD_NEXT, "sigaction");
	if (!act || !session)
		return next(sig, act, old);
	if (sig == SIGTRAP)
		return inproc_next_handler(session, act, old)
			       ? 0
			       : next(sig, act, old);
	copy = *act;
	sigdelset(&copy.sa_mask, SIGTRAP);
	return next(sig, &copy, old);
}
