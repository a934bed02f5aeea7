#include "netdev/netvf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "igb/hostpf.h"
#include "igb/pf.h"
#include "igb/pf_client.h"

static const char pf_prefix[] = "pf:";
static const char vfu_prefix[] = "vfio-user:";

static bool has_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

/* "pf:SOCKET[,vf=N]" */
static int claim(struct netvf *vf, const char *who, struct loop *l,
		 struct trace *t, struct err *e)
{
	char path[sizeof(vf->spec)], *comma, *end;
	unsigned long n = PF_ANY_VF;

	snprintf(path, sizeof(path), "%s", vf->spec + strlen(pf_prefix));
	comma = strchr(path, ',');
	if (comma) {
		*comma++ = '\0';
		if (has_prefix(comma, "vf=") && comma[3] >= '0' &&
		    comma[3] <= '9')
			n = strtoul(comma + 3, &end, 10);
		else
			end = comma;
		if (*end || n > 255)
			return err_set(e, -EINVAL,
				       "--vf '%s': behind the socket only "
				       "',vf=NUMBER' may follow",
				       vf->spec);
	}
	return pf_client_open(&vf->port, path, (unsigned int)n, who, l, t, e);
}

static int identify(struct netvf *vf, struct err *e)
{
	const struct vdev_model *m = vdev_model_of_pdev(vf->pdev, e);

	if (!m)
		return -ENODEV;
	vf->model = m;
	vf->gen = gen_by_name(m->name);
	if (!vf->gen)
		vf->gen = gen_by_pf(m->vendor, m->device);
	if (!vf->gen)
		return err_set(e, -ENODEV, "%s: generation %s is unknown",
			       vf->spec, m->name);
	return 0;
}

void netvf_prepare(const char *const *spec, unsigned int n,
		   int (*drop)(struct err *e))
{
	struct err e = { 0 };
	unsigned int i;

	for (i = 0; i < n; i++)
		if (!has_prefix(spec[i], pf_prefix) &&
		    !has_prefix(spec[i], vfu_prefix) &&
		    !has_prefix(spec[i], "none,"))
			break;
	if (i == n)
		return;
	if (hostpf_raw_open() < 0)
		log_info("without CAP_NET_RAW a VM that moves here is not "
			 "announced: switches learn it from its own frames");
	if (hostpf_broker_start(drop, &e) < 0)
		log_info("%s: a guest's address cannot be given to a VF "
			 "whose PF the host drives",
			 e.text);
}

int netvf_open(struct netvf **out, const char *spec, const char *who,
	       struct loop *l, struct trace *t, struct err *e)
{
	struct netvf *vf = calloc(1, sizeof(*vf));
	const char *pspec = spec;
	int ret = 0;

	if (!vf)
		return -ENOMEM;
	if (snprintf(vf->spec, sizeof(vf->spec), "%s", spec) >=
	    (int)sizeof(vf->spec)) {
		ret = err_set(e, -ENAMETOOLONG, "--vf '%.40s...': too long",
			      spec);
		goto close;
	}
	if (has_prefix(spec, pf_prefix)) {
		ret = claim(vf, who, l, t, e);
		if (ret < 0)
			goto close;
		pspec = vf->port->spec;
	}
	ret = pdev_open(&vf->pdev, pspec, e);
	if (ret < 0)
		goto close;
	/* Whatever the owner before left in it is gone. */
	ret = pdev_reset(vf->pdev);
	if (ret < 0 && ret != -ENOTSUP) {
		err_sys(e, ret, "%s: resetting the function", spec);
		goto close;
	}
	vf->backing =
		has_prefix(pspec, vfu_prefix) ? VDEV_SOFTWARE : VDEV_HARDWARE;
	vf->kernel_pf = !vf->port && vf->backing == VDEV_HARDWARE;
	ret = identify(vf, e);
	if (ret < 0)
		goto close;
	*out = vf;
	return 0;

close:
	netvf_close(vf);
	return ret;
}

void netvf_close(struct netvf *vf)
{
	if (!vf)
		return;
	pdev_close(vf->pdev);
	pf_port_close(vf->port);
	free(vf);
}

uint64_t netvf_features(const struct gen *g, bool pf_driver)
{
	const uint64_t tags = MIG_FEAT_LB_TAG_LE | MIG_FEAT_LB_TAG_BE;

	uint64_t f = MIG_FEAT_KNOWN;

	if (!pf_driver)
		f = (f & ~tags) |
		    (g->lb_vlan_be ? MIG_FEAT_LB_TAG_BE : MIG_FEAT_LB_TAG_LE);
	if (g->wthresh_one)
		f &= ~MIG_FEAT_WTHRESH;
	return f;
}

void netvf_describe(const struct netvf *vf, struct mig_device *out)
{
	static const enum mig_backing backing[] = {
		[VDEV_NONE] = MIG_NONE,
		[VDEV_SOFTWARE] = MIG_SOFTWARE,
		[VDEV_HARDWARE] = MIG_HARDWARE,
	};

	*out = (struct mig_device){
		.version = 1,
		.queues = (uint16_t)vf->gen->vf_queues,
		.features = netvf_features(vf->gen, vf->port != NULL),
		.backing = backing[vf->backing],
	};
	snprintf(out->name, sizeof(out->name), "%.63s", vf->spec);
	snprintf(out->family, sizeof(out->family), "%s", vf->gen->type);
	snprintf(out->type, sizeof(out->type), "%s", vf->gen->version);
}
