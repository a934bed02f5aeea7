/*
 * What a process gives up before it reads anything a guest, a device or a
 * peer wrote: capabilities, and system calls that its role never makes.
 *
 * The filter is a list of what is refused, not of what is allowed: libraries
 * change the calls they make, and a VM that dies of an update is no gain.
 * What matters is that code brought in from outside can start no program,
 * trace none, load no module, mount nothing and reach no other namespace.
 */
#ifndef BASE_RIGHTS_H
#define BASE_RIGHTS_H

#include "base/err.h"

enum rights_role {
	RIGHTS_VM,     /* run, receive: KVM, VFIO, sockets */
	RIGHTS_PF,     /* the driver of a physical function: VFIO, sysfs */
	RIGHTS_NIC,    /* the software NIC: TAP and packet sockets, too */
	RIGHTS_HOSTPF, /* sets VFs' addresses by rtnetlink */
};

/*
 * While the process has one thread; there is no way back.  Where the kernel
 * has no seccomp that is said in the log, and is no failure.
 */
int rights_drop(enum rights_role role, struct err *e);

#endif
