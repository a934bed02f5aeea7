/*
 * A guest with a passed-through VF, traffic on it and memory that changes.
 *
 * Arguments and console commands, and the lines it prints: README.md.
 */
#include "dirty.h"
#include "traffic.h"

#define CONSOLE_NS 5000000ull /* a look at the console costs an exit */
#define IDLE_NS	   1000000ull

static struct igbvf vf;
static struct traffic traffic;
static struct dirty dirty;
static bool quit;
static int result;

static void print_device(void)
{
	printf("V link=%u ups=%lu downs=%lu reinits=%lu fails=%lu macs=%lu "
	       "timeouts=%lu tails=%lu refills=%lu irq=%lu,%lu,%lu\n",
	       vf.link, vf.links_up, vf.links_down, vf.reinits, vf.reset_fails,
	       vf.mac_changes, vf.mbx_timeouts, vf.tails, vf.refills,
	       vf.irqs[0], vf.irqs[1], vf.irqs[2]);
	if (vf.conf.vlan)
		printf("N tagged=%lu looped=%lu inframe=%lu\n", vf.tags[0],
		       vf.tags[1], vf.tags[2]);
	if (vf.conf.compact)
		printf("H heads=%lu bad=%lu\n", vf.heads, vf.bad_heads);
	printf("C gprc=%lu gptc=%lu gorc=%lu gotc=%lu strangers=%lu "
	       "probes=%lu\n",
	       vf.stat[STAT_GPRC], vf.stat[STAT_GPTC], vf.stat[STAT_GORC],
	       vf.stat[STAT_GOTC], traffic.strangers, traffic.probes);
}

static void print_all(void)
{
	traffic_print(&traffic);
	print_device();
	dirty_print(&dirty);
	printf("S t=%lu\n", now_ns() / 1000000);
}

static void do_stat(uint64_t v)
{
	print_all();
}

static void do_stop(uint64_t v)
{
	traffic.on = false;
	printf("O stopped\n");
}

static void do_start(uint64_t v)
{
	traffic.on = true;
	printf("O started\n");
}

static void do_quit(uint64_t v)
{
	quit = true;
	result = (int)v;
}

static void do_dirty(uint64_t v)
{
	dirty_set_rate(&dirty, v);
	printf("O dirty %lu\n", v);
}

static void do_rate(uint64_t v)
{
	traffic.gap_ns = v ? 1000000000ull / v : 0;
	printf("O rate %lu\n", v);
}

static void do_verify(uint64_t v)
{
	printf("O verify bad=%lu\n", dirty_verify(&dirty));
}

static void do_reinit(uint64_t v)
{
	igbvf_reinit(&vf);
	printf("O reinit\n");
}

static void do_request(uint64_t v)
{
	printf("O request %s\n", igbvf_request(&vf));
}

static const struct {
	const char *name;
	void (*run)(uint64_t v);
} commands[] = {
	{ "stat", do_stat },	   { "stop", do_stop },
	{ "start", do_start },	   { "quit", do_quit },
	{ "dirty", do_dirty },	   { "rate", do_rate },
	{ "verify", do_verify },   { "reinit", do_reinit },
	{ "request", do_request },
};

static void command(char *line)
{
	uint64_t v = 0;
	char *p = line;

	while (*p && *p != ' ')
		p++;
	if (*p)
		*p++ = 0;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(line, commands[i].name)) {
			commands[i].run(v);
			return;
		}
	if (*line)
		printf("E unknown command: %s\n", line);
}

static void console(void)
{
	static char line[80];
	static size_t n;
	int c;

	while ((c = getbyte()) >= 0) {
		if (c == '\r' || c == '\n') {
			line[n] = 0;
			n = 0;
			command(line);
		} else if (n < sizeof(line) - 1) {
			line[n++] = (char)c;
		}
	}
}

static bool open_device(void)
{
	static const uint8_t group[6] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x05 };
	const char *mode = arg("mode");
	struct igbvf_conf c = {
		.nth = (unsigned int)arg_u64("nth", 0),
		.tx_n = (uint32_t)arg_u64("tx", 1024),
		.rx_n = (uint32_t)arg_u64("rx", 1024),
		.irq = mode && !strcmp(mode, "irq"),
		.compact = arg_u64("compact", 0),
		.vlan = (uint16_t)arg_u64("vlan", 0),
		.frame = (uint16_t)arg_u64("frame", 1522),
		.tick_ns = arg_u64("tick_ms", 2000) * 1000000,
		.holdoff_ns = arg_u64("holdoff_ms", 10000) * 1000000,
		.mcast = group,
	};

	if (igbvf_open(&vf, &c))
		return true;
	printf("E no device\n");
	return false;
}

int guest_main(void)
{
	uint64_t next_stat = 0, next_console = 0, linger = 0, now;
	uint64_t every = arg_u64("stat_ms", 0) * 1000000;
	uint64_t limit = arg_u64("limit_s", 0) * 1000000000ull;
	uint64_t start = now_ns();
	bool stay = arg_u64("stay", 0);

	if (arg("test"))
		return checker();
	if (!open_device())
		return 2;
	dirty_init(&dirty);
	traffic_init(&traffic, &vf);
	printf("G ready id=%u t=%lu\n", traffic.id, start / 1000000);
	while (!quit) {
		unsigned int n = igbvf_poll(&vf, traffic_rx, &traffic);

		n += traffic_send(&traffic);
		dirty_run(&dirty);
		now = now_ns();
		if (now >= next_console) {
			next_console = now + CONSOLE_NS;
			console();
		}
		if (every && now >= next_stat) {
			next_stat = now + every;
			print_all();
		}
		if (limit && now - start > limit) {
			printf("E out of time\n");
			result = 4;
			break;
		}
		/* Once done, still answer a peer that is not. */
		if (!stay && traffic_done(&traffic)) {
			if (!linger)
				linger = now + 1000000000ull;
			else if (now >= linger)
				break;
		}
		if (!n)
			igbvf_idle(&vf, IDLE_NS);
	}
	dirty_verify(&dirty);
	print_all();
	if (!result && (!traffic_clean(&traffic) || dirty.bad))
		result = 1;
	printf("G end result=%d\n", result);
	return result;
}
