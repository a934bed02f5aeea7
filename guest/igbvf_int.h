/*
 * Between the files of the guest's VF driver.
 */
#ifndef GUEST_IGBVF_INT_H
#define GUEST_IGBVF_INT_H

#include "igbvf.h"

#include "igb/mbx.h"
#include "igb/regs.h"

static inline uint32_t vf_read(struct igbvf *v, uint32_t off)
{
	return read32(v->bar + off);
}

static inline void vf_write(struct igbvf *v, uint32_t off, uint32_t val)
{
	write32(v->bar + off, val);
}

/* RSTI or RSTD was seen. */
bool igbvf_mbx_rst(struct igbvf *v);
/* Take the lock and read; true says only that the lock was had. */
bool igbvf_mbx_read(struct igbvf *v, uint32_t *w, unsigned int n);
/* Send and wait for the PF's ACK; wait for its message and read it. */
bool igbvf_mbx_send(struct igbvf *v, const uint32_t *w, unsigned int n);
bool igbvf_mbx_answer(struct igbvf *v, uint32_t *w, unsigned int n);

bool igbvf_reset_hw(struct igbvf *v);
void igbvf_set_mac(struct igbvf *v);
void igbvf_set_filters(struct igbvf *v); /* multicast, addresses, VLAN */
void igbvf_set_frame(struct igbvf *v);
/* The answer's first word without CTS, 0: none came. */
uint32_t igbvf_vlan(struct igbvf *v, uint16_t vid, bool add);

#endif
