/*
 * Announcing the addresses of a VF whose VM has come from elsewhere.
 *
 * The VM only says when; what is announced is what this driver granted, so
 * a VM cannot speak in another's name.  A VM that asks again and again
 * starts the same few rounds again, each at most what the ring holds.
 */
#include <errno.h>

#include "igb/pf_priv.h"
#include "igb/rarp.h"

/* A VM may have its rounds begun anew so often. */
#define AGAIN_NS 200000000ull

static bool send_one(void *opaque, const void *frame, size_t len)
{
	struct pf_vf *v = opaque;
	int ret = pf_tx_send(v->pf, frame, len);

	if (ret == 0)
		return true;
	v->counts.unannounced++;
	log_limited(&v->limit, LOG_WARN,
		    "%s: %s's addresses are not announced (%d); switches "
		    "learn them from its own frames",
		    v->pf->name, v->who, ret);
	return false;
}

static void on_round(void *opaque)
{
	struct pf_vf *v = opaque;
	unsigned int n;

	/* Into a cable that is out: again when it is in. */
	v->announce_later = !v->pf->link;
	if (v->announce_later)
		v->announced_ns = 0;
	if (v->announce_later || v->pf->gone)
		return;
	n = rarp_send(&v->st, send_one, v);
	v->counts.announced += n;
	trace_add(v->pf->trace, (unsigned int)(v - v->pf->vf), "pf-announce",
		  "", 0, n);
}

int pf_announce(struct pf *pf, unsigned int vf)
{
	struct pf_vf *v = &pf->vf[vf];
	int ret = 0;

	v->pf = pf;
	if (!v->rounds)
		ret = rarp_rounds_create(&v->rounds, pf->loop, on_round, v);
	if (ret < 0 || now_ns() - v->announced_ns < AGAIN_NS)
		return ret;
	v->announced_ns = now_ns();
	rarp_rounds_start(v->rounds);
	return 0;
}

void pf_announce_stop(struct pf *pf, unsigned int vf)
{
	struct pf_vf *v = &pf->vf[vf];

	rarp_rounds_destroy(v->rounds);
	v->rounds = NULL;
	v->announce_later = false;
	v->announced_ns = 0;
}
