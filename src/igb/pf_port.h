/*
 * A VF's line to its PF driver, and the callback registered on it.
 *
 * The PF driver may run in this process (pf.h) or in another one (`pagurus
 * pf`, pf_client.h).  Both are the same to a virtual device: it claims a VF,
 * listens, and asks.  Only the PF driver ever calls the callback; whatever
 * else wants an exchange has to go through it.
 *
 * All calls, and the callback, are for the thread of the loop the port was
 * made with.  A callback may call anything here except close.
 */
#ifndef IGB_PF_PORT_H
#define IGB_PF_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "igb/mbx.h"

enum pf_event_kind {
	PF_EV_REQUEST, /* the VF rang: a request is in its mailbox */
	PF_EV_RESET,   /* the VF was reset: what it was granted is gone */
	PF_EV_LINK,    /* 'link' has changed */
	PF_EV_MTU,     /* 'frame' is the new ceiling */
	PF_EV_KICK,    /* the host wants the VF's driver to start over */
	PF_EV_GONE,    /* the PF driver died; asking fails until BACK */
	PF_EV_BACK,    /* there is one again; 'lost': the VF was reset */
	PF_EVS,
};

const char *pf_event_name(enum pf_event_kind kind); /* never NULL */

struct pf_event {
	enum pf_event_kind kind;
	unsigned int vf;
	bool link;	/* LINK */
	bool lost;	/* BACK */
	uint16_t frame; /* MTU: bytes of the largest frame */
};

/* What the PF driver says to a request; 'mac' is the VF's from now on. */
struct pf_verdict {
	bool ok;
	uint8_t mac[6];
};

typedef void (*pf_event_fn)(void *opaque, const struct pf_event *ev);
typedef void (*pf_verdict_fn)(void *opaque, const struct pf_verdict *v);

struct pf_port;

struct pf_port_ops {
	/* Give the VF back: it is reset and its filters are dropped. */
	void (*close)(struct pf_port *p);

	/*
	 * Register the callback, the only one of this VF; fn NULL takes it
	 * back.  Until there is one the PF driver answers the VF itself.
	 */
	int (*listen)(struct pf_port *p, pf_event_fn fn, void *opaque);

	/*
	 * Have a request judged against the policy and, if granted, put into
	 * the hardware.  done is called once, perhaps before this returns,
	 * and never after close.  Without an answer in time, or when the
	 * driver dies, the verdict is "refused".  Negative: done will not be
	 * called.
	 */
	int (*ask)(struct pf_port *p, const struct mbx_msg *req,
		   pf_verdict_fn done, void *opaque);

	/*
	 * Have all of a state granted at once, or nothing of it: what a VF
	 * that comes from elsewhere was granted there.  After the last reset
	 * of the VF, which would undo it, and before listen.
	 */
	int (*restore)(struct pf_port *p, const struct mbx_state *st,
		       pf_verdict_fn done, void *opaque);

	/*
	 * Tell the switches outside that the VF's addresses are here now: a
	 * few rounds of RARP, sent by the driver.  Nothing is answered.
	 */
	int (*announce)(struct pf_port *p);

	/*
	 * Leave VLAN tags in the frames the VF receives, or take them out
	 * into descriptors as usual.  Stays over resets, ends with the claim.
	 * For a driver that would misread the tag of a looped-back frame,
	 * which generations write in another byte order.
	 */
	int (*keep_tags)(struct pf_port *p, bool keep);
};

/* Implementations embed it as their first member. */
struct pf_port {
	const struct pf_port_ops *ops;
	unsigned int vf;
	bool link;	/* as last told */
	uint8_t mac[6]; /* assigned at the claim; zeroes: none */
	char gen[32];	/* "igb/82576" */
	char spec[256]; /* for pdev_open(), VF token included */
};

void pf_port_close(struct pf_port *p); /* NULL is fine */

#endif
