/*
 * Attaching to and detaching from a program that never rests: it must not
 * notice, and its bytes must be the file's again each time.
 *
 * usage: attach_test BUSY PRELOAD
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "probe/ptrace.h"
#include "probe/share.h"

static char *busy, *preload;

struct tally {
	uint64_t n[EVENT_KINDS], deadline;
	volatile int stop;
};

static void sink(const struct probe_event *ev, void *opaque)
{
	struct tally *t = opaque;

	t->n[ev->kind]++;
	if (ev->time > t->deadline)
		t->stop = 1;
}

static pid_t start(void)
{
	char *argv[] = { busy, NULL }, line[16];
	int pipes[2];
	pid_t pid;

	assert_return_code(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		dup2(pipes[1], 1);
		execv(busy, argv);
		_exit(127);
	}
	close(pipes[1]);
	assert_true(read(pipes[0], line, sizeof(line)) > 0);
	close(pipes[0]);
	return pid;
}

static void finish(pid_t pid)
{
	int status;

	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Every executable byte of the program is the file's. */
static void bytes_are_back(pid_t pid)
{
	struct err e = { 0 };
	struct selection s;
	char path[64];
	int fd;

	assert_int_equal(selection_of_process(&s, pid, &e), 0);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	for (size_t i = 0; i < s.mod[0].im->nseg; i++) {
		const struct image_segment *g = &s.mod[0].im->seg[i];
		uint8_t *live;

		if (!g->exec)
			continue;
		live = malloc(g->filesz);
		assert_int_equal(pread(fd, live, g->filesz,
				       (off_t)(g->addr + s.mod[0].bias)),
				 g->filesz);
		assert_memory_equal(live, s.mod[0].im->map + g->offset,
				    g->filesz);
		free(live);
	}
	close(fd);
	selection_close(&s);
}

static void attach_once(pid_t pid, const struct tracer_options *opt,
			struct tally *t, unsigned int ms)
{
	struct err e = { 0 };
	struct tracer *tr;

	t->stop = 0;
	if (tracer_attach(&tr, pid, "b_*", opt, sink, t, &e) < 0)
		fail_msg("%s", e.text);
	t->deadline = now_ns() + ms * 1000000ull;
	while (!t->stop && !tracer_wait(tr, &t->stop))
		;
	tracer_close(tr);
}

static void comes_and_goes(void **state)
{
	const struct tracer_options opt = {
		.engine = { .entry = true, .exit = true },
	};
	struct tally t = { .stop = 0 };
	pid_t pid = start();

	for (int i = 0; i < 12; i++) {
		attach_once(pid, &opt, &t, 60);
		bytes_are_back(pid);
		usleep(5000);
	}
	assert_true(t.n[EVENT_ENTRY] > 200);
	assert_true(t.n[EVENT_EXIT] > 200);
	assert_true(t.n[EVENT_ABANDONED] > 2);
	/* What was under way at a detach is all that is missing. */
	assert_true(t.n[EVENT_ENTRY] >= t.n[EVENT_EXIT]);
	assert_true(t.n[EVENT_ENTRY] - t.n[EVENT_EXIT] - t.n[EVENT_ABANDONED] <
		    12 * 4 * 50);
	finish(pid);
}

static void by_swapped_addresses(void **state)
{
	const struct tracer_options opt = {
		.engine = { .entry = true, .exit = true, .swap_form = true },
		.children = true,
	};
	struct tally t = { .stop = 0 };
	pid_t pid = start();

	for (int i = 0; i < 6; i++) {
		attach_once(pid, &opt, &t, 60);
		bytes_are_back(pid);
	}
	assert_true(t.n[EVENT_EXIT] > 100);
	finish(pid);
}

/* The same program with its probes inside, by exceptions and by jumps. */
static void probed_from_within(void **state)
{
	static const char *const ways[] = { "ex", "exJ", "exJC", "exs" };

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		char share[64];
		struct share *s;
		struct err e = { 0 };
		uint64_t n = 0;
		pid_t pid;

		snprintf(share, sizeof(share), "/tmp/pagurus-attach-%d",
			 getpid());
		unlink(share);
		setenv("LD_PRELOAD", preload, 1);
		setenv("PAGURUS_PROBE", "b_*", 1);
		setenv("PAGURUS_PROBE_SHARE", share, 1);
		setenv("PAGURUS_PROBE_OPTIONS", ways[i], 1);
		pid = start();
		unsetenv("LD_PRELOAD");
		unsetenv("PAGURUS_PROBE");
		usleep(400000);
		finish(pid);
		assert_int_equal(share_open(&s, share, &e), 0);
		assert_string_equal(s->error, "");
		for (uint32_t k = 0; k < s->nfunc; k++)
			n += s->func[k].count[EVENT_EXIT];
		share_close(s);
		unlink(share);
		assert_true(n > 100);
	}
}

static void no_such_process_or_function(void **state)
{
	const struct tracer_options opt = { .engine = { .entry = true } };
	struct tracer *tr;
	struct err e = { 0 };
	pid_t pid = start();

	assert_true(tracer_attach(&tr, 0x7ffffff0, "b_*", &opt, sink, NULL,
				  &e) < 0);
	assert_non_null(strstr(e.text, "no process"));
	err_clear(&e);
	assert_true(tracer_attach(&tr, pid, "nosuch", &opt, sink, NULL, &e) <
		    0);
	assert_non_null(strstr(e.text, "no function 'nosuch'"));
	bytes_are_back(pid);
	finish(pid);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_and_goes),
		cmocka_unit_test(by_swapped_addresses),
		cmocka_unit_test(probed_from_within),
		cmocka_unit_test(no_such_process_or_function),
	};

	if (argc < 3)
		return 2;
	busy = argv[1];
	preload = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
