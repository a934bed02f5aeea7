#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/util.h"
#include "igb/fake_igb.h"
#include "igb/pf_client.h"
#include "igb/pf_proto.h"
#include "igb/pf_server.h"

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa };

struct bench {
	struct fake_igb d;
	struct loop *loop, *vm_loop; /* the driver's and the VM's */
	pthread_t thread;	     /* runs the driver's */
	struct pf *pf;
	struct pf_server *srv;
	const char *policy;
	char path[64];
	struct pf_event got[32];
	unsigned int ngot;
	struct pf_verdict verdict;
	unsigned int nverdicts;
	unsigned int vf; /* arguments of what runs in the driver's thread */
	uint32_t off, val;
};

static void quiet(enum log_level level, const char *line, void *opaque)
{
}

static int spec_of(void *opaque, unsigned int vf, char *buf, size_t size)
{
	snprintf(buf, size, "fake:vf%u,vf-token=secret", vf);
	return 0;
}

static void *run(void *opaque)
{
	loop_run(((struct bench *)opaque)->loop);
	return NULL;
}

static void driver_up(struct bench *b)
{
	struct pf_conf conf = { .vf_spec = spec_of };
	struct err e = { 0 };

	pf_policy_default(&conf.policy);
	if (b->policy)
		assert_int_equal(pf_policy_parse(&conf.policy, b->policy, NULL),
				 0);
	if (pf_open(&b->pf, fake_igb_pdev(&b->d), b->loop, &conf, &e) < 0 ||
	    pf_server_create(&b->srv, b->pf, b->loop, b->path, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(pthread_create(&b->thread, NULL, run, b), 0);
}

/* As if killed: nothing is given back. */
static void driver_dies(struct bench *b)
{
	loop_stop(b->loop);
	pthread_join(b->thread, NULL);
	pf_close(b->pf);
	pf_server_destroy(b->srv);
	b->pf = NULL;
}

static struct bench *start(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	log_set_sink(quiet, NULL);
	fake_igb_init(&b->d, IGB_DEV_82576);
	assert_int_equal(loop_create(&b->loop), 0);
	assert_int_equal(loop_create(&b->vm_loop), 0);
	snprintf(b->path, sizeof(b->path), "/tmp/pagurus-pf-%d.sock",
		 (int)getpid());
	driver_up(b);
	return b;
}

static void stop(struct bench *b)
{
	if (b->pf) {
		loop_stop(b->loop);
		pthread_join(b->thread, NULL);
		pf_server_destroy(b->srv);
		pf_close(b->pf);
	}
	loop_destroy(b->loop);
	loop_destroy(b->vm_loop);
	assert_int_equal(access(b->path, F_OK), -1);
	free(b);
}

/* Until the condition holds, at most two seconds. */
#define UNTIL(b, cond)                                      \
	do {                                                \
		uint64_t end_ = now_ns() + 2000000000ull;   \
		while (!(cond) && now_ns() < end_)          \
			loop_once((b)->vm_loop, 5);         \
		if (!(cond))                                \
			fail_msg("%s did not come", #cond); \
	} while (0)

static void on_event(void *opaque, const struct pf_event *ev)
{
	struct bench *b = opaque;

	if (b->ngot < ARRAY_SIZE(b->got))
		b->got[b->ngot++] = *ev;
}

static void on_verdict(void *opaque, const struct pf_verdict *v)
{
	struct bench *b = opaque;

	b->verdict = *v;
	b->nverdicts++;
}

static struct pf_port *connect_vm(struct bench *b, unsigned int vf)
{
	struct pf_port *port;
	struct err e = { 0 };

	if (pf_client_open(&port, b->path, vf, "vm", b->vm_loop, NULL, &e) < 0)
		fail_msg("%s", e.text);
	return port;
}

static bool ask(struct bench *b, struct pf_port *port, const struct mbx_req *r)
{
	unsigned int n = b->nverdicts;
	struct mbx_msg m;

	mbx_encode(r, &m);
	assert_int_equal(port->ops->ask(port, &m, on_verdict, b), 0);
	UNTIL(b, b->nverdicts > n);
	return b->verdict.ok;
}

#define REQ(...) (&(const struct mbx_req){ __VA_ARGS__ })

static void do_write(void *opaque)
{
	struct bench *b = opaque;

	fake_igb_vf_write(&b->d, b->vf, b->off, b->val);
}

static void vf_write(struct bench *b, unsigned int vf, uint32_t off,
		     uint32_t val)
{
	b->vf = vf;
	b->off = off;
	b->val = val;
	assert_int_equal(loop_call_wait(b->loop, do_write, b), 0);
}

static void nothing(void *opaque)
{
}

static uint32_t reg(struct bench *b, uint32_t off)
{
	loop_call_wait(b->loop, nothing, NULL);
	return b->d.reg[off / 4];
}

static void kick(void *opaque)
{
	pf_kick(((struct bench *)opaque)->pf, PF_ANY_VF);
}

static void the_socket_keeps_the_contract(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 2);

	assert_int_equal(p->vf, 2);
	assert_string_equal(p->gen, "igb/82576");
	assert_string_equal(p->spec, "fake:vf2,vf-token=secret");
	assert_int_equal(p->ops->listen(p, on_event, b), 0);
	assert_false(ask(b, p, REQ(.op = MBX_OP_LPE, .frame = 1500)));
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_int_equal(reg(b, IGB_VFRE), 4);
	assert_true(
		ask(b, p,
		    REQ(.op = MBX_OP_SET_MAC, .mac = { 2, 0, 0, 0, 0, 0xa })));
	assert_memory_equal(b->verdict.mac, mac_a, 6);

	vf_write(b, 2, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	UNTIL(b, b->ngot == 1);
	assert_int_equal(b->got[0].kind, PF_EV_REQUEST);
	assert_int_equal(b->got[0].vf, 2);
	/* A reset is heard before the answer to what was asked after it. */
	vf_write(b, 2, IGBVF_CTRL, IGB_CTRL_RST);
	assert_false(ask(b, p, REQ(.op = MBX_OP_LPE, .frame = 1500)));
	assert_int_equal(b->ngot, 2);
	assert_int_equal(b->got[1].kind, PF_EV_RESET);
	loop_call_wait(b->loop, kick, b);
	UNTIL(b, b->ngot == 3);
	assert_int_equal(b->got[2].kind, PF_EV_KICK);
	/* No callback, no events. */
	p->ops->listen(p, NULL, NULL);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	loop_call_wait(b->loop, kick, b);
	assert_false(ask(b, p, REQ(.op = MBX_OP_NONE)));
	assert_int_equal(b->ngot, 3);
	pf_port_close(p);
	stop(b);
}

static void refusals_are_told(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 0), *q;
	struct err e = { 0 };

	assert_int_equal(pf_client_open(&q, b->path, 0, "other", b->vm_loop,
					NULL, &e),
			 -EBUSY);
	assert_non_null(strstr(e.text, "in use by vm"));
	err_clear(&e);
	assert_int_equal(pf_client_open(&q, b->path, 77, "other", b->vm_loop,
					NULL, &e),
			 -ENODEV);
	err_clear(&e);
	assert_int_equal(pf_client_open(&q, "/tmp/pagurus-none", 0, "other",
					b->vm_loop, NULL, &e),
			 -ENOENT);
	assert_non_null(strstr(e.text, "start 'pagurus pf'"));
	pf_port_close(p);
	stop(b);
}

/* A VM that dies takes its filters with it, and nothing else. */
static void a_dead_vm_gives_its_vf_back(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 0), *q = connect_vm(b, 1);

	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_true(ask(b, q, REQ(.op = MBX_OP_RESET)));
	assert_true(
		ask(b, p,
		    REQ(.op = MBX_OP_SET_MAC, .mac = { 2, 0, 0, 0, 0, 0xa })));
	assert_int_equal(reg(b, IGB_VFRE), 3);
	assert_int_equal(reg(b, IGB_RAL(23)), 2);
	pf_port_close(p); /* all the driver sees of a kill */
	UNTIL(b, reg(b, IGB_VFRE) == 2);
	assert_int_equal(reg(b, IGB_RAH(23)), 0);
	assert_true(ask(b, q, REQ(.op = MBX_OP_LPE, .frame = 1500)));
	p = connect_vm(b, 0);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	pf_port_close(p);
	pf_port_close(q);
	stop(b);
}

/* The driver is killed and started again: the VM is there, as it was. */
static void a_dead_driver_is_followed(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 3);
	struct mbx_msg m;
	unsigned int n;

	p->ops->listen(p, on_event, b);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_true(
		ask(b, p,
		    REQ(.op = MBX_OP_SET_MAC, .mac = { 2, 0, 0, 0, 0, 0xa })));
	assert_true(ask(b, p,
			REQ(.op = MBX_OP_MULTICAST, .nhashes = 1,
			    .hash = { 0x40 })));
	driver_dies(b);
	UNTIL(b, b->ngot == 1);
	assert_int_equal(b->got[0].kind, PF_EV_GONE);
	assert_int_equal(b->d.reg[IGB_VFRE / 4], 8); /* the VF goes on */
	mbx_encode(REQ(.op = MBX_OP_RESET), &m);
	assert_int_equal(p->ops->ask(p, &m, on_verdict, b), -ENOTCONN);

	driver_up(b);
	UNTIL(b, b->ngot == 2);
	assert_int_equal(b->got[1].kind, PF_EV_BACK);
	assert_false(b->got[1].lost);
	assert_int_equal(b->d.pf_resets, 1);
	assert_int_equal(reg(b, IGB_RAL(20)), 2);
	assert_int_equal(reg(b, IGB_MTA(2)), 1);
	assert_int_equal(reg(b, IGB_VFRE), 8);
	assert_true(ask(b, p, REQ(.op = MBX_OP_LPE, .frame = 1500)));
	vf_write(b, 3, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	UNTIL(b, b->ngot == 3);
	assert_int_equal(b->got[2].kind, PF_EV_REQUEST);

	/* A device that was reset meanwhile: filters are back, rings not. */
	driver_dies(b);
	fake_igb_init(&b->d, IGB_DEV_82576);
	driver_up(b);
	UNTIL(b, b->ngot == 5);
	assert_int_equal(b->got[4].kind, PF_EV_BACK);
	assert_true(b->got[4].lost);
	assert_int_equal(reg(b, IGB_RAL(20)), 2);

	/* One with another policy: what it refuses is lost. */
	driver_dies(b);
	b->policy = "{\"default\":{\"multicast\":0}}";
	driver_up(b);
	UNTIL(b, b->ngot == 7);
	assert_true(b->got[6].lost);

	/* Dead in the middle of a question: refused, not forgotten. */
	n = b->nverdicts;
	loop_stop(b->loop);
	pthread_join(b->thread, NULL);
	assert_int_equal(p->ops->ask(p, &m, on_verdict, b), 0);
	pf_close(b->pf);
	pf_server_destroy(b->srv);
	b->pf = NULL;
	UNTIL(b, b->nverdicts == n + 1);
	assert_false(b->verdict.ok);
	pf_port_close(p);
	stop(b);
}

static int raw(struct bench *b)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(sa.sun_path, b->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* It leaves before it has met the new driver, which keeps its VF for it. */
static void a_vm_that_leaves_between_two_drivers(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 3);

	p->ops->listen(p, on_event, b);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_true(
		ask(b, p,
		    REQ(.op = MBX_OP_SET_MAC, .mac = { 2, 0, 0, 0, 0, 0xa })));
	driver_dies(b);
	UNTIL(b, b->ngot == 1);
	driver_up(b);
	assert_int_equal(reg(b, IGB_RAL(20)), 2);
	pf_port_close(p);
	UNTIL(b, reg(b, IGB_RAL(20)) == 0);
	assert_int_equal(reg(b, IGB_VFRE), 0);
	stop(b);
}

static void nonsense_ends_the_connection(void **s)
{
	struct bench *b = start();
	uint8_t buf[PF_PROTO_MAX + 100];
	struct pf_server_counts c;
	struct pf_msg m = { .type = PF_MSG_CLAIM, .seq = 1, .who = "x" };
	size_t len = pf_msg_encode(&m, buf);
	int fd;

	for (size_t cut = 1; cut < len; cut++) {
		fd = raw(b);
		assert_int_equal(send(fd, buf, cut, 0), (ssize_t)cut);
		assert_int_equal(recv(fd, buf + 200, 100, 0), 0);
		close(fd);
	}
	fd = raw(b);
	memset(buf + len, 0, 100);
	send(fd, buf, len + 1, 0); /* something behind it */
	assert_int_equal(recv(fd, buf + 200, 100, 0), 0);
	close(fd);
	fd = raw(b);
	memset(buf + len, 0x55, sizeof(buf) - len);
	send(fd, buf, sizeof(buf), 0);
	assert_int_equal(recv(fd, buf + 200, 100, 0), 0);
	close(fd);

	/* Out of order: an error, and the connection stays. */
	fd = raw(b);
	m = (struct pf_msg){ .type = PF_MSG_LISTEN, .seq = 9, .on = true };
	send(fd, buf, pf_msg_encode(&m, buf), 0);
	assert_true(recv(fd, buf, sizeof(buf), 0) > 0);
	assert_int_equal(buf[1], PF_MSG_ERROR);
	close(fd);

	loop_call_wait(b->loop, nothing, NULL);
	pf_server_get_counts(b->srv, &c);
	assert_int_equal(c.bad, len - 1 + 2);
	stop(b);
}

/* A VM that does not read: it is cut off, the driver goes on. */
static void a_vm_that_never_reads(void **s)
{
	struct bench *b = start();
	struct pf_server_counts c;
	uint8_t buf[PF_PROTO_MAX];
	struct pf_msg m = { .type = PF_MSG_CLAIM, .seq = 1, .who = "deaf" };
	struct pf_port *p;
	int fd = raw(b);

	send(fd, buf, pf_msg_encode(&m, buf), 0);
	m = (struct pf_msg){ .type = PF_MSG_LISTEN, .seq = 2, .on = true };
	send(fd, buf, pf_msg_encode(&m, buf), 0);
	p = connect_vm(b, 1);
	for (unsigned int i = 0; i < 5000; i++) {
		loop_call_wait(b->loop, kick, b);
		pf_server_get_counts(b->srv, &c);
		if (c.slow)
			break;
	}
	assert_int_equal(c.slow, 1);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	close(fd);
	pf_port_close(p);
	p = connect_vm(b, 0); /* it was given back */
	pf_port_close(p);
	stop(b);
}

static void connections_are_bounded(void **s)
{
	struct bench *b = start();
	struct pf_port *p = connect_vm(b, 1), *q;
	int fd[PF_SERVER_CONNS + 4];
	struct pf_server_counts c;
	char byte;

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = raw(b);
	/* The oldest of those that want nothing; never one with a VF. */
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(recv(fd[i], &byte, 1, 0), 0);
	assert_int_equal(recv(fd[5], &byte, 1, MSG_DONTWAIT), -1);
	/* And a VM still gets its VF. */
	q = connect_vm(b, 2);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	assert_true(ask(b, q, REQ(.op = MBX_OP_RESET)));
	pf_port_close(p);
	pf_port_close(q);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
	for (int i = 0; i < 100; i++) {
		loop_call_wait(b->loop, nothing, NULL);
		pf_server_get_counts(b->srv, &c);
		if (!c.live)
			break;
		usleep(1000);
	}
	assert_int_equal(c.live, 0);
	assert_int_equal(c.refused, 6);
	stop(b);
}

static unsigned int open_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Files it is passed are closed, and nothing of them is kept. */
static void files_are_not_taken(void **s)
{
	struct bench *b = start();
	struct pf_msg m = { .type = PF_MSG_CLAIM, .seq = 1, .who = "x" };
	uint8_t buf[PF_PROTO_MAX];
	int fds[8], fd = raw(b);
	size_t len = pf_msg_encode(&m, buf);
	unsigned int before;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = fd;
	/* It has been accepted when it is answered. */
	send(fd, buf, len, 0);
	assert_true(recv(fd, buf + 512, 512, 0) > 0);
	before = open_fds();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(sock_send(fd, buf, len, fds, ARRAY_SIZE(fds)),
				 0);
		assert_true(recv(fd, buf + 512, 512, 0) > 0);
	}
	loop_call_wait(b->loop, nothing, NULL);
	assert_int_equal(open_fds(), before);
	close(fd);
	stop(b);
}

/* A VM that dies with a question on its way: nobody is answered for it. */
static void a_vm_that_dies_asking(void **s)
{
	struct bench *b = start();
	struct pf_server_counts c;
	struct pf_port *p;

	for (unsigned int i = 0; i < 50; i++) {
		struct pf_msg m = { .type = PF_MSG_CLAIM, .seq = 1, .vf = 3 };
		struct mbx_req r = { .op = i % 2 ? MBX_OP_NONE : MBX_OP_RESET };
		uint8_t buf[PF_PROTO_MAX];
		int fd = raw(b);

		send(fd, buf, pf_msg_encode(&m, buf), 0);
		m = (struct pf_msg){ .type = PF_MSG_LISTEN, .on = true };
		send(fd, buf, pf_msg_encode(&m, buf), 0);
		m = (struct pf_msg){ .type = PF_MSG_ASK, .seq = 2 };
		mbx_encode(&r, &m.words);
		send(fd, buf, pf_msg_encode(&m, buf), 0);
		send(fd, buf, pf_msg_encode(&m, buf), 0);
		close(fd);
		do {
			loop_call_wait(b->loop, nothing, NULL);
			pf_server_get_counts(b->srv, &c);
		} while (c.live);
	}
	assert_int_equal(reg(b, IGB_VFRE), 0);
	p = connect_vm(b, 3);
	assert_true(ask(b, p, REQ(.op = MBX_OP_RESET)));
	pf_port_close(p);
	stop(b);
}

static void messages_survive_the_wire(void **s)
{
	struct pf_msg all[] = {
		{ .type = PF_MSG_CLAIM, .vf = 7, .who = "vm" },
		{ .type = PF_MSG_LISTEN, .on = true },
		{ .type = PF_MSG_ASK,
		  .words = { .w = { 1, 2, 3 }, .len = MBX_WORDS } },
		{ .type = PF_MSG_RESTORE },
		{ .type = PF_MSG_CLAIMED,
		  .vf = 3,
		  .running = true,
		  .link = true,
		  .mac = { 2, 0, 0, 0, 0, 1 },
		  .gen = "igb/i350",
		  .spec = "0000:01:10.0,vf-token=x" },
		{ .type = PF_MSG_VERDICT,
		  .verdict = { .ok = true, .mac = { 2, 0, 0, 0, 0, 1 } } },
		{ .type = PF_MSG_EVENT,
		  .event = { .kind = PF_EV_MTU, .frame = 9000 } },
		{ .type = PF_MSG_ERROR, .code = -EBUSY, .text = "no" },
		{ .type = PF_MSG_ANNOUNCE },
		{ .type = PF_MSG_TAGS, .on = true },
	};

	mbx_state_init(&all[3].state, mac_a);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		uint8_t buf[PF_PROTO_MAX];
		struct pf_msg back;
		size_t len;

		all[i].seq = (uint32_t)i + 1;
		len = pf_msg_encode(&all[i], buf);
		assert_in_range(len, 8, PF_PROTO_MAX);
		assert_int_equal(pf_msg_decode(&back, buf, len), 0);
		assert_memory_equal(&back, &all[i], sizeof(back));
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(pf_msg_decode(&back, buf, cut),
					 -EBADMSG);
		buf[0] = 9;
		assert_int_equal(pf_msg_decode(&back, buf, len), -EPROTO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_survive_the_wire),
		cmocka_unit_test(the_socket_keeps_the_contract),
		cmocka_unit_test(refusals_are_told),
		cmocka_unit_test(a_dead_vm_gives_its_vf_back),
		cmocka_unit_test(a_dead_driver_is_followed),
		cmocka_unit_test(a_vm_that_leaves_between_two_drivers),
		cmocka_unit_test(nonsense_ends_the_connection),
		cmocka_unit_test(a_vm_that_never_reads),
		cmocka_unit_test(connections_are_bounded),
		cmocka_unit_test(files_are_not_taken),
		cmocka_unit_test(a_vm_that_dies_asking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
