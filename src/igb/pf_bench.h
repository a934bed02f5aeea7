/*
 * A bench for the PF driver: a device made of memory with the driver on it,
 * and a callback and a verdict that are kept.  Not installed.
 *
 * All of it is in one thread: the loop runs when the test spins it.
 */
#ifndef IGB_PF_BENCH_H
#define IGB_PF_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "igb/fake_igb.h"
#include "igb/pf.h"

struct bench {
	struct fake_igb d;
	struct loop *loop;
	struct trace *trace;
	struct pf *pf;
	struct pf_event got[16]; /* what the callback heard */
	unsigned int ngot;
	struct pf_verdict verdict;
	unsigned int nverdicts;
};

extern const uint8_t mac_a[6];
extern const uint8_t mac_b[6];

/* policy: JSON, or NULL for the default; stop() frees it. */
struct bench *start(uint16_t device, const char *policy);
void stop(struct bench *b);
/* Another driver, after a pf_close(). */
void open_pf(struct bench *b, const char *policy);
void spin(struct bench *b);
void quiet_log(void);

/* For pf_port_ops; opaque is the bench. */
void callback(void *opaque, const struct pf_event *ev);
void verdict(void *opaque, const struct pf_verdict *v);

struct pf_port *claim(struct bench *b, unsigned int vf);
/* Whether it is granted. */
bool ask(struct bench *b, struct pf_port *port, const struct mbx_req *r);
bool set_mac(struct bench *b, struct pf_port *port, const uint8_t *mac);
#define REQ(...) (&(const struct mbx_req){ __VA_ARGS__ })

uint32_t reg(struct bench *b, uint32_t off);
/* Where it is filtered to: pools, 0 for nowhere. */
uint32_t pools_of(struct bench *b, const uint8_t *mac);
uint32_t pools_of_vlan(struct bench *b, uint32_t vid);

#endif
