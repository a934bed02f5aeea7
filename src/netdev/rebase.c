#include "netdev/rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "igb/regs.h"

static const uint32_t counter[] = {
	IGBVF_VFGPRC,	IGBVF_VFGPTC,	IGBVF_VFGORC,
	IGBVF_VFGOTC,	IGBVF_VFMPRC,	IGBVF_VFGPRLBC,
	IGBVF_VFGPTLBC, IGBVF_VFGORLBC, IGBVF_VFGOTLBC,
};

#define N ARRAY_SIZE(counter)

struct rebase {
	struct vdev *vdev;
	struct vdev_tap tap;
	bool on;
	uint32_t seen[N];   /* what the guest read last, at the capture */
	uint32_t offset[N]; /* added to what the hardware counts */
};

static bool tap_read(void *opaque, uint32_t off, unsigned int size,
		     uint64_t *val)
{
	struct rebase *r = opaque;

	for (size_t i = 0; i < N; i++) {
		if (counter[i] != off)
			continue;
		*val = (uint32_t)(vdev_reg_read(r->vdev, off) + r->offset[i]);
		return true;
	}
	return false;
}

int rebase_create(struct rebase **out, struct vdev *v)
{
	struct rebase *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->vdev = v;
	r->tap = (struct vdev_tap){
		.bar = 0,
		.off = counter[0],
		.len = counter[N - 1] + 4 - counter[0],
		.read = tap_read,
		.opaque = r,
	};
	*out = r;
	return 0;
}

void rebase_destroy(struct rebase *r)
{
	if (!r)
		return;
	if (r->on)
		vdev_tap_del(r->vdev, &r->tap);
	free(r);
}

void rebase_capture(struct rebase *r)
{
	vdev_lock(r->vdev);
	for (size_t i = 0; i < N; i++)
		r->seen[i] = vdev_reg_read(r->vdev, counter[i]) + r->offset[i];
	vdev_unlock(r->vdev);
}

void rebase_save(const struct rebase *r, struct wire_out *o)
{
	put_u16(o, N);
	for (size_t i = 0; i < N; i++)
		put_u32(o, r->seen[i]);
}

int rebase_load(struct rebase *r, struct wire_in *in)
{
	uint32_t seen[N];

	if (get_u16(in) != N)
		wire_fail(in, -EBADMSG);
	for (size_t i = 0; i < N; i++)
		seen[i] = get_u32(in);
	if (in->err)
		return in->err;
	memcpy(r->seen, seen, sizeof(seen));
	return 0;
}

void rebase_apply(struct rebase *r)
{
	bool needed = false;

	vdev_lock(r->vdev);
	for (size_t i = 0; i < N; i++) {
		r->offset[i] = r->seen[i] - vdev_reg_read(r->vdev, counter[i]);
		needed |= r->offset[i] != 0;
	}
	if (needed && !r->on) {
		vdev_tap_add(r->vdev, &r->tap);
		vdev_trap(r->vdev, 0, counter[0] >> PAGE_SHIFT,
			  VDEV_TRAP_STATS);
		r->on = true;
	}
	vdev_unlock(r->vdev);
}
