/*
 * The unit scenarios: "test=NAME" on the command line picks one.  The host
 * side of each stands in src/vmm/vm_kvm_test.c.
 */
#include "guest.h"
#include "testdev.h"
#include "unit.h"

#define MS 1000000ull

static volatile uint8_t *dev;
static int devfn;

static void open_dev(void)
{
	devfn = pci_find(TESTDEV_VENDOR, TESTDEV_DEVICE, 0);
	check(devfn > 0);
	pci_enable(devfn);
	dev = pci_bar(devfn, 0, 0x4000);
}

static int64_t command(uint32_t cmd, uint64_t a, uint64_t b)
{
	write64(dev + TESTDEV_ARG0, a);
	write64(dev + TESTDEV_ARG1, b);
	write32(dev + TESTDEV_CMD, cmd);
	return (int64_t)read64(dev + TESTDEV_RESULT);
}

static int test_hello(void)
{
	printf("hello from ring 3, %d%c %s %08x %s\n", 100, '%', "ok", 0xbeefu,
	       arg("word"));
	return 42;
}

static int test_input(void)
{
	int c;

	while ((c = getbyte()) < 0)
		cpu_relax();
	printf("got %c\n", c);
	return 0;
}

/* The vector comes, once, and not before its time. */
static int test_timer(void)
{
	for (uint32_t n = 1; n <= 3; n++) {
		uint64_t start = now_ns();

		timer_arm(0x40, 5 * MS);
		while (irq_count[0x40] < n && now_ns() - start < 20000 * MS)
			cpu_relax();
		check(irq_count[0x40] == n);
		check(now_ns() - start >= 5 * MS);
	}
	/* The same with the CPU halted. */
	check(!irq_wait(0x41, 0, 10 * MS));
	check(irq_count[0x40] == 3);
	return 0;
}

/* Each vector arrives as what the table says, masked ones not at all. */
static int test_msi(void)
{
	open_dev();
	msix_enable(devfn);
	for (unsigned int n = 0; n < TESTDEV_VECTORS; n++)
		msix_set(devfn, n, (uint8_t)(0x50 + n), 0);
	for (unsigned int n = 0; n < TESTDEV_VECTORS; n++) {
		check(command(CMD_MSI, n, 0) == 0);
		check(irq_wait((uint8_t)(0x50 + n), 0, 20000 * MS));
	}
	msix_set(devfn, 0, 0x60, 0);
	check(command(CMD_MSI, 0, 0) == 0);
	check(irq_wait(0x60, 0, 20000 * MS));
	for (unsigned int n = 0; n < TESTDEV_VECTORS; n++)
		check(irq_count[0x50 + n] == 1);
	return 0;
}

static void count_main(void *p);
static volatile uint64_t shared[CPUS];
static volatile uint32_t stop;

static void smp_main(void *p)
{
	volatile uint64_t *mine = p;

	while (!stop)
		__atomic_fetch_add(mine, 1, __ATOMIC_SEQ_CST);
	while (irq_count[0x70] == 0)
		cpu_relax();
	*mine = UINT64_MAX;
}

/* All CPUs come up, run at once, see our memory and our interrupts. */
static int test_smp(void)
{
	unsigned int n = (unsigned int)arg_u64("cpus", 2);

	for (unsigned int i = 1; i < n; i++)
		check(cpu_start(i, smp_main, (void *)&shared[i]));
	for (unsigned int i = 1; i < n; i++) {
		uint64_t end = now_ns() + 20000 * MS;

		while (shared[i] < 1000 && now_ns() < end)
			cpu_relax();
		check(shared[i] >= 1000);
	}
	stop = 1;
	ipi(1, 0x70);
	for (unsigned int i = 1; i < n; i++) {
		uint64_t end = now_ns() + 20000 * MS;

		while (shared[i] != UINT64_MAX && now_ns() < end)
			cpu_relax();
		check(shared[i] == UINT64_MAX);
	}
	check(irq_count[0x70] == 1);
	return 0;
}

/* All sizes, at their offsets, and nothing beside them. */
static int test_mmio(void)
{
	volatile uint8_t *s;

	open_dev();
	s = dev + TESTDEV_SCRATCH;
	write64(s, 0x1122334455667788);
	write64(s + 8, 0);
	check(read64(s) == 0x1122334455667788);
	check(read32(s) == 0x55667788 && read32(s + 4) == 0x11223344);
	check(*(volatile uint16_t *)(s + 2) == 0x5566);
	check(s[7] == 0x11);
	s[1] = 0xaa;
	*(volatile uint16_t *)(s + 4) = 0xbbcc;
	check(read64(s) == 0x1122bbcc5566aa88);
	check(read64(s + 8) == 0);
	/* Nobody is there. */
	check(read32(map_phys(0xd0000000, 4096)) == 0xffffffff);
	write32(map_phys(0xd0000000, 4096), 1);
	return 0;
}

static void toggle_main(void *p)
{
	volatile uint64_t *word = (void *)(dev + TESTDEV_PAGE + 64);
	uint64_t n = 0;

	while (!stop) {
		write64(word, ++n);
		check(read64(word) == n);
	}
	*(uint64_t *)p = n;
}

/* Page 1 keeps its content while its state changes; direct costs no exit. */
static int test_toggle(void)
{
	uint64_t rounds = arg_u64("n", 20);
	volatile uint64_t *word;
	uint64_t before;

	open_dev();
	word = (void *)(dev + TESTDEV_PAGE);
	for (uint64_t i = 0; i < rounds; i++) {
		check(command(CMD_DIRECT, 1, 0) == 0);
		before = (uint64_t)command(CMD_COUNT, 0, 0);
		write64(word, i);
		check(read64(word) == i);
		check((uint64_t)command(CMD_COUNT, 0, 0) == before);

		check(command(CMD_DIRECT, 0, 0) == 0);
		check(read64(word) == i);
		write64(word, i + 1000);
		check((uint64_t)command(CMD_COUNT, 0, 0) == before + 2);
		check(read64(word) == i + 1000);
	}
	return 0;
}

/* The host toggles page 1 while both CPUs use it. */
static int test_hammer(void)
{
	uint64_t end = now_ns() + arg_u64("ms", 300) * MS, last = 0;
	volatile uint64_t *word;

	open_dev();
	word = (void *)(dev + TESTDEV_PAGE);
	check(cpu_start(1, toggle_main, &last));
	for (uint64_t i = 0; now_ns() < end; i++) {
		write64(word, i);
		check(read64(word) == i);
	}
	stop = 1;
	while (!*(volatile uint64_t *)&last)
		cpu_relax();
	check(read64(dev + TESTDEV_PAGE + 64) == last);
	printf("hammered\n");
	return 0;
}

static void split_main(void *p)
{
	volatile uint64_t *word = p;
	uint64_t n = 0;

	while (!stop) {
		*word = ++n;
		check(*word == n);
	}
	shared[1] = n;
}

/* Two copies while split, one when merged; no write of a CPU is lost. */
static int test_split(void)
{
	uint64_t rounds = arg_u64("n", 20), unit = arg_u64("unit", PAGE);
	volatile uint64_t *ram = dma_alloc(4 * unit, unit);
	uint64_t at = (uint64_t)ram + unit, words = unit / 8;
	bool smp = arg_u64("cpus", 1) > 1;

	open_dev();
	for (uint64_t i = 0; i < 4 * words; i++)
		ram[i] = i;
	if (smp)
		check(cpu_start(1, split_main, (void *)&ram[words + 8]));
	for (uint64_t r = 0; r < rounds; r++) {
		volatile uint64_t *w = &ram[words];

		check(command(CMD_DEV_READ, at, 0) == (int64_t)w[0]);
		check(command(CMD_SPLIT, at, 2 * unit) == 0);
		check(command(CMD_SPLIT, at + unit, unit) != 0);
		w[0] = 0xc0de0000 + r; /* ours alone */
		check(command(CMD_DEV_READ, at, 0) != (int64_t)w[0]);
		check(command(CMD_DEV_WRITE, at + 16, 0xdef + r) == 0);
		check(w[2] == (r ? 0xdef + r - 1 : words + 2));
		/* The rest of the copy is what was there, and beside it. */
		for (uint64_t i = 16; i < 2 * words; i += 17)
			check(w[i] == words + i);
		check(ram[words - 1] == words - 1);
		check(ram[3 * words] == 3 * words);
		if (!smp) {
			check(command(CMD_MERGE, at, 2 * unit) == 0);
			check(w[0] != 0xc0de0000 + r);
			check(w[2] == 0xdef + r);
			w[0] = r;
			check(command(CMD_DEV_READ, at, 0) == (int64_t)r);
			continue;
		}
		/* Word 8 is written all the time: take it along. */
		stop = 1;
		while (!shared[1])
			cpu_relax();
		check(w[8] == shared[1]);
		check(command(CMD_MERGE, at, 2 * unit) == 0);
		return 0;
	}
	return 0;
}

/* Write the pages the host asked for, and say so. */
static int test_dirty(void)
{
	uint64_t n = arg_u64("pages", 64), step = arg_u64("step", 3);
	uint8_t *ram = dma_alloc(n * step * PAGE, PAGE);

	open_dev();
	for (uint64_t round = 1; round <= 2; round++) {
		check(command(CMD_TELL, (uint64_t)ram, round) == 0);
		for (uint64_t i = 0; i < n; i += round)
			ram[i * step * PAGE + i] = (uint8_t)round;
		check(command(CMD_TELL, 0, round) == 0);
	}
	return 0;
}

extern char service_read_msr[];

static __attribute__((noinline)) uint64_t trapped(uint64_t v)
{
	__asm__ volatile("outb %%al, $0xb5" : "+a"(v));
	return v;
}

/*
 * The host stops each read of an MSR and makes it one of another.  In ring 0,
 * because a software KVM has no eye on what ring 3 does.
 */
static int test_debug(void)
{
	uint64_t efer = rdmsr(0xc0000080), base = rdmsr(0x1b), word = 0;

	open_dev();
	check(efer != base);
	check(command(CMD_TELL, (uint64_t)service_read_msr, (uint64_t)&word) ==
	      0);
	check(word == 0x1122334455667788);
	for (int i = 0; i < 5; i++)
		check(rdmsr(0xc0000080) == base);
	for (uint64_t i = 0; i < 5; i++)
		check(trapped(i) == (i < 4 ? i + 100 : i));
	check(command(CMD_TELL, 0, 0) == 0);
	check(rdmsr(0xc0000080) == efer);
	check(trapped(7) == 7);
	return 0;
}

/* What accesses cost, for the benchmark. */
static int test_cost(void)
{
	uint64_t n = arg_u64("n", 2000), t[4];

	open_dev();
	t[0] = now_ns();
	for (uint64_t i = 0; i < n; i++)
		write32(dev + TESTDEV_SCRATCH, (uint32_t)i);
	t[1] = now_ns();
	for (uint64_t i = 0; i < n; i++)
		outb(0x80, 0);
	t[2] = now_ns();
	check(command(CMD_DIRECT, 1, 0) == 0);
	write32(dev + TESTDEV_PAGE, 0);
	t[3] = now_ns();
	for (uint64_t i = 0; i < n; i++)
		write32(dev + TESTDEV_PAGE, (uint32_t)i);
	t[3] = now_ns() - t[3];
	printf("  trapped MMIO write %14lu ns\n"
	       "  port write         %14lu ns\n"
	       "  direct BAR write   %14lu ns\n",
	       (t[1] - t[0]) / n, (t[2] - t[1]) / n, t[3] / n);
	return 0;
}

/* Busy until the host ends us. */
static int test_busy(void)
{
	volatile uint64_t *ram = dma_alloc(1 << 20, PAGE);

	open_dev();
	if (arg_u64("cpus", 1) > 1)
		check(cpu_start(1, count_main, (void *)&shared[1]));
	printf("busy\n");
	for (uint64_t i = 0;; i++)
		ram[i * 64 % (1 << 17)] = i;
	return 0;
}

static void count_main(void *p)
{
	volatile uint64_t *n = p;

	while (!stop)
		++*n;
	shared[2] = 1;
}

static uint64_t mix(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/*
 * Work that notices if anything but time was lost in a move: registers,
 * memory, timer interrupts, MSI-X routes, two CPUs, the clock's direction.
 */
static int test_move(void)
{
	uint64_t steps = arg_u64("steps", 200), x = 1, y = 1, t = now_ns();
	uint64_t *ram = dma_alloc(256 * PAGE, PAGE), seen = 0;
	bool smp = arg_u64("cpus", 1) > 1;

	open_dev();
	msix_enable(devfn);
	msix_set(devfn, 0, 0x58, 0);
	if (smp)
		check(cpu_start(1, count_main, (void *)&shared[1]));
	printf("moving\n");
	for (uint64_t s = 0; s < steps; s++) {
		uint32_t ticks = irq_count[0x42], msis = irq_count[0x58];
		uint64_t now;

		timer_arm(0x42, MS);
		for (unsigned int i = 0; i < 20000; i++) {
			x = mix(x);
			ram[x % (256 * PAGE / 8)] += x;
			y += x;
		}
		while (irq_count[0x42] == ticks && now_ns() - t < 20000 * MS)
			cpu_relax();
		check(irq_count[0x42] == ticks + 1);
		check(command(CMD_MSI, 0, 0) == 0);
		check(irq_wait(0x58, msis, 20000 * MS));
		write64(dev + TESTDEV_SCRATCH, s);
		check(read64(dev + TESTDEV_SCRATCH) == s);
		now = now_ns();
		check(now > t);
		t = now;
		if (smp) {
			while (shared[1] == seen && now_ns() - t < 20000 * MS)
				cpu_relax();
			check(shared[1] > seen);
			seen = shared[1];
		}
	}
	stop = 1;
	while (smp && !shared[2])
		cpu_relax();
	for (uint64_t i = 0; i < 256 * PAGE / 8; i++)
		y -= ram[i];
	printf("sum %lu\n", y);
	check(y == 1);
	return 7;
}

/* Off by ACPI, reset by port 0xcf9 or the keyboard's, or a triple fault. */
static int test_end(void)
{
	switch (arg_u64("how", 0)) {
	case 0: outw(0x604, 0x2000 | 5 << 10); break;
	case 1: outb(0xcf9, 6); break;
	case 2: outb(0x64, 0xfe); break;
	default: break;
	}
	delay_ns(5000 * MS);
	return 1;
}

/* The power button's bit, and its interrupt's level, are seen by polling. */
static int test_button(void)
{
	outw(0x602, 0x100);
	printf("waiting\n");
	while (!(inw(0x600) & 0x100))
		cpu_relax();
	outw(0x600, 0x100);
	check(!(inw(0x600) & 0x100));
	return 0;
}

static int test_fault(void)
{
	*(volatile int *)0x7000000000 = 1;
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} tests[] = {
	{ "hello", test_hello },   { "input", test_input },
	{ "timer", test_timer },   { "msi", test_msi },
	{ "smp", test_smp },	   { "mmio", test_mmio },
	{ "toggle", test_toggle }, { "split", test_split },
	{ "hammer", test_hammer }, { "dirty", test_dirty },
	{ "move", test_move },	   { "end", test_end },
	{ "button", test_button }, { "fault", test_fault },
	{ "debug", test_debug },   { "cost", test_cost },
	{ "busy", test_busy },	   { "probe", test_probe },
};

int guest_main(void)
{
	const char *name = arg("test");
	char which[32] = "";

	/* arg() has one buffer, and the scenarios use it again. */
	snprintf(which, sizeof(which), "%s", name ? name : "");
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		if (!strcmp(which, tests[i].name))
			return tests[i].run();
	printf("no such test: %s\n", which);
	return 2;
}
