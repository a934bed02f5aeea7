#include "vdev/vdev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "vdev/vdev_priv.h"

#define STATE_VERSION 1
#define CONFIG_SAVED  256u /* no register of ours is beyond */

static const struct pci_func_ops func_ops = {
	.config_read = vdev_cfg_read,
	.config_write = vdev_cfg_write,
	.bar_read = vdev_bar_read,
	.bar_write = vdev_bar_write,
};

void vdev_lock(struct vdev *v)
{
	pthread_mutex_lock(&v->lock);
}

void vdev_unlock(struct vdev *v)
{
	pthread_mutex_unlock(&v->lock);
}

int vdev_create(struct vdev **out, const char *name,
		const struct vdev_model *model, struct host *host,
		struct loop *loop, struct err *e)
{
	pthread_mutexattr_t attr;
	struct vdev *v;
	int ret;

	if (model->vectors > VDEV_VECTORS_MAX)
		return err_set(e, -EINVAL, "%s: %u vectors are too many", name,
			       model->vectors);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "%s: out of memory", name);
	snprintf(v->name, sizeof(v->name), "%s", name);
	v->model = model;
	v->host = host;
	v->loop = loop;
	v->func.ops = &func_ops;
	v->func.name = v->name;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&v->lock, &attr);
	pthread_mutexattr_destroy(&attr);

	ret = vdev_cfg_init(v);
	if (ret == 0)
		ret = vdev_bars_init(v);
	if (ret == 0)
		ret = vdev_irqs_init(v);
	if (ret < 0) {
		err_sys(e, ret, "%s: cannot set up a %s", name, model->name);
		vdev_destroy(v);
		return ret;
	}
	*out = v;
	return 0;
}

void vdev_destroy(struct vdev *v)
{
	if (!v)
		return;
	pdev_close(vdev_unbind(v));
	vdev_irqs_fini(v);
	vdev_bars_fini(v);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

static void dma_unmap(struct vdev *v)
{
	const struct host_ram *ram;

	v->host->ops->ram(v->host, &ram);
	while (v->ndma) {
		const struct host_ram *r = &ram[--v->ndma];
		int ret = pdev_dma_unmap(v->pdev, r->gpa.v, r->size);

		/* A device that is gone reaches nothing any more. */
		if (ret < 0 && ret != -ENODEV)
			log_error("%s: DMA of RAM at 0x%llx stays mapped (%d)",
				  v->name, (unsigned long long)r->gpa.v, ret);
	}
}

static int dma_map(struct vdev *v, struct err *e)
{
	const struct host_ram *ram;
	size_t n = v->host->ops->ram(v->host, &ram);
	unsigned long long all = 0;

	for (size_t i = 0; i < n; i++)
		all += ram[i].size;

	while (v->ndma < n) {
		const struct host_ram *r = &ram[v->ndma];
		const struct pdev_dma m = {
			.iova = r->gpa.v,
			.size = r->size,
			.va = r->backing,
			.fd = r->fd,
			.fd_offset = r->fd_offset,
			.prot = PDEV_READ | PDEV_WRITE,
		};
		int ret = pdev_dma_map(v->pdev, &m);

		if (ret == -ENOMEM)
			return err_sys(
				e, ret,
				"%s: %llu MiB of guest RAM cannot be "
				"pinned for DMA: raise the locked-memory "
				"limit (ulimit -l, LimitMEMLOCK=) by that "
				"much",
				v->pdev->name, all >> 20);
		if (ret < 0)
			return err_sys(e, ret,
				       "%s: cannot map guest RAM at 0x%llx for "
				       "DMA",
				       v->pdev->name,
				       (unsigned long long)r->gpa.v);
		v->ndma++;
	}
	return 0;
}

/* The pdev must have what the guest was promised. */
static int fits(struct vdev *v, const struct pdev *p, struct err *e)
{
	for (unsigned int i = 0; i < 6; i++) {
		const struct pdev_region *r = &p->region[i];

		if (i == v->model->msix_bar || !v->model->bar_size[i])
			continue;
		if (r->size < v->model->bar_size[i])
			return err_set(
				e, -ENODEV,
				"%s: BAR %u is %llu bytes, a %s has "
				"%llu; is the VF enabled and its memory "
				"space on?",
				p->name, i, (unsigned long long)r->size,
				v->model->name,
				(unsigned long long)v->model->bar_size[i]);
	}
	if (p->nirqs[PDEV_MSIX] < v->model->vectors)
		return err_set(e, -ENODEV,
			       "%s: %u MSI-X vectors, a %s needs %u", p->name,
			       p->nirqs[PDEV_MSIX], v->model->name,
			       v->model->vectors);
	return 0;
}

/*
 * A BAR that decodes nowhere reads as zeros or ones and keeps nothing.  Seen
 * with VF BARs above 4 GiB on an emulated card, and where the PF's driver
 * has left memory space off; the guest's driver would only say that the PF
 * is still in reset.
 */
static int bar_alive(struct vdev *v, struct err *e)
{
	uint32_t reg = v->model->scratch, old, seen[2] = { 0 };
	static const uint32_t mark[2] = { 0xa5, 0x5a };
	int ret = pdev_read32(v->pdev, PDEV_BAR0, reg, &old);

	for (unsigned int i = 0; ret == 0 && i < 2; i++) {
		ret = pdev_write32(v->pdev, PDEV_BAR0, reg, mark[i]);
		if (ret == 0)
			ret = pdev_read32(v->pdev, PDEV_BAR0, reg, &seen[i]);
	}
	if (ret == 0)
		ret = pdev_write32(v->pdev, PDEV_BAR0, reg, old);
	if (ret < 0)
		return err_sys(e, ret, "%s: BAR 0 cannot be accessed",
			       v->pdev->name);
	if ((seen[0] & 0xff) == mark[0] && (seen[1] & 0xff) == mark[1])
		return 0;
	return err_set(e, -EIO,
		       "%s: BAR 0 does not answer (wrote 0x%x, read 0x%x): is "
		       "the PF up and its SR-IOV memory space on? An emulated "
		       "VF needs its BAR below 4 GiB",
		       v->pdev->name, mark[1], seen[1]);
}

int vdev_bind(struct vdev *v, struct pdev *p, enum vdev_backing kind,
	      struct err *e)
{
	int ret;

	if (kind == VDEV_NONE)
		return err_set(e, -EINVAL, "%s: a pdev backs nothing", v->name);
	vdev_lock(v);
	if (v->pdev) {
		ret = err_set(e, -EBUSY, "%s: %s backs it already", v->name,
			      v->pdev->name);
		goto unlock;
	}
	ret = fits(v, p, e);
	if (ret < 0)
		goto unlock;

	v->pdev = p;
	ret = dma_map(v, e);
	if (ret < 0)
		goto unmap;
	ret = vdev_cfg_command(v);
	if (ret < 0) {
		err_sys(e, ret, "%s: its command register cannot be written",
			p->name);
		goto unmap;
	}
	ret = bar_alive(v, e);
	if (ret < 0)
		goto unmap;
	ret = vdev_irqs_arm(v);
	if (ret < 0) {
		err_sys(e, ret, "%s: cannot enable its %u MSI-X vectors",
			p->name, v->nvec);
		goto unmap;
	}
	ret = vdev_gone_watch(v);
	if (ret < 0) {
		err_sys(e, ret, "%s", v->name);
		goto disarm;
	}
	v->backing = kind;
	vdev_bars_map(v);
	vdev_unlock(v);
	return 0;

disarm:
	vdev_irqs_disarm(v);
unmap:
	dma_unmap(v);
	v->pdev = NULL;
unlock:
	vdev_unlock(v);
	return ret;
}

struct pdev *vdev_unbind(struct vdev *v)
{
	const uint16_t off = 0;
	struct pdev *p;

	vdev_lock(v);
	p = v->pdev;
	if (p) {
		vdev_gone_unwatch(v);
		vdev_bars_unmap(v);
		vdev_irqs_disarm(v);
		/* No more DMA before its translations go. */
		pdev_write(p, PDEV_CONFIG, 4, &off, sizeof(off));
		dma_unmap(v);
		v->pdev = NULL;
		v->backing = VDEV_NONE;
	}
	vdev_unlock(v);
	return p;
}

struct pci_func *vdev_func(struct vdev *v)
{
	return &v->func;
}

struct pdev *vdev_pdev(struct vdev *v)
{
	return v->pdev;
}

struct host *vdev_host(struct vdev *v)
{
	return v->host;
}

struct loop *vdev_loop(struct vdev *v)
{
	return v->loop;
}

const struct vdev_model *vdev_get_model(const struct vdev *v)
{
	return v->model;
}

enum vdev_backing vdev_get_backing(const struct vdev *v)
{
	return v->backing;
}

const char *vdev_name(const struct vdev *v)
{
	return v->name;
}

void vdev_get_counts(struct vdev *v, struct vdev_counts *out)
{
	vdev_lock(v);
	*out = v->counts;
	vdev_unlock(v);
}

void vdev_watch_add(struct vdev *v, struct vdev_watch *w)
{
	vdev_lock(v);
	w->next = v->watches;
	v->watches = w;
	vdev_unlock(v);
}

void vdev_watch_del(struct vdev *v, struct vdev_watch *w)
{
	vdev_lock(v);
	for (struct vdev_watch **at = &v->watches; *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			break;
		}
	vdev_unlock(v);
}

/* ---- state on the wire ---- */

/* One list of the counters, for saving, loading and nothing else. */
#define COUNTS(C) \
	C(reads)  \
	C(writes) C(mbx_page) C(doorbell) C(other) C(traps) C(untraps) C(bad)

void vdev_save(struct vdev *v, struct wire_out *o)
{
	vdev_lock(v);
	vdev_irqs_collect(v);
	put_u16(o, STATE_VERSION);
	put_str(o, v->model->name);
	put_bytes(o, v->cfg.val, CONFIG_SAVED);
	put_u16(o, (uint16_t)v->msix.n);
	for (unsigned int i = 0; i < v->msix.n; i++) {
		put_u64(o, v->msix.entry[i].addr);
		put_u32(o, v->msix.entry[i].data);
		put_u32(o, v->msix.entry[i].ctrl);
	}
	put_u64(o, v->msix.pending);
#define C(name) put_u64(o, v->counts.name);
	COUNTS(C)
#undef C
	vdev_unlock(v);
}

int vdev_load(struct vdev *v, struct wire_in *in, struct err *e)
{
	struct pci_msix msix = v->msix;
	struct vdev_counts counts;
	uint8_t cfg[CONFIG_SAVED];
	uint16_t version;
	char model[32];

	version = get_u16(in);
	if (!in->err && version != STATE_VERSION)
		return err_set(e, -EPROTO,
			       "%s: state version %u, this host reads %u",
			       v->name, version, STATE_VERSION);
	get_str(in, model, sizeof(model));
	if (!in->err && strcmp(model, v->model->name))
		return err_set(e, -EPROTO, "%s: state of a %s, this is a %s",
			       v->name, model, v->model->name);
	get_bytes(in, cfg, sizeof(cfg));
	for (uint32_t i = 0; !in->err && i < sizeof(cfg); i++)
		if ((cfg[i] ^ v->cfg.val[i]) &
		    ~(v->cfg.wmask[i] | v->cfg.w1c[i]))
			wire_fail(in, -EBADMSG); /* no guest wrote that */
	if (get_u16(in) != msix.n)
		wire_fail(in, -EBADMSG);
	for (unsigned int i = 0; i < msix.n; i++) {
		msix.entry[i].addr = get_u64(in);
		msix.entry[i].data = get_u32(in);
		msix.entry[i].ctrl = get_u32(in);
		if (msix.entry[i].addr % 4 || msix.entry[i].ctrl > 1)
			wire_fail(in, -EBADMSG);
	}
	msix.pending = get_u64(in);
	if (msix.pending & ~((1ull << msix.n) - 1))
		wire_fail(in, -EBADMSG);
#define C(name) counts.name = get_u64(in);
	COUNTS(C)
#undef C
	if (in->err)
		return err_sys(e, in->err, "%s: damaged device state", v->name);

	vdev_lock(v);
	memcpy(v->cfg.val, cfg, sizeof(cfg));
	v->msix = msix;
	v->counts = counts;
	vdev_cfg_apply(v);
	vdev_unlock(v);
	return 0;
}
