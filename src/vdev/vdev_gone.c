/*
 * A pdev that goes by itself: the process that served it died, the card was
 * pulled.  From then on the guest finds what an empty slot answers, on pages
 * that were direct too, until another pdev is bound.
 *
 * The news comes in a thread of the pdev's and is taken to the loop by a
 * note, which outlives the vdev if that is destroyed before the loop runs.
 */
#include <errno.h>
#include <stdlib.h>

#include "vdev/vdev_priv.h"

struct vdev_note {
	struct vdev *v; /* NULL: nobody is interested any more */
	bool sent;	/* the loop frees it */
};

static void arrive(void *opaque)
{
	struct vdev_note *note = opaque;
	struct vdev *v = note->v;

	free(note);
	if (!v)
		return;
	vdev_lock(v);
	v->note = NULL;
	if (v->pdev) {
		log_error("%s: %s is gone; the guest sees an empty slot until "
			  "another VF is bound (pagurus rebind)",
			  v->name, v->pdev->name);
		v->backing = VDEV_NONE;
		vdev_bars_unmap(v);
	}
	vdev_unlock(v);
}

/* In the pdev's thread. */
static void gone(void *opaque)
{
	struct vdev_note *note = opaque;

	/* The loop may free it before we are back. */
	note->sent = true;
	if (loop_call(note->v->loop, arrive, note) < 0)
		note->sent = false;
}

int vdev_gone_watch(struct vdev *v)
{
	v->note = calloc(1, sizeof(*v->note));
	if (!v->note)
		return -ENOMEM;
	v->note->v = v;
	pdev_on_gone(v->pdev, gone, v->note);
	return 0;
}

void vdev_gone_unwatch(struct vdev *v)
{
	struct vdev_note *note = v->note;

	if (!note)
		return;
	v->note = NULL;
	/* After this no call of gone() is under way or will come. */
	pdev_on_gone(v->pdev, NULL, NULL);
	note->v = NULL;
	if (!note->sent)
		free(note);
}
