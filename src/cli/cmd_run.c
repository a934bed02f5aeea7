/*
 * pagurus run: one VM, this process.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/opt.h"
#include "cli/vm.h"

static const struct opt_usage usage = {
	.synopsis = "run [OPTIONS] --name NAME --kernel FILE",
	.about = "Boot a Linux kernel in a virtual machine. Each --vf gives it "
		 "a virtual function of an SR-IOV network card, which the "
		 "guest drives directly.",
	.after = "A VF is pf:SOCKET[,vf=N] from 'pagurus pf', a PCI address "
		 "bound to vfio-pci,\n0000:01:10.0[,vf-token=UUID], or "
		 "vfio-user:SOCKET; ',model=igb/82576' shows it\nto the guest "
		 "as that.\n\n"
		 "Exit status: 0 the guest powered off or was stopped; 1 it "
		 "did not start;\n2 it crashed; 64 the command line is "
		 "wrong.\n\n"
		 "  pagurus run --name web1 --kernel vmlinuz --initrd initrd "
		 "\\\n"
		 "      --append 'console=ttyS0' --mem 1G --cpus 2 \\\n"
		 "      --vf 0000:01:10.0 --console stdio",
};

#define MEM_UNIT (2ull << 20)

static int boot(struct machine *m, void *opaque, struct err *e)
{
	int ret = machine_build(m, e);

	return ret < 0 ? ret : machine_start(m, e);
}

int cmd_run(int argc, char **argv)
{
	struct machine_config cfg = { .console = NULL };
	uint64_t cpus = 1, mem = 512ull << 20;
	struct opt_list vfs = { .n = 0 };
	const char *shadow = NULL;
	struct cli_vm vm = {
		.command = "run", .cfg = &cfg, .vf = cfg.vf, .begin = boot
	};
	const struct opt opts[] = {
		{ "name", 'n', "NAME", "the VM's name, also of its socket",
		  OPT_STR, &cfg.name },
		{ "kernel", 'k', "FILE", "bzImage or ELF vmlinux", OPT_STR,
		  &cfg.kernel },
		{ "initrd", 'i', "FILE", "initial ramdisk", OPT_STR,
		  &cfg.initrd },
		{ "append", 'a', "TEXT", "the kernel's command line", OPT_STR,
		  &cfg.append },
		{ "mem", 'm', "SIZE", "guest RAM (512M)", OPT_SIZE, &mem },
		{ "hugepages", 0, NULL, "RAM from huge pages of 2 MiB",
		  OPT_FLAG, &cfg.hugepages },
		{ "cpus", 'c', "N", "virtual CPUs (1)", OPT_U64, &cpus },
		{ "vf", 0, "SPEC", "a VF for the guest; may be repeated",
		  OPT_LIST, &vfs },
		{ "console", 0, "stdio|SOCKET",
		  "serial console here, too ('pagurus console' always works)",
		  OPT_STR, &cfg.console },
		{ "shadow", 0, "OPTIONS",
		  "while migrating: cpu|iommu, full, poll=US|off", OPT_STR,
		  &shadow },
		{ "no-reboot", 0, NULL, "end when the guest resets itself",
		  OPT_FLAG, &cfg.no_reboot },
		{ "dir", 0, "DIR", "of control sockets (PAGURUS_DIR)", OPT_STR,
		  &cfg.dir },
		{ "verbose", 'v', NULL, "log more", OPT_FLAG, &vm.verbose },
		{ 0 },
	};
	struct err e = { 0 };
	int n = opt_parse(opts, &usage, argc, argv);

	if (n < 0)
		return opt_exit(n);
	if (n > 0)
		return opt_misuse(&usage, "'%s' is no option", argv[1]);
	if (!cfg.name || !cfg.kernel)
		return opt_misuse(&usage, "--name and --kernel are needed");
	if (!cpus || cpus > VM_CPUS_MAX || vfs.n > MACHINE_DEVS_MAX)
		return opt_misuse(&usage, "1 to %d CPUs and at most %d VFs",
				  VM_CPUS_MAX, MACHINE_DEVS_MAX);
	if (!mem || mem % MEM_UNIT)
		return opt_misuse(&usage,
				  "--mem of %llu bytes: give a multiple of 2M, "
				  "as 512M or 4G",
				  (unsigned long long)mem);
	cfg.cpus = (unsigned int)cpus;
	cfg.mem = mem;
	cfg.nvfs = vm.nvfs = vfs.n;
	memcpy(cfg.vf, vfs.v, vfs.n * sizeof(vfs.v[0]));
	if (shadow && shadow_parse_opts(&cfg.shadow, shadow, &e) < 0)
		return cmd_fail("run", &e, e.code);
	return cli_vm_serve(&vm);
}
