/*
 * The guest target without a guest: a program stands in for the kernel, and
 * ptrace for the VMM's debugging calls, which are defined here.  It has what
 * matters to the target: code without unwind data, no memory for
 * trampolines, one int3 and one ret to be found in the text.
 *
 * usage: guest_test CORPUS CASE...
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oracle.h"
#include "probe/guest.h"
#include "probe/image.h"
#include "vmm/debug.h"

struct vm {
	pid_t pid;
	const struct vm_debug_ops *ops;
	void *opaque;
	struct user_regs_struct u;
};

static long counts[1024][EVENT_KINDS];

void vm_debug_detach(struct vm *vm)
{
	vm->ops = NULL;
}

int vm_debug_attach(struct vm *vm, const struct vm_debug_ops *ops, void *opaque)
{
	vm->ops = ops;
	vm->opaque = opaque;
	return 0;
}

static int transfer(struct vm *vm, uint64_t at, void *buf, size_t len, int put)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", vm->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = put ? pwrite(fd, buf, len, (off_t)at)
		: pread(fd, buf, len, (off_t)at);
	close(fd);
	return n == (ssize_t)len ? 0 : -EFAULT;
}

int vm_debug_read(struct vm *vm, unsigned int cpu, uint64_t gva, void *buf,
		  size_t len)
{
	return transfer(vm, gva, buf, len, 0);
}

int vm_debug_write(struct vm *vm, unsigned int cpu, uint64_t gva,
		   const void *buf, size_t len)
{
	return transfer(vm, gva, (void *)buf, len, 1);
}

/* Its addresses are all there are. */
int vm_debug_translate(struct vm *vm, uint64_t cr3, bool la57, uint64_t gva,
		       gpa_t *gpa)
{
	uint8_t byte;

	gpa->v = gva;
	return transfer(vm, gva, &byte, 1, 0);
}

int vm_debug_read_phys(struct vm *vm, gpa_t gpa, void *buf, size_t len)
{
	return transfer(vm, gpa.v, buf, len, 0);
}

int vm_debug_write_phys(struct vm *vm, gpa_t gpa, const void *buf, size_t len)
{
	return transfer(vm, gpa.v, (void *)buf, len, 1);
}

int vm_debug_get_sregs(struct vm *vm, unsigned int cpu, struct kvm_sregs *s)
{
	*s = (struct kvm_sregs){ .cr3 = 0 };
	return 0;
}

int vm_debug_get_msr(struct vm *vm, unsigned int cpu, uint32_t msr, uint64_t *v)
{
	return -EINVAL;
}

unsigned int vm_debug_trap(struct vm *vm, unsigned int room, uint8_t *trap)
{
	*trap = 0xcc;
	return 1;
}

int vm_debug_get_regs(struct vm *vm, unsigned int cpu, struct kvm_regs *r)
{
	const struct user_regs_struct *u = &vm->u;

	*r = (struct kvm_regs){
		.rax = u->rax,
		.rbx = u->rbx,
		.rcx = u->rcx,
		.rdx = u->rdx,
		.rsi = u->rsi,
		.rdi = u->rdi,
		.rsp = u->rsp,
		.rbp = u->rbp,
		.r8 = u->r8,
		.r9 = u->r9,
		.r10 = u->r10,
		.r11 = u->r11,
		.r12 = u->r12,
		.r13 = u->r13,
		.r14 = u->r14,
		.r15 = u->r15,
		.rip = u->rip,
		.rflags = u->eflags,
	};
	return 0;
}

int vm_debug_set_regs(struct vm *vm, unsigned int cpu, const struct kvm_regs *r)
{
	vm->u.rcx = r->rcx;
	vm->u.rsp = r->rsp;
	vm->u.rip = r->rip;
	return 0;
}

int vm_pause(struct vm *vm)
{
	return 0;
}

void vm_resume(struct vm *vm)
{
}

int vm_park(struct vm *vm)
{
	return 0;
}

unsigned int vm_cpus(const struct vm *vm)
{
	return 1;
}

static void sink(const struct probe_event *ev, void *opaque)
{
	if (ev->func < 1024)
		counts[ev->func][ev->kind]++;
}

/* What the program would say of itself if it were a kernel. */
static char *kallsyms(const char *corpus, uint64_t bias)
{
	struct err e = { 0 };
	struct image *im;
	size_t size = 1 << 20;
	char *text = malloc(size);
	FILE *f = text ? fmemopen(text, size, "w") : NULL;

	if (!f || image_open(&im, corpus, &e) < 0)
		exit(2);
	for (size_t i = 0; i < im->nseg; i++)
		if (im->seg[i].exec)
			fprintf(f, "%016lx T _stext\n%016lx T _etext\n",
				im->seg[i].addr + bias,
				im->seg[i].addr + im->seg[i].filesz + bias);
	for (size_t i = 0; i < im->nsym; i++)
		if (im->sym[i].func)
			fprintf(f, "%016lx %c %s\n", im->sym[i].addr + bias,
				im->sym[i].bind == 1 ? 'T' : 't',
				im->sym[i].name);
	for (size_t i = 0; i < im->nstub; i++)
		fprintf(f, "%016lx t %s_stub\n", im->stub[i].addr + bias,
			im->stub[i].name);
	fclose(f);
	image_close(im);
	return text;
}

static uint64_t bias_of(pid_t pid, uint64_t entry)
{
	uint64_t pair[2], at = 0;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (read(fd, pair, sizeof(pair)) == sizeof(pair))
		if (pair[0] == 9) /* AT_ENTRY */
			at = pair[1];
	close(fd);
	return at - entry;
}

/* One stop: to the target if it is a breakpoint, else on with it. */
static void serve(struct vm *vm, int status)
{
	struct vm_debug_stop stop = { .breakpoint = true };
	int sig = WSTOPSIG(status);

	ptrace(PTRACE_GETREGS, vm->pid, 0, &vm->u);
	if (sig == SIGTRAP && vm->ops) {
		vm->u.rip--;
		stop.pc = vm->u.rip;
		if (vm->ops->stop(vm->opaque, vm, &stop)) {
			ptrace(PTRACE_SETREGS, vm->pid, 0, &vm->u);
			sig = 0;
		}
	}
	ptrace(PTRACE_CONT, vm->pid, 0, sig);
}

static int run_case(struct oracle *o, const char *corpus, const char *name)
{
	const struct engine_options opt = { .entry = true,
					    .exit = true,
					    .jump = true };
	char *argv[] = { (char *)corpus, (char *)name, NULL };
	char want[4096], got[4096] = "", *text;
	struct guest_probe *g;
	struct err e = { 0 };
	struct vm vm = { .pid = 0 };
	int pipes[2], status, code, bad = 0, known = 0;
	ssize_t n;

	code = oracle_run(o, argv, want, sizeof(want));
	memset(counts, 0, sizeof(counts));
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return 1;
	vm.pid = fork();
	if (!vm.pid) {
		dup2(pipes[1], 1);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execv(corpus, argv);
		_exit(127);
	}
	close(pipes[1]);
	waitpid(vm.pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, vm.pid, 0, PTRACE_O_EXITKILL);
	text = kallsyms(corpus, bias_of(vm.pid, o->entry));
	if (guest_probe_start(&g, &vm, text, "[a-z]_*", &opt, sink, NULL, &e)) {
		printf("FAIL %s: %s\n", name, e.text);
		return 1;
	}
	ptrace(PTRACE_CONT, vm.pid, 0, 0);
	while (waitpid(vm.pid, &status, 0) == vm.pid && WIFSTOPPED(status))
		serve(&vm, status);
	n = read(pipes[0], got, sizeof(got) - 1);
	close(pipes[0]);
	if (n < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != code ||
	    strcmp(got, want)) {
		printf("FAIL %s: the program was disturbed (%x)\n", name,
		       status);
		bad++;
	}
	for (unsigned int i = 0; i < engine_nfuncs(guest_probe_engine(g));
	     i++) {
		const char *fn = engine_func(guest_probe_engine(g), i)->name;

		for (size_t k = 0; k < o->n; k++) {
			const struct oracle_func *f = &o->func[k];

			if (strcmp(f->name, fn))
				continue;
			known += f->entries > 0;
			if (counts[i][EVENT_ENTRY] == f->entries &&
			    counts[i][EVENT_EXIT] == f->exits)
				continue;
			printf("FAIL %s: %s: %ld entries, %ld exits; the"
			       " oracle saw %ld and %ld\n",
			       name, fn, counts[i][EVENT_ENTRY],
			       counts[i][EVENT_EXIT], f->entries, f->exits);
			bad++;
		}
	}
	if (!known) {
		printf("FAIL %s: nothing was compared\n", name);
		bad++;
	}
	printf("%s: %d functions as the oracle saw them, %lu swapped\n", name,
	       known - bad, engine_stats(guest_probe_engine(g))->swapped);
	/* The program is gone, and its memory with it. */
	guest_probe_stop(g);
	free(text);
	return bad;
}

int main(int argc, char **argv)
{
	struct oracle o;
	int bad = 0;

	setenv("LD_BIND_NOW", "1", 1);
	if (argc < 3 || oracle_open(&o, argv[1]) < 0)
		return 2;
	for (int i = 2; i < argc; i++)
		bad += run_case(&o, argv[1], argv[i]);
	oracle_close(&o);
	return bad != 0;
}
