/*
 * Interrupts, time, and other CPUs.
 */
#include "guest.h"

#define MSR_KVMCLOCK	 0x4b564d01
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2_ICR	 0x830
#define MSR_X2_LVT_TIMER 0x832

#define LVT_TSC_DEADLINE (2u << 17)
#define LVT_MASKED	 (1u << 16)
#define ICR_INIT	 0x4500
#define ICR_SIPI	 0x4600

#define AP_PAGE 0x8000

struct idt_gate {
	uint16_t lo, cs;
	uint8_t ist, type;
	uint16_t mid;
	uint32_t hi, zero;
};

/* KVM's layout of a vCPU's clock page (msr.rst, MSR_KVM_SYSTEM_TIME_NEW). */
struct pvclock {
	uint32_t version, pad0;
	uint64_t tsc, system_ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad[2];
};

extern struct idt_gate idt[256];
extern uint8_t irq_stubs[], ap_trampoline[], ap_trampoline_end[];
extern volatile uint32_t ap_index;
void irq_setup(void);
void time_setup(void);
void guest_ap_start(void);
void guest_fault(uint64_t vec, uint64_t error, uint64_t rip, uint64_t addr);

static struct pvclock clock __attribute__((aligned(64)));
static uint32_t tsc_mul;
static int tsc_shift;

static struct {
	void (*fn)(void *arg);
	void *arg;
	volatile uint32_t up;
} started[CPUS];

static uint64_t service(uint64_t nr, uint64_t a, uint64_t b)
{
	__asm__ volatile("ud2"
			 : "+a"(nr)
			 : "D"(a), "S"(b)
			 : "rcx", "rdx", "memory");
	return nr;
}

void halt_if(volatile uint32_t *p, uint32_t v)
{
	service(0, (uint64_t)p, v);
}

void wrmsr(uint32_t msr, uint64_t v)
{
	service(1, msr, v);
}

uint64_t rdmsr(uint32_t msr)
{
	return service(2, msr, 0);
}

void tlb_flush(void)
{
	service(3, 0, 0);
}

void irq_setup(void)
{
	for (unsigned int v = 0; v < 256; v++) {
		uint64_t at = (uint64_t)irq_stubs + v * 16;

		idt[v] = (struct idt_gate){
			.lo = (uint16_t)at,
			.cs = 0x10,
			.type = v == 3 ? 0xee : 0x8e, /* int3: DPL 3 */
			.mid = (uint16_t)(at >> 16),
			.hi = (uint32_t)(at >> 32),
		};
	}
	/* No firmware masked the PICs, and unset their vectors are faults. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

void guest_fault(uint64_t vec, uint64_t error, uint64_t rip, uint64_t addr)
{
	printf("FAULT vector %lu error %lx rip %lx address %lx\n", vec, error,
	       rip, addr);
	exit(0xef);
}

/* kvmclock tells how the TSC ticks; after this the clock page is not used. */
void time_setup(void)
{
	wrmsr(MSR_KVMCLOCK, (uint64_t)&clock | 1);
	while (!*(volatile uint32_t *)&clock.mul)
		cpu_relax();
	tsc_mul = clock.mul;
	tsc_shift = (int)clock.shift;
	wrmsr(MSR_KVMCLOCK, 0);
}

static uint64_t tsc_to_ns(uint64_t t)
{
	t = tsc_shift < 0 ? t >> -tsc_shift : t << tsc_shift;
	return (uint64_t)((unsigned __int128)t * tsc_mul >> 32);
}

uint64_t now_ns(void)
{
	return tsc_to_ns(rdtsc());
}

void delay_ns(uint64_t ns)
{
	uint64_t start = now_ns();

	while (now_ns() - start < ns)
		cpu_relax();
}

static uint64_t ns_to_tsc(uint64_t ns)
{
	uint64_t t = ns << 32, hi = ns >> 32;

	/* (ns << 32) / mul; libgcc, that could divide 128 bits, is not here */
	__asm__("divq %2" : "+a"(t), "+d"(hi) : "r"((uint64_t)tsc_mul));
	return tsc_shift < 0 ? t << -tsc_shift : t >> tsc_shift;
}

void timer_arm(uint8_t v, uint64_t ns)
{
	wrmsr(MSR_X2_LVT_TIMER, LVT_TSC_DEADLINE | v);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + ns_to_tsc(ns));
}

/*
 * Vector 0x2f wakes us at the end of the time.  It may fire before we have
 * halted, as may any other: only a count of all of them, taken before the
 * last look at what we wait for, tells that there is nothing more to come.
 */
bool irq_wait(uint8_t v, uint32_t seen, uint64_t timeout_ns)
{
	uint64_t end = now_ns() + timeout_ns, now;

	for (;;) {
		uint32_t all = irq_count[0];

		now = now_ns();
		if (irq_count[v] != seen || now >= end)
			break;
		timer_arm(0x2f, end - now);
		halt_if(&irq_count[0], all);
	}
	wrmsr(MSR_TSC_DEADLINE, 0);
	return irq_count[v] != seen;
}

void ipi(unsigned int cpu, uint8_t v)
{
	wrmsr(MSR_X2_ICR, (uint64_t)cpu << 32 | v);
}

void guest_ap_start(void)
{
	uint32_t i = ap_index;

	started[i].up = 1;
	started[i].fn(started[i].arg);
	for (;;)
		halt_if(&started[i].up, 1);
}

bool cpu_start(unsigned int cpu, void (*fn)(void *arg), void *arg)
{
	uint64_t end = now_ns() + 2000000000ull;

	memcpy((void *)AP_PAGE, ap_trampoline,
	       (size_t)(ap_trampoline_end - ap_trampoline));
	started[cpu].fn = fn;
	started[cpu].arg = arg;
	started[cpu].up = 0;
	ap_index = cpu;
	wrmsr(MSR_X2_ICR, (uint64_t)cpu << 32 | ICR_INIT);
	wrmsr(MSR_X2_ICR, (uint64_t)cpu << 32 | ICR_SIPI | AP_PAGE >> 12);
	while (!started[cpu].up && now_ns() < end)
		cpu_relax();
	return started[cpu].up;
}
