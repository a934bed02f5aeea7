/*
 * Traffic and memory load that notices what a migration must not do.
 *
 *	load echo PORT			send back all UDP and TCP to PORT
 *	load udp HOST PORT PPS SECONDS	numbered datagrams to an echo
 *	load tcp HOST PORT SECONDS	a stream to an echo, compared byte by byte
 *	load mem MIB SECONDS		pages rewritten and checked at random
 *
 * SECONDS 0 means until SIGTERM.  Each but 'echo' ends with one line of JSON;
 * the exit status is 1 if anything came back wrong or doubled (lost datagrams
 * and gaps are for the reader to judge).  Static, so that it runs anywhere.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MS	   1000000ull
#define SEC	   1000000000ull
#define CONNS	   16
#define SEQ_MAX	   (1u << 24) /* datagrams of one run */
#define DGRAM_MIN  64
#define DGRAM_MAX  1400
#define STREAM_WIN (256u << 10) /* bytes under way */
#define PAGE	   4096
#define WORDS	   (PAGE / 8)

static volatile sig_atomic_t stopped;

static void on_term(int signo)
{
	(void)signo;
	stopped = 1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SEC + (uint64_t)ts.tv_nsec;
}

/* splitmix64: a word that is all of its number's. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static int die(const char *what)
{
	perror(what);
	exit(2);
}

static struct sockaddr_in address(const char *host, const char *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };

	sa.sin_port = htons((uint16_t)atoi(port));
	if (inet_pton(AF_INET, host, &sa.sin_addr) != 1) {
		errno = EINVAL;
		die(host);
	}
	return sa;
}

static uint64_t deadline(const char *seconds)
{
	long n = atol(seconds);

	return n > 0 ? now_ns() + (uint64_t)n * SEC : UINT64_MAX;
}

/* The longest time in which nothing came back: the outage as users see it. */
struct gap {
	uint64_t begun, last, longest, at;
};

static void gap_tick(struct gap *g, uint64_t now)
{
	if (now - g->last > g->longest) {
		g->longest = now - g->last;
		g->at = g->last - g->begun;
	}
	g->last = now;
}

/* The echo. */

static int listener(const char *port, int type)
{
	struct sockaddr_in sa = address("0.0.0.0", port);
	int on = 1, fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, CONNS) < 0))
		die("listen");
	return fd;
}

static void echo_datagrams(int fd)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char buf[65536];
	ssize_t n;

	while ((n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from,
			     &len)) >= 0)
		sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
}

/* False when the peer has gone.  Blocks for a peer that does not read. */
static bool echo_stream(int fd)
{
	char buf[65536];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	for (ssize_t off = 0, m; off < n; off += m) {
		m = send(fd, buf + off, (size_t)(n - off), MSG_NOSIGNAL);
		if (m < 0)
			return false;
	}
	return true;
}

static int do_echo(char **arg)
{
	struct pollfd p[2 + CONNS];
	nfds_t n = 2;

	p[0].fd = listener(arg[0], SOCK_DGRAM);
	p[1].fd = listener(arg[0], SOCK_STREAM);
	p[0].events = p[1].events = POLLIN;
	while (!stopped) {
		if (poll(p, n, -1) < 0)
			continue;
		if (p[0].revents)
			echo_datagrams(p[0].fd);
		for (nfds_t i = 2; i < n; i++) {
			if (!p[i].revents || echo_stream(p[i].fd))
				continue;
			close(p[i].fd);
			p[i--] = p[--n];
		}
		if (p[1].revents && n < 2 + CONNS) {
			int fd = accept(p[1].fd, NULL, NULL);

			if (fd >= 0)
				p[n++] = (struct pollfd){ .fd = fd,
							  .events = POLLIN };
		}
	}
	return 0;
}

/* Datagrams. */

struct dgram {
	uint64_t seq, len, word[(DGRAM_MAX - 16) / 8];
};

static size_t dgram_make(struct dgram *d, uint64_t seq)
{
	size_t words = (DGRAM_MIN - 16) / 8;

	words += mix(seq) % (sizeof(d->word) / 8 - words + 1);
	d->seq = seq;
	d->len = 16 + words * 8;
	for (size_t i = 0; i < words; i++)
		d->word[i] = mix(seq * 1024 + i);
	return d->len;
}

static int do_udp(char **arg)
{
	struct sockaddr_in to = address(arg[0], arg[1]);
	uint64_t pps = (uint64_t)atol(arg[2]), end = deadline(arg[3]), next;
	uint64_t sent = 0, refused = 0, got = 0, doubled = 0, late = 0;
	uint64_t corrupt = 0, highest = 0;
	static uint8_t *seen; /* to the process's end */
	struct dgram d, want;
	struct gap gap;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	seen = calloc(SEQ_MAX / 8, 1);
	if (!seen || fd < 0 || !pps ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("udp");
	next = gap.begun = gap.last = now_ns();
	gap.longest = gap.at = 0;
	/* After the last one, two seconds for what is still under way. */
	for (;;) {
		uint64_t now = now_ns();
		ssize_t n;

		if ((stopped || sent == SEQ_MAX) && end > now)
			end = now;
		if (now >= end && now - end >= 2 * SEC)
			break;
		if (now >= next && now < end) {
			size_t len = dgram_make(&d, sent++);

			if (send(fd, &d, len, 0) < 0)
				refused++;
			next += SEC / pps;
			/* After a stop, go on at the rate, not in a burst. */
			if (next + SEC / 10 < now)
				next = now;
		}
		while ((n = recv(fd, &d, sizeof(d), 0)) >= 0) {
			uint64_t s = d.seq;

			if (s >= sent || dgram_make(&want, s) != (size_t)n ||
			    memcmp(&d, &want, (size_t)n)) {
				corrupt++;
				continue;
			}
			gap_tick(&gap, now_ns());
			doubled += seen[s / 8] >> s % 8 & 1;
			got += !(seen[s / 8] >> s % 8 & 1);
			seen[s / 8] |= (uint8_t)(1u << s % 8);
			late += s < highest;
			if (s > highest)
				highest = s;
		}
		now = now_ns();
		poll(&p, 1,
		     now >= end	   ? 20
		     : next <= now ? 0
				   : (int)((next - now) / MS) + 1);
	}
	printf("{\"sent\":%lu,\"refused\":%lu,\"received\":%lu,\"lost\":%lu,"
	       "\"doubled\":%lu,\"reordered\":%lu,\"corrupt\":%lu,"
	       "\"gap_ms\":%.1f,\"gap_at_s\":%.2f}\n",
	       sent, refused, got, sent - got, doubled, late, corrupt,
	       (double)gap.longest / 1e6, (double)gap.at / 1e9);
	return doubled || corrupt;
}

/* The stream: byte n is that of the word of number n / 8. */

static void stream_fill(uint8_t *buf, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++, at++)
		buf[i] = (uint8_t)(mix(at / 8) >> at % 8 * 8);
}

static int do_tcp(char **arg)
{
	static uint8_t out[16384], in[16384], want[16384];
	struct sockaddr_in to = address(arg[0], arg[1]);
	uint64_t end = deadline(arg[2]), sent = 0, got = 0, corrupt = 0;
	struct gap gap = { .longest = 0 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	const char *broken = "";
	size_t have = 0, off = 0;

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect");
	gap.begun = gap.last = now_ns();
	for (;;) {
		bool over = stopped || now_ns() >= end;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (over && got == sent)
			break;
		/* Long enough for TCP to get over an outage of its own. */
		if (now_ns() - gap.last > 60 * SEC) {
			broken = "silent for 60 s";
			break;
		}
		if (!over && off == have && sent - got < STREAM_WIN) {
			have = sizeof(out);
			off = 0;
			stream_fill(out, sent, have);
		}
		if (off < have)
			p.events |= POLLOUT;
		poll(&p, 1, 100);
		if (off < have && p.revents & POLLOUT) {
			n = send(fd, out + off, have - off,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n > 0) {
				off += (size_t)n;
				sent += (uint64_t)n;
			}
		}
		if (over)
			off = have = 0;
		n = recv(fd, in, sizeof(in), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			broken = n ? strerror(errno) : "closed by the echo";
			break;
		}
		if (n < 0)
			continue;
		stream_fill(want, got, (size_t)n);
		corrupt += memcmp(in, want, (size_t)n) != 0;
		got += (uint64_t)n;
		gap_tick(&gap, now_ns());
	}
	printf("{\"bytes\":%lu,\"corrupt\":%lu,\"broken\":\"%s\","
	       "\"gap_ms\":%.1f,\"gap_at_s\":%.2f}\n",
	       got, corrupt, broken, (double)gap.longest / 1e6,
	       (double)gap.at / 1e9);
	return corrupt || *broken;
}

/* Memory: each page holds its number, its generation, and words of both. */

static void page_fill(uint64_t *page, uint64_t number, uint64_t generation)
{
	for (unsigned int i = 0; i < WORDS; i++)
		page[i] = mix(number << 32 ^ generation << 10 ^ i);
}

static bool page_good(const uint64_t *page, uint64_t number,
		      uint64_t generation)
{
	for (unsigned int i = 0; i < WORDS; i++)
		if (page[i] != mix(number << 32 ^ generation << 10 ^ i))
			return false;
	return true;
}

static int do_mem(char **arg)
{
	uint64_t pages = (uint64_t)atol(arg[0]) << 8, end = deadline(arg[1]);
	uint64_t writes = 0, corrupt = 0, dice = 1;
	static uint32_t *generation; /* to the process's end */
	uint64_t *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	generation = calloc(pages, sizeof(*generation));
	if (!pages || !generation || mem == MAP_FAILED)
		die("memory");
	for (uint64_t i = 0; i < pages; i++)
		page_fill(mem + i * WORDS, i, 0);
	while (!stopped && now_ns() < end) {
		uint64_t i = (dice = mix(dice)) % pages;

		corrupt += !page_good(mem + i * WORDS, i, generation[i]);
		page_fill(mem + i * WORDS, i, ++generation[i]);
		writes++;
	}
	for (uint64_t i = 0; i < pages; i++)
		corrupt += !page_good(mem + i * WORDS, i, generation[i]);
	printf("{\"pages\":%lu,\"writes\":%lu,\"corrupt\":%lu}\n", pages,
	       writes, corrupt);
	return corrupt != 0;
}

static const struct {
	const char *name;
	int nargs;
	int (*run)(char **arg);
} modes[] = {
	{ "echo", 1, do_echo },
	{ "udp", 4, do_udp },
	{ "tcp", 3, do_tcp },
	{ "mem", 2, do_mem },
};

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_term };

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (argc == 2 + modes[i].nargs &&
		    !strcmp(argv[1], modes[i].name))
			return modes[i].run(argv + 2);
	fprintf(stderr, "usage: load echo PORT | udp HOST PORT PPS SECONDS | "
			"tcp HOST PORT SECONDS | mem MIB SECONDS\n");
	return 2;
}
