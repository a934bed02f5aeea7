#include "oracle.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TASKS_MAX 64

struct activation {
	int process;
	unsigned int func;
	uint64_t slot;
};

struct task {
	int tid, process;
	int stepping;
	int known; /* 'rip' and 'rsp' are of before */
	uint64_t rip, rsp;
};

struct run {
	struct oracle *o;
	struct task task[TASKS_MAX];
	int ntasks;
	struct activation *act;
	size_t nact, room;
	uint64_t bias;
	int first, over;
};

static int by_addr(const void *a, const void *b)
{
	const struct oracle_func *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void take_symbols(struct oracle *o, const uint8_t *p)
{
	const Elf64_Ehdr *eh = (const void *)p;
	const Elf64_Shdr *sh = (const void *)(p + eh->e_shoff);

	o->entry = eh->e_entry;
	for (int i = 0; i < eh->e_shnum; i++) {
		const char *str;
		const Elf64_Sym *s;
		size_t n;

		if (sh[i].sh_type != SHT_SYMTAB)
			continue;
		str = (const char *)p + sh[sh[i].sh_link].sh_offset;
		s = (const void *)(p + sh[i].sh_offset);
		n = sh[i].sh_size / sizeof(*s);
		o->func = calloc(n, sizeof(*o->func));
		for (size_t k = 0; k < n; k++) {
			const char *name = str + s[k].st_name;

			if (!strcmp(name, "corpus_begin"))
				o->begin = s[k].st_value;
			if (!strcmp(name, "corpus_end"))
				o->end = s[k].st_value;
			if (ELF64_ST_TYPE(s[k].st_info) != STT_FUNC ||
			    name[0] < 'a' || name[0] > 'z' || name[1] != '_' ||
			    strchr(name, '.'))
				continue;
			snprintf(o->func[o->n].name, sizeof(o->func[o->n].name),
				 "%s", name);
			o->func[o->n].addr = s[k].st_value;
			o->func[o->n++].size = s[k].st_size;
		}
	}
	qsort(o->func, o->n, sizeof(*o->func), by_addr);
}

int oracle_open(struct oracle *o, const char *exe)
{
	int fd = open(exe, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	memset(o, 0, sizeof(*o));
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	take_symbols(o, p);
	munmap(p, (size_t)st.st_size);
	return o->begin && o->end ? 0 : -ENOENT;
}

void oracle_close(struct oracle *o)
{
	free(o->func);
	memset(o, 0, sizeof(*o));
}

static struct task *task_of(struct run *r, int tid)
{
	for (int i = 0; i < r->ntasks; i++)
		if (r->task[i].tid == tid)
			return &r->task[i];
	return NULL;
}

static struct task *add_task(struct run *r, int tid, int process)
{
	struct task *t = task_of(r, tid);

	if (t || r->ntasks == TASKS_MAX)
		return t;
	t = &r->task[r->ntasks++];
	*t = (struct task){ .tid = tid, .process = process };
	return t;
}

static void push(struct run *r, int process, unsigned int func, uint64_t slot)
{
	if (r->nact == r->room) {
		r->room = r->room ? r->room * 2 : 256;
		r->act = realloc(r->act, r->room * sizeof(*r->act));
		if (!r->act)
			abort();
	}
	r->act[r->nact++] = (struct activation){ process, func, slot };
}

/* Forget (or count) all of one slot. */
static void end_slot(struct run *r, int process, uint64_t slot, int returned)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nact; i++) {
		if (r->act[i].process == process && r->act[i].slot == slot) {
			r->o->func[r->act[i].func].exits += returned;
			continue;
		}
		r->act[n++] = r->act[i];
	}
	r->nact = n;
}

static int holds(struct run *r, int process, uint64_t slot)
{
	for (size_t i = r->nact; i--;)
		if (r->act[i].process == process && r->act[i].slot == slot)
			return 1;
	return 0;
}

static int peek(int tid, uint64_t addr, void *buf, size_t n)
{
	struct iovec l = { buf, n }, m = { (void *)addr, n };

	return process_vm_readv(tid, &l, 1, &m, 1, 0) == (ssize_t)n ? 0 : -1;
}

static int is_ret(int tid, uint64_t rip)
{
	uint8_t b[2] = { 0 };

	if (peek(tid, rip, b, 2))
		return 0;
	if (b[0] == 0xf3 || b[0] == 0xf2)
		b[0] = b[1];
	return b[0] == 0xc3 || b[0] == 0xc2;
}

/* e8, or ff /2 with prefixes: and then the stack holds where it came from. */
static int was_call(int tid, const struct task *t, uint64_t rsp)
{
	uint64_t ra;

	if (rsp != t->rsp - 8)
		return 0;
	if (peek(tid, rsp, &ra, 8))
		return 0;
	return ra > t->rip && ra <= t->rip + 15;
}

static struct oracle_func *func_at(struct run *r, uint64_t addr)
{
	struct oracle *o = r->o;
	size_t lo = 0, hi = o->n;

	addr -= r->bias;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (o->func[mid].addr < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < o->n && o->func[lo].addr == addr ? &o->func[lo] : NULL;
}

static void look(struct run *r, struct task *t,
		 const struct user_regs_struct *u)
{
	struct oracle_func *f = func_at(r, u->rip);
	int call = t->known && was_call(t->tid, t, u->rsp);

	r->o->steps++;
	if (t->known && u->rsp > t->rsp && holds(r, t->process, t->rsp) &&
	    is_ret(t->tid, t->rip))
		end_slot(r, t->process, t->rsp, 1);
	/* A call writes its slot: whoever was known there is gone. */
	if (call && holds(r, t->process, u->rsp))
		end_slot(r, t->process, u->rsp, 0);
	if (f) {
		uint64_t from = t->rip - r->bias;

		if (!t->known || call || from < f->addr ||
		    from >= f->addr + f->size) {
			f->entries++;
			push(r, t->process, (unsigned int)(f - r->o->func),
			     u->rsp);
		}
	}
	t->rip = u->rip;
	t->rsp = u->rsp;
	t->known = 1;
}

static void copy_acts(struct run *r, int from, int to)
{
	size_t n = r->nact;

	for (size_t i = 0; i < n; i++)
		if (r->act[i].process == from)
			push(r, to, r->act[i].func, r->act[i].slot);
}

static void drop_process(struct run *r, int process)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nact; i++)
		if (r->act[i].process != process)
			r->act[n++] = r->act[i];
	r->nact = n;
}

static void resume(struct run *r, struct task *t, int sig)
{
	ptrace(t->stepping && !r->over ? PTRACE_SINGLESTEP : PTRACE_CONT,
	       t->tid, 0, sig);
}

static void breakpoint(int pid, uint64_t addr, long *orig)
{
	*orig = ptrace(PTRACE_PEEKTEXT, pid, addr, 0);
	ptrace(PTRACE_POKETEXT, pid, addr, (*orig & ~0xffl) | 0xcc);
}

static void new_child(struct run *r, struct task *t, int event)
{
	unsigned long child = 0;
	struct task *c;

	ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &child);
	c = add_task(r, (int)child,
		     event == PTRACE_EVENT_CLONE ? t->process : (int)child);
	if (!c)
		return;
	if (event == PTRACE_EVENT_CLONE)
		c->process = t->process;
	else
		copy_acts(r, t->process, c->process = (int)child);
	c->stepping = t->stepping;
	c->known = 0;
}

static void one_stop(struct run *r, int tid, int status)
{
	struct task *t = task_of(r, tid);
	struct user_regs_struct u;
	int event = status >> 16, sig = WSTOPSIG(status);

	if (!t) {
		/* A child may stop before its parent tells of it: keep it
		 * until then.  new_child() fills in the rest. */
		t = add_task(r, tid, tid);
		if (t)
			t->stepping = 1;
		return;
	}
	if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
	    event == PTRACE_EVENT_VFORK) {
		unsigned long child = 0;
		int early;

		ptrace(PTRACE_GETEVENTMSG, tid, 0, &child);
		early = task_of(r, (int)child) != NULL;
		new_child(r, t, event);
		if (early)
			resume(r, task_of(r, (int)child), 0);
		resume(r, t, 0);
		return;
	}
	if (event) {
		resume(r, t, 0);
		return;
	}
	if (sig == SIGSTOP && !t->known) { /* a new task's first stop */
		resume(r, t, 0);
		return;
	}
	ptrace(PTRACE_GETREGS, tid, 0, &u);
	if (sig == SIGTRAP) {
		look(r, t, &u);
		if (tid == r->first && u.rip == r->o->end + r->bias)
			r->over = 1;
		sig = 0;
	}
	resume(r, t, sig);
}

static uint64_t find_bias(int pid, uint64_t entry)
{
	uint64_t pair[2];
	char path[64];
	uint64_t at = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && read(fd, pair, sizeof(pair)) == sizeof(pair))
		if (pair[0] == 9) /* AT_ENTRY */
			at = pair[1];
	close(fd);
	return at - entry;
}

static int start(struct run *r, char *const argv[], int out_fd)
{
	const long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			     PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
	struct user_regs_struct u;
	int status;
	long orig;
	pid_t pid = fork();

	if (!pid) {
		dup2(out_fd, 1);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execv(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		return -ECHILD;
	ptrace(PTRACE_SETOPTIONS, pid, 0, options);
	r->first = pid;
	r->bias = find_bias(pid, r->o->entry);
	breakpoint(pid, r->o->begin + r->bias, &orig);
	ptrace(PTRACE_CONT, pid, 0, 0);
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != SIGTRAP)
		return -ECHILD;
	ptrace(PTRACE_POKETEXT, pid, r->o->begin + r->bias, orig);
	ptrace(PTRACE_GETREGS, pid, 0, &u);
	u.rip = r->o->begin + r->bias;
	ptrace(PTRACE_SETREGS, pid, 0, &u);
	add_task(r, pid, pid)->stepping = 1;
	resume(r, &r->task[0], 0);
	return 0;
}

int oracle_run(struct oracle *o, char *const argv[], char *out, size_t size)
{
	struct run r = { .o = o };
	int pipes[2], status, ret, tid, code = -1;
	size_t got = 0;
	ssize_t n;

	o->steps = 0;
	for (size_t i = 0; i < o->n; i++)
		o->func[i].entries = o->func[i].exits = 0;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	ret = start(&r, argv, pipes[1]);
	close(pipes[1]);
	while (!ret && (tid = waitpid(-1, &status, __WALL)) > 0) {
		if (WIFSTOPPED(status)) {
			one_stop(&r, tid, status);
			continue;
		}
		if (tid == r.first)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
		for (int i = 0; i < r.ntasks; i++) {
			if (r.task[i].tid != tid)
				continue;
			if (r.task[i].process == tid)
				drop_process(&r, tid);
			r.task[i] = r.task[--r.ntasks];
		}
		if (tid == r.first)
			break;
	}
	while (got + 1 < size &&
	       (n = read(pipes[0], out + got, size - 1 - got)) > 0)
		got += (size_t)n;
	out[got] = '\0';
	close(pipes[0]);
	free(r.act);
	return ret ? ret : code;
}
