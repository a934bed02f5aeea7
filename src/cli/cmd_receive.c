/*
 * pagurus receive: wait for a VM, then be it.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "cli/vm.h"
#include "machine/move.h"

static const struct opt_usage usage = {
	.synopsis = "receive [OPTIONS] --name NAME --listen ADDRESS",
	.about = "Wait for 'pagurus migrate' from another host, and run the VM "
		 "that comes. The VFs given are claimed now and offered to its "
		 "devices.",
	.after = "ADDRESS is HOST:PORT, [V6]:PORT or unix:PATH; with port 0 "
		 "the kernel chooses,\nand the address in use is printed. "
		 "'pagurus check' may ask any number of times.\n\n"
		 "Exit status: as of 'pagurus run'; 1 if a migration came to "
		 "nothing.\n\n"
		 "  pagurus receive --name web1 --listen 0.0.0.0:4747 \\\n"
		 "      --tls /etc/pagurus/tls --vf pf:/run/pagurus/pf.sock",
};

struct wait {
	struct arrival_config ac;
	struct arrival *a;
};

static int wait_for_vm(struct machine *m, void *opaque, struct err *e)
{
	struct wait *w = opaque;
	int ret = arrival_create(&w->a, m, &w->ac, e);

	if (ret == 0) {
		printf("listening on %s\n", arrival_addr(w->a));
		fflush(stdout);
	}
	return ret;
}

static void stop_waiting(void *opaque)
{
	struct wait *w = opaque;

	arrival_destroy(w->a);
}

int cmd_receive(int argc, char **argv)
{
	struct machine_config cfg = { .mem = 0 };
	struct wait w = { .ac.listen = NULL };
	struct opt_list vfs = { .n = 0 };
	const char *shadow = NULL;
	struct cli_vm vm = { .command = "receive",
			     .cfg = &cfg,
			     .begin = wait_for_vm,
			     .end = stop_waiting,
			     .opaque = &w };
	const struct opt opts[] = {
		{ "name", 'n', "NAME", "the VM's name here", OPT_STR,
		  &cfg.name },
		{ "listen", 'l', "ADDRESS", "where to wait", OPT_STR,
		  &w.ac.listen },
		{ "vf", 0, "SPEC", "a VF on offer; may be repeated", OPT_LIST,
		  &vfs },
		{ "tls", 0, "DIR", "ca.pem, cert.pem, key.pem", OPT_STR,
		  &w.ac.tls },
		{ "insecure", 0, NULL, "plain TCP is meant", OPT_FLAG,
		  &w.ac.insecure },
		{ "console", 0, "stdio|SOCKET",
		  "serial console here, too ('pagurus console' always works)",
		  OPT_STR, &cfg.console },
		{ "shadow", 0, "OPTIONS", "as of 'pagurus run'", OPT_STR,
		  &shadow },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &cfg.dir },
		{ "verbose", 'v', NULL, "log more", OPT_FLAG, &vm.verbose },
		{ 0 },
	};
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv), ret = 0;

	if (n < 0)
		return opt_exit(n);
	if (n > 0)
		return opt_misuse(&usage, "'%s' is no option", argv[1]);
	if (!cfg.name || !w.ac.listen)
		return opt_misuse(&usage, "--name and --listen are needed");
	if (vfs.n > MACHINE_DEVS_MAX)
		return opt_misuse(&usage, "at most %d VFs", MACHINE_DEVS_MAX);
	if (shadow)
		ret = shadow_parse_opts(&cfg.shadow, shadow, &e);
	if (ret < 0)
		return cmd_fail("receive", &e, ret);
	w.ac.vf = vm.vf = vfs.v;
	w.ac.nvfs = vm.nvfs = vfs.n;
	return cli_vm_serve(&vm);
}
