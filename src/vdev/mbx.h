/*
 * The mailbox, virtualised on demand.
 *
 * In steady state the guest's mailbox page is direct and costs nothing.  A
 * trigger (the guest rang, or the host has something to say) makes the PF
 * driver call vdev_mbx's callback; that traps the page, and only then is
 * anything published.  The guest's next reads of the mailbox are answered
 * here.  When the exchange is over, the hardware's mailbox is brought to the
 * state the guest knows (same words, no bit it has seen already, lock free)
 * and the page is direct again:
 *
 *	DIRECT -trigger-> TRAPPED -> ASKED -> ANSWERED -guest acks-> DIRECT
 *	                          \-> POSTED ------------guest acks-/
 *
 * mbx_fsm.h holds the whole machine as a table.  No state waits for ever:
 * each has a limit, after which the page goes direct.  Requests are judged
 * by a table of rules and by the PF driver; one without a rule is refused.
 *
 * Mode KERNEL is for a PF that the host's own driver owns, which calls
 * nobody: the page stays trapped and requests that pass the rules are
 * forwarded to the hardware's mailbox.
 *
 * Calls are for the loop's thread of the vdev unless said otherwise.
 */
#ifndef VDEV_MBX_H
#define VDEV_MBX_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/trace.h"
#include "base/wire.h"
#include "igb/mbx.h"
#include "igb/pf_port.h"
#include "vdev/vdev.h"

struct vdev_mbx;

enum vdev_mbx_mode { VDEV_MBX_ON_DEMAND, VDEV_MBX_KERNEL };

/* What the guest did while quiesced; each is told once a quiesce. */
enum vdev_mbx_quiet {
	VDEV_MBX_SAW_BUSY, /* it read the busy word */
	VDEV_MBX_RESET,	   /* it reset the VF: its rings are off */
	/*
	 * Its reset message is held and it waits for the answer, a second at
	 * most in its own time: the moment to switch over.
	 */
	VDEV_MBX_KNOCKS,
};

struct vdev_mbx_conf {
	enum vdev_mbx_mode mode;
	struct pf_port *port; /* ON_DEMAND; stays the caller's */
	struct trace *trace;  /* or NULL; stays the caller's */
	unsigned int unit;    /* in the trace: the VF's number */
	void (*quiet)(void *opaque, enum vdev_mbx_quiet what);
	void *opaque; /* quiet's, in the loop's thread */
};

/*
 * Attach to a vdev; with a port, registers the callback.  The vdev may be
 * unbound: then nothing is trapped or published until vdev_mbx_resume().
 */
int vdev_mbx_open(struct vdev_mbx **out, struct vdev *v,
		  const struct vdev_mbx_conf *c, struct err *e);
/* Ends an exchange as a time-out would; NULL is fine. */
void vdev_mbx_close(struct vdev_mbx *m);

/*
 * Swap the line to the PF driver, e.g. after a rebind; NULL: none for now.
 * An exchange that is going on is asked again of the new one.
 */
int vdev_mbx_set_port(struct vdev_mbx *m, struct pf_port *port);

/*
 * Refuse VLANs from now on: the guest would misread the tags of looped-back
 * frames and deliver them to another network, and nobody can leave the tags
 * in the frames.
 */
void vdev_mbx_refuse_vlans(struct vdev_mbx *m, bool refuse);

/* The callback; public for tests and for the trace's sake. */
void vdev_mbx_callback(void *m, const struct pf_event *ev);

/*
 * The guest reset the VF by other means than its CTRL register (FLR in
 * configuration space).  From any thread, vdev lock held or not.
 */
void vdev_mbx_vf_reset(struct vdev_mbx *m);

/*
 * Post busy (NACK without CTS, reset done) and refuse what comes: requests
 * in flight are dropped and counted, a reset message is held unanswered.
 * The page stays trapped (VDEV_TRAP_QUIESCE) until one of:
 *  unquiesce - at the source after a failure, or at the destination after
 *    load, bind and restore: a held reset is answered, a guest that has not
 *    got that far is told to start over.
 */
int vdev_mbx_quiesce(struct vdev_mbx *m);
int vdev_mbx_unquiesce(struct vdev_mbx *m);
bool vdev_mbx_quiesced(const struct vdev_mbx *m);

/* Tell the guest's driver to start over, without holding anything. */
void vdev_mbx_kick(struct vdev_mbx *m);

/* What the guest has been granted. */
void vdev_mbx_get_state(struct vdev_mbx *m, struct mbx_state *out);

/*
 * State: canonical state, the virtual registers, the exchange.  Always
 * VDEV_MBX_SAVE_SIZE bytes.  load() is for a vdev not bound yet; restore()
 * then has the port grant the state (done may come later), and resume()
 * goes on with an exchange that was cut.  In mode KERNEL restore() asks the
 * host's driver, through the VF's own mailbox, before it returns.
 */
#define VDEV_MBX_SAVE_SIZE (MBX_STATE_SIZE + 1 + 1 + 1 + 4 + 4 + 2 * 64 + 4)
void vdev_mbx_save(struct vdev_mbx *m, struct wire_out *o);
int vdev_mbx_load(struct vdev_mbx *m, struct wire_in *in, struct err *e);
int vdev_mbx_restore(struct vdev_mbx *m, pf_verdict_fn done, void *opaque);
int vdev_mbx_resume(struct vdev_mbx *m, struct err *e);

struct vdev_mbx_counts {
	uint64_t exchanges; /* begun by the guest */
	uint64_t posts;	    /* begun by the host */
	uint64_t episodes;  /* times the page was trapped for it */
	uint64_t granted, refused;
	uint64_t no_rule; /* of the refused: nobody knows it */
	uint64_t queued;  /* triggers that had to wait */
	uint64_t dropped; /* requests dropped by quiesce or reset */
	uint64_t timeouts;
	uint64_t unread; /* answers the guest's driver never read */
	uint64_t vf_resets;
	uint64_t reads, writes; /* intercepted accesses to the mailbox */
};
void vdev_mbx_get_counts(struct vdev_mbx *m, struct vdev_mbx_counts *out);
const char *vdev_mbx_state_name(struct vdev_mbx *m);
json_t *vdev_mbx_status(struct vdev_mbx *m); /* a new reference */

#endif
