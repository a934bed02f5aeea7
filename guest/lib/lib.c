/*
 * Start, command line, console, memory, strings.
 */
#include "guest.h"

#define COM1	  0x3f8
#define PORT_EXIT 0x501

#define ZP_CMDLINE 0x228
#define ZP_E820_N  0x1e8
#define ZP_E820	   0x2d0

extern uint8_t *zero_page;
extern uint8_t image_end[];
extern uint64_t pdpt[512];
void guest_start(void);
void irq_setup(void);
void time_setup(void);

static uint64_t heap, heap_end;

void exit(int code)
{
	outb(PORT_EXIT, (uint8_t)code);
	for (;;)
		cpu_relax();
}

void putbytes(const char *s, size_t n)
{
	uint16_t port = COM1;

	__asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(port) : "memory");
}

int getbyte(void)
{
	return inb(COM1 + 5) & 1 ? inb(COM1) : -1;
}

/* The value of "name=value" on the command line, up to the next space. */
const char *arg(const char *name)
{
	static char value[128];
	const char *p = (const char *)(uintptr_t) *
			(uint32_t *)(zero_page + ZP_CMDLINE);
	size_t len = strlen(name), n = 0;

	for (; *p; p++) {
		if (!strncmp(p, name, len) && p[len] == '=') {
			for (p += len + 1; *p && *p != ' ' && n < 127; p++)
				value[n++] = *p;
			value[n] = 0;
			return value;
		}
		while (*p && *p != ' ')
			p++;
		if (!*p)
			break;
	}
	return NULL;
}

uint64_t arg_u64(const char *name, uint64_t def)
{
	const char *s = arg(name);
	uint64_t v = 0;
	unsigned int base = 10;

	if (!s)
		return def;
	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (; *s; s++) {
		unsigned int d = *s <= '9' ? (unsigned int)*s - '0'
					   : ((unsigned int)*s | 32) - 'a' + 10;

		if (d >= base)
			break;
		v = v * base + d;
	}
	return v;
}

/* All RAM from the image on that the first e820 entries give below 4 GiB. */
static void heap_setup(void)
{
	uint8_t n = zero_page[ZP_E820_N];

	heap = ((uint64_t)image_end + PAGE - 1) & ~(PAGE - 1);
	for (uint8_t i = 0; i < n; i++) {
		uint8_t *e = zero_page + ZP_E820 + i * 20;
		uint64_t at, len;
		uint32_t type;

		memcpy(&at, e, 8);
		memcpy(&len, e + 8, 8);
		memcpy(&type, e + 16, 4);
		if (type == 1 && at <= heap && heap < at + len)
			heap_end = at + len;
	}
}

void *dma_alloc(size_t size, size_t align)
{
	uint64_t at = (heap + align - 1) & ~(align - 1);

	check(at + size <= heap_end);
	heap = at + size;
	return memset((void *)at, 0, size);
}

/* Whole GiBs of 2 MiB pages; the first four are there from the start. */
volatile void *map_phys(uint64_t pa, uint64_t len)
{
	for (uint64_t g = pa >> 30; g <= (pa + len - 1) >> 30; g++) {
		uint64_t *pd;

		check(g < 512);
		if (pdpt[g])
			continue;
		pd = dma_alloc(PAGE, PAGE);
		for (uint64_t i = 0; i < 512; i++)
			pd[i] = g << 30 | i << 21 | 0x87;
		pdpt[g] = (uint64_t)pd | 7;
	}
	return (volatile void *)pa;
}

void guest_start(void)
{
	heap_setup();
	irq_setup();
	time_setup();
	exit(guest_main());
}

struct out {
	char *p;
	size_t size, n;
};

static void put(struct out *o, char c)
{
	if (o->n + 1 < o->size)
		o->p[o->n] = c;
	o->n++;
}

static void put_num(struct out *o, uint64_t v, unsigned int base, bool neg,
		    unsigned int width, char pad)
{
	char digits[24];
	unsigned int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (neg && pad == '0')
		put(o, '-');
	for (unsigned int i = n + neg; i < width; i++)
		put(o, pad);
	if (neg && pad != '0')
		put(o, '-');
	while (n)
		put(o, digits[--n]);
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = { buf, size, 0 };

	for (; *fmt; fmt++) {
		unsigned int width = 0, longs = 0;
		char pad = ' ';
		uint64_t v;
		int64_t sv;

		if (*fmt != '%') {
			put(&o, *fmt);
			continue;
		}
		if (*++fmt == '0') {
			pad = '0';
			fmt++;
		}
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + (unsigned int)(*fmt++ - '0');
		for (; *fmt == 'l' || *fmt == 'z'; fmt++)
			longs++;
		switch (*fmt) {
		case 'c': put(&o, (char)va_arg(ap, int)); break;
		case 's': {
			const char *s = va_arg(ap, const char *);
			size_t n = strlen(s);

			while (*s)
				put(&o, *s++);
			for (; n < width; n++)
				put(&o, ' ');
			break;
		}
		case 'd':
		case 'i':
			sv = longs ? va_arg(ap, long) : va_arg(ap, int);
			put_num(&o, sv < 0 ? -(uint64_t)sv : (uint64_t)sv, 10,
				sv < 0, width, pad);
			break;
		case 'u':
		case 'x':
			v = longs ? va_arg(ap, unsigned long)
				  : va_arg(ap, unsigned int);
			put_num(&o, v, *fmt == 'x' ? 16 : 10, false, width,
				pad);
			break;
		case 'p':
			put_num(&o, va_arg(ap, unsigned long), 16, false, 16,
				'0');
			break;
		case 0: fmt--; break;
		default: put(&o, *fmt); break;
		}
	}
	if (size)
		buf[o.n < size ? o.n : size - 1] = 0;
	return (int)o.n;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

int printf(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	putbytes(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
	return n;
}

void *memcpy(void *d, const void *s, size_t n)
{
	void *at = d;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(s), "+c"(n)::"memory");
	return d;
}

void *memset(void *d, int c, size_t n)
{
	void *at = d;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return d;
}

void *memmove(void *d, const void *s, size_t n)
{
	char *to = d;
	const char *from = s;

	if (to <= from || to >= from + n)
		return memcpy(d, s, n);
	while (n--)
		to[n] = from[n];
	return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b || !*a)
			return (uint8_t)*a - (uint8_t)*b;
	return 0;
}

int strcmp(const char *a, const char *b)
{
	return strncmp(a, b, SIZE_MAX);
}
