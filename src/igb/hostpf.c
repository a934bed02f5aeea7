#include "igb/hostpf.h"

#include <dirent.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <limits.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "igb/hostpf_priv.h"

#define VFS_TRIED 64
#define NL_SIZE	  8192 /* MNL_SOCKET_BUFFER_SIZE is no constant */

/* The interface of the PF, and which of its VFs this is. */
static int find(const char *bdf, unsigned int *ifindex, uint32_t *vf)
{
	char path[128], link[PATH_MAX];
	struct dirent *d;
	DIR *dir;
	ssize_t n;

	*ifindex = 0;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/physfn/net", bdf);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((d = readdir(dir)) && !*ifindex)
		if (d->d_name[0] != '.')
			*ifindex = if_nametoindex(d->d_name);
	closedir(dir);
	if (!*ifindex)
		return -ENODEV;
	for (*vf = 0; *vf < VFS_TRIED; ++*vf) {
		const char *slash;

		snprintf(path, sizeof(path),
			 "/sys/bus/pci/devices/%s/physfn/virtfn%u", bdf, *vf);
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			return -errno;
		link[n] = '\0';
		slash = strrchr(link, '/');
		if (!strcmp(slash ? slash + 1 : link, bdf))
			return 0;
	}
	return -ENODEV;
}

/* One request and its acknowledgement. */
static int talk(struct nlmsghdr *h)
{
	char buf[NL_SIZE];
	struct mnl_socket *s = mnl_socket_open(NETLINK_ROUTE);
	int ret = -errno;
	ssize_t n;

	if (!s)
		return ret;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = (uint32_t)time(NULL);
	ret = mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID);
	if (ret == 0 && mnl_socket_sendto(s, h, h->nlmsg_len) < 0)
		ret = -1;
	n = ret == 0 ? mnl_socket_recvfrom(s, buf, sizeof(buf)) : -1;
	/* An error message ends as a failure with errno set. */
	ret = n > 0 && mnl_cb_run(buf, (size_t)n, h->nlmsg_seq,
				  mnl_socket_get_portid(s), NULL, NULL) >= 0
		      ? 0
		      : -errno;
	mnl_socket_close(s);
	return ret;
}

void hostpf_bdf(char *bdf, size_t size, const char *spec)
{
	snprintf(bdf, size, "%.*s", (int)MIN(strcspn(spec, ","), size - 1),
		 spec);
}

int hostpf_set_mac_here(const char *bdf, const uint8_t mac[6], struct err *e)
{
	struct ifla_vf_mac vm = { 0 };
	char buf[NL_SIZE];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nlattr *list, *info;
	struct ifinfomsg *ifi;
	unsigned int ifindex;
	int ret;

	ret = find(bdf, &ifindex, &vm.vf);
	if (ret < 0)
		return err_sys(e, ret, "%s: its PF has no network interface",
			       bdf);
	memcpy(vm.mac, mac, 6);
	h->nlmsg_type = RTM_SETLINK;
	ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	list = mnl_attr_nest_start(h, IFLA_VFINFO_LIST);
	info = mnl_attr_nest_start(h, IFLA_VF_INFO);
	mnl_attr_put(h, IFLA_VF_MAC, sizeof(vm), &vm);
	mnl_attr_nest_end(h, info);
	mnl_attr_nest_end(h, list);
	ret = talk(h);
	return ret < 0 ? err_sys(e, ret, "%s: MAC of VF %u", bdf, vm.vf) : 0;
}

static int raw_fd = -1;

int hostpf_raw_open(void)
{
	if (raw_fd < 0)
		/* Protocol 0: to send only. */
		raw_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	return raw_fd < 0 ? -errno : 0;
}

int hostpf_raw_send(const char *spec, const void *frame, size_t len)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = 6 };
	unsigned int ifindex;
	char bdf[32];
	uint32_t vf;
	int ret;

	if (raw_fd < 0)
		return -EPERM;
	hostpf_bdf(bdf, sizeof(bdf), spec);
	ret = find(bdf, &ifindex, &vf);
	if (ret < 0)
		return ret;
	to.sll_ifindex = (int)ifindex;
	memcpy(to.sll_addr, frame, 6);
	return sendto(raw_fd, frame, len, MSG_DONTWAIT,
		      (const struct sockaddr *)&to, sizeof(to)) < 0
		       ? -errno
		       : 0;
}
