/*
 * The ACPI tables: as little as makes a stock kernel find its CPUs, its
 * interrupt controller, the PCI bus, the serial port and the power button.
 *
 * ACPI 6.4; chapter and section stand at each table.  The DSDT is assembled
 * here byte by byte: there is no iasl at run time, and it depends on the
 * size of memory.
 */
#include "vmm/boot.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"
#include "base/wire.h"

#define HDR_LEN 36

#define SCI	 9
#define PM1A_EVT 0x600
#define PM1A_CNT 0x604

/* IAPC_BOOT_ARCH, 5.2.9.3 */
#define BOOT_LEGACY  (1u << 0)
#define BOOT_NO_VGA  (1u << 2)
#define BOOT_NO_ASPM (1u << 4)
#define BOOT_NO_CMOS (1u << 5)

/* Fixed feature flags, 5.2.9 */
#define FLAG_WBINVD	(1u << 0)
#define FLAG_PROC_C1	(1u << 2)
#define FLAG_SLP_BUTTON (1u << 5) /* set: not a fixed feature */
#define FLAG_RESET_REG	(1u << 10)

static size_t begin(struct wire_out *o, const char *sig, uint8_t revision)
{
	size_t at;

	while (!o->err && wire_used(o) % 16)
		put_u8(o, 0);
	at = wire_used(o);
	put_bytes(o, sig, 4);
	put_u32(o, 0); /* length, see end() */
	put_u8(o, revision);
	put_u8(o, 0); /* checksum */
	put_bytes(o, "PAGURS", 6);
	put_bytes(o, "PAGURUS ", 8);
	put_u32(o, 1);
	put_bytes(o, "PGRS", 4);
	put_u32(o, 1);
	return at;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return (uint8_t)-s;
}

static void end(struct wire_out *o, size_t at)
{
	wire_patch_u32(o, at + 4, (uint32_t)(wire_used(o) - at));
	if (!o->err)
		o->start[at + 9] = sum(o->start + at, wire_used(o) - at);
}

static void zeros(struct wire_out *o, size_t n)
{
	while (n--)
		put_u8(o, 0);
}

/* Generic address structure, 5.2.3.2: an I/O port. */
static void gas_io(struct wire_out *o, uint16_t port, uint8_t bits,
		   uint8_t access)
{
	put_u8(o, port ? 1 : 0);
	put_u8(o, bits);
	put_u8(o, 0);
	put_u8(o, access);
	put_u64(o, port);
}

/* 5.2.9 */
static void fadt(struct wire_out *o, uint32_t facs, uint32_t dsdt)
{
	size_t at = begin(o, "FACP", 6);

	put_u32(o, facs);
	put_u32(o, dsdt);
	put_u8(o, 0);
	put_u8(o, 0); /* profile: unspecified */
	put_u16(o, SCI);
	put_u32(o, 0); /* no SMI: ACPI is always on */
	zeros(o, 4);
	put_u32(o, PM1A_EVT);
	put_u32(o, 0);
	put_u32(o, PM1A_CNT);
	zeros(o, 4 * 5); /* PM1b, PM2, timer, GPE0, GPE1 */
	put_u8(o, 4);	 /* PM1 event length */
	put_u8(o, 2);	 /* PM1 control length */
	zeros(o, 6);
	put_u16(o, 0xffff); /* no C2 */
	put_u16(o, 0xffff); /* no C3 */
	zeros(o, 9);
	put_u16(o, BOOT_LEGACY | BOOT_NO_VGA | BOOT_NO_ASPM | BOOT_NO_CMOS);
	put_u8(o, 0);
	put_u32(o,
		FLAG_WBINVD | FLAG_PROC_C1 | FLAG_SLP_BUTTON | FLAG_RESET_REG);
	gas_io(o, 0xcf9, 8, 1);
	put_u8(o, 6);
	put_u16(o, 0);
	put_u8(o, 4);  /* minor version */
	put_u64(o, 0); /* the 32-bit field serves */
	put_u64(o, dsdt);
	gas_io(o, PM1A_EVT, 32, 2);
	gas_io(o, 0, 0, 0);
	gas_io(o, PM1A_CNT, 16, 2);
	for (int i = 0; i < 7; i++)
		gas_io(o, 0, 0, 0);
	put_u64(o, 0x5355525547415000); /* hypervisor vendor */
	end(o, at);
}

/* 5.2.10; it has a header of its own and no checksum */
static void facs(struct wire_out *o)
{
	put_bytes(o, "FACS", 4);
	put_u32(o, 64);
	zeros(o, 24);
	put_u8(o, 2);
	zeros(o, 31);
}

/* 5.2.12 */
static void madt(struct wire_out *o, unsigned int cpus)
{
	size_t at = begin(o, "APIC", 5);

	put_u32(o, 0xfee00000);
	put_u32(o, 1); /* there are PICs too */
	for (unsigned int i = 0; i < cpus; i++) {
		put_u8(o, 0); /* local APIC */
		put_u8(o, 8);
		put_u8(o, (uint8_t)i);
		put_u8(o, (uint8_t)i);
		put_u32(o, 1);
	}
	put_u8(o, 1); /* I/O APIC */
	put_u8(o, 12);
	put_u8(o, 0);
	put_u8(o, 0);
	put_u32(o, 0xfec00000);
	put_u32(o, 0);
	put_u8(o, 2); /* the timer is on pin 2 */
	put_u8(o, 10);
	put_u8(o, 0);
	put_u8(o, 0);
	put_u32(o, 2);
	put_u16(o, 0);
	put_u8(o, 2); /* SCI: level, active high */
	put_u8(o, 10);
	put_u8(o, 0);
	put_u8(o, SCI);
	put_u32(o, SCI);
	put_u16(o, 0xd);
	put_u8(o, 4); /* NMI: LINT1 of every CPU */
	put_u8(o, 6);
	put_u8(o, 0xff);
	put_u16(o, 0);
	put_u8(o, 1);
	end(o, at);
}

/*
 * AML.  A package length counts itself; ours is always written in two bytes
 * (20.2.4), patched when the package is closed.
 */
static size_t pkg_open(struct wire_out *o)
{
	size_t at = wire_used(o);

	put_u16(o, 0);
	return at;
}

static void pkg_close(struct wire_out *o, size_t at)
{
	size_t n = wire_used(o) - at;

	if (o->err)
		return;
	o->start[at] = (uint8_t)(0x40 | (n & 0xf));
	o->start[at + 1] = (uint8_t)(n >> 4);
}

static void name(struct wire_out *o, const char *n)
{
	put_u8(o, 0x08);
	put_bytes(o, n, strlen(n));
}

static size_t device(struct wire_out *o, const char *n)
{
	size_t at;

	put_u8(o, 0x5b);
	put_u8(o, 0x82);
	at = pkg_open(o);
	put_bytes(o, n, 4);
	return at;
}

/* "PNP0A03" as a compressed id (19.3.4). */
static void hid(struct wire_out *o, uint16_t product)
{
	name(o, "_HID");
	put_u8(o, 0x0c);
	put_u8(o, 0x41);
	put_u8(o, 0xd0);
	put_u8(o, (uint8_t)(product >> 8));
	put_u8(o, (uint8_t)product);
}

static void uid(struct wire_out *o, uint8_t n)
{
	name(o, "_UID");
	put_u8(o, 0x0a);
	put_u8(o, n);
}

/* A Buffer of resource descriptors; its size is always a word. */
struct crs {
	size_t pkg, size, data;
};

static struct crs crs_open(struct wire_out *o)
{
	struct crs c;

	name(o, "_CRS");
	put_u8(o, 0x11);
	c.pkg = pkg_open(o);
	put_u8(o, 0x0b);
	c.size = wire_used(o);
	put_u16(o, 0);
	c.data = wire_used(o);
	return c;
}

static void crs_close(struct wire_out *o, struct crs c)
{
	size_t n;

	put_u8(o, 0x79); /* end tag */
	put_u8(o, 0);
	n = wire_used(o) - c.data;
	pkg_close(o, c.pkg);
	if (o->err)
		return;
	o->start[c.size] = (uint8_t)n;
	o->start[c.size + 1] = (uint8_t)(n >> 8);
}

static void res_io(struct wire_out *o, uint16_t port, uint8_t len)
{
	put_u8(o, 0x47);
	put_u8(o, 1);
	put_u16(o, port);
	put_u16(o, port);
	put_u8(o, 1);
	put_u8(o, len);
}

static void res_irq(struct wire_out *o, unsigned int irq)
{
	put_u8(o, 0x22);
	put_u16(o, (uint16_t)(1u << irq));
}

enum { RES_MEM, RES_IO, RES_BUS };

/* Address space descriptors (6.4.3.5): produced, both ends fixed. */
static void res_word(struct wire_out *o, uint8_t type, uint16_t first,
		     uint16_t last)
{
	put_u8(o, 0x88);
	put_u16(o, 13);
	put_u8(o, type);
	put_u8(o, 0x0c);
	put_u8(o, type == RES_IO ? 3 : 0);
	put_u16(o, 0);
	put_u16(o, first);
	put_u16(o, last);
	put_u16(o, 0);
	put_u16(o, (uint16_t)(last - first + 1));
}

static void res_dword_mem(struct wire_out *o, uint64_t first, uint64_t end)
{
	put_u8(o, 0x87);
	put_u16(o, 23);
	put_u8(o, RES_MEM);
	put_u8(o, 0x0c);
	put_u8(o, 1); /* read-write, not cacheable */
	put_u32(o, 0);
	put_u32(o, (uint32_t)first);
	put_u32(o, (uint32_t)(end - 1));
	put_u32(o, 0);
	put_u32(o, (uint32_t)(end - first));
}

static void res_qword_mem(struct wire_out *o, uint64_t first, uint64_t end)
{
	put_u8(o, 0x8a);
	put_u16(o, 43);
	put_u8(o, RES_MEM);
	put_u8(o, 0x0c);
	put_u8(o, 1);
	put_u64(o, 0);
	put_u64(o, first);
	put_u64(o, end - 1);
	put_u64(o, 0);
	put_u64(o, end - first);
}

static void dsdt(struct wire_out *o, const struct acpi_machine *m)
{
	size_t at = begin(o, "DSDT", 2), scope, dev;
	struct crs c;

	put_u8(o, 0x10); /* Scope (\_SB) */
	scope = pkg_open(o);
	put_bytes(o, "\\_SB_", 5);

	dev = device(o, "PCI0");
	hid(o, 0x0a03);
	uid(o, 0);
	c = crs_open(o);
	res_word(o, RES_BUS, 0, 0);
	res_io(o, 0xcf8, 8);
	res_word(o, RES_IO, 0, 0xcf7);
	res_word(o, RES_IO, 0xd00, 0xffff);
	res_dword_mem(o, m->low, m->low_end);
	res_qword_mem(o, m->high, m->high_end);
	crs_close(o, c);
	pkg_close(o, dev);

	dev = device(o, "COM1");
	hid(o, 0x0501);
	uid(o, 1);
	c = crs_open(o);
	res_io(o, 0x3f8, 8);
	res_irq(o, 4);
	crs_close(o, c);
	pkg_close(o, dev);
	pkg_close(o, scope);

	name(o, "_S5_"); /* how to switch off: type 5 */
	put_u8(o, 0x12);
	dev = pkg_open(o);
	put_u8(o, 4);
	put_u8(o, 0x0a);
	put_u8(o, 5);
	put_u8(o, 0x0a);
	put_u8(o, 5);
	put_u8(o, 0);
	put_u8(o, 0);
	pkg_close(o, dev);
	end(o, at);
}

/* 5.2.5.3 */
static void rsdp(uint8_t *p, uint64_t xsdt)
{
	struct wire_out o;

	wire_out_init(&o, p, 36);
	put_bytes(&o, "RSD PTR ", 8);
	put_u8(&o, 0);
	put_bytes(&o, "PAGURS", 6);
	put_u8(&o, 2);
	put_u32(&o, 0); /* no RSDT */
	put_u32(&o, 36);
	put_u64(&o, xsdt);
	zeros(&o, 4);
	p[8] = sum(p, 20);
	p[32] = sum(p, 36);
}

int acpi_build(const struct acpi_machine *m, uint8_t *buf, size_t size)
{
	struct wire_out o;
	size_t at_facs, at_dsdt, at_fadt, at_madt, at_xsdt;

	wire_out_init(&o, buf, size);
	zeros(&o, 64); /* RSDP; FACS must be 64-aligned */
	at_facs = wire_used(&o);
	facs(&o);
	at_dsdt = ALIGN_UP(wire_used(&o), 16);
	dsdt(&o, m);
	at_fadt = ALIGN_UP(wire_used(&o), 16);
	fadt(&o, (uint32_t)(ACPI_GPA + at_facs),
	     (uint32_t)(ACPI_GPA + at_dsdt));
	at_madt = ALIGN_UP(wire_used(&o), 16);
	madt(&o, m->cpus);
	at_xsdt = begin(&o, "XSDT", 1);
	put_u64(&o, ACPI_GPA + at_fadt);
	put_u64(&o, ACPI_GPA + at_madt);
	end(&o, at_xsdt);
	if (o.err)
		return o.err;
	rsdp(buf, ACPI_GPA + at_xsdt);
	return (int)wire_used(&o);
}
