#include "migrate/place.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

/* "BOOT/NETNS", or "". */
static void machine(char *out, size_t size)
{
	char boot[64] = "", net[64] = "";
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	out[0] = '\0';
	if (f && fgets(boot, sizeof(boot), f) &&
	    readlink("/proc/self/ns/net", net, sizeof(net) - 1) > 0)
		snprintf(out, size, "%.*s/%s", (int)strcspn(boot, "\n"), boot,
			 net);
	if (f)
		fclose(f);
}

static void here(char out[PLACE_MAX], const char *addr)
{
	char name[160];

	machine(name, sizeof(name));
	if (!name[0] || (size_t)snprintf(out, PLACE_MAX, "%s on %s", addr,
					 name) >= PLACE_MAX)
		out[0] = '\0';
}

static void unix_place(char out[PLACE_MAX], const char *addr)
{
	char path[PATH_MAX];

	if (realpath(addr + strlen("unix:"), path))
		here(out, path);
}

/* Without a scope: that is an interface's name, and each host has its own. */
static void inet_place(char out[PLACE_MAX], const struct sockaddr_storage *sa)
{
	char host[INET6_ADDRSTRLEN], addr[INET6_ADDRSTRLEN + 16];
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *four = (const struct sockaddr_in *)sa;
	struct in_addr in = four->sin_addr;
	bool is_six = sa->ss_family == AF_INET6, loop;

	if (is_six && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		memcpy(&in, &six->sin6_addr.s6_addr[12], sizeof(in));
		is_six = false;
	}
	loop = is_six ? IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)
		      : ntohl(in.s_addr) >> 24 == IN_LOOPBACKNET;
	if (!inet_ntop(is_six ? AF_INET6 : AF_INET,
		       is_six ? (const void *)&six->sin6_addr : &in, host,
		       sizeof(host)))
		return;
	/* The port is in the same place of both. */
	snprintf(addr, sizeof(addr), is_six ? "[%s]:%u" : "%s:%u", host,
		 ntohs(four->sin_port));
	if (loop)
		here(out, addr);
	else
		snprintf(out, PLACE_MAX, "%s", addr);
}

/* One end of a channel, at 'addr' if that is a socket's path. */
static void place_of(char out[PLACE_MAX], const struct chan *c, bool mine,
		     const char *addr)
{
	struct sockaddr_storage sa;

	out[0] = '\0';
	if (chan_is_unix(addr))
		unix_place(out, addr);
	else if (chan_end(c, mine, &sa) == 0)
		inet_place(out, &sa);
}

void place_here(char out[PLACE_MAX], const struct chan *c,
		const struct chan_listener *l)
{
	place_of(out, c, true, chan_listener_addr(l));
}

void place_there(char out[PLACE_MAX], const struct chan *c)
{
	place_of(out, c, false, chan_peer(c));
}

bool place_same(const char *a, const char *b)
{
	return a[0] && !strcmp(a, b);
}
