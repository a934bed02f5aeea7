#include "igb/pf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "igb/pf_priv.h"

#define TICK_NS 1000000000ull /* link, and whatever an interrupt missed */
/*
 * For VMs of the driver before to come: they knock four times a second.  What
 * is kept for one that has left takes frames from where it is now.
 */
#define GRACE_NS 5000000000ull

static const char *const event_names[PF_EVS] = {
	[PF_EV_REQUEST] = "request", [PF_EV_RESET] = "reset",
	[PF_EV_LINK] = "link",	     [PF_EV_MTU] = "mtu",
	[PF_EV_KICK] = "kick",	     [PF_EV_GONE] = "gone",
	[PF_EV_BACK] = "back",
};

const char *pf_event_name(enum pf_event_kind kind)
{
	return (unsigned int)kind < PF_EVS ? event_names[kind] : "unknown";
}

void pf_port_close(struct pf_port *p)
{
	if (p)
		p->ops->close(p);
}

static void check_link(struct pf *pf)
{
	bool link = pf_hw_link(pf);

	if (link == pf->link || pf->gone)
		return;
	pf->link = link;
	log_info("%s: link is %s", pf->name, link ? "up" : "down");
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		const struct pf_event ev = { .kind = PF_EV_LINK,
					     .vf = n,
					     .link = link };

		if (pf->vf[n].port)
			pf->vf[n].port->port.link = link;
		if (pf->vf[n].fn || pf->vf[n].st.cts)
			pf_event(pf, n, &ev);
		if (link && pf->vf[n].announce_later)
			pf_announce(pf, n);
	}
}

static void on_irq(int fd, uint32_t events, void *opaque)
{
	struct pf *pf = opaque;
	eventfd_t n;
	uint32_t icr;

	if (eventfd_read(fd, &n) < 0)
		return;
	pf->irqs++;
	icr = pf_rd(pf, IGB_ICR); /* reading clears */
	trace_add(pf->trace, 0, "pf-irq", "", IGB_ICR, icr);
	pf_service(pf);
	if (icr & IGB_ICR_LSC)
		check_link(pf);
	pf_wr(pf, IGB_EIMS, 1);
}

static void on_tick(void *opaque)
{
	struct pf *pf = opaque;

	pf_service(pf);
	check_link(pf);
	/* VMs knock four times a second; others are not to wait for them. */
	for (unsigned int n = 0; n < pf->nvfs; n++)
		if (!pf->vf[n].inherited && !pf->vf[n].port)
			pf_await_over(pf, n);
}

/* Whoever did not come back by now is dead: its VF is nobody's. */
static void on_grace(void *opaque)
{
	struct pf *pf = opaque;

	loop_remove(pf->grace);
	pf->grace = NULL;
	memset(pf->mta_kept, 0, sizeof(pf->mta_kept));
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		if (pf->vf[n].inherited) {
			log_warn("%s: VF %u: nobody claimed it again, dropped",
				 pf->name, n);
			pf->vf[n].dropped = true;
			pf_vf_drop(pf, n);
		}
		pf_await_over(pf, n);
	}
	pf_filters_write(pf);
}

static int identify(struct pf *pf, struct err *e)
{
	uint16_t id[2];
	int ret = pdev_read(pf->pdev, PDEV_CONFIG, 0, id, sizeof(id));

	if (ret < 0)
		return err_sys(e, ret, "%s: configuration space", pf->name);
	pf->gen = gen_by_pf(id[0], id[1]);
	if (!pf->gen)
		return err_set(e, -ENODEV,
			       "%s is %04x:%04x, not the PF of an 82576 "
			       "(8086:10c9) or I350 (8086:1521)",
			       pf->name, id[0], id[1]);
	if (pf->pdev->region[PDEV_BAR0].size < IGB_PF_BAR0_SIZE)
		return err_set(e, -ENODEV, "%s: BAR 0 is too small", pf->name);
	if (pf->pdev->nirqs[PDEV_MSIX] < 1)
		return err_set(e, -ENODEV, "%s has no MSI-X", pf->name);
	return 0;
}

static int take_irq(struct pf *pf, struct err *e)
{
	int ret;

	pf->irqfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (pf->irqfd < 0)
		return err_sys(e, -errno, "eventfd");
	ret = loop_add_fd(pf->loop, pf->irqfd, EPOLLIN, on_irq, pf,
			  &pf->irq_src);
	if (ret == 0)
		ret = pdev_irq_set(pf->pdev, PDEV_MSIX, 0, 1, &pf->irqfd);
	if (ret == 0)
		ret = loop_add_timer(pf->loop, TICK_NS, TICK_NS, on_tick, pf,
				     &pf->tick);
	if (ret == 0 && pf->running_before)
		ret = loop_add_timer(pf->loop, GRACE_NS, 0, on_grace, pf,
				     &pf->grace);
	return ret < 0 ? err_sys(e, ret, "%s: interrupt", pf->name) : 0;
}

int pf_open(struct pf **out, struct pdev *p, struct loop *l,
	    const struct pf_conf *conf, struct err *e)
{
	struct pf *pf = calloc(1, sizeof(*pf));
	int ret;

	if (!pf)
		return err_set(e, -ENOMEM, "out of memory");
	pf->pdev = p;
	snprintf(pf->name, sizeof(pf->name), "%.*s",
		 (int)MIN(strcspn(p->name, ","), sizeof(pf->name) - 1),
		 p->name);
	pf->loop = l;
	pf->conf = *conf;
	pf->policy = conf->policy;
	pf->trace = conf->trace;
	pf->irqfd = -1;
	for (unsigned int n = 0; n < PF_VFS_MAX; n++)
		mbx_state_init(&pf->vf[n].st, pf->policy.vf[n].mac);

	ret = identify(pf, e);
	if (ret == 0)
		ret = pf_hw_start(pf, e);
	if (ret == 0)
		ret = take_irq(pf, e);
	if (ret < 0)
		goto undo;
	pf->link = pf_hw_link(pf);
	for (unsigned int n = 0; n < pf->nvfs; n++)
		pf->vf[n].awaited = pf->running_before;
	pf_hw_irq_on(pf);
	/* What happened while nobody was there. */
	pf_service(pf);
	log_info("%s: %s, %u VFs, link %s%s", pf->name, pf->gen->name, pf->nvfs,
		 pf->link ? "up" : "down",
		 pf->running_before ? ", found running" : "");
	*out = pf;
	return 0;

undo:
	loop_remove(pf->irq_src);
	loop_remove(pf->tick);
	close_fd(&pf->irqfd);
	free(pf);
	return ret;
}

void pf_close(struct pf *pf)
{
	if (!pf)
		return;
	for (unsigned int n = 0; n < pf->nvfs; n++) {
		const struct pf_event ev = { .kind = PF_EV_GONE, .vf = n };
		struct pf_vf *v = &pf->vf[n];

		if (v->fn)
			pf_event(pf, n, &ev);
		if (v->port)
			v->port->pf = NULL; /* calls fail from now on */
		pf_announce_stop(pf, n);
	}
	pf_tx_close(pf);
	pf_hw_irq_off(pf);
	pdev_irq_set(pf->pdev, PDEV_MSIX, 0, 0, NULL);
	loop_remove(pf->irq_src);
	loop_remove(pf->tick);
	loop_remove(pf->grace);
	close_fd(&pf->irqfd);
	pdev_close(pf->pdev);
	free(pf);
}

void pf_shutdown(struct pf *pf)
{
	for (unsigned int n = 0; n < pf->nvfs; n++)
		pf->vf[n].st.cts = false;
	pf_filters_write(pf); /* VFRE and VFTE off */
	pf_wr(pf, IGB_RCTL, 0);
	pf_wr(pf, IGB_TCTL, IGB_TCTL_PSP);
	pf_wr(pf, IGB_CTRL_EXT,
	      pf_rd(pf, IGB_CTRL_EXT) & ~IGB_CTRL_EXT_DRV_LOAD);
}

const struct gen *pf_gen(const struct pf *pf)
{
	return pf->gen;
}

unsigned int pf_vfs(const struct pf *pf)
{
	return pf->nvfs;
}

bool pf_link(const struct pf *pf)
{
	return pf->link;
}

bool pf_was_running(const struct pf *pf)
{
	return pf->running_before;
}

bool pf_vf_kept(const struct pf *pf, unsigned int vf)
{
	return pf->running_before && !pf->vf[vf].dropped;
}

void pf_get_counts(const struct pf *pf, unsigned int vf,
		   struct pf_vf_counts *out)
{
	*out = pf->vf[vf].counts;
}

static json_t *mac_json(const uint8_t *m)
{
	char s[18];

	snprintf(s, sizeof(s), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1],
		 m[2], m[3], m[4], m[5]);
	return json_string(s);
}

static json_t *vlans_json(const struct mbx_state *s)
{
	json_t *a = json_array();

	/* Never more than the device's table has entries for. */
	for (unsigned int vid = 0; vid < 4096; vid++)
		if (s->vlan[vid / 64] >> vid % 64 & 1)
			json_array_append_new(a, json_integer(vid));
	return a;
}

static json_t *vf_json(const struct pf *pf, unsigned int n)
{
	const struct pf_vf *v = &pf->vf[n];
	const struct pf_vf_counts *c = &v->counts;
	json_t *o = json_pack(
		"{s:i, s:b, s:s, s:b, s:b, s:o, s:o, s:i, s:i, s:i, s:s}", "vf",
		(int)n, "claimed", v->port != NULL, "who", v->who, "listening",
		v->fn != NULL, "clear_to_send", v->st.cts, "mac",
		mac_json(v->st.mac), "vlans", vlans_json(&v->st), "multicast",
		(int)v->st.nhashes, "promiscuous", (int)v->st.promisc,
		"max_frame", (int)v->st.frame, "last_refusal",
		v->last_refusal ? v->last_refusal : "");

	json_object_update_new(o, json_pack("{s:I, s:I}", "announced",
					    (json_int_t)c->announced,
					    "unannounced",
					    (json_int_t)c->unannounced));
	json_object_set_new(o, "keeps_tags", json_boolean(v->keep_tags));
	json_object_update_new(
		o, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "requests",
			     (json_int_t)c->requests, "refused",
			     (json_int_t)c->refused, "resets",
			     (json_int_t)c->resets, "acks", (json_int_t)c->acks,
			     "callbacks", (json_int_t)c->callbacks, "answered",
			     (json_int_t)c->answered));
	return o;
}

json_t *pf_status(struct pf *pf)
{
	json_t *vfs = json_array();

	for (unsigned int n = 0; n < pf->nvfs; n++)
		json_array_append_new(vfs, vf_json(pf, n));
	return json_pack("{s:s, s:s, s:b, s:b, s:I, s:i, s:o}", "pf", pf->name,
			 "generation", pf->gen->name, "link", pf->link, "gone",
			 pf->gone, "interrupts", (json_int_t)pf->irqs,
			 "tx_pending", (int)pf_tx_pending(pf), "vfs", vfs);
}
