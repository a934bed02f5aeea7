/*
 * A guest with a passed-through VF, traffic on it and memory that changes.
 *
 * Arguments and console commands, and the lines it prints: README.md.
 */
#include "dirty.h"
#include "steps.h"
#include "traffic.h"

#define IDLE_NS 1000000ull

#define DEVICES 2u

static struct igbvf vf[DEVICES];
static struct traffic traffic[DEVICES]; /* each with peers of its own */
static unsigned int devices;
static struct dirty dirty;
static bool quit;
static int result;

/* A second device's lines begin with a small letter. */
static char letter(unsigned int i, char c)
{
	return i ? (char)(c + 'a' - 'A') : c;
}

static void print_device(unsigned int i)
{
	const struct igbvf *v = &vf[i];

	printf("%c link=%u ups=%lu downs=%lu reinits=%lu fails=%lu macs=%lu "
	       "timeouts=%lu polls=%lu tails=%lu refills=%lu irq=%lu,%lu,%lu\n",
	       letter(i, 'V'), v->link, v->links_up, v->links_down, v->reinits,
	       v->reset_fails, v->mac_changes, v->mbx_timeouts, v->mbx_polls,
	       v->tails, v->refills, v->irqs[0], v->irqs[1], v->irqs[2]);
	if (v->conf.vlan)
		printf("%c tagged=%lu looped=%lu inframe=%lu\n", letter(i, 'N'),
		       v->tags[0], v->tags[1], v->tags[2]);
	if (v->conf.compact)
		printf("%c heads=%lu bad=%lu\n", letter(i, 'H'), v->heads,
		       v->bad_heads);
	printf("%c gprc=%lu gptc=%lu gorc=%lu gotc=%lu strangers=%lu "
	       "probes=%lu\n",
	       letter(i, 'C'), v->stat[STAT_GPRC], v->stat[STAT_GPTC],
	       v->stat[STAT_GORC], v->stat[STAT_GOTC], traffic[i].strangers,
	       traffic[i].probes);
}

static void print_all(void)
{
	for (unsigned int i = 0; i < devices; i++) {
		traffic_print(&traffic[i], letter(i, 'T'));
		if (traffic[i].ping)
			rtt_print(&traffic[i].rtt, letter(i, 'Q'));
		print_device(i);
	}
	dirty_print(&dirty);
	printf("S t=%lu\n", now_ns() / 1000000);
}

static void set_traffic(bool on)
{
	for (unsigned int i = 0; i < devices; i++)
		traffic[i].on = on;
}

static void do_stat(uint64_t v)
{
	print_all();
}

static void do_stop(uint64_t v)
{
	set_traffic(false);
	printf("O stopped\n");
}

static void do_start(uint64_t v)
{
	set_traffic(true);
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
	for (unsigned int i = 0; i < devices; i++)
		traffic[i].gap_ns = v ? 1000000000ull / v : 0;
	printf("O rate %lu\n", v);
}

static void do_fresh(uint64_t v)
{
	printf("O fresh\n");
	for (unsigned int i = 0; i < devices; i++)
		rtt_clear(&traffic[i].rtt);
}

static void do_verify(uint64_t v)
{
	printf("O verify bad=%lu\n", dirty_verify(&dirty));
}

static void do_reinit(uint64_t v)
{
	igbvf_reinit(&vf[0]);
	printf("O reinit\n");
}

static void do_request(uint64_t v)
{
	printf("O request %s\n", igbvf_request(&vf[0]));
}

static const struct {
	const char *name;
	void (*run)(uint64_t v);
} commands[] = {
	{ "stat", do_stat },	   { "stop", do_stop },
	{ "start", do_start },	   { "quit", do_quit },
	{ "dirty", do_dirty },	   { "rate", do_rate },
	{ "verify", do_verify },   { "reinit", do_reinit },
	{ "request", do_request }, { "fresh", do_fresh },
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
	if (*line && !steps_command(&vf[0], line, v))
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

static bool open_device(unsigned int i)
{
	static const uint8_t group[6] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x05 };
	const char *mode = arg("mode");
	struct igbvf_conf c = {
		.nth = (unsigned int)arg_u64("nth", 0) + i,
		.tx_n = (uint32_t)arg_u64("tx", 1024),
		.rx_n = (uint32_t)arg_u64("rx", 1024),
		.irq = mode && !strcmp(mode, "irq"),
		.compact = arg_u64("compact", 0),
		.vlan = (uint16_t)arg_u64("vlan", 0),
		.wthresh = (uint32_t)arg_u64("wthresh", 1),
		.frame = (uint16_t)arg_u64("frame", 1522),
		.tick_ns = arg_u64("tick_ms", 2000) * 1000000,
		.holdoff_ns = arg_u64("holdoff_ms", 10000) * 1000000,
		.mcast = group,
	};

	if (igbvf_open(&vf[i], &c))
		return true;
	printf("E no device\n");
	return false;
}

static bool open_all(void)
{
	uint32_t id = (uint32_t)arg_u64("id", 1);

	devices = arg_u64("devices", 1) > 1 ? DEVICES : 1;
	for (unsigned int i = 0; i < devices; i++) {
		if (!open_device(i))
			return false;
		traffic_init(&traffic[i], &vf[i], id);
	}
	return true;
}

static unsigned int poll_all(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < devices; i++) {
		n += igbvf_poll(&vf[i], traffic_rx, &traffic[i]);
		n += traffic_send(&traffic[i]);
	}
	return n;
}

static bool all(bool (*is)(const struct traffic *t))
{
	bool yes = true;

	for (unsigned int i = 0; i < devices; i++)
		yes = yes && is(&traffic[i]);
	return yes;
}

int guest_main(void)
{
	uint64_t next_stat = 0, next_console = 0, linger = 0, now;
	/* A look at the console costs an exit. */
	uint64_t look = arg_u64("console_ms", 5) * 1000000;
	uint64_t every = arg_u64("stat_ms", 0) * 1000000;
	uint64_t limit = arg_u64("limit_s", 0) * 1000000000ull;
	uint64_t start = now_ns();
	bool stay = arg_u64("stay", 0);

	if (arg("test"))
		return checker();
	if (!open_all())
		return 2;
	dirty_init(&dirty);
	printf("G ready id=%u t=%lu\n", traffic[0].id, start / 1000000);
	while (!quit) {
		unsigned int n = steps_frozen ? 0 : poll_all();

		dirty_run(&dirty);
		now = now_ns();
		if (now >= next_console) {
			next_console = now + look;
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
		if (!stay && all(traffic_done)) {
			if (!linger)
				linger = now + 1000000000ull;
			else if (now >= linger)
				break;
		}
		if (steps_frozen)
			irq_wait(vf[0].irq, irq_count[vf[0].irq], look);
		else if (!n)
			igbvf_idle(&vf[0], IDLE_NS);
	}
	dirty_verify(&dirty);
	print_all();
	if (!result && (!all(traffic_clean) || dirty.bad))
		result = 1;
	printf("G end result=%d\n", result);
	return result;
}
