/*
 * pagurus nic: the software SR-IOV NIC, one process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rights.h"
#include "base/util.h"
#include "cli/cmd.h"
#include "cli/opt.h"
#include "ctl/ctl.h"
#include "nic/nic.h"
#include "nic/serve.h"
#include "nic/uplink.h"

static const struct opt_usage usage = {
	.synopsis = "nic [OPTIONS] --dir DIR",
	.about = "Serve a software SR-IOV network card over vfio-user: the PF "
		 "at DIR/pf.sock and, once SR-IOV is enabled on it, VF n at "
		 "DIR/vfN.sock. A client is 'pagurus pf' for the PF, "
		 "'pagurus run' for a VF.",
	.after = "Exit status: 0 stopped by a signal or 'pagurus stop'; 1 it "
		 "could not start;\n64 the command line is wrong.\n\n"
		 "  pagurus nic --dir /run/nic0 --model 82576 --vfs 2 \\\n"
		 "      --uplink unix:/run/wire0",
};

struct args {
	const char *model, *uplink, *dir, *mac, *heads, *pages;
	uint64_t vfs, idle_us;
	bool compact, verbose;
};

/* What a running command holds. */
struct nic_cmd {
	struct nic *nic;
	struct uplink *uplink;
	struct loop *loop;
	struct serve *serve;
	struct ctl_server *ctl;
	struct nic_conf conf;
};

static int parse_mac(const char *s, uint8_t mac[6])
{
	unsigned int v[6];
	char end;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3],
		   &v[4], &v[5], &end) != 6)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)v[i];
	return 0;
}

/* "0,2,3", "none" */
static int parse_pages(const char *s, unsigned int *out)
{
	unsigned int pages = 0;

	if (!strcmp(s, "none")) {
		*out = 0;
		return 0;
	}
	do {
		if (*s < '0' || *s > '3')
			return -EINVAL;
		pages |= 1u << (*s++ - '0');
	} while (*s++ == ',');
	if (s[-1])
		return -EINVAL;
	*out = pages;
	return 0;
}

static int configure(const struct args *a, struct nic_conf *c)
{
	static const uint8_t mac[6] = { 0x02, 0x70, 0x67, 0, 0, 0x01 };
	int model = nic_model_parse(a->model);

	if (!a->dir)
		return opt_misuse(&usage, "--dir is needed");
	if (model < 0)
		return opt_misuse(&usage, "--model is 82576 or i350");
	if (a->vfs < 1 || a->vfs > NIC_VFS_MAX)
		return opt_misuse(&usage, "--vfs is 1 to %d", NIC_VFS_MAX);
	c->model = (enum nic_model)model;
	c->vfs = (unsigned int)a->vfs;
	c->compact = a->compact;
	memcpy(c->mac, mac, 6);
	if (a->mac && parse_mac(a->mac, c->mac))
		return opt_misuse(&usage, "--mac is like 02:00:00:00:00:01");
	if (strcmp(a->heads, "ro") && strcmp(a->heads, "rw"))
		return opt_misuse(&usage, "--heads is ro or rw");
	c->heads_ro = !strcmp(a->heads, "ro");
	if (parse_pages(a->pages, &c->direct_pages))
		return opt_misuse(&usage,
				  "--direct-pages is none or from 0,2,3");
	return 0;
}

static json_t *counts_json(const struct nic_counts *c)
{
	const struct {
		const char *name;
		uint64_t v;
	} row[] = {
		{ "tx_frames", c->tx_frames },
		{ "tx_bytes", c->tx_bytes },
		{ "rx_frames", c->rx_frames },
		{ "rx_bytes", c->rx_bytes },
		{ "wire_in", c->wire_in },
		{ "wire_out", c->wire_out },
		{ "wire_lost", c->wire_lost },
		{ "loopback", c->loopback },
		{ "no_buffer", c->no_buffer },
		{ "filtered", c->filtered },
		{ "spoofed", c->spoofed },
		{ "tx_bad", c->tx_bad },
		{ "dma_faults", c->dma_faults },
		{ "bad_access", c->bad_access },
		{ "direct_writes", c->direct_writes },
		{ "messages", c->messages },
		{ "irqs", c->irqs },
		{ "mbx_requests", c->mbx_requests },
		{ "mbx_acks", c->mbx_acks },
		{ "mbx_conflicts", c->mbx_conflicts },
	};
	json_t *o = json_object();

	for (unsigned int i = 0; i < ARRAY_SIZE(row); i++)
		json_object_set_new(o, row[i].name,
				    json_integer((json_int_t)row[i].v));
	return o;
}

static int do_status(void *opaque, struct ctl_call *call, const json_t *params,
		     json_t **result, struct err *e)
{
	struct nic_cmd *c = opaque;
	struct serve_counts sc;
	struct nic_counts nc;
	json_t *fns = json_array(), *poll;

	for (unsigned int i = 0; i <= c->conf.vfs; i++)
		json_array_append_new(
			fns, json_boolean(serve_attached(c->serve, i)));
	nic_get_counts(c->nic, &nc);
	serve_get_counts(c->serve, &sc);
	poll = json_pack("{s:I, s:I, s:I}", "rounds", (json_int_t)sc.rounds,
			 "busy", (json_int_t)sc.busy, "sleeps",
			 (json_int_t)sc.sleeps);
	*result = json_pack("{s:s, s:s, s:i, s:s, s:i, s:o, s:o, s:o}", "name",
			    "nic", "state", "running", "pid", (int)getpid(),
			    "model", nic_model_name(c->conf.model), "vfs",
			    (int)c->conf.vfs, "attached", fns, "counts",
			    counts_json(&nc), "polling", poll);
	return *result ? 0 : err_sys(e, -ENOMEM, "status");
}

static int do_stop(void *opaque, struct ctl_call *call, const json_t *params,
		   json_t **result, struct err *e)
{
	struct nic_cmd *c = opaque;

	serve_stop(c->serve);
	return 0;
}

static int do_carrier(void *opaque, struct ctl_call *call, const json_t *params,
		      json_t **result, struct err *e)
{
	struct nic_cmd *c = opaque;
	const json_t *up = json_object_get(params, "up");

	if (!json_is_boolean(up))
		return err_set(e, -EINVAL, "carrier: 'up' is true or false");
	nic_set_carrier(c->nic, json_is_true(up));
	return 0;
}

static const struct ctl_method methods[] = {
	{ "status", "model, clients, counters", do_status },
	{ "stop", "end the process", do_stop },
	{ "carrier", "plug or pull the cable: up", do_carrier },
	{ NULL, NULL, NULL },
};

static void on_signal(int signo, void *opaque)
{
	serve_stop(opaque);
}

static int start(struct nic_cmd *c, const struct args *a, struct err *e)
{
	struct serve_conf sc = { .dir = a->dir, .idle_ns = a->idle_us * 1000 };
	int ret;

	ret = uplink_open(&c->uplink, a->uplink, e);
	/* The uplink is open; what follows needs no capability. */
	if (ret == 0)
		ret = cmd_drop_rights(e);
	if (ret == 0)
		ret = nic_create(&c->nic, &c->conf, e);
	if (ret < 0)
		return ret;
	ret = loop_create(&c->loop);
	if (ret < 0)
		return err_sys(e, ret, "event loop");
	sc.nic = c->nic;
	sc.uplink = c->uplink;
	sc.loop = c->loop;
	ret = serve_create(&c->serve, &sc, e);
	if (ret < 0)
		return ret;
	loop_add_signal(c->loop, SIGINT, on_signal, c->serve, NULL);
	loop_add_signal(c->loop, SIGTERM, on_signal, c->serve, NULL);
	ret = ctl_server_create(&c->ctl, c->loop, a->dir, "nic", e);
	if (ret == 0)
		ret = ctl_server_add(c->ctl, methods, c);
	return ret;
}

int cmd_nic(int argc, char **argv)
{
	struct args a = { .model = "82576",
			  .uplink = "none",
			  .heads = "rw",
			  .pages = "0,2,3",
			  .vfs = NIC_VFS_MAX,
			  .idle_us = 1000 };
	const struct opt opts[] = {
		{ "dir", 0, "DIR", "of the sockets", OPT_STR, &a.dir },
		{ "model", 0, "MODEL", "82576 or i350 (82576)", OPT_STR,
		  &a.model },
		{ "vfs", 0, "N", "VFs the card can have, 1 to 8 (8)", OPT_U64,
		  &a.vfs },
		{ "uplink", 0, "SPEC",
		  "unix:PATH, tap:IF, packet:IF or none (none)", OPT_STR,
		  &a.uplink },
		{ "mac", 0, "MAC", "of the PF (02:70:67:00:00:01)", OPT_STR,
		  &a.mac },
		{ "compact", 0, NULL,
		  "page 0 of a VF also has its heads and tails", OPT_FLAG,
		  &a.compact },
		{ "heads", 0, "ro|rw",
		  "ring heads: never writable, or between reset and enable "
		  "(rw)",
		  OPT_STR, &a.heads },
		{ "direct-pages", 0, "LIST",
		  "pages of a VF's BAR 0 that clients may map (0,2,3)", OPT_STR,
		  &a.pages },
		{ "idle-us", 0, "N",
		  "sleep between looks when idle; for long: x 8 (1000)",
		  OPT_U64, &a.idle_us },
		{ "verbose", 'v', NULL, "log more", OPT_FLAG, &a.verbose },
		{ 0 },
	};
	struct nic_cmd c = { 0 };
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret;

	if (n < 0)
		return opt_exit(n);
	if (n > 0)
		return opt_misuse(&usage, "'%s' is no option", argv[1]);
	ret = configure(&a, &c.conf);
	if (ret)
		return ret;
	if (a.verbose)
		log_set_level(LOG_DEBUG);
	log_set_prefix("nic");

	ret = rights_drop(RIGHTS_NIC, &e);
	if (ret == 0)
		ret = start(&c, &a, &e);
	if (ret == 0)
		ret = serve_run(c.serve);
	ctl_server_destroy(c.ctl);
	serve_destroy(c.serve);
	loop_destroy(c.loop);
	nic_destroy(c.nic);
	uplink_close(c.uplink);
	return ret < 0 ? cmd_fail("nic", &e, ret) : 0;
}
