/*
 * pagurus pf: the driver of one physical function.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rights.h"
#include "base/trace.h"
#include "base/util.h"
#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"
#include "igb/pf.h"
#include "igb/pf_host.h"
#include "igb/pf_server.h"

#define TRACE_EVENTS 16384

static const struct opt_usage usage = {
	.synopsis = "pf [OPTIONS] DEVICE",
	.about = "Drive a physical function of the igb family from user space: "
		 "enable its VFs, hand them to VMs over a socket, answer what "
		 "they ask of the PF within a policy. DEVICE is a PCI address "
		 "bound to vfio-pci (with its parameter enable_sriov=1) or "
		 "vfio-user:SOCKET, the software NIC.",
	.after = "Exit status: 0 stopped; 1 it could not start, or the device "
		 "went away;\n64 the command line is wrong.\n\n"
		 "  pagurus pf --name pf0 --vfs 4 0000:01:00.0\n"
		 "  pagurus pf vfio-user:/run/nic0/pf.sock --policy p.json\n"
		 "  pagurus pf -n --policy p.json",
};

struct args {
	const char *name, *dir, *policy, *socket;
	uint64_t vfs;
	bool check, verbose;
};

/* What a running command holds. */
struct pf_cmd {
	const char *device;
	char token[PF_TOKEN_SIZE];
	char socket[128];
	struct loop *loop;
	struct trace *trace;
	struct pf *pf;
	struct pf_server *server;
	struct ctl_server *ctl;
	const char *name;
	bool gone;
};

static int vf_spec(void *opaque, unsigned int vf, char *buf, size_t size)
{
	const struct pf_cmd *c = opaque;

	return pf_host_vf_spec(c->device, c->token, vf, buf, size);
}

/* ---- the control socket ---- */

static int do_status(void *opaque, struct ctl_call *call, const json_t *params,
		     json_t **result, struct err *e)
{
	struct pf_cmd *c = opaque;
	struct pf_server_counts n;

	pf_server_get_counts(c->server, &n);
	*result = pf_status(c->pf);
	if (!*result)
		return err_sys(e, -ENOMEM, "status");
	json_object_update_new(
		*result,
		json_pack("{s:s, s:s, s:i, s:s, s:{s:i, s:I, s:I, s:I, s:I}}",
			  "name", c->name, "state", "running", "pid",
			  (int)getpid(), "socket", c->socket, "connections",
			  "live", (int)n.live, "connects",
			  (json_int_t)n.connects, "refused",
			  (json_int_t)n.refused, "bad", (json_int_t)n.bad,
			  "slow", (json_int_t)n.slow));
	return 0;
}

static int do_stop(void *opaque, struct ctl_call *call, const json_t *params,
		   json_t **result, struct err *e)
{
	loop_stop(((struct pf_cmd *)opaque)->loop);
	return 0;
}

/* 'vf' of the parameters, PF_ANY_VF if it is not there. */
static int get_vf(const json_t *params, const char *method, unsigned int *vf,
		  struct err *e)
{
	const json_t *v = json_object_get(params, "vf");

	*vf = PF_ANY_VF;
	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    json_integer_value(v) >= PF_VFS_MAX)
		return err_set(e, -EINVAL, "%s: 'vf' is a VF's number", method);
	*vf = (unsigned int)json_integer_value(v);
	return 0;
}

static int do_kick(void *opaque, struct ctl_call *call, const json_t *params,
		   json_t **result, struct err *e)
{
	struct pf_cmd *c = opaque;
	unsigned int vf;
	int ret = get_vf(params, "kick", &vf, e);

	if (ret == 0)
		ret = pf_kick(c->pf, vf);
	return ret < 0 ? err_set(e, ret, "kick: there is no VF %u", vf) : 0;
}

static int do_mtu(void *opaque, struct ctl_call *call, const json_t *params,
		  json_t **result, struct err *e)
{
	struct pf_cmd *c = opaque;
	json_int_t mtu = json_integer_value(json_object_get(params, "mtu"));
	unsigned int vf;
	int ret = get_vf(params, "mtu", &vf, e);

	if (ret == 0 &&
	    (mtu < MBX_FRAME_MIN || mtu > MBX_FRAME_MAX - MBX_FRAME_OVERHEAD))
		ret = err_set(e, -EINVAL, "mtu: 'mtu' is %d to %d",
			      MBX_FRAME_MIN,
			      MBX_FRAME_MAX - MBX_FRAME_OVERHEAD);
	if (ret < 0)
		return ret;
	ret = pf_set_frame(c->pf, vf, (uint16_t)(mtu + MBX_FRAME_OVERHEAD));
	return ret < 0 ? err_set(e, ret, "mtu: 'vf' is a VF's number") : 0;
}

static int do_trace(void *opaque, struct ctl_call *call, const json_t *params,
		    json_t **result, struct err *e)
{
	struct pf_cmd *c = opaque;
	char *text = trace_json(c->trace);

	*result = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return *result ? 0 : err_sys(e, -ENOMEM, "trace");
}

static const struct ctl_method methods[] = {
	{ "status", "device, link, VFs, refusals", do_status },
	{ "stop", "end the driver; VFs in use go on", do_stop },
	{ "kick", "tell a VF's driver to start over: vf", do_kick },
	{ "mtu", "change a VF's ceiling: vf, mtu", do_mtu },
	{ "trace", "the last events", do_trace },
	{ NULL, NULL, NULL },
};

/* ---- life ---- */

static void on_signal(int signo, void *opaque)
{
	loop_stop(((struct pf_cmd *)opaque)->loop);
}

static void went_away(void *opaque)
{
	struct pf_cmd *c = opaque;

	c->gone = true;
	loop_stop(c->loop);
}

/* In a thread of the back end's. */
static void on_gone(void *opaque)
{
	struct pf_cmd *c = opaque;

	loop_call(c->loop, went_away, c);
}

static int open_device(struct pf_cmd *c, const struct args *a,
		       struct pdev **out, struct err *e)
{
	char path[128], spec[128];
	int ret;

	if (strncmp(c->device, "vfio-user:", 10) == 0)
		return pdev_open(out, c->device, e);
	/* What the user wrote is judged before there is a token behind it. */
	ret = pdev_check_spec(c->device, e);
	if (ret == 0 && strchr(c->device, ','))
		ret = err_set(e, -EINVAL,
			      "'%s': the driver chooses the VF token itself; "
			      "leave it out",
			      c->device);
	if (ret == 0)
		ret = ctl_path(path, sizeof(path), a->dir, a->name, "token", e);
	if (ret == 0)
		ret = pf_host_token(c->token, path, e);
	if (ret < 0)
		return ret;
	snprintf(spec, sizeof(spec), "%.64s,vf-token=%s", c->device, c->token);
	return pdev_open(out, spec, e);
}

static int start(struct pf_cmd *c, const struct args *a, struct pf_conf *conf,
		 struct err *e)
{
	struct pdev *p;
	int ret = loop_create(&c->loop);

	if (ret == 0)
		ret = trace_create(&c->trace, TRACE_EVENTS);
	if (ret < 0)
		return err_sys(e, ret, "event loop");
	loop_add_signal(c->loop, SIGINT, on_signal, c, NULL);
	loop_add_signal(c->loop, SIGTERM, on_signal, c, NULL);
	/* First of all the name: two drivers of one PF would be its end. */
	ret = ctl_server_create(&c->ctl, c->loop, a->dir, a->name, e);
	if (ret == 0 && a->socket)
		snprintf(c->socket, sizeof(c->socket), "%s", a->socket);
	else if (ret == 0)
		ret = ctl_path(c->socket, sizeof(c->socket), a->dir, a->name,
			       "pf", e);
	if (ret == 0)
		ret = open_device(c, a, &p, e);
	if (ret < 0)
		return ret;
	conf->trace = c->trace;
	conf->vf_spec = vf_spec;
	conf->opaque = c;
	ret = pf_open(&c->pf, p, c->loop, conf, e);
	if (ret < 0) {
		pdev_close(p);
		return ret;
	}
	pdev_on_gone(p, on_gone, c);
	ret = pf_server_create(&c->server, c->pf, c->loop, c->socket, e);
	if (ret == 0)
		ret = cmd_drop_rights(e);
	if (ret == 0)
		ret = ctl_server_add(c->ctl, methods, c);
	return ret;
}

/* VFs in use go on without us; a device nobody uses is switched off. */
static void finish(struct pf_cmd *c)
{
	struct pf_server_counts n = { 0 };

	if (c->server)
		pf_server_get_counts(c->server, &n);
	if (c->pf && !n.live && !c->gone)
		pf_shutdown(c->pf);
	pf_close(c->pf);
	pf_server_destroy(c->server);
	ctl_server_destroy(c->ctl);
	loop_destroy(c->loop);
	trace_destroy(c->trace);
}

static int check_args(const struct args *a, int n)
{
	if (n > 1)
		return opt_misuse(&usage, "one device is one driver");
	if (n < 1 && !a->check)
		return opt_misuse(&usage, "which DEVICE?");
	if (a->check && !a->policy)
		return opt_misuse(&usage, "-n checks a policy: --policy FILE");
	if (a->vfs > PF_VFS_MAX)
		return opt_misuse(&usage, "--vfs is 1 to %d", PF_VFS_MAX - 1);
	return 0;
}

int cmd_pf(int argc, char **argv)
{
	struct args a = { .name = "pf0" };
	const struct opt opts[] = {
		{ "name", 0, "NAME", "of the driver (pf0)", OPT_STR, &a.name },
		{ "vfs", 0, "N", "VFs to enable (as many as there are)",
		  OPT_U64, &a.vfs },
		{ "policy", 0, "FILE", "what VFs may ask for, JSON", OPT_STR,
		  &a.policy },
		{ "check", 'n', NULL, "only check the policy", OPT_FLAG,
		  &a.check },
		{ "socket", 0, "PATH", "where VMs connect (DIR/NAME.pf)",
		  OPT_STR, &a.socket },
		{ "dir", 0, "DIR", "of control sockets", OPT_STR, &a.dir },
		{ "verbose", 'v', NULL, "log more", OPT_FLAG, &a.verbose },
		{ 0 },
	};
	struct pf_cmd c = { 0 };
	struct pf_conf conf = { 0 };
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	ret = check_args(&a, n);
	if (ret)
		return ret;
	pf_policy_default(&conf.policy);
	if (a.policy && pf_policy_load(&conf.policy, a.policy, &e) < 0)
		return cmd_fail("pf", &e, e.code);
	if (a.check) {
		printf("policy %s is good\n", a.policy);
		return 0;
	}
	if (a.verbose)
		log_set_level(LOG_DEBUG);
	log_set_prefix(a.name);
	c.device = argv[1];
	c.name = a.name;
	conf.vfs = (unsigned int)a.vfs;

	ret = rights_drop(RIGHTS_PF, &e);
	if (ret == 0)
		ret = start(&c, &a, &conf, &e);
	if (ret == 0) {
		log_info("VMs connect at %s", c.socket);
		ret = loop_run(c.loop);
	}
	if (c.gone)
		ret = err_set(&e, -ENODEV, "%s went away", c.device);
	finish(&c);
	return ret < 0 ? cmd_fail("pf", &e, ret) : 0;
}
