/*
 * The test guest's run time: a few hundred lines instead of a kernel.
 *
 * A guest is a freestanding program that lives in ring 3, sees all of the
 * first 4 GiB one to one (so a pointer is a physical address), may use ports,
 * and has interrupts counted for it.  See ../README.md.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE	      4096ul
#define CPUS	      8
#define barrier()     __asm__ volatile("" ::: "memory")

/* The program; its result is the VM's exit code.  guest_main is yours. */
int guest_main(void);
__attribute__((noreturn)) void exit(int code);

/* Words of the command line: "name=value"; NULL or 'def' without. */
const char *arg(const char *name);
uint64_t arg_u64(const char *name, uint64_t def);

/* Console.  %s %c %d %i %u %x %p %%, with l, ll, z, width and 0. */
void putbytes(const char *s, size_t n);
int printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int snprintf(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
int getbyte(void); /* from the console; -1: nothing there */

/* Print what failed and where, and exit(1). */
#define check(cond)                                                            \
	do {                                                                   \
		if (!(cond)) {                                                 \
			printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                               \
		}                                                              \
	} while (0)

void *memcpy(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
void *memmove(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

/*
 * Zeroed memory, never freed; align is a power of two.  Its address is what
 * a device is given.
 */
void *dma_alloc(size_t size, size_t align);
/* Make physical [pa, pa + len) reachable (above 4 GiB: BARs, RAM). */
volatile void *map_phys(uint64_t pa, uint64_t len);

/* Time.  The TSC's frequency comes from kvmclock. */
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
uint64_t now_ns(void);	    /* since an arbitrary start */
void delay_ns(uint64_t ns); /* spins */

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* Ports: each is an exit. */
static inline void outb(uint16_t p, uint8_t v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(p));
}
static inline void outw(uint16_t p, uint16_t v)
{
	__asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(p));
}
static inline void outl(uint16_t p, uint32_t v)
{
	__asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(p));
}
static inline uint8_t inb(uint16_t p)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}
static inline uint16_t inw(uint16_t p)
{
	uint16_t v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}
static inline uint32_t inl(uint16_t p)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(p));
	return v;
}

/*
 * MMIO: one plain move each, which KVM's emulator knows.  read32 and friends
 * are also ordered against other memory, as x86 orders them.
 */
static inline uint32_t read32(volatile void *p)
{
	uint32_t v;

	__asm__ volatile("movl %1, %0"
			 : "=r"(v)
			 : "m"(*(volatile uint32_t *)p)
			 : "memory");
	return v;
}
static inline void write32(volatile void *p, uint32_t v)
{
	__asm__ volatile("movl %1, %0"
			 : "=m"(*(volatile uint32_t *)p)
			 : "r"(v)
			 : "memory");
}
static inline uint64_t read64(volatile void *p)
{
	uint64_t v;

	__asm__ volatile("movq %1, %0"
			 : "=r"(v)
			 : "m"(*(volatile uint64_t *)p)
			 : "memory");
	return v;
}
static inline void write64(volatile void *p, uint64_t v)
{
	__asm__ volatile("movq %1, %0"
			 : "=m"(*(volatile uint64_t *)p)
			 : "r"(v)
			 : "memory");
}

/* PCI, bus 0.  A function is named by its devfn; -1: none. */
#define PCI_DEV(devfn) ((devfn) >> 3)
uint32_t pci_read32(int devfn, unsigned int off);
uint16_t pci_read16(int devfn, unsigned int off);
uint8_t pci_read8(int devfn, unsigned int off);
void pci_write32(int devfn, unsigned int off, uint32_t v);
void pci_write16(int devfn, unsigned int off, uint16_t v);
int pci_find(uint16_t vendor, uint16_t device, unsigned int nth);
unsigned int pci_cap(int devfn, uint8_t id); /* offset, or 0 */
/* Memory decoding and bus mastering on; the BAR, mapped. */
void pci_enable(int devfn);
uint64_t pci_bar_addr(int devfn, unsigned int bar);
volatile void *pci_bar(int devfn, unsigned int bar, uint64_t len);

/*
 * Interrupts.  irq_count[v] goes up by one for each interrupt on vector v;
 * use vectors 0x30..0x7f and 0x90..0xef.  irq_count[0] counts them all.
 * Enable MSI-X, then set entries.
 */
extern volatile uint32_t irq_count[256];
void msix_enable(int devfn);
/* Entry 'n' interrupts CPU 'cpu' with vector 'v'; not masked. */
void msix_set(int devfn, unsigned int n, uint8_t v, unsigned int cpu);
void msix_mask(int devfn, unsigned int n, bool masked);
/*
 * Halt until irq_count[v] differs from 'seen' or the time is over; returns
 * whether it differs.  Spin on irq_count yourself where latency counts.
 */
bool irq_wait(uint8_t v, uint32_t seen, uint64_t timeout_ns);
/*
 * One timer interrupt on vector v after ns.  A CPU has one timer, and
 * irq_wait() uses it for its time-out.
 */
void timer_arm(uint8_t v, uint64_t ns);
/* An interrupt to another CPU. */
void ipi(unsigned int cpu, uint8_t v);

/* Start CPU 'cpu' (1..CPUS-1) in fn(arg), on a 64 KiB stack of its own. */
bool cpu_start(unsigned int cpu, void (*fn)(void *arg), void *arg);

/* Ring-0 services. */
uint64_t rdmsr(uint32_t msr);
void wrmsr(uint32_t msr, uint64_t v);
void tlb_flush(void);
void halt_if(volatile uint32_t *p, uint32_t v); /* halt once if *p == v */

#endif
