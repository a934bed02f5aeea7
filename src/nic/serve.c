/*
 * How the thread spends its time.  While there is work it goes round
 * without a pause, and looks at the sockets each LOOK_NS.  After SPIN_NS
 * without work it sleeps in the event loop, for a quarter of the time that
 * nothing came: 20 us at first, up to idle_ns, and from there to DEEP_MAX
 * times that in half a second.  A message or a frame from the wire ends the
 * sleep at once; a guest's write to a direct page is found when it ends.
 * A driver's watchdog is heard, and wakes nobody for longer than that.  With no client that could have mapped a page there
 * is nothing to look at, and the sleep has no end.
 */
#include "nic/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/regs.h"
#include "pdev/vfio_user_server.h"

#define LOOK_NS	  20000ull
#define SPIN_NS	  50000ull
#define SLEEP_MIN 20000ull
#define URGENT_NS 100000ull /* a guest may wait no more than 1 ms for us */
#define IDLE_NS	  1000000ull
/* Idle for long, looks are rarer: up to DEEP_MAX times idle_ns apart. */
#define DEEP_DIV 64u
#define DEEP_MAX 8u

struct serve_fn {
	struct serve *s;
	unsigned int index;
	struct vfu_server *vfu;
};

struct serve {
	struct serve_conf conf;
	char dir[256];
	struct serve_fn fn[NIC_FUNCTIONS_MAX];
	bool attached[NIC_FUNCTIONS_MAX];
	struct loop_source *wire;
	uint64_t woken; /* frames came, or clients */
	unsigned int num_vfs, want_vfs;
	bool stop;
	struct serve_counts counts;
};

/* ---- the nic's side ---- */

static void *dma(void *opaque, uint64_t iova, uint64_t len, bool write)
{
	struct serve_fn *f = opaque;

	return vfu_dma_find(f->vfu, iova, len, write ? PDEV_WRITE : PDEV_READ);
}

static void wrote(void *opaque, uint64_t iova, uint64_t len)
{
	struct serve_fn *f = opaque;

	vfu_dma_mark(f->vfu, iova, len);
}

static void irq(void *opaque, enum nic_irq kind, unsigned int vector)
{
	struct serve_fn *f = opaque;

	if (kind == NIC_IRQ_MSIX)
		vfu_irq_raise(f->vfu, PDEV_MSIX, vector);
	else if (!vfu_irq_raise(f->vfu, PDEV_MSI, 0))
		vfu_irq_raise(f->vfu, PDEV_INTX, 0);
}

/*
 * Everything runs in the loop's thread, which is the one that changes
 * mappings and eventfds: it is always "inside".
 */
static const struct nic_host_ops host_ops = {
	.dma = dma,
	.wrote = wrote,
	.irq = irq,
};

/* ---- the client's side ---- */

static int fn_read(void *dev, unsigned int region, uint64_t off, void *buf,
		   size_t len)
{
	struct serve_fn *f = dev;

	if (region == PDEV_CONFIG)
		return nic_config_read(f->s->conf.nic, f->index, off, buf, len);
	return nic_read(f->s->conf.nic, f->index, region, off, buf, len);
}

static int fn_write(void *dev, unsigned int region, uint64_t off,
		    const void *buf, size_t len)
{
	struct serve_fn *f = dev;

	if (region == PDEV_CONFIG)
		return nic_config_write(f->s->conf.nic, f->index, off, buf,
					len);
	return nic_write(f->s->conf.nic, f->index, region, off, buf, len);
}

static int fn_reset(void *dev)
{
	struct serve_fn *f = dev;

	f->s->woken++;
	nic_flr(f->s->conf.nic, f->index);
	return 0;
}

static void fn_attached(void *dev)
{
	struct serve_fn *f = dev;

	f->s->attached[f->index] = true;
	f->s->woken++;
	nic_attach(f->s->conf.nic, f->index, &host_ops, f);
	log_info("function %u: client attached", f->index);
}

static void fn_detached(void *dev)
{
	struct serve_fn *f = dev;

	f->s->attached[f->index] = false;
	nic_attach(f->s->conf.nic, f->index, NULL, NULL);
	/*
	 * As VFIO does when the last file is closed: rings left enabled would
	 * write into the next client's memory.  The PF stays as it is, so that
	 * VMs outlive their PF driver; the next one resets it.
	 */
	if (f->index != NIC_PF)
		nic_flr(f->s->conf.nic, f->index);
	log_info("function %u: client gone", f->index);
}

static const struct vfu_ops vfu_ops = {
	.read = fn_read,
	.write = fn_write,
	.reset = fn_reset,
	.attached = fn_attached,
	.detached = fn_detached,
};

static void describe(struct serve *s, unsigned int fn, struct vfu_config *c)
{
	unsigned int pages = nic_direct_pages(s->conf.nic);
	struct pdev_region *r;

	for (unsigned int i = 0; i < PDEV_ROM; i++) {
		struct nic_bar bar;

		nic_bar_info(s->conf.nic, fn, i, &bar);
		c->region[i].fd = -1;
		c->region[i].info.size = bar.size;
		if (bar.size)
			c->region[i].info.flags = PDEV_READ | PDEV_WRITE;
	}
	c->region[PDEV_ROM].fd = -1;
	c->region[PDEV_CONFIG].fd = -1;
	c->region[PDEV_CONFIG].info.size = 4096;
	c->region[PDEV_CONFIG].info.flags = PDEV_READ | PDEV_WRITE;
	c->nirqs[PDEV_MSIX] = nic_vectors(s->conf.nic, fn);
	if (fn == NIC_PF) {
		c->nirqs[PDEV_MSI] = 1;
		c->nirqs[PDEV_INTX] = 1;
		return;
	}
	if (!pages)
		return;
	r = &c->region[PDEV_BAR0].info;
	r->flags |= PDEV_MMAP;
	c->region[PDEV_BAR0].fd = nic_direct_fd(s->conf.nic, fn - 1);
	for (uint64_t p = 0; p < IGBVF_BAR0_SIZE / PAGE_SIZE; p++) {
		struct pdev_area *a;

		if (!(pages >> p & 1))
			continue;
		a = r->nareas ? &r->area[r->nareas - 1] : NULL;
		if (a && a->off + a->len == p * PAGE_SIZE)
			a->len += PAGE_SIZE;
		else
			r->area[r->nareas++] =
				(struct pdev_area){ .off = p * PAGE_SIZE,
						    .len = PAGE_SIZE };
	}
}

static int open_fn(struct serve *s, unsigned int fn, struct err *e)
{
	struct vfu_config c = { .ops = &vfu_ops, .opaque = &s->fn[fn] };
	char path[300], name[16];

	if (fn == NIC_PF)
		snprintf(name, sizeof(name), "pf");
	else
		snprintf(name, sizeof(name), "vf%u", fn - 1);
	snprintf(path, sizeof(path), "%s/%s.sock", s->dir, name);
	c.name = name;
	describe(s, fn, &c);
	return vfu_server_create(&s->fn[fn].vfu, s->conf.loop, path, &c, e);
}

static void close_fn(struct serve *s, unsigned int fn)
{
	nic_attach(s->conf.nic, fn, NULL, NULL);
	s->attached[fn] = false;
	vfu_server_destroy(s->fn[fn].vfu);
	s->fn[fn].vfu = NULL;
}

/* SR-IOV was switched, from within an op of the PF: sockets come later. */
static void vfs_changed(void *opaque, unsigned int n)
{
	struct serve *s = opaque;

	s->want_vfs = n;
	s->woken++;
}

static void follow_vfs(struct serve *s)
{
	struct err e = { 0 };

	while (s->num_vfs > s->want_vfs)
		close_fn(s, NIC_VF(--s->num_vfs));
	while (s->num_vfs < s->want_vfs) {
		if (open_fn(s, NIC_VF(s->num_vfs), &e) < 0) {
			log_error("VF %u: %s", s->num_vfs, err_text(&e, 0));
			s->want_vfs = s->num_vfs;
			return;
		}
		s->num_vfs++;
	}
}

static void wire_ready(int fd, uint32_t events, void *opaque)
{
	struct serve *s = opaque;

	s->woken += uplink_receive(s->conf.uplink, s->conf.nic);
}

int serve_create(struct serve **out, const struct serve_conf *conf,
		 struct err *e)
{
	struct serve *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_sys(e, -ENOMEM, "nic");
	s->conf = *conf;
	if (!s->conf.idle_ns)
		s->conf.idle_ns = IDLE_NS;
	for (unsigned int i = 0; i < NIC_FUNCTIONS_MAX; i++) {
		s->fn[i].s = s;
		s->fn[i].index = i;
	}
	ret = -ENAMETOOLONG;
	if (strlen(conf->dir) >= sizeof(s->dir)) {
		err_set(e, ret, "--dir: the name is too long");
		goto free;
	}
	strcpy(s->dir, conf->dir);
	if (mkdir(s->dir, 0700) < 0 && errno != EEXIST) {
		ret = err_sys(e, -errno, "cannot make %s", s->dir);
		goto free;
	}
	ret = open_fn(s, NIC_PF, e);
	if (ret < 0)
		goto free;
	if (uplink_fd(conf->uplink) >= 0) {
		ret = loop_add_fd(conf->loop, uplink_fd(conf->uplink), EPOLLIN,
				  wire_ready, s, &s->wire);
		if (ret < 0) {
			err_sys(e, ret, "uplink");
			goto close;
		}
	}
	nic_set_wire(conf->nic, &uplink_wire_ops, conf->uplink);
	nic_set_vfs_fn(conf->nic, vfs_changed, s);
	/* Sleeps of 20 us must not become 70. */
	prctl(PR_SET_TIMERSLACK, 1000ul);
	*out = s;
	return 0;

close:
	close_fn(s, NIC_PF);
free:
	free(s);
	return ret;
}

void serve_destroy(struct serve *s)
{
	if (!s)
		return;
	nic_set_vfs_fn(s->conf.nic, NULL, NULL);
	nic_set_wire(s->conf.nic, NULL, NULL);
	loop_remove(s->wire);
	while (s->num_vfs)
		close_fn(s, NIC_VF(--s->num_vfs));
	close_fn(s, NIC_PF);
	free(s);
}

static uint64_t sleep_for(struct serve *s, uint64_t now, uint64_t last)
{
	uint64_t idle = now - last, t = UINT64_MAX, due;

	if (idle < SPIN_NS)
		return 0;
	if (uplink_holds(s->conf.uplink)) {
		t = SLEEP_MIN;
	} else if (nic_needs_polling(s->conf.nic)) {
		t = MAX(idle / 4, SLEEP_MIN);
		t = MIN(t, MAX(idle / DEEP_DIV, s->conf.idle_ns));
		t = MIN(t, DEEP_MAX * s->conf.idle_ns);
		if (nic_poll_urgent(s->conf.nic))
			t = MIN(t, URGENT_NS);
	}
	due = nic_deadline(s->conf.nic);
	if (due != UINT64_MAX)
		t = MIN(t, due > now ? due - now : 0);
	return t;
}

int serve_run(struct serve *s)
{
	uint64_t last = now_ns(), looked = 0;
	int ret = 0;

	while (!s->stop && ret == 0) {
		unsigned int n = nic_poll(s->conf.nic);
		uint64_t now = now_ns(), t, woken = s->woken;

		s->counts.rounds++;
		if (n) {
			s->counts.busy++;
			last = now;
		}
		t = sleep_for(s, now, last);
		if (!t && now - looked < LOOK_NS)
			continue;
		if (t)
			s->counts.sleeps++;
		ret = loop_once_ns(s->conf.loop, t);
		looked = now_ns();
		if (uplink_holds(s->conf.uplink))
			wire_ready(-1, 0, s);
		if (s->woken != woken)
			last = looked;
		if (s->want_vfs != s->num_vfs)
			follow_vfs(s);
	}
	return ret;
}

void serve_stop(struct serve *s)
{
	s->stop = true;
}

void serve_get_counts(const struct serve *s, struct serve_counts *out)
{
	*out = s->counts;
}

bool serve_attached(const struct serve *s, unsigned int fn)
{
	return s->attached[fn];
}
