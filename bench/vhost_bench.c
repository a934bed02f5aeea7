/*
 * The same frames through a vhost-user design, for comparison with
 * nic_bench: DPDK's virtio-user driver is both guests, DPDK's vhost driver
 * the host's side.  As there, guest and host take turns on one thread, and
 * CPU time is taken around the host's part only: take a burst from one port,
 * give it to the other.  It does no more than that; the software NIC in
 * nic_bench also filters by address and checks for spoofing.
 *
 * Needs huge pages (`sysctl vm.nr_hugepages=256`); skipped (77) without.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#define RING   512u
#define BURST  256u
#define POOL   8191u
#define RUN_NS 400000000ull

enum { HOST_A, HOST_B, GUEST_A, GUEST_B, PORTS };

static struct rte_mempool *pool;

/* Not base/util.h: both it and DPDK have a container_of(). */
static uint64_t ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static bool huge_pages(void)
{
	char line[128];
	unsigned long n = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "HugePages_Free: %lu", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n >= 64;
}

static int port_up(uint16_t port)
{
	static const struct rte_eth_conf conf;
	int ret = rte_eth_dev_configure(port, 1, 1, &conf);

	if (ret == 0)
		ret = rte_eth_rx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL,
					     pool);
	if (ret == 0)
		ret = rte_eth_tx_queue_setup(port, 0, RING, SOCKET_ID_ANY,
					     NULL);
	return ret == 0 ? rte_eth_dev_start(port) : ret;
}

static int bring_up(const char *dir)
{
	static const char *const mac[2] = { "02:00:00:00:00:0a",
					    "02:00:00:00:00:0b" };
	char name[4][32], arg[4][128];
	int ret = 0;

	pool = rte_pktmbuf_pool_create("frames", POOL, 256, 0,
				       RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	if (!pool)
		return -rte_errno;
	for (unsigned int i = 0; i < 2 && ret == 0; i++) {
		snprintf(name[i], 32, "net_vhost%u", i);
		snprintf(arg[i], 128, "iface=%s/v%u,queues=1", dir, i);
		ret = rte_eal_hotplug_add("vdev", name[i], arg[i]);
		if (ret == 0)
			ret = port_up((uint16_t)(HOST_A + i));
	}
	for (unsigned int i = 0; i < 2 && ret == 0; i++) {
		snprintf(name[2 + i], 32, "net_virtio_user%u", i);
		snprintf(arg[2 + i], 128,
			 "path=%s/v%u,queues=1,queue_size=%u,mac=%s", dir, i,
			 RING, mac[i]);
		ret = rte_eal_hotplug_add("vdev", name[2 + i], arg[2 + i]);
		if (ret == 0)
			ret = port_up((uint16_t)(GUEST_A + i));
	}
	return ret;
}

/* The guest's frames: some bytes, and the length. */
static void fill(struct rte_mbuf **m, uint16_t len)
{
	for (unsigned int i = 0; i < BURST; i++) {
		memset(rte_pktmbuf_mtod(m[i], void *), (int)i, len);
		m[i]->data_len = len;
		m[i]->pkt_len = len;
	}
}

/* The host's part: what one guest has sent goes to the other. */
static void forward(struct rte_mbuf **m)
{
	uint16_t n = rte_eth_rx_burst(HOST_A, 0, m, BURST);
	uint16_t sent = rte_eth_tx_burst(HOST_B, 0, m, n);

	rte_pktmbuf_free_bulk(m + sent, n - sent);
}

static uint64_t receive(struct rte_mbuf **m, uint64_t *bytes)
{
	uint64_t all = 0;
	uint16_t n;

	while ((n = rte_eth_rx_burst(GUEST_B, 0, m, BURST))) {
		for (unsigned int i = 0; i < n; i++)
			*bytes += m[i]->pkt_len;
		rte_pktmbuf_free_bulk(m, n);
		all += n;
	}
	return all;
}

/* Prints what frames of this size cost the host; negative: none came. */
static int measure(uint16_t len)
{
	struct rte_mbuf *m[BURST];
	uint64_t start = ns(CLOCK_MONOTONIC), host = 0, given = 0, frames = 0,
		 bytes = 0;

	for (unsigned int i = 0; i < 100; i++) { /* nothing left of before */
		forward(m);
		receive(m, &bytes);
	}
	bytes = 0;
	while (ns(CLOCK_MONOTONIC) - start < RUN_NS) {
		uint16_t sent;
		uint64_t t;

		if (rte_pktmbuf_alloc_bulk(pool, m, BURST))
			return -1;
		fill(m, len);
		sent = rte_eth_tx_burst(GUEST_A, 0, m, BURST);
		rte_pktmbuf_free_bulk(m + sent, BURST - sent);
		given += sent;
		t = ns(CLOCK_THREAD_CPUTIME_ID);
		forward(m);
		host += ns(CLOCK_THREAD_CPUTIME_ID) - t;
		frames += receive(m, &bytes);
	}
	if (!frames || frames != given || bytes != frames * len)
		return -1;
	printf("%5u B  %8.3f Mframes/s  %7.3f GB/s  %7.1f ns/frame\n", len,
	       (double)frames * 1e3 / (double)host,
	       (double)bytes / (double)host, (double)host / (double)frames);
	return 0;
}

int main(void)
{
	char dir[] = "/tmp/vhost-bench-XXXXXX", path[64];
	char *eal[] = { "vhost_bench",
			"--no-pci",
			"--in-memory",
			"--single-file-segments",
			"--no-telemetry",
			"--log-level=1",
			"-l",
			"0" };
	int ret = 77;

	if (!huge_pages()) {
		printf("skipped: no huge pages; sysctl vm.nr_hugepages=256\n");
		return 77;
	}
	if (!mkdtemp(dir))
		return 1;
	if (rte_eal_init(sizeof(eal) / sizeof(eal[0]), eal) < 0) {
		printf("skipped: DPDK does not start here\n");
		goto remove;
	}
	ret = bring_up(dir);
	if (ret) {
		printf("vhost-user ports: %s\n", rte_strerror(-ret));
		ret = 1;
		goto cleanup;
	}
	usleep(500000); /* the rings are handed over by a thread of vhost's */
	printf("guest to guest by vhost-user, one core, bursts of %u\n", BURST);
	ret = measure(64) < 0 || measure(1500) < 0;
	if (ret)
		printf("no frames came through\n");
cleanup:
	rte_eal_cleanup();
remove:
	for (unsigned int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/v%u", dir, i);
		unlink(path);
	}
	rmdir(dir);
	return ret;
}
