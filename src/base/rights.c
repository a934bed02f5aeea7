#include "base/rights.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define CAP(n) (1ull << CAP_##n)

/*
 * Pinning guest RAM past the limit, and opening what the command line names
 * although it belongs to somebody else, before and after a reboot.
 */
#define CAPS_VFIO (CAP(IPC_LOCK) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH))

static const uint64_t kept[] = {
	[RIGHTS_VM] = CAPS_VFIO,
	[RIGHTS_PF] = CAPS_VFIO,
	[RIGHTS_NIC] = CAPS_VFIO | CAP(NET_ADMIN) | CAP(NET_RAW),
	[RIGHTS_HOSTPF] = CAP(NET_ADMIN),
};

#define ALL	  ~0u
#define NOT(role) (ALL & ~(1u << (role)))

/* Refused to the roles in the mask, with EPERM. */
static const struct {
	int nr;
	unsigned int roles;
} refused[] = {
	/* other programs */
	{ SCMP_SYS(execve), ALL },
	{ SCMP_SYS(execveat), ALL },
	{ SCMP_SYS(fork), ALL },
	{ SCMP_SYS(vfork), ALL },
	{ SCMP_SYS(ptrace), ALL },
	{ SCMP_SYS(process_vm_readv), ALL },
	{ SCMP_SYS(process_vm_writev), ALL },
	{ SCMP_SYS(pidfd_getfd), ALL },
	{ SCMP_SYS(kcmp), ALL },
	/* the kernel */
	{ SCMP_SYS(init_module), ALL },
	{ SCMP_SYS(finit_module), ALL },
	{ SCMP_SYS(delete_module), ALL },
	{ SCMP_SYS(kexec_load), ALL },
	{ SCMP_SYS(kexec_file_load), ALL },
	{ SCMP_SYS(bpf), ALL },
	{ SCMP_SYS(perf_event_open), ALL },
	{ SCMP_SYS(userfaultfd), ALL },
	{ SCMP_SYS(io_uring_setup), ALL },
	{ SCMP_SYS(iopl), ALL },
	{ SCMP_SYS(ioperm), ALL },
	{ SCMP_SYS(modify_ldt), ALL },
	{ SCMP_SYS(syslog), ALL },
	{ SCMP_SYS(reboot), ALL },
	{ SCMP_SYS(swapon), ALL },
	{ SCMP_SYS(swapoff), ALL },
	{ SCMP_SYS(acct), ALL },
	{ SCMP_SYS(quotactl), ALL },
	{ SCMP_SYS(settimeofday), ALL },
	{ SCMP_SYS(clock_settime), ALL },
	{ SCMP_SYS(clock_adjtime), ALL },
	{ SCMP_SYS(adjtimex), ALL },
	{ SCMP_SYS(sethostname), ALL },
	{ SCMP_SYS(setdomainname), ALL },
	/* what the process is, and where */
	{ SCMP_SYS(mount), ALL },
	{ SCMP_SYS(umount2), ALL },
	{ SCMP_SYS(move_mount), ALL },
	{ SCMP_SYS(open_tree), ALL },
	{ SCMP_SYS(fsopen), ALL },
	{ SCMP_SYS(pivot_root), ALL },
	{ SCMP_SYS(chroot), ALL },
	{ SCMP_SYS(setns), ALL },
	{ SCMP_SYS(unshare), ALL },
	{ SCMP_SYS(personality), ALL },
	{ SCMP_SYS(open_by_handle_at), ALL },
	{ SCMP_SYS(setuid), ALL },
	{ SCMP_SYS(setgid), ALL },
	{ SCMP_SYS(setreuid), ALL },
	{ SCMP_SYS(setregid), ALL },
	{ SCMP_SYS(setresuid), ALL },
	{ SCMP_SYS(setresgid), ALL },
	{ SCMP_SYS(setgroups), ALL },
	{ SCMP_SYS(setfsuid), ALL },
	{ SCMP_SYS(setfsgid), ALL },
	{ SCMP_SYS(mknod), ALL },
	{ SCMP_SYS(mknodat), ALL },
	{ SCMP_SYS(add_key), ALL },
	{ SCMP_SYS(request_key), ALL },
	{ SCMP_SYS(keyctl), ALL },
};

/* Socket families no role but those in the mask's complement speaks. */
static const struct {
	int family;
	unsigned int roles;
} families[] = {
	{ AF_PACKET, NOT(RIGHTS_NIC) },
	{ AF_ALG, ALL },
	{ AF_VSOCK, ALL },
	{ AF_BLUETOOTH, ALL },
};

static int drop_caps(uint64_t keep)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct now[2], less[2] = { 0 };

	if (syscall(SYS_capget, &head, now) < 0)
		return -errno;
	/* Needs a right of its own; without it there is nothing to bound. */
	for (unsigned int c = 0; c <= CAP_LAST_CAP; c++)
		if (!(keep >> c & 1))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned int i = 0; i < 2; i++) {
		less[i].permitted =
			now[i].permitted & (uint32_t)(keep >> 32 * i);
		less[i].effective =
			now[i].effective & (uint32_t)(keep >> 32 * i);
	}
	return syscall(SYS_capset, &head, less) < 0 ? -errno : 0;
}

static int fill(scmp_filter_ctx f, enum rights_role role)
{
	unsigned int me = 1u << role;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(refused); i++)
		if (refused[i].roles & me)
			ret = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM),
					       refused[i].nr, 0);
	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(families); i++)
		if (families[i].roles & me)
			ret = seccomp_rule_add(
				f, SCMP_ACT_ERRNO(EAFNOSUPPORT),
				SCMP_SYS(socket), 1,
				SCMP_A0(SCMP_CMP_EQ,
					(scmp_datum_t)families[i].family));
	/*
	 * Threads, but no processes.  clone3 has its flags in memory, where a
	 * filter cannot look; without it the C library falls back to clone.
	 */
	if (ret == 0)
		ret = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS),
				       SCMP_SYS(clone3), 0);
	if (ret == 0)
		ret = seccomp_rule_add(
			f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
	return ret;
}

/*
 * The leak check at the end of a sanitized process is a process of its own
 * that traces the first: such builds have no filter.
 */
#ifdef __SANITIZE_ADDRESS__
#define FILTERED false
#else
#define FILTERED true
#endif

int rights_drop(enum rights_role role, struct err *e)
{
	scmp_filter_ctx f;
	int ret;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, -errno, "cannot give up privileges");
	ret = drop_caps(kept[role]);
	if (ret < 0)
		return err_sys(e, ret, "cannot give up capabilities");
	if (!FILTERED)
		return 0;

	f = seccomp_init(SCMP_ACT_ALLOW);
	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	ret = fill(f, role);
	if (ret == 0)
		ret = seccomp_load(f);
	seccomp_release(f);
	if (ret == -EINVAL || ret == -ENOSYS || ret == -ECANCELED) {
		log_warn("this kernel filters no system calls (seccomp): the "
			 "process keeps them all");
		return 0;
	}
	return ret < 0 ? err_sys(e, ret, "cannot give up system calls") : 0;
}
