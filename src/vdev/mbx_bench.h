/*
 * A bench for the virtual mailbox: devices made of memory, a PF driver on
 * them, and a model of stock igbvf as the guest.  The same on KVM and the
 * software NIC: tests/kvm/mbx_test.c.  Not installed.
 *
 * All of it is in one thread: the loop runs in the guest's pauses.
 */
#ifndef VDEV_MBX_BENCH_H
#define VDEV_MBX_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "igb/fake_igb.h"
#include "igb/pf.h"
#include "vdev/fake.h"
#include "vdev/guest_model.h"
#include "vdev/mbx.h"

#define NVMS 2

struct bench;

struct vm {
	struct bench *b;
	unsigned int vf;
	struct fake_host h;
	struct fake_pdev *fp;
	struct vdev *v;
	struct pf_port *port;
	struct vdev_mbx *m;
	struct guest_model g;
	uint64_t direct, trapped; /* guest accesses to the mailbox page */
	unsigned int irqs_seen;
	unsigned int quiet[3];
};

struct bench {
	struct fake_igb d;
	struct loop *loop;
	struct trace *trace;
	struct pf *pf;
	struct vm vm[NVMS];
	bool slow;  /* pauses take their time */
	bool still; /* the loop does not run in pauses */
	/* Called once in the guest's n-th pause from now. */
	unsigned int in;
	void (*then)(struct bench *b);
};

extern const uint8_t mac_a[6];
extern const uint8_t mac_b[6];

/* All up, the guest's driver not; stop() frees it. */
struct bench *start(unsigned int vms);
struct bench *start_mode(unsigned int vms, enum vdev_mbx_mode mode);
void stop(struct bench *b);
void open_pf(struct bench *b);
void open_mbx(struct vm *vm, enum vdev_mbx_mode mode);

/* Let the loop do what there is to do; or for a while. */
void spin(struct bench *b);
void spin_ms(struct bench *b, unsigned int ms);

/* The guest's accesses, whether they exit or not; opaque is the vm. */
uint32_t g_read(void *opaque, uint32_t off);
void g_write(void *opaque, uint32_t off, uint32_t val);
void g_pause(void *opaque, unsigned int us);
/* Open the device, and wait until the unread answer has been given up. */
int up(struct vm *vm, const uint8_t *mac);

void set_link(struct bench *b, bool up);
void kick_pf(struct bench *b); /* have VF 0 start over */

bool is_direct(struct vm *vm); /* the mailbox page */
struct vdev_mbx_counts counts(struct vm *vm);
size_t saved(struct vm *vm, uint8_t *buf, size_t size); /* bytes */
/* A bench whose VM 0 has loaded what 'vm' saves; nothing is resumed yet. */
struct bench *moved(struct vm *vm, enum vdev_mbx_mode mode);
/* The quiesce ends, and the guest takes the answer to its reset. */
void unquiesce(struct vm *vm);

/* Events after number 'after' in the trace. */
unsigned int how_many(struct bench *b, uint64_t after, const char *what);
/* These events, in this order, others between them. */
void assert_order(struct bench *b, uint64_t after, const char *const *what,
		  size_t n);
#define ORDER(b, after, ...)                                    \
	do {                                                    \
		static const char *const w[] = { __VA_ARGS__ }; \
		assert_order(b, after, w, ARRAY_SIZE(w));       \
	} while (0)

#define REQ(...) (&(const struct mbx_req){ __VA_ARGS__ })

/* A port that says what a test wants, when it wants. */
struct odd_port {
	struct pf_port p;
	pf_verdict_fn done;
	void *opaque;
	pf_event_fn fn;
	void *fn_opaque;
	unsigned int asks;
	int ret;
};

/* start(1) with such a port. */
struct bench *start_odd(struct odd_port *o);

#endif
