#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/sock.h"
#include "base/util.h"
#include "ctl/ctl.h"

static char dir[64];

struct bench {
	struct loop *l;
	struct ctl_server *s;
	pthread_t thread;
	struct ctl_call *kept;
	int taken;
};

static int m_echo(void *opaque, struct ctl_call *c, const json_t *params,
		  json_t **result, struct err *e)
{
	*result = json_deep_copy(params);
	return 0;
}

static int m_fail(void *opaque, struct ctl_call *c, const json_t *params,
		  json_t **result, struct err *e)
{
	return err_set(e, -EBUSY, "not now");
}

static int m_later(void *opaque, struct ctl_call *c, const json_t *params,
		   json_t **result, struct err *e)
{
	struct bench *b = opaque;

	for (int i = 0; i < 3; i++)
		ctl_event(c, json_pack("{s:i}", "n", i));
	b->kept = c;
	return CTL_LATER;
}

static int m_finish(void *opaque, struct ctl_call *c, const json_t *params,
		    json_t **result, struct err *e)
{
	struct bench *b = opaque;
	bool heard = ctl_event(b->kept, json_pack("{s:i}", "n", 3));

	ctl_reply(b->kept, json_pack("{s:b}", "late", 1));
	*result = json_pack("{s:b}", "heard", heard);
	return 0;
}

static int m_raw(void *opaque, struct ctl_call *c, const json_t *params,
		 json_t **result, struct err *e)
{
	struct bench *b = opaque;

	b->taken = ctl_take_fd(c);
	if (b->taken >= 0 && write(b->taken, "raw\n", 4) < 0)
		return CTL_LATER;
	return CTL_LATER;
}

static int m_stop(void *opaque, struct ctl_call *c, const json_t *params,
		  json_t **result, struct err *e)
{
	struct bench *b = opaque;

	loop_stop(b->l);
	return 0;
}

static const struct ctl_method first[] = {
	{ "echo", "say it back", m_echo },
	{ "fail", "always", m_fail },
	{ NULL, NULL, NULL },
};

static const struct ctl_method second[] = {
	{ "later", "answered by finish", m_later },
	{ "finish", "answer later", m_finish },
	{ "raw", "give the connection away", m_raw },
	{ "stop", "end", m_stop },
	{ NULL, NULL, NULL },
};

static void *serve(void *opaque)
{
	struct bench *b = opaque;

	loop_run(b->l);
	return NULL;
}

static int setup(void **state)
{
	static struct bench b;
	struct err e = { 0 };

	b = (struct bench){ .taken = -1 };
	*state = &b;
	if (loop_create(&b.l) < 0 ||
	    ctl_server_create(&b.s, b.l, dir, "vm1", &e) < 0)
		return -1;
	ctl_server_add(b.s, first, NULL);
	ctl_server_add(b.s, second, &b);
	return pthread_create(&b.thread, NULL, serve, &b);
}

static int teardown(void **state)
{
	struct bench *b = *state;
	char path[PATH_MAX];

	loop_stop(b->l);
	pthread_join(b->thread, NULL);
	snprintf(path, sizeof(path), "%s", ctl_server_path(b->s));
	ctl_server_destroy(b->s);
	loop_destroy(b->l);
	close_fd(&b->taken);
	return access(path, F_OK) == 0 ? -1 : 0;
}

static void names_are_checked(void **state)
{
	char path[PATH_MAX], small[16];
	struct err e = { 0 };

	assert_int_equal(ctl_name_check("web-1.a_B", NULL), 0);
	assert_int_equal(ctl_name_check("", &e), -EINVAL);
	assert_int_equal(ctl_name_check(".x", NULL), -EINVAL);
	assert_int_equal(ctl_name_check("../x", NULL), -EINVAL);
	assert_int_equal(ctl_name_check("a b", NULL), -EINVAL);
	assert_int_equal(ctl_name_check("a2345678901234567890123456789012",
					NULL),
			 -EINVAL);
	assert_int_equal(ctl_path(path, sizeof(path), "/x", "vm", "sock", NULL),
			 0);
	assert_string_equal(path, "/x/vm.sock");
	assert_int_equal(ctl_path(small, sizeof(small), "/xxxxxxxxxxxx", "vm",
				  "sock", NULL),
			 -ENAMETOOLONG);
	memset(path, 'x', 120);
	path[0] = '/';
	path[120] = '\0';
	assert_int_equal(ctl_path(path + 200, 1000, path, "vm", "sock", NULL),
			 -ENAMETOOLONG);

	setenv("PAGURUS_DIR", "/p", 1);
	setenv("XDG_RUNTIME_DIR", "/r", 1);
	ctl_dir(path, sizeof(path), "/d", NULL);
	assert_string_equal(path, "/d");
	ctl_dir(path, sizeof(path), NULL, NULL);
	assert_string_equal(path, "/p");
	unsetenv("PAGURUS_DIR");
	ctl_dir(path, sizeof(path), NULL, NULL);
	assert_string_equal(path, "/r/pagurus");
	unsetenv("XDG_RUNTIME_DIR");
	ctl_dir(path, sizeof(path), NULL, NULL);
	assert_string_equal(path, "/run/pagurus");
}

static void questions_are_answered(void **state)
{
	struct ctl_client *c;
	struct err e = { 0 };
	json_t *r;

	assert_int_equal(ctl_connect(&c, dir, "vm1", &e), 0);
	assert_int_equal(ctl_ask(c, "echo", json_pack("{s:i}", "x", 7), NULL,
				 NULL, &r, &e),
			 0);
	assert_int_equal(json_integer_value(json_object_get(r, "x")), 7);
	json_decref(r);
	assert_int_equal(ctl_ask(c, "echo", NULL, NULL, NULL, &r, &e), 0);
	assert_int_equal(json_object_size(r), 0);
	json_decref(r);
	assert_int_equal(ctl_ask(c, "fail", NULL, NULL, NULL, &r, &e), -EBUSY);
	assert_string_equal(e.text, "not now");
	assert_null(r);
	err_clear(&e);
	assert_int_equal(ctl_ask(c, "nope", NULL, NULL, NULL, NULL, &e),
			 -ENOSYS);
	assert_int_equal(ctl_ask(c, "help", NULL, NULL, NULL, &r, NULL), 0);
	assert_int_equal(json_object_size(r), 6);
	json_decref(r);
	ctl_close(c);
}

static bool on_event(void *opaque, const json_t *event)
{
	int *n = opaque;

	if (json_integer_value(json_object_get(event, "n")) != *n)
		*n = -100;
	return ++*n < 3;
}

static void long_calls_tell_progress(void **state)
{
	struct ctl_client *c, *c2;
	json_t *r;
	int n = 0;

	assert_int_equal(ctl_connect(&c, dir, "vm1", NULL), 0);
	assert_int_equal(ctl_ask(c, "later", NULL, on_event, &n, NULL, NULL),
			 -EINTR);
	assert_int_equal(n, 3);

	/* Another connection is served meanwhile, and it ends the first. */
	assert_int_equal(ctl_connect(&c2, dir, "vm1", NULL), 0);
	assert_int_equal(ctl_ask(c2, "finish", NULL, NULL, NULL, &r, NULL), 0);
	assert_true(json_is_true(json_object_get(r, "heard")));
	json_decref(r);
	/* Its answer is not taken for that of the next question. */
	assert_int_equal(ctl_ask(c, "echo", json_pack("{s:i}", "x", 1), NULL,
				 NULL, &r, NULL),
			 0);
	assert_int_equal(json_integer_value(json_object_get(r, "x")), 1);
	json_decref(r);

	/* Gone in the middle: the call goes on and is answered to nobody. */
	n = 0;
	ctl_ask(c, "later", NULL, on_event, &n, NULL, NULL);
	ctl_close(c);
	assert_int_equal(ctl_ask(c2, "echo", NULL, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(ctl_ask(c2, "finish", NULL, NULL, NULL, &r, NULL), 0);
	assert_true(json_is_false(json_object_get(r, "heard")));
	json_decref(r);
	ctl_close(c2);
}

static void a_connection_can_be_taken(void **state)
{
	struct bench *b = *state;
	struct ctl_client *c;
	char buf[16] = "";

	assert_int_equal(ctl_connect(&c, dir, "vm1", NULL), 0);
	assert_int_equal(ctl_ask(c, "raw", NULL, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(read(ctl_fd(c), buf, sizeof(buf)), 4);
	assert_string_equal(buf, "raw\n");
	assert_int_equal(write(ctl_fd(c), "up", 2), 2);
	assert_int_equal(read(b->taken, buf, sizeof(buf)), 2);
	ctl_close(c);
}

static void talk(int fd, const char *say, size_t len, char *answer, size_t size)
{
	ssize_t n;

	assert_int_equal(send(fd, say, len, MSG_NOSIGNAL), len);
	n = recv(fd, answer, size - 1, 0);
	answer[n < 0 ? 0 : n] = '\0';
}

static void nonsense_gets_an_answer(void **state)
{
	static const struct {
		const char *say, *want;
	} rows[] = {
		{ "hello\n", "not a JSON object" },
		{ "[1,2]\n", "not a JSON object" },
		{ "{}\n", "a request is" },
		{ "{\"method\":3}\n", "a request is" },
		{ "{\"method\":\"echo\",\"params\":[]}\n", "a request is" },
		{ "{\"id\":{},\"method\":\"fail\"}\n", "\"id\":null" },
		{ "{\"id\":\"s\",\"method\":\"echo\"}\n", "\"id\":\"s\"" },
		{ "\n", "not a JSON object" },
	};
	static char big[CTL_LINE_MAX + 1];
	char path[PATH_MAX], answer[1024];
	int fd;

	ctl_path(path, sizeof(path), dir, "vm1", "sock", NULL);
	fd = sock_connect(path, SOCK_STREAM, NULL);
	assert_true(fd >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		talk(fd, rows[i].say, strlen(rows[i].say), answer,
		     sizeof(answer));
		assert_int_equal(answer[strlen(answer) - 1], '\n');
		assert_non_null(strstr(answer, rows[i].want));
	}
	/* In pieces, and several at once. */
	assert_int_equal(send(fd, "{\"id\":1,\"met", 12, 0), 12);
	talk(fd, "hod\":\"echo\"}\n{\"id\":2,\"method\":\"echo\"}\n", 38,
	     answer, sizeof(answer));
	assert_non_null(strstr(answer, "\"id\":1"));
	/* Endless: hung up. */
	memset(big, 'x', sizeof(big));
	(void)!send(fd, big, sizeof(big), MSG_NOSIGNAL);
	while (recv(fd, answer, sizeof(answer), 0) > 0)
		;
	close(fd);

	fd = sock_connect(path, SOCK_STREAM, NULL);
	talk(fd, "{\"id\":3,\"method\":\"echo\"}\n", 25, answer,
	     sizeof(answer));
	assert_non_null(strstr(answer, "\"id\":3"));
	close(fd);
}

/* As a process that is stopped: the kernel still takes connections for it. */
static void the_mute_are_given_up_on(void **state)
{
	char path[PATH_MAX], pid[32];
	struct ctl_client *c;
	struct err e = { 0 };
	int fd;

	ctl_path(path, sizeof(path), dir, "mute", "sock", NULL);
	fd = sock_listen(path, SOCK_STREAM, NULL);
	assert_true(fd >= 0);
	assert_int_equal(ctl_connect(&c, dir, "mute", NULL), 0);
	ctl_patience(c, 50);
	assert_int_equal(ctl_ask(c, "status", NULL, NULL, NULL, NULL, &e),
			 -ETIMEDOUT);
	snprintf(pid, sizeof(pid), "kill -CONT %d", (int)getpid());
	assert_non_null(strstr(e.text, pid));
	ctl_close(c);
	close(fd);
	unlink(path);
}

static void a_full_house_says_so(void **state)
{
	struct ctl_client *c[CTL_CONNS + 1];
	struct err e = { 0 };

	for (unsigned int i = 0; i < CTL_CONNS; i++) {
		assert_int_equal(ctl_connect(&c[i], dir, "vm1", NULL), 0);
		assert_int_equal(
			ctl_ask(c[i], "echo", NULL, NULL, NULL, NULL, NULL), 0);
	}
	assert_int_equal(ctl_connect(&c[CTL_CONNS], dir, "vm1", NULL), 0);
	assert_int_equal(ctl_ask(c[CTL_CONNS], "echo", NULL, NULL, NULL, NULL,
				 &e),
			 -EBUSY);
	assert_non_null(strstr(e.text, "too many connections"));
	for (unsigned int i = 0; i <= CTL_CONNS; i++)
		ctl_close(c[i]);
}

static void a_name_is_for_one(void **state)
{
	struct ctl_server *s2;
	struct ctl_client *c;
	struct err e = { 0 };
	struct loop *l;
	char path[PATH_MAX];
	struct stat st;
	int fd;

	assert_int_equal(loop_create(&l), 0);
	assert_int_equal(ctl_server_create(&s2, l, dir, "vm1", &e),
			 -EADDRINUSE);
	assert_non_null(strstr(e.text, "runs already"));

	ctl_path(path, sizeof(path), dir, "vm1", "sock", NULL);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	/* What a killed process left behind is in nobody's way. */
	ctl_path(path, sizeof(path), dir, "vm2", "sock", NULL);
	fd = sock_listen(path, SOCK_STREAM, NULL);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(access(path, F_OK), 0);
	err_clear(&e);
	assert_int_equal(ctl_connect(&c, dir, "vm2", &e), -ECONNREFUSED);
	assert_non_null(strstr(e.text, "nothing named 'vm2' runs here"));
	assert_int_equal(ctl_server_create(&s2, l, dir, "vm2", NULL), 0);
	ctl_server_destroy(s2);
	assert_int_equal(access(path, F_OK), -1);

	chmod(dir, 0777);
	assert_int_equal(ctl_server_create(&s2, l, dir, "vm3", NULL), -EPERM);
	chmod(dir, 0700);
	loop_destroy(l);
}

static void count(void *opaque, const char *name)
{
	int *n = opaque;

	if (!strcmp(name, "vm1"))
		++*n;
	else
		*n = -100;
}

static void sockets_can_be_listed(void **state)
{
	char path[128];
	int n = 0;

	snprintf(path, sizeof(path), "%s/other.txt", dir);
	close(creat(path, 0600));
	assert_int_equal(ctl_each(dir, count, &n, NULL), 0);
	assert_int_equal(n, 1);
	unlink(path);
	assert_int_equal(ctl_each("/nonexistent", count, &n, NULL), 0);
}

#define SERVED(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_checked),
		SERVED(questions_are_answered),
		SERVED(long_calls_tell_progress),
		SERVED(a_connection_can_be_taken),
		SERVED(nonsense_gets_an_answer),
		SERVED(the_mute_are_given_up_on),
		SERVED(a_full_house_says_so),
		SERVED(a_name_is_for_one),
		SERVED(sockets_can_be_listed),
	};
	int ret;

	snprintf(dir, sizeof(dir), "/tmp/ctl-test-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return ret;
}
